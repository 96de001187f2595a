"""Parts of a page that a command writes: they stand between two markers, and the rest is left alone."""

from pathlib import Path


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a part."""
    begin, end = (f"<!-- {name}: {word} -->\n" for word in ("written by its command", "end"))
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{page} has no part {name}"
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
