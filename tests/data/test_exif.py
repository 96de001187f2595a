"""Images that EXIF turns, and masks that lie on the stored or on the shown grid: truth and image are turned alike."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from upath import UPath

from dfloc.data import exif
from dfloc.data.dolos import Sample
from dfloc.data.manifest import SampleRef, ShardInfo, list_digest, read_areas, read_shard
from dfloc.data.shards import decode_image, open_image, orientation, read_truth
from dfloc.data.writer import ShardJob, ShardReceipt, write_shard
from dfloc.engine import external_maps
from dfloc.errors import DataError
from dfloc.features.extract import _decode
from dfloc.features.store import target

HEIGHT, WIDTH = 64, 96
TURNS = (2, 3, 4, 5, 6, 7, 8)
CORNER = np.zeros((HEIGHT, WIDTH), np.uint8)
CORNER[4:24, 6:50] = 255


def save(path: Path, pixels: np.ndarray, turn: int = 1) -> Path:
    tags = Image.Exif()
    tags[0x0112] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"exif": tags} if turn != 1 else {}))
    return path


def shown(pixels: np.ndarray, turn: int) -> np.ndarray:
    """What Pillow shows of a file with that tag."""
    tags = Image.Exif()
    tags[0x0112] = turn
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=tags)
    return np.asarray(ImageOps.exif_transpose(Image.open(buffer)))


def photo(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def sample(image: Path, mask: Path, **more: object) -> Sample:
    name = f"my/sd/test/{image.name}"
    return Sample(name, f"my/{image.stem}", f"my/{image.stem}", "my/sd", "test", image, mask, "fake_is_white")._replace(
        **more
    )


def write(root: Path, *samples: Sample) -> tuple[ShardReceipt, list[SampleRef]]:
    receipt = write_shard(ShardJob(UPath(root / "0.parquet"), samples))
    info = ShardInfo(path="0.parquet", digest="d", groups=tuple(receipt.groups))
    return receipt, read_shard(UPath(root), info, "my/sd", "test") if receipt.groups else []


@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("turn", [1, *TURNS])
def test_turns_are_those_of_a_viewer(kind: str, turn: int, tmp_path: Path) -> None:
    path = save(tmp_path / f"m.{kind}", CORNER, turn)
    picture = open_image(path.read_bytes())
    assert picture.orientation == turn
    stored = exif.onto(np.asarray(picture.image.convert("L")), turn, 1) > 127
    np.testing.assert_array_equal(exif.turned(CORNER, turn), shown(CORNER, turn))
    assert (stored == (CORNER > 127)).mean() > 0.95, "lossy at the edges"


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
@pytest.mark.parametrize("way", ["stored", "shown"])
def test_a_size_that_fits_one_way_decides(way: str, turn: int, tmp_path: Path) -> None:
    image = save(tmp_path / "i.png", photo(), turn)
    mask = save(tmp_path / "m.png", CORNER if way == "stored" else shown(CORNER, turn))
    receipt, (ref,) = write(tmp_path, sample(image, mask))
    assert receipt.rejected == []
    assert ref.way == way
    (row,) = pq.read_table(tmp_path / "0.parquet").to_pylist()
    assert (row["exif"], row["width"], row["height"]) == (way, HEIGHT, WIDTH)
    assert row["mask"]["bytes"] == mask.read_bytes(), "the bytes stay"
    (truth,) = read_truth(UPath(tmp_path), [ref])
    np.testing.assert_array_equal(truth, shown(CORNER, turn))
    assert read_areas(UPath(tmp_path), _split(ref)) == [np.mean(CORNER > 0)]
    (decoded,) = _decode(UPath(tmp_path), "0.parquet", 0, None)
    np.testing.assert_array_equal(decoded.image, decode_image(image.read_bytes()))
    np.testing.assert_array_equal(decoded.target, target(shown(CORNER, turn)))


def _split(ref: SampleRef) -> object:
    class Split:
        shards = (ShardInfo(path=ref.shard, digest="d", groups=(1,)),)

    return Split()


@pytest.mark.parametrize("turn", [2, 3, 4])
def test_where_both_ways_fit_the_user_is_asked(turn: int, tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.jpg", photo(), turn), save(tmp_path / "m.png", CORNER)
    receipt, _ = write(tmp_path, sample(image, mask))
    (reject,) = receipt.rejected
    assert reject.reason.startswith("mask: an EXIF orientation")
    assert "--masks-are stored" in reject.reason
    for way, expected in (("stored", shown(CORNER, turn)), ("shown", CORNER)):
        receipt, (ref,) = write(tmp_path, sample(image, mask, masks_are=way))
        assert (receipt.rejected, ref.way) == ([], way)
        np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], expected)


@pytest.mark.parametrize("turn", [3, 6])
def test_a_square_is_as_doubtful(turn: int, tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", photo()[:, :64], turn), save(tmp_path / "m.png", CORNER[:, :64])
    receipt, _ = write(tmp_path, sample(image, mask))
    assert "EXIF" in receipt.rejected[0].reason


@pytest.mark.parametrize("turn", [2, 3, 4])
@pytest.mark.parametrize("way", ["stored", "shown"])
def test_an_original_decides(way: str, turn: int, tmp_path: Path) -> None:
    pixels = photo()
    pixels[CORNER > 0] = 255 - pixels[CORNER > 0]
    image, original = save(tmp_path / "i.png", pixels, turn), save(tmp_path / "o.png", photo(), turn)
    mask = save(tmp_path / "m.png", CORNER if way == "stored" else shown(CORNER, turn))
    receipt, (ref,) = write(tmp_path, sample(image, mask, original=original))
    assert (receipt.rejected, ref.way) == ([], way)
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], shown(CORNER, turn))


def test_an_original_that_shows_nothing_decides_nothing(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", photo(), 3), save(tmp_path / "m.png", CORNER)
    for original in (photo(1), photo()):
        path = save(tmp_path / "o.png", original, 3)
        receipt, _ = write(tmp_path, sample(image, mask, original=path))
        assert "--masks-are" in receipt.rejected[0].reason


def test_what_needs_no_decision(tmp_path: Path) -> None:
    """A mask that is the same both ways, one with the tag of its image, and images without a mask."""
    turned = save(tmp_path / "i.jpg", photo(), 3)
    for number, pixels in enumerate((CORNER * 0, CORNER | 255, np.maximum(CORNER, CORNER[::-1, ::-1]))):
        mask = save(tmp_path / f"m{number}.png", pixels)
        receipt, (ref,) = write(tmp_path, sample(turned, mask))
        assert (receipt.rejected, ref.way) == ([], "shown")
    alike = save(tmp_path / "both.png", CORNER, 3)
    for way in ("stored", "shown", None):
        receipt, (ref,) = write(tmp_path, sample(turned, alike, masks_are=way))
        np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], shown(CORNER, 3))
    for kind in ("real", "generated"):
        receipt, (ref,) = write(tmp_path, sample(turned, alike)._replace(mask=None, mask_kind=kind))
        assert (receipt.rejected, ref.way) == ([], "")


def test_a_mask_with_a_tag_of_its_own_is_no_less_doubtful(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", photo()), save(tmp_path / "m.png", CORNER, 3)
    assert "EXIF" in write(tmp_path, sample(image, mask))[0].rejected[0].reason
    _, (ref,) = write(tmp_path, sample(image, mask, masks_are="stored"))
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], CORNER)
    on_its_side = save(tmp_path / "m.png", CORNER, 6)
    _, (ref,) = write(tmp_path, sample(image, on_its_side))
    assert ref.way == "stored", "only the stored pixels have the image's size"
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], CORNER)


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_masks_of_every_format_with_a_tag(kind: str, tmp_path: Path) -> None:
    image = save(tmp_path / "i.tif", photo(), 6)
    path = tmp_path / f"m.{kind}"
    tags = Image.Exif()
    tags[0x0112] = 6
    options = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(CORNER).save(path, exif=tags, **options)
    _, (ref,) = write(tmp_path, sample(image, path))
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], shown(CORNER, 6))


def test_a_tag_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    plain, tagged = (save(tmp_path / f"{turn}.png", photo(), turn).read_bytes() for turn in (1, 6))
    start = tagged.index(b"eXIf") - 4
    chunk = tagged[start : start + 12 + int.from_bytes(tagged[start : start + 4], "big")]
    data = plain[:-12] + chunk + plain[-12:]
    assert orientation(data) == 6
    np.testing.assert_array_equal(decode_image(data), shown(photo(), 6))
    assert orientation(plain) == 1


def test_what_does_not_fit_as_it_is_said_to_is_a_reject(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", photo(), 6), save(tmp_path / "m.png", CORNER)
    receipt, _ = write(tmp_path, sample(image, mask, masks_are="shown"))
    assert "mask of 96x64 for an image of 64x96 pixels (of shown masks" in receipt.rejected[0].reason


def test_a_tag_that_is_no_orientation_is_none(tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", CORNER)
    for turn in (0, 9, 77):
        receipt, (ref,) = write(tmp_path, sample(save(tmp_path / "i.png", photo(), turn), mask))
        assert (receipt.rejected, ref.way) == ([], "")


def test_the_digest_of_a_list_has_the_way_where_one_was_applied(tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", CORNER)
    turned, plain = save(tmp_path / "a.png", photo(), 3), save(tmp_path / "b.png", photo(1))
    _, refs = write(tmp_path, sample(turned, mask, masks_are="stored"), sample(plain, mask, masks_are="stored"))
    image_sha = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (turned, plain)]
    mask_sha = hashlib.sha256(mask.read_bytes()).hexdigest()
    first = ["my/sd/test/a.png", image_sha[0], mask_sha, "fake_is_white"]
    second = "\x1f".join(["my/sd/test/b.png", image_sha[1], mask_sha, "fake_is_white"])
    for way, lines in (("stored", [*first, "stored"]), ("shown", [*first, "shown"]), ("", first)):
        expected = hashlib.sha256(("\x1f".join(lines) + "\n" + second + "\n").encode()).hexdigest()
        assert list_digest([refs[0]._replace(way=way), refs[1]]) == expected  # type: ignore[arg-type]
    assert [ref.way for ref in refs] == ["stored", ""]


def test_shards_from_before_are_read_as_before(tmp_path: Path) -> None:
    """They have no such column: image and mask are each turned by their own tag."""
    image, mask = save(tmp_path / "i.png", photo(), 3), save(tmp_path / "m.png", CORNER)
    write(tmp_path, sample(image, mask, masks_are="shown"))
    path = tmp_path / "0.parquet"
    table = pq.read_table(path).drop_columns(["exif"])
    pq.write_table(table, path)
    (ref,) = read_shard(UPath(tmp_path), ShardInfo(path="0.parquet", digest="d", groups=(1,)), "my/sd", "test")
    assert ref.way == ""
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), [ref])[0], CORNER)
    (decoded,) = _decode(UPath(tmp_path), "0.parquet", 0, None)
    np.testing.assert_array_equal(decoded.target, target(CORNER))


def test_maps_lie_as_the_image_is_shown(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "i.png", photo(), 6), save(tmp_path / "m.png", CORNER)
    _, refs = write(tmp_path, sample(image, mask))
    prob = (CORNER / 255).astype(np.float32)
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/i.npy", shown(CORNER, 6).astype(np.float32) / 255)
    (row,) = external_maps.score(tmp_path / "maps", {"my/sd": refs}, UPath(tmp_path), "dfloc-1")["my/sd"].to_pylist()
    assert row["iou"] == 1
    np.save(tmp_path / "maps/i.npy", prob)
    with pytest.raises(DataError, match=r"lying on its side \(EXIF orientation\): my/sd/test/i\.png"):
        external_maps.score(tmp_path / "maps", {"my/sd": refs}, UPath(tmp_path), "dfloc-1")
