"""How a process ends that is asked to: by which signals, how soon, with which code, and with which last line."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from dfloc import driver_notes

SECONDS = 8.0
"""From a request to the end: who sends TERM to a job kills it after half a minute, or after ten seconds."""

LOOK_SECONDS, GRACE_SECONDS = 0.25, 1.0

GONE = 75
"""Exit code of a driver whose Ray is gone: sysexits' "temporary failure", the same command goes on."""

CODES = (
    "Exit codes: 0 done, 1 a trial or a check failed, 2 refused, 130 Ctrl-C, 143 ended by TERM, 129 by HUP, 137 killed "
    f"by signal 9, {GONE} Ray is gone. After the last five the same command goes on."
)
NAMES = ("INT", "TERM", "HUP")
SHOW_CURSOR = "\x1b[?25h"


class Ended(KeyboardInterrupt):
    """This process was asked to end, by a signal of this number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number: int = number


def heard() -> list[signal.Signals]:
    """Return the signals by which this process may be asked; one that it was told to ignore (`nohup`) it ignores."""
    numbers = [signal.Signals(number) for name in NAMES if (number := getattr(signal, f"SIG{name}", None))]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def listening(on: Callable[[int], None]) -> Iterator[None]:
    """Call `on` when a signal asks this process to end; in its main thread alone, where signals are handled."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            driver_notes.note(interrupted=time.monotonic())
        on(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def line(cause: str, facts: dict[str, Any], log: bool = False) -> str:
    """Return the last line of a driver: how it ended, what is left, where its log is, and how to go on."""
    words = [cause, "everything finished is saved"]
    words += [f"{facts['left']} to run"] if "left" in facts else []
    words += [f"log: {facts['log']}"] if log and facts.get("log") else []
    return f"{'; '.join(words)}. Go on with: {facts.get('command', 'the same command')}"


def say(text: str, descriptor: int = 2) -> None:
    """Write the last line past all buffers, and wait a second at most for one who reads it."""
    show = SHOW_CURSOR if os.isatty(1) else ""
    with suppress(OSError):
        if select.select([], [descriptor], [], GRACE_SECONDS)[1]:
            os.write(descriptor, f"{show}{text}\n".encode(errors="backslashreplace"))


def deaf() -> None:
    """Hear no signal any more: this process ends."""
    if threading.current_thread() is threading.main_thread():
        for number in heard():
            signal.signal(number, signal.SIG_IGN)


def name(number: int) -> str:
    """Return what an ending by a signal is called."""
    return f"ended by {signal.Signals(number).name.removeprefix('SIG')}"


class Ending:
    """Raises `Ended` where the main thread is; ends the process where that does not come out in time.

    A context manager. Its clock is a thread: the main one may be in native code, which answers no signal. Ctrl-C has no
    clock until it is pressed again: epochs in flight may take minutes.

    Args:
        seconds: from a request to the end.

    Attributes:
        asked: the number of the signal; 0 = nobody asked.
    """

    def __init__(self, seconds: float = SECONDS):
        self.asked = 0
        self._raised = False
        self._seconds = seconds
        self._last = threading.Lock()

    def __enter__(self) -> "Ending":
        self._listening = listening(self._end)
        self._listening.__enter__()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = -1
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="dfloc-ending", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        leaves = self._last.locked() or issubclass(kind or Exception, KeyboardInterrupt)
        if leaves:  # by default a second signal would end it before its last line
            deaf()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)
        if not leaves:
            self._listening.__exit__(None, None, None)

    def _end(self, number: int) -> None:
        if self._last.locked() or (self._raised and number != signal.SIGINT):  # `timeout` sends TERM twice
            return
        self._ask(number)
        self._raised |= number != signal.SIGINT
        raise Ended(self.asked)

    def _ask(self, number: int) -> None:
        if self.asked in (0, signal.SIGINT):  # the first of TERM and HUP is told
            self.asked = number

    def _watch(self) -> None:
        until: float | None = None
        while True:
            while not select.select([self._read], [], [], LOOK_SECONDS if until else None)[0]:
                assert until is not None, "without a clock it waits"
                if driver_notes.gone(driver_notes.facts()):  # the main thread may wait for it, a minute long
                    until = min(until, time.monotonic() + GRACE_SECONDS)
                if time.monotonic() >= until:
                    self.now()
            number = int.from_bytes(os.read(self._read, 1))
            if not number:
                os.close(self._read)
                return
            if number in heard():
                if until is None and (number != signal.SIGINT or self.asked):
                    until = time.monotonic() + self._seconds
                self._ask(number)

    def now(self, number: int = 0) -> NoReturn:
        """End this process at once: nothing waits for threads, for Ray, for a server or for a reader any more.

        Where its Ray is gone, the parent knows what came first, and says it.

        Args:
            number: of the signal, where it is known; 0 = the one that asked.
        """
        self._last.acquire()
        deaf()
        number = number or self.asked or signal.SIGINT
        facts = driver_notes.facts()
        if gone := facts.get("watched") and driver_notes.gone(facts):
            driver_notes.note(gone=gone)
        else:
            say(line("Interrupted" if number == signal.SIGINT else name(number), facts), sys.stderr.fileno())
            driver_notes.note(code=128 + number)  # or the parent, which ends what is late, would say it once more
        flushes = threading.Thread(target=sys.stdout.flush, daemon=True)  # the main one may hold its lock
        with suppress(RuntimeError):
            flushes.start()
            flushes.join(GRACE_SECONDS)
        os._exit(128 + number)
