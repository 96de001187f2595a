"""The rows of one evaluation: a Parquet file that carries its own receipt."""

import logging
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from dfloc import digests, storage
from dfloc.config import EvaluationSpec
from dfloc.errors import WorkspaceError

logger = logging.getLogger(__name__)

CURE = "delete it, the next sweep or evaluation makes it again"

BLANK = b"0" * 64
_RECEIPT = re.compile(rb"sha256 ([0-9a-f]{64}) of the rows (\S+) of trial (\S+);")


class RowsReceipt(NamedTuple):
    """What rows say of themselves, in the metadata of their file.

    Attributes:
        sha256: of the file with zeros in the digest's place.
        key: of the evaluation.
        trial: fingerprint of the trial that was evaluated.
    """

    sha256: str
    key: str
    trial: str


def put(path: UPath, trial: str, table: pa.Table) -> None:
    """Put the rows of an evaluation of a trial; the file's name is the evaluation's key."""
    header = f"sha256 {BLANK.decode()} of the rows {path.stem} of trial {trial};"
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"dfloc": header}), sink)
    data = sink.getvalue().to_pybytes()
    storage.put(path, data.replace(header.encode(), header.replace(BLANK.decode(), digests.digest(data)).encode()))


def receipt(path: UPath, trial: str) -> RowsReceipt | None:
    """Return the receipt of rows; None of those that were put before there were receipts.

    Raises:
        WorkspaceError: they are not there, not what the receipt says, or those of another trial or evaluation.
    """
    return _receipt(_bytes(path, trial), path, trial)


def is_whole(path: UPath, trial: str, asked: Callable[[pa.Table], object] | None = None) -> bool:
    """Return whether rows are there and can be read as they were put; damaged ones are said.

    Args:
        path: of the rows.
        trial: fingerprint of the trial that was evaluated.
        asked: raises where rows without a receipt are not what is asked for.
    """
    if not path.exists():
        return False
    try:
        data = _bytes(path, trial)
        if _receipt(data, path, trial) is None:
            table = _table(data, path, trial)
            if asked:
                asked(table)
    except WorkspaceError as error:
        logger.warning("rows are made again: %s", error)
        return False
    return True


def read(path: UPath, trial: str) -> pa.Table:
    """Read the rows of an evaluation of a trial.

    Raises:
        WorkspaceError: they are not there, damaged, or another trial's.
    """
    data = _bytes(path, trial)
    _receipt(data, path, trial)
    return _table(data, path, trial)


def of(evaluation: EvaluationSpec, table: pa.Table, path: UPath, ids: Sequence[str] | None = None) -> pa.Table:
    """Return rows if they are of what an evaluation names, one for each image of its list.

    Args:
        evaluation: what is asked for.
        table: the rows.
        path: of their file.
        ids: of the images of its list, where they are known.

    Raises:
        WorkspaceError: they are not.
    """
    named = {name: getattr(evaluation, name) for name in ("trial", "checkpoint", "domain", "split")}
    odd = [name for name in named if name in table.column_names and {*table[name].to_pylist()} - {named[name]}]
    if odd:
        raise WorkspaceError(f"{path} holds rows of another {odd[0]} than {named[odd[0]]}; {CURE}")
    images = pc.count_distinct(table["id"]).as_py() if "id" in table.column_names else len(table)
    if not len(table) == images == evaluation.test.size:
        raise WorkspaceError(
            f"trial {evaluation.trial[:12]} has {len(table)} rows of {images} images for {evaluation.domain}, expected "
            f"one for each of {evaluation.test.size} samples; delete rows/{path.name} in its folder, it is made again"
        )
    if ids and "id" in table.column_names and {*table["id"].to_pylist()} != {*ids}:
        name = f"lists/{evaluation.test.digest}.json"
        raise WorkspaceError(f"{path} holds rows of other images than {name} names; delete both, they are made again")
    return table


def _bytes(path: UPath, trial: str) -> bytes:
    try:
        return storage.read(path, CURE)
    except FileNotFoundError as error:
        raise WorkspaceError(f"trial {trial[:12]} was not evaluated yet: no {path}") from error


def _receipt(data: bytes, path: UPath, trial: str) -> RowsReceipt | None:
    found = next(reversed(list(_RECEIPT.finditer(data))), None)
    if found is None:
        return None
    receipt = RowsReceipt(*(group.decode(errors="replace") for group in found.groups()))
    if digests.digest(data[: found.start(1)] + BLANK + data[found.end(1) :]) != receipt.sha256:
        raise WorkspaceError(f"{path} is damaged: not what was written; {CURE}")
    if (receipt.key, receipt.trial) != (path.stem, trial):
        raise WorkspaceError(f"{path} holds the rows {receipt.key[:12]} of trial {receipt.trial[:12]}; {CURE}")
    return receipt


def _table(data: bytes, path: UPath, trial: str) -> pa.Table:
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()  # in .4 of the time of read_table
        table.validate(full=True)
        if len({*table.column_names}) < table.num_columns:
            raise ValueError("a column is there twice")
        trials = table["trial"].unique().to_pylist() if "trial" in table.column_names else []
    except Exception as error:
        raise WorkspaceError(f"{path} is damaged ({type(error).__name__}: {error}); {CURE}") from error
    if not {*trials} <= {trial}:
        raise WorkspaceError(f"{path} holds rows of other trials; {CURE}")
    return table.replace_schema_metadata()
