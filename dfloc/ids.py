"""The names of a sample and of a map, put together and taken apart in one place."""

from pathlib import PurePosixPath
from typing import NamedTuple


class SampleId(NamedTuple):
    """The name of a sample, `<source>/<generator>/<split>/<file>`.

    Attributes:
        file: below the folder of its split: it may lie in folders, and these may have dots.
    """

    source: str
    generator: str
    split: str
    file: str

    @classmethod
    def of(cls, text: str) -> "SampleId":
        """Return what an id says."""
        return cls(*text.split("/", 3))

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def domain(self) -> str:
        """`<source>/<generator>`."""
        return f"{self.source}/{self.generator}"

    @property
    def place(self) -> tuple[str, str]:
        """Its domain and split."""
        return self.domain, self.split

    @property
    def bare(self) -> str:
        """Its file without the extension."""
        return bare(self.file)

    @property
    def pair(self) -> str:
        """What it has in common with the samples that other generators made: `<source>/<bare file>`."""
        return f"{self.source}/{self.bare}"


class MapName(NamedTuple):
    """The name of a map, `<backbone>/<map>`; `<backbone>` where its map has no name."""

    backbone: str
    map: str

    @classmethod
    def of(cls, text: str) -> "MapName":
        """Return what a name says."""
        backbone, _, inside = text.partition("/")
        return cls(backbone, inside)


def bare(file: str) -> str:
    """Return a file name without its extension, with its folders."""
    return file.removesuffix(PurePosixPath(file).suffix)
