"""What a store answers: not reachable, damaged, or refused; and the names that it takes."""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import combinations
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils import validation

from dfloc import database_uri, tracking, tracking_store
from dfloc.ledger import Ledger
from dfloc.mlflow_names import key, value
from dfloc.storage import Workspace
from dfloc.tracking_store import LostError, RefusedError, Store
from tests.ended import finish, planned_of, record_of, spec_of
from tests.tracked import BASE, P2, RECORD, SCORES, TUNED, runs_of, track, warnings_of

STRANGE = (
    *(
        "n+1",
        "n",
        "n:2b:1",
        "a/b",
        "a//b",
        "/a",
        "a/",
        "./a",
        "a/./b",
        "a/../b",
        "..",
        ".",
        "",
        " ",
        "a b",
        "a\nb",
        "a\n",
    ),
    *("é", "e\u0301", "\u4e2d", "a`b", "a'b", 'a"b', "a%b", "[a]", "a:b", "\udcff", "\0", "😀", "x" * 250, "x" * 251),
    *("x" * 252, "+" * 90, "+" * 91, "a=b", "a,b", "A", "a", "..a", "a..", "-", "_"),
)


def test_names_are_put_into_the_alphabet_and_never_meet() -> None:
    for name in STRANGE:
        validation._validate_metric_name(key(name))
        validation._validate_tag(key(name), "")
        assert len(key(name)) <= 250
    assert len({key(name) for name in STRANGE}) == len(STRANGE)
    for one, two in combinations((key(name) for name in STRANGE), 2):
        assert one != two
    usual = ("test/celebahq/repaint-p2-9k/iou", "dfloc.axis.held_out", "optimizer.lr", "dfloc.sweep.my data")
    assert [key(name) for name in usual] == [*usual]
    assert key("dfloc.axis.n+1") == "dfloc.axis.n:2b:1"


def test_values_are_cut_and_made_of_text() -> None:
    assert value("as it is é 😀\n") == "as it is é 😀\n"
    assert value("x" * 5001) == "x" * 4999 + "…"
    assert len(value("x" * 7000, 6000)) == 6000
    value("\udcff\0").encode()
    assert "\0" not in value("\0")


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path) -> Workspace:
    workspace = Workspace(tmp_path / "space")
    shutil.copy(empty_database, tmp_path / "space" / "mlflow.db")
    for trial in (BASE, TUNED):
        finish(Ledger(workspace), trial, SCORES)
    return workspace


@pytest.fixture
def run(workspace: Workspace) -> tuple[Store, str]:
    store = Store(workspace.tracking_uri).open(None, 5)
    made = store.make_experiment("dfloc", "mlflow-artifacts:/x")
    return store, store.make_run(made.experiment_id, "a run", {"n+1": "x" * 9000}).info.run_id


def test_what_is_refused_costs_itself_alone(run: tuple[Store, str], monkeypatch: pytest.MonkeyPatch) -> None:
    store, name = run
    store.log(name, [], {"p3": "as logged once"}, {})
    monkeypatch.setattr(tracking_store, "key", lambda name: name)
    with pytest.raises(RefusedError, match=r"refused 3 of 1,?560 values, such as (m\+7|t\+9|p3) \(") as told:
        store.log(
            name,
            [("m+7" if k == 7 else f"m{k}", float(k), k, 0) for k in range(1200)],
            {f"p{k}": "changed" if k == 3 else "x" * 6000 for k in range(180)},
            {"t+9" if k == 9 else f"t{k}": "x" * 5000 for k in range(180)},
        )
    assert "\n" not in str(told.value)
    data = store.run(name).data
    assert (len(data.metrics), len(data.params)) == (1199, 180)
    assert sum(tag.startswith("t") for tag in data.tags) == 179
    assert data.params["p3"] == "as logged once"
    assert data.metrics["m1199"] == 1199.0


def test_an_axis_of_any_name_is_tracked(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    axes = {"n+1": 3, "a//b": "é\0\udcff", "x" * 300: "y" * 9000, **{f"axis {k}": k for k in range(150)}}
    trial = planned_of(spec_of(P2, seed=5), "a/b+c", **axes)
    finish(Ledger(workspace), trial, SCORES)
    track(workspace, record_of(BASE, trial))
    assert warnings_of(caplog) == []
    tags = next(run.data.tags for run in runs_of(workspace).values() if "dfloc.axis.n:2b:1" in run.data.tags)
    assert tags["dfloc.axis.n:2b:1"] == "3"
    assert tags["dfloc.axis.axis 149"] == "149"
    assert "dfloc.stage.exposure-paper-dolos/a/b:2b:c" in tags
    assert sum(tag.startswith("dfloc.axis.") for tag in tags) == len(axes)


def test_a_refused_trial_does_not_cost_the_others(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = key
    monkeypatch.setattr(tracking_store, "key", lambda name: "a+b" if name == "dfloc.axis.n" else usual(name))
    track(workspace, RECORD, TUNED)
    (warning,) = warnings_of(caplog)
    assert f"trial {TUNED.fingerprint[:12]}: MLflow's database {workspace.root}/mlflow.db refused 1 of" in warning
    assert "such as a+b (" in warning
    runs = runs_of(workspace)
    assert {name: run.info.status for name, run in runs.items()} == {
        "exposure-paper-dolos": "FINISHED",
        "lama base seed=0": "FINISHED",
        "n=6 lama finetune seed=0": "FINISHED",
    }
    assert runs["n=6 lama finetune seed=0"].data.metrics["test/celebahq/lama/iou"] == pytest.approx(0.2)
    monkeypatch.setattr(tracking_store, "key", usual)
    track(workspace)
    assert runs_of(workspace)["n=6 lama finetune seed=0"].data.tags["dfloc.axis.n"] == "6", "the next one tries again"


def test_files_of_a_database_are_found_in_this_process(workspace: Workspace) -> None:
    """MLflow's table of schemes is private: this tells when it is another one."""
    track(workspace)
    name = runs_of(workspace)["lama base seed=0"].info.run_id
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    assert client.get_run(name).info.artifact_uri.startswith("mlflow-artifacts:/")
    assert len(client.list_artifacts(name, "rows/best")) == 4
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with pytest.raises(ValueError, match="lies outside of"):
        get_artifact_repository("mlflow-artifacts:/../else", tracking_uri=workspace.tracking_uri)
    assert "http://127.0.0.1:9/" in get_artifact_repository("mlflow-artifacts:/a", "http://127.0.0.1:9").artifact_uri
    with pytest.raises(MlflowException):
        get_artifact_repository("mlflow-artifacts:/a", tracking_uri="postgresql://x/y")


def unreadable(path: Path) -> None:
    path.write_bytes(b"no database" * 100)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE experiments (mine)")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [unreadable, truncated, newer, foreign, folder])
def test_a_damaged_database_is_named_with_what_to_do(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = Path(workspace.root.path) / "mlflow.db"
    spoil(path)
    track(workspace, RECORD, BASE)
    (warning,) = warnings_of(caplog)
    assert f"MLflow's database {path} " in warning
    assert warning.endswith("the next command writes it anew from the ledger") or "is no file" in warning
    assert "\n" not in warning
    path.rename(path.with_name("aside"))
    again = Workspace(path.parent.rename(path.parent.with_name("again")))  # one process opens a path once
    track(again)
    assert len(runs_of(again)) == 3
    assert len(warnings_of(caplog)) == 1
    assert [each.name for each in again.root.iterdir() if each.name.endswith(".part")] == []


def test_a_database_that_stays_locked(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "LAST_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(tracking_store, "LOOK_SECONDS", 0.2)
    with closing(sqlite3.connect(Path(workspace.root.path) / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        track(workspace)
        assert time.monotonic() - start < 10
    (warning,) = warnings_of(caplog)
    assert warning == (
        f"MLflow's database {workspace.root}/mlflow.db is locked by another process; end that one, and the next "
        "command fills it in"
    )


def test_a_database_that_is_made_is_there_whole_or_not_at_all(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Killed(MlflowClient):
        def search_experiments(self, **how: object) -> None:  # type: ignore[override]
            seen.append((tmp_path / "mlflow.db").exists())
            raise RuntimeError("killed while the tables were made")

    monkeypatch.setattr("mlflow.MlflowClient", Killed)
    with pytest.raises(LostError, match="killed while"):
        Store(database_uri.of_database(tmp_path / "mlflow.db")).open(None, 1)
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


@contextmanager
def serving(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """Answer each request by a function of its first line; None = never."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def work() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer.makefile("rb") as file:
                said = answer(file.readline())
            if said is None:
                held.append(peer)
                continue
            with suppress(OSError):
                peer.sendall(said)
            peer.close()

    threading.Thread(target=work, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for peer in held:
            peer.close()


def http(status: str, body: bytes, *heads: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *heads]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def after_health(said: bytes | None) -> Callable[[bytes], bytes | None]:
    return lambda line: http("200 OK", b"OK") if b"/health" in line else said


JSON = "Content-Type: application/json"
HTML = http("200 OK", b"<html><body>Welcome</body></html>", "Content-Type: text/html")
LOST = "does not answer"
ANSWERS = {
    "silent": (lambda line: None, LOST),
    "silent after health": (after_health(None), LOST),
    "drops": (lambda line: b"", LOST),
    "drops after health": (after_health(b""), LOST),
    "cut": (after_health(http("200 OK", b"{" * 90)[:-50]), LOST),
    "no http": (lambda line: b"220 smtp ready\r\n", LOST),
    "html": (lambda line: HTML, "refused"),
    "json of another": (
        after_health(http("200 OK", b'{"experiment": 5}', JSON)),
        "refused",
    ),
    "a list": (after_health(http("200 OK", b"[1]", JSON)), "refused"),
    "empty": (after_health(http("200 OK", b"")), "refused"),
    "401": (after_health(http("401 Unauthorized", b"You are not authenticated")), "MLFLOW_TRACKING_USERNAME"),
    "403": (after_health(http("403 Forbidden", b'{"error_code": "PERMISSION_DENIED"}')), "MLFLOW_TRACKING_USERNAME"),
    "404": (lambda line: http("404 Not Found", b"nothing here"), "refused"),
    "400": (after_health(http("400 Bad Request", b'{"error_code": "INVALID_PARAMETER_VALUE"}')), "refused"),
    "500": (lambda line: http("500 Internal Server Error", b"oh\nno"), "refused"),
    "503": (lambda line: http("503 Service Unavailable", b""), "refused"),
    "moved": (lambda line: http("302 Found", b"", "Location: http://127.0.0.1:9/health"), "127.0.0.1:9"),
    "moved with a password": (lambda line: http("302 Found", b"", "Location: http://me:pw@h/health"), "to http://h;"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_server_of_any_kind_is_one_line_in_bounded_time(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(tracking, "LAST_ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer, told = ANSWERS[case]
    with serving(answer) as uri:
        start = time.monotonic()
        track(workspace, RECORD, BASE, TUNED, uri=uri)
        assert time.monotonic() - start < 10
    (warning,) = warnings_of(caplog)
    assert told in warning
    assert f"MLflow at {uri}" in warning
    assert "\n" not in warning


def test_a_server_whose_answer_never_ends(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "STUCK_SECONDS", 2)
    over = threading.Event()

    def trickle(uri: str, seconds: float) -> None:
        over.wait(60)

    monkeypatch.setattr(tracking_store.tracking_uri, "probe", trickle)
    start = time.monotonic()
    track(workspace, uri="http://127.0.0.1:9")
    assert time.monotonic() - start < 10
    over.set()
    (warning,) = warnings_of(caplog)
    assert "does not end its answer" in warning


def test_every_error_of_a_library_is_one_of_ours(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LibraryError(Exception):
        pass

    def broken(*_: object, **__: object) -> None:
        raise LibraryError("first line\nsecond line")

    monkeypatch.setattr(MlflowClient, "search_runs", broken)
    track(workspace)
    (warning,) = warnings_of(caplog)
    assert "refused to list its runs (first line)" in warning
