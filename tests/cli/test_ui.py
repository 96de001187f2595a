import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from dfloc.cli import ui as module
from dfloc.cli.ui import ui
from dfloc.errors import DflocError
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from dfloc.tracking import trial_of
from tests.ended import finish, record_of
from tests.tracked import BASE, SCORES, TUNED, runs_of, track

COMMAND = [sys.executable, "-c", "from dfloc.cli import main; main()", "ui"]


def refused(*words: object) -> str:
    result = CliRunner().invoke(ui, [str(word) for word in words])
    assert isinstance(result.exception, DflocError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a workspace")
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    client.create_run(client.create_experiment("dfloc"), run_name="n=16 lama finetune")
    return root


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_an_empty_workspace_says_what_fills_it(tmp_path: Path) -> None:
    told = refused("--workspace", tmp_path / "none")
    assert f"dfloc sweep exposure --workspace {tmp_path / 'none'}" in told
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("--workspace", tmp_path / "file")


def test_an_empty_workspace_names_a_store_elsewhere_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:secret@db/mlflow")
    told = refused("--workspace", tmp_path / "none")
    assert "MLFLOW_TRACKING_URI=postgresql://db/mlflow are there" in told


def test_a_host_that_is_not_here(workspace: Path) -> None:
    assert "cannot listen on 192.0.2.1" in refused("--workspace", workspace, "--host", "192.0.2.1")
    assert 'host "no.such.host.invalid"' in refused("--workspace", workspace, "--host", "no.such.host.invalid")


def test_no_port_is_left(workspace: Path, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEXT_PORTS", 1)
    assert f"no free port from {busy} on" in refused("--workspace", workspace, "--port", busy)


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    told = refused("--workspace", tmp_path)
    assert str(tmp_path / "logs" / "mlflow-ui.log") in told


def test_files_of_a_moved_workspace_are_served_whatever_its_path(tmp_path: Path, empty_database: Path) -> None:
    first, away = tmp_path / "first", tmp_path / "a%41?b#c;d 'e\" \u4e2d&f=g:h [i]"
    first.mkdir()
    shutil.copy(empty_database, first / "mlflow.db")
    for trial in (BASE, TUNED):
        finish(Ledger(Workspace(first)), trial, SCORES)
    track(Workspace(first), record_of(BASE))
    first.rename(away)
    track(Workspace(away))
    command = [*COMMAND, "--workspace", str(away), "--port", "5600"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        base = re.findall(r"(http://127\.0\.0\.1:\d+)/#/experiments/\d+/runs", said := server.stdout.readline())
        assert base, said
        for name in ("lama base seed=0", "n=6 lama finetune seed=0"):
            run = runs_of(Workspace(away))[name].info.run_id
            query = urllib.parse.urlencode({"run_id": run, "path": "rows/best/celebahq-ldm.parquet"})
            with urllib.request.urlopen(f"{base[0]}/get-artifact?{query}") as answer:
                assert pq.read_table(io.BytesIO(answer.read())).num_rows == 2
        assert trial_of(Workspace(away), run) == TUNED.fingerprint
        assert trial_of(Workspace(away), run, base[0]) == TUNED.fingerprint
    finally:
        server.terminate()
        server.wait(60)
    assert [path.name for path in tmp_path.iterdir()] == [away.name]
    assert {path.name for path in away.iterdir()} >= {"mlflow.db", "mlartifacts", "workspace.json", "logs", "trials"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_opens_on_a_free_port_and_leaves_nothing_behind(workspace: Path, busy: int, number: signal.Signals) -> None:
    words = ["--workspace", str(workspace), "--port", str(busy)]
    server = subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's job in the background ignores it
    )
    try:
        assert server.stdout is not None
        first, second = server.stdout.readline(), server.stdout.readline()
        assert f"port {busy} is busy" in first
        base, experiment = re.findall(r"(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs", second)[0]
        assert base != f"http://127.0.0.1:{busy}"
        client = MlflowClient(tracking_uri=base)
        assert [run.info.run_name for run in client.search_runs([experiment])] == ["n=16 lama finetune"]
        with urllib.request.urlopen(base) as page:
            assert "<title>MLflow</title>" in page.read().decode()
        children = psutil.Process(server.pid).children(recursive=True)
        assert children
        server.send_signal(number)
        rest, _ = server.communicate(timeout=120)
        assert rest.strip() == "MLflow UI closed"
        assert server.returncode == 0
        assert psutil.wait_procs(children, timeout=10)[1] == []
    finally:
        if server.poll() is None:
            server.kill()


def test_a_server_that_ends_by_itself_is_told(workspace: Path, busy: int) -> None:
    words = ["--workspace", str(workspace), "--port", str(busy)]
    server = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    assert "busy" in server.stdout.readline()
    assert "MLflow UI" in server.stdout.readline()
    (mlflow,) = psutil.Process(server.pid).children()
    os.kill(mlflow.pid, signal.SIGKILL)
    rest, _ = server.communicate(timeout=120)
    assert rest.startswith("Error: the MLflow server ended by itself (exit code -9)")
    assert "Traceback" not in rest
    assert server.returncode == 2
