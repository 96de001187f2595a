"""What an import cannot use: `rejected.csv`, and when it is too much."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from upath import UPath

from dfloc import storage
from dfloc.errors import DataError
from dfloc.ids import SampleId

FILE_NAME = "rejected.csv"
MAX_SHARE = 0.01
SHOWN = 3


class Reject(NamedTuple):
    """A sample that cannot be used, and why."""

    id: str
    file: str
    reason: str

    @property
    def place(self) -> tuple[str, str]:
        """Its domain and split."""
        return SampleId.of(self.id).place


def read(folder: UPath) -> list[Reject]:
    """Return the rejects of a data folder.

    Raises:
        DataError: the file is not what `save` wrote.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8", errors="replace"), newline="")))
    if not rows or tuple(rows[0]) != Reject._fields or any(len(row) != 3 or row[0].count("/") < 3 for row in rows[1:]):
        raise DataError(f"{path} is damaged; delete it")
    return [Reject(*row) for row in rows[1:]]


def save(folder: UPath, rejects: Sequence[Reject]) -> None:
    """Write the rejects of a data folder, sorted; no file where there are none."""
    path = folder / FILE_NAME
    if not rejects:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Reject._fields, *sorted(rejects)])
    storage.put(path, text.getvalue().encode())


def check(folder: UPath, rejects: Sequence[Reject], total: int) -> None:
    """Refuse rejects that are more than 1 % of all images.

    Raises:
        DataError: names the first ones, the file that has all, and the cure.
    """
    if len(rejects) > MAX_SHARE * total:
        shown = ", ".join(f"{reject.id} ({reject.reason})" for reject in sorted(rejects)[:SHOWN])
        raise DataError(
            f"{len(rejects)} of {total} images cannot be used, more than 1 %: {shown}; all are in "
            f"{folder / FILE_NAME}; mend them, or go on without them: --allow-rejects"
        )
