import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from upath import UPath

from dfloc.data import writer
from dfloc.data.dolos import scan
from dfloc.data.writer import ShardJob, ShardReceipt, write_shard
from tests.data.test_shards import bomb

IMAGES = "tiny/fake/blur/images/test"
MASKS = "tiny/fake/blur/masks/test"


def write(tree: Path, group_rows: int = 128) -> tuple[ShardReceipt, Path]:
    samples = [sample for sample in scan(tree) if (sample.domain, sample.split) == ("tiny/blur", "test")]
    path = tree / "shard.parquet"
    return write_shard(ShardJob(UPath(path), samples, group_rows)), path


def test_row_is_what_the_files_are(tiny_tree: Path) -> None:
    receipt, path = write(tiny_tree, group_rows=3)
    rows = {row["id"]: row for row in pq.read_table(path).to_pylist()}
    row = rows["tiny/blur/test/test1-0.png"]
    image, mask = ((tiny_tree / folder / "test1-0.png").read_bytes() for folder in (IMAGES, MASKS))
    fake = np.asarray(Image.open(tiny_tree / MASKS / "test1-0.png")) == 0
    decoded = np.asarray(Image.open(tiny_tree / IMAGES / "test1-0.png"))
    assert row == {
        "id": "tiny/blur/test/test1-0.png",
        "pair": "tiny/test1-0",
        "stem": "tiny/test1",
        "domain": "tiny/blur",
        "split": "test",
        "image": {"bytes": image, "path": "test1-0.png"},
        "mask": {"bytes": mask, "path": "test1-0.png"},
        "mask_kind": "fake_is_black",
        "width": 64,
        "height": 64,
        "fake_area": pytest.approx(fake.mean()),
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "mask_sha256": hashlib.sha256(mask).hexdigest(),
        "exif": None,
        "pixels_sha256": hashlib.sha256(b"(64, 64, 3)" + decoded.tobytes()).hexdigest(),
    }
    assert receipt.groups == [3, 1]
    assert receipt.fake_area == pytest.approx(sum(row["fake_area"] for row in rows.values()))
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == receipt.groups


def test_grey_pixels_are_counted_and_fall_to_their_side(tiny_tree: Path) -> None:
    mask = np.full((64, 64), 255, np.uint8)
    mask[0, :5], mask[1, :7], mask[2, :2] = 127, 128, 0
    Image.fromarray(mask).save(tiny_tree / MASKS / "test1-0.png")
    receipt, path = write(tiny_tree)
    assert receipt.grey_pixels == 12
    rows = {row["id"]: row for row in pq.read_table(path).to_pylist()}
    assert rows["tiny/blur/test/test1-0.png"]["fake_area"] == 7 / 4096


def spoil_truncated(tree: Path) -> None:
    whole = (tree / IMAGES / "test1-0.png").read_bytes()
    (tree / IMAGES / "test1-0.png").write_bytes(whole[: len(whole) // 2])


def spoil_size(tree: Path) -> None:
    Image.new("L", (64, 32)).save(tree / MASKS / "test1-0.png")


def spoil_turned(tree: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (64, 32)).save(tree / IMAGES / "test1-0.png", exif=exif)
    Image.new("L", (64, 30)).save(tree / MASKS / "test1-0.png")


def spoil_link(tree: Path) -> None:
    (tree / IMAGES / "test1-0.png").unlink()
    (tree / IMAGES / "test1-0.png").symlink_to(tree / IMAGES / "test1-0.png")


def spoil_pipe(tree: Path) -> None:
    (tree / IMAGES / "test1-0.png").unlink()
    os.mkfifo(tree / IMAGES / "test1-0.png")


def spoil_device(tree: Path) -> None:
    (tree / MASKS / "test1-0.png").unlink()
    (tree / MASKS / "test1-0.png").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_truncated, "no whole image"),
        (spoil_size, "mask: mask of 64x32 for an image of 64x64"),
        (
            spoil_turned,
            "mask: mask of 64x30 for an image of 32x64 pixels .with EXIF orientation applied, and",
        ),
        (spoil_link, "cannot be read"),
        (spoil_pipe, "^no regular file"),
        (spoil_device, "^mask: no regular file"),
        (lambda tree: (tree / IMAGES / "test1-0.png").write_text("hello"), "not an image"),
        (lambda tree: (tree / IMAGES / "test1-0.png").write_bytes(b""), "not an image"),
        (lambda tree: (tree / IMAGES / "test1-0.png").write_bytes(bomb(40000)), "pixels"),
        (lambda tree: (tree / MASKS / "test1-0.png").write_bytes(bomb(40000)), "mask: .*pixels"),
        (lambda tree: (tree / MASKS / "test1-0.png").unlink(), "no mask"),
        (lambda tree: (tree / MASKS / "test1-0.png").write_text("hello"), "mask: not an image"),
    ],
)
def test_what_cannot_be_used_is_named(tiny_tree: Path, spoil: Callable[[Path], object], reason: str) -> None:
    spoil(tiny_tree)
    receipt, path = write(tiny_tree)
    (reject,) = receipt.rejected
    assert (reject.id, reject.file) == ("tiny/blur/test/test1-0.png", "test1-0.png")
    assert str(tiny_tree) not in reject.reason
    assert re.search(reason, reject.reason)
    assert pq.read_table(path).num_rows == 3


def test_a_file_of_another_type_is_named(tiny_tree: Path) -> None:
    (tiny_tree / IMAGES / "notes.txt").write_text("hello")
    receipt, _ = write(tiny_tree)
    assert [reject.file for reject in receipt.rejected] == ["notes.txt"]
    assert "no image type" in receipt.rejected[0].reason


def test_what_nobody_thought_of_is_a_reject_too(tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = writer.decode_image
    odd = (tiny_tree / IMAGES / "test1-0.png").read_bytes()

    def fail(data: bytes, *, new: bool) -> np.ndarray:
        if data == odd:
            raise ZeroDivisionError("odd\n  file")
        return decode(data, new=new)

    monkeypatch.setattr(writer, "decode_image", fail)
    receipt, path = write(tiny_tree)
    assert receipt.rejected == [("tiny/blur/test/test1-0.png", "test1-0.png", "ZeroDivisionError: odd file")]
    assert pq.read_table(path).num_rows == 3


def test_a_name_that_is_no_text_is_spelled_out(tiny_tree: Path) -> None:
    for folder in (IMAGES, MASKS):
        (tiny_tree / folder / "test1-0.png").rename(tiny_tree / folder / os.fsdecode(b"odd\xff-0.png"))
    receipt, path = write(tiny_tree)
    assert receipt.rejected == []
    [row] = [row for row in pq.read_table(path).to_pylist() if "odd" in row["id"]]
    assert row["image"]["path"] == row["mask"]["path"] == r"odd\udcff-0.png"
    assert row["stem"] == r"tiny/odd\udcff"


def test_a_huge_file_is_not_read(tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_FILE_BYTES", 10 << 20)
    with (tiny_tree / IMAGES / "test1-0.png").open("r+b") as file:
        file.truncate(11 << 20)
    receipt, _ = write(tiny_tree)
    assert [reject.reason for reject in receipt.rejected] == ["a file of more than 10 MiB"]


def test_turned_image_goes_with_the_mask_that_a_viewer_would_draw(tiny_tree: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tiny_tree / IMAGES / "test1-0.png", exif=exif)
    Image.new("L", (32, 64)).save(tiny_tree / MASKS / "test1-0.png")
    receipt, path = write(tiny_tree)
    assert receipt.rejected == []
    rows = {row["id"]: row for row in pq.read_table(path).to_pylist()}
    row = rows["tiny/blur/test/test1-0.png"]
    assert (row["width"], row["height"], row["fake_area"]) == (32, 64, 1.0)


def test_row_groups_of_large_images_are_smaller(tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (tiny_tree / IMAGES / "test1-0.png").stat().st_size
    monkeypatch.setattr(writer, "GROUP_BYTES", size + 1)
    assert write(tiny_tree)[0].groups == [2, 2]
    monkeypatch.undo()
    monkeypatch.setattr(writer, "GROUP_PIXELS", 64 * 64 * 2 + 1)
    assert write(tiny_tree)[0].groups == [3, 1]


def test_a_shard_without_rows_is_not_written(tiny_tree: Path) -> None:
    for path in (tiny_tree / IMAGES).iterdir():
        path.write_text("hello")
    receipt, path = write(tiny_tree)
    assert receipt.groups == []
    assert len(receipt.rejected) == 4
    assert not path.exists()


def test_the_same_files_give_the_same_bytes(tiny_tree: Path) -> None:
    _, path = write(tiny_tree)
    first = path.read_bytes()
    write(tiny_tree)
    assert path.read_bytes() == first
