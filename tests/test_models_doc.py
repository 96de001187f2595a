"""The commands of docs/MODELS.md are run, in their order, on small data and small models of the same classes."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from upath import UPath

from dfloc.cli import cli
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from tests import published
from tests.cases.public import coverage
from tests.cli.test_evaluate import write_unseen
from tests.engine.test_predict import put_trial
from tests.engine.test_predict_files import noise
from tests.models.test_declip import write
from tests.published import FUSED, VIT
from tests.report import studies

TEXT = (Path(__file__).parent.parent / "docs" / "MODELS.md").read_text()
BLOCKS = [text for language, text in re.findall(r"```(\w*)\n(.*?)```", TEXT, re.S) if not language]
COMMANDS = [
    line.removeprefix(".venv/bin/dfloc ") for block in BLOCKS for line in block.replace("\\\n", "").splitlines()
]
SMALL = ["--set", "stages.finetune.grid.n=[4]", "--set", "stages.finetune.train.valid=2"]


def test_every_command_is_shown() -> None:
    assert {command.split()[0] for command in COMMANDS} == {
        *("predict", "evaluate", "diff"),
        *("import-checkpoint", "sweep"),
    }


@pytest.mark.slow
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
    fakes = write_unseen(tmp_path)
    coverage(tmp_path / "COVERAGE")
    (tmp_path / "maps-of-another-tool").mkdir()
    for name, fake in fakes["mine/sd"]:
        Image.fromarray(fake.astype(np.uint8) * 255).save(tmp_path / "maps-of-another-tool" / name)
    trial = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64)).fingerprint
    other = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64), epochs=7).fingerprint
    places = {
        "TREE": str(tiny_tree),
        "mine/editor": "tiny/blur",
        "clip-vit-l14": VIT,
        "clip-vit-l14,clip-rn50": FUSED,
        "openai": "random",
    }
    for command in COMMANDS:
        words = [places.get(word, word) for word in shlex.split(command)]
        words = [word.replace("RUN", trial[:8]).replace("OTHER", other[:8]) for word in words]
        if words[0] == "sweep":
            words = [*(word.replace("mine/editor", "tiny/blur") for word in words), *SMALL, "--dry-run"]
        if words[0] == "diff":
            give_rows(Ledger(Workspace(tmp_path / "workspace")), trial, other)
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
        if words[0] == "sweep":
            assert "1 to train, 4 evaluations" in result.output, "best and last, on a domain and its reals"
        if words[0] == "import-checkpoint":
            trial = result.output.split()[1]
    assert json.loads((tmp_path / "maps" / "one.json").read_text())["threshold_source"] == "given"
    assert {path.name for path in (tmp_path / "last").iterdir()} == {
        f"photo.{end}" for end in ("prob.png", "overlay.png", "json")
    }
    assert (tmp_path / "scores.csv").read_text().count("tiny/blur") == 1
    assert len(list((tmp_path / "workspace" / "trials").iterdir())) == 4


def give_rows(ledger: Ledger, trial: str, other: str) -> None:
    """Give another trial the rows of one by DeCLIP's protocol, and both the same of their last checkpoint."""
    for path in list(ledger.folder(trial).glob("rows/*")):
        rows = ledger.rows(trial, path.stem)
        if rows["protocol"][0].as_py() != "declip-2025":
            continue
        place = rows.column_names.index("checkpoint")
        last = rows.set_column(place, "checkpoint", pa.array(["last"] * len(rows)))
        for name, table in ((other, rows), (other, last), (trial, last)):
            if "trial" in table.column_names:
                table = table.set_column(table.column_names.index("trial"), "trial", pa.array([name] * len(table)))
            ledger.put_rows(name, f"{table['checkpoint'][0]}-{path.stem}", table)


def test_the_notebook_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path / "workspace")
    trial, other = (put_trial(workspace, epochs=epochs) for epochs in (3, 7))
    own = {"id": "i", "stem": "s", "protocol": "declip-2025", "checkpoint": "best", "domain": "a/b", "iou": 0.25}
    Ledger(workspace).put_rows(trial.fingerprint, "k", pa.Table.from_pylist([own]))
    give_rows(Ledger(workspace), trial.fingerprint, other.fingerprint)
    maker = studies.Maker(num_test=16)
    maker.curves([4, 8], epochs=4)
    planned = studies.record(maker, "mini")
    studies.fill(workspace, planned, checkpoints=("best",))
    planned.save(workspace.sweep(planned.sweep))
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names = {"image_HWC": np.zeros((9, 7, 3), np.uint8)}
    exec(code.replace("3fa9c1", trial.fingerprint[:8]), names)
    held_out, seen, *_ = studies.MINI
    tuned = next(one for one in planned.trials if one.stage == "finetune" and one.axes["n"] == 8)
    assert tuned.axes["held_out"] == held_out
    assert names["curves"].loc[8, (held_out, seen)] == pytest.approx(studies.truth(tuned, seen))
    assert names["curves"].shape == (2, 4 * 4)
    assert len(names["frame"]) == 2
    assert (names["prob_HW"].dtype, names["prob_HW"].shape) == (np.float32, (9, 7))


def test_what_it_says_of_the_json_is_there(tmp_path: Path) -> None:
    from dfloc.engine import predict_files
    from dfloc.engine.predict import Predictor, facts

    workspace = Workspace(tmp_path / "workspace")
    spec = put_trial(workspace)
    noise(tmp_path / "one.png")
    predictor = Predictor.load(workspace, spec, "best", "cpu")
    found, _ = predict_files.find([tmp_path / "one.png"])
    assert [wrong for _, wrong, _ in predict_files.predict(predictor, found, tmp_path, facts(spec, "best", None))] == [
        ""
    ]
    said = json.loads((tmp_path / "one.json").read_text())
    assert {"mean_prob", "area", "threshold", "threshold_source", "trial", "checkpoint", "maps"} <= set(said)
    assert f'"{said["threshold_source"]}"' in TEXT
