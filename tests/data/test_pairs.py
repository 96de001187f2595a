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


def test_names_that_are_cut_at_their_last_underscore(tmp_path: Path) -> None:
    """AutoSplice: several images of one photograph, which has one mask; the folders have names of their own."""
    touch(tmp_path, *(f"Forged_JPEG75/{name}.jpg" for name in ("12_0", "12_1", "a_b_0")))
    touch(tmp_path, "Mask/12_mask.png", "Mask/a_b_mask.png", "Mask/12.png")
    written = f"autosplice/jpeg75={tmp_path},fake=white,images=Forged_JPEG75,masks=Mask,mask={{cut}}_mask"
    with pytest.raises(ConfigError, match="80/10/10"):
        read_pair(written)
    samples = read_pair(written, otherwise="test")
    assert {s.name: (s.mask and s.mask.name, s.stem, s.pair, s.split) for s in samples} == {
        "12_0.jpg": ("12_mask.png", "autosplice/12", "autosplice/12_0", "test"),
        "12_1.jpg": ("12_mask.png", "autosplice/12", "autosplice/12_1", "test"),
        "a_b_0.jpg": ("a_b_mask.png", "autosplice/a_b", "autosplice/a_b_0", "test"),
    }
    assert {s.id for s in samples} == {f"autosplice/jpeg75/test/{s.name}" for s in samples}
    assert read_pair(f"{written},split=test") == samples
    halves = read_pair(f"{written},split=50/0/50")
    assert len({s.split for s in halves if s.stem == "autosplice/12"}) == 1, "a photograph stays in one split"


def test_a_mask_name_from_the_whole_name_and_with_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/test/1.png", "images/test/in/2.png", "masks/test/gt-1.png", "masks/test/in/2.png")
    one, two = read_pair(f"mine/sd={tmp_path},fake=black,mask={{name}}")
    assert {sample.name: sample.mask for sample in (one, two)}["1.png"] is None
    named = {s.name: s.mask for s in read_pair(f"mine/sd={tmp_path},fake=black,mask=gt-{{name}}")}
    assert named == {"1.png": tmp_path / "masks/test/gt-1.png", "in/2.png": None}


@pytest.mark.parametrize("mask", ["mask", "{name}{cut}", "{stem}_mask", "{name", "{name}_{name}"])
def test_mask_names_that_cannot_be_understood(tmp_path: Path, mask: str) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises(ConfigError, match=r"expected one \{name\} or \{cut\}"):
        read_pair(f"mine/sd={tmp_path},fake=white,mask={mask}", otherwise="test")


def write_table(root: Path, text: str) -> str:
    touch(root, "fake/glide_1_up.png", "fake/glide_2_up.png", "mask/cat_1_mask.png", "mask/dining table_2_mask.png")
    (root / "table.csv").write_text(text, encoding="utf-8-sig")
    return f"coco/glide={root},fake=white,images=fake,masks=mask,table=table.csv"


def test_a_table_pairs_files_of_other_names(tmp_path: Path) -> None:
    """COCO Glide: a CSV with a byte-order mark whose columns are named like the folders."""
    written = write_table(
        tmp_path,
        "real,fake,mask,prompt\n"
        'real/cat_1.png,fake/glide_1_up.png,mask/cat_1_mask.png,"a cat, sitting"\n'
        "real/dining table_2.png,glide_2_up.png,dining table_2_mask.png,x\n",
    )
    samples = read_pair(written, otherwise="test")
    assert {s.name: s.mask for s in samples} == {
        "glide_1_up.png": tmp_path / "mask/cat_1_mask.png",
        "glide_2_up.png": tmp_path / "mask/dining table_2_mask.png",
    }
    touch(tmp_path, "fake/more.png")
    assert [s.mask for s in read_pair(written, otherwise="test") if s.name == "more.png"] == [None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fake,masks\n", 'unknown column "mask"; did you mean "masks"'),
        ("", 'unknown column "fake"'),
        ("fake,mask\nglide_1_up.png,gone.png\n", 'names "gone.png", which is neither in'),
        ("fake,mask\nglide_1_up.png\n", 'names "", which is neither'),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pair(write_table(tmp_path, text), otherwise="test")
    with pytest.raises(ConfigError, match="leave out mask, or the table"):
        read_pair(f"{write_table(tmp_path, text)},mask={{cut}}", otherwise="test")


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    written = write_table(tmp_path, "")
    (tmp_path / "table.csv").write_bytes(b"fake,mask\n\xff\xfe\n")
    with pytest.raises(DataError, match="cannot read the table"):
        read_pair(written, otherwise="test")
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DataError, match="cannot read the table"):
        read_pair(written, otherwise="test")


def test_originals_have_the_name_of_the_image_or_of_its_photograph(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{name}.png" for name in ("a-0", "b-0", "c-0") for part in ("images", "masks")))
    touch(tmp_path, "before/a-0.jpg", "before/b.png", "before/c-1.png")
    written = f"my/edit={tmp_path},fake=white,split=test"
    found = {sample.name: sample.original for sample in read_pair(f"{written},originals=before")}
    before = tmp_path / "before"
    assert found == {"a-0.png": before / "a-0.jpg", "b-0.png": before / "b.png", "c-0.png": None}
    assert {sample.original for sample in read_pair(written)} == {None}
    with pytest.raises(DataError, match=r"no folder .*gone"):
        read_pair(f"{written},originals=gone")
    touch(tmp_path, "other/x.png")
    with pytest.raises(DataError, match="no original of the name of any of the 3 images"):
        read_pair(f"{written},originals=other")


def test_originals_lie_beside_split_folders_or_in_the_same(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{split}/1.png" for split in ("train", "test") for part in ("images", "masks")))
    touch(tmp_path, "before/test/1.png", "flat/1.png")
    for folder, expected in (("before", "before/test/1.png"), ("flat", "flat/1.png")):
        samples = read_pair(f"my/edit={tmp_path},fake=white,originals={folder}")
        assert {sample.original for sample in samples} == {tmp_path / expected}
