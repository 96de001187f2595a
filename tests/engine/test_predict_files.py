"""Which photographs are meant, under which names their files go, and what those files say."""

import hashlib
import json
import math
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dfloc.engine import predict_files
from dfloc.engine.predict import Prediction, Predictor, facts
from dfloc.engine.predict_files import PhotoFiles, find, overlay
from dfloc.errors import ConfigError, DiskFullError
from dfloc.storage import Workspace
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_head, put_trial


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    workspace = Workspace(tmp_path_factory.mktemp("trial"))
    return Predictor.load(workspace, put_trial(workspace), "best", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "2024").mkdir(parents=True)
    for place, name in enumerate(("one.png", "2024/one.png", "2024/two.JPG", ".hidden.png")):
        noise(tmp_path / "photos" / name, seed=place)
    (tmp_path / "photos" / "notes.txt").write_text("no photograph")
    return tmp_path / "photos"


def noise(path: Path, size: tuple[int, int] = (64, 48), seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def told(threshold: float | None = None) -> dict[str, Any]:
    return facts(make_spec(), "best", threshold)


def wrongs(predictor: Predictor, given: list[Path], out: Path, **changes: Any) -> dict[str, str]:
    """Predict, and return what is wrong, by file name."""
    said = predict_files.predict(predictor, find(given)[0], out, told() | changes)
    return {photo.path.name: wrong for photo, wrong, _ in said}


def test_a_folder_is_walked_and_keeps_its_shape(folder: Path) -> None:
    found, others = find([folder])
    assert {photo.name for photo in found} == {"one", "2024/one", "2024/two"}
    assert [path.name for path in others] == ["notes.txt"]


def test_links_are_followed_and_a_loop_ends(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    noise(tmp_path / "elsewhere" / "three.png", seed=5)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "lost.png").symlink_to(tmp_path / "gone.png")
    found, others = find([folder])
    assert {photo.name for photo in found} == {"one", "2024/one", "2024/two", "link/three", "lost"}
    assert [path.name for path in others] == ["notes.txt"]


def test_photographs_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    noise(folder / "2024" / "One.jpeg", seed=9)
    digits = {path: hashlib.sha256(str(path).encode()).hexdigest()[:8] for path in folder.rglob("*")}
    given = [folder / "one.png", folder / "2024" / "one.png", folder / "2024" / "One.jpeg", folder / "one.png"]
    assert [photo.name for photo in find(given)[0]] == [f"{path.stem}-{digits[path]}" for path in given[:3]]


def test_a_file_and_its_folder_name_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(find([Path("one.png"), folder, Path()])[0]) == 3


@pytest.mark.parametrize(("name", "said"), [("gone.png", "no file or folder"), ("empty", "no images in")])
def test_nothing_to_look_at(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=said):
        find([tmp_path / name])


def test_outputs_in_the_same_folder_are_no_photographs(predictor: Predictor, folder: Path) -> None:
    assert set(wrongs(predictor, [folder], folder).values()) == {""}
    (folder / "notes.json").write_text("{}")
    found, others = find([folder])
    assert {photo.name for photo in found} == {"one", "2024/one", "2024/two"}
    assert [path.name for path in others] == ["notes.json", "notes.txt"], "what was written is passed over in silence"
    assert set(wrongs(predictor, [folder], folder).values()) == {""}, "the same again is no clash"


def test_three_files_say_what_the_trial_says(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    assert wrongs(predictor, [folder / "one.png"], tmp_path / "out") == {"one.png": ""}
    said = predictor(np.asarray(Image.open(folder / "one.png")))
    prob = Image.open(tmp_path / "out" / "one.prob.png")
    assert (prob.mode, prob.size) == ("L", (48, 64))
    assert np.abs(np.asarray(prob) / 255 - said.prob_HW.numpy()).max() <= 0.5 / 255 + 1e-6
    assert Image.open(tmp_path / "out" / "one.overlay.png").size == (48, 64)
    found = json.loads((tmp_path / "out" / "one.json").read_text())
    assert found == told() | {
        "image": str(folder / "one.png"),
        "image_sha256": hashlib.sha256((folder / "one.png").read_bytes()).hexdigest(),
        "width": 48,
        "height": 64,
        "mean_prob": said.mean,
        "area": said.area(0.5),
    }
    assert math.isclose(found["area"], float((np.asarray(prob) >= 128).mean()), abs_tol=1e-3)
    assert 0 < found["area"] < 1


def test_a_threshold_changes_area_and_outline_alone(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    files: dict[float, dict[str, Any]] = {}
    for threshold in (0.2, 0.8):
        wrongs(predictor, [folder / "one.png"], tmp_path / str(threshold), threshold=threshold)
        names = ("one.prob.png", "one.overlay.png", "one.json")
        files[threshold] = {name: (tmp_path / str(threshold) / name).read_bytes() for name in names}
    areas = [json.loads(files[threshold]["one.json"])["area"] for threshold in files]
    assert areas[0] > areas[1]
    assert files[0.2]["one.prob.png"] == files[0.8]["one.prob.png"]
    assert files[0.2]["one.overlay.png"] != files[0.8]["one.overlay.png"]


def test_the_overlay_reddens_and_outlines() -> None:
    prob = np.zeros((16, 16), np.float32)
    prob[4:12, 4:12] = 1
    picture = np.asarray(overlay(np.full((16, 16, 3), 100, np.uint8), prob, 0.5))
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert picture[4, 4].tolist() == picture[11, 6].tolist() == [255, 255, 0]
    assert picture[7, 7].tolist() == [193, 40, 40], "60 % of pure red over 100"
    flat = np.asarray(overlay(np.full((16, 16, 3), 100, np.uint8), np.ones((16, 16), np.float32), 0.5))
    assert (flat == [193, 40, 40]).all(), "the photograph's own edge is no outline"


def test_orientation_is_that_of_a_viewer(predictor: Predictor, tmp_path: Path) -> None:
    noise(tmp_path / "upright.png", (30, 50))
    upright = Image.open(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert set(wrongs(predictor, [tmp_path / "upright.png", tmp_path / "turned.png"], tmp_path / "o").values()) == {""}
    maps = [np.asarray(Image.open(tmp_path / "o" / f"{name}.prob.png")) for name in ("upright", "turned")]
    assert maps[0].shape == (30, 50)
    assert np.array_equal(*maps)


def huge(path: Path) -> None:
    """Write the head of a PNG of 20,000 x 20,000."""
    noise(path, (8, 8))
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def cut(path: Path) -> None:
    noise(path)
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (huge, "more than the 64,000,000 pixels"),
        (cut, "no whole image"),
        (lambda path: path.write_text("words"), "not an image"),
        (lambda path: path.touch(), "not an image"),
    ],
    ids=["huge", "cut", "text", "empty"],
)
def test_a_bad_image_is_told_and_the_others_are_done(
    spoil: Callable[[Path], None], said: str, predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    spoil(folder / "bad.png")
    found = wrongs(predictor, [folder], tmp_path / "out")
    assert said in found.pop("bad.png")
    assert set(found.values()) == {""}
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.json"))
    assert written == ["2024/one.json", "2024/two.json", "one.json"]
    assert not list((tmp_path / "out").glob("bad*"))


@pytest.mark.parametrize("size", [(1, 1), (2000, 3)])
def test_sizes(size: tuple[int, int], predictor: Predictor, tmp_path: Path) -> None:
    noise(tmp_path / "odd.png", size)
    assert wrongs(predictor, [tmp_path / "odd.png"], tmp_path / "out") == {"odd.png": ""}
    assert Image.open(tmp_path / "out" / "odd.prob.png").size == size[::-1]


def test_what_another_one_left_is_not_written_over(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert wrongs(predictor, [folder / "one.png"], out) == {"one.png": ""}
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert "is of another image" in wrongs(predictor, [folder / "2024" / "one.png"], out)["one.png"]
    for key, value in (("trial", "f" * 64), ("checkpoint", "last")):
        assert f"is of another {key}" in wrongs(predictor, [folder / "one.png"], out, **{key: value})["one.png"]
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "one.json").write_text("{")
    assert "is no JSON" in wrongs(predictor, [folder / "one.png"], out)["one.png"]


def test_a_detector_writes_what_it_says_and_no_map(folder: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    spec = put_head(workspace)
    detector, out = Predictor.load(workspace, spec, "best", "cpu"), tmp_path / "out"
    listed = predict_files.predict(detector, find([folder])[0], out, facts(spec, "best", 0.25))
    said = {outcome.photo.name: outcome.facts for outcome in listed if not outcome.wrong}
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == ["2024/one.json", "2024/two.json", "one.json"]
    found = json.loads((out / "one.json").read_text())
    assert found == said["one"]
    expected = detector(np.asarray(Image.open(folder / "one.png")))
    assert (found["task"], found["score"], found["probabilities"]) == ("detect", expected.score, expected.probabilities)
    assert found["called"] == ("fake" if expected.score > 0.25 else "real")
    assert (found["threshold"], found["threshold_source"]) == (0.25, "given")
    assert not {"mean_prob", "area"} & found.keys()


def test_a_map_beside_what_an_image_is_called_is_cut_at_a_half(folder: Path, tmp_path: Path) -> None:
    map_HW = torch.full((64, 48), 0.4)
    map_HW[:16] = 0.6
    both = Prediction(map_HW, 0.45, {"real": 0.1, "one": 0.7, "two": 0.2})
    for task, threshold in (("attribute", None), ("detect", 0.2)):
        trial = make_spec(task=task, classes=("real", "one", "two") if task == "attribute" else ())
        out = tmp_path / task
        listed = predict_files.predict(
            lambda _: both,  # type: ignore[arg-type]
            find([folder / "one.png"])[0],
            out,
            facts(trial, "best", threshold),
        )
        [said] = listed
        assert (said.wrong, said.facts["area"]) == ("", 0.25)
        assert (out / "one.overlay.png").exists()


def test_what_was_said_without_a_map_is_passed_over_in_silence(folder: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    spec = put_head(workspace)
    detector = Predictor.load(workspace, spec, "best", "cpu")
    assert set(wrongs(detector, [folder], folder, **facts(spec, "best", None)).values()) == {""}
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text('["image", "image_sha256", "trial", "checkpoint"]')
    assert [path.name for path in find([folder])[1]] == ["broken.json", "list.json", "notes.txt"]


def test_a_name_that_is_no_utf8_can_be_shown(predictor: Predictor, tmp_path: Path) -> None:
    path = Path(str(tmp_path) + "/caf\udce9.png")
    noise(path)
    photo = find([path])[0][0]
    assert photo.shown.endswith("caf\\udce9.png")
    assert [wrong for _, wrong, _ in predict_files.predict(predictor, [photo], tmp_path / "out", told())] == [""]


def test_a_full_disk_is_told_once_and_nothing_more_is_tried(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(DiskFullError, match="a file is larger than"):
            wrongs(predictor, [folder], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_an_output_folder_that_is_a_file_is_named(predictor: Predictor, folder: Path) -> None:
    out = folder / "notes.txt"
    [wrong] = wrongs(predictor, [folder / "one.png"], out).values()
    assert "notes.txt" in wrong


def test_prediction_is_what_is_written_of_it() -> None:
    said = Prediction(torch.tensor([[0.5, 0.51], [0.2, 1.0]]), 0.4)
    assert (said.area(0.5), said.area(0.2), said.area(0.0)) == (0.5, 0.75, 1.0)
    assert PhotoFiles(Path("a/b.png"), "b").shown == "a/b.png"
