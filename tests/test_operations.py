"""docs/OPERATIONS.md and SECURITY.md: what they promise is what tests keep, and what they quote is what dfloc says."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.__main__ import KINDS

ROOT = Path(__file__).parent.parent
PAGES = {"OPERATIONS": ROOT / "docs" / "OPERATIONS.md", "SECURITY": ROOT / "SECURITY.md"}
MIN_LETTERS = 6
VARIES = re.compile(r"…|\d+|\b[A-Z]{2,}\b|[;:,.] ")
"""What parts a message into pieces that stand in the code: ellipses, numbers, names of signals, punctuation."""


def _rows(page: Path, head: str) -> list[list[str]]:
    """Return the cells of the tables whose last column has a heading."""
    found, inside = [], False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = bool(cells) and (inside or cells[-1] == head)
        if inside and cells[-1] != head and not set(cells[-1]) <= set("-:"):
            found.append(cells)
    return found


def _kept_by() -> list[str]:
    cells = [row[-1] for page in PAGES.values() for row in _rows(page, "kept by")]
    return sorted({name.strip() for cell in cells for name in cell.split(",")})


def _constants() -> str:
    """Return every text that stands in the code, the fixed parts of f-strings among them."""
    found = []
    for path in (ROOT / "dfloc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("name", _kept_by())
def test_what_keeps_a_promise_is_there(name: str) -> None:
    if name.startswith("`make "):
        assert f"\n{name.strip('`').removeprefix('make ')}: " in (ROOT / "Makefile").read_text()
    elif name.startswith("`"):
        assert name.strip("`") in KINDS
    else:
        assert (ROOT / name).exists()


def test_every_kind_of_fault_has_its_line() -> None:
    named = {name.strip("`") for name in _kept_by()}
    assert {kind for kind in KINDS if not kind.startswith("slurm")} <= named


def test_what_is_quoted_is_what_dfloc_says() -> None:
    said = _constants()
    quoted = [quote for row in _rows(PAGES["OPERATIONS"], "kept by") for quote in re.findall(r"`([^`]*)`", row[1])]
    pieces = [piece for quote in quoted if not quote.startswith("dfloc ") for piece in VARIES.split(quote)]
    long = [piece.strip(" ,;:.") for piece in pieces if len(piece.strip(" ,;:.")) >= MIN_LETTERS]
    assert len(long) > 15
    lacking = [piece for piece in long if piece not in said]
    assert lacking == []
