import re
from pathlib import Path

import pytest
from upath import UPath

from dfloc.data import dolos
from dfloc.data.dolos import Sample
from dfloc.data.folder_pairs import FolderPair, read_pair, read_pairs, scan, without_masks
from dfloc.data.manifest import DomainInfo
from dfloc.data.writer import ShardJob, write_shard
from dfloc.errors import ConfigError, DataError
from tests.cases import names
from tests.data.pairs import scan_pair
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
    pair = FolderPair(tmp_path / "images", tmp_path / "masks", "my/edit", "black", "80/10/10", photograph="{stem}")
    samples = scan(pair)
    stems = {split: {s.stem for s in samples if s.split == split} for split in ("train", "valid", "test")}
    assert [len(found) for found in stems.values()] == [16, 2, 2]
    assert len(set.union(*stems.values())) == 20
    assert scan(pair) == samples
    assert all(sample.id == f"my/edit/{sample.split}/{sample.name}" for sample in samples)
    assert len({s.stem for s in scan(pair._replace(photograph=None))}) == 60


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
    with pytest.raises(DataError, match=r"2 images show 1 source images.*too few"):
        scan(FolderPair(*pair, "my/edit", "black", "80/10/10", photograph="{stem}"))
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
    touch(root, "more/images/train/1.png", "more/masks/train/1.png")
    assert ids(read_pair(f"mine/sd={root}/more,fake=white")) == ["mine/sd/train/1.png"]


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
    touch(tmp_path, "masks/test/in/gt-3.png", "images/test/in/3.png")
    named = {s.name: s.mask for s in read_pair(f"mine/sd={tmp_path},fake=black,mask=gt-{{name}}")}
    masks = {"1.png": tmp_path / "masks/test/gt-1.png", "in/3.png": tmp_path / "masks/test/in/gt-3.png"}
    assert named == {**masks, "in/2.png": None}


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
    assert read_pair(written, otherwise="test") == samples, "a table is the list of samples"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fake,mask\n", "names no image"),
        ("fake,maks\nglide_1_up.png,x\n", 'unknown column "maks"; did you mean "mask"'),
        ("", "is empty"),
        ("fake,mask\nglide_1_up.png,gone.png\n", 'line 2 names "gone.png", which is neither in'),
        ("fake,mask\n\nglide_1_up.png\n", "line 3: expected 2 cells, found 1"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pair(write_table(tmp_path, text), otherwise="test")
    written = write_table(tmp_path, "fake,mask\nglide_1_up.png,cat_1_mask.png\n")
    with pytest.raises(DataError, match="leave out the mask name, or the column"):
        read_pair(f"{written},mask={{cut}}", otherwise="test")


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    written = write_table(tmp_path, "")
    (tmp_path / "table.csv").write_bytes(b"fake,mask\n\xff\xfe\n")
    with pytest.raises(DataError, match="cannot read the table"):
        read_pair(written, otherwise="test")
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DataError, match="cannot read the table"):
        read_pair(written, otherwise="test")


CASES = {
    "two-masks": (names.two_masks, "", r"a0x.png: 2 masks of that name: a0x.bmp, a0x.png"),
    "flat": (names.flat, ",images=all,masks=all", r"lie in one folder.*--mask-name \{name\}_GT"),
    "flat, by its table": (names.flat, ",images=all,masks=all,table=t.csv", 'the columns "all" and "all"'),
    "twice": (names.lists, ",table=twice.csv", "lines 2 and 4 name s0x.png and differ"),
    "suffix": (names.suffix, "", r"the masks of all 4 images exist as NAME_gt: --mask-name \{name\}_gt"),
    "suffix of two words": (names.words, "", r"NAME \(mask\): --mask-name '\{name\} \(mask\)' "),
    "suffix of one": (
        names.one,
        "",
        r"a0x.png: no mask of that name; its mask exists as NAME_gt: --mask-name \{name\}_gt",
    ),
    "one mask of two": (names.shared, "", r"the masks of all 4 images exist as CUT_mask: --mask-name \{cut\}_mask "),
    "capitals": (names.capitals, "", r"images/Test is called like a split in other letters; rename it test"),
    "beside": (names.beside, "", r"images/c\.png and 1 more lies beside the split folders; move it into one of them"),
    "unicode": (names.unicode, "", "another Unicode form: rename"),
    "case": (names.case, "", r"IMG_1.JPG: no mask of that name, but img_1.png, other case: rename.*--table"),
}


@pytest.mark.parametrize("name", CASES)
def test_pairing_that_is_not_one_to_one_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write, asked, said = CASES[name]
    write(tmp_path)
    with pytest.raises(DataError, match=said):
        read_pair(f"mine/sd={tmp_path},fake=white{asked}", otherwise="test")


def test_the_near_miss_is_taken_as_it_says(tmp_path: Path) -> None:
    names.flat(tmp_path / "flat")
    names.suffix(tmp_path / "suffix")
    flat = read_pair(f"mine/sd={tmp_path}/flat,fake=white,images=all,masks=all,mask={{name}}_GT", otherwise="test")
    assert {s.name: s.mask and s.mask.name for s in flat} == {f"s{k}x.jpg": f"s{k}x_GT.png" for k in range(4)}
    apart = read_pair(f"mine/sd={tmp_path}/suffix,fake=white,mask={{name}}_gt", otherwise="test")
    assert {s.name: s.mask and s.mask.name for s in apart} == {f"s{k}x.png": f"s{k}x_gt.png" for k in range(4)}


def test_what_is_paired_twice_in_a_tree_is_a_reject(tmp_path: Path) -> None:
    """One image of several: the others are imported."""
    images, masks = (tmp_path / f"c/fake/g/{part}/train" for part in ("images", "masks"))
    for name in ("1.png", "2.jpg", "2.png", "3.png"):
        names.photo(images / name)
    for name in ("1.png", "1.bmp", "2.png", "3.png"):
        names.mask(masks / name, white=False)
    samples = dolos.scan(tmp_path)
    receipt = write_shard(ShardJob(UPath(tmp_path / "one.parquet"), samples))
    assert receipt.num_rows == 1
    assert {reject.file: reject.reason for reject in receipt.rejected} == {
        "1.png": "2 masks of that name: 1.bmp, 1.png; leave one",
        "2.jpg": "one mask, 2.png, for 2 images: 2.jpg, 2.png; rename them",
        "2.png": "one mask, 2.png, for 2 images: 2.jpg, 2.png; rename them",
    }


def test_lists_of_a_subset_without_a_head_and_with_a_real_image(tmp_path: Path) -> None:
    names.lists(tmp_path)

    def read(table: str) -> list[Sample]:
        return read_pair(f"mine/sd={tmp_path},fake=white,table={table}", otherwise="test")

    assert ids(read("subset.csv")) == ["mine/sd/test/s0x.png", "mine/sd/test/s1x.png"]
    assert read("headless.txt") == read("subset.csv")
    real, fake = read("with-real.csv")
    assert (real.id, real.mask, real.mask_kind) == ("mine/real/test/real0x.png", None, "real")
    assert (fake.id, fake.mask) == ("mine/sd/test/s0x.png", tmp_path / "masks/s0x.png")


@pytest.mark.parametrize(
    ("rule", "stems"),
    [
        (None, {f"img-{k}" for k in range(1, 10)}),
        ("{name}", {f"img-{k}" for k in range(1, 10)}),
        ("{stem}", {"img"}),
        ("{cut}", {f"img-{k}" for k in range(1, 10)}),
        ("img-(.).*", {str(k) for k in range(1, 10)}),
        ("(?P<photograph>i)(mg)-.", {"i"}),
    ],
)
def test_which_photograph_a_file_shows(rule: str | None, stems: set[str], tmp_path: Path) -> None:
    names.dash(tmp_path)
    asked = "" if rule is None else f",photograph={rule}"
    samples = read_pair(f"mine/sd={tmp_path},fake=white{asked}", otherwise="test")
    assert {sample.stem for sample in samples} == {f"mine/{stem}" for stem in stems}
    label = {None: "{name}", "{stem}": None}.get(rule, rule)
    assert {sample.photograph for sample in samples} == {label}


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("img", ConfigError),
        ("(img", ConfigError),
        ("(i)(m)g-.", ConfigError),
        ("{foo}", ConfigError),
        ("", ConfigError),
        ("((i+)+)", ConfigError),
        ("(i)" + "." * 300, ConfigError),
        ("img-([1-8])", DataError),
        ("img-.()", DataError),
    ],
)
def test_rules_that_tell_no_photograph(rule: str, error: type[Exception], tmp_path: Path) -> None:
    names.dash(tmp_path)
    with pytest.raises(error, match=r"photograph \"") as raised:
        read_pair(f"mine/sd={tmp_path},fake=white,photograph={rule}", otherwise="test")
    assert len(str(raised.value)) < 500


def test_authentic_images_of_ones_own(tmp_path: Path) -> None:
    """They are split by photograph, together with the fakes."""
    for k in range(20):
        touch(tmp_path, f"images/{k}_a.png", f"masks/{k}_a.png", f"photos/{k}_0.png")
    pair = f"mine/sd={tmp_path},fake=white,photograph={{cut}},real=photos"
    samples = read_pair(f"{pair},split=50/0/50")
    reals = [sample for sample in samples if sample.domain == "mine/real"]
    assert len(reals) == 20
    assert {sample.mask_kind for sample in reals} == {"real"}
    places = [{(s.stem, s.split) for s in samples if s.domain == domain} for domain in ("mine/real", "mine/sd")]
    assert places[0] == places[1]
    assert {split for _, split in places[0]} == {"train", "test"}
    assert all(sample.id == f"mine/real/{sample.split}/{sample.name}" for sample in reals)


@pytest.mark.parametrize(
    ("rule", "fakes", "reals"),
    [
        ("{cut}", "IMG_100{k}_{j}", {f"IMG_100{k}": f"IMG_100{k}" for k in range(1, 9)}),
        ("{stem}", "DSC-{k}-{j}", {f"DSC-{k}": f"DSC-{k}" for k in range(1, 9)}),
        ("(.*)_v[0-9]", "a{k}_v{j}", {f"a{k}": f"a{k}" for k in range(1, 9)}),
        ("{cut}", "{k}_{j}", {"1_x": "1", "1_y": "1", "9_x": "9", "9_y": "9"}),
        ("{cut}", "z{k}_{j}", {"IMG_1": "IMG_1", "IMG_2": "IMG_2"}),
        ("{cut}", "a_{k}_{j}", {"a_1": "a_1", "a_2_x": "a_2", "b_1": "b_1"}),
    ],
)
def test_the_photograph_of_an_authentic_image(rule: str, fakes: str, reals: dict[str, str], tmp_path: Path) -> None:
    """Fakes of four photographs, two each; the rule would make IMG of IMG_1001, and an expression would not match."""
    names_of = [fakes.format(k=k, j=j) for k in range(1, 5) for j in (1, 2)]
    touch(tmp_path, *(f"{part}/{name}.png" for name in names_of for part in ("images", "masks")))
    touch(tmp_path, *(f"real/{name}.png" for name in reals))
    samples = read_pair(f"mine/sd={tmp_path},fake=white,photograph={rule},real=real,split=50/0/50")
    found = {s.name[:-4]: s.stem for s in samples if s.mask_kind == "real"}
    assert found == {name: f"mine/{photograph}" for name, photograph in reals.items()}
    splits = {stem: {s.split for s in samples if s.stem == stem} for stem in {s.stem for s in samples}}
    assert {len(each) for each in splits.values()} == {1}
    assert len({stem for stem in splits if stem in found.values()}) == len(set(reals.values()))


def test_authentic_folders_that_do_not_fit(tmp_path: Path) -> None:
    touch(tmp_path, "a/images/train/1.png", "a/masks/train/1.png", "a/flat/2.png", "a/real/train/2.png")
    written = f"mine/sd={tmp_path}/a,fake=white"
    with pytest.raises(ConfigError, match="flat should have folders train, valid, test"):
        read_pair(f"{written},real=flat")
    for gone in ("gone", "x" * 300):
        with pytest.raises(DataError, match=rf"no folder .*{gone} of authentic images"):
            read_pair(f"{written},real={gone}")
    with pytest.raises(DataError, match=r"1\.png would be an authentic image and one of mine/sd too"):
        read_pair(f"{written},real=images")
    assert ids(read_pair(f"{written},real=real")) == ["mine/real/train/2.png", "mine/sd/train/1.png"]


def test_real_images_of_two_pairs_are_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/1.png" for part in ("a/images", "a/masks", "b/images", "b/masks")))
    touch(tmp_path, "photos/2.png", "others/2.png")
    one, two = f"mine/a={tmp_path}/a,fake=white,real=../photos", f"mine/b={tmp_path}/b,fake=white,real=../photos"
    assert ids(read_pairs([one, two], "test")) == ["mine/a/test/1.png", "mine/b/test/1.png", "mine/real/test/2.png"]
    with pytest.raises(DataError, match=r"would both be mine/real/test/2\.png"):
        read_pairs([one, two.replace("photos", "others")], "test")


def test_folders_without_masks_are_wholly_generated_or_real(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sd/{k}_{j}.png" for k in range(3) for j in range(2)), *(f"photos/{k}_x.jpg" for k in range(2)))
    written = [f"mine/sd={tmp_path}/sd,generated", f"mine/real={tmp_path}/photos,real"]
    samples = read_pairs(written, "test")
    names = [f"mine/real/test/{k}_x.jpg" for k in range(2)]
    assert sorted(ids(samples)) == names + [f"mine/sd/test/{k}_{j}.png" for k in range(3) for j in range(2)]
    assert {(s.domain, s.mask_kind, s.mask) for s in samples} == {
        ("mine/sd", "generated", None),
        ("mine/real", "real", None),
    }
    cut = read_pairs([f"{each},photograph={{cut}}" for each in written], "test")
    assert {s.stem for s in cut if s.domain == "mine/sd"} == {"mine/0", "mine/1", "mine/2"}
    assert {s.stem for s in cut if s.domain == "mine/real"} == {"mine/0", "mine/1"}, "the rule holds without fakes too"
    with pytest.raises(ConfigError, match="name each of split once"):
        read_pair(f"mine/sd={tmp_path}/sd,generated,split=80/10/10,split=50/50/0")
    assert [without_masks(each) for each in (*written, "mine/sd=x,fake=white,real=y")] == ["mine/sd", "mine/real", ""]


def test_a_folder_without_masks_takes_splits_a_part_and_a_family(tmp_path: Path) -> None:
    touch(tmp_path, "all/train/1.png", "all/test/2.png", *(f"flat/{k}.png" for k in range(10)))
    samples = read_pair(f"mine/sd={tmp_path},generated,images=all,family=diffusion")
    assert [(s.id, s.family) for s in samples] == [
        ("mine/sd/train/1.png", "diffusion"),
        ("mine/sd/test/2.png", "diffusion"),
    ]
    shares = read_pair(f"mine/real={tmp_path}/flat,real,split=50/0/50")
    assert [sum(s.split == split for s in shares) for split in ("train", "test")] == [5, 5]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mine/real={},generated", 'domain "mine/real" cannot be used'),
        ("mine/photos={},real", "write mine/real=FOLDER,real"),
        ("mine/sd={}/gone,generated", "no folder .*gone; expected one with images$"),
        ("mine/sd={}/empty,generated", "no files in .*empty"),
        ("mine/sd={},generatd", "without masks <source>/<generator>=FOLDER,generated"),
        ("mine/sd={},generated,masks=m", "without masks <source>/<generator>=FOLDER,generated"),
        ("mine/sd={},generated,split=1/2/3", 'split "1/2/3" cannot be used'),
    ],
)
def test_folders_without_masks_that_cannot_be_used(written: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises((ConfigError, DataError), match=said):
        read_pair(written.format(tmp_path), None if "split" in written else "test")


def held(rule: str | None) -> dict[str, DomainInfo]:
    return {"mine/sd": DomainInfo(kind="local", family="sd", mask_kind="fake_is_white", splits={}, photograph=rule)}


def test_an_import_made_before_keeps_its_own_rule(tmp_path: Path) -> None:
    names.dash(tmp_path)
    names.dash(tmp_path / "two")
    written = f"mine/sd={tmp_path},fake=white"

    def stems(said: str, before: str | None) -> tuple[set[str], set[str | None]]:
        samples = read_pair(written + said, "test", held(before))
        return {sample.stem for sample in samples}, {sample.photograph for sample in samples}

    assert stems("", None) == ({"mine/img"}, {None}), "Dolos' rule, as 40e56a3 had it, and no word of it"
    assert stems("", "img-(.)") == ({f"mine/{k}" for k in range(1, 10)}, {"img-(.)"})
    assert stems(",photograph={name}", None) == ({f"mine/img-{k}" for k in range(1, 10)}, {"{name}"})
    other = read_pair(f"mine/other={tmp_path},fake=white", "test", held(None))
    assert len({sample.stem for sample in other}) == 9


def test_keys_that_are_unknown_or_twice(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises(ConfigError, match='unknown key "maks"; did you mean "masks"'):
        read_pair(f"mine/sd={tmp_path},fake=white,maks=masks", otherwise="test")
    with pytest.raises(ConfigError, match="each once"):
        read_pair(f"mine/sd={tmp_path},fake=white,fake=black", otherwise="test")


def test_originals_have_the_name_of_the_image_or_of_its_photograph(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{name}.png" for name in ("a-0", "b-0", "c-0") for part in ("images", "masks")))
    touch(tmp_path, "before/a-0.jpg", "before/b.png", "before/c-1.png")
    written = f"my/edit={tmp_path},fake=white,split=test,photograph={{stem}}"
    found = {sample.name: sample.original for sample in read_pair(f"{written},originals=before")}
    before = tmp_path / "before"
    assert found == {"a-0.png": before / "a-0.jpg", "b-0.png": before / "b.png", "c-0.png": None}
    assert {sample.original for sample in read_pair(written)} == {None}
    with pytest.raises(DataError, match=r"no folder .*gone"):
        read_pair(f"{written},originals=gone")
    touch(tmp_path, "other/x.png")
    with pytest.raises(DataError, match="no original of the name of any of the 3 images"):
        read_pair(f"{written},originals=other")


@pytest.mark.parametrize(("name", "rule"), [("DSC-{}-1", "{stem}"), ("DSC_{}_a", "{cut}")])
def test_originals_that_another_rule_would_find(name: str, rule: str, tmp_path: Path) -> None:
    for k in range(1, 4):
        touch(tmp_path, *(f"{part}/{name.format(k)}.png" for part in ("images", "masks")))
        touch(tmp_path, f"before/{name.format(k)[:-2]}.png")
    written = f"my/edit={tmp_path},fake=white,split=test,originals=before"
    with pytest.raises(DataError, match=re.escape(f"source images of 3: --photograph {rule} ")):
        read_pair(written)
    assert all(sample.original for sample in read_pair(f"{written},photograph={rule}"))


def test_originals_lie_beside_split_folders_or_in_the_same(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{split}/1.png" for split in ("train", "test") for part in ("images", "masks")))
    touch(tmp_path, "before/test/1.png", "flat/1.png")
    for folder, expected in (("before", "before/test/1.png"), ("flat", "flat/1.png")):
        samples = read_pair(f"my/edit={tmp_path},fake=white,originals={folder}")
        assert {sample.original for sample in samples} == {tmp_path / expected}


def test_the_family_of_a_pair_is_what_is_said_or_was_before(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "masks/1.png", "real/2.png")
    written = f"mine/sd={tmp_path},fake=white,real=real"

    def families(more: str, before: dict[str, DomainInfo] | None = None) -> dict[str, str | None]:
        return {sample.domain: sample.family for sample in read_pair(written + more, "test", before)}

    assert families("") == {"mine/sd": None, "mine/real": None}
    assert families(",family=diffusion") == {"mine/sd": "diffusion", "mine/real": None}
    kept = {"mine/sd": held(None)["mine/sd"].model_copy(update={"family": "diffusion"})}
    assert families("", kept)["mine/sd"] == "diffusion"
    assert families(",family=other", kept)["mine/sd"] == "other"
    with pytest.raises(ConfigError, match='family "a/b" cannot be used'):
        families(",family=a/b")
    with pytest.raises(ConfigError, match='family "real" is that of real images, which mine/sd has none of'):
        families(",family=real")
