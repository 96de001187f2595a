"""`dfloc predict` from a fresh process: what is said, what is left, how it ends."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from dfloc import plugin, registry
from dfloc.config import TrialSpec
from dfloc.features.store import recipe_for
from dfloc.storage import Workspace
from tests.cli.test_sweep import Dfloc, assert_one_message, dfloc
from tests.command import DFLOC
from tests.engine.test_predict import put_head, put_trial, put_valid
from tests.engine.test_predict_files import cut, noise

__all__ = ["dfloc"]


@pytest.fixture
def spec(tmp_path: Path) -> TrialSpec:
    """A finished trial in the usual workspace, and photographs beside it."""
    (tmp_path / "photos").mkdir()
    for place, name in enumerate(("one.png", "two.png")):
        noise(tmp_path / "photos" / name, seed=place)
    return put_trial(Workspace(tmp_path / "workspace"))


def test_a_folder_and_a_file(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    noise(tmp_path / "three.png", seed=3)
    result = dfloc("predict", spec.fingerprint[:8], "photos", "three.png")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == f"3 of 3 images in {tmp_path / 'predictions'}"
    names = {path.name for path in (tmp_path / "predictions").iterdir()}
    assert names == {f"{n}.{end}" for n in ("one", "two", "three") for end in ("prob.png", "overlay.png", "json")}
    said = json.loads((tmp_path / "predictions" / "one.json").read_text())
    assert (said["trial"], said["checkpoint"]) == (spec.fingerprint, "best")
    assert said["threshold_source"] == "protocol declip-2025: 0.5"


def test_options_reach_the_files(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    args = ["--out", "maps", "--checkpoint", "last", "--threshold", "0.9", "--workspace", "workspace"]
    assert dfloc("predict", spec.fingerprint, "photos/one.png", *args).code == 0
    said = json.loads((tmp_path / "maps" / "one.json").read_text())
    assert (said["checkpoint"], said["threshold"], said["threshold_source"]) == ("last", 0.9, "given")
    assert dfloc("predict", spec.fingerprint, "photos/one.png", "--out", "dolos", "--protocol", "dolos-2024").code == 0
    said = json.loads((tmp_path / "dolos" / "one.json").read_text())
    assert said["threshold_source"] == "protocol dolos-2024: 0.5"
    maps = [(tmp_path / folder / "one.prob.png").read_bytes() for folder in ("maps", "dolos")]
    assert maps[0] != maps[1], "Pillow's bicubic resize is another one"


def test_bad_images_are_one_line_each_and_the_others_are_done(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    cut(tmp_path / "photos" / "cut.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photograph")
    result = dfloc("predict", spec.fingerprint, "photos")
    assert result.code == 1
    assert "Traceback" not in result.out + result.err
    lines = result.out.splitlines()
    assert [line for line in lines if "photos/cut.png: no whole image" in line]
    assert [line for line in lines if "photos/notes.txt: skipped" in line]
    assert lines[-1].startswith("2 of 3 images in ")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["photos"], ["no file or folder", "gone"]),
        (["no", "photos"], ['no trial is called "no"']),
        (["RUN", "gone.png"], ["no file or folder gone.png"]),
        (["RUN", "workspace"], ["no images in workspace"]),
        (["RUN", "photos", "--threshold", "2"], ["--threshold", "2"]),
        (["RUN", "photos", "--workspace", "photos/one.png"], ["one.png is a file"]),
        (["RUN", "photos", "--workspace", "nowhere"], ["no trial", "nowhere"]),
        (["RUN", 300 * "x"], ["File name too long", 300 * "x"]),
    ],
)
def test_a_mistake_is_one_message(dfloc: Dfloc, spec: TrialSpec, args: list[str], words: list[str]) -> None:
    args = [spec.fingerprint if arg == "RUN" else arg for arg in args]
    assert_one_message(dfloc("predict", *args, *(["gone"] if len(args) == 1 else [])), *words)


def test_a_name_that_a_terminal_cannot_show_is_spelled_out(spec: TrialSpec, tmp_path: Path) -> None:
    noise(Path(f"{tmp_path}/photos/caf\udce9.png"))
    Path(f"{tmp_path}/photos/caf\udce9.txt").write_text("no photograph")
    args = [DFLOC, "predict", spec.fingerprint, "photos", "--out", "caf\udce9"]
    env = {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "photos/caf\\udce9.txt: skipped" in done.stdout
    assert done.stdout.splitlines()[-1] == f"3 of 3 images in {tmp_path}/caf\\udce9"


def test_it_starts_neither_ray_nor_mlflow(spec: TrialSpec, tmp_path: Path) -> None:
    for name in ("ray", "mlflow"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} was imported')\n")
    args = [DFLOC, "predict", spec.fingerprint, "photos"]
    done = subprocess.run(
        args, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_detector_has_a_line_an_image_and_a_table(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    detector = put_head(workspace)
    put_valid(workspace, detector, [0.9, 0.8], [0.7, 0.1])
    result = dfloc("predict", detector.fingerprint, "photos", "--rows", "scores.csv")
    assert (result.code, result.err) == (0, "")
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [Path(row["image"]).name for row in rows] == ["one.png", "two.png"]
    for row in rows:
        said = json.loads((tmp_path / "predictions" / f"{Path(row['image']).stem}.json").read_text())
        assert (float(row["score"]), row["called"], row["task"]) == (said["score"], said["called"], "detect")
        assert float(row["prob_real"]) + float(row["prob_fake"]) == pytest.approx(1)
        assert (row["threshold"], row["threshold_source"][:11]) == ("0.75", "validation:")
        line = f"{row['image']}: {said['called']}, score {said['score']:.3f} (threshold 0.750)"
        assert [text for text in result.out.splitlines() if text.endswith(line)]
    assert not list((tmp_path / "predictions").glob("*.png"))
    classes = put_head(workspace, ("real", "a", "b"))
    told = dfloc("predict", classes.fingerprint, "photos/one.png", "--out", "who")
    said = json.loads((tmp_path / "who" / "one.json").read_text())
    assert said["called"] == max(said["probabilities"], key=said["probabilities"].get)
    assert f"{said['called']}, probability {said['probabilities'][said['called']]:.3f}" in told.out


def test_mistakes_of_a_detector_are_one_message(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    one, several = put_head(workspace).fingerprint, put_head(workspace, ("real", "a", "b")).fingerprint
    assert_one_message(dfloc("predict", one, "photos", "--protocol", "dolos-2024"), "gives no map", "image-1")
    assert_one_message(dfloc("predict", several, "photos", "--threshold", "0.3"), "likeliest class", "--threshold")
    assert_one_message(dfloc("predict", one, "photos", "--rows", "rows.json"), "rows.json", ".csv")
    assert not (tmp_path / "predictions").exists()


PLUGIN = """
import torch
from dfloc.registry import BackboneRow, MapSpec

class Grey:
    digest, maps = "none", {"grey": MapSpec(1, 4, 4)}

    def preprocess(self, image_HWC):
        return torch.as_tensor(image_HWC).float().mean((0, 1)).view(3, 1, 1).expand(3, 4, 4)

    def __call__(self, images_BCHW, wanted):
        return {"grey": images_BCHW.mean(1, keepdim=True) / 255}

def make_grey(name, weights, device):
    return Grey()

class Steep(torch.nn.Module):
    def forward(self, x_BCHW):
        return torch.nn.functional.interpolate(100 * (x_BCHW - 0.5), (256, 256))

    def solve(self, source):
        pass

BACKBONES = {"greyness": BackboneRow("make_grey", Grey.maps, 4, "mean", "none")}
DECODERS = {"steep": lambda spec, maps, generator: Steep()}
"""


def test_a_trial_of_a_plug_in_needs_its_file(dfloc: Dfloc, spec: TrialSpec, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(PLUGIN)
    (tmp_path / "changed.py").write_text(PLUGIN + "# another digest\n")
    plugin.use(plugin.read([str(tmp_path / "my.py")]))
    decoder = {"name": "steep", "plugin": registry.plugin_of("decoder", "steep")}
    workspace = Workspace(tmp_path / "workspace")
    own = put_trial(workspace, maps=(recipe_for("greyness/grey"),), decoder=decoder).fingerprint
    mixed = put_trial(workspace, decoder=decoder).fingerprint
    Image.new("RGB", (9, 5), (255, 255, 255)).save(tmp_path / "white.png")
    assert_one_message(dfloc("predict", own, "white.png"), 'backbone "greyness" is of a plug-in', "--plugin")
    assert_one_message(dfloc("predict", mixed, "white.png"), 'decoder "steep" is of a plug-in', "--plugin")
    assert_one_message(dfloc("predict", own, "white.png", "--plugin", "changed.py"), "is of a plug-in", "digest")
    assert dfloc("predict", own, "white.png", "--plugin", "my.py").code == 0
    assert json.loads((tmp_path / "predictions" / "white.json").read_text())["area"] == 1.0
