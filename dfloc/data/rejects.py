"""What an import cannot use: `rejected.csv`, and when it is too much."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from upath import UPath

from dfloc import storage
from dfloc.data.manifest import Place
from dfloc.errors import DataError

FILE_NAME = "rejected.csv"
MAX_SHARE = 0.01
SHOWN = 3


class Reject(NamedTuple):
    """A sample that cannot be used, and why."""

    id: str
    file: str
    reason: str


class Rejects:
    """The rejects of an import, kept in `rejected.csv` with those of the splits that it leaves alone.

    Args:
        out: the data folder.
        changed: the splits that are imported, and their images.
        allowed: go on where more than 1 % of them cannot be used.
    """

    def __init__(self, out: UPath, changed: Mapping[Place, int], allowed: bool):
        self._path = out / FILE_NAME
        self._total = sum(changed.values())
        self._allowed = allowed
        self.kept = [reject for reject in _read(self._path) if _place(reject) not in changed]
        self._new: list[Reject] = []

    @property
    def all(self) -> list[Reject]:
        """All rejects of the data folder, sorted."""
        return sorted([*self.kept, *self._new])

    def add(self, rejects: Iterable[Reject]) -> None:
        """Name more rejects in the file, and stop where they are too many.

        Raises:
            DataError: more than 1 % of the images cannot be used.
        """
        self._new += rejects
        if self.all:
            storage.put(self._path, _csv(self.all))
        else:
            self._path.unlink(missing_ok=True)
        if len(self._new) > MAX_SHARE * self._total and not self._allowed:
            shown = ", ".join(f"{reject.id} ({reject.reason})" for reject in sorted(self._new)[:SHOWN])
            raise DataError(
                f"{len(self._new)} of {self._total} images cannot be used, more than 1 %: {shown}; all are in "
                f"{self._path}; mend them, or go on without them: --allow-rejects"
            )


def _place(reject: Reject) -> tuple[str, str]:
    source, generator, split = reject.id.split("/")[:3]
    return f"{source}/{generator}", split


def _read(path: UPath) -> list[Reject]:
    if not path.exists():
        return []
    return [Reject(**row) for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]


def _csv(rejects: Sequence[Reject]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Reject._fields, *rejects])
    return text.getvalue().encode()
