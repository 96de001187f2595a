"""Where MLflow keeps its runs: which addresses are understood, how a path becomes one, and whether one answers."""

import http.client
import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from dfloc import database_uri
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.logfile import LogFile
from dfloc.storage import Workspace

FORMS = "known: sqlite:////<path>/mlflow.db, http://<host>:<port>, https://<host>"
VARIABLE = "MLFLOW_TRACKING_URI"
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
REQUEST_SECONDS = 10
CHATTERERS = ("mlflow", "alembic", "sqlalchemy.engine", "huey")


def inherited(uri: str | None) -> str | None:
    """Return the address that stands in the environment, where no other is given."""
    return os.environ.get(VARIABLE) or None if uri is None else None


def shown(uri: str) -> str:
    """Return an address for the screen: without name, password and query; in a path an @ is a sign like any other."""
    if database_uri.database(uri) or uri.startswith((".", "/", "~", "file:///")):
        return uri
    head = match[0] if (match := re.match(r"[\w+.-]+:/+", uri)) else ""
    return head + uri.removeprefix(head).rpartition("@")[2].partition("?")[0]


def check(workspace: Workspace, uri: str | None) -> str:
    """Return the address of the store: the given one, else that of the environment, else sqlite in the workspace.

    Raises:
        ConfigError: it cannot be understood, or the workspace cannot hold a database.
    """
    from_outside = inherited(uri)
    if uri is None and from_outside is None:
        try:
            return workspace.tracking_uri
        except WorkspaceError as error:
            raise ConfigError(
                f"{workspace.root} cannot hold a database; name a store by --tracking; {FORMS}"
            ) from error
    name, uri = (f"{VARIABLE}=", from_outside) if from_outside else ("tracking URI ", uri or "")
    bare = shown(uri)
    try:
        parts = urlsplit(bare)
        served = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "?" not in uri
    except ValueError as error:
        raise ConfigError(f'{name}"{bare}" cannot be understood: {error}; {FORMS}') from error
    if served and bare != uri:
        raise ConfigError(f"{name}of {parts.hostname} has a name or password in it, which would be shown; {LOGIN}")
    if served:
        return uri.rstrip("/")
    path = None if set(uri) & set("?#") or uri.endswith("/") else database_uri.database(uri)
    if path and path.name and uri.isprintable():
        return database_uri.of_database(path)
    if parts.scheme == "file" or uri.startswith((".", "/", "~")):
        raise ConfigError(f'{name}"{bare}" is a folder, in which MLflow 3 keeps no runs; {FORMS}')
    raise ConfigError(f'{name}"{bare}" cannot be understood; {FORMS}')


def probe(uri: str, seconds: float) -> None:
    """Return if the store answers; MLflow itself would try again for minutes.

    Raises:
        OSError: it does not, within so many seconds (of each step), or the file is no database.
    """
    path = database_uri.database(uri)
    if path is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=seconds):
                return
        except urllib.error.HTTPError:
            return  # a refusal is an answer
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"it does not speak HTTP: {error!r}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=seconds)) as opened:
            opened.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise OSError(f"{error}: {path}") from error


def quiet(log: Path | None) -> None:
    """Have MLflow, not imported yet, give up early, report to nobody, and talk into a log file, not on the screen."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
    handler: logging.Handler = LogFile(log) if log else logging.NullHandler()
    for name in CHATTERERS:
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
