"""One picture in two splits under other names: found by its decoded pixels, whatever its file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from upath import UPath

from dfloc.data import leakage
from dfloc.data.dolos import Sample, scan
from dfloc.data.importer import import_samples
from dfloc.data.leakage import overlaps, undigested
from dfloc.data.manifest import Manifest, MaskKind, SampleRef, ShardInfo, Split, read_samples, read_shard
from dfloc.data.writer import ShardJob, write_shard
from dfloc.errors import DataError
from dfloc.sweep.data import Shards
from tests.cases.originals import Pixels, save, smooth, write_pair
from tests.data.pairs import scan_pair

ROTATED_90 = 8  # the EXIF orientation whose picture must be turned to the left to be seen


def refs(folder: Path, *files: tuple[str, Split, MaskKind, Path]) -> list[SampleRef]:
    """Write a shard of each file (domain, split, kind, path) and return what is read of them."""
    found = []
    for number, (domain, split, kind, path) in enumerate(files):
        source = domain.partition("/")[0]
        stem = f"{source}/{path.stem}"
        sample = Sample(f"{domain}/{split}/{path.name}", stem, stem, domain, split, path, None, kind)
        name = f"{number}.parquet"
        receipt = write_shard(ShardJob(UPath(folder / name), [sample]))
        assert receipt.rejected == []
        found += read_shard(UPath(folder), ShardInfo(path=name, digest="", groups=(1,)), domain, split)
    return found


def turned(path: Path, pixels: Pixels) -> None:
    """Write a picture lying on its side, with the EXIF tag that sets it upright."""
    tags = Image.Exif()
    tags[0x0112] = ROTATED_90
    save(path, np.rot90(pixels, -1), exif=tags)
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(Image.open(path))), pixels)


COPIES: dict[str, Callable[[Path, Pixels], str]] = {
    "png": lambda folder, pixels: save(folder / "copy.png", pixels, compress_level=0) or "copy.png",
    "bmp": lambda folder, pixels: save(folder / "copy.bmp", pixels) or "copy.bmp",
    "webp": lambda folder, pixels: save(folder / "copy.webp", pixels, lossless=True) or "copy.webp",
    "tiff": lambda folder, pixels: save(folder / "copy.tif", pixels) or "copy.tif",
    "exif": lambda folder, pixels: turned(folder / "copy.png", pixels) or "copy.png",
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_in_another_file_is_found(tmp_path: Path, copy: Callable[[Path, Pixels], str]) -> None:
    pixels = smooth(0, 40, 64)
    save(tmp_path / "a.png", pixels)
    name = copy(tmp_path, pixels)
    found = overlaps(
        refs(tmp_path, ("s/real", "train", "real", tmp_path / "a.png"), ("t/real", "test", "real", tmp_path / name))
    )
    assert found == [(f"t/real/test/{name} = s/real/train/a.png", ("test", "train"), True)]


def test_a_grey_picture_is_the_same_in_colours(tmp_path: Path) -> None:
    grey = smooth(0)[:, :, 0]
    save(tmp_path / "a.png", grey)
    save(tmp_path / "b.png", np.dstack([grey] * 3))
    found = refs(
        tmp_path, ("s/x", "train", "generated", tmp_path / "a.png"), ("s/real", "valid", "real", tmp_path / "b.png")
    )
    assert len(overlaps(found)) == 1, "a wholly generated image that is the real one counts too"


def test_what_is_no_leak_and_what_is_counted_once(tmp_path: Path) -> None:
    pixels = smooth(1)
    for name in ("a.png", "b.png"):
        save(tmp_path / name, pixels)
    save(tmp_path / "c.png", pixels ^ np.uint8([1, 0, 0]))
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    assert overlaps(refs(tmp_path, ("s/real", "train", "real", a), ("s/x", "train", "generated", b))) == []
    assert overlaps(refs(tmp_path, ("s/real", "train", "real", a), ("s/real", "test", "real", c))) == [], "one level"
    save(tmp_path / "d.png", pixels.reshape(pixels.shape[0] // 2, -1, 3))
    assert overlaps(refs(tmp_path, ("s/real", "train", "real", a), ("s/x", "test", "real", tmp_path / "d.png"))) == []
    twice = overlaps(refs(tmp_path, ("s/real", "train", "real", a), ("s/x", "test", "real", a)))
    assert twice == [("s/a", ("test", "train"), False)], "its name says it already"
    three = refs(tmp_path, *(("s/real", split, "real", path) for split, path in (("train", a), ("test", b))))
    three += refs(tmp_path, ("t/real", "valid", "real", b))
    assert overlaps(three) == [
        ("s/real/test/b.png = s/real/train/a.png = t/real/valid/b.png", ("test", "train", "valid"), True)
    ]


def test_a_photograph_with_an_equals_sign_is_told_by_its_name() -> None:
    found = leakage.in_two_splits([("mine/a = b", "train"), ("mine/a = b", "test")])
    assert leakage.sentence(found) == f"{leakage.NOTE}: 1 (mine/a = b in test and train)"


def without_pixels(folder: UPath) -> None:
    """Make shards what an earlier version wrote."""
    for path in Path(folder).rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        groups = pq.ParquetFile(path).metadata
        rows = [groups.row_group(group).num_rows for group in range(groups.num_row_groups)]
        with pq.ParquetWriter(path, table.drop_columns("pixels_sha256").schema) as writer:
            for start, count in zip(np.cumsum([0, *rows[:-1]]), rows, strict=True):
                writer.write_table(table.drop_columns("pixels_sha256").slice(start, count), row_group_size=count)


def write_leak(folder: Path, num: int = 10) -> None:
    for k in range(num):
        write_pair(folder, "train", f"p{k:03}.png", smooth(k))
        write_pair(folder, "test", f"x{k:03}.bmp", smooth(k))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_an_import_stops_and_is_told_to_go_on(tmp_path: Path) -> None:
    write_leak(tmp_path / "own")
    out = UPath(tmp_path / "shards")
    samples = scan_pair(tmp_path / "own/images", tmp_path / "own/masks", "mine/sd", "white")
    said = r"two splits: 10, 10 of them equal pixels under other names \(mine/sd/test/x000.bmp = mine/sd/train/p000.png"
    with pytest.raises(DataError, match=f"{said}.*--allow-overlap"):
        import_samples(samples, out)
    assert not (out / "manifest.json").exists(), "nothing came to its place"
    train = [sample for sample in samples if sample.split == "train"]
    assert import_samples(train, out).manifest.notes == ()
    with pytest.raises(DataError, match=said):
        import_samples(samples, out)
    (note,) = import_samples(samples, out, allow_overlap=True).manifest.notes
    assert note.startswith("photographs that lie in two splits: 10, 10 of them equal")
    data = Shards(out, "own")
    assert note in data.notes(["mine/sd"]), "the plan goes on, and its report says so"
    silent = data.manifest.model_copy(update={"notes": ()})
    silent.save(out)
    with pytest.raises(DataError, match=r"10 source images lie in two splits, the first is mine/sd/test/x000.bmp ="):
        Shards(out, "own").notes(["mine/sd"])
    without_pixels(out)
    old = Shards(out, "own")
    assert old.notes(["mine/sd"]) == (
        "mine/sd: imported before pixels were digested, so that leakage by content is not known; import again, "
        "elsewhere",
    )
    assert old.manifest.split("mine/sd", "test").digest == data.manifest.split("mine/sd", "test").digest
    assert import_samples(samples, out).written == 0, "left alone"


def test_shards_of_an_earlier_version_are_read_as_before(tiny_shards: UPath, tmp_path: Path) -> None:
    folder = UPath(tmp_path / "old")
    shutil.copytree(tiny_shards, folder)
    without_pixels(folder)
    manifest = Manifest.load(folder)
    old, new = (read_samples(where, manifest, "tiny/blur", "train") for where in (folder, tiny_shards))
    assert [ref._replace(pixels_sha256="") for ref in new] == old
    assert all(len(ref.pixels_sha256) == 64 for ref in new)
    assert len(undigested(old)) == 1
    assert undigested(new) == []
    assert leakage.overlap(folder, manifest, manifest.domains) == []


def named(domain: str, split: Split, name: str, kind: MaskKind) -> SampleRef:
    source = domain.partition("/")[0]
    stem = f"{source}/{name.partition('-')[0]}"
    return SampleRef(
        f"{domain}/{split}/{name}.png", f"{source}/{name}", stem, domain, split, "i", "", kind, "f", "d", 0, 0
    )


def test_wholly_generated_images_that_show_photographs_are_held_to_their_split() -> None:
    reals = [named("s/real", split, f"{split}{k}-0", "real") for split in ("train", "test") for k in range(4)]
    whole = [named("s/x", split, f"{split}{k}-0", "generated") for split in ("train", "test") for k in range(4)]
    assert overlaps([*reals, *whole]) == []
    moved = named("s/x", "test", "train1-0", "generated")
    assert overlaps([*reals, *whole, moved]) == [("s/train1", ("test", "train"), False)]
    assert overlaps([*whole, moved]) == [], "no image of a photograph says that these show any"


def test_wholly_generated_images_that_are_only_numbered_show_none() -> None:
    reals = [named("s/real", "train", str(k), "real") for k in range(6)]
    reals += [named("s/real", "test", str(k), "real") for k in range(6, 9)]
    again = [named("s/x", "test", str(k), "generated") for k in range(3)]
    train = [named("s/x", "train", str(k), "generated") for k in range(8)]
    assert overlaps([*reals, *again]) == [], "numbered anew in each split"
    assert overlaps([*reals, *train]) == [("s/6", ("test", "train"), False), ("s/7", ("test", "train"), False)]
    others = [*train, named("s/x", "train", "77", "generated")]
    assert overlaps([*reals, *others]) == [], "a number that no photograph has"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_study_is_refused_that_uses_reals_or_wholly_generated_images_in_two_splits(
    tiny_tree: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_tree / "tiny/real", tiny_tree / "tiny/fake/whole")
    for number, path in enumerate(sorted((tiny_tree / "tiny/fake/whole").rglob("*.png"))):
        save(path, smooth(number, 64, 64))
    (tiny_tree / "tiny/fake/whole/train/train0-0.png").rename(tiny_tree / "tiny/fake/whole/test/train0-0.png")
    out = UPath(tmp_path / "shards")
    with pytest.raises(DataError, match=r"two splits: 1 \(tiny/train0 in test and train\)"):
        import_samples(scan(tiny_tree), out)
    manifest = import_samples(scan(tiny_tree), out, allow_overlap=True).manifest
    (note,) = manifest.notes
    assert note in Shards(out, "tiny").notes(["tiny/blur"], ["tiny/whole"])
    manifest.model_copy(update={"notes": ()}).save(out)
    Shards(out, "tiny").notes(["tiny/blur"])
    with pytest.raises(DataError, match="1 source images lie in two splits, the first is tiny/train0"):
        Shards(out, "tiny").notes(["tiny/blur"], ["tiny/whole"])
