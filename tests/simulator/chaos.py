"""What goes wrong in one start of a sweep, and when: drawn from the seed, or named."""

import errno
import os
import random
from dataclasses import dataclass, field

from tests.simulator.disk import LostError

WRITES = ("create", "open", "write", "sync", "sync folder", "mkdir", "rmdir", "unlink", "rename", "link")
FILLS = ("create", "write", "sync", "mkdir", "rename", "link")


@dataclass
class Chaos:
    """What goes wrong, by the number of the operation (from 1 in each start).

    Attributes:
        power: the machine loses power.
        driver: the driver is killed; `orphans`: its workers go on for a while.
        workers: a worker is killed.
        errors: operations of these kinds fail with a probability: (first, last, share, errno, kinds).
        stop: the user asks to stop.
        second: another driver begins: (operation, its host, whether it waits).
        steps: operation -> seconds by which the wall clock is set.
        stall: the driver does not run for some minutes.
    """

    power: int = 0
    driver: int = 0
    orphans: bool = False
    workers: tuple[int, ...] = ()
    errors: tuple[tuple[int, int, float, int, tuple[str, ...]], ...] = ()
    stop: int = 0
    second: tuple[int, str, bool] | None = None
    steps: dict[int, float] = field(default_factory=dict)
    stall: int = 0

    @classmethod
    def draw(cls, rng: random.Random, ops: int) -> "Chaos":
        """Draw what goes wrong in a start of about so many operations."""

        def at() -> int:
            return rng.randrange(1, ops) if rng.random() < 0.6 else int(ops ** rng.random())

        errors = []
        if rng.random() < 0.3:
            errors.append((1, 10**6, rng.choice([0.002, 0.01, 0.05]), errno.EIO, (*WRITES, "read")))
        if rng.random() < 0.1:
            errors.append((1, 10**6, rng.choice([0.1, 0.3]), errno.EIO, ("sync",)))
        if rng.random() < 0.2:
            first = at()
            errors.append((first, first + rng.choice([1, 5, 60, 1000]), 1.0, errno.ENOSPC, FILLS))
        stall = at() if rng.random() < 0.1 else 0
        second = (rng.choice([at(), rng.randrange(1, 8)]), rng.choice(["here", "there"]), rng.random() < 0.6)
        if stall:
            second = (stall + 1, "there", True)
        return cls(
            power=at() if rng.random() < 0.5 else 0,
            driver=at() if rng.random() < 0.2 else 0,
            orphans=rng.random() < 0.5,
            workers=tuple(at() for _ in range(rng.choice([0, 0, 1, 1, 2, 5]))),
            errors=tuple(errors),
            stop=at() if rng.random() < 0.1 else 0,
            second=second if stall or rng.random() < 0.3 else None,
            steps={at(): rng.choice([-7200.0, 7200.0])} if rng.random() < 0.2 else {},
            stall=stall,
        )

    @property
    def spoils(self) -> bool:
        """Whether a start may end without having done its work, though nobody was killed."""
        return bool(self.errors or self.workers or self.stall or self.second or self.stop)

    def error(self, rng: random.Random, number: int, kind: str) -> LostError | None:
        """Return how an operation fails; None: it does not."""
        for first, last, share, code, kinds in self.errors:
            if first <= number <= last and kind.partition(" unnamed")[0] in kinds and rng.random() < share:
                lost = LostError(code, os.strerror(code))
                lost.after = code == errno.EIO and kind != "sync" and rng.random() < 0.2
                return lost
        return None

    def __str__(self) -> str:
        said = {name: value for name, value in vars(self).items() if value and name != "orphans"}
        return ", ".join(f"{name} {value}" for name, value in said.items()) or "nothing"
