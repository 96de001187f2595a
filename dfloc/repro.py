"""Every random draw, and what is recorded of the environment."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

import dfloc

Purpose = Literal["init", "order", "dropout", "view", "targets", "ap"]

RECORDED_PACKAGES = ("torch", "torchvision", "numpy", "ray", "mlflow", "pyarrow", "pillow", "opencv-python-headless")


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed from the text of the parts; the same everywhere, for ever."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: Purpose, epoch: int = 0, sample: str = "") -> torch.Generator:
    """Return a CPU generator of its own for one purpose, epoch and (where it matters) sample.

    Nothing in dfloc reads torch's global generator, so no draw depends on what was drawn before it.
    """
    return torch.Generator().manual_seed(seed_of("dfloc", seed, purpose, epoch, sample))


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Let what can read torch's global generators alone (a library's initialisation, dropout) draw from a seed.

    Args:
        seed: as `seed_of` makes one.
        device: whose generator is meant, beside the CPU's; both are put back at the end.
    """
    place = torch.device(device)
    cuda = [torch.cuda.current_device() if place.index is None else place.index] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        for one in (torch.default_generator, *(torch.cuda.default_generators[index] for index in cuda)):
            one.manual_seed(seed)
        yield


def environment(device: str = "cpu", threads: int | None = None) -> dict[str, str]:
    """Return what is recorded beside a result, an allow-list: versions, device, threads; no path, name or variable."""
    versions = {"dfloc": dfloc.__version__, "python": platform.python_version(), "system": sys.platform}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions["device"] = torch.cuda.get_device_name() if device == "cuda" else device
    versions["threads"] = str(threads if threads is not None else torch.get_num_threads())
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions


@cache
def commit() -> str:
    """Return the commit whose code runs, `-dirty` where files of it were changed; empty outside of a checkout."""
    root = Path(dfloc.__file__).parents[1]
    if not (root / ".git").exists():  # whose repository an environment lies in is another matter
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, env=ours | {"GIT_OPTIONAL_LOCKS": "0"}, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
