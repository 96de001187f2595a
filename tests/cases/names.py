"""Folders and lists of one's own whose names are not those of a tree: pairs that are none, and lists of every form."""

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
AREA = 16 * 32 / (HEIGHT * WIDTH)
"""The fake share of a mask that `mask` makes."""


def photo(path: Path, seed: int = 0) -> None:
    """Write a photograph, another one for each name and seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(path)


def mask(path: Path, white: bool = True, rows: int = 16) -> None:
    """Write a mask whose fake rectangle is white, or black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fake = np.zeros((HEIGHT, WIDTH), bool)
    fake[8 : 8 + rows, 8:40] = True
    Image.fromarray((fake == white) * np.uint8(255)).save(path)


def two_masks(root: Path) -> None:
    """One image, two masks of its name that say the opposite."""
    photo(root / "images/a0x.png")
    mask(root / "masks/a0x.png")
    mask(root / "masks/a0x.bmp", white=False)


def flat(root: Path) -> None:
    """Images and masks in one folder, and a table whose two columns have its name."""
    for k in range(4):
        photo(root / f"all/s{k}x.jpg")
        mask(root / f"all/s{k}x_GT.png")
    (root / "t.csv").write_text("all,all\n" + "".join(f"s{k}x.jpg,s{k}x_GT.png\n" for k in range(4)))


def lists(root: Path) -> None:
    """Four pairs and a real image, with lists: one image twice, a subset, no head, and the real image."""
    for k in range(4):
        photo(root / f"images/s{k}x.png")
        mask(root / f"masks/s{k}x.png")
    photo(root / "images/real0x.png")
    mask(root / "masks/other.png", rows=0)
    for name, text in {
        "twice.csv": "images,masks\ns0x.png,s0x.png\ns1x.png,s1x.png\ns0x.png,other.png\n",
        "subset.csv": "images,masks\ns0x.png,s0x.png\ns1x.png,s1x.png\n",
        "headless.txt": "s0x.png s0x.png\ns1x.png s1x.png\n",
        "with-real.csv": "image,mask\ns0x.png,s0x.png\nreal0x.png,\n",
    }.items():
        (root / name).write_text(text)


def dash(root: Path) -> None:
    """Nine photographs that are numbered behind a dash."""
    for k in range(1, 10):
        photo(root / f"images/img-{k}.png")
        mask(root / f"masks/img-{k}.png")


def suffix(root: Path) -> None:
    """Masks with a suffix that is not asked for."""
    for k in range(4):
        photo(root / f"images/s{k}x.png")
        mask(root / f"masks/s{k}x_gt.png")


def unicode(root: Path) -> None:
    """One name in two Unicode forms."""
    photo(root / "images" / unicodedata.normalize("NFC", "caf\u00e9.png"))
    mask(root / "masks" / unicodedata.normalize("NFD", "caf\u00e9.png"))


def case(root: Path) -> None:
    """One name in two cases."""
    photo(root / "images/IMG_1.JPG")
    mask(root / "masks/img_1.png")


def words(root: Path) -> None:
    """Masks with a suffix that a shell would part."""
    for k in range(4):
        photo(root / f"images/s{k}x.png")
        mask(root / f"masks/s{k}x (mask).png")


def shared(root: Path) -> None:
    """Four images of two photographs, which have one mask each."""
    for k in range(2):
        photo(root / f"images/p{k}x_a.png")
        photo(root / f"images/p{k}x_b.png")
        mask(root / f"masks/p{k}x_mask.png")


def capitals(root: Path) -> None:
    """Folders called like splits, in capitals."""
    for name in ("Train/a0x.png", "Test/b0x.png"):
        photo(root / "images" / name)
        mask(root / "masks" / name)


def beside(root: Path) -> None:
    """Images in split folders, and two that lie in none."""
    for name in ("train/a0x.png", "test/b0x.png", "c.png", "d.png"):
        photo(root / "images" / name)
        mask(root / "masks" / name)


def one(root: Path) -> None:
    """One image whose mask has a suffix."""
    photo(root / "images/a0x.png")
    mask(root / "masks/a0x_gt.png")
