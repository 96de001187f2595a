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

from dfloc import ending, memory, slate
from dfloc.ending import SHOW_CURSOR
from dfloc.slate import Slate

LOOK_SECONDS = 1.0
ECHO_SECONDS = 0.3
LAST_SECONDS = 9.5
SWEEP_SECONDS = 5.0
RAY_GRACE = 1.0

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36
_SENT = 0
"""`si_code` of a signal that a process has sent; a terminal's has another."""


def can_start() -> bool:
    """Whether this process may be made two: on Linux, where nothing else goes on in it."""
    return sys.platform == "linux" and threading.active_count() == 1 and sys.gettrace() is None


def start(page: Slate) -> None:
    """Fork: the child returns and is the driver; the parent watches it, and ends as it ends.

    The parent has loaded next to nothing, and forking costs a millisecond. Where it is killed, so is the driver.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    heard = {*ending.heard(), signal.SIGCHLD}  # one that is ignored stays so: blocked, it would be delivered
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    parent = os.getpid()
    driver = os.fork()
    if driver:
        libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
        os._exit(_Parent(driver, page, heard).watch())
    libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    page.mine()
    slate.note(watched=True)


class _Parent:
    """What the parent knows of its driver."""

    def __init__(self, driver: int, page: Slate, heard: set[signal.Signals]):
        self._driver = driver
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
                self._pass_on(info)
            elif info is None:
                self._look()
            if time.monotonic() > self._until:
                os.kill(self._driver, signal.SIGKILL)
        facts = self._page.read()
        self._sweep(facts)
        if "code" in facts:
            return int(facts["code"])
        cause, code = self._ended(status, facts)
        self._say(ending.line(cause, facts, log=not self._asked))
        return code

    def _reap(self) -> int | None:
        """Return how the driver ended, as `waitpid` has it; None: it runs. Orphans of it are ours, and done with."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._driver:
                    return found[1]
        return None

    def _pass_on(self, info: signal.struct_siginfo) -> None:
        """Give the driver a signal, but for a Ctrl-C that it got too, as all do that are in the foreground."""
        if info.si_signo != signal.SIGINT:
            self._asked = self._asked or info.si_signo
            self._until = min(self._until, time.monotonic() + LAST_SECONDS)
        elif info.si_code != _SENT or self._was_interrupted(time.monotonic()):
            return
        os.kill(self._driver, info.si_signo)

    def _was_interrupted(self, since: float) -> bool:
        """Wait for a moment, and return whether the driver has got a Ctrl-C of its own."""
        time.sleep(ECHO_SECONDS)
        return float(self._page.read().get("interrupted", 0)) >= since - ECHO_SECONDS

    def _look(self) -> None:
        """See what is held, and ask the driver to end where its Ray is gone; native code would wait for a minute."""
        self._seen = memory.look([self._driver, *memory.descendants(self._driver)])
        facts = self._page.read()
        if self._gone or "code" in facts or not slate.gone(facts):
            return
        time.sleep(RAY_GRACE)  # who ends all of a job has not got to this process yet
        self._gone = slate.gone(facts)
        self._until = min(self._until, time.monotonic() + LAST_SECONDS - 2 * RAY_GRACE)
        os.kill(self._driver, signal.SIGTERM)

    def _sweep(self, facts: dict[str, Any]) -> None:
        """End what the driver has left, Ray's workers say, and remove its temp folder."""
        until = time.monotonic() + SWEEP_SECONDS
        while (left := memory.descendants(os.getpid())) and time.monotonic() < until:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            self._reap()
        if facts.get("temp"):
            shutil.rmtree(facts["temp"], ignore_errors=True)

    def _ended(self, status: int, facts: dict[str, Any]) -> tuple[str, int]:
        """Return how the driver ended that did not say so itself, and the exit code."""
        number = self._asked or (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
        if self._asked or number in (signal.SIGTERM, signal.SIGHUP):
            return ending.name(number), 128 + number
        gone = self._gone or facts.get("gone") or ("raylet or gcs_server" if not number and facts.get("ray") else "")
        if gone:
            return f"Ray's {gone} is gone, and the driver with it", ending.GONE
        if number:
            held = self._seen.told(self._kills) if number == signal.SIGKILL else signal.strsignal(number)
            return f"killed by signal {number}, {held}", 128 + number
        code = os.waitstatus_to_exitcode(status)
        return f"the driver ended without a word, exit code {code}", code or ending.GONE

    def _say(self, text: str) -> None:
        show = SHOW_CURSOR if os.isatty(1) else ""
        with suppress(OSError):
            os.write(2, f"{show}{text}\n".encode(errors="backslashreplace"))
