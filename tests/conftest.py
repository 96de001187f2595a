"""Fixtures that many tests share: one Ray, a tiny Dolos tree, its shards, and a finished study."""

import fcntl
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from upath import UPath

if TYPE_CHECKING:
    from tests.command import Result, Study

TINY_DOMAINS = ("tiny/blur", "tiny/noise")
TINY_COUNTS = {"train": 10, "valid": 4, "test": 4}
TINY_SIZE = 64


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread files with slow tests or those of the finished study over two thirds: two processes share the files.

    A sweep takes more than a processor, other tests take less; the last files are to be short ones.
    """
    files = dict.fromkeys(item.path for item in items)
    long = dict.fromkeys(
        item.path
        for item in items
        if "first_run" in getattr(item, "fixturenames", ()) or item.get_closest_marker("slow")
    )
    step = 2 * (len(files) - len(long)) / (3 * len(long) or 1)
    place: dict[Path, float] = {path: number * step for number, path in enumerate(long)}
    place |= {path: float(number) for number, path in enumerate(file for file in files if file not in long)}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session", autouse=True)
def notes_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is noted as verified, and what is tracked, out of what belongs to whoever runs the tests."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> None:
    """Listen to what `nohup` and a shell's `&` have had ignored: what tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """Sync no file of the tests' own process: what is synced, and when, is watched; what the command starts syncs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: os.fstat(handle) and None)
        yield


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One quiet Ray of one CPU for all tests that need one: a process more costs; what the command starts has all."""
    ray = pytest.importorskip("ray")
    from dfloc.workers import without_log_monitor

    if not ray.is_initialized():
        os.environ.pop("RAY_ADDRESS", None)
        with without_log_monitor():
            ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty tables, which take seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def write_tiny_tree(root: Path) -> None:
    """Write a tree of Dolos' layout: two paired generators and the real images, two crops of each photograph."""
    for place, (split, count) in enumerate(TINY_COUNTS.items()):
        for index in range(count):
            name = f"{split}{index // 2}-{index % 2}.png"
            rng = np.random.default_rng([place, index])
            image = rng.integers(0, 256, (TINY_SIZE, TINY_SIZE, 3), np.uint8)
            fake = np.zeros((TINY_SIZE, TINY_SIZE), bool)
            top, left, height, width = rng.integers(TINY_SIZE // 4, TINY_SIZE // 2, 4)
            fake[top : top + height, left : left + width] = True
            _save(root / "tiny/real" / split / name, image)
            for generator, value in (("blur", 128), ("noise", image // 2)):
                folder = root / "tiny/fake" / generator
                _save(folder / "images" / split / name, np.where(fake[..., None], value, image).astype(np.uint8))
                _save(folder / "masks" / split / name, np.where(fake, 0, 255).astype(np.uint8))


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def tiny_tree(tmp_path: Path) -> Path:
    """A tiny Dolos tree of one's own, to be spoilt."""
    root = tmp_path / "tree"
    write_tiny_tree(root)
    return root


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> UPath:
    """The tiny tree as shards with row groups of four; shared, so not to be changed."""
    from dfloc.data.dolos import scan
    from dfloc.data.importer import import_samples

    root = tmp_path_factory.mktemp("tiny")
    write_tiny_tree(root / "tree")
    out = UPath(root / "shards")
    import_samples(scan(root / "tree"), out, group_rows=4)
    return out


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Study, Result]":
    """The exposure study on built-in data, run from within another checkout: once for all processes."""
    from tests.command import Result, Study, other_checkout

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    said, study = folder / "exposure.json", Study(folder / "exposure" / "workspace")
    with (folder / "exposure.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(json.dumps(study.command(folder=other_checkout(folder / "checkout"))))
    return study, Result(*json.loads(said.read_text()))


@pytest.fixture(scope="session")
def finished(first_run: "tuple[Study, Result]") -> "Study":
    """The workspace of the first run; shared by all processes, so not to be changed: `copied` may be."""
    assert first_run[1].code == 0, first_run[1]
    return first_run[0]


@pytest.fixture
def copied(finished: "Study", tmp_path: Path) -> "Study":
    """The finished study in a workspace of one's own, without its MLflow store."""
    return finished.copy(tmp_path / "workspace", tracked=False)
