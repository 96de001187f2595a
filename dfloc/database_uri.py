"""A database file's address as SQLAlchemy reads it, whatever signs its path has, and back."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

_PLAIN = "sqlite:///"
_ENCODED = "sqlite+pysqlite:///"  # of a `sqlite:///` MLflow makes the folder, but by its encoded name


def of_database(path: Path) -> str:
    """Return the address of a database file."""
    encoded = quote(os.fsencode(path))
    return _PLAIN + encoded if encoded == str(path) else _ENCODED + encoded


def database(uri: str) -> Path | None:
    """Return the database file of an address; None = it is no file's."""
    for head in (_PLAIN, _ENCODED):
        if uri.startswith(head):
            return Path(unquote(uri.removeprefix(head), errors="surrogateescape"))
    return None


def read_only(path: Path) -> str:
    """Return the address under which sqlite3 itself opens a database file and does not change it."""
    return f"{path.absolute().as_uri()}?mode=ro"
