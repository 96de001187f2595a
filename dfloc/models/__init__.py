"""Frozen backbones and trained decoders."""
