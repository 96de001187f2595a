"""Images beside their truth and the maps of some models: what numbers do not show."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """One small image file, whole.

    Attributes:
        data: the bytes of a PNG or JPEG; none: it could not be made.
        words: what it shows, for those who do not see it; where there is no image, why.
    """

    data: bytes | None
    words: str

    @property
    def address(self) -> str:
        """Where a page finds it: in itself; only of an image that is there."""
        data = self.data or b""
        kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Rows of images: the photograph, its truth, and one map for each model.

    Attributes:
        columns: heads of all but the first column.
        rows: a sample's name, and its images.
        notes: what could not be shown, and what the columns are.
    """

    id: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Picture]]]
    notes: Sequence[str]

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return sum(len(one.data or b"") for _, row in self.rows for one in row)
