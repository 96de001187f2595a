"""What frozen backbones said about images, kept on disk."""
