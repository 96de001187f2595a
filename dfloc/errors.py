"""What is told to a user: what was expected, what came, what to do."""

import difflib
import re
from collections.abc import Iterable


class DflocError(Exception):
    """Any error that a user can mend; shown in one or two lines, without a traceback.

    Attributes:
        exit_code: what the `dfloc` command returns: 2 = bad input, 1 = a trial failed, 130 = interrupted.
    """

    exit_code = 2


class ConfigError(DflocError):
    """A sweep file, an option or a name is wrong."""


class DataError(DflocError):
    """An image, a mask, a tree or a shard is not what it should be."""


class WorkspaceError(DflocError):
    """The workspace cannot be used: not writable, locked by another driver, or damaged."""


class DiskFullError(WorkspaceError):
    """There is no room on the disk: told once, and nothing is tried again.

    Args:
        what: is full, and how much is free there.
        need: what is needed, a clause.
    """

    def __init__(self, what: str, need: str = ""):
        super().__init__(what, need)
        self.what, self.need = what, need

    def __str__(self) -> str:
        """Return the whole sentence."""
        more = ", ".join(part for part in self.args if part)
        return f"{more}; make room or name another place, everything finished is saved: the same command goes on"


class TrialError(DflocError):
    """A trial failed for a cause of its own."""

    exit_code = 1


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return the end of an error message: the nearest choice, and all of them."""
    names = sorted(choices, key=_counted)
    near = difflib.get_close_matches(word, names, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}known: {', '.join(names) if names else 'none'}"


def _counted(name: str) -> list[tuple[str, int]]:
    """Return what sorts layer9 before layer10."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", name)]


def unknown(kind: str, word: str, choices: Iterable[str]) -> ConfigError:
    """Return the error for a name that no table has."""
    return ConfigError(f'unknown {kind} "{word}"; {did_you_mean(word, choices)}')
