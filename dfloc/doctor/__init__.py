"""Is a workspace whole, and is this machine fit: what is damaged, what makes it again, and at what cost."""
