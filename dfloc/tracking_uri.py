"""Where MLflow keeps its runs: which addresses are understood, and whether one answers."""

import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from dfloc import storage
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.logfile import LogFile
from dfloc.storage import Workspace

FORMS = "known: sqlite:////<path>/mlflow.db, http://<host>:<port>, https://<host>"
SQLITE = "sqlite:///"
REQUEST_SECONDS = 10
CHATTERERS = ("mlflow", "alembic", "sqlalchemy.engine", "huey")


def check(workspace: Workspace, uri: str | None) -> str:
    """Return the address of the store: the given one, or sqlite in the workspace.

    Raises:
        ConfigError: it cannot be understood, or the workspace cannot hold a database.
    """
    if uri is None:
        try:
            storage.local(workspace.root)
        except WorkspaceError as error:
            raise ConfigError(
                f"{workspace.root} cannot hold a database; name a store by --tracking; {FORMS}"
            ) from error
        return workspace.tracking_uri
    try:
        parts = urlsplit(uri)
        served = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f'tracking URI "{uri}" cannot be understood: {error}; {FORMS}') from error
    if served or re.match(SQLITE + r"[^?#]*[^/?#]$", uri):
        return uri.rstrip("/")
    if parts.scheme == "file" or uri.startswith((".", "/", "~")):
        raise ConfigError(f'tracking URI "{uri}" is a folder, in which MLflow 3 keeps no runs; {FORMS}')
    raise ConfigError(f'tracking URI "{uri}" cannot be understood; {FORMS}')


def probe(uri: str, seconds: float) -> None:
    """Return if the store answers; MLflow itself would try again for minutes.

    Raises:
        OSError: it does not, within so many seconds (of each step), or the file is no database.
    """
    if not uri.startswith(SQLITE):
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=seconds):
                return
        except urllib.error.HTTPError:
            return  # a refusal is an answer
    path = Path(uri.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=seconds)) as database:
            database.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise OSError(f"{error}: {path}") from error


def quiet(log: Path) -> None:
    """Have MLflow, not imported yet, give up early, report to nobody, and talk into a log file, not on the screen."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
    handler = LogFile(log)
    for name in CHATTERERS:
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
