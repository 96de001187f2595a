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


def test_all_sweeps_have_one_page(workspace):
    result = run("--all", "--no-panel", "--workspace", str(workspace))
    assert result.exit_code == 0, result.output
    page = Path(result.output.strip())
    assert page == workspace / "reports" / "index.html"
    assert 'href="exposure-mini-mini/index.html"' in page.read_text(encoding="utf-8")
    assert (page.parent / "exposure-mini-mini" / "report.md").exists()


def test_all_goes_on_behind_a_sweep_that_has_no_report_and_ends_with_1(workspace):
    (workspace / "sweeps" / "broken").mkdir()
    (workspace / "sweeps" / "broken" / "plan.json").write_text('{"version": 1')
    result = run("--all", "--no-panel", "--workspace", str(workspace))
    assert result.exit_code == 1
    assert "Error: the report of broken failed: " in result.output
    assert (workspace / "reports" / "exposure-mini-mini" / "index.html").exists()
    assert 'href="exposure-mini-mini/index.html"' in (workspace / "reports" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [[], ["exposure", "--all"]])
def test_a_name_or_all(workspace, arguments):
    error = run(*arguments, "--workspace", str(workspace)).exception
    assert isinstance(error, ConfigError)
    assert "the name of one sweep, or --all" in str(error)


def test_tables_as_latex(workspace):
    result = run("exposure", "--workspace", str(workspace), "--format", "latex")
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.output.splitlines()]
    assert {"trials.tex", "data.tex"} <= {path.name for path in paths}
    assert paths[-1] == workspace / "reports" / "exposure-mini-mini" / "latex" / "all.tex"
    assert r"\begin{tabular}" in (paths[-1].parent / "data.tex").read_text()
    assert not (paths[-1].parent.parent / "index.html").exists()


def test_one_table_as_latex(workspace):
    result = run("exposure", "--workspace", str(workspace), "--format", "latex", "--table", "data")
    assert [Path(line).name for line in result.output.splitlines()] == ["data.tex", "all.tex"]


def test_the_columns_of_a_table_as_latex_are_picked(workspace):
    arguments = ["exposure", "--workspace", str(workspace), "--format", "latex", "--table", "data"]
    text = Path(run(*arguments).output.splitlines()[0]).read_text()
    assert "Domain & Train images &" in text
    text = Path(run(*arguments, "--columns", "test-list, domain").output.splitlines()[0]).read_text()
    assert r"Test list & Domain \\" in text


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_figures_as_files(tmp_path, kind, start):
    maker = Maker()
    maker.curves([4], epochs=4)
    record = studies.record(maker, "mini", synthetic=True)
    place = Workspace(tmp_path / "workspace")
    studies.fill(place, record)
    record.save(place.sweep(record.sweep))
    result = run("exposure", "--workspace", str(place.root), "--format", kind, "--figure", "fig-mean")
    assert result.exit_code == 0, result.output
    path = Path(result.output.strip())
    assert path == Path(place.root.path) / "reports" / "exposure-mini-mini" / "figures" / f"fig-mean.{kind}"
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "latex", "--table", "dat"], 'unknown table of this report "dat"; did you mean "data"'),
        (
            ["--format", "latex", "--table", "data", "--columns", "domain,list"],
            'table data has no column "list"; it has domain, train-images, valid-images, test-images, '
            "test-photographs, test-list",
        ),
        (["--format", "latex", "--columns", "domain"], "--columns domain are of one table: --table says which"),
        (["--table", "data", "--columns", "domain"], "--table data needs --format latex; came --format html"),
        (["--format", "svg", "--figure", "fig-x"], 'unknown figure of this report "fig-x"'),
        (["--table", "data"], "--table data needs --format latex; came --format html"),
        (
            ["--format", "latex", "--figure", "fig-mean"],
            "--figure fig-mean needs --format svg or pdf or png; came --format latex",
        ),
    ],
)
def test_names_that_are_not_in_the_report_are_one_error(workspace, arguments, words):
    error = run("exposure", "--workspace", str(workspace), *arguments).exception
    assert isinstance(error, ConfigError)
    assert words in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("option", [["--format", "latex"], ["--preset", "mini"], ["--data", "dolos"], ["--limit", "3"]])
def test_what_chooses_one_sweep_is_refused_beside_all(workspace, option):
    error = run("--all", "--workspace", str(workspace), *option).exception
    assert isinstance(error, ConfigError)
    assert f"{' '.join(option)} needs the name of one" in str(error)
    assert not (workspace / "reports" / "index.html").exists()


def test_an_unknown_format_is_told_the_known_ones(workspace):
    result = run("exposure", "--workspace", str(workspace), "--format", "jpeg")
    assert result.exit_code == 2
    assert "'jpeg' is not one of 'html', 'latex', 'svg', 'pdf', 'png'" in result.output


def test_the_help_has_an_example_of_each_format():
    text = run("--help").output
    for words in ("--format latex --table", "--format pdf --figure", "--no-panel"):
        assert words in text


def test_a_sweep_that_did_not_run_is_told_the_command_and_nothing_is_made(tmp_path):
    error = run("exposure", "--workspace", str(tmp_path / "none")).exception
    assert isinstance(error, ConfigError)
    assert f"run it: dfloc sweep exposure --workspace {tmp_path / 'none'}" in str(error)
    assert not (tmp_path / "none").exists()


def test_a_damaged_record_is_named(workspace):
    [plan] = (workspace / "sweeps" / "exposure-mini-mini" / "starts").iterdir()
    plan.write_text('{"version": 1')
    error = run("exposure", "--workspace", str(workspace)).exception
    assert isinstance(error, WorkspaceError)
    assert f"{plan.name} is no JSON" in str(error)


def test_help_needs_no_matplotlib():
    import subprocess

    code = "import sys; import dfloc.cli.report; sys.exit('matplotlib' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
