"""Every random draw, and what is recorded of the environment."""

import hashlib
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Literal

import torch

import dfloc

Purpose = Literal["init", "order", "dropout", "view", "targets"]

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
