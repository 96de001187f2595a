"""MLflow's client behind one door: names are put into its alphabet, and whatever it raises is one sentence."""

import logging
import os
import re
import sqlite3
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dfloc import database_uri, tracking_uri
from dfloc.mlflow_names import MAX_KEY, MAX_PARAM, key, value

T = TypeVar("T")

MAX_METRICS = 800  # of one request, which takes 1000 metrics, params and tags together, of a million bytes
MAX_WORDS = 50  # params, and tags, of one request
MAX_CAUSE = 300
LOOK_SECONDS = 3
FILES = "mlartifacts"
RELATIVE = "mlflow-artifacts:"
OUR_WAY = "move it away, and the next command writes it anew from the ledger"


class StoreError(Exception):
    """What a store did not do, in one sentence."""


class LostError(StoreError):
    """Nothing more can be written to it for now: it does not answer, or its file is damaged."""


class RefusedError(StoreError):
    """It is there, and did not take something.

    Attributes:
        cause: in its own words.
        status: of HTTP: 400 = what was sent is wrong; 0 = not known.
    """

    def __init__(self, store: str, what: str, cause: str, status: int = 0):
        cure = (
            f"; {tracking_uri.LOGIN}"
            if status in (401, 403)
            else "; the next command tries again"
            if status >= 500
            else ""
        )
        super().__init__(f"{store} refused {what} ({cause}){cure}")
        self.cause = cause
        self.status = status


class Store:
    """Where MLflow keeps its runs.

    Args:
        uri: a database file's or a server's address, as `tracking_uri.check` returns it; it is opened by `open`.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.database = database_uri.database(uri)
        self.name = f"MLflow's database {self.database}" if self.database else f"MLflow at {uri}"
        self._since: float | None = None
        self._client: Any = None

    def open(self, log: Path | None, seconds: float) -> "Store":
        """Make the store ready, and return it.

        Args:
            log: where MLflow talks; None = nowhere.
            seconds: how long it is waited for.

        Raises:
            LostError: it does not answer, is locked or damaged.
        """
        self._client = self._ask("to be opened", self._open, log, seconds)
        return self

    @property
    def busy_seconds(self) -> float:
        """How long the request in progress has taken; 0 where there is none."""
        since = self._since
        return time.monotonic() - since if since else 0.0

    def experiment(self, name: str) -> Any:
        """Return an experiment; None where there is none."""
        return self._ask("to look for its experiment", self._client.get_experiment_by_name, name)

    def make_experiment(self, name: str, location: str | None) -> Any:
        """Create an experiment and return it."""
        what = f'experiment "{name}"'
        made = self._ask(what, self._client.create_experiment, name, artifact_location=location)
        return self._ask(what, self._client.get_experiment, made)

    def change_experiment(self, change: str, *args: str) -> None:
        """Rename, restore or tag an experiment, by the name of the client's method."""
        self._ask("to change its experiment", getattr(self._client, change), *args)

    def runs(self, experiment: str) -> Iterator[Any]:
        """Yield every run of an experiment."""
        token = None
        while True:
            page = self._ask("to list its runs", self._client.search_runs, [experiment], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def run(self, run_id: str) -> Any:
        """Return a run."""
        return self._ask(f"run {run_id}", self._client.get_run, run_id)

    def make_run(
        self, experiment: str, title: str, tags: Mapping[str, str], start: int | None = None, before: Any = None
    ) -> Any:
        """Create a run and return it; with `before` that one's tags too."""
        words = dict(before.data.tags if before else {}) | {key(name): value(text) for name, text in tags.items()}
        made = self._ask("a run", self._client.create_run, experiment, start, words, value(title, MAX_KEY))
        if not made.info.run_id:
            raise RefusedError(self.name, "a run", "its answer names none; is it an MLflow server?")
        return made

    def delete(self, run_id: str) -> None:
        """Take a run away; MLflow keeps it among its deleted ones."""
        self._ask("to delete a run", self._client.delete_run, run_id)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        for name, text in tags.items():
            self._ask(f"tag {name}", self._client.set_tag, run_id, key(name), value(text))

    def untag(self, run_id: str, names: Iterable[str]) -> None:
        """Take tags away, which are named as the run has them."""
        for name in names:
            self._ask(f"to take tag {name} away", self._client.delete_tag, run_id, name)

    def end(self, run_id: str, status: str, milliseconds: int | None = None) -> None:
        """Say how a run ended, or that it runs again."""
        if status == "RUNNING":
            self._ask("to open a run again", self._client.update_run, run_id, status=status)
        else:
            self._ask("to end a run", self._client.set_terminated, run_id, status, milliseconds)

    def log(
        self,
        run_id: str,
        metrics: Sequence[tuple[str, float, int, int]],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Log what a run lacks, in as many requests as it takes; what is refused costs itself alone.

        Args:
            run_id: the run.
            metrics: name, value, milliseconds since 1970 and step of each point.
            params: by name.
            tags: by name.

        Raises:
            RefusedError: of something; all else is logged.
        """
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(key(name), *point) for name, *point in metrics]
        fields = [Param(key(name), value(text, MAX_PARAM)) for name, text in params.items()]
        words = [RunTag(key(name), value(text)) for name, text in tags.items()]
        parts = (_chunks(points, MAX_METRICS), _chunks(fields, MAX_WORDS), _chunks(words, MAX_WORDS))
        refused: list[tuple[str, RefusedError]] = []
        for batch in zip_longest(*parts, fillvalue=()):
            self._log(run_id, [item for part in batch for item in part], refused)
        if refused:
            (name, first), total = refused[0], len(points) + len(fields) + len(words)
            what = f"{len(refused)} of {total} values, such as {name}"
            raise RefusedError(self.name, what, first.cause, first.status) from first

    def _log(self, run_id: str, items: Sequence[Any], refused: list[tuple[str, RefusedError]]) -> None:
        """Log a batch; one that is refused is halved until what is wrong stands alone."""
        kinds: dict[str, list[Any]] = {"metrics": [], "params": [], "tags": []}
        for item in items:
            kinds[{"Metric": "metrics", "Param": "params", "RunTag": "tags"}[type(item).__name__]].append(item)
        try:
            self._ask(f"{len(items)} values", self._client.log_batch, run_id, **kinds)
        except RefusedError as error:
            if len(items) == 1 or error.status not in (0, 400):
                refused += [(item.key, error) for item in items]
                return
            middle = len(items) // 2
            self._log(run_id, items[:middle], refused)
            self._log(run_id, items[middle:], refused)

    def upload(self, run_id: str, folder: Path, name: str) -> None:
        """Upload what is in a folder.

        Raises:
            RefusedError: its files cannot be written from here, while it answers.
        """
        try:
            self._ask("files", self._client.log_artifacts, run_id, str(folder), name)
        except LostError as error:
            self._ask("to be looked at", tracking_uri.probe, self.uri, LOOK_SECONDS)
            raise RefusedError(self.name, "files", _cause(error.__cause__ or error)) from error

    def _open(self, log: Path | None, seconds: float) -> Any:
        tracking_uri.quiet(log)
        if self.database:
            str(self.database).encode()  # a name that is no text is opened as another one
            self._make(self.database)
        tracking_uri.probe(self.uri, seconds)
        from mlflow import MlflowClient

        _keep_files_beside_databases()
        client = MlflowClient(tracking_uri=self.uri)
        if self.database:
            client.search_experiments(max_results=1)
        return client

    def _make(self, database: Path) -> None:
        """Make the tables where there are none: aside, which takes seconds, then in one step."""
        if database.exists() and (not database.is_file() or database.stat().st_size):
            return
        from mlflow import MlflowClient

        database.parent.mkdir(parents=True, exist_ok=True)
        scratch = database.with_name(f".{database.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            MlflowClient(tracking_uri=database_uri.of_database(scratch)).search_experiments(max_results=1)
            scratch.replace(database)
        finally:
            scratch.unlink(missing_ok=True)

    def _ask(self, what: str, call: Callable[..., T], *args: Any, **named: Any) -> T:
        self._since = time.monotonic()
        try:
            return call(*args, **named)
        except Exception as error:
            raise self._explained(what, error) from error
        finally:
            self._since = None

    def _explained(self, what: str, error: Exception) -> StoreError:
        """Return what was wrong, by a look at the store: not by the kinds of errors that its libraries have."""
        cause, status = _cause(error), _status(error)
        if self.database:
            if (self._client or self.database.exists()) and (wrong := _wrong_with(self.database)):
                return LostError(wrong)
            if not self._client:
                return LostError(f"{self.name} cannot be used ({cause}); {OUR_WAY}")
        elif "timed out" not in cause and (elsewhere := _redirected(self.uri)):
            return LostError(f"{self.name} redirects to {elsewhere}; name that address by --tracking")
        elif not status and _is_of_the_wire(error):
            return LostError(f"{self.name} does not answer ({cause}); the next command fills it in")
        return RefusedError(self.name, what, cause, status)


def _keep_files_beside_databases() -> None:
    """Have this process find `mlflow-artifacts:` in the folder beside a database, from where `dfloc ui` serves them."""
    from mlflow.store.artifact import artifact_repository_registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    def repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        database = database_uri.database(tracking_uri or "")
        if database is None:
            return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
        inside = Path(unquote(urlsplit(artifact_uri).path).lstrip("/"))
        if ".." in inside.parts:
            raise ValueError(f"{artifact_uri} lies outside of {files_of(database)}")
        place = files_of(database) / inside
        return LocalArtifactRepository(place.as_uri(), tracking_uri, registry_uri)

    artifact_repository_registry._artifact_repository_registry.register(RELATIVE.rstrip(":"), repository)


def files_of(database: Path) -> Path:
    """Return the folder of the files of a database's runs."""
    return database.absolute().with_name(FILES)


def _wrong_with(database: Path) -> str:
    """Return what is wrong with a database, and what to do; nothing where it can be read and written."""
    name = f"MLflow's database {database}"
    try:
        if not database.is_file():
            return f"{name} is {'no file' if database.exists() else 'gone'}; the next command writes it anew"
        with closing(sqlite3.connect(database, timeout=LOOK_SECONDS)) as opened:
            opened.execute("BEGIN IMMEDIATE")
            [state] = opened.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.Error, OSError) as error:
        if "locked" in str(error):
            return f"{name} is locked by another process; end that one, and the next command fills it in"
        if not os.access(database, os.W_OK) or not os.access(database.parent, os.W_OK):
            return f"{name} cannot be written ({error}); make it writable, and the next command fills it in"
        state = str(error)
    return "" if state == "ok" else f"{name} is damaged ({state}); {OUR_WAY}"


def _redirected(uri: str) -> str:
    """Return where a server sends one to; nothing where it does not, or does not answer."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any) -> None:
            return None

    try:
        with urllib.request.build_opener(Stay).open(f"{uri}/health", timeout=LOOK_SECONDS):
            return ""
    except urllib.error.HTTPError as answer:
        place = str(answer.headers.get("Location") or "") if answer.code // 100 == 3 else ""
        return tracking_uri.shown(place.removesuffix("/health"))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is no redirection)
        logging.getLogger(__name__).debug("no redirection: %s", error)
        return ""


def _is_of_the_wire(error: BaseException | None) -> bool:
    """Return whether no answer came: a system's error lies behind whatever the library made of it."""
    while error:
        if isinstance(error, OSError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(error: Exception) -> int:
    """Return the status of HTTP that an error tells; 0 = none."""
    if many := re.search(r"too many (\d{3}) error responses", str(error)):
        return int(many.group(1))
    status = getattr(error, "get_http_status_code", lambda: 0)()
    behind = _is_of_the_wire(error)  # what did not come is told as an error of the server's
    return status if isinstance(status, int) and not behind else 0


def _cause(error: BaseException) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[0][:MAX_CAUSE]


def _chunks(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (items[start : start + most] for start in range(0, len(items), most))
