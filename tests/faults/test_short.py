"""One of the moments of `make test-faults`, drawn anew each time, and whom a sweep's Ray lets in."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.command import SECONDS, Study, fresh
from tests.faults import job
from tests.faults.__main__ import KINDS
from tests.faults.ground import Ground, until
from tests.faults.scene import Moment, play

pytestmark = pytest.mark.ray

SEED = int(os.environ.get("DFLOC_FAULTS_SEED", random.SystemRandom().randrange(10**6)))
SHORT = ("kill driver", "kill command", "kill gcs", "kill raylet", "term one", "term all", "hup")
"""One of these is drawn: what ends the driver at once, and what asks it to end."""


@pytest.fixture(scope="module")
def ground(finished: Study) -> Ground:
    return Ground(finished)


def test_a_sweep_that_is_disturbed_ends_in_the_same_numbers(ground: Ground) -> None:
    draw = random.Random(SEED)
    kind = draw.choice(SHORT)
    scene = play(KINDS[kind], ground, Moment(0, kind, "trials", draw.uniform(0, 0.8)), str(SEED))
    assert scene.faults == [], f"{scene.moment}, {scene.notes}; again by DFLOC_FAULTS_SEED={SEED}"


@pytest.fixture(scope="module")
def begun(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses at which the gcs of a running sweep listens."""
    study = ground.lay("trials", tmp_path_factory.mktemp("listening") / "workspace")
    started = study.start()
    try:
        assert until(started, ground.watch(study, "trials", 0.0))
        found = [each for each in job.gcs(started.mark)[0].net_connections("inet") if each.status == psutil.CONN_LISTEN]
        job.send([psutil.Process(started.process.pid)], signal.SIGSTOP)
        job.send([psutil.Process(job.driver(study))], signal.SIGSTOP)
        yield [f"127.0.0.1:{each.laddr.port}" for each in found]
    finally:
        job.end(started.mark)


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_the_ray_of_a_sweep_refuses_who_has_not_its_token(begun: list[str], mode: str, tmp_path: Path) -> None:
    stranger = fresh() | {"HOME": str(tmp_path), "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    for address in begun:
        command = [sys.executable, "-c", f"import ray; ray.init({address!r}); print('in')"]
        done = subprocess.run(command, capture_output=True, text=True, env=stranger, timeout=SECONDS, cwd=tmp_path)
        assert done.returncode != 0
        assert "in" not in done.stdout.splitlines()
        assert "AuthenticationError" in done.stderr
