import json
import re
import shutil
import sys
import webbrowser
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


@pytest.mark.parametrize("terminal", [True, False])
def test_it_prints_the_path_of_the_page(workspace, monkeypatch, terminal):
    """And what it answers to a person; a script gets the path alone."""
    monkeypatch.setattr("dfloc.cli.report._is_terminal", lambda: terminal)
    result = run("exposure", "--workspace", str(workspace))
    assert result.exit_code == 0, result.output
    *sentences, path = result.output.splitlines()
    answer = json.loads((workspace / "reports" / "exposure-mini-mini" / "answer.json").read_text())
    assert answer["sentences"]
    assert sentences == [f"- {one['text']}" for one in answer["sentences"] if terminal]
    page = Path(path)
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
    for words in ("--format latex --table", "--format pdf --figure", "--no-panel", "--out ~/exposure --open"):
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


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_the_whole_report_and_is_written_over_by_itself_alone(workspace, tmp_path):
    out = tmp_path / "for" / "them"
    arguments = ("exposure", "--no-panel", "--workspace", str(workspace), "--out", str(out))
    for _ in range(2):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert result.output.splitlines()[-1] == str(out / "index.html")
        copied = files(out)
        assert copied.pop(".dfloc-report") == b"exposure-mini-mini"
        assert copied == files(workspace / "reports" / "exposure-mini-mini")
        (out / "index.html").write_text("old")
        (out / "notes.txt").write_text("mine")
        (workspace / "reports" / "exposure-mini-mini" / "notes.txt").write_text("mine")
    error = run("--all", "--no-panel", "--workspace", str(workspace), "--out", str(out)).exception
    assert isinstance(error, ConfigError)
    assert "something else than an earlier copy of this report (all sweeps)" in str(error)


def test_all_pages_are_copied_together(workspace, tmp_path):
    result = run("--all", "--no-panel", "--workspace", str(workspace), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    page = Path(result.output.splitlines()[-1])
    assert page == tmp_path / "out" / "index.html"
    assert (page.parent / "exposure-mini-mini" / "report.md").exists()
    shutil.rmtree(workspace)
    links = re.findall(r'href="([^"#]+)"', page.read_text(encoding="utf-8"))
    assert links
    assert all((page.parent / link).exists() for link in links)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("full", "holds something else than an earlier copy of this report (exposure-mini-mini); name another folder"),
        ("file", "is no folder"),
        ("file/below", "cannot be written: Not a directory"),
        ("workspace/reports/exposure-mini-mini/copy", "lies in the workspace"),
        ("workspace", "lies in the workspace"),
        ("inside", "lies in the workspace"),
        ("loop/x", "cannot be written: Symlink loop"),
        ("x" * 300, "cannot be written: File name too long"),
        ("file/two\nlines", "lines' cannot be written: Not a directory"),
    ],
)
def test_a_folder_that_takes_no_copy_is_one_error_and_stays_as_it_is(workspace, tmp_path, out, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "inside").symlink_to(workspace / "reports")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = files(tmp_path)
    error = run("exposure", "--workspace", str(workspace), "--out", f"{tmp_path}/{out}").exception
    assert isinstance(error, ConfigError)
    assert words in str(error)
    assert "\n" not in str(error)
    assert files(tmp_path) == before


def test_nothing_is_written_through_a_link_nor_what_is_none_of_the_report(workspace, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ("exposure", "--no-panel", "--workspace", str(workspace), "--out", str(out))
    assert run(*arguments).exit_code == 0
    report = workspace / "reports" / "exposure-mini-mini"
    (report / "secret.txt").symlink_to("/etc/hostname")
    (report / "deep").mkdir()
    (report / "deep" / "a.csv").write_text("ours")
    assert run(*arguments).exit_code == 0
    assert not (out / "secret.txt").exists()
    (out / "deep" / "a.csv").unlink()
    (out / "deep").rmdir()
    (out / "deep").symlink_to(elsewhere)
    assert "is a link out of it" in str(run(*arguments).exception)
    assert list(elsewhere.iterdir()) == []
    (out / "deep").unlink()
    (elsewhere / "page").write_text("mine")
    (out / "index.html").unlink()
    (out / "index.html").symlink_to(elsewhere / "page")
    assert run(*arguments).exit_code == 0
    assert (elsewhere / "page").read_text() == "mine", "a link is replaced, not followed"
    (out / "deep" / "a.csv").unlink()
    (out / "deep").rmdir()
    (out / "deep").write_text("mine")
    assert "is in the way" in str(run(*arguments).exception)


@pytest.mark.parametrize(("option", "words"), [(("--open",), "--open needs"), (("--out", "x"), "--out x needs")])
def test_only_the_page_is_opened_or_copied(workspace, option, words):
    error = run("exposure", "--workspace", str(workspace), "--format", "png", *option).exception
    assert isinstance(error, ConfigError)
    assert f"{words} --format html; came --format png" in str(error)


def test_the_page_is_opened_in_the_browser(workspace, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    arguments = ("--no-panel", "--workspace", str(workspace), "--open")
    assert run("exposure", *arguments, "--out", str(tmp_path / "a b")).exit_code == 0
    assert run("--all", *arguments).exit_code == 0
    assert opened == [f"file://{tmp_path}/a%20b/index.html", f"file://{workspace}/reports/index.html"]


@pytest.mark.parametrize("display", [None, ":0"])
def test_where_there_is_no_browser_one_line_says_which_page_to_open(workspace, monkeypatch, display):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    result = run("exposure", "--no-panel", "--workspace", str(workspace), "--open")
    page = workspace / "reports" / "exposure-mini-mini" / "index.html"
    assert result.exit_code == 0
    assert result.stderr == f"no browser can be opened here; open this page by hand: {page}\n"


def test_help_needs_no_matplotlib():
    import subprocess

    code = "import sys; import dfloc.cli.report; sys.exit('matplotlib' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
