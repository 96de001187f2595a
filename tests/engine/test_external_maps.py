"""Maps of another tool: what is read, how it is scored, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfloc import metrics
from dfloc.data.manifest import SampleRef
from dfloc.engine import external_maps
from dfloc.errors import DataError
from tests.cases.masks import CASES, encoded, two
from tests.engine.conftest import SIZES, Data

LISTED = ("png8", "png16", "npy")


def lists(data: Data) -> dict[str, list[SampleRef]]:
    return {"a/one": data.samples}


def drawn(seed: int = 0) -> list[np.ndarray]:
    """Smooth maps, one for each image, of half its size."""
    draw = np.random.default_rng(seed)
    return [draw.random((height // 2, width // 2)).astype(np.float32) for height, width in SIZES]


def write(folder: Path, probs: list[np.ndarray], how: str = "npy", pattern: str = "{}") -> Path:
    for k, prob in enumerate(probs):
        path = folder / pattern.format(k)
        path.parent.mkdir(parents=True, exist_ok=True)
        if how == "npy":
            np.save(path.with_name(f"{path.name}.npy"), prob)
        else:
            scale, kind = (255, np.uint8) if how == "png8" else (65535, np.uint16)
            Image.fromarray(np.round(prob * scale).astype(kind)).save(path.with_name(f"{path.name}.png"))
    return folder


@pytest.mark.parametrize("how", LISTED)
@pytest.mark.parametrize("protocol", ["declip-2025", "dolos-2024", "dfloc-1"])
def test_rows_are_the_protocols_numbers_of_the_maps(data: Data, tmp_path: Path, how: str, protocol: str) -> None:
    scale = {"png8": 255, "png16": 65535}.get(how)
    probs = [np.round(p * scale) / scale if scale else p for p in drawn()]
    rows = external_maps.score(write(tmp_path / "m", probs, how), lists(data), data.folder, protocol)[
        "a/one"
    ].to_pylist()
    assert [row["id"] for row in rows] == [ref.id for ref in data.samples]
    for row, prob, fake in zip(rows, probs, data.fake, strict=True):
        given = torch.from_numpy(prob.astype(np.float32))[None], torch.from_numpy(fake)[None]
        expected = metrics.score(*given, protocol) | metrics.counts(*given, protocol)
        for key, value in expected.items():
            np.testing.assert_allclose(row[key], value[0].tolist(), rtol=1e-6, err_msg=key)
        assert (row["protocol"], row["condition"], row["split"]) == (protocol, "clean", "train")
        assert row["checkpoint"] == "none"
        assert row["trial"].startswith("maps:")


def test_the_truth_itself_is_perfect_and_its_inverse_is_not(data: Data, tmp_path: Path) -> None:
    truth = write(tmp_path / "t", [fake.astype(np.float32) for fake in data.fake], "png8")
    inverse = write(tmp_path / "i", [1 - fake.astype(np.float32) for fake in data.fake], "png8")
    for folder, iou in ((truth, 1), (inverse, 0)):
        table = external_maps.score(folder, lists(data), data.folder, "dfloc-1")["a/one"]
        assert table["iou"].to_pylist() == [iou] * len(SIZES)


@pytest.mark.parametrize("pattern", ["{}.png", "a/one/{}", "a/one/train/{}", "{}.prob"])
def test_names_that_are_understood(data: Data, tmp_path: Path, pattern: str) -> None:
    plain = external_maps.score(write(tmp_path / "m", drawn()), lists(data), data.folder, "dolos-2024")["a/one"]
    other = external_maps.score(
        write(tmp_path / "n", drawn(), pattern=pattern), lists(data), data.folder, "dolos-2024"
    )["a/one"]
    assert other.equals(plain)
    changed = external_maps.score(write(tmp_path / "o", drawn(1)), lists(data), data.folder, "dolos-2024")["a/one"]
    assert changed["trial"][0] != plain["trial"][0], "other maps are another name"


def test_what_predict_wrote_beside_its_maps_is_passed_over(data: Data, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", drawn(), "png8", "{}.prob")
    for k in range(len(SIZES)):
        Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / f"{k}.overlay.png")
        (folder / f"{k}.json").write_text("{}")
    assert len(external_maps.score(folder, lists(data), data.folder, "dfloc-1")["a/one"]) == len(SIZES)


def test_several_domains_are_told_apart_by_folders(data: Data, tmp_path: Path) -> None:
    moved = [ref._replace(id=f"b/two/train/{k}.png", domain="b/two") for k, ref in enumerate(data.samples[3:])]
    two = {"a/one": data.samples[:3], "b/two": moved}
    for domain, refs in two.items():
        write(tmp_path / "m", drawn()[: len(refs)], pattern=f"{domain}/{{}}")
    found = external_maps.score(tmp_path / "m", two, data.folder, "dolos-2024")
    assert [found[domain]["id"].to_pylist() for domain in two] == [[ref.id for ref in refs] for refs in two.values()]
    with pytest.raises(DataError, match=r"3 of no image: 0\.npy.*6 missing: a/one/train/0\.png"):
        external_maps.score(write(tmp_path / "n", drawn()[:3]), two, data.folder, "dolos-2024")


def test_every_fault_is_named_in_one_error(data: Data, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", drawn(), "npy")
    (folder / "0.npy").unlink()
    np.save(folder / "1.npy", np.full((4, 4), np.nan))
    np.save(folder / "2.npy", np.full((4, 4), 1.5))
    np.save(folder / "3.npy", np.zeros((4, 4, 3)))
    (folder / "4.npy").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(folder / "4.png")
    (folder / "5.npy").write_bytes((folder / "5.npy").read_bytes()[:100])
    np.save(folder / "other.npy", np.zeros((4, 4)))
    with pytest.raises(DataError) as told:
        external_maps.score(folder, lists(data), data.folder, "dfloc-1")
    for fault in (
        "1 missing: a/one/train/0.png",
        "1 NaN or infinite: 1.npy",
        "1 outside [0, 1]: 2.npy",
        "1 float64 [4, 4, 3] instead of floats [height, width]: 3.npy",
        "1 in colours: 4.png",
        "1 no .npy array that can be read: 5.npy",
        "1 of no image: other.npy",
        "Expected for each image one NAME.png",
    ):
        assert fault in str(told.value)
    assert "\n" not in str(told.value)


def test_faults_that_come_alone(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .* of maps"):
        external_maps.score(tmp_path / "gone", lists(data), data.folder, "dfloc-1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"6 missing: a/one/train/0.png, .* and 3 more"):
        external_maps.score(tmp_path / "empty", lists(data), data.folder, "dfloc-1")
    folder = write(tmp_path / "m", drawn())
    shutil.copy(folder / "0.npy", folder / "0.png.npy")
    with pytest.raises(DataError, match=r"1 a second one of its image: 0\.png\.npy"):
        external_maps.score(folder, lists(data), data.folder, "dfloc-1")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 4), np.uint8), "uint8"),
        (np.array(["x"], object), "no .npy array"),
        (np.zeros((0, 4)), r"\[0, 4\]"),
        (np.full((2, 2), -0.5), "outside"),
        (np.full((2, 2), np.inf), "NaN or infinite"),
    ],
)
def test_arrays_that_are_no_maps(values: np.ndarray, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=said):
        external_maps.read(tmp_path / "m.npy")


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = (grey / 255).astype(np.float32)
    same = {
        "L": Image.fromarray(grey),
        "RGB": Image.fromarray(grey).convert("RGB"),
        "RGBA": Image.fromarray(grey).convert("RGBA"),
        "P": Image.fromarray(grey).convert("P"),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
    }
    for name, image in same.items():
        image.save(tmp_path / "m.png")
        np.testing.assert_array_equal(external_maps.read(tmp_path / "m.png"), expected, err_msg=name)
    Image.fromarray(grey > 99).save(tmp_path / "m.png")
    np.testing.assert_array_equal(external_maps.read(tmp_path / "m.png"), (grey > 99).astype(np.float32))
    Image.merge("LA", [Image.fromarray(grey)] * 2).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="transparent"):
        external_maps.read(tmp_path / "m.png")
    (tmp_path / "m.png").write_bytes((tmp_path / "m.png").read_bytes()[:50])
    with pytest.raises(DataError, match="no whole image"):
        external_maps.read(tmp_path / "m.png")


def test_a_map_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "m.npy", np.zeros((5, 5), np.float32))
    monkeypatch.setattr(external_maps, "MAX_PIXELS", 24)
    with pytest.raises(DataError, match=r"\[5, 5\]"):
        external_maps.read(tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000)}", b"\0" * 64),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", b"\0" * 64),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}", b"\0" * 64),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", b""),
        ("{'descr': '<f4', 'shape': " + "(" * 3000 + "}", b"\0" * 64),
        ("{" + "[" * 200 + "}", b"\0" * 64),
    ],
    ids=["huge", "negative", "objects", "cut", "deep", "shallow"],
)
def test_a_hostile_array_is_refused(tmp_path: Path, header: str, data: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data)
    with pytest.raises(DataError, match=r"no \.npy array that can be read"):
        external_maps.read(path)


def test_an_archive_or_a_pickle_named_npy_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", map=drawn()[0])
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    for path in ((tmp_path / "a.npz").rename(tmp_path / "a.npy"), tmp_path / "b.npy"):
        with pytest.raises(DataError, match=r"no \.npy array that can be read"):
            external_maps.read(path)


def turned_picture(turn: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = turn
    return encoded(np.arange(256, dtype=np.uint8).reshape(16, 16), exif=tags)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(two(0, 1)), "^values 0 and 1, of 255"),
        (encoded(two(0, 100)), "^values 0 and 100, of 255"),
        (encoded(two(1, 2)), "^values 1 and 2, of 255"),
        (encoded(two(1, 1)), "^value 1 alone, of 255"),
        (encoded(two(0, 1, np.uint16)), "^values 0 and 1, of 65535"),
        (encoded(two(0, 255, np.uint16)), "^values 0 and 255, of 65535"),
        (encoded(two(255, 255, np.uint16)), "^value 255 alone, of 65535"),
        (CASES["black palette"]().data, "a palette that shows as one its palette indices 0 and 1$"),
        (CASES["float"]().data, "^floating-point values 0 and 1$"),
        (CASES["32 bits, large"]().data, "^32-bit values 7 and 70000$"),
        (CASES["red"]().data, "^in colours$"),
        (CASES["alpha"]().data, "^transparent$"),
        (CASES["16 bits a channel, 0/255"]().data, "16 bits a channel"),
        (turned_picture(3), "EXIF"),
    ],
)
def test_pictures_that_are_no_maps(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(data)
    with pytest.raises(DataError, match=said):
        external_maps.read(tmp_path / "m.png")


@pytest.mark.parametrize("values", [(0, 0), (178, 178), (0, 255), (5, 250), (0, 1, 2), (0, 40, 100), (255, 255)])
def test_real_maps_in_grey_are_taken(values: tuple[int, ...], tmp_path: Path) -> None:
    """A model may say little everywhere, or one thing."""
    grey = np.resize(np.array(values, np.uint8), (8, 8))
    Image.fromarray(grey).save(tmp_path / "m.png")
    np.testing.assert_array_equal(external_maps.read(tmp_path / "m.png"), (grey / 255).astype(np.float32))


def write_archives(folder: Path, **more: np.ndarray) -> Path:
    folder.mkdir()
    for k, prob in enumerate(drawn()):
        np.savez(folder / f"{k}.png.npz", **{"map": prob, **more})
    return folder


@pytest.mark.parametrize("more", [{}, {"conf": np.ones((4, 4)), "score": np.array(0.7), "imgsize": np.array([4, 4])}])
def test_archives_of_maps(more: dict[str, np.ndarray], data: Data, tmp_path: Path) -> None:
    """TruFor: `map` among others; what these are is not looked at."""
    plain = external_maps.score(write(tmp_path / "m", drawn()), lists(data), data.folder, "dolos-2024")["a/one"]
    found = external_maps.score(write_archives(tmp_path / "n", **more), lists(data), data.folder, "dolos-2024")["a/one"]
    assert found.equals(plain)


def test_the_only_map_of_an_archive_has_any_name(tmp_path: Path) -> None:
    prob = drawn()[0]
    np.savez_compressed(
        tmp_path / "m.npz", pred=prob.astype(np.float64), score=np.array(0.7), labels=np.zeros((4, 4), int)
    )
    np.testing.assert_array_equal(external_maps.read(tmp_path / "m.npz"), prob)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "an archive of nothing; expected one map"),
        ({"pred": np.zeros((4, 4)), "conf": np.ones((4, 4))}, "an archive of pred, conf; expected one map"),
        ({"score": np.array(0.5)}, "an archive of score; expected one map"),
        ({"map": np.zeros((4, 4), np.uint8), "pred": np.zeros((4, 4))}, r"uint8 \[4, 4\] instead of floats"),
        ({"map": np.zeros((4, 4, 2))}, r"float64 \[4, 4, 2\] instead of floats"),
        ({"map": np.array([[object()]])}, r"object \[1, 1\] instead of floats"),
        ({"map": np.full((4, 4), 2.0)}, "outside"),
        ({"map": np.full((4, 4), np.nan)}, "NaN"),
    ],
)
def test_archives_without_a_map(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=said):
        external_maps.read(tmp_path / "m.npz")


def test_archives_that_are_damaged_or_huge(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez_compressed(path, map=np.zeros((9000, 9000), np.float16))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"\[9000, 9000\] instead"):
        external_maps.read(path)
    np.savez(path, map=drawn()[0])
    whole = path.read_bytes()
    for data in (whole[:100], whole[:-30], b"", b"PK", whole.replace(b"NUMPY", b"NUMBY")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"no \.npz archive that can be read"):
            external_maps.read(path)
