"""An attempt's epochs: a line for each, and the checkpoints that a trial can go on from."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from upath import UPath

from dfloc import digests, storage
from dfloc.errors import WorkspaceError
from dfloc.outcome import EpochRecord

logger = logging.getLogger(__name__)

FILE = "epochs.jsonl"


class ResumePoint(NamedTuple):
    """An epoch checkpoint, and the records until then."""

    epoch: int
    path: UPath
    records: list[EpochRecord]


def written(records: Sequence[EpochRecord]) -> bytes:
    """Return records as they stand in `FILE`."""
    return "".join(record.model_dump_json() + "\n" for record in records).encode()


def read(lines: Sequence[bytes]) -> list[EpochRecord]:
    """Return what lines say of the epochs from the first one on.

    Raises:
        ValueError: they are damaged.
    """
    records = [EpochRecord.model_validate_json(line) for line in lines]
    if [record.epoch for record in records] != list(range(1, len(records) + 1)):
        raise ValueError("not one line for each epoch")
    return records


def name(state: bytes, records: Sequence[EpochRecord]) -> str:
    """Return the name of the last record's checkpoint: its epoch, its own digest, and that of all the records."""
    marks = (digests.digest(data)[:16] for data in (state, written(records)))
    return f"epoch-{records[-1].epoch:05d}-{'-'.join(marks)}.state"


def marks(checkpoint: UPath) -> tuple[int, str, str]:
    """Return what a checkpoint's name says: epoch, digits of its digest and of the records' (of older ones: none)."""
    _, epoch, state, *records = checkpoint.stem.split("-")
    return int(epoch), state, "".join(records)


def attempts(trial: UPath) -> list[UPath]:
    """Return the folders of a trial's attempts."""
    folder = trial / "attempts"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def checkpoints(attempt: UPath) -> list[UPath]:
    """Return an attempt's epoch checkpoints, newest first."""
    return sorted(attempt.glob("epoch-*.state"), key=lambda path: path.name, reverse=True)


def resumable(trial: UPath) -> list[ResumePoint]:
    """Return the checkpoints of all attempts, most advanced first; one counts once its record is put.

    One whose records are damaged is left out, and said.
    """
    found = []
    for attempt in attempts(trial):
        path = attempt / FILE
        try:
            lines = storage.read(path).splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        except WorkspaceError as error:
            logger.warning("an attempt is left out: %s", error)
            continue
        for checkpoint in checkpoints(attempt):
            try:
                epoch, _, mark = marks(checkpoint)
                if epoch == len(lines) + 1:  # its record was never put
                    continue
                if epoch > len(lines) or not digests.digest(b"".join(lines[:epoch])).startswith(mark):
                    raise ValueError("not what was written")
                found.append(ResumePoint(epoch, checkpoint, read(lines[:epoch])))
            except ValueError:
                logger.warning("checkpoint %s is left out: %s is damaged", checkpoint.name, path)
    return sorted(found, key=lambda point: (point.epoch, point.path.name), reverse=True)
