"""Pages of which a command writes a part."""

from pathlib import Path

import pytest

from tests import written

PAGE = "# Before\n<!-- a: written by its command -->\nold\n<!-- a: end -->\nafter\n"


def test_a_part_is_replaced_and_the_rest_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    written.put(page, "a", "new\n| x |\n")
    assert page.read_text() == PAGE.replace("old\n", "new\n| x |\n")
    written.put(page, "a", "old\n")
    assert page.read_text() == PAGE


def test_a_part_that_is_not_there_is_no_reason_to_write(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(AssertionError, match="no part b"):
        written.put(page, "b", "new")
    assert page.read_text() == PAGE


@pytest.mark.parametrize("name", ["faults", "fuzz"])
def test_the_page_of_faults_has_the_parts_that_are_written(name: str, tmp_path: Path) -> None:
    page = tmp_path / "FAULTS.md"
    page.write_text((Path(__file__).parent.parent / "docs" / "FAULTS.md").read_text())
    written.put(page, name, "figures\n")
    assert "figures" in page.read_text()
