"""A sample of `make simulate`, and proof that it finds what it is there for."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator.chaos import Chaos
from tests.simulator.disk import Disk
from tests.simulator.faults import WITHIN
from tests.simulator.world import Crash, World

ROOT = Path(__file__).parent.parent.parent
SEEDS = 80


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; the order of its sets is a part of a schedule, so that it needs a process of its own."""
    told = [sys.executable, "-m", "tests.simulator", *arguments]
    return subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_invariant_is_violated_in_a_sample() -> None:
    done = simulator("--count", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf"{SEEDS} runs, [\d,]+ writes, 0 violations", done.stdout.splitlines()[-1])


def test_power_may_be_lost_at_any_write() -> None:
    done = simulator("--points", "--every", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = re.match(r"(\d+) runs", done.stdout.splitlines()[-1])
    assert runs is not None
    assert int(runs.group(1)) > 50


def test_every_planted_fault_is_found_within_its_number_of_seeds() -> None:
    done = simulator("--planted", "--count", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^(\S+): found by seed (\d+)", done.stdout, re.MULTILINE))
    assert found.keys() == {name for name, most in WITHIN.items() if most <= 40}
    assert len(found) >= 9


def test_a_seed_is_one_command_and_the_same_each_time() -> None:
    asked = ("--seed", "6", "--fault", "no-file-sync")
    one, other = simulator(*asked), simulator(*asked)
    assert one.returncode == other.returncode == 1
    assert one.stdout == other.stdout
    assert "VIOLATION" in one.stdout
    assert re.search(r"^ +\d+ +[\d.]+ s  driver 1 +link /lock\.1$", one.stdout, re.MULTILINE), "the schedule is shown"


def written(folder: Path, number: int, *, file: bool, name: bool) -> bytes | None:
    """Return what a loss of power leaves of a file that was put over an older one, with these syncs."""
    disk = Disk(folder / str(number), World(0))
    place = Path(disk.root) / "a"
    with disk.mounted():
        for data, sync in ((b"old" * 300, True), (b"new" * 400, file)):
            scratch = place.with_name("scratch")
            with scratch.open("wb") as out:
                out.write(data)
                out.flush()
                if sync:
                    os.fsync(out.fileno())
            scratch.replace(place)
            if sync and (name or data.startswith(b"old")):
                handle = os.open(disk.root, os.O_RDONLY | os.O_DIRECTORY)
                os.fsync(handle)
                os.close(handle)
        disk.crash(random.Random(number))
        return place.read_bytes() if place.exists() else None


@pytest.mark.parametrize(
    ("file", "name", "whole", "torn"), [(True, True, {b"new"}, False), (True, False, {b"old", b"new"}, False)]
)
def test_a_disk_keeps_what_was_synced(tmp_path: Path, file: bool, name: bool, whole: set[bytes], torn: bool) -> None:
    found = {written(tmp_path, number, file=file, name=name) for number in range(60)}
    assert found == {{b"old": b"old" * 300, b"new": b"new" * 400}[which] for which in whole}


def test_a_disk_may_lose_or_tear_what_was_not_synced(tmp_path: Path) -> None:
    found = {written(tmp_path, number, file=False, name=False) for number in range(60)}
    assert {b"old" * 300, b"new" * 400} < found
    assert any(b"new" in (data or b"") and data != b"new" * 400 for data in found), "torn"


def test_a_process_that_is_killed_does_nothing_more(tmp_path: Path) -> None:
    world = World(0)
    disk = Disk(tmp_path / "disk", world)

    def happens(process: object, kind: str, path: str) -> None:
        if kind == "write":
            world.kill(process.pid)  # type: ignore[attr-defined]

    def body() -> None:
        try:
            (tmp_path / "disk" / "a").write_bytes(b"x" * 1000)
        finally:
            (tmp_path / "disk" / "b").write_bytes(b"cleaned up")

    world.chaos = happens
    process = world.spawn("one", body)
    with disk.mounted():
        world.run()
    assert process.dead
    assert [*disk.files()] == ["a"]
    assert len(disk.files()["a"]) <= 1000


def test_processes_take_turns_by_the_seed() -> None:
    def order(seed: int) -> list[str]:
        world, said = World(seed), list[str]()

        def body(name: str) -> None:
            for _ in range(5):
                said.append(name)
                world.pause()

        for name in "ab":
            world.spawn(name, lambda name=name: body(name))  # type: ignore[misc]
        world.run()
        return said

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 5


def test_time_passes_where_all_wait() -> None:
    world, woke = World(0), list[float]()
    for seconds in (30.0, 10.0):
        world.spawn("one", lambda seconds=seconds: (world.sleep(seconds), woke.append(world.now)))  # type: ignore[misc]
    world.run()
    assert woke == [1010.0, 1030.0]


def test_what_goes_wrong_is_drawn_from_the_seed() -> None:
    drawn = [Chaos.draw(random.Random(seed), 600) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    kinds = {name for seed in range(200) for name, value in vars(Chaos.draw(random.Random(seed), 600)).items() if value}
    assert kinds == {*vars(Chaos())}


def test_who_is_dead_gets_no_answer() -> None:
    world = World(0)
    seen: list[type] = []

    def body() -> None:
        try:
            world.kill(world.current.pid)  # type: ignore[union-attr]
        except Crash as error:
            seen.append(type(error))
            world.sleep(1.0)
        finally:
            seen.append(bool)

    world.spawn("one", body)
    world.run()
    assert seen == [Crash, bool]
    assert world.now == 1000.0, "it did not wait"
