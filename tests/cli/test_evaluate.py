"""`dfloc evaluate` and `dfloc import-checkpoint` from a fresh process: what is said, and what is left."""

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from upath import UPath

from dfloc.config import TrialSpec
from dfloc.storage import Workspace
from dfloc.sweep import scores
from tests import published
from tests.cli.test_predict import spec
from tests.cli.test_sweep import Dfloc, assert_one_message, dfloc
from tests.command import DFLOC
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_trial
from tests.models.test_declip import write
from tests.published import VIT

__all__ = ["dfloc", "spec"]


@pytest.mark.ray
def test_a_table_and_a_file_of_it(dfloc: Dfloc, tiny_shards: UPath, tmp_path: Path) -> None:
    trial = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64)).fingerprint
    args = ["evaluate", trial[:8], "--data", tiny_shards.path, "--domain", "blur", "--out", "scores.csv"]
    result = dfloc(*args)
    assert result.code == 0, result
    assert f"trial {trial[:12]}, best checkpoint, test images; protocol declip-2025" in result.out
    heading, line = (text.split() for text in result.out.splitlines()[-2:])
    assert heading[0] == "domain"
    assert line[:4] == ["tiny/blur", "unknown", "4", "2"]
    [row] = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    assert f"{float(row['iou']):.3f}" == line[4]
    assert f"{float(row['low']):.3f}-{float(row['high']):.3f}" == line[-1]
    assert (row["trial"], row["protocol"], row["domain_trained_on"]) == (trial, "declip-2025", "unknown")
    (tmp_path / "ray.py").write_text("raise AssertionError('Ray was imported')\n")
    environment = {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    again = subprocess.run([DFLOC, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, ""), again
    assert again.stdout.splitlines()[-1].split() == line


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["evaluate", "RUN"], ["--data"]),
        (["evaluate", "RUN", "--data", "gone"], ["--data gone"]),
        (["evaluate", "RUN", "--data", "photos", "--protocol", "declip"], ['unknown protocol "declip"', "declip-2025"]),
        (["evaluate", "none", "--data", "photos"], ['no trial is called "none"']),
        (["import-checkpoint", "gone.pth", "--arch", "clip-vit-l14"], ["gone.pth", "missing"]),
        (["import-checkpoint", "photos/one.png", "--arch", "clip-vit-l14"], ["one.png"]),
        (["import-checkpoint", "photos/one.png"], ["--arch"]),
        (["import-checkpoint", "f", "--arch", "clip-vit-l14", "--trained-on", "lmd"], ['"lmd"', "ldm"]),
        (["import-checkpoint", "f", "--arch", "clip-vit-l14", "--trained-on", "repaint-p2"], ["ambiguous"]),
    ],
)
def test_a_mistake_is_one_message(dfloc: Dfloc, spec: TrialSpec, args: list[str], words: list[str]) -> None:
    assert_one_message(dfloc(*(spec.fingerprint if arg == "RUN" else arg for arg in args)), *words)


def test_a_workspace_is_not_made_for_a_file_that_is_not_there(dfloc: Dfloc, tmp_path: Path) -> None:
    assert_one_message(dfloc("import-checkpoint", "gone.pth", "--arch", "clip-vit-l14"), "gone.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_written_is_one_message(
    dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored = scores.Line("a/one", 2, 1, 0, "out", {"iou": 0.5}, {}, (0.4, 0.6), {"pooled_iou": 0.5}, 0)
    monkeypatch.setattr("dfloc.sweep.evaluate.evaluate", lambda request, console: (make_spec(), [scored], None))
    (tmp_path / "file").write_text("")
    result = dfloc("evaluate", "RUN", "--data", "any", "--out", "file/scores.csv")
    assert_one_message(result, "file", "--debug")
    assert "a/one" in result.out


def test_an_imported_checkpoint_says_what_to_do_next(dfloc: Dfloc, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    published.register(tmp_path / "models")
    write(tmp_path / "file.pth", VIT, "layer2")
    result = dfloc("import-checkpoint", "file.pth", "--arch", VIT, "--trained-on", "ldm, mine/own")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert re.fullmatch(r"trial [0-9a-f]{64}", lines[0])
    assert lines[1] == f"reads {VIT}/layer2; trained on celebahq/ldm, mine/own"
    name = lines[0].split()[1][:12]
    assert lines[2] == f"next: dfloc evaluate {name} --data DIR"
    assert dfloc("import-checkpoint", "file.pth", "--arch", VIT, "--trained-on", "ldm,mine/own").out == result.out
    elsewhere = dfloc("import-checkpoint", "file.pth", "--arch", VIT, "--workspace", "my work").out.splitlines()
    assert [line.endswith(" --workspace 'my work'") for line in elsewhere] == [False, False, True, True, True]


@pytest.mark.ray
def test_the_sweep_that_it_names_starts_from_it(dfloc: Dfloc, tiny_shards: UPath, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    published.register(tmp_path / "models")
    write(tmp_path / "file.pth", VIT, "layer2")
    told = dfloc("import-checkpoint", "file.pth", "--arch", VIT).out.splitlines()[-1]
    command = told.strip().replace("DIR", tiny_shards.path).replace("DOMAIN", "tiny/noise")
    settings = ["stages.finetune.grid.n=[4]", "stages.finetune.train.valid=2"]
    result = dfloc(*shlex.split(command)[1:], *(word for each in settings for word in ("--set", each)), "--dry-run")
    assert result.code == 0, result
    assert "stage finetune: 1 trials" in result.out
    assert "1 to train, 2 evaluations" in result.out, "best and last, on the domain that it is fine-tuned on"
    assert f"({VIT}/layer2)" in result.out
