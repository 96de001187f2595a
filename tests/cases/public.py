"""Example sets of public tools for localization, a few files each, laid out and listed as these tools have them.

The layouts are facts of the tools' loaders and lists; all pictures are made here. Each function writes a set and
returns what an independent loader would read of it: the fake share of each image, by its path below the root.
"""

import json
from pathlib import Path

import numpy as np

from tests.cases.names import HEIGHT, WIDTH, mask, photo

Areas = dict[str, float]


def _pair(root: Path, image: str, truth: str, k: int, white: bool = True) -> Areas:
    """Write an image and its mask, of another area for each k."""
    photo(root / image)
    mask(root / truth, white, rows=8 + 8 * k)
    return {image: (8 + 8 * k) * 32 / (HEIGHT * WIDTH)}


def hifi_casia(root: Path) -> Areas:
    """HiFi_IFDL's CASIA: fake.txt has image names alone, masks are NAME_gt.png."""
    names = [f"Sp_D_CND_A_pla000{k}_pla002{k}_028{k}" for k in range(3)]
    found: Areas = {}
    for k, name in enumerate(names):
        found |= _pair(root, f"fake/{name}.jpg", f"mask/{name}_gt.png", k)
    (root / "fake.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    photo(root / "fake/not_in_the_list.jpg")
    return found


def hifi_nist(root: Path) -> Areas:
    """HiFi_IFDL's NIST16: alllist.txt pairs paths by a blank, no newline at its end; black is fake."""
    found: Areas = {}
    lines = []
    for k in range(3):
        image, truth = f"probe/NC2016_001{k}.jpg", f"mask/mani_NC2016_094{9 - k}.png"
        found |= _pair(root, image, truth, k, white=False)
        lines.append(f"{image} {truth}")
    (root / "alllist.txt").write_text("\n".join(lines))
    return found


def iml_vit(root: Path) -> Areas:
    """IML-ViT's Tp and Gt: masks NAME_gt.png, images of several types."""
    found: Areas = {}
    for k, ending in enumerate(("jpg", "tif", "jpg")):
        found |= _pair(root, f"Tp/Sp_S_NNN_{k}.{ending}", f"Gt/Sp_S_NNN_{k}_gt.png", k)
    return found


def nist(root: Path) -> Areas:
    """NIST16's reference: columns parted by |, paths from the root of the set, black is fake; probes that are real."""
    found: Areas = {}
    head = "TaskID|ProbeFileID|ProbeFileName|IsTarget|ProbeMaskFileName|BaseFileName|IsManipulationTypeSplice"
    lines = [head]
    for k in range(3):
        image, truth = f"probe/NC2016_12{k}.jpg", f"reference/manipulation/mask/7{k}.png"
        found |= _pair(root, image, truth, k, white=False)
        lines += [f"manipulation|id{k}|{image}|Y|{truth}|world/NC2016_{k // 2}.jpg|{'YN'[k % 2]}"] * (1 + k % 2)
    photo(root / "world/NC2016_0.jpg")
    lines.append("manipulation|id9|world/NC2016_0.jpg|N|||N")
    (root / "reference/manipulation/NC2016-manipulation-ref.csv").write_text("\r\n".join(lines) + "\r\n")
    return found | {"world/NC2016_0.jpg": 0.0}


def coverage(root: Path) -> Areas:
    """COVERAGE: image/11t.tif has the mask mask/11forged.tif beside 11copy and 11paste; TruFor's list pairs them."""
    found: Areas = {}
    for k in range(3):
        found |= _pair(root, f"image/1{k}t.tif", f"mask/1{k}forged.tif", k)
        for other in ("copy", "paste"):
            mask(root / f"mask/1{k}{other}.tif", rows=40)
        photo(root / f"image/1{k}.tif")
    lines = [f"image/1{k}t.tif,mask/1{k}forged.tif\n" for k in range(3)]
    (root / "coverage_fake.txt").write_text("".join(lines))
    return found


def trufor(root: Path) -> Areas:
    """TruFor's maps: an archive NAME.png.npz for each image, the probabilities in `map`, beside a score."""
    found: Areas = {}
    for k in range(3):
        found |= _pair(root, f"images/tampered {k}.png", f"masks/tampered {k}.png", k)
        fake = np.zeros((HEIGHT, WIDTH), np.float32)
        fake[8 : 16 + 8 * k, 8:40] = 1
        (root / "maps").mkdir(exist_ok=True)
        more = {"imgsize": (HEIGHT, WIDTH), "score": 0.75, "conf": np.full((HEIGHT, WIDTH), 0.5, np.float32)}
        np.savez(root / f"maps/tampered {k}.png.npz", map=0.25 + fake / 2, **more)
    return found


def trufor_authentic(root: Path) -> Areas:
    """TruFor's training lists: a comma, and None for a real image."""
    found = {"Au/real 0.jpg": 0.0}
    photo(root / "Au/real 0.jpg")
    for k in range(3):
        found |= _pair(root, f"Tp/Tp_D_{k}.jpg", f"groundtruth/Tp_D_{k}_gt.png", k)
    lines = [f"Tp/Tp_D_{k}.jpg,groundtruth/Tp_D_{k}_gt.png\n" for k in range(3)]
    (root / "list.txt").write_text("Au/real 0.jpg,None\n" + "".join(lines))
    return found


def inpaint_anything(root: Path) -> Areas:
    """Inpaint-Anything's results: for each input a folder of mask_0.png, inpainted_with_mask_0.png and a drawing."""
    found: Areas = {}
    for k, name in enumerate(("dog", "cat", "bridge")):
        found |= _pair(root, f"results/{name}/inpainted_with_mask_0.png", f"results/{name}/mask_0.png", k)
        photo(root / f"results/{name}/with_points.png")
    return found


def flat_results(root: Path) -> Areas:
    """One flat folder of results and masks, as LaMa's predict writes and reads them."""
    found: Areas = {}
    for k in range(3):
        found |= _pair(root, f"out/image{k}.png", f"out/image{k}_mask001.png", k)
    return found


def imdl_benco(root: Path) -> Areas:
    """IMDL-BenCo's JSON: a list of [image, mask], `Negative` for a real image."""
    found: Areas = {}
    entries = []
    for k in range(3):
        found |= _pair(root, f"Tp/{k}.jpg", f"Gt/{k}.png", k)
        entries.append([f"./Tp/{k}.jpg", f"./Gt/{k}.png"])
    photo(root / "Tp/8.jpg")
    (root / "train.json").write_text(json.dumps([*entries, ["./Tp/8.jpg", "Negative"]]))
    return found | {"Tp/8.jpg": 0.0}


def headless(root: Path) -> Areas:
    """A list without a head: quoted names with the separator and blanks inside, CRLF, a byte-order mark."""
    found: Areas = {}
    lines = []
    for k in range(3):
        found |= _pair(root, f"shots/a, {k}.png", f"truth/m {k}; b.png", k)
        lines.append(f'"shots/a, {k}.png";"truth/m {k}; b.png"')
    (root / "list.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig", newline="")
    return found
