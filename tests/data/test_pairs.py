from pathlib import Path

import pytest

from dfloc.data.pairs import read_pair, scan_pair
from dfloc.errors import ConfigError, DataError
from tests.data.test_dolos import ids, touch


def test_folder_pair_with_splits(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/1.png", "images/test/2.png", "masks/train/1.png", "masks/test/2.png")
    samples = scan_pair(tmp_path / "images", tmp_path / "masks", "my/edit", "white")
    assert ids(samples) == ["my/edit/test/2.png", "my/edit/train/1.png"]
    assert {sample.mask_kind for sample in samples} == {"fake_is_white"}
    with pytest.raises(ConfigError, match="leave out the split"):
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
    with pytest.raises(ConfigError, match="split 80/10/10"):
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


@pytest.mark.parametrize("folder", ["edited", "my photos, 2024=best"])
def test_a_pair_as_a_command_line_names_it(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    touch(root, *(f"{part}/{number}.png" for part in ("images", "masks") for number in range(10)))
    samples = read_pair(f"mine/sd={root},fake=white,split=60/20/20")
    assert samples == scan_pair(root / "images", root / "masks", "mine/sd", "white", "60/20/20")
    assert [sum(s.split == split for s in samples) for split in ("train", "valid", "test")] == [6, 2, 2]
    assert {s.mask_kind for s in read_pair(f"mine/sd={root},fake=black,split=100/0/0")} == {"fake_is_black"}
    with pytest.raises(ConfigError, match="80/10/10"):
        read_pair(f"mine/sd={root},fake=white")
    touch(root, "images/train/1.png", "masks/train/1.png")
    assert ids(read_pair(f"mine/sd={root},fake=white")) == ["mine/sd/train/1.png"]


@pytest.mark.parametrize(
    "written",
    ["edited", "mine/sd=edited", "mine/sd=edited,fake=grey", "mine/sd=,fake=white", "mine/sd=x,split=8,fake=white", ""],
)
def test_pairs_that_cannot_be_understood(written: str) -> None:
    with pytest.raises((ConfigError, DataError), match=r"<source>/<generator>=FOLDER,fake=black\|white|no folder"):
        read_pair(written)
