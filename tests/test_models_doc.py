"""The commands of docs/MODELS.md are run, in their order, on small data and small models of the same classes."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from upath import UPath

from dfloc.cli import cli
from dfloc.storage import Workspace
from tests import published
from tests.engine.test_photos import noise
from tests.engine.test_predict import put_trial
from tests.models.test_declip import write
from tests.published import FUSED, VIT

TEXT = (Path(__file__).parent.parent / "docs" / "MODELS.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, re.S)
COMMANDS = [
    line.removeprefix(".venv/bin/dfloc ") for block in BLOCKS for line in block.replace("\\\n", "").splitlines()
]
SMALL = ["--set", "stages.finetune.grid.n=[4]", "--set", "stages.finetune.train.valid=2"]


def test_every_command_is_shown() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"predict", "evaluate", "import-checkpoint", "sweep"}


@pytest.mark.ray
def test_they_do_what_is_said(
    tmp_path: Path, tiny_tree: Path, tiny_shards: UPath, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "models").mkdir()
    published.register(tmp_path / "models")
    noise(tmp_path / "photo.jpg")
    noise(tmp_path / "photos" / "one.png")
    write(tmp_path / "ldm.pth", VIT, "layer2")
    write(tmp_path / "fused.pth", FUSED, "layer0")
    shutil.copytree(tiny_shards.path, tmp_path / "shards" / "mine")
    trial = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64)).fingerprint
    places = {
        "TREE": str(tiny_tree),
        "mine/editor": "tiny/blur",
        "clip-vit-l14": VIT,
        "clip-vit-l14,clip-rn50": FUSED,
        "openai": "random",
    }
    for command in COMMANDS:
        words = [places.get(word, word).replace("RUN", trial[:8]) for word in shlex.split(command)]
        if words[0] == "sweep":
            words = [*(word.replace("mine/editor", "tiny/blur") for word in words), *SMALL, "--dry-run"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
        if words[0] == "sweep":
            assert "1 to train, 2 evaluations" in result.output, "best and last, on the domain that it is fine-tuned on"
        if words[0] == "import-checkpoint":
            trial = result.output.split()[1]
    assert json.loads((tmp_path / "maps" / "one.json").read_text())["threshold_source"] == "given"
    assert {path.name for path in (tmp_path / "last").iterdir()} == {
        f"photo.{end}" for end in ("prob.png", "overlay.png", "json")
    }
    assert (tmp_path / "scores.csv").read_text().count("tiny/blur") == 1
    assert len(list((tmp_path / "workspace" / "trials").iterdir())) == 3


def test_what_it_says_of_the_json_is_there(tmp_path: Path) -> None:
    from dfloc.engine import photos
    from dfloc.engine.predict import Predictor, facts

    workspace = Workspace(tmp_path / "workspace")
    spec = put_trial(workspace)
    noise(tmp_path / "one.png")
    predictor = Predictor.load(workspace, spec, "best", "cpu")
    found, _ = photos.find([tmp_path / "one.png"])
    assert [wrong for _, wrong in photos.predict(predictor, found, tmp_path, facts(spec, "best", None))] == [""]
    said = json.loads((tmp_path / "one.json").read_text())
    assert {"mean_prob", "area", "threshold", "threshold_source", "trial", "checkpoint", "maps"} <= set(said)
    assert f'"{said["threshold_source"]}"' in TEXT
