"""Rows, one per image, as metrics read them: a pandas DataFrame or a pyarrow Table."""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from dfloc.errors import DataError

Array = np.ndarray[Any, Any]


class Table(Protocol):
    """A pandas DataFrame or a pyarrow Table."""

    def __getitem__(self, column: str) -> Any:
        """Return a column."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...


def column(rows: Table, name: str) -> Array:
    """Return a column of a DataFrame or Table as an array.

    Raises:
        DataError: there is none of that name.
    """
    try:
        return np.asarray(rows[name])
    except KeyError as error:
        raise DataError(f'expected rows with a column "{name}", which these lack') from error


def names(rows: Table) -> tuple[str, ...]:
    """Return the names of the columns of a DataFrame or Table, in their order."""
    found: Any = rows.column_names if isinstance(rows, pa.Table) else rows
    return tuple(map(str, found))


def known(rows: Table, name: str) -> bool:
    """Return whether rows have a column of a name with any value in it."""
    if name not in names(rows):
        return False
    values = column(rows, name)
    return bool((values == values).any()) if values.dtype != object else any(value is not None for value in values)


def lists(rows: Table, name: str) -> Array:
    """Return a column of lists of one length, as an array [rows, length].

    Raises:
        DataError: there is none of that name, or their lengths differ.
    """
    values = column(rows, name)
    if len({len(value) for value in values}) > 1:
        raise DataError(f'expected lists of one length in the column "{name}", came several; score these images again')
    return np.stack([np.asarray(value) for value in values])
