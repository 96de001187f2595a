"""One disturbance of one study, and what came of it."""

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.command import Started, Study
from tests.faults import job, judge
from tests.faults.ground import Ground, until
from tests.faults.job import Bench

SHARES = (0.0, 0.9)
TRIES = 3


class MissedError(Exception):
    """The command ended before its moment came."""


class Moment(NamedTuple):
    """What happens when: a phase, and the share of its files that is there."""

    number: int
    kind: str
    phase: str
    share: float


@dataclass
class Scene:
    """A study at the beginning of a phase, which is disturbed once.

    Attributes:
        ground: what it is compared with.
        moment: when.
        draw: where everything else is drawn from.
        folder: its own.
        faults: what was wrong.
        notes: what was drawn besides.
        code: what the disturbed command ended with.
        seconds: from the disturbance to its end.
    """

    ground: Ground
    moment: Moment
    draw: random.Random
    folder: Path
    bench: Bench = field(init=False)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    code: int | None = None
    seconds: float = 0.0

    def lay(self, root: Path | None = None) -> Study:
        """Make the workspace, in a folder of its own or one that is there."""
        study = self.ground.lay(self.moment.phase, root or self.folder / "workspace", link=root is None)
        self.bench = Bench(study, self.ground.settings, self.folder)
        return study

    def begin(self, through: Sequence[str] = (), **environment: str) -> Started:
        """Give the command and wait for the moment.

        Raises:
            MissedError: it ended before.
        """
        reached = self.ground.watch(self.bench.study, self.moment.phase, self.moment.share)
        started = self.bench.start(through, **environment)
        if not until(started, reached):
            raise MissedError(str(started.result()))
        return started

    def end(self, started: Started, wanted: judge.Wanted, since: float) -> None:
        """Wait for the disturbed command and judge how it ended."""
        result = started.result()
        self.code, self.seconds = result.code, time.monotonic() - since
        self.faults += judge.ended(result, wanted, self.seconds)
        self.gone(started.mark)

    def gone(self, mark: str) -> None:
        if processes := job.left(mark):
            self.faults.append(f"left after {job.SECONDS_TO_END:.0f} s: {', '.join(processes[:5])}")
            job.end(mark)

    def go_on(self, uri: str | None = None) -> None:
        """Give the same command again, and judge what is there then."""
        study = self.bench.study
        with job.shared_memory() as shared:
            before = judge.State.of(study)
            started = self.bench.start()
            result = started.result()
            self.gone(started.mark)
            self.faults += judge.finished(
                study, result, self.ground, before, uri or f"sqlite:///{study.root}/mlflow.db"
            )
            if result.code == 0:
                self.faults += judge.rubbish(
                    study, self.ground, self.bench.temp, self.bench.here, shared, own_store=uri is None
                )


class Kind(NamedTuple):
    """A kind of disturbance.

    Attributes:
        does: what is done, for the table.
        phases: when it can be.
        disturb: does it to a scene, which has come to rest when it gives control back; what it has set up stays until
            the same command has been given again. It gives MLflow's URI where that is not the workspace's own.
        lacking: why it cannot be done here; empty where it can.
    """

    does: str
    phases: tuple[str, ...]
    disturb: Callable[[Scene], AbstractContextManager[str | None]]
    lacking: Callable[[], str] = str


@contextmanager
def folder() -> Iterator[Path]:
    """A short folder, deleted afterwards."""
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def play(kind: Kind, ground: Ground, moment: Moment, seed: str) -> Scene:
    """Disturb a study at a moment, and go on with it; a moment that is missed is tried again, earlier."""
    job.hear()
    for attempt in range(TRIES):
        now = moment._replace(share=moment.share / 2**attempt)
        with folder() as place:
            scene = Scene(ground, now, random.Random(seed), place)
            try:
                with kind.disturb(scene) as uri:
                    scene.go_on(uri)
                return scene
            except MissedError as error:
                missed = str(error)
            finally:
                if hasattr(scene, "bench"):
                    scene.bench.close()
    scene.faults.append(f"the moment was missed {TRIES} times: {missed[-300:]}")
    return scene
