import hashlib
import json
import shutil
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfloc.data import dolos, mini
from dfloc.data.generators import GENERATORS, draw_mask
from dfloc.errors import ConfigError, DataError

COUNTS = {"train": 9, "valid": 4, "test": 5}
# Over names and sha256 of the files, written by dfloc at c4fa48b, before `renoise-full`.
BEFORE = "3e61dbb54bc6488bdc50fcebb6610b4352e9c3c5751a12f4af6d6c4148c2f674"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini")
    mini.make(out, **COUNTS)
    return out


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_layout_is_that_of_dolos_and_all_domains_have_the_same_crops(root: Path) -> None:
    assert {path.name for path in (root / "mini" / "fake").iterdir()} == {
        "telea",
        "reencode",
        "renoise",
        "checkerboard",
        "renoise-full",
    }
    for split, count in COUNTS.items():
        real = _names(root / "mini" / "real" / split)
        assert len(real) == count
        for generator in GENERATORS:
            assert _names(root / "mini" / "fake" / generator / "images" / split) == real
            assert _names(root / "mini" / "fake" / generator / "masks" / split) == real
        assert _names(root / "mini" / "fake" / "renoise-full" / split) == real


def test_the_bytes_of_four_generators_and_the_reals_are_those_before_there_were_wholly_generated_images(
    root: Path,
) -> None:
    old = {name: data for name, data in sorted(_files(root).items()) if "renoise-full" not in name}
    lines = "".join(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in old.items())
    assert len(old) == 162
    assert hashlib.sha256(lines.encode()).hexdigest() == BEFORE, "trials are kept under digests of these bytes"


def test_a_wholly_generated_image_is_the_generators_under_a_mask_of_ones(root: Path) -> None:
    for real in sorted((root / "mini" / "real").rglob("*.png")):
        image = _read(real).astype(float)
        made = _read(root / "mini/fake/renoise-full" / real.parent.name / real.name).astype(float)
        part = _read(root / "mini/fake/renoise/images" / real.parent.name / real.name).astype(float)
        assert made.shape == image.shape
        edges = [made[:8], made[-8:], made[:, :8], made[:, -8:]]
        beside = [image[:8], image[-8:], image[:, :8], image[:, -8:]]
        changed = [(one != other).any(axis=2).mean() for one, other in zip(edges, beside, strict=True)]
        assert min(changed) > 0.9, "all over, not under a drawn mask"
        left = cv2.GaussianBlur(image, (0, 0), 1.2)
        inside = (left > 15) & (left < 240)  # no clipping
        assert (made - left)[inside].std() == pytest.approx(3, rel=0.1)
        assert (made != part).any(), "its noise is its own"
    kinds = {(s.domain, s.mask_kind) for s in dolos.scan(root)}
    assert ("mini/renoise-full", "generated") in kinds
    assert len(kinds) == 6


def test_data_of_the_version_before_get_what_they_lack_and_keep_the_rest(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "old")
    shutil.rmtree(tmp_path / "old/mini/fake/renoise-full")
    marker = tmp_path / "old" / "mini.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"semantics": 1}))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "old").rglob("*.png")}
    mini.make(tmp_path / "old", **COUNTS)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "an import looks at times"
    assert _files(tmp_path / "old") == _files(root)
    assert json.loads(marker.read_text()) == json.loads((root / "mini.json").read_text())
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"semantics": 3}))
    with pytest.raises(DataError, match="other mini data"):
        mini.make(tmp_path / "old", **COUNTS)


def test_no_generator_of_ones_own_takes_the_name_of_a_built_in_one(tmp_path: Path) -> None:
    for name in ("renoise-full", "renoise", "real"):
        with pytest.raises(ConfigError, match=f"the generator {name} is built in already"):
            mini.make(tmp_path / "out", more={name: GENERATORS["renoise"]})


def test_only_pixels_under_the_mask_change_and_most_of_them_do(root: Path) -> None:
    for real in sorted((root / "mini" / "real").rglob("*.png")):
        image = _read(real)
        assert image.shape == (256, 256, 3)
        for generator in GENERATORS:
            folder = root / "mini" / "fake" / generator
            mask = _read(folder / "masks" / real.parent.name / real.name)
            fake = _read(folder / "images" / real.parent.name / real.name)
            assert mask.shape == (256, 256)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, 255}
            assert 0.05 <= (mask == 0).mean() <= 0.35
            changed = (fake != image).any(axis=2)
            assert not changed[mask == 255].any()
            assert changed[mask == 0].mean() > 0.4, (generator, real.name)


def test_masks_are_the_same_in_all_generators(root: Path) -> None:
    masks = [_files(root / "mini" / "fake" / generator / "masks") for generator in GENERATORS]
    assert all(other == masks[0] for other in masks[1:])


@pytest.mark.parametrize("fold", range(4))
def test_splits_share_no_photograph_and_each_has_colour_scenes(fold: int) -> None:
    splits = [set(mini.photographs(split, fold)) for split in ("train", "valid", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == len(mini.PHOTOGRAPHS)
    assert len(splits[2]) == 4
    for stems in splits:
        images = [mini._read(mini.PHOTOGRAPHS[stem][0]) for stem in stems]
        saturations = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)[..., 1].mean() for image in images]
        assert sum(saturation > 50 for saturation in saturations) >= 2


def test_over_the_folds_each_photograph_is_tested_on_once() -> None:
    tested = [stem for fold in range(4) for stem in mini.photographs("test", fold)]
    assert sorted(tested) == sorted(mini.PHOTOGRAPHS)


def test_the_stereo_pair_is_one_photograph() -> None:
    files = [file for files in mini.PHOTOGRAPHS.values() for file in files]
    assert len(files) == len(set(files))
    assert len(mini.PHOTOGRAPHS["motorcycle"]) == 2


def test_every_photograph_comes_with_the_wheels() -> None:
    shipped = {
        str(file) for package in ("scikit-image", "scikit-learn", "matplotlib") for file in metadata.files(package)
    }
    assert {file for files in mini.PHOTOGRAPHS.values() for file in files} <= shipped


def test_a_crop_depends_on_seed_photograph_and_number_alone(root: Path, tmp_path: Path) -> None:
    mini.make(tmp_path / "less", train=3, valid=1, test=1)
    mini.make(tmp_path / "other", train=3, valid=1, test=1, seed=1)
    files, less, other = _files(root), _files(tmp_path / "less"), _files(tmp_path / "other")
    assert len(less) == 5 * (1 + 2 * 4 + 1)
    assert less.items() <= files.items()
    assert less.keys() == other.keys()
    assert all(less[name] != other[name] for name in less)


def test_a_crop_keeps_its_pixels_when_the_fold_moves_it(root: Path, tmp_path: Path) -> None:
    mini.make(tmp_path / "f", train=2, valid=1, test=4, fold=2)
    astronaut = "mini/fake/renoise/images/{}/astronaut-0.png"
    assert (tmp_path / "f" / astronaut.format("test")).read_bytes() == (root / astronaut.format("train")).read_bytes()


def test_the_same_request_writes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    mini.make(root, **COUNTS)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_interrupted_request_is_finished(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        mini.make(tmp_path / "a", train=4, valid=1, test=1, on_progress=stop)
    (tmp_path / "a" / "mini" / "real" / "train" / "astronaut-0.png").write_bytes(b"torn")
    mini.make(tmp_path / "a", train=4, valid=1, test=1)
    mini.make(tmp_path / "b", train=4, valid=1, test=1)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "mini.json").read_text())["finished"] is True


def test_data_with_another_generator_are_other_data(tmp_path: Path) -> None:
    counts = {"train": 1, "valid": 1, "test": 1}
    mini.make(tmp_path, **counts, more={"copy": lambda image_HWC, mask_HW, rng: image_HWC})
    before = _files(tmp_path)
    with pytest.raises(DataError, match=r"other mini data .*'copy'"):
        mini.make(tmp_path, **counts)
    assert _files(tmp_path) == before


def test_progress_counts_every_crop(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    mini.make(tmp_path, train=2, valid=1, test=1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_other_contents_are_refused_and_left_alone(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other mini data .*'seed': 0.*'seed': 7.*name another folder"):
        mini.make(root, seed=7, **COUNTS)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something that is not the mini data"):
        mini.make(tmp_path, **COUNTS)
    with pytest.raises(DataError, match="holds something"):
        mini.make(tmp_path / "thesis.txt", **COUNTS)
    with pytest.raises(DataError, match="cannot write the mini data"):
        mini.make(tmp_path / "thesis.txt" / "below", **COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"train": 0}, "train .* at least 1 image, not 0"),
        ({"test": -3}, "test .* not -3"),
        ({"fold": 4}, "fold 4 .* use 0 to 3"),
        ({"fold": -1}, "fold -1"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, request_: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mini.make(tmp_path / "out", **request_)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("skimage/data/no_such.png", r"no_such\.png, which is missing or unreadable; reinstall skimage"),
        ("skimage/data/README.txt", r"README\.txt, which is missing or unreadable"),
        ("nopackage/a.png", "needs? the package nopackage, which is not installed"),
    ],
)
def test_a_missing_photograph_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, message: str
) -> None:
    monkeypatch.setattr(mini, "PHOTOGRAPHS", {**mini.PHOTOGRAPHS, "coffee": (file,)})
    with pytest.raises(DataError, match=message):
        mini.make(tmp_path / "out", **COUNTS)
    assert not (tmp_path / "out").exists()


def test_masks_of_every_shape_and_size() -> None:
    areas = [draw_mask(64, np.random.default_rng(seed)).mean() for seed in range(200)]
    assert min(areas) >= 0.05
    assert max(areas) <= 0.35
    assert min(areas) < 0.08
    assert max(areas) > 0.28


FLAT = np.full((64, 64, 3), 100, np.uint8)
MASK = np.zeros((64, 64), bool)
MASK[20:40, 20:40] = True


def test_telea_fills_from_the_surroundings() -> None:
    holed = FLAT.copy()
    holed[MASK] = 255
    filled = GENERATORS["telea"](holed, MASK, np.random.default_rng(0)).astype(int)
    assert abs(filled - 100).max() <= 5


def test_reencode_keeps_a_flat_image_and_loses_detail_of_a_fine_one() -> None:
    rng = np.random.default_rng(0)
    assert abs(GENERATORS["reencode"](FLAT, MASK, rng).astype(int) - 100).max() <= 1
    fine = rng.integers(60, 190, FLAT.shape).astype(np.uint8)
    assert GENERATORS["reencode"](fine, MASK, rng).std() < 0.7 * fine.std()


def test_renoise_adds_white_noise_of_deviation_3() -> None:
    noise = GENERATORS["renoise"](FLAT, MASK, np.random.default_rng(0)).astype(float) - 100
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(3, rel=0.05)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.03


def test_checkerboard_alternates_by_two_per_cent() -> None:
    inner = GENERATORS["checkerboard"](FLAT, MASK, np.random.default_rng(0))[2:-2, 2:-2]
    assert set(np.unique(inner[::2, ::2])) == {102}
    assert set(np.unique(inner[::2, 1::2])) == {98}
    assert set(np.unique(inner[1::2, 1::2])) == {102}
