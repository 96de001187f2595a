"""What a look at a workspace finds: a file, what is wrong with it, and what becomes of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from upath import UPath

from dfloc.errors import DflocError

FileKind = Literal["features", "list", "rows", "epochs", "weights", "shard", "record", "lock", "tracking", "scratch"]
FindingState = Literal["damaged", "left over", "unverifiable", "awaited"]

GRACE_SECONDS = 10.0
"""What stood still for so long has no writer any more: a file is renamed as soon as it is written."""


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        kind: of what is found.
        path: the file or folder.
        wrong: what is wrong with it, a clause.
        after: what becomes of it once it is taken away, and what that costs.
        remove: what `mend` deletes; a folder in a file's place that holds something is renamed instead.
        aside: what it renames to `<name>.damaged`, for it cannot be made again as it is. Both empty: only a user can
            help.
        lost: nothing makes it again unless the user does something: `after` says what.
        state: damaged; left over by a writer that is gone; unverifiable, for it was written before receipts; or
            awaited: it was taken away, and the next sweep makes it.
    """

    kind: FileKind
    path: UPath
    wrong: str
    after: str = ""
    remove: tuple[UPath, ...] = ()
    aside: tuple[UPath, ...] = ()
    lost: bool = False
    state: FindingState = "damaged"


class Check(NamedTuple):
    """One file, or a few that belong together, still to be looked at.

    Attributes:
        kind: what it is counted as.
        path: of the file, or of what holds them.
        look: reads it and says what is wrong.
    """

    kind: FileKind
    path: UPath
    look: Callable[[], Iterable[Finding]]


class Diagnosis(NamedTuple):
    """What was looked at, by kind, what was found, and what of it could not be taken away, with the reason."""

    looked: Counter[str]
    findings: Sequence[Finding]
    stuck: Mapping[UPath, str] = MappingProxyType({})

    def of(self, state: FindingState) -> Iterator[Finding]:
        """Yield what is damaged, left over, unverifiable or awaited."""
        return (finding for finding in self.findings if finding.state == state)


def reason(error: DflocError, path: UPath) -> str:
    """Return what an error says of a file, without the file's name and the cure."""
    return str(error).replace(str(path), "").partition("; ")[0].strip() or "is damaged"
