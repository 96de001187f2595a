"""docs/STUDIES.md: every sweep has a section, and the numbers that it derives are those that a dry run prints."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dfloc.sweep.messages import dry_run
from dfloc.sweep.sweep_data import SweepRequest
from dfloc.sweep.sweep_file import shipped

DOC = (Path(__file__).parent.parent / "docs/STUDIES.md").read_text()
STUDIES = {part.partition("\n")[0]: part for part in DOC.split("\n## ")[1:]}


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_every_sweep_has_a_section() -> None:
    assert set(STUDIES) == set(shipped())


@pytest.mark.parametrize("name", STUDIES)
def test_the_arithmetic_is_what_the_dry_run_prints(name: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    dry_run(SweepRequest(name, str(tmp_path / "workspace"), preset="paper"), console)
    assert isinstance(console.file, io.StringIO)
    said, section = console.file.getvalue(), STUDIES[name]
    rows = re.findall(r"^\| (\S+)[^|]*\|[^|]*\| (\d+) \|$", section, re.M)
    assert rows == re.findall(r"^stage (\S+): (\d+) trials", said, re.M)

    def stated(pattern: str) -> int:
        [found] = re.findall(pattern, section)
        return number(found)

    def printed(pattern: str) -> int:
        return int(re.findall(pattern, said)[0])

    assert stated(r"Sum: (\d+)") == sum(int(count) for _, count in rows)
    assert stated(r"Distinct: (\d+)") == printed(r"distinct trials: (\d+)")
    assert stated(r"= ([\d,]+) evaluations") == printed(r"(\d+) evaluations")
    passes = {each: number(count) for count, each in re.findall(r"([\d,]+) images through `(\S+)`", section)}
    [line] = re.findall(r"backbone passes: (.*)", said)
    assert passes == {each: int(count) for count, each in re.findall(r"(\d+) images through ([^\s,]+)", line)}
    [size] = re.findall(r"= ([\d.]+) GB", section)
    assert f"storage: {size} GB of features" in said
    assert not (tmp_path / "workspace").exists()
