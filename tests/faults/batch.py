"""What is done to a sweep that runs as a job of Slurm, by the script of docs/OPERATIONS.md."""

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.command import DFLOC, MARK, Result, marked
from tests.faults import job, judge, slurm
from tests.faults.kinds import ALWAYS
from tests.faults.scene import Kind, MissedError, Scene
from tests.faults.slurm import Slurm

DOCS = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"
GIVEN = "dfloc sweep exposure --data /shared/dolos --workspace /shared/workspace"
SECONDS = 400
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def script(command: list[str]) -> str:
    """Return the script of the docs, with another command."""
    (found,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH .*?)```", DOCS.read_text(), re.DOTALL)
    assert found.count(GIVEN) == 1
    return found.replace(GIVEN, " ".join([DFLOC, *command]))


class BatchJob:
    """A sweep in the queue.

    Args:
        scene: whose command it gives.
        queue: where it is put.
        options: of `sbatch`, before those of the script.
    """

    def __init__(self, scene: Scene, queue: Slurm, *options: str):
        self.mark = uuid.uuid4().hex
        self._queue, self._folder = queue, scene.folder
        path = scene.folder / "job.sh"
        path.write_text(script(scene.bench.command))
        mine = {MARK: self.mark, "TMPDIR": str(scene.bench.temp), "COLUMNS": "400"}
        given = ("--cpus-per-task=2", f"--output={scene.folder}/job-%j.log", f"--chdir={scene.bench.here}", *options)
        self.number = queue.submit(path, *given, **mine)

    @property
    def said(self) -> str:
        path = self._folder / f"job-{self.number}.log"
        return path.read_text() if path.exists() else ""

    def state(self) -> tuple[str, int]:
        return self._queue.state(self.number)

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; return whether it came before the job ended."""
        end = time.monotonic() + SECONDS
        while not condition():
            if self.state()[0] in ENDED:
                return condition()
            assert time.monotonic() < end, f"waited in vain for job {self.state()}; it said: {self.said}"
            time.sleep(0.1)
        return True

    def ended(self) -> str:
        """Wait for the end; return the state."""
        self.until(lambda: False)
        return self.state()[0]


@contextlib.contextmanager
def scancel(scene: Scene) -> Iterator[None]:
    """`scancel` ends the job, in order, and it is not started again."""
    with _begun(scene) as (queue, batch):
        since = time.monotonic()
        queue.call("scancel", batch.number)
        if (state := batch.ended()) != "CANCELLED" or batch.state()[1]:
            scene.faults.append(f"after scancel the job is {state}, started again {batch.state()[1]} times")
        _judge(scene, batch, since)
    yield


@contextlib.contextmanager
def requeue(scene: Scene) -> Iterator[None]:
    """`scontrol requeue`, as a job that gives way to another: it is ended and resumes."""
    with _begun(scene) as (queue, batch):
        since = time.monotonic()
        queue.call("scontrol", "requeue", batch.number)
        batch.until(lambda: not marked(batch.mark))
        _judge(scene, batch, since)
        _resumes(scene, batch)
    yield


@contextlib.contextmanager
def time_limit(scene: Scene) -> Iterator[None]:
    """The time limit comes: the script sees 143, puts the job back into the queue, and it resumes."""
    before = scene.draw.choice([25, 30, 35, 40])  # seconds before the limit, of a minute
    with _begun(scene, "--time=1", f"--signal=TERM@{before}") as (queue, batch):
        scene.notes.append(f"TERM {before} s before the limit")
        if not batch.until(lambda: batch.state()[1] == 1):
            raise MissedError(batch.said)
        queue.call("scontrol", "update", f"JobId={batch.number}", "TimeLimit=60")
        _judge(scene, batch, None)
        _resumes(scene, batch)
    yield


@contextlib.contextmanager
def _begun(scene: Scene, *options: str) -> Iterator[tuple[Slurm, BatchJob]]:
    study = scene.lay()
    (scene.folder / "slurm").mkdir()
    reached = scene.ground.watch(study, scene.moment.phase, scene.moment.share)
    with slurm.running(scene.folder / "slurm") as queue:
        batch = BatchJob(scene, queue, *options)
        try:
            if not options and not batch.until(reached):
                raise MissedError(batch.said)
            yield queue, batch
        finally:
            job.end(batch.mark)


def _judge(scene: Scene, batch: BatchJob, since: float | None) -> None:
    """Judge how the first start ended, which has just done so."""
    if since is not None:
        scene.seconds = time.monotonic() - since
        if scene.seconds > job.SECONDS_TO_END:
            scene.faults.append(f"it ended after {scene.seconds:.0f} s")
    scene.gone(batch.mark)
    said = batch.said
    if not re.search(r"Go on with: |same command goes on", said):
        scene.faults.append(f"it did not say how to go on: {said[-300:]}")
    codes = re.findall(r"Exited with exit code (\d+)", said)
    scene.code = int(codes[0]) if codes else None
    if scene.code != 143:
        scene.faults.append(f"it ended with {scene.code}, not 143: {said[-300:]}")
    own = [line for line in said.splitlines() if not line.startswith(("srun:", "slurmstepd-"))]
    scene.faults += judge.screen(Result(0, "\n".join(own), ""))


def _resumes(scene: Scene, batch: BatchJob) -> None:
    """The same job, started again by Slurm, does the rest."""
    state = batch.ended()
    if state != "COMPLETED" or batch.state()[1] != 1 or "done, 0 to run" not in batch.said:
        scene.faults.append(f"the job ended as {state}, started again {batch.state()[1]} times: {batch.said[-300:]}")
    scene.gone(batch.mark)


KINDS = {
    "slurm scancel": Kind("a job of Slurm, scancel", ALWAYS, scancel, slurm.lacking),
    "slurm requeue": Kind("a job of Slurm, put back into the queue", ALWAYS, requeue, slurm.lacking),
    "slurm time limit": Kind("a job of Slurm, its time limit", ("import",), time_limit, slurm.lacking),
}
