"""Images beside their truth and the maps of some models: what numbers do not show."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from dfloc.report.table import escape

SIDE = 112  # of an image on the page, in pixels


@dataclass(frozen=True)
class Picture:
    """One small image file, whole.

    Attributes:
        data: the bytes of a PNG or JPEG; none: it could not be made.
        words: what it shows, for those who do not see it; where there is no image, why.
    """

    data: bytes | None
    words: str

    def html(self) -> str:
        """Return it as a cell that needs no other file."""
        if self.data is None:
            return f'<td class="hole">{escape(self.words)}</td>'
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"
        words = escape(self.words)
        return f'<td><img src="{source}" alt="{words}" title="{words}" width="{SIDE}" height="{SIDE}"></td>'


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

    def html(self) -> str:
        """Return the images as a table of a figure, everything escaped."""
        heads = "".join(f"<th scope=col>{escape(name)}</th>" for name in ("Sample", *self.columns))
        body = "\n".join(_row(name, pictures) for name, pictures in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        caption = f"<b>{escape(self.title)}</b> {escape(self.caption)}"
        table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table>"
        return (
            f'<figure class="gallery" id="{escape(self.id)}"><figcaption>{caption}</figcaption>'
            f'<div class="scroll" tabindex="0">{table}</div><ul class="notes">{notes}</ul></figure>'
        )

    def markdown(self) -> str:
        """Return in words what the page shows as images."""
        lines = [f"**{escape(self.title)}** {escape(self.caption)} (shown in index.html)", ""]
        lines += [f"- {escape(name)}: {escape('; '.join(one.words for one in row))}" for name, row in self.rows]
        return "\n".join([*lines, *(f"- {escape(note)}" for note in self.notes), ""])

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return sum(len(one.data or b"") for _, row in self.rows for one in row)


def _row(name: str, pictures: Sequence[Picture]) -> str:
    cells = "".join(one.html() for one in pictures)
    return f"<tr><td class=words>{escape(name).replace('/', '/<wbr>')}</td>{cells}</tr>"
