"""Folder pairs as tests write them."""

from pathlib import Path

from dfloc.data.dolos import Sample
from dfloc.data.folder_pairs import FolderPair, scan


def scan_pair(images: Path, masks: Path, domain: str, fake_is: str, split: str | None = None) -> list[Sample]:
    """Return the samples of a pair whose masks have the names of their images, by split and stems rank; see `scan`."""
    return scan(FolderPair(images, masks, domain, fake_is, split))
