import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfloc.data.dolos import COUNTS, PublishedCount, Sample, family, kind, photograph, resolve, scan
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
    ("name", "expected"),
    [("00012-1", "00012"), ("a-b", "a-b"), ("a-b-12", "a-b"), ("7", "7"), ("a_1", "a_1"), ("DSC-0012", "DSC-0012")],
)
def test_photograph(name: str, expected: str) -> None:
    assert photograph(name) == expected


def test_families_join_the_two_sizes_of_repaint() -> None:
    assert family("celebahq/repaint-p2-9k", {}) == family("celebahq/repaint-p2", {}) == "repaint-p2"
    assert family("celebahq/ldm", {}) == family("mine/ldm", {}) == "ldm", "by the generator, whatever the source"
    assert family("mine/ldm", {"mine/ldm": "diffusion", "celebahq/ldm": "other"}) == "diffusion"


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
    touch(tmp_path, "e/c/real/Train/1.png")
    with pytest.raises(DataError, match='unknown split folder "Train"; did you mean "train"'):
        scan(tmp_path / "e")
    touch(tmp_path, "f/c/real/train/1.png", "f/c/real/2.png")
    with pytest.raises(DataError, match=r"real/2\.png lies beside the split folders; move it"):
        scan(tmp_path / "f")
    touch(tmp_path, "d/my photos/real/train/1.png")
    with pytest.raises(ConfigError, match="my photos/real"):
        scan(tmp_path / "d")


LAYOUT = {
    "celebahq": {
        "real": "real",
        "p2": "full",
        **dict.fromkeys(("repaint-p2", "repaint-p2-9k", "ldm", "lama", "pluralistic"), "local"),
    },
    "ffhq": {"real": "real", "p2": "full", "repaint-p2": "local"},
}


def folders(source: str, generator: str, kind: str) -> list[str]:
    inner = {"real": ["real"], "full": [f"fake/{generator}"]}.get(kind, [f"fake/{generator}/{part}" for part in PARTS])
    return [f"{source}/{each}" for each in inner]


PARTS = ("images", "masks")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Dolos' whole layout, two photographs a split with two fakes each, unpacked as `wacv_data`."""
    for source, generators in LAYOUT.items():
        for generator, what in generators.items():
            for split in published_splits(source, generator):
                names = [f"{split}{stem}{k}.png" for stem in "ab" for k in (["-0", "-1"] if what == "local" else [""])]
                for folder in folders(source, generator, what):
                    touch(tmp_path / "wacv_data", *(f"{folder}/{split}/{name}" for name in names))
    return tmp_path / "wacv_data"


def published() -> dict[str, dict[str, int]]:
    """Return the counts of s004.table1 in the report's copy of the published tables, by domain and split."""
    tables = yaml.safe_load(resources.files("dfloc.report").joinpath("published.yaml").read_text())["studies"]
    (table,) = (table for table in tables if table["id"] == "s004.table1")
    found = {}
    for row, values in zip(table["rows"], table["values"], strict=True):
        generator, _, source = row.partition("/")
        found[f"{source}/{generator}"] = {
            split: value for split, value in zip(table["cols"], values, strict=True) if value is not None
        }
    return found


def published_splits(source: str, generator: str) -> list[str]:
    return list(published().get(f"{source}/{generator}", {"train": 9000, "valid": 900, "test": 900}))


def test_the_whole_layout_of_dolos(whole: Path) -> None:
    samples = scan(whole)
    found = {(sample.domain, sample.split) for sample in samples}
    assert found == {(domain, split) for domain, splits in COUNTS.items() for split in splits}
    kinds = {sample.domain: kind(sample.mask_kind) for sample in samples}
    assert kinds == {f"{source}/{name}": what for source, each in LAYOUT.items() for name, what in each.items()}
    assert len({family(domain, {}) for domain in kinds if kinds[domain] == "local"}) == 4
    assert all((sample.mask is not None) == (kinds[sample.domain] == "local") for sample in samples)
    fakes = [s for s in samples if (s.domain, s.split) == ("celebahq/ldm", "test")]
    assert sorted(s.id for s in fakes) == [f"celebahq/ldm/test/test{stem}-{k}.png" for stem in "ab" for k in range(2)]
    reals = [s for s in samples if (s.domain, s.split) == ("celebahq/real", "test")]
    assert {s.stem for s in fakes} == {s.stem for s in reals} == {"celebahq/testa", "celebahq/testb"}


def test_a_folder_that_cannot_be_listed_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("lama/images/test"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot list folder .*lama/images/test: Permission denied"):
        scan(whole)


def test_a_tree_is_found_from_its_root_its_source_and_through_links(whole: Path, tmp_path: Path) -> None:
    everything = ids(scan(whole))
    celebahq = [name for name in everything if name.startswith("celebahq/")]
    assert ids(scan(whole / "celebahq")) == celebahq
    (tmp_path / "data").symlink_to(whole)
    assert ids(scan(tmp_path / "data")) == everything
    assert ids(scan(tmp_path / "data/celebahq/../celebahq/.")) == celebahq
    (tmp_path / "zip").mkdir()
    whole.rename(tmp_path / "zip/wacv_data")
    with pytest.raises(DataError, match=r"no Dolos tree in .*did you mean .*/zip/wacv_data\?"):
        scan(tmp_path / "zip")


def test_odd_files_among_the_images(tmp_path: Path) -> None:
    images, masks = "c/fake/g/images/train", "c/fake/g/masks/train"
    touch(tmp_path, f"{images}/1.PNG", f"{images}/deep/2.jpg", f"{images}/Thumbs.db", f"{images}/._1.PNG")
    touch(tmp_path, f"{images}/notes.txt", f"{masks}/notes.txt", "__MACOSX/real/train/1.png", "c/fake/__MACOSX/x")
    touch(tmp_path, f"{masks}/1.bmp", f"{masks}/1.JSON", f"{masks}/deep/2.PNG", f"{masks}/desktop.ini")
    found = {sample.name: sample.mask and sample.mask.name for sample in scan(tmp_path)}
    assert found == {"1.PNG": "1.bmp", "deep/2.jpg": "2.PNG", "notes.txt": "notes.txt"}


def test_counts_are_those_of_the_published_table() -> None:
    counts = {
        domain: {split: count.images for split, count in splits.items()}
        for domain, splits in COUNTS.items()
        if domain != "celebahq/repaint-p2-9k"
    }
    assert counts == published()
    nine = {split: (count.images, count.printed) for split, count in COUNTS["celebahq/repaint-p2-9k"].items()}
    assert nine == {"train": (9000, "9000"), "valid": (900, "900"), "test": (900, "900")}


@pytest.mark.parametrize(
    ("printed", "images", "same", "other"),
    [
        ("8.5k", 8500, (8472, 8500, 8549), (8449, 8551, 8000, 0)),
        ("30k", 30_000, (30_000, 29_501, 30_499), (29_499, 30_501)),
        ("900", 900, (900,), (899, 901, 0)),
        ("9000", 9000, (9000,), (8999, 9001)),
    ],
)
def test_a_count_matches_at_its_printed_precision(
    printed: str, images: int, same: tuple[int, ...], other: tuple[int, ...]
) -> None:
    count = PublishedCount(printed)
    assert count.images == images
    assert all(count.matches(found) for found in same)
    assert not any(count.matches(found) for found in other)


def test_a_fake_of_a_tree_has_the_real_image_of_its_name_or_photograph(tmp_path: Path) -> None:
    fakes = ("1-0", "1-1", "2-0", "3-0", "4-0")
    touch(tmp_path, *(f"c/fake/lda/{part}/train/{name}.png" for name in fakes for part in ("images", "masks")))
    touch(tmp_path, "c/real/train/1-0.jpg", "c/real/train/1-1.png", "c/real/test/2.jpg", "c/fake/p2/train/1-0.png")
    touch(tmp_path, "c/real/train/3-1.png", "c/real/train/3-2.png", "d/real/train/4-0.png")
    found = {sample.name: sample.original for sample in scan(tmp_path) if sample.domain == "c/lda"}
    real = tmp_path / "c/real"
    assert found == {
        "1-0.png": real / "train/1-0.jpg",
        "1-1.png": real / "train/1-1.png",
        "2-0.png": real / "test/2.jpg",
        "3-0.png": None,
        "4-0.png": None,
    }, "which of two real images it shows is not known; another source has other photographs"
    assert {sample.original for sample in scan(tmp_path) if sample.domain != "c/lda"} == {None}
