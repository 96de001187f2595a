"""docs/STUDIES.md: every sweep has a section, and the numbers that it derives are those that a dry run prints."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dfloc.report import published
from dfloc.sweep import yaml_text
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


COMING: set[str] = set()
"""Sweeps that STUDIES names and that are not here yet."""
PRINTED = {  # every table and figure of the documents' own text
    "s000": {
        *(f'Figure "{name}"' for name in ("Localization example",)),
        *("Figure (a), (b) of single-domain", "Figure (c) of cross-domain", "Figure (a), (b), (c), (d) of fine-tuning"),
        *('Table "Data seen from domains"', 'Table "Two-Step Model"', "Figure of qualitative results"),
        *(
            '"GAN structure and diffusion process"',
            '"Examples of real, fake and masks"',
            '"Encoder-decoder architectures"',
        ),
    },
    "s001": {'Table of "Results"'},
    "s002": {"Table 1", "Table 2", "Figure 1, 2"},
    "s003": {"Table 1, 2, 3, 4", "Figure 1, 2, 3", "Figure 4, 5, 6, 7"},
    "s004": {*(f"Table {number}" for number in (1, 2, 3, 4)), "Figure 1, 2", *(f"Figure {n}" for n in (3, 4, 5, 6, 7))},
}
PART = DOC.partition("### Which sweep gives which table and figure")[2].partition("\n## ")[0]
ROWS = {  # by document: what is printed, the ids of published tables, the sweeps
    name: re.findall(r"^\| (?!table or figure)([^|]+?) \| ([^|]*?) ?\| ([^|]+?) \|$", text, re.M)
    for name, text in re.findall(r"\n\*\*(s\d+)\*\*(.*?)(?=\n\*\*s\d|\nOf no document|\Z)", PART, re.S)
}
SWEEPS = {name: yaml_text.read(path).values for name, path in shipped().items()}


def sweeps_of(cell: str) -> dict[str, list[str]]:
    """Return the sweeps that a row names, each with its stages."""
    found = re.findall(r"`([\w-]+)`: ([\w-]+(?:, [\w-]+)*)", cell)
    return {name: stages.split(", ") for name, stages in found}


@pytest.mark.parametrize("name", PRINTED)
def test_every_table_and_figure_of_a_document_has_a_sweep_or_a_reason(name: str) -> None:
    rows = ROWS[name]
    for printed in PRINTED[name]:
        [row] = [row for row in rows if printed in row[0]]
        assert sweeps_of(row[2]) or "nothing to" in row[2], printed


def test_every_published_table_stands_in_one_row() -> None:
    ids = [one for rows in ROWS.values() for _, cell, _ in rows for one in re.findall(r"`([^`]+)`", cell)]
    assert sorted(ids) == sorted(published.load(unpublished=True))


def test_sweeps_and_stages_of_the_rows_exist_and_those_that_list_a_table_are_named() -> None:
    for _, cell, told in (row for rows in ROWS.values() for row in rows):
        named = sweeps_of(told)
        assert set(named) <= {*SWEEPS, *COMING}
        for name, stages in named.items():
            assert set(stages) <= set(SWEEPS[name]["stages"]) if name in SWEEPS else True, name
        for table in re.findall(r"`([^`]+)`", cell):
            listing = {name for name, file in SWEEPS.items() if table in file.get("tables", ())}
            assert listing <= set(named), table
            assert listing or table in UNLISTED or set(named) & COMING, table


UNLISTED = {
    "s000.reductions",
    "s000.exposure.lama.valid_log",
    "s004.table1",
    "s004.table4",
    "nb.thirds.vit_conv12",
    "nb.classification.ap",
}
"""Tables beside which no page stands: arithmetic, counts, other tools' maps, a diagonal that another table has."""


def test_every_sweep_is_named_and_none_that_is_here_is_called_coming() -> None:
    named = set(re.findall(r"`([\w-]+)`", PART))
    assert named >= set(SWEEPS) | COMING
    assert not COMING & set(SWEEPS), "a sweep has come: take its name out of COMING"
