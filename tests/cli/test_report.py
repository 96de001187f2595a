import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfloc.cli.report import report
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.studies import MINI, Maker


@pytest.fixture
def workspace(tmp_path) -> Path:
    maker = Maker()
    maker.plan("base", {MINI[0]: 4}, held_out=MINI[1])
    record = studies.record(maker, "mini", synthetic=True)
    place = Workspace(tmp_path / "workspace")
    studies.fill(place, record)
    record.save(place.sweep(record.sweep))
    return tmp_path / "workspace"


def run(*arguments: str):
    return CliRunner().invoke(report, arguments, catch_exceptions=True)


def test_it_prints_the_path_of_the_page(workspace):
    result = run("exposure", "--workspace", str(workspace))
    assert result.exit_code == 0, result.output
    page = Path(result.output.strip())
    assert page == workspace / "reports" / "exposure-mini-mini" / "index.html"
    assert "Every planned trial." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exposur"], 'unknown sweep "exposur"; did you mean "exposure"'),
        (["exposure", "--preset", "paper"], "not run with --preset paper; there is: exposure-mini-mini"),
        (["exposure", "--data", "dolos"], "not run with --data dolos"),
        (["exposure", "--limit", "8"], "not run with --limit 8"),
    ],
)
def test_what_is_not_there_is_named(workspace, arguments, words):
    error = run(*arguments, "--workspace", str(workspace)).exception
    assert isinstance(error, ConfigError)
    assert words in str(error)


def test_a_sweep_that_did_not_run_is_told_the_command_and_nothing_is_made(tmp_path):
    error = run("exposure", "--workspace", str(tmp_path / "none")).exception
    assert isinstance(error, ConfigError)
    assert f"run it: dfloc sweep exposure --workspace {tmp_path / 'none'}" in str(error)
    assert not (tmp_path / "none").exists()


def test_a_damaged_record_is_named(workspace):
    plan = workspace / "sweeps" / "exposure-mini-mini" / "plan.json"
    plan.write_text('{"version": 1')
    error = run("exposure", "--workspace", str(workspace)).exception
    assert isinstance(error, WorkspaceError)
    assert "plan.json is no JSON" in str(error)


def test_help_needs_no_plotly():
    import subprocess

    code = "import sys; import dfloc.cli.report; sys.exit('plotly' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
