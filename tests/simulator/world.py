"""A clock, and processes that take turns by a seed: one thread runs at a time, and hands on at every operation."""

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

WALL = 1_800_000_000.0
OPERATION_SECONDS = 0.002


class Crash(BaseException):
    """The process is dead: nothing of it runs any more, no cleaning up either (whatever it asks for raises this)."""


class Violation(BaseException):
    """An invariant does not hold."""


class Process:
    """A thread of a process; threads of one pid die together."""

    def __init__(self, world: "World", name: str, pid: int, host: str, body: Callable[[], object]):
        self.world, self.name, self.pid, self.host, self._body = world, name, pid, host, body
        self.baton = threading.Lock()
        self.baton.acquire()
        self.dead = self.ended = False
        self.wakes: float | None = None  # when it goes on at the latest, where it waits
        self.ready: Callable[[], bool] | None = None  # what it waits for
        self.stalled = 0.0  # until when it does not run at all
        self.error: BaseException | None = None
        self.result: object = None
        self.last = 0.0  # when it did something last
        self.handlers: list[Callable[[int], object]] = []  # of signals, the innermost last
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def launch(self) -> None:
        """Begin; it runs when its turn comes."""
        self._thread.start()

    def _run(self) -> None:
        self.baton.acquire()
        try:
            if not self.dead:
                self.result = self._body()
        except Crash:
            self.dead = True
        except Violation:
            self.world.collapse()
        except BaseException as error:  # noqa: BLE001 (whoever looks at it judges)
            self.error = error
        self.ended = True
        self.world.leave()

    def can_run(self, now: float) -> bool:
        """Return whether it may have its turn."""
        if self.dead:
            return True
        if now < self.stalled:
            return False
        return self.wakes is None or now >= self.wakes or bool(self.ready and self.ready())


class World:
    """Everything of one seed but the disk's content.

    Attributes:
        now: the monotonic clock.
        wall: what the wall clock is ahead of it.
        ops: operations on the disk so far.
        writes: numbers of those that change something.
        boots: how often the machine was started anew.
        chaos: told of every operation; raises what happens to it.
        restless: probability that another process goes on before an operation.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.now, self.wall, self.ops, self.boots = 1000.0, WALL, 0, 0
        self.writes: list[int] = []
        self._log: list[tuple[int, float, str, str]] = []
        self.violations: list[str] = []
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.chaos: Callable[[Process, str, str], None] = lambda process, kind, path: None
        self.restless = 0.0
        self._main = threading.Lock()
        self._main.acquire()
        self._pids = itertools.count(100)

    def spawn(self, name: str, body: Callable[[], object], pid: int | None = None, host: str = "here") -> Process:
        """Make a process, or a thread of one."""
        process = Process(self, name, pid or next(self._pids), host, body)
        self.processes.append(process)
        process.launch()
        return process

    def alive(self, pid: int) -> bool:
        """Return whether a process is there."""
        return any(one.pid == pid and not one.dead and not one.ended for one in self.processes)

    def run(self) -> None:
        """Let the processes run until all have ended."""
        if self._next() is not None:
            self._hand_on(None)
            self._main.acquire()
        self.current = None
        self.processes.clear()

    def note(self, text: str) -> None:
        """Add a line to the log."""
        self._log.append((self.ops, self.now - 1000, self.current.name if self.current else "-", text))

    @property
    def log(self) -> list[str]:
        """What happened, in readable lines."""
        return [f"{ops:5d} {now:9.2f} s  {who:10s} {text}" for ops, now, who, text in self._log]

    def violate(self, text: str) -> None:
        """Record that an invariant does not hold, and end everything."""
        self.note(f"VIOLATION: {text}")
        self.violations.append(text)
        if self.current is not None:
            raise Violation(text)

    def op(self, kind: str, path: str) -> None:
        """One operation on the disk is about to happen: it may be the last one, it may fail, others may come before."""
        me = self.current
        if me is None:
            return
        if me.dead:
            raise Crash
        self.ops += 1
        self.now += OPERATION_SECONDS
        if kind != "read":
            self.writes.append(self.ops)
        self.note(f"{kind} {path}")
        self.chaos(me, kind, path)
        if self.rng.random() < self.restless:
            self.pause()

    def kill(self, *pids: int) -> None:
        """End processes at once; who calls this goes on, unless it is one of them: then `Crash` is raised."""
        for one in self.processes:
            if one.pid in pids and not one.ended:
                one.dead = True
        if self.current is not None and self.current.dead:
            raise Crash

    def collapse(self) -> None:
        """End every process."""
        for one in self.processes:
            one.dead = True

    def pause(self) -> None:
        """Let others go on."""
        me = self.current
        assert me is not None
        self._hand_on(me)
        if me.dead:
            raise Crash

    def sleep(self, seconds: float, ready: Callable[[], bool] | None = None) -> None:
        """Wait so long, or until something is so."""
        me = self.current
        assert me is not None
        if me.dead:
            raise Crash
        me.wakes, me.ready = self.now + seconds, ready
        self._hand_on(me)
        me.wakes = me.ready = None
        if me.dead:
            raise Crash

    def leave(self) -> None:
        """Hand on from a process that has ended."""
        self._hand_on(None)

    def _next(self) -> Process | None:
        """Return whose turn it is; where all wait, time passes until one need not."""
        while left := [one for one in self.processes if not one.ended]:
            able = [one for one in left if one.can_run(self.now)]
            dead = [one for one in able if one.dead]
            if able:
                return dead[0] if dead else self.rng.choice(able)
            self.now = max(self.now, min(max(one.wakes or 0.0, one.stalled) for one in left))
        return None

    def _hand_on(self, me: Process | None) -> None:
        following = self._next()
        if following is me and me is not None:
            return
        self.current = following
        (following.baton if following else self._main).release()
        if me is not None:
            me.baton.acquire()


class Event:
    """`threading.Event` of the simulated processes."""

    world: World

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self.world.sleep(1e9 if timeout is None else timeout, self.is_set)
        return self._set


class Thread:
    """`threading.Thread` of the simulated processes."""

    world: World

    def __init__(self, target: Callable[..., object], name: str = "", daemon: bool = False, args: Any = ()):
        self._target, self._args, self._name = target, args, name
        self._process: Process | None = None

    def start(self) -> None:
        me = self.world.current
        assert me is not None
        self._process = self.world.spawn(f"{me.name}'", lambda: self._target(*self._args), me.pid, me.host)

    def join(self, timeout: float | None = None) -> None:
        process = self._process
        if process is not None and not process.ended:
            self.world.sleep(1e9 if timeout is None else timeout, lambda: process.ended)

    def is_alive(self) -> bool:
        return self._process is not None and not self._process.ended
