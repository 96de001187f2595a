import hashlib
from pathlib import Path

import pytest

from dfloc.data.dolos import Sample, family, photograph, resolve, scan, scan_pair
from dfloc.errors import ConfigError, DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(samples: list[Sample]) -> list[str]:
    return sorted(sample.id for sample in samples)


def test_layout_says_kind_and_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "celebahq/fake/ldm/images/train/00012-1.png",
        "celebahq/fake/ldm/masks/train/00012-1.png",
        "celebahq/fake/p2/test/7.PNG",
        "ffhq/real/valid/00012.jpg",
    )
    local, full, real = scan(tmp_path)
    assert local == Sample(
        id="celebahq/ldm/train/00012-1.png",
        pair="celebahq/00012-1",
        stem="celebahq/00012",
        domain="celebahq/ldm",
        split="train",
        image=tmp_path / "celebahq/fake/ldm/images/train/00012-1.png",
        mask=tmp_path / "celebahq/fake/ldm/masks/train/00012-1.png",
        mask_kind="fake_is_black",
    )
    assert (full.id, full.mask, full.mask_kind) == ("celebahq/p2/test/7.PNG", None, "generated")
    assert (real.id, real.stem, real.mask_kind) == ("ffhq/real/valid/00012.jpg", "ffhq/00012", "real")


def test_samples_come_in_the_stems_rank(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(20)]
    touch(tmp_path, *(f"s/real/train/{name}" for name in names))
    by_hand = sorted(names, key=lambda name: hashlib.sha256(f"0\x1fs/{Path(name).stem}".encode()).hexdigest())
    assert [sample.name for sample in scan(tmp_path)] == by_hand


@pytest.mark.parametrize(
    ("name", "expected"), [("00012-1", "00012"), ("a-b", "a-b"), ("a-b-12", "a-b"), ("7", "7"), ("a_1", "a_1")]
)
def test_photograph(name: str, expected: str) -> None:
    assert photograph(name) == expected


def test_families_join_the_two_sizes_of_repaint() -> None:
    assert family("celebahq/repaint-p2-9k") == family("celebahq/repaint-p2") == "repaint-p2"
    assert family("celebahq/ldm") == "ldm"


def test_short_names() -> None:
    known = ["celebahq/ldm", "celebahq/p2", "ffhq/p2"]
    assert resolve("ldm", known) == "celebahq/ldm"
    assert resolve("ffhq/p2", known) == "ffhq/p2"
    with pytest.raises(ConfigError, match="celebahq/p2 or ffhq/p2"):
        resolve("p2", known)
    with pytest.raises(ConfigError, match='did you mean "celebahq/ldm"'):
        resolve("celebahq/lmd", known)


def test_a_tree_with_only_some_domains_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "c/fake/lama/images/test/1.png", "c/fake/lama/masks/test/1.png")
    assert ids(scan(tmp_path)) == ["c/lama/test/1.png"]
    assert ids(scan(tmp_path / "c")) == ["c/lama/test/1.png"]


def test_mask_has_the_name_of_its_image_with_any_extension(tmp_path: Path) -> None:
    touch(tmp_path, "c/fake/g/images/train/1.jpg", "c/fake/g/masks/train/1.png", "c/fake/g/images/train/2.png")
    found = {sample.name: sample for sample in scan(tmp_path)}
    assert found["1.jpg"].mask == tmp_path / "c/fake/g/masks/train/1.png"
    assert found["2.png"].mask is None


def test_folder_names_of_links_hold_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "store/xyz/real/train/1.png", "store/xyz/real/train/deep/2.png")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/celebahq").symlink_to(tmp_path / "store/xyz")
    (tmp_path / "store/xyz/real/train/deep/loop").symlink_to(tmp_path / "store/xyz/real/train")
    assert ids(scan(tmp_path / "tree")) == ["celebahq/real/train/1.png", "celebahq/real/train/deep/2.png"]


def test_hidden_files_are_no_samples(tmp_path: Path) -> None:
    touch(tmp_path, "s/real/train/1.png", "s/real/train/.DS_Store", "s/real/train/.thumbs/1.png", ".git/real/x")
    assert ids(scan(tmp_path)) == ["s/real/train/1.png"]


def test_a_name_that_is_no_text_is_spelled_out(tmp_path: Path) -> None:
    touch(tmp_path, "s/real/train/1.png")
    (tmp_path / "s/real/train/1.png").rename(tmp_path / "s/real/train" / b"\xff.png".decode(errors="surrogateescape"))
    assert ids(scan(tmp_path)) == ["s/real/train/\\udcff.png"]


def test_trees_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        scan(tmp_path / "none")
    with pytest.raises(DataError, match=r"no Dolos tree.*<source>/fake/<generator>"):
        scan(tmp_path)
    touch(tmp_path, "zip/wacv_data/celebahq/real/train/1.png")
    with pytest.raises(DataError, match=r"did you mean .*wacv_data"):
        scan(tmp_path / "zip")


def test_empty_and_misnamed_folders(tmp_path: Path) -> None:
    for inner in ("images/train", "masks/train"):
        (tmp_path / "a/c/fake/ldm" / inner).mkdir(parents=True)
    with pytest.raises(DataError, match="no images of c/ldm"):
        scan(tmp_path / "a")
    touch(tmp_path, "m/c/fake/ldm/images/train/1.png")
    with pytest.raises(DataError, match="images/ but no masks/"):
        scan(tmp_path / "m")
    touch(tmp_path, "b/c/real/val/1.png")
    with pytest.raises(DataError, match='unknown split folder "val"; did you mean "valid"'):
        scan(tmp_path / "b")
    touch(tmp_path, "d/my photos/real/train/1.png")
    with pytest.raises(ConfigError, match="my photos/real"):
        scan(tmp_path / "d")


def test_folder_pair_with_splits(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/1.png", "images/test/2.png", "masks/train/1.png", "masks/test/2.png")
    samples = scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "white")
    assert ids(samples) == ["my/edit/test/2.png", "my/edit/train/1.png"]
    assert {sample.mask_kind for sample in samples} == {"fake_is_white"}
    with pytest.raises(ConfigError, match="leave out --split"):
        scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "white", "80/10/10")


def test_folder_pair_is_split_by_photograph(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{number}-{k}.png" for number in range(20) for k in range(3)), "masks/0-0.png")
    samples = scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "black", "80/10/10")
    stems = {split: {s.stem for s in samples if s.split == split} for split in ("train", "valid", "test")}
    assert [len(found) for found in stems.values()] == [16, 2, 2]
    assert len(set.union(*stems.values())) == 20
    again = scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "black", "80/10/10")
    assert again == samples
    assert all(sample.id == f"my/edit/{sample.split}/{sample.name}" for sample in samples)


@pytest.mark.parametrize("split", ["80/20", "80/10/20", "a/b/c", "-10/100/10", ""])
def test_split_that_cannot_be_read(tmp_path: Path, split: str) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises(ConfigError, match="expected train/valid/test in per cent"):
        scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "black", split)


def test_folder_pairs_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "images/a-1.png", "images/a-2.png", "masks/a-1.png")
    pair = (tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ConfigError, match="--split 80/10/10"):
        scan_pair(*pair, "my/edit", "black")
    with pytest.raises(DataError, match=r"2 images show 1 photographs.*too few"):
        scan_pair(*pair, "my/edit", "black", "80/10/10")
    with pytest.raises(DataError, match="no folder"):
        scan_pair(tmp_path / "images", tmp_path / "none", "my/edit", "black")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files in"):
        scan_pair(tmp_path / "empty", tmp_path / "masks", "my/edit", "black", "80/10/10")
    for name in ("edit", "my/", "my/real", "my/a/b", "../x", "my/a b"):
        with pytest.raises(ConfigError, match="expected <source>/<generator>"):
            scan_pair(*pair, name, "black")
