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
from urllib.parse import quote, urlsplit

from upath import UPath

from dfloc import database_uri, storage
from dfloc.errors import ConfigError, DflocError, WorkspaceError
from dfloc.logfile import LogFile
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

FORMS = "known: sqlite:////<path>/mlflow.db, http://<host>:<port>, https://<host>"
VARIABLE = "MLFLOW_TRACKING_URI"
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
SERVED = ("http", "https")
NOTE = "mlflow.json"
"""In a sweep's folder: the server that shows its runs; no such file where no server does."""
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
        served = parts.scheme in SERVED and bool(parts.hostname) and parts.port != 0 and "?" not in uri
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


def note(sweep: UPath, uri: str, experiment: str) -> None:
    """Note by which server the runs of a sweep are shown: links of its report go there.

    Args:
        sweep: its folder.
        uri: of the store, as `check` returns it.
        experiment: id of the MLflow experiment that holds the runs.
    """
    path = sweep / NOTE
    if urlsplit(uri).scheme not in SERVED:
        path.unlink(missing_ok=True)
        return
    new = storage.json_bytes({"address": uri, "experiment": experiment})
    if not path.exists() or path.read_bytes() != new:
        storage.put(path, new)


def search(sweep: UPath, tag: str, value: str) -> str:
    """Return the address of the page on which a server shows the runs of a tag; empty where none is noted.

    Whoever wrote the note, the address is one of http without name, password or query.
    """
    try:
        noted = storage.get_json(sweep / NOTE)
        parts, experiment = urlsplit(shown(str(noted["address"]))), str(noted["experiment"])
    except (OSError, ValueError, TypeError, KeyError, DflocError) as error:
        logger.debug("no server is known of %s: %s", sweep, error)
        return ""
    if parts.scheme not in SERVED or not parts.hostname or not experiment.isdecimal():
        return ""
    words = quote(f"tags.`{tag}` = '{value}'", safe="")
    return (
        f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/#/experiments/{experiment}/runs?searchFilter={words}"
    )


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
