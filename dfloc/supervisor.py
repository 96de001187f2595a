"""The thin parent of a driver: it passes signals on, and says how the driver ended where that could not itself."""

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from dfloc import driver_notes, memory, shutdown
from dfloc.driver_notes import DriverNotes

LOOK_SECONDS = 1.0
ECHO_SECONDS = 0.3
LAST_SECONDS = 9.5
SWEEP_SECONDS = 5.0
RAY_GRACE = 1.0

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36
ORPHANED = signal.SIGURG
"""What the keeper gets when the process that was started is gone; it means nothing else to it."""

_SENT = 0
"""`si_code` of a signal that a process has sent; a terminal's has another."""


def can_start() -> bool:
    """Whether this process may be made two: on Linux, where nothing else goes on in it."""
    return sys.platform == "linux" and threading.active_count() == 1 and sys.gettrace() is None


def start(page: DriverNotes) -> None:
    """Fork twice: the grandchild returns and is the driver; the child keeps it, and this process ends as it ends.

    Both have loaded next to nothing, and forking costs a millisecond. Where this process is killed, the keeper kills
    the driver, and what that leaves: Ray's agents would look for their gcs_server for another minute.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    heard = {*shutdown.heard(), signal.SIGCHLD}  # one that is ignored stays so: blocked, it would be delivered
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*heard, ORPHANED})
    libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
    if keeper := _fork(libc, ORPHANED):
        os._exit(_follow(keeper, page, heard))
    libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
    front = os.getppid()
    if driver := _fork(libc, signal.SIGKILL):
        os._exit(_Keeper(driver, front, page, heard - {signal.SIGINT} | {ORPHANED}).watch())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    page.mine()
    driver_notes.note(watched=True, driver=os.getpid())


def _fork(libc: ctypes.CDLL, number: signal.Signals) -> int:
    """Fork, as `os.fork`; the child gets a signal when its parent ends, and is not begun where that has ended."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        libc.prctl(_SET_DEATH_SIGNAL, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)
    return child


def _follow(keeper: int, page: DriverNotes, heard: set[signal.Signals]) -> int:
    """Pass signals on until the keeper has ended; return the exit code.

    A Ctrl-C goes to all that are in the foreground: the driver is given only one that it did not get itself.
    """
    while not (found := os.waitpid(keeper, os.WNOHANG))[0]:
        info = signal.sigwaitinfo(heard)
        if info.si_signo in (signal.SIGTERM, signal.SIGHUP):
            os.kill(keeper, info.si_signo)
        elif info.si_signo == signal.SIGINT and info.si_code == _SENT:
            since = time.monotonic() - ECHO_SECONDS
            time.sleep(ECHO_SECONDS)
            facts = page.read()
            if "driver" in facts and facts.get("interrupted", 0) < since:
                with suppress(ProcessLookupError):
                    os.kill(facts["driver"], signal.SIGINT)
    code = os.waitstatus_to_exitcode(found[1])
    if code >= 0:
        return code
    facts = page.read()
    _sweep(facts)
    if "code" in facts:
        return int(facts["code"])
    shutdown.say(shutdown.line(f"the process that kept the driver was killed by signal {-code}", facts))
    return 128 - code


def _sweep(facts: dict[str, Any]) -> None:
    """End what the driver has left, Ray's workers say, and remove its temp folder.

    Orphans become children of this process: where it has none, nobody is left. Another user's process stays.
    """
    until = time.monotonic() + SWEEP_SECONDS
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            for pid in memory.descendants(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.02)
    if facts.get("temp"):
        shutil.rmtree(facts["temp"], ignore_errors=True)


class _Keeper:
    """The parent of the driver: what it knows of it."""

    def __init__(self, driver: int, front: int, page: DriverNotes, heard: set[signal.Signals]):
        self._driver = driver
        self._front = front
        self._page = page
        self._heard = heard
        self._asked = 0
        self._until = float("inf")
        self._gone = ""
        self._seen = memory.look([driver])
        self._kills = self._seen.kills

    def watch(self) -> int:
        """Wait until the driver has ended; return the exit code."""
        while (status := self._reap()) is None:
            info = signal.sigtimedwait(self._heard, LOOK_SECONDS)
            if info is not None and info.si_signo != signal.SIGCHLD:
                self._pass_on(info.si_signo)
            elif info is None:
                self._look()
            if time.monotonic() > self._until:
                os.kill(self._driver, signal.SIGKILL)
        facts = self._page.read()
        _sweep(facts)
        if "code" in facts:
            return int(facts["code"])
        cause, code = self._ended(status, facts)
        shutdown.say(shutdown.line(cause, facts, log=not self._asked))
        return code

    def _reap(self) -> int | None:
        """Return how the driver ended, as `waitpid` has it; None: it runs. Orphans of it are ours, and done with."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._driver:
                    return found[1]
        return None

    def _pass_on(self, number: int) -> None:
        """Give the driver a signal, and see that it ends in time; kill it where who started it was killed."""
        if number == ORPHANED:
            number = signal.SIGKILL if os.getppid() != self._front else 0
        else:
            self._asked = self._asked or number
            self._until = min(self._until, time.monotonic() + LAST_SECONDS)
        os.kill(self._driver, number)

    def _look(self) -> None:
        """See what is held, and ask the driver to end where its Ray is gone; native code would wait for a minute."""
        self._seen = memory.look([self._driver, *memory.descendants(self._driver)])
        facts = self._page.read()
        if self._gone or "code" in facts or not driver_notes.gone(facts):
            return
        time.sleep(RAY_GRACE)  # who ends all of a job has not got to this process yet
        self._gone = driver_notes.gone(facts)
        self._until = min(self._until, time.monotonic() + LAST_SECONDS - 2 * RAY_GRACE)
        os.kill(self._driver, signal.SIGTERM)

    def _ended(self, status: int, facts: dict[str, Any]) -> tuple[str, int]:
        """Return how the driver ended that did not say so itself, and the exit code."""
        number = self._asked or (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
        if self._asked or number in (signal.SIGTERM, signal.SIGHUP):
            return shutdown.name(number), 128 + number
        gone = self._gone or facts.get("gone") or ("raylet or gcs_server" if not number and facts.get("ray") else "")
        killed = number == signal.SIGKILL and time.monotonic() < self._until  # not by this process; Ray dies with it
        if gone and not killed:
            return f"Ray's {gone} is gone, and the driver with it", shutdown.GONE
        if number:
            held = self._seen.describe_kill(self._kills) if number == signal.SIGKILL else signal.strsignal(number)
            return f"killed by signal {number}, {held}", 128 + number
        code = os.waitstatus_to_exitcode(status)
        return f"the driver ended without a word, exit code {code}", code or shutdown.GONE
