"""A list of samples, as people keep them -> its rows, by what their columns mean."""

import csv
import difflib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dfloc.data.manifest import Split
from dfloc.errors import DataError, did_you_mean

MAX_BYTES = 64 << 20
SEPARATORS = ("\x1f", "\t", "|", ";", ",", " ")  # the first stands for none: one column

MEANINGS = ("image", "mask", "split", "photograph", "original")
"""What columns may mean, in their order where there is no head."""

WORDS: dict[str, tuple[str, ...]] = {
    "image": ("image", "images", "img", "imgs", "imagepath", "imgpath", "imagefile", "imagename", "probefilename"),
    "mask": ("mask", "masks", "maskpath", "maskfile", "maskname", "gt", "gtpath", "groundtruth", "probemaskfilename"),
    "split": ("split", "splits", "set", "subset", "partition"),
    "photograph": ("photograph", "photo", "sourceimage", "baseimage", "base", "stem", "basefilename"),
    "original": ("original", "originals", "originalpath", "originalimage", "authentic", "pristine"),
}
"""Words for each, in small letters and digits alone."""

WEAK = ("tampered", "tp", "fake", "forged", "manipulated", "file", "filename", "filepath", "path", "probe")
"""Words that mean the image where no column is called so."""

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
AUTHENTIC = frozenset({"", "negative", "none"})
"""Words in place of a mask, in small letters: nothing of the image is fake."""
_MASKLIKE = re.compile(r"mask|ground\W*truth|label|segment|(?<![a-z])gt(?![a-z])")


class SampleRow(NamedTuple):
    """One sample of a list; None where it has no such column, and a mask of "" where nothing is fake."""

    line: int
    image: str
    mask: str | None = None
    split: Split | None = None
    photograph: str | None = None
    original: str | None = None


Records = list[tuple[int, list[str]]]
Table = tuple[Sequence[str], Sequence[str | None], Records]
"""The head, empty where there is none; what the columns mean; the line and the cells of each row."""


def read(
    path: Path, folders: Mapping[str, str], exists: Callable[[str], bool], other: Callable[[str, str], bool]
) -> list[SampleRow]:
    """Return the rows of a list: separated text with a head or without, or JSON (lists of lists or of objects).

    A list has a head where its first line names a column of images, none where it begins with an image.

    Args:
        path: of the list, JSON where it ends in `.json`.
        folders: meaning by the name of a folder, which a column of that name has.
        exists: whether there is an image of that name.
        other: whether there is an image of the first name that is not the one of the second.

    Raises:
        DataError: it cannot be read, or understood; names the line.
    """
    try:
        if not path.is_file():
            raise DataError(f"cannot read the table {path}: there is no such file")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"the table {path} has more than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
        coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = data.decode(coding)
    except (OSError, UnicodeError) as error:
        raise DataError(f"cannot read the table {path} ({error}); expected text in UTF-8") from error
    if "\0" in text:
        raise DataError(f"cannot read the table {path}, which is no text; expected text in UTF-8")
    try:
        head, columns, records = (
            _from_json(text, folders) if path.suffix.lower() == ".json" else _from_text(text, folders, exists)
        )
        if not records:
            raise DataError("names no image")
        if "mask" not in columns:
            _refuse_masklike(head, columns, records, other)
        return [_row(line, columns, cells) for line, cells in records]
    except DataError as error:
        raise DataError(f"table {path}: {error}") from error


def _from_text(text: str, folders: Mapping[str, str], exists: Callable[[str], bool]) -> Table:
    """Return head, columns and lines by the separator that makes sense of the first line."""
    for separator in SEPARATORS:
        try:
            _, first = next(_records(text, separator), (0, [""]))
        except DataError:  # quotes that only another separator explains
            continue
        if len(first) == 1 and separator != SEPARATORS[0]:
            continue
        columns = _meanings(first, folders)
        if "image" in columns:
            return first, columns, list(_records(text, separator))[1:]
        if exists(first[0]):
            return [], _in_order(len(first)), list(_records(text, separator))
    if not text.strip():
        raise DataError("is empty")
    line = text.strip().splitlines()[0]
    raise DataError(
        f'its first line "{line[:80]}" neither names a column of images ({did_you_mean(line, WORDS["image"])}) '
        "nor begins with the name of an image that is there"
    )


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"line {start} cannot be read ({error})") from error
        if separator == " ":
            cells = [cell for cell in cells if cell]
        if any(cells):
            yield start, cells


def _from_json(text: str, folders: Mapping[str, str]) -> Table:
    names: list[str] = []
    try:
        entries = json.loads(text, object_pairs_hook=_object)
    except DataError:
        raise
    except Exception as error:  # whatever the parser raises
        raise DataError(f"is no JSON ({type(error).__name__}: {str(error)[:80]})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, type(entries[0])) for entry in entries):
        raise DataError('expected a JSON list of ["image", "mask"] or of {"image": ..., "mask": ...}')
    if entries and isinstance(entries[0], dict):
        names = list(dict.fromkeys(name for entry in entries for name in entry))
        columns: Sequence[str | None] = _meanings(names, folders)
        if "image" not in columns:
            raise DataError(f"has no key of images; {did_you_mean('image', names)}")
        _refuse_without(entries, {name: meaning for name, meaning in zip(names, columns, strict=True) if meaning})
        entries = [[entry.get(name) for name in names] for entry in entries]
    else:
        columns = _in_order(len(entries[0]) if entries and isinstance(entries[0], list) else 1)
    return names, columns, [(place, list(_strings(place, entry, columns))) for place, entry in enumerate(entries, 1)]


def _refuse_without(entries: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]) -> None:
    """Refuse an entry without a key that matters and that others have: its own may be misspelled."""
    for place, entry in enumerate(entries, 1):
        for name, meaning in meanings.items():
            if name not in entry:
                what = "nothing is fake" if meaning == "mask" else "there is none"
                raise DataError(f"entry {place} has no key {name}; write null where {what}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DataError(f"has an object with a key twice: {', '.join(name for name, _ in pairs)[:80]}")
    return found


def _strings(place: int, entry: object, columns: Sequence[str | None]) -> Iterator[str]:
    for index, cell in enumerate(entry if isinstance(entry, list) else [entry]):
        used = index >= len(columns) or columns[index] is not None
        if used and not isinstance(cell, str | None):
            raise DataError(f"entry {place} has {str(cell)[:40]} where a name is expected")
        yield cell.strip() if isinstance(cell, str) else ""


def _in_order(count: int) -> list[str | None]:
    if count > len(MEANINGS):
        raise DataError(f"has {count} columns and no head; expected {', '.join(MEANINGS)}, or a head that names them")
    return [*MEANINGS[:count]]


def _meanings(head: Sequence[str], folders: Mapping[str, str]) -> list[str | None]:
    """Return what each column of a head means, None where it does not matter."""
    plain = [re.sub(r"[^a-z0-9]", "", name.casefold()) for name in head]
    found: list[str | None] = [None] * len(head)
    for meaning in MEANINGS:
        named = [place for place, name in enumerate(head) if folders.get(name) == meaning]
        places = named or [place for place, word in enumerate(plain) if word in WORDS[meaning] and found[place] is None]
        if not places and meaning == "image":
            places = [place for place, word in enumerate(plain) if word in WEAK and head[place] not in folders]
        if len(places) > 1:
            names = " and ".join(f'"{head[place]}"' for place in places)
            raise DataError(f"the columns {names} would both be the {meaning}; rename one of them")
        for place in places:
            found[place] = meaning
    if "image" in found:
        _refuse_nearly(head, plain, found)
    return found


def _refuse_nearly(head: Sequence[str], plain: Sequence[str], found: Sequence[str | None]) -> None:
    """Refuse a column whose name is nearly one that would matter."""
    for place, word in enumerate(plain):
        for meaning in MEANINGS[1:]:
            near = abs(len(word) - len(meaning)) < 2 and difflib.get_close_matches(word, [meaning], 1, 0.75)
            if near and found[place] is None and (meaning not in found or word[:1] == meaning[0]):
                raise DataError(f'unknown column "{head[place]}"; did you mean "{meaning}"? rename it')


def _refuse_masklike(
    head: Sequence[str], columns: Sequence[str | None], records: Records, other: Callable[[str, str], bool]
) -> None:
    """Refuse a column that may be the masks under a word that is not known: others would be taken by their names."""
    for place, name in enumerate(head):
        if columns[place] is None:
            cells = (row for _, row in records if len(row) == len(head))
            if _MASKLIKE.search(name.casefold()):
                found = "sounds like masks"
            elif any(other(row[place], row[columns.index("image")]) for row in cells):
                found = "holds files"
            else:
                continue
            raise DataError(
                f'column "{name[:80]}" {found}, and no column is called mask; call it mask, or leave it out'
            )


def _row(line: int, columns: Sequence[str | None], cells: list[str]) -> SampleRow:
    while len(cells) > len(columns) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(columns):
        raise DataError(f"line {line}: expected {len(columns)} cells, found {len(cells)}")
    found = {meaning: cell for meaning, cell in zip(columns, cells, strict=True) if meaning}
    if any(len(cell.splitlines()) > 1 for cell in found.values()):
        raise DataError(f"line {line} has a name that goes on in another line; is a quote not closed?")
    if not found.get("image"):
        raise DataError(f"line {line} names no image")
    if found.get("mask", "x").casefold() in AUTHENTIC:
        found["mask"] = ""
    split: Split | None = None
    if "split" in found:
        word = found.pop("split")
        if word.casefold() not in SPLIT_WORDS:
            raise DataError(f'line {line}: unknown split "{word}"; {did_you_mean(word.casefold(), SPLIT_WORDS)}')
        split = SPLIT_WORDS[word.casefold()]
    return SampleRow(line, split=split, **found)
