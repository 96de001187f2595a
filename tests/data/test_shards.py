import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from upath import UPath

from dfloc.data.manifest import Manifest, read_samples
from dfloc.data.shards import FORMATS, MAX_PIXELS, ShardReader, decode_image, fakeness, read_truth
from dfloc.errors import DataError
from tests.conftest import TINY_SIZE

MASK = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels))


def bomb(side: int) -> bytes:
    """A PNG of 68 bytes whose header promises side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_both_polarities_give_one_truth() -> None:
    black = fakeness(png(MASK), "fake_is_black", 2, 3)
    white = fakeness(png(255 - MASK), "fake_is_white", 2, 3)
    np.testing.assert_array_equal(black, [[255, 255, 0], [255, 0, 0]])
    np.testing.assert_array_equal(white, black)


def test_kinds_without_mask() -> None:
    assert fakeness(None, "real", 2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert fakeness(None, "generated", 2, 3).tolist() == [[255, 255, 255], [255, 255, 255]]
    with pytest.raises(DataError, match="no mask"):
        fakeness(None, "fake_is_black", 2, 3)


def test_size_of_the_mask_is_that_of_the_image() -> None:
    with pytest.raises(DataError, match="mask of 3x2 for an image of 2x3 pixels"):
        fakeness(png(MASK), "fake_is_white", 3, 2)


def palette_mask() -> bytes:
    image = Image.fromarray((MASK // 255).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    return encoded(image)


@pytest.mark.parametrize(
    "mask",
    [
        palette_mask(),
        encoded(Image.fromarray(MASK).convert("1")),
        png(MASK.astype(np.uint16) * 257),
        png(np.repeat(MASK[..., None], 3, axis=2)),
        encoded(Image.fromarray(MASK).convert("RGBA")),
        encoded(Image.fromarray(MASK).convert("LA")),
        encoded(Image.fromarray(MASK), "TIFF"),
        encoded(Image.fromarray(MASK), "BMP"),
    ],
    ids=["palette", "1 bit", "16 bits", "rgb", "rgba", "grey with alpha", "tiff", "bmp"],
)
def test_mask_layouts_that_are_black_and_white(mask: bytes) -> None:
    np.testing.assert_array_equal(fakeness(mask, "fake_is_white", 2, 3), MASK)


def coloured_palette() -> bytes:
    image = Image.fromarray((MASK // 255).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    return encoded(image)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (coloured_palette(), "in colours"),
        (png(np.stack([MASK, 0 * MASK, 0 * MASK], axis=2)), "in colours"),
        (png(np.stack([MASK, MASK, MASK, MASK], axis=2)), "transparent"),
        (png(MASK // 255), "values 0 and 1"),
        (encoded(Image.fromarray(MASK.astype(np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(MASK.astype(np.int32) * 9999), "TIFF"), "32-bit"),
        (b"no mask", "not an image"),
    ],
    ids=["coloured palette", "red", "alpha", "labels", "float", "32 bits", "text"],
)
def test_masks_that_are_refused(mask: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        fakeness(mask, "fake_is_white", 2, 3)


def test_decoding_keeps_the_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(png(image)), image)
    grey = decode_image(png(np.full((2, 2), 0x8080, np.uint16)))
    assert grey.tolist() == [[[128] * 3] * 2] * 2


def test_exif_orientation_is_applied() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(encoded(Image.fromarray(image), exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(image, -1))


@pytest.mark.parametrize("keep", [0, 1, 20, 60, 500])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_cut_files_are_refused(kind: str, keep: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with pytest.raises(DataError, match="image"):
        decode_image(encoded(Image.fromarray(image), kind)[:keep])


@pytest.mark.parametrize("kind", ["SPIDER", "AVIF", "EPS", "GIF", "PPM"])
def test_other_formats_are_not_even_opened(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("F" if kind == "SPIDER" else "RGB", (24, 20)), kind)
    assert Image.open(io.BytesIO(data)).format == kind
    for name, (factory, _) in Image.OPEN.items():
        if name not in FORMATS:
            monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("opened"), None))
        else:
            assert callable(factory)
    with pytest.raises(DataError, match=r"not an image of a type that is read .*PNG, JPEG, TIFF, WEBP, BMP"):
        decode_image(data)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, AttributeError, AssertionError, RecursionError])
def test_whatever_a_codec_raises_is_one_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> None:
        raise error("odd")

    data = png(MASK)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(DataError, match=r"no whole image \(odd\)"):
        decode_image(data)


@pytest.mark.parametrize("read", [decode_image, lambda data: fakeness(data, "fake_is_white", 2, 3)])
def test_what_pillow_cannot_convert_is_one_error(read: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, mode: str) -> None:
        raise ValueError(f"conversion from {image.mode}\nto {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(DataError, match=r"no whole image \(conversion from RGBA? to RGBA? not supported\)"):
        read(png(np.repeat(MASK[..., None], 4, axis=2)))


def test_nothing_that_pillow_warns_of_is_shown(recwarn: pytest.WarningsRecorder) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    data = encoded(image, "JPEG", exif=image.info["exif"])
    Image.open(io.BytesIO(data)).getexif()
    assert "Corrupt EXIF data" in str(recwarn.pop().message)
    assert decode_image(data).shape == (4, 4, 3)
    assert not recwarn.list


def test_a_jpeg_of_endless_scans_is_refused_before_decoding() -> None:
    data = encoded(Image.new("L", (16, 16), 128), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data[:-2] + scan * 20 + data[-2:]).shape == (16, 16, 3)
    with pytest.raises(DataError, match="more than 100 scans"):
        decode_image(data[:-2] + scan * 101 + data[-2:])


@pytest.mark.parametrize("side", [8001, 40000])
def test_a_bomb_is_refused_before_decoding(side: int) -> None:
    data = bomb(side)
    assert side * side > MAX_PIXELS
    with pytest.raises(DataError, match="pixels"):
        decode_image(data)


def test_truth_comes_in_the_order_asked(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    local = read_samples(tiny_shards, manifest, "tiny/noise", "train")
    real = read_samples(tiny_shards, manifest, "tiny/real", "test")
    asked = [local[7], real[0], local[0], local[9], local[7]]
    truth = read_truth(tiny_shards, asked)
    assert [found.shape for found in truth] == [(TINY_SIZE, TINY_SIZE)] * 5
    np.testing.assert_array_equal(truth[0], truth[4])
    assert truth[1].max() == 0
    tree = tiny_shards.parent / "tree/tiny/fake/noise/masks/train"
    for sample, found in zip(asked[2:4], truth[2:4], strict=True):
        on_disk = np.asarray(Image.open(tree / sample.id.rpartition("/")[2]))
        np.testing.assert_array_equal(found, 255 - on_disk)


def test_reader_keeps_what_fits(tiny_shards: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "tiny/blur/train-00000.parquet"
    reads: list[int] = []
    for cache_bytes, expected in ((1 << 20, [0, 1]), (1, [0, 1, 0])):
        reader = ShardReader(tiny_shards, cache_bytes)
        read = reader._read
        monkeypatch.setattr(reader, "_read", lambda shard, g, c, read=read: reads.append(g) or read(shard, g, c))
        for group in (0, 1, 0):
            rows = reader.group(path, group, ("id", "image"))
        assert reads == expected
        assert len(rows) == 4
        assert set(rows[0]) == {"id", "image"}
        reads.clear()


def test_reader_names_a_shard_that_is_missing(tiny_shards: UPath) -> None:
    with pytest.raises(DataError, match=r"none\.parquet"):
        ShardReader(tiny_shards).group("none.parquet", 0)
    with pytest.raises(DataError, match="row group 9"):
        ShardReader(tiny_shards).group("tiny/blur/test-00000.parquet", 9)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_file_inside_a_shard_is_compared_with_its_digest(tiny_shards: UPath, tmp_path: Path, kind: str) -> None:
    name = "tiny/blur/test-00000.parquet"
    table = pq.read_table(tiny_shards / name)
    files = table[kind].to_pylist()
    files[2]["bytes"] = files[1]["bytes"]
    odd = table.set_column(table.column_names.index(kind), kind, pa.array(files, table.schema.field(kind).type))
    (tmp_path / name).parent.mkdir(parents=True)
    pq.write_table(odd, tmp_path / name, row_group_size=4)
    reader = ShardReader(UPath(tmp_path))
    said = f"the {kind} of {table['id'][2]} in row group 0 of shard .*test-00000.parquet is not what was imported"
    with pytest.raises(DataError, match=said):
        reader.group(name, 0, ("id", kind))
    assert len(reader.group(name, 0, ("id", "width"))) == 4
    with pytest.raises(DataError, match=said):
        reader.group(name, 0)
    refs = [ref for ref in read_samples(tiny_shards, Manifest.load(tiny_shards), "tiny/blur", "test") if ref.row < 4]
    with pytest.raises(DataError, match="mask of row 2 in") if kind == "mask" else contextlib.nullcontext():
        read_truth(UPath(tmp_path), refs)


def test_a_bit_that_turned_in_any_column_of_a_shard_is_found(tiny_shards: UPath, tmp_path: Path) -> None:
    name = "tiny/blur/test-00000.parquet"
    columns = ("id", "image", "mask", "mask_kind", "width", "height", "fake_area")
    data, right = (tiny_shards / name).read_bytes(), ShardReader(tiny_shards).group(name, 0, columns)
    draw, refused = np.random.default_rng(0), 0
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    for bit in draw.choice(8 * len(data), 150, replace=False):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(spoilt))
        try:
            assert ShardReader(UPath(tmp_path)).group(name, 0, columns) == right
        except DataError:
            refused += 1
    assert refused > 100
