"""Which masks are taken, under which words, and what is said of the others."""

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from upath import UPath

from dfloc import digests
from dfloc.data import masks
from dfloc.data.dolos import Sample, kind
from dfloc.data.manifest import DomainInfo, ShardInfo, read_shard
from dfloc.data.shards import decode_image, fakeness, open_mask, read_truth
from dfloc.data.writer import ShardJob, write_shard
from dfloc.errors import ConfigError, DataError
from dfloc.features.extract import _decode
from tests.cases.masks import (
    AREA,
    CASES,
    CONSTANT,
    FAKE,
    HEIGHT,
    ONLY_NOW,
    WIDTH,
    ZERO,
    Case,
    disc,
    encoded,
    three,
    transparent,
    two,
    white_is_zero,
)


def entered(data: bytes, said: str) -> np.ndarray:
    """The truth of a mask as it is imported."""
    return fakeness(data, masks.kind_of(said), HEIGHT, WIDTH, new=True)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_is_taken_where_its_values_are_said_and_refused_by_them_where_not(name: str) -> None:
    case: Case = CASES[name]()
    for said in case.told:
        found = entered(case.data, said) > 127
        np.testing.assert_array_equal(found, FAKE, err_msg=said)
        assert found.mean() == AREA
    if case.refused is not None:
        for said in ("white", "black"):
            with pytest.raises(DataError, match=case.refused):
                entered(case.data, said)
    else:
        np.testing.assert_array_equal(entered(case.data, "black") > 127, ~FAKE)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]().refused and name not in ONLY_NOW])
def test_what_old_shards_hold_of_them_is_never_read_as_real(name: str) -> None:
    """Where the sides are clear it is read as before, else it is refused."""
    case = CASES[name]()
    try:
        found = fakeness(case.data, "fake_is_white", HEIGHT, WIDTH)
    except DataError:
        return
    assert (found > 127).mean() == AREA


@pytest.mark.parametrize("name", CONSTANT)
def test_masks_of_one_value(name: str) -> None:
    data, expected = CONSTANT[name]()
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            entered(data, "white")
    else:
        assert (entered(data, "white") > 127).mean() == expected
        assert (entered(data, "black") > 127).mean() == 1 - expected
        assert (fakeness(data, "fake_is_white", HEIGHT, WIDTH) > 127).mean() == expected


@pytest.mark.parametrize("quality", [5, 30, 60, 90])
@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_grey_near_both_ends_keeps_its_bytes(quality: int, sigma: int) -> None:
    smooth = cv2.GaussianBlur(two(0, 255), (0, 0), sigma) if sigma else two(0, 255)
    for data in (encoded(smooth), encoded(smooth, "JPEG", quality=quality), encoded(smooth, "WEBP", quality=quality)):
        image = Image.open(io.BytesIO(data))
        expected = np.asarray(image.convert("RGB").convert("L") if image.mode != "L" else image)
        np.testing.assert_array_equal(entered(data, "white"), expected)
        np.testing.assert_array_equal(fakeness(data, "fake_is_black", HEIGHT, WIDTH), 255 - expected)


@pytest.mark.parametrize("coding", ["JPEG", "WEBP"])
@pytest.mark.parametrize(("low", "high"), [(0, 130), (0, 160), (0, 200), (60, 255), (100, 255)])
def test_lossy_masks_of_grey_and_black_or_white_are_refused_now(coding: str, low: int, high: int) -> None:
    """Between them their edges count as the other side: of 0/130 fifteen per cent of the disc."""
    for quality in (5, 30, 75, 95):
        data = encoded(disc(low, high), coding, quality=quality)
        for said in ("white", "black"):
            with pytest.raises(DataError, match=r"values \w+ .*; save masks in black and white, as PNG"):
                entered(data, said)
        fakeness(data, "fake_is_white", HEIGHT, WIDTH)


def test_lossy_labels_in_the_middle_are_refused_now() -> None:
    labels = np.repeat(np.repeat(three(0, 255, 128), 8, axis=0), 8, axis=1)
    for coding in ("JPEG", "WEBP"):
        data = encoded(labels, coding, quality=75)
        with pytest.raises(DataError, match="areas of grey between black and white"):
            fakeness(data, "fake_is_white", *labels.shape, new=True)


@pytest.mark.parametrize("coding", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [1, 3, 5, 10, 20, 50, 75, 95])
def test_black_and_white_of_any_quality_shape_and_softness_is_taken(coding: str, quality: int) -> None:
    rows, columns = np.indices((256, 320))
    away = np.hypot(rows - 120, columns - 150)
    hard = [np.where(away < radius, 255.0, 0) for radius in (6, 13, 40, 80)]
    bars = [np.where(abs(rows - 61) < width, 255.0, 0) for width in (3, 7, 12)]
    soft = [cv2.GaussianBlur(hard[-1], (0, 0), sigma) for sigma in (1, 8, 15, 25)]
    grown = [cv2.resize(np.where(hard[-1] > 0, 255.0, 0)[::8, ::8], (320, 256), interpolation=way) for way in (1, 2, 3)]
    for number, mask in enumerate([*hard, *bars, *soft, *grown, 255 - hard[-2], np.clip(255 - 1.5 * away, 0, 255)]):
        pixels = np.clip(np.rint(mask), 0, 255).astype(np.uint8)
        fake = fakeness(encoded(pixels, coding, quality=quality), "fake_is_white", 256, 320, new=True) > 127
        assert abs(fake.mean() - (mask > 127).mean()) < 0.08, number


def test_greys_of_a_mask_that_grew_are_edges() -> None:
    """Few values, but none of them fills an area."""
    pixels = np.where(np.arange(320) < 160, 0, 255).astype(np.uint8)[None].repeat(64, axis=0)
    grown = np.asarray(Image.fromarray(pixels[::8, ::8]).resize((320, 64), Image.Resampling.BILINEAR))
    assert 2 < len(np.unique(grown)) <= 16
    np.testing.assert_array_equal(fakeness(encoded(grown), "fake_is_white", 64, 320, new=True), grown)


def test_what_enters_now_is_no_tiff_that_pillow_shows_inverted() -> None:
    """Of 8 bits it turns white-is-zero over, of more it does not; what shards have is read as it was."""
    deep = white_is_zero(two(65535, 0, np.uint16))
    for said in ("white", "nonzero", "1"):
        with pytest.raises(DataError, match="WhiteIsZero"):
            entered(deep, said)
    with pytest.raises(DataError, match="WhiteIsZero"):
        decode_image(deep, new=True)
    np.testing.assert_array_equal(fakeness(deep, "fake_is_white", HEIGHT, WIDTH), two(255, 0))
    np.testing.assert_array_equal(decode_image(deep)[..., 0], two(255, 0))
    np.testing.assert_array_equal(decode_image(white_is_zero(two(255, 0)), new=True)[..., 0], two(0, 255))


def test_an_image_that_pillow_shows_inverted_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "i.tif").write_bytes(white_is_zero(two(65535, 0, np.uint16)))
    (tmp_path / "m.png").write_bytes(encoded(two(0, 255)))
    paths = tmp_path / "i.tif", tmp_path / "m.png"
    sample = Sample("m/s/test/i.tif", "i", "i", "m/s", "test", *paths, "fake_is_white")
    receipt = write_shard(ShardJob(UPath(tmp_path / "0.parquet"), [sample]))
    assert receipt.num_rows == 0
    assert "WhiteIsZero" in receipt.rejected[0].reason


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_values_of_modes_that_are_converted_cannot_be_said(mode: str) -> None:
    """In CMYK nothing but ink is 0, in Lab nothing grey is: `nonzero` would be all, or the wrong side."""
    fake = two(0, 255)
    bands = {"CMYK": (ZERO, ZERO, ZERO, fake), "LAB": (fake, ZERO + 128, ZERO + 128), "YCbCr": (fake, ZERO, ZERO)}
    data = encoded(Image.merge(mode, [Image.fromarray(band) for band in bands[mode]]), "TIFF")
    for said in ("nonzero", "255", "0xffffff"):
        with pytest.raises(DataError, match=f"a {mode} mask, of which no values can be said; save masks as 8-bit PNG"):
            entered(data, said)
        fakeness(data, masks.kind_of(said), HEIGHT, WIDTH)


def test_a_value_says_one_label_of_many() -> None:
    data = encoded(three(0, 1, 2))
    assert (entered(data, "1,2") > 0).sum() == FAKE.sum() + 10 * 40
    assert (entered(data, "2") > 0).sum() == 10 * 40
    assert not entered(data, "3").any(), "no pixel has it: a label that this image has not"
    palette = Image.fromarray(three(0, 1, 2), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    assert (entered(encoded(palette), "1") > 0).sum() == FAKE.sum(), "the index"
    assert (entered(encoded(palette), "0x0000ff") > 0).sum() == 10 * 40, "the colour"
    assert (entered(encoded(palette.convert("RGB")), "0xff0000") > 0).sum() == FAKE.sum()


@pytest.mark.parametrize(
    ("data", "said", "words"),
    [
        (encoded(Image.fromarray(FAKE)), "255", "values 0 and 1, of which none can be 255"),
        (encoded(two(0, 255)), "65535", "values 0 and 255, of which none can be 65535"),
        (encoded(two(0, 255)), "alpha", "no transparency"),
        (encoded(two(0, 1, np.uint16)), "alpha", "no transparency"),
        (encoded(two(0, 1, np.uint16)), "0xff0000", "no colours"),
        (encoded(transparent("RGB", two(0, 255))), "nonzero", "transparent; .*alpha"),
        (encoded(transparent("RGB", two(0, 1))), "alpha", "transparency of values 0 and 1"),
        (encoded(transparent("RGB", two(0, 100))), "alpha", "transparency of values 0 and 100"),
        (encoded(two(0, 255), "JPEG"), "255", "JPEG.*not exact"),
        (encoded(two(0, 255), "JPEG"), "nonzero", "JPEG.*not exact"),
        (encoded(np.repeat(two(0, 255)[..., None], 3, 2), "WEBP", quality=50), "255", "not exact"),
        (encoded(np.repeat(two(0, 255)[..., None], 3, 2), "TIFF", compression="jpeg"), "255", "not exact"),
        (encoded(two(0, np.nan, np.float32), "TIFF"), "nonzero", "NaN"),
        (CASES["16 bits a channel"]().data, "nonzero", "16 bits a channel"),
        (b"no mask", "1", "not an image"),
        (encoded(two(0, 255))[:60], "1", "no whole image"),
    ],
)
def test_values_that_cannot_be_those_of_a_mask(data: bytes, said: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        entered(data, said)


def test_many_values_are_told_by_their_ends() -> None:
    ramp = np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))
    with pytest.raises(DataError, match=r"^values 0 to 95 \(96 of them\); say .*--fake-is VALUE\[,VALUE\]"):
        entered(encoded(ramp), "white")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("white", "fake_is_white"),
        ("Black", "fake_is_black"),
        ("2", "fake_is=2"),
        ("2,1", "fake_is=1,2"),
        ("1+2+1", "fake_is=1,2"),
        ("007", "fake_is=7"),
        ("0xFF0000,3", "fake_is=3,0xff0000"),
        ("nonzero", "fake_is=nonzero"),
        ("alpha", "fake_is=alpha"),
    ],
)
def test_what_is_said_becomes_a_kind(said: str, expected: str) -> None:
    assert masks.kind_of(said) == expected
    assert kind(expected) == "local"
    assert DomainInfo(kind="local", family="x", mask_kind=expected, splits={}).mask_kind == expected


@pytest.mark.parametrize("said", ["grey", "", "1,", "-1", "1.5", "0xff", "real", "=1", "1;2", "nonzero,1", "9" * 11])
def test_what_cannot_be_a_kind(said: str) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f'"{said}" cannot be the fake side of masks: expected black|white')
    ):
        masks.kind_of(said)


@pytest.mark.parametrize("mask_kind", ["fake_is_grey", "fake_is=", "fake_is=x", "other", "fake_is_white\n"])
def test_a_kind_of_another_version_is_named(mask_kind: str) -> None:
    with pytest.raises(DataError, match="this version does not know"):
        fakeness(encoded(two(0, 255)), mask_kind, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="pattern"):
        DomainInfo(kind="local", family="x", mask_kind=mask_kind, splits={})


def test_a_huge_picture_in_colours_is_refused_without_a_list_of_them() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    with pytest.raises(DataError, match=r"in colours: values 0x\w{6} to 0x\w{6} \(\d+ of them\)"):
        masks.truth(open_mask(encoded(noise, "BMP")), "fake_is_white")


def test_shards_from_before_that_hold_such_masks_name_them(tmp_path: Path) -> None:
    """What was read as wholly real is an error now; what was read rightly is as it was."""
    (tmp_path / "i.png").write_bytes(encoded(np.zeros((*FAKE.shape, 3), np.uint8)))
    samples = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(encoded(two(0, 255)))
        paths = tmp_path / "i.png", tmp_path / f"{name}.png"
        samples.append(Sample(f"m/s/test/{name}.png", name, name, "m/s", "test", *paths, "fake_is_white"))
    write_shard(ShardJob(UPath(tmp_path / "0.parquet"), samples))
    table = pq.read_table(tmp_path / "0.parquet").drop_columns(["exif"])
    olds = [{"bytes": encoded(pixels), "path": "m.png"} for pixels in (two(0, 200), two(0, 100))]
    place = table.schema.get_field_index("mask")
    table = table.set_column(place, table.schema.field(place), pa.array(olds, table.schema.field(place).type))
    place = table.schema.get_field_index("mask_sha256")
    table = table.set_column(place, "mask_sha256", pa.array([digests.digest(old["bytes"]) for old in olds]))
    pq.write_table(table, tmp_path / "0.parquet")
    refs = read_shard(UPath(tmp_path), ShardInfo(path="0.parquet", digest="d", groups=(2,)), "m/s", "test")
    np.testing.assert_array_equal(read_truth(UPath(tmp_path), refs[:1])[0], two(0, 200))
    with pytest.raises(DataError, match=r"m/s/test/b\.png in shard .*: values 0 and 100; .*--fake-is 100"):
        read_truth(UPath(tmp_path), refs)
    with pytest.raises(DataError, match=r"m/s/test/b\.png in shard .*: values 0 and 100; "):
        list(_decode(UPath(tmp_path), "0.parquet", 0, None))
