"""One trial at full size on this machine: ViT-L/14 layer 20 + RN50 layer 3 (random weights), CONV-12, a few images.

python benchmarks/full_size.py FOLDER [--device cuda]

Runs `dfloc sweep`, `evaluate` and `predict` on a few built-in images in FOLDER, and prints the wall time and the peak
resident memory (of the largest process, and of all at once) of each; then the time per image of each part, one thread,
in this process; also of SAM 2.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.engine.batches import fuse
from dfloc.models import decoders
from dfloc.models.base import entered

DFLOC = str(Path(sys.executable).with_name("dfloc"))
MAPS = ("clip-vit-l14/layer20", "clip-rn50/layer3")
SAM2 = ("sam2.1-tiny", "sam2.1-small")
IMAGES = 4
T = TypeVar("T")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measured(folder: Path, *args: str) -> str:
    """Run a command, print its wall time and peak memory, and return what it said."""
    start = time.monotonic()
    mark = f"{os.getpid()}-{start}"
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen([DFLOC, *args], stdout=said, env=os.environ | {"FULL_SIZE": mark}, cwd=folder)
        largest = together = 0
        while process.poll() is None:
            sizes = [one.memory_info().rss for one in psutil.process_iter() if _is_ours(one, mark)]
            largest, together = max([largest, *sizes]), max(together, sum(sizes))
            time.sleep(0.5)
        said.seek(0)
        text = said.read()
    if process.returncode:
        sys.exit(f"dfloc {' '.join(args)} ended with {process.returncode}:\n{text}")
    seconds = time.monotonic() - start
    say(f"dfloc {args[0]}: {seconds:.0f} s, largest process {largest / 1e9:.2f} GB, together {together / 1e9:.2f} GB")
    return text


def _is_ours(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("FULL_SIZE") == mark
    except (psutil.Error, OSError):
        return False


def commands(folder: Path, device: str) -> None:
    """Train, evaluate and predict by the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = [word for split in ("train", "valid", "test") for word in (f"--{split}", str(IMAGES))]
    measured(folder, "data", "mini", "--out", "tree", *counts)
    settings = [
        "domains=[mini/telea,mini/renoise]",
        f"trial.maps=[{','.join(MAPS)}]",
        "trial.weights=random:0",
        f"stages.base.train={{count: {IMAGES}, valid: {IMAGES}}}",
        "stages.base.grid.held_out=[mini/telea]",
        "trial.epochs=1",
        f"trial.batch={IMAGES}",
    ]
    asked = [word for setting in settings for word in ("--set", setting)]
    measured(folder, "sweep", "exposure", "--data", "tree", "--only", "base", "--device", device, *asked)
    [done] = folder.glob("workspace/trials/*/done.json")
    cost = json.loads(done.read_text())["cost"]
    say(f"training and validation: {cost['seconds'] / IMAGES:.2f} s per training image (as many are validated)")
    say(measured(folder, "evaluate", done.parent.name, "--data", "tree", "--split", "valid", "--device", device))
    photos = sorted(str(path.relative_to(folder)) for path in (folder / "tree/mini/fake/telea/images/test").iterdir())
    measured(folder, "predict", done.parent.name, *photos, "--device", device)


def parts(device: str) -> None:
    """Time the parts of one image: backbones, a training step, a decoder's pass."""
    torch.set_num_threads(1)
    images = [np.random.default_rng(k).integers(0, 256, (256, 256, 3), np.uint8) for k in range(IMAGES)]
    maps = []
    for full_name in MAPS:
        name, _, wanted = full_name.partition("/")
        backbone = registry.find("backbone", name)(name, "random:0", device)
        inputs_BCHW = torch.stack([backbone.preprocess(image) for image in images])
        maps.append(_timed(full_name, device, lambda: backbone(inputs_BCHW, [wanted])[wanted]))  # noqa: B023
    specs = [registry.map_spec(name) for name in MAPS]
    x_BCHW = fuse(maps, specs)
    spec = DecoderSpec(name="conv", depth=12, init="declip")
    decoder = decoders.build(spec, specs, torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        _timed("CONV-12, forward", device, lambda: decoder.eval()(x_BCHW))
    decoder.train()
    _timed("CONV-12, forward and backward", device, lambda: decoder(x_BCHW.clone()).square().mean().backward())
    for name in SAM2:
        backbone = registry.find("backbone", name)(name, "random:0", device)
        inputs_BCHW = torch.stack([entered(backbone, image, 224) for image in images])
        for wanted_maps in (list(backbone.maps), ["high_res_feats.0"]):
            _timed(f"{name} {' '.join(wanted_maps)}", device, lambda: backbone(inputs_BCHW, wanted_maps))  # noqa: B023


def _timed(what: str, device: str, call: Callable[[], T]) -> T:
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.monotonic()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    say(f"{what}: {(time.monotonic() - start) / IMAGES:.3f} s per image, batch {IMAGES}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    commands(given.folder, given.device)
    parts(given.device)
