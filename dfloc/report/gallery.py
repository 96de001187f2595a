"""Images beside the maps of some models: what numbers do not show."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {b"\x89PNG": "png", b"RIFF": "webp"}  # by how a file begins


@dataclass(frozen=True)
class Picture:
    """One small image file, whole.

    Attributes:
        data: the bytes of a JPEG, WebP or PNG; none: it could not be made.
        words: what it shows, for those who do not see it.
        below: what stands under it, such as its number.
    """

    data: bytes | None
    words: str
    below: str = ""

    @property
    def address(self) -> str:
        """Where a page finds it: in itself; only of an image that is there."""
        data = self.data or b""
        kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), "jpeg")
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Head:
    """A column's name, what stands small below it, and in words what its images are made by."""

    name: str
    small: str = ""
    words: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """One test image: its name, why it is shown, the photograph and the maps."""

    name: str
    why: str
    pictures: Sequence[Picture]

    @property
    def below(self) -> dict[int, str]:
        """What stands under its images, by column; of those that have it."""
        return {place: one.below for place, one in enumerate(self.pictures) if one.below}


@dataclass(frozen=True)
class Gallery:
    """Rows of images: the photograph, and one map for each model.

    Attributes:
        brief: a caption for its first rows alone.
        columns: heads of all but the first column.
        notes: what could not be shown.
    """

    id: str
    title: str
    caption: str
    brief: str
    columns: Sequence[Head]
    rows: Sequence[GalleryRow]
    notes: Sequence[str]

    @property
    def detailed(self) -> bool:
        """Whether it says what its columns are."""
        return any(head.words for head in self.columns)

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return sum(len(one.data or b"") for row in self.rows for one in row.pictures)
