"""What `dfloc sweep` and `dfloc report` say to a mistake, and what each option changes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dfloc import cli
from dfloc.sweep.sweep_file import find
from tests.command import DFLOC, Result, Study

Dfloc = Callable[..., Result]


@pytest.fixture
def dfloc(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Dfloc:
    """The command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("DFLOC_WORKSPACE", raising=False)

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["dfloc", *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, said.out, said.err)

    return run


def assert_one_message(result: Result, *words: str) -> None:
    """Exit code 2, one or two lines with the wrong word and the cure, and no traceback."""
    assert result.code == 2
    lines = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result
    assert len(result.err.splitlines()) <= 4
    assert "Traceback" not in result.out + result.err
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["exposrue"], ['unknown sweep "exposrue"', 'did you mean "exposure"']),
        (["gone.yaml"], ["sweep file gone.yaml does not exist", "dfloc list sweeps"]),
        (["exposure", "--set", "tril.epochs=1"], ['unknown key "tril"', 'did you mean "trial"']),
        (["exposure", "--set", "trial.epohcs=1"], ['unknown key "epohcs"', 'did you mean "epochs"']),
        (["exposure", "--set", "trial.epochs"], ["trial.epochs", "key=value"]),
        (["exposure", "--set", "trial.maps=[smr/stats]"], ['unknown backbone "smr"', 'did you mean "srm"']),
        (["exposure", "--set", "domains=[mini/telea,mini/rencode]"], ['"mini/rencode"', '"mini/reencode"']),
        (["exposure", "--set", "trial.loss=bec"], ['unknown loss "bec"', 'did you mean "bce"']),
        (
            ["exposure", "--set", "tables=[s000.budgts]"],
            ["tables=[s000.budgts]: ", 'mean "s000.budgets"'],
        ),
        (["exposure", "--preset", "papr"], ['unknown preset "papr"', 'did you mean "paper"']),
        (["exposure", "--only", "replya"], ['unknown stage "replya"', 'did you mean "replay"']),
        (["exposure", "--preset", "paper"], ["preset paper needs Dolos", "--data DIR"]),
        (["exposure", "--tracking", "mlfow://host"], ['tracking URI "mlfow://host"', "http://<host>:<port>"]),
        (["exposure", "--tracking", ""], ['tracking URI ""', "http://<host>:<port>"]),
        (["exposure", "--address", "ray://head:10001"], ["ray://head:10001", "ray job submit"]),
        (["exposure", "--data", "gone"], ["--data gone", "there is none"]),
        (["exposure", "--data", ""], ['--data "" names no folder', "leave --data out"]),
        (["exposure", "--data", "picture.png"], ["--data picture.png", "a folder"]),
        (["exposure", "--data", "empty"], ["empty", "<source>/fake/<generator>"]),
        (["exposure", "--data", "pictures"], ["pictures", "<source>/fake/<generator>"]),
        (["exposure", "--workspace", "picture.png"], ["picture.png is a file", "--workspace"]),
        (["exposure", "--seeds", "0"], ["--seeds", "0"]),
        (["exposure", "--seeds", "9" * 30], ["--seeds", "1<=x<=10000"]),
        (["exposure", "--draws", "20000"], ["--draws", "1<=x<=10000"]),
        (["exposure", "--limit", "many"], ["--limit", "many"]),
        (["exposure", "--device", "gpu"], ["--device", "gpu"]),
        (["typo.yaml"], ["typo.yaml line", 'unknown key "epohcs"', 'did you mean "epochs"']),
        (["empty.yaml"], ["empty.yaml should be a sweep file"]),
        (["broken.yaml"], ["broken.yaml line 3", "no YAML"]),
    ],
)
def test_a_mistake_is_named_with_its_cure(dfloc: Dfloc, tmp_path: Path, args: list[str], words: list[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "one.png")
    (tmp_path / "typo.yaml").write_text(find("exposure").read_text().replace("  epochs: 30", "  epohcs: 30"))
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "broken.yaml").write_text("name: small\nstages: [a\n")
    assert_one_message(dfloc("sweep", *args), *words)
    left = {path.name for path in tmp_path.glob("workspace/*") if not path.name.startswith("lock.")}
    assert left == set(), "something was made before the mistake was found"


@pytest.mark.parametrize("args", [("--tracking", "https://user:secret@"), ("--preset", "paper")])
def test_what_is_refused_at_once_leaves_no_workspace(dfloc: Dfloc, tmp_path: Path, args: tuple[str, ...]) -> None:
    refused = dfloc("sweep", "exposure", *args)
    assert (refused.code, "secret" in refused.out + refused.err) == (2, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu(dfloc: Dfloc) -> None:
    assert_one_message(dfloc("sweep", "exposure", "--device", "cuda"), "CUDA device", "--device cpu")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["exposure"], ["sweep exposure was not run in workspace", "run it: dfloc sweep exposure"]),
        (["exposrue"], ['unknown sweep "exposrue"', 'did you mean "exposure"']),
    ],
)
def test_report_of_what_has_not_run(dfloc: Dfloc, tmp_path: Path, args: list[str], words: list[str]) -> None:
    assert_one_message(dfloc("report", *args), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["swep"], ['unknown command "swep"', 'did you mean "sweep"']),
        (["sweep"], ["NAME"]),
        (["sweep", "exposure", "--sedes", "2"], ["--sedes", "--seeds"]),
    ],
)
def test_a_word_that_the_command_line_does_not_know(dfloc: Dfloc, args: list[str], words: list[str]) -> None:
    assert_one_message(dfloc(*args), *words)


def test_debug_shows_where_it_comes_from(dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dfloc", "sweep", "exposrue", "--debug"])
    with pytest.raises(Exception, match='unknown sweep "exposrue"'):
        cli.main()


def plan(dfloc: Dfloc, *args: str) -> dict[str, str]:
    """Return what a dry run prints, the number of trials by stage among it."""
    result = dfloc("sweep", "exposure", "--dry-run", *args)
    assert (result.code, result.err) == (0, "")
    return dict(line.split(": ", 1) for line in result.out.splitlines() if ": " in line)


def test_dry_run_of_the_paper_needs_neither_data_nor_weights(dfloc: Dfloc, tmp_path: Path) -> None:
    found = plan(dfloc, "--preset", "paper")
    assert (found["stage base"], found["stage finetune"]) == ("4 trials", "48 trials")
    assert found["data"] == "Dolos, not present; done: unknown"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "base", "finetune"),
    [
        ([], 4, 12),
        (["--preset", "smoke"], 2, 4),
        (["--seeds", "3"], 12, 36),
        (["--draws", "2"], 8, 24),
        (["--seeds", "2", "--draws", "2"], 16, 48),
        (["--set", "stages.finetune.grid.n=[4,8,16,48]"], 4, 16),
        (["--set", "domains=[telea,reencode]", "--set", "stages.finetune.grid.n=[4]"], 2, 2),
        (["--limit", "4"], 4, 8),
    ],
)
def test_options_change_the_number_of_trials(dfloc: Dfloc, args: list[str], base: int, finetune: int) -> None:
    found = plan(dfloc, *args)
    assert (found["stage base"], found["stage finetune"]) == (f"{base} trials", f"{finetune} trials")


def test_only_keeps_the_stage_and_its_parents(dfloc: Dfloc) -> None:
    stages = [key for key in plan(dfloc, "--only", "replay", "--only", "scratch") if key.startswith("stage ")]
    assert sorted(stages) == ["stage base", "stage replay", "stage scratch"]


def test_workspace_comes_from_the_environment_too(
    dfloc: Dfloc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DFLOC_WORKSPACE", str(tmp_path / "file"))
    assert_one_message(dfloc("sweep", "exposure"), f"{tmp_path / 'file'} is a file")


@pytest.mark.ray
def test_fewer_images_than_asked_says_how_many_there_are(dfloc: Dfloc, finished: Study) -> None:
    args = ["--data", str(finished.root / "shards/mini"), "--preset", "smoke", "--set", "stages.base.train.count=161"]
    result = dfloc("sweep", "exposure", *args)
    assert_one_message(result, "has 160 train images", "asks for 161", "--limit 160")


@pytest.mark.ray
def test_device_is_part_of_the_request(dfloc: Dfloc, finished: Study) -> None:
    """On a GPU a trial computes in bf16, so that nothing that a CPU finished counts for it."""
    args = ["--preset", "smoke", "--workspace", str(finished.root)]
    assert "0 to run" in str(plan(dfloc, *args))
    on_gpu = plan(dfloc, *args, "--device", "cuda")
    assert "12 to run" in on_gpu, on_gpu


@pytest.mark.ray
def test_report_prints_where_the_page_is(dfloc: Dfloc, finished: Study) -> None:
    result = dfloc("report", "exposure", "--workspace", str(finished.root))
    assert (result.code, result.err) == (0, "")
    assert Path(result.out.strip()).read_text().startswith("<!doctype html>")
    again = dfloc("report", "exposure", "--workspace", str(finished.root), "--preset", "paper")
    assert_one_message(again, "--preset paper", "exposure-smoke-mini")


def test_a_closed_pipe_ends_without_a_traceback(tmp_path: Path) -> None:
    command = f"'{DFLOC}' sweep exposure --dry-run 2>'{tmp_path}/err' | head -1"
    with os.popen(command) as pipe:
        assert pipe.read().startswith("No --data: the built-in mini-Dolos, preset mini.")
    assert (tmp_path / "err").read_text() == ""
