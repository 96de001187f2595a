"""docs/REPRODUCE.md: what its commands train and read is what a dry run prints."""

import io
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from dfloc.report import published
from dfloc.sweep import yaml_text
from dfloc.sweep.messages import dry_run
from dfloc.sweep.sweep_data import SweepRequest
from dfloc.sweep.sweep_file import shipped

DOC = (Path(__file__).parent.parent / "docs/REPRODUCE.md").read_text()
ROWS = re.findall(r"^\| [2-9] \| (.*?) \| `dfloc sweep (\S+) --data DOLOS (.*?)` \| (.*?) \| (.*?) \|$", DOC, re.M)


CHECKED = {
    f"{scale * check['value']:.10g}".removeprefix("0")
    for check in yaml_text.read(shipped()["first-day"]).values["checks"]
    for scale in (1, 100)
    if "value" in check
}  # numbers that no table has


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize(("cell", "name", "options", "trains", "reads"), ROWS)
def test_a_command_costs_what_is_said(
    cell: str, name: str, options: str, trains: str, reads: str, tmp_path: Path
) -> None:
    words = shlex.split(options)
    given = {key: tuple(words[i + 1] for i, word in enumerate(words) if word == key) for key in ("--only", "--set")}
    assert len(words) == 2 * sum(map(len, given.values()))
    console = Console(file=io.StringIO(), width=200)
    asked = SweepRequest(name, str(tmp_path), preset="paper", only=given["--only"], settings=given["--set"])
    dry_run(asked, console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert int(re.findall(r"distinct trials: (\d+)", said)[0]) == sum(
        number(count) for count in re.findall(r"(\d+) (?:models?|bases|fine-tunes)\b", trains)
    )
    assert number(re.findall(r"([\d,]+) images", reads)[0]) == int(re.findall(r"passes: (\d+)", said)[0])
    tables = published.load()
    [table, *_] = [*re.findall(r"\((s0[\w.-]+)", cell), ""]
    values = {f"{100 * one.value:.10g}" for one in tables[table].cells.values()} if table else CHECKED
    assert set(re.findall(r"\d+\.\d+", cell.partition(" IoU")[0].partition("(")[0])) <= values


def test_every_row_is_read() -> None:
    assert len(ROWS) == 5
