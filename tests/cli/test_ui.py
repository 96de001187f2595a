import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from dfloc.cli import ui as module
from dfloc.cli.ui import ui
from dfloc.errors import DflocError

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
