"""Photographs, their masks, and the shards they are imported into."""
