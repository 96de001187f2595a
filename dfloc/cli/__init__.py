"""The command line: how `dfloc` starts and ends; its commands are imported when they are asked for."""

import shlex
import signal
import sys
from typing import Any

from dfloc import driver_notes, screen, shutdown, supervisor
from dfloc.driver_notes import DriverNotes
from dfloc.shutdown import Ended, Ending

DRIVING = (["sweep"], ["evaluate"], ["predict"], ["data", "import"])
"""Commands that work for long: each has a thin parent, and goes on where nobody reads what it says."""


def __getattr__(name: str) -> Any:
    """Import the group of all commands when it is used."""
    if name == "cli":
        from dfloc.cli.group import cli

        return cli
    raise AttributeError(f"module dfloc.cli has no attribute {name}")


def main() -> None:
    """Run the command line; an error of a user is one or two lines, and an exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, shutdown.heard())  # until there is somebody who answers
    screen.occupy()
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    driving = any(words[: len(start)] == start for start in DRIVING) and not {"-h", "--help"} & set(sys.argv)
    page = DriverNotes()
    if driving and sys._getframe(1).f_globals.get("__name__") == "__main__" and supervisor.can_start():
        supervisor.start(page)
    page.mine()
    driver_notes.note(command=shlex.join(["dfloc", *sys.argv[1:]]))
    shown = screen.Screen()
    try:
        code = _run()
        if shown.lost and not driving:
            code = code or 2
        driver_notes.note(code=code)
    except BaseException:
        driver_notes.note(code=1)
        raise
    finally:
        page.close()
    sys.exit(code)


def _run() -> int:
    """Return the exit code; a process that is asked to end does so here."""
    end = Ending()
    try:
        with end:  # a signal may come before it has begun
            signal.pthread_sigmask(signal.SIG_UNBLOCK, shutdown.heard())
            from dfloc.cli import group

            try:
                code = group.run()
            except Exception as error:  # noqa: BLE001 (show_error raises what it does not know)
                if end.asked or driver_notes.gone(driver_notes.facts()):  # which broke what was going on
                    end.now()
                code = group.show_error(error, debug="--debug" in sys.argv)
            sys.stdout.flush()
            return code
    except Ended as error:
        end.now(error.number)
    except KeyboardInterrupt:
        end.now()
