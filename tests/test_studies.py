"""docs/STUDIES.md: the numbers that it derives are those that a dry run prints."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dfloc.sweep import run
from dfloc.sweep.prepare import Options

DOC = (Path(__file__).parent.parent / "docs/STUDIES.md").read_text()
STUDIES = {part.partition("\n")[0]: part for part in DOC.split("\n## ")[1:]}


@pytest.mark.parametrize("name", STUDIES)
def test_the_arithmetic_is_what_the_dry_run_prints(name: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    run.dry_run(Options(name, str(tmp_path / "workspace"), preset="paper"), console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    rows = re.findall(r"^\| (\S+)[^|]*\|[^|]*\| (\d+) \|$", STUDIES[name], re.M)
    assert rows == re.findall(r"^stage (\S+): (\d+) trials$", said, re.M)

    def stated(pattern: str) -> int:
        [number] = re.findall(pattern, STUDIES[name])
        return int(number.replace(",", ""))

    def printed(pattern: str) -> int:
        return int(re.findall(pattern, said)[0])

    assert stated(r"Sum: (\d+)") == sum(int(count) for _, count in rows)
    assert stated(r"Distinct: (\d+)") == printed(r"distinct trials: (\d+)")
    assert stated(r"= ([\d,]+) evaluations") == printed(r"(\d+) evaluations")
    passed = stated(r"= ([\d,]+), once through ViT-L/14 and once through RN50")
    assert passed == printed(r"(\d+) images through clip-vit-l14") == printed(r"(\d+) images through clip-rn50")
    assert stated(r"= ([\d,]+) through the local-variance filter") == printed(r"(\d+) images through srm")
    [size] = re.findall(r"variances: ([\d.]+) GB", STUDIES[name])
    assert f"storage: {size} GB of features" in said
    assert not (tmp_path / "workspace").exists()
