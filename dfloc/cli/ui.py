"""`dfloc ui`: the MLflow UI on the workspace's runs."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import click

from dfloc import database_uri, tracking_uri
from dfloc.cli.options import debug_option, experiment_option, workspace_option
from dfloc.errors import ConfigError, DflocError

START_SECONDS = 120
STOP_SECONDS = 5
NEXT_PORTS = 50


@click.command()
@workspace_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Replaced if it is busy.")
@experiment_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@debug_option
def ui(workspace: str, port: int, experiment: str, host: str, debug: bool) -> None:
    """Open the MLflow UI on the workspace: every trial of every sweep that ran there. Ctrl-C ends it.

    \b
    dfloc ui --workspace DIR --port 5001
    """
    database = _database(workspace)
    free = _free_port(host, port)
    if free != port:
        click.echo(f"port {port} is busy, using {free}")
    try:
        with _server(database, host, free) as server:
            click.echo(f"MLflow UI: {_wait(server, host, free, database, experiment)}   (Ctrl-C ends it)")
            code = server.wait()
            raise DflocError(f"the MLflow server ended by itself (exit code {code}); see {_log(database)}")
    except KeyboardInterrupt:
        click.echo("MLflow UI closed")


def _database(workspace: str) -> Path:
    """Return the workspace's database; a workspace that is not there is not made."""
    path = Path(workspace).absolute()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"workspace {path} is a file, not a folder; name another by --workspace")
    if not (path / "mlflow.db").exists():
        raise ConfigError(
            f"workspace {path} has no MLflow runs; `dfloc sweep exposure --workspace {workspace}` makes them "
            f"({_elsewhere()})"
        )
    return path / "mlflow.db"


def _elsewhere() -> str:
    inherited = os.environ.get(tracking_uri.VARIABLE)
    where = f"{tracking_uri.VARIABLE}={tracking_uri.shown(inherited)}" if inherited else "a server by --tracking"
    return f"runs that went to {where} are there"


def _log(database: Path) -> Path:
    return database.parent / "logs" / "mlflow-ui.log"


def _free_port(host: str, port: int) -> int:
    """Return the port, or the next one that nobody listens on.

    Raises:
        ConfigError: this machine has no such address, or none of the next ports is free.
    """
    for candidate in range(port, min(port + NEXT_PORTS, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except PermissionError as error:
                raise ConfigError(
                    f"port {candidate} is not allowed ({error}); name one above 1023 by --port"
                ) from error
            except socket.gaierror as error:
                raise ConfigError(f'host "{host}" cannot be understood ({error}); use 127.0.0.1') from error
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"cannot listen on {host}: {error}; use 127.0.0.1") from error
                continue
            return candidate
    raise ConfigError(f"no free port from {port} on; name another by --port")


@contextmanager
def _server(database: Path, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the server as a process group of its own, and end the whole group."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database_uri.of_database(database)]
    command += ["--artifacts-destination", (database.parent / "mlartifacts").as_uri()]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    _log(database).parent.mkdir(exist_ok=True)
    with _log(database).open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | quiet,
            cwd=database.parent,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    try:
        server.terminate()
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(server: subprocess.Popen[bytes], host: str, port: int, database: Path, experiment: str) -> str:
    """Return the address of the table of trials, once the server answers."""
    base = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    get = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    until, asked = time.monotonic() + START_SECONDS, urlencode({"experiment_name": experiment})
    while time.monotonic() < until and server.poll() is None:
        try:
            with get(f"{base}/api/2.0/mlflow/experiments/get-by-name?{asked}", timeout=5) as answer:
                number = json.load(answer)["experiment"]["experiment_id"]
                return f"{base}/#/experiments/{number}/runs?workflowType=machine_learning"
        except urllib.error.HTTPError:
            return base
        except OSError:
            time.sleep(0.2)
    last = _log(database).read_text(errors="replace").strip().rpartition("\n")[2]
    raise DflocError(f"the MLflow server does not start ({last}); see {_log(database)}")
