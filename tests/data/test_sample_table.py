"""Lists of samples of every form: the same rows, or one sentence with the line."""

import json
from pathlib import Path

import pytest

from dfloc.data.folder_pairs import read_pair
from dfloc.data.sample_table import MAX_BYTES, SampleRow, read
from dfloc.errors import DataError
from tests.data.test_dolos import ids, touch

FOLDERS = {"images": "image", "masks": "mask"}
PAIRS = [("a 1.png", "m1.png"), ("b.png", "m2.png")]


def rows(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> list[SampleRow]:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    there = {"a 1.png", "b.png", "a,1.png"}
    return read(tmp_path / name, FOLDERS, there.__contains__, lambda file, image: file != image and file in there)


def pairs(found: list[SampleRow]) -> list[tuple[str, str | None]]:
    return [(row.image, row.mask) for row in found]


@pytest.mark.parametrize(
    "text",
    [
        "image,mask\na 1.png,m1.png\nb.png,m2.png\n",
        "mask;image\nm1.png;a 1.png\nm2.png;b.png\n",
        "img\tGround Truth\na 1.png\tm1.png\nb.png\tm2.png\n",
        "ProbeFileName|ProbeMaskFileName|TaskID\na 1.png|m1.png|x\nb.png|m2.png|y\n",
        "images,masks\na 1.png,m1.png\nb.png,m2.png",
        "image_path, mask_path\r\na 1.png , m1.png\r\n\r\nb.png, m2.png\r\n",
        "\ufeffimage,mask\na 1.png,m1.png\nb.png,m2.png\n",
        'image,mask,prompt\n"a 1.png","m1.png","a cat, sitting"\nb.png,m2.png,x\n',
        "a 1.png,m1.png\nb.png,m2.png\n",
        "a 1.png\tm1.png\rb.png\tm2.png\r",
        '"a 1.png" m1.png\nb.png   m2.png\n',
        "image,mask\na 1.png,m1.png,\nb.png,m2.png,\n",
        "image,mask\na 1.png,m1.png\nb.png,m2.png\n".encode("utf-16"),
        "tampered,gt\na 1.png,m1.png\nb.png,m2.png\n",
        "image,mask,fake\na 1.png,m1.png,1\nb.png,m2.png,0\n",
    ],
)
def test_forms_of_one_list(text: str | bytes, tmp_path: Path) -> None:
    assert pairs(rows(tmp_path, text)) == PAIRS


@pytest.mark.parametrize(
    "entries",
    [
        [["a 1.png", "m1.png"], ["b.png", "m2.png"]],
        [{"image": "a 1.png", "mask": "m1.png", "seed": 7}, {"mask": "m2.png", "image": "b.png"}],
    ],
)
def test_json(entries: object, tmp_path: Path) -> None:
    assert pairs(rows(tmp_path, json.dumps(entries), "t.json")) == PAIRS


def test_all_that_a_row_may_say(tmp_path: Path) -> None:
    text = "image,mask,set,source_image,original\nb.png,Negative,VAL,,\na 1.png,m1.png,Training,p.png,o.png\n"
    assert rows(tmp_path, text) == [
        SampleRow(2, "b.png", "", "valid", "", ""),
        SampleRow(3, "a 1.png", "m1.png", "train", "p.png", "o.png"),
    ]
    assert rows(tmp_path, "a 1.png,None,test\n") == [SampleRow(1, "a 1.png", "", "test")]
    assert rows(tmp_path, "b.png\na 1.png\n") == [SampleRow(1, "b.png"), SampleRow(2, "a 1.png")], (
        "a list of images alone"
    )
    assert rows(tmp_path, '"a,1.png"\n') == [SampleRow(1, "a,1.png")]
    entries = json.dumps([["b.png", "Negative"], ["a 1.png", None]])
    assert [row.mask for row in rows(tmp_path, entries, "t.json")] == ["", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("image,mask\n", "names no image"),
        ("picture,mask\nb.png,m2.png\n", 'first line "picture,mask" neither names a column of images'),
        ("gone.png,m.png\n", 'first line "gone.png,m.png" neither'),
        ("image,img\nb.png,b.png\n", 'the columns "image" and "img" would both be the image'),
        ("image,mask,mask\nb.png,m,m\n", 'the columns "mask" and "mask" would both be the mask'),
        ("image,mask,splitt\nb.png,m,train\n", 'unknown column "splitt"; did you mean "split"'),
        ("image,mask,maks\nb.png,m,n\n", 'unknown column "maks"; did you mean "mask"'),
        *(
            (f"image,{name}\nb.png,m\n", f'column "{name}" sounds like masks.*call it mask')
            for name in ("mask_v2", "segmentation", "mask_png", "label", "ground-truth mask", "GT file", "gt_2")
        ),
        ("image,answer\nb.png,\na 1.png,b.png\n", 'column "answer" holds files.*call it mask'),
        ("image,mask,split\nb.png,m,trian\n", 'line 2: unknown split "trian"; did you mean "train'),
        ("image,mask,split\nb.png,m,\n", 'line 2: unknown split ""'),
        ("image,mask\nb.png\n", "line 2: expected 2 cells, found 1"),
        ("image,mask\nb.png,m,m\n", "line 2: expected 2 cells, found 3"),
        ("image,mask\n,m\n", "line 2 names no image"),
        ('image,mask\n"b.png,m\n', "line 2 cannot be read"),
        ('image,mask\n"b.png\nc.png,m\nd.png",m\n', "line 2 has a name that goes on in another line"),
        ("b.png,m\n" + "x" * 200_000, "line 2 cannot be read"),
        ("b.png,1,2,3,4,5\n", "has 6 columns and no head"),
        (b"image,mask\nb\0.png,m\n", "which is no text"),
        (b"image,mask\n\xff.png,m\n", "cannot read the table"),
        (b"\xff\xfei", "cannot read the table"),
        (b"\x89PNG\r\n\x1a\n", "cannot read the table"),
    ],
)
def test_lists_that_are_none(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as raised:
        rows(tmp_path, text)
    assert str(tmp_path / "t.csv") in str(raised.value)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no JSON"),
        ("[", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("9" * 10_000, "is no JSON"),
        ("{}", "expected a JSON list"),
        ("null", "expected a JSON list"),
        ("[]", "names no image"),
        ('[["b.png", "m"], {"image": "b.png"}]', "expected a JSON list"),
        ('[["b.png", 3]]', "entry 1 has 3 where a name is expected"),
        ('[["b.png", ["m"]]]', "entry 1 has"),
        ('[["b.png", "m"], ["b.png"]]', "line 2: expected 2 cells, found 1"),
        ('[{"picture": "b.png"}]', "has no key of images"),
        ('[{"image": "b.png", "image": "a"}]', "a key twice"),
        (
            '[{"image": "b.png", "mask": "m"}, {"image": "a.png", "msk": "n"}]',
            'unknown column "msk"; did you mean "mask"',
        ),
        (
            '[{"image": "b.png", "mask": "m"}, {"image": "a.png", "truth": "n"}]',
            "entry 2 has no key mask; write null where nothing is fake",
        ),
        ('[{"image": "b.png", "split": "test"}, {"image": "a.png"}]', "entry 2 has no key split"),
        ('[["b.png", "' + "m" * 99 + '", 1e400]]', "entry 1 has inf"),
        ("[[]]", "names no image"),
    ],
)
def test_json_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as raised:
        rows(tmp_path, text, "t.json")
    assert len(str(raised.value)) < 600


def test_columns_beside_the_masks_that_do_not_matter(tmp_path: Path) -> None:
    for text in (
        "image,mask,label,task\na 1.png,m1.png,1,x\nb.png,m2.png,0,y\n",
        "image,mask,mask_area\na 1.png,m1.png,1\nb.png,m2.png,0\n",
    ):
        assert pairs(rows(tmp_path, text)) == PAIRS
    alone = rows(tmp_path, "image,filename,length,prompt\nb.png,b.png,2,gone.png\n")
    assert pairs(alone) == [("b.png", None)], "without masks; the file name says no more than the image"


def test_a_list_that_is_too_long_or_no_file(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, said in {"huge.csv": "more than 64 MiB", "gone.csv": "no such file", ".": "no such file"}.items():
        with pytest.raises(DataError, match=said):
            read(tmp_path / name, FOLDERS, lambda file: True, lambda file, image: True)


def listed(root: Path, text: str, more: str = "") -> list[str]:
    (root / "t.csv").write_text(text)
    return ids(read_pair(f"mine/sd={root},fake=white,table=t.csv{more}"))


def test_a_column_of_splits_needs_no_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{k}.png" for part in ("images", "masks") for k in range(3)))
    head = "image,mask,split\n"
    text = f"{head}0.png,0.png,train\n1.png,1.png,dev\n2.png,,testing\n"
    assert listed(tmp_path, text) == ["mine/real/test/2.png", "mine/sd/train/0.png", "mine/sd/valid/1.png"]
    with pytest.raises(Exception, match="says the splits already; leave out the split"):
        listed(tmp_path, text, ",split=80/10/10")
    with pytest.raises(Exception, match="say how to split them"):
        listed(tmp_path, "image,mask\n0.png,0.png\n")
    assert len(listed(tmp_path, "image,mask\n0.png,0.png\n1.png,1.png\n", ",split=50/0/50")) == 2


def test_a_list_of_images_in_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{split}/0.png" for part in ("images", "masks") for split in ("train", "test")))
    touch(tmp_path, "more/1.png")
    text = "image,mask\nimages/train/0.png,masks/train/0.png\ntest/0.png,test/0.png\n"
    assert listed(tmp_path, text) == ["mine/sd/test/0.png", "mine/sd/train/0.png"]
    with pytest.raises(DataError, match=r"line 4: more/1\.png lies in no folder train, valid, test"):
        listed(tmp_path, f"{text}more/1.png,masks/test/0.png\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,mask\n0.png,0.png\n9.png,8.png\n", r'line 3 names "9.png".*and 1 more files are not there'),
        ("image,mask\n0.png,0.png\n0.png,1.png\n", "lines 2 and 3 name 0.png and differ"),
        ("image,mask\n0.png,0.png\n./0.png,\n", r"lines 2 and 3 name ./0.png and differ"),
        ("image,mask\n0.png,0.png\n1.png,0.png\n", "lines 2 and 3 give the mask 0.png to two images"),
        ("image,mask\nimages/0.png,images/0.png\n", "is an image in line 2, a mask in line 2"),
        ("image,mask\n0.png,0.png\n1.png,../images/0.png\n", "0.png is an image in line 2, a mask in line 3"),
        ("image,mask\n2.png,0.png\n", "2.png is there twice"),
        ("image,mask,original\n0.png,0.png,gone.png\n", 'line 2 names "gone.png"'),
        ("image,mask\n0.png," + "m" * 5000 + "\n", "line 2 names"),
        ("file\n0.png\n9.png\n", 'line 3 names "9.png"'),
        (
            "images/0.png,masks/0.png\nmasks/1.png,images/1.png\n",
            "line 2: the image masks/1.png lies in the folder of m",
        ),
        ("image,truth\n0.png,truths/0.png\n", 'column "truth" holds files'),
        *(
            (f"image,mask\n0.png,0.png\n1.png,{word}\n", f'line 3 names "{word}".*write nothing or Negative where n')
            for word in ("NULL", "nan", "-", "n/a")
        ),
    ],
)
def test_lists_whose_files_do_not_pair(text: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{k}.png" for part in ("images", "masks") for k in range(3)), "2.png")
    touch(tmp_path, "truths/0.png")
    with pytest.raises(DataError, match=said):
        listed(tmp_path, text, ",split=test")


def test_a_row_that_says_the_same_twice_is_one_sample(tmp_path: Path) -> None:
    touch(tmp_path, "images/0.png", "masks/0.png")
    text = "image,mask\n0.png,0.png\nimages/0.png,masks/0.png\n"
    assert listed(tmp_path, text, ",split=test") == ["mine/sd/test/0.png"]


def test_photographs_and_originals_of_a_list(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{k}.png" for part in ("images", "masks") for k in range(3)), "old/p.png")
    text = "image,mask,photograph,original\n0.png,0.png,p.png,old/p.png\n1.png,0.png,p.png,\n2.png,,,\n"
    (tmp_path / "t.csv").write_text(text)
    samples = read_pair(f"mine/sd={tmp_path},fake=white,table=t.csv", otherwise="test")
    assert {s.name: (s.stem, s.original, s.photograph) for s in samples} == {
        "0.png": ("mine/p", tmp_path / "old/p.png", "table"),
        "1.png": ("mine/p", None, "table"),
        "2.png": ("mine/2", None, "table"),
    }


def test_authentic_rows_go_by_the_photographs_of_the_fakes(tmp_path: Path) -> None:
    """A pattern that tells fakes of one photograph apart need not match the photograph."""
    touch(tmp_path, *(f"{part}/a_v{k}.png" for part in ("images", "masks") for k in "12"), "images/a.png")
    (tmp_path / "t.csv").write_text("image,mask\na_v1.png,a_v1.png\na_v2.png,a_v2.png\na.png,\n")
    samples = read_pair(f"mine/sd={tmp_path},fake=white,table=t.csv,photograph=(.*)_v[0-9]", otherwise="test")
    assert {s.name: s.stem for s in samples} == dict.fromkeys(("a_v1.png", "a_v2.png", "a.png"), "mine/a")


def test_a_column_that_says_the_image_again_is_no_mask(tmp_path: Path) -> None:
    touch(tmp_path, "images/0.png", "masks/0.png")
    (tmp_path / "t.csv").write_text("image,filename\nimages/0.png,0.png\n")
    [sample] = read_pair(f"mine/sd={tmp_path},fake=white,table=t.csv", otherwise="test")
    assert sample.mask == tmp_path / "masks/0.png"


def test_a_list_in_folders_called_like_splits_says_splits_or_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/Train/0.png", "masks/0.png")
    text = "image,mask,split\nTrain/0.png,0.png,train\n"
    assert listed(tmp_path, text) == ["mine/sd/train/Train/0.png"]
    with pytest.raises(DataError, match=r"Train is called like a split in other letters; rename it train"):
        listed(tmp_path, "image,mask\nTrain/0.png,0.png\n", ",split=test")


def test_masks_by_name_where_a_list_has_images_alone(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/in/{k}.png" for k in range(3)), *(f"masks/in/{k}_gt.png" for k in range(2)))
    (tmp_path / "t.txt").write_text("in/0.png\nin/1.png\nin/2.png\n")
    written = f"mine/sd={tmp_path},fake=white,table=t.txt,mask={{name}}_gt"
    found = {s.name: (s.mask, s.fault) for s in read_pair(written, otherwise="test")}
    assert {name: mask for name, (mask, _) in found.items()} == {
        "in/0.png": tmp_path / "masks/in/0_gt.png",
        "in/1.png": tmp_path / "masks/in/1_gt.png",
        "in/2.png": None,
    }
    assert found["in/2.png"][1] == "no mask of that name"
