"""Files of text that are kept compressed, and what differs between the kept and today's, said so that one finds it."""

import csv
import io
import lzma
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

DIGITS = 9  # significant ones that a number of a CSV file is kept and compared at
NOTHING = 1e-12  # a number that is no larger is rounding
DIGEST = re.compile(r"[0-9a-f]{64}")
SHORT = 16  # digits of a digest that are kept and compared
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e-\d+")
AROUND = 8  # words on either side of the first one that differs
RULE = re.compile(r"^\|[-:|]+\|$")

Files = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """What differs: in which file, where in it, and how."""

    file: str
    where: str
    how: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.how}" if self.where else f"{self.file}: {self.how}"


def pack(files: Files) -> bytes:
    """Return files as .tar.xz; the same files give the same bytes."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            data = files[name].encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return lzma.compress(sink.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def unpack(path: Path) -> dict[str, str]:
    """Return the files of an archive by name."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes()))) as archive:
        members = [(info.name, archive.extractfile(info)) for info in archive]
        return {name: stream.read().decode() for name, stream in members if stream}


def kept(text: str) -> str:
    """Return a CSV file with its numbers and digests as they are compared."""
    lines = [[_short(cell) for cell in line] for line in csv.reader(io.StringIO(text))]
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(lines)
    return sink.getvalue()


def _short(cell: str) -> str:
    if DIGEST.fullmatch(cell):
        return cell[:SHORT]
    return f"{float(cell) + 0.0:.{DIGITS}g}" if NUMBER.fullmatch(cell) else cell


def differences(old: Files, new: Files) -> list[Difference]:
    """Return what differs between files: CSV cell by cell, any other text word by word."""
    found = [Difference(name, "", "is not written any more") for name in old if name not in new]
    found += [Difference(name, "", "is new") for name in new if name not in old]
    for name in old:
        if name in new:
            found += (_of_tables if name.endswith(".csv") else _of_words)(name, old[name], new[name])
    return found


def _of_tables(file: str, old: str, new: str) -> Iterator[Difference]:
    heads, before = _table(old)
    now_heads, now = _table(new)
    if heads != now_heads:
        gone, more = ([*(Counter(one) - Counter(other))] for one, other in ((heads, now_heads), (now_heads, heads)))
        how = "; ".join(
            f"{word} {', '.join(map(repr, names))}" for word, names in (("gone", gone), ("new", more)) if names
        )
        yield Difference(file, "columns", how or f"another order: {', '.join(now_heads)}")
    pairs = [*_paired(file, before, now)]
    yield from (pair for pair in pairs if isinstance(pair, Difference))
    common = [(head, heads.index(head), now_heads.index(head)) for head in dict.fromkeys(heads) if head in now_heads]
    if len({*heads}) < len(heads) and heads == now_heads:
        common = [(head, place, place) for place, head in enumerate(heads)]
    for pair in pairs:
        if isinstance(pair, Difference):
            continue
        place, was, today = pair
        if len(was) != len(heads) or len(today) != len(now_heads):
            yield Difference(file, f"row {place} ({_called(was)})", f"{len(was)} cells, now {len(today)}")
            continue
        for head, i, j in common:
            if not alike(was[i], today[j]):
                where = f"row {place} ({_called(was)}), column {head!r}"
                yield Difference(file, where, f"was {was[i]!r}, is {today[j]!r}")


def _table(text: str) -> tuple[list[str], list[list[str]]]:
    lines = [*csv.reader(io.StringIO(text))]
    return (lines[0], lines[1:]) if lines else ([], [])


def _paired(
    file: str, old: Sequence[Sequence[str]], new: Sequence[Sequence[str]]
) -> Iterator[tuple[int, Sequence[str], Sequence[str]] | Difference]:
    """Yield rows that belong together with their line in the file, and those that have no partner."""
    if len(old) == len(new):
        yield from ((place, *both) for place, both in enumerate(zip(old, new, strict=True), 2))
        return
    words = [[tuple(cell for cell in line if not NUMBER.fullmatch(cell)) for line in lines] for lines in (old, new)]
    for kind, i, i_end, j, j_end in SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        if kind == "equal" or (kind == "replace" and i_end - i == j_end - j):
            yield from ((i + k + 2, old[i + k], new[j + k]) for k in range(i_end - i))
            continue
        yield from (Difference(file, f"row {k + 2} ({_called(old[k])})", "is gone") for k in range(i, i_end))
        yield from (Difference(file, f"row {k + 2} ({_called(new[k])})", "is new") for k in range(j, j_end))


def _called(line: Sequence[str]) -> str:
    """Return the words that a row begins with."""
    words = [cell for cell in line if cell and not NUMBER.fullmatch(cell)]
    return ", ".join(word[:40] for word in words[:4])


def alike(old: str, new: str) -> bool:
    """Return whether two cells say the same: numbers at nine significant digits, text exactly."""
    if old == new:
        return True
    if not (_is_number(old) and _is_number(new)):
        return False
    was, now = float(old), float(new)
    size = max(abs(was), abs(now))
    return size <= NOTHING or abs(was - now) <= 10.0 ** (math.floor(math.log10(size)) + 1 - DIGITS)


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number: two of which one is written without a point are (1.0 rounds to 1)."""
    return bool(NUMBER.fullmatch(cell) or re.fullmatch(r"-?\d{1,9}", cell))


def _of_words(file: str, old: str, new: str) -> Iterator[Difference]:
    """Yield the first word that differs; what follows it may only have moved."""
    before, now = _words(old), _words(new)
    apart = (place for place, (was, is_now) in enumerate(zip(before, now, strict=False)) if was[0] != is_now[0])
    place = next(apart, min(len(before), len(now)))
    if place == len(before) == len(now):
        return
    heads = [head for _, head in (before[place:] or now[place:])]
    was_there, is_there = (
        " ".join(word for word, _ in words[max(0, place - AROUND) : place + AROUND + 1]) for words in (before, now)
    )
    gone = sum((Counter(word for word, _ in before) - Counter(word for word, _ in now)).values())
    where = f"from word {place + 1} (under {heads[0]!r})"
    yield Difference(file, where, f"was {was_there!r}, is {is_there!r}; {gone} of {len(before)} words are gone")


def _words(text: str) -> list[tuple[str, str]]:
    """Return each word with the heading that it stands under; rules of tables are none."""
    found, head = [], ""
    for line in text.splitlines():
        if RULE.match(line):
            continue
        head = line.lstrip("# ") if line.startswith("#") else head
        found += [(word, head) for word in line.split()]
    return found
