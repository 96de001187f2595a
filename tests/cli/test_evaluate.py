"""`dfloc evaluate` and `dfloc import-checkpoint` from a fresh process: what is said, and what is left."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from upath import UPath

from dfloc.config import TrialSpec
from dfloc.metrics import summarise
from dfloc.metrics.metric import IOU
from dfloc.storage import Workspace
from dfloc.sweep import scores
from dfloc.sweep.evaluate import ScoredTrial
from tests import published
from tests.cli.test_predict import spec
from tests.cli.test_sweep import Dfloc, assert_one_message, dfloc
from tests.command import DFLOC
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_head, put_trial, put_valid
from tests.engine.test_predict_files import noise
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
    assert (row["low"], row["high"], line[-4:]) == ("", "", ["under", "3", "source", "images"])
    assert (row["trial"], row["protocol"], row["domain_trained_on"]) == (trial, "declip-2025", "unknown")
    (tmp_path / "ray.py").write_text("raise AssertionError('Ray was imported')\n")
    environment = {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    again = subprocess.run([DFLOC, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, ""), again
    assert again.stdout.splitlines()[-1].split() == line


def write_unseen(root: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Write COCO Glide, AutoSplice and a folder of one's own, each in its layout; return domain -> (name, fake)."""
    draw = np.random.default_rng(0)

    def put(image: str, mask: str, size: tuple[int, int], white: bool = True) -> tuple[str, np.ndarray]:
        fake = np.zeros(size, bool)
        fake[size[0] // 4 : size[0] // 2, : size[1] // 2] = True
        photo = draw.integers(0, 256, (*size, 3), np.uint8)
        for path, pixels in ((image, photo), (mask, (fake == white) * np.uint8(255))):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
        return Path(image).name, fake

    sizes = [(256, 256), (120, 333), (64, 50)]
    glide = [put(f"CocoGlide/fake/glide_{k}_up.png", f"CocoGlide/mask/a cat_{k}_mask.png", sizes[0]) for k in range(2)]
    table = ["real,fake,mask,prompt", *(f"r.png,fake/glide_{k}_up.png,mask/a cat_{k}_mask.png,a" for k in range(2))]
    (root / "CocoGlide/table.csv").write_text("\n".join(table), encoding="utf-8-sig")
    splice = [
        put(f"AutoSplice/Forged_JPEG75/{k}_{j}.jpg", f"AutoSplice/Mask/{k}_mask.png", sizes[1])
        for k in range(2)
        for j in range(2)
    ]
    own = [put(f"FOLDER/images/{k}.png", f"FOLDER/masks/{k}.png", sizes[2], white=False) for k in range(2)]
    return {"autosplice/jpeg75": splice, "coco/glide": glide, "mine/sd": own}


UNSEEN = (
    "--own",
    "coco/glide=CocoGlide,fake=white,images=fake,masks=mask,table=table.csv",
    "--own",
    "autosplice/jpeg75=AutoSplice,fake=white,images=Forged_JPEG75,masks=Mask,mask={cut}_mask",
    "--own",
    "mine/sd=FOLDER,fake=black",
)


@pytest.mark.ray
def test_unseen_sets_in_their_own_layouts(dfloc: Dfloc, ray_local: None, tmp_path: Path) -> None:
    """Maps of another tool, whose IoU this test counts itself, then a trial: both in the same form."""
    fakes, probs = write_unseen(tmp_path), {}
    for domain, found in fakes.items():
        for name, fake in found:
            probs[name] = np.random.default_rng(len(probs)).random(fake.shape).astype(np.float32)
            (tmp_path / "maps" / domain).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "maps" / domain / f"{name[:-4]}.npy", probs[name])
    result = dfloc(
        "evaluate", "--maps", "maps", *UNSEEN, "--protocol", "dfloc-1", "--rows", "maps.csv", "--out", "m.csv"
    )
    assert result.code == 0, result
    assert "maps in maps, test images; protocol dfloc-1" in result.out
    for row in csv.DictReader((tmp_path / "maps.csv").read_text().splitlines()):
        name = row["id"].split("/", 3)[3]
        (fake,) = (fake for found in fakes.values() for known, fake in found if known == name)
        called = probs[name] > 0.5
        assert float(row["iou"]) == pytest.approx((called & fake).sum() / (called | fake).sum())
    listed = {row["domain"]: row for row in csv.DictReader((tmp_path / "m.csv").read_text().splitlines())}
    assert {name: (row["images"], row["photographs"]) for name, row in listed.items()} == {
        "autosplice/jpeg75": ("4", "2"),
        "coco/glide": ("2", "2"),
        "mine/sd": ("2", "2"),
    }
    assert {row["trial"][:5] for row in listed.values()} == {"maps:"}

    trial = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64)).fingerprint
    args = ["--domain", "jpeg75", "--protocol", "dfloc-1", "--rows", "rows.parquet", "--out", "t.csv"]
    again = dfloc("evaluate", trial, *UNSEEN, *args)
    assert again.code == 0, again
    assert "images imported" not in again.out, "they were imported before"
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    areas = {row["id"].split("/", 3)[3]: row["mask_area"] for row in rows}
    assert areas == {name: pytest.approx(fake.mean()) for name, fake in fakes["autosplice/jpeg75"]}, "polarity"
    (of_trial,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert list(of_trial) == list(listed["autosplice/jpeg75"]), "the same columns"


@pytest.mark.ray
def test_folders_without_masks_by_a_detector_and_by_a_localizer(dfloc: Dfloc, ray_local: None, tmp_path: Path) -> None:
    """The detector's numbers are counted from what predict says; real images have no fake pixel, fakes no other."""
    for place, folder in enumerate(("fakes", "photos")):
        (tmp_path / folder).mkdir()
        for k in range(4):
            noise(tmp_path / folder / f"{k}.png", (64, 64), seed=10 * place + k)
    workspace = Workspace(tmp_path / "workspace")
    head, localizer = put_head(workspace), put_trial(workspace, size=(64, 64)).fingerprint
    put_valid(workspace, head, [0.9, 0.6], [0.55, 0.1])
    detector = head.fingerprint
    own = ["--own", "mine/sd=fakes,generated", "--own", "mine/real=photos,real"]
    result = dfloc("evaluate", detector, *own, "--out", "scores.json", "--rows", "rows.csv")
    assert result.code == 0, result
    whole = json.loads((tmp_path / "scores.json").read_text())
    assert (whole["task"], whole["protocol"]) == ("detect", "image-1")
    assert [line["domain"] for line in whole["domains"]] == ["mine/real", "mine/sd"]
    assert dfloc("predict", detector, "fakes", "photos", "--threshold", "0.5", "--rows", "said.csv").code == 0
    said = list(csv.DictReader((tmp_path / "said.csv").read_text().splitlines()))
    calls = {
        folder: [row["called"] == "fake" for row in said if Path(row["image"]).parent.name == folder]
        for folder in ("fakes", "photos")
    }
    [pair] = whole["pairs"]
    tpr, tnr = np.mean(calls["fakes"]), 1 - np.mean(calls["photos"])
    assert (pair["fakes"], pair["reals"]) == ("mine/sd", ["mine/real"])
    assert pair["numbers"]["image_accuracy"]["value"] == pytest.approx((tpr + tnr) / 2)
    assert pair["numbers"]["image_tpr"]["value"] == pytest.approx(tpr)
    assert len(pair["numbers"]["image_ap"]["interval"]) == 2
    assert (pair["threshold"], pair["num_valid"]) == (pytest.approx(0.575), 4)
    assert "over 0.575, the best on the trial's own 4 validation images" in result.out
    assert re.search(r"image_tpr +\d\.\d{3} \(\d\.\d{3}-\d\.\d{3}\)", result.out)
    assert_one_message(dfloc("evaluate", detector, *own, "--protocol", "declip-2025"), "gives no map", "image-1")

    maps = dfloc("evaluate", localizer, *own, "--out", "maps.csv", "--rows", "maps.parquet")
    assert maps.code == 0, maps
    rows = pq.read_table(tmp_path / "maps.parquet").to_pylist()
    assert {row["tp"] + row["fn"] for row in rows if row["domain"] == "mine/real"} == {0}
    assert {row["fp"] + row["tn"] for row in rows if row["domain"] == "mine/sd"} == {0}
    listed = {row["domain"]: row for row in csv.DictReader((tmp_path / "maps.csv").read_text().splitlines())}
    found = {domain: np.mean([row["iou"] for row in rows if row["domain"] == domain]) for domain in listed}
    assert {domain: float(row["iou"]) for domain, row in listed.items()} == pytest.approx(found)
    as_images = dfloc("evaluate", localizer, *own, "--protocol", "image-1", "--out", "images.json")
    assert as_images.code == 0, as_images
    assert "are not scored" in as_images.out, "no validation images, no threshold"
    assert json.loads((tmp_path / "images.json").read_text())["pairs"][0]["threshold"] is None


@pytest.mark.ray
def test_a_threshold_from_validation_images(dfloc: Dfloc, tiny_shards: UPath, tmp_path: Path) -> None:
    trial = put_trial(Workspace(tmp_path / "workspace"), size=(64, 64)).fingerprint
    args = ["evaluate", trial, "--data", tiny_shards.path, "--protocol", "dfloc-1", "--domain", "blur"]
    valid = dfloc(*args, "--split", "valid", "--rows", "valid.parquet")
    assert valid.code == 0, valid
    assert "F1 0." not in valid.out, "the images that a threshold is chosen on are not scored by it"
    after = dfloc(*args, "--rows", "test.parquet")
    valid, test = (pq.read_table(tmp_path / f"{split}.parquet") for split in ("valid", "test"))
    numbers = summarise(test, "dfloc-1", valid)
    threshold = f"threshold {numbers['threshold']:g}, chosen on 4 validation images"
    assert f"tiny/blur: F1 {numbers['f1_valid']:.3f} at the {threshold}" in after.out
    assert "iou by fake area: " in after.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["evaluate", "RUN"], ["--data"]),
        (["evaluate", "RUN", "--data", "gone"], ["--data gone"]),
        (["evaluate", "RUN", "--data", "photos", "--protocol", "declip"], ['unknown protocol "declip"', "declip-2025"]),
        (["evaluate", "none", "--data", "photos"], ['no trial is called "none"']),
        (["evaluate"], ["RUN", "--maps"]),
        (["evaluate", "RUN", "--maps", "photos", "--data", "photos"], ["one of the two"]),
        (["evaluate", "--maps", "photos"], ["--data", "--own"]),
        (["evaluate", "--maps", "photos", "--data", "x", "--device", "cuda"], ["--device", "--maps"]),
        (["evaluate", "--maps", "photos", "--own", "mine/sd=photos"], ["no folder pair", "fake=black|white"]),
        (["evaluate", "RUN", "--own", "mine/sd=photos,fake=white"], ["no folder photos/images"]),
        (["evaluate", "RUN", "--own", "m/s=photos,fake=white", "--data", "photos"], ["--data", "--own"]),
        (["evaluate", "RUN", "--data", "photos", "--rows", "rows.txt"], ["rows.txt", ".csv or .parquet"]),
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


def told(lines: list[scores.DomainScore], protocol: str = "declip-2025") -> ScoredTrial:
    return ScoredTrial(make_spec(), protocol, lines, [], None, pa.table({"domain": pa.array([], pa.string())}))


def test_a_table_that_cannot_be_written_is_one_message(
    dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored = scores.DomainScore("a/one", IOU, 2, 1, 0, "out", {"iou": 0.5}, {}, (0.4, 0.6), {"pooled_iou": 0.5}, 0)
    monkeypatch.setattr("dfloc.sweep.evaluate.evaluate", lambda request, console: told([scored]))
    (tmp_path / "file").write_text("")
    result = dfloc("evaluate", "RUN", "--data", "any", "--out", "file/scores.csv")
    assert_one_message(result, "file", "--debug")
    assert "a/one" in result.out


@pytest.mark.parametrize(
    ("relation", "number", "compared", "column", "sentence"),
    [
        ("out", 0, True, "no", "0 of its 4 images are, by their pixels, among those that"),
        ("out", 3, True, "3 images", "3 of its 4 images are"),
        ("out", 3, False, "3 images", "at least 3 of its 4 images are"),
        ("out", 0, False, "not compared", "its images are not compared, by their pixels, with all that"),
        ("out", None, False, "not compared", "its images are not compared"),
        ("in", None, False, "yes", "its images are not compared"),
        ("unknown", None, False, "unknown", "its images are not compared"),
        ("unknown", 3, False, "3 images", "at least 3 of its 4 images are"),
    ],
)
def test_no_is_said_only_where_images_were_compared(
    dfloc: Dfloc,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    relation: scores.Relation,
    number: int | None,
    compared: bool,
    column: str,
    sentence: str,
) -> None:
    line = scores.DomainScore(
        "a/one", IOU, 4, 2, 0, relation, {"iou": 0.5}, {}, (0.4, 0.6), {"pooled_iou": 0.5}, 0, number, compared
    )
    monkeypatch.setattr("dfloc.sweep.evaluate.evaluate", lambda request, console: told([line]))
    result = dfloc("evaluate", "RUN", "--data", "any", "--out", "scores.csv")
    assert f"a/one: {sentence}" in result.out
    assert re.split(r"\s{2,}", result.out.splitlines()[-1].strip())[1] == column, result
    (row,) = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    assert row["images_trained_on"] == ("" if number is None else str(number))


def test_intervals_stand_in_table_and_file(dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three photographs, one image each: Student's t with two degrees of freedom."""
    counts = {"tp": [1, 2, 3], "fp": [3, 2, 1], "fn": [0, 0, 0], "tn": [6, 6, 6]}
    rows = pa.table({**counts, "iou": [0.25, 0.5, 0.75], "pbca": [0.7, 0.8, 0.9], "stem": ["a/1", "a/2", "a/3"]})
    for name, value in (("protocol", "dolos-2024"), ("mask_area", 0.3)):
        rows = rows.append_column(name, pa.array([value] * 3))
    line = scores.of_rows(rows, "dolos-2024", "a/one")
    monkeypatch.setattr("dfloc.sweep.evaluate.evaluate", lambda request, console: told([line]))
    result = dfloc("evaluate", "RUN", "--data", "any", "--out", "scores.csv", "--protocol", "dolos-2024")
    (row,) = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    half = 4.302653 * 0.25 / 3**0.5
    assert (float(row["low"]), float(row["high"])) == pytest.approx((0.0, min(1.0, 0.5 + half)))
    assert "0.000-1.000" in result.out
    assert float(row["pooled_iou"]) == pytest.approx(6 / 12)
    assert float(row["pooled_iou_low"]) < 0.5 < float(row["pooled_iou_high"])


def test_maps_that_say_nothing_and_a_model_that_is_not_above_all_fake_are_told(
    dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two images of ten pixels, of which two and four are fake, all called fake: IoU 0.3, as calling all fake has."""
    rows = pa.table({"tp": [2, 4], "fp": [8, 6], "fn": [0, 0], "tn": [0, 0], "iou": [0.2, 0.4], "pbca": [0.2, 0.4]})
    for name, value in (("protocol", "dolos-2024"), ("stem", "a/1"), ("mask_area", 0.3)):
        rows = rows.append_column(name, pa.array([value] * 2))
    line = scores.of_rows(rows, "dolos-2024", "a/one")
    better = line._replace(domain="a/two", collapsed="", values={"iou": 0.31, "pbca": 0.9})
    monkeypatch.setattr("dfloc.sweep.evaluate.evaluate", lambda request, console: told([line, better]))
    result = dfloc("evaluate", "RUN", "--data", "any", "--out", "scores.csv")
    assert "a/one: COLLAPSED (all fake)" in result.out
    assert "a/one: iou 0.300 is not above all fake: calling every pixel fake has 0.300" in result.out
    assert "a/two: iou" not in result.out
    found = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [(row["iou_all_fake"][:5], row["collapsed"]) for row in found] == [("0.300", "all fake"), ("0.300", "")]


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
    assert dfloc("import-checkpoint", "file.pth", "--arch", VIT).out == result.out, "what was said before"
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
    assert "1 to train, 4 evaluations" in result.out, (
        "best and last, on the domain that it is fine-tuned on and on its reals"
    )
    assert f"({VIT}/layer2)" in result.out
