"""The rows of one evaluation: a Parquet file, and the receipt that it was written with."""

import logging

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from dfloc import digests, storage
from dfloc.config import EvaluationSpec, Frozen
from dfloc.errors import WorkspaceError

logger = logging.getLogger(__name__)

AGAIN = "the next sweep or evaluation makes it again"
CURE = f"delete it, {AGAIN}"


class Receipt(Frozen):
    """What the rows of an evaluation are; put before them, so that rows put since receipts are always have one.

    Attributes:
        trial: fingerprint of the trial that was evaluated.
        key: of the evaluation.
        sha256: of the Parquet file.
        rows: how many there are.
    """

    trial: str
    key: str
    sha256: str
    rows: int


def put(path: UPath, trial: str, table: pa.Table) -> None:
    """Put the rows of an evaluation of a trial; the file's name is the evaluation's key."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    receipt = Receipt(trial=trial, key=path.stem, sha256=digests.digest(data), rows=len(table))
    storage.put(path.with_suffix(".json"), storage.sealed(receipt))
    storage.put(path, data)


def receipt(path: UPath, trial: str) -> Receipt | None:
    """Return the receipt of rows; None of those that were put before there were receipts.

    Raises:
        WorkspaceError: it is damaged, or that of other rows.
    """
    place = path.with_suffix(".json")
    if not place.exists():
        return None
    found = storage.get_model(Receipt, place, f"delete it and {path.name}, {AGAIN}")
    if (found.trial, found.key) != (trial, path.stem):
        raise WorkspaceError(f"{place} is that of other rows ({found.key}); delete it and {path.name}, {AGAIN}")
    return found


def is_whole(path: UPath, trial: str) -> bool:
    """Return whether rows are there and are those of their receipt; damaged ones are said."""
    try:
        told = receipt(path, trial)
    except WorkspaceError as error:
        logger.warning("rows are made again: %s", error)
        return False
    if not path.exists():
        return False
    if told is None or digests.verified(path, told.sha256):
        return True
    logger.warning("rows are made again: %s is damaged", path)
    return False


def of(evaluation: EvaluationSpec, table: pa.Table, path: UPath) -> pa.Table:
    """Return rows if they are of what an evaluation names, one for each image of its list.

    Raises:
        WorkspaceError: they are not.
    """
    named = {name: getattr(evaluation, name) for name in ("trial", "checkpoint", "domain", "split", "protocol")}
    odd = [name for name in named if name in table.column_names and {*table[name].to_pylist()} - {named[name]}]
    if odd:
        raise WorkspaceError(f"{path} holds rows of another {odd[0]} than {named[odd[0]]}; {CURE}")
    images = pc.count_distinct(table["id"]).as_py() if "id" in table.column_names else 0
    if not len(table) == images == evaluation.test.size:
        raise WorkspaceError(
            f"trial {evaluation.trial[:12]} has {len(table)} rows of {images} images for {evaluation.domain}, expected "
            f"one for each of {evaluation.test.size} samples; delete rows/{path.name} in its folder, it is made again"
        )
    return table


def read(path: UPath, trial: str) -> pa.Table:
    """Read the rows of an evaluation of a trial.

    Raises:
        WorkspaceError: they are not there, damaged, or another trial's.
    """
    told = receipt(path, trial)
    try:
        data = digests.read(path, told.sha256 if told else "", CURE)
    except FileNotFoundError as error:
        raise WorkspaceError(f"trial {trial[:12]} was not evaluated yet: no {path}") from error
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
        trials = table["trial"].unique().to_pylist() if "trial" in table.column_names else []
    except Exception as error:
        raise WorkspaceError(f"{path} is damaged ({type(error).__name__}: {error}); {CURE}") from error
    if not {*trials} <= {trial}:
        raise WorkspaceError(f"{path} holds rows of other trials; {CURE}")
    return table
