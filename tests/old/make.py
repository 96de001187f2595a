"""Makes `workspace.tar.xz` and `evaluations.csv` beside it: what dfloc of 40e56a3 left behind, and what it said of it.

Only that revision writes them, inside its checkout: `PYTHONPATH=$PWD python <this file> <an empty folder>`.
The archive holds a workspace (a study on a tree of Dolos' layout) and `pair`, the shards of a folder pair whose names
end in numbers and whose masks are JPEG.
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
DFLOC = str(Path(sys.executable).with_name("dfloc"))
SWEEP = "exposure-smoke-tree"
SETTINGS = (
    "trial.maps=[srm/variance]",
    "trial.decoder.channels=[4,2]",
    "trial.epochs=2",
    "trial.epoch_steps=20",
    "stages.scratch.grid.trial.augment=[none,blur]",
    "evaluate.count=3",
)
KEPT = ("shards", "features", "lists", "trials", "sweeps", "weights")
PAIR = ("img-1", "img-2", "img-3", "cat-1", "cat-2", "dog-7", "hill", "sea_1", "sea_2", "tree")


def main(folder: Path) -> None:
    """Make everything in an empty folder, then pack what is kept."""
    write_tree(folder / "tree")
    write_pair(folder / "pair")
    workspace = folder / "workspace"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    run("sweep", "exposure", "--preset", "smoke", "--data", f"{folder}/tree", "--workspace", f"{workspace}", *settings)
    pair = ("--domain", "mine/sd", "--fake-is", "white", "--split", "60/20/20")
    run("data", "import", f"{folder}/pair", *pair, "--out", f"{workspace}/shards/pair")
    with tarfile.open(HERE / "workspace.tar.xz", "w:xz", preset=9) as archive:
        for name in KEPT:
            if (workspace / name).exists():
                archive.add(workspace / name, name, filter=anonymous)
    shutil.copy(workspace / "reports" / SWEEP / "evaluations.csv", HERE)


def run(*args: str) -> None:
    subprocess.run([DFLOC, *args], check=True)


def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take out who packed it."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def write_tree(root: Path) -> None:
    """Write small flat pictures, two crops of each photograph, of which two generators paint over a part."""
    for place, (split, count) in enumerate((("train", 6), ("valid", 2), ("test", 4))):
        for index in range(count):
            name = f"{split}{index // 2}-{index % 2}.png"
            rng = np.random.default_rng([place, index])
            real = picture(rng)
            left, top, width, height = (int(number) for number in rng.integers(6, 16, 4))
            box = (left, top, left + width, top + height)
            mask = Image.new("L", real.size, 255)
            ImageDraw.Draw(mask).rectangle(box, fill=0)
            save(real, root / "old/real" / split / name)
            for generator in ("blur", "noise"):
                fake = real.copy()
                if generator == "blur":
                    ImageDraw.Draw(fake).rectangle(box, fill=(120, 130, 140))
                else:
                    grain = rng.integers(0, 2, (box[3] - box[1], box[2] - box[0], 3), np.uint8) * 90
                    fake.paste(Image.fromarray(grain), box[:2])
                save(fake, root / "old/fake" / generator / "images" / split / name)
                save(mask, root / "old/fake" / generator / "masks" / split / name)


def write_pair(root: Path) -> None:
    """Write photographs of several sizes, and masks as a lossy JPEG leaves them: white is fake, its edge is grey."""
    for index, name in enumerate(PAIR):
        rng = np.random.default_rng(100 + index)
        image = picture(rng, (40 + index, 32))
        mask = Image.new("L", image.size, 0)
        ImageDraw.Draw(mask).ellipse((5, 6, 20 + index, 25), fill=255)
        save(image, root / "images" / f"{name}.png")
        save(mask, root / "masks" / f"{name}.jpg", quality=80)


def picture(rng: np.random.Generator, size: tuple[int, int] = (48, 48)) -> Image.Image:
    """Draw a few lines of one colour on another."""
    colours = [tuple(int(value) for value in rng.integers(0, 256, 3)) for _ in range(2)]
    image = Image.new("RGB", size, colours[0])
    for _ in range(3):
        ends = [int(value) for value in rng.integers(0, 48, 4)]
        ImageDraw.Draw(image).line(ends, fill=colours[1], width=2)
    return image


def save(image: Image.Image, path: Path, **how: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
