"""Kills, Ctrl-C, lost databases and servers that are down: nothing is lost, and nothing is done twice."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dfloc.errors import WorkspaceError
from dfloc.features.store import TRUTH
from dfloc.sweep import run
from tests.command import Result, Started, Study, runs, wait

pytestmark = pytest.mark.ray

DROPPING = Path(__file__).parents[1] / "cases" / "dropping_server.py"
EPOCHS = 8
LONG = (f"stages.finetune.trial.epochs={EPOCHS}", "stages.finetune.trial.epoch_steps=15")
ARGS = ["--only", "finetune", *(part for setting in LONG for part in ("--set", setting))]


class Killed(NamedTuple):
    """A sweep after kill -9 of its driver, inside the third epoch of a fine-tuning or later."""

    study: Study
    finished: dict[str, dict[str, str]]
    left_after_10_s: list[str]


@pytest.fixture(scope="module")
def prepared(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A workspace with features and without trials."""
    study = finished.copy(tmp_path_factory.mktemp("prepared") / "workspace", tracked=False)
    for name in ("trials", "sweeps"):
        shutil.rmtree(study.root / name)
    return study


@pytest.fixture(scope="module")
def whole(prepared: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The numbers of a run that nothing interrupted, one trial at a time."""
    study = copy_of(prepared, tmp_path_factory.mktemp("whole"))
    assert study.command(*ARGS, "--max-concurrent", "1").code == 0
    records = [record for name in study.numbers() for record in study.ledger.epochs(name)]
    for earlier, later in pairwise(sorted(records, key=lambda record: record.time)):
        assert later.time - later.seconds > earlier.time - 1e-3, "two trials ran at once"
    return study.numbers()


@pytest.fixture(scope="module")
def killed(prepared: Study, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    study = copy_of(prepared, tmp_path_factory.mktemp("killed"))
    started = study.start(*ARGS, "--max-concurrent", "2")
    started.until(lambda: study.epochs_of(EPOCHS) >= 2)
    assert len(started.alive()) > 3
    started.process.kill()
    started.process.wait()
    try:
        wait(lambda: not started.alive(), 10)
    except AssertionError:
        return Killed(study, study.finished(), started.alive())
    return Killed(study, study.finished(), [])


def copy_of(study: Study, folder: Path) -> Study:
    return study.copy(folder / "workspace", tracked=False)


def epochs(study: Study) -> int:
    """Return how many epochs there are on record, of all trials."""
    return sum(study.epochs_of_trial(path.name) for path in study.root.glob("trials/*"))


def store(study: Study) -> str:
    return f"sqlite:///{study.root}/mlflow.db"


def assert_whole(study: Study, killed: Killed, result: Result, whole: dict[str, dict[str, Any]], uri: str) -> None:
    """Everything is there once, with the numbers of an uninterrupted run."""
    assert result.code == 0, result
    assert study.numbers() == whole
    after = study.finished()
    assert {name: after[name] for name in killed.finished} == killed.finished
    assert after.keys() == whole.keys()
    assert runs(uri) == sorted([(name, "FINISHED") for name in (*whole, "sweep")])


@pytest.mark.slow
def test_no_process_outlives_a_killed_driver(killed: Killed) -> None:
    assert killed.left_after_10_s == []


@pytest.mark.faults
def test_after_a_kill_with_the_database_deleted(killed: Killed, whole: dict[str, Any], tmp_path: Path) -> None:
    study = killed.study.copy(tmp_path / "workspace", tracked=False)
    result = study.command(*ARGS)
    assert_whole(study, killed, result, whole, store(study))


@pytest.mark.slow
def test_after_a_kill_with_a_server_that_is_down_and_then_up(
    killed: Killed, whole: dict[str, Any], tmp_path: Path
) -> None:
    study = killed.study.copy(tmp_path / "workspace", tracked=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    result = study.command(*ARGS, "--tracking", uri)
    assert result.code == 0
    assert study.numbers() == whole
    (warning,) = result.err.splitlines()
    assert warning.startswith(f"MLflow at {uri} does not answer")
    assert not (study.root / "mlflow.db").exists()
    with mlflow_server(port, tmp_path):
        again = study.command(*ARGS, "--tracking", uri, no_ray=tmp_path)
        assert "0 to run" in again.out
        assert again.err == ""
        assert_whole(study, killed, again, whole, uri)


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on(killed: Killed, whole: dict[str, Any]) -> None:
    study = killed.study
    before = {name: study.epochs_of_trial(name) for name in whole if name not in killed.finished}
    names = {trial.fingerprint: trial.name for trial in study.record().trials}
    result = study.command(*ARGS, "--max-concurrent", "2")
    assert_whole(study, killed, result, whole, store(study))
    assert f"{len(whole) - len(killed.finished)} to run" in result.out
    assert max(before.values()) >= 2
    for name, epochs in before.items():
        line = f"{names[name]} goes on from epoch {epochs} of {EPOCHS}"
        assert (line in result.out) is (epochs > 0), result.out
    (warning,) = result.err.splitlines()
    assert warning.startswith("took over from a driver that is gone")
    assert not list(study.root.glob("sweeps/*/tune"))


@pytest.mark.slow
def test_a_second_driver_is_refused_and_ctrl_c_once_ends_the_epochs(
    prepared: Study, whole: dict[str, Any], tmp_path: Path
) -> None:
    study = copy_of(prepared, tmp_path)
    started = study.start(*ARGS)
    started.until(lambda: study.epochs_of(EPOCHS) >= 1)
    refused = study.command(*ARGS)
    assert refused.code == 2
    assert f"pid {started.driver.pid}, started" in refused.err
    assert refused.err.startswith(f"Error: another driver owns {study.root}")
    assert "--wait" in refused.err
    interrupt(started)
    result = started.result()
    assert result.code == 130
    assert "stopping after the epochs in flight; Ctrl-C again ends at once" in result.out
    assert f"Go on with: dfloc sweep exposure {' '.join(study.args)}" in result.out
    assert started.alive() == []
    assert "RUNNING" not in {status for _, status in runs(store(study))}
    assert max(study.epochs_of_trial(name) for name in whole) > 0


@pytest.fixture(scope="module")
def ended(prepared: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that is ended in every way, one after the other, a few epochs further each time."""
    return copy_of(prepared, tmp_path_factory.mktemp("ended"))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "whom", "code", "line"),
    [
        ("KILL", "driver", 137, r"killed by signal 9, when it and its workers held \d+\.\d of \d+\.\d GiB"),
        ("KILL", "gcs_server", 75, "Ray's gcs_server is gone, and the driver with it"),
        ("KILL", "raylet", 75, "Ray's raylet( or gcs_server)? is gone, and the driver with it"),
        ("TERM", "all", 143, "ended by TERM"),
        ("HUP", "all", 129, "ended by HUP"),
        ("TERM", "driver", 143, "ended by TERM"),
    ],
)
def test_whoever_is_ended_it_is_one_line_soon(name: str, whom: str, code: int, line: str, ended: Study) -> None:
    before = epochs(ended)
    started = ended.start(*ARGS, "--max-concurrent", "2")
    started.until(lambda: epochs(ended) > before and ended.epochs_of(EPOCHS) > 0)
    pids = {"driver": [started.driver.pid], "all": started.pids()}
    for pid in pids.get(whom) or started.pids(whom):
        with suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, f"SIG{name}"))
    at = time.monotonic()
    result = started.result()
    assert time.monotonic() - at < 12
    assert result.code == code
    *took_over, said = [text for text in result.err.splitlines() if text.strip()]
    assert len(took_over) <= (before > 0), "but for a line on the driver that is gone"
    assert all(text.startswith("took over from a driver that is gone") for text in took_over)
    left = r"everything finished is saved; \d+ to run(; log: \S+/logs/ray\.log)?\. Go on with: dfloc sweep exposure "
    assert re.match(f"{line}.*; {left}", said)
    assert "Raylet is terminated" not in result.out
    wait(lambda: not started.alive(), 15)


@pytest.mark.faults
def test_after_all_of_them_ctrl_c_twice_ends_at_once_and_who_waits_goes_on(ended: Study, whole: dict[str, Any]) -> None:
    study, before = ended, epochs(ended)
    started = study.start(*ARGS)
    started.until(lambda: epochs(study) > before and study.epochs_of(EPOCHS) > 0)
    waiting = study.start(*ARGS, "--wait")
    waiting.until(lambda: f"waiting for the driver on host {socket.gethostname()}" in waiting.said())
    interrupt(started)
    wait(lambda: "stopping" in started.said(), 30)
    interrupt(started)
    result = started.result()
    assert result.code == 130
    assert "Go on with: dfloc sweep" in result.err
    assert "Traceback" not in result.err
    wait(lambda: not started.alive(), 10)
    last = waiting.result()
    assert (last.code, last.err) == (0, "")
    assert study.numbers() == whole
    assert runs(store(study)) == sorted([(name, "FINISHED") for name in (*whole, "sweep")])
    assert waiting.alive() == []


@pytest.mark.faults
def test_a_reader_that_ends_and_a_server_that_drops_connections_lose_nothing(
    prepared: Study, whole: dict[str, Any], tmp_path: Path
) -> None:
    study = copy_of(prepared, tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(DROPPING), str(port)])
    try:
        wait(lambda: answers(port), 30)
        started = study.start(*ARGS, "--tracking", f"http://127.0.0.1:{port}", unread=True)
        result = started.result()
    finally:
        server.kill()
        server.wait()
    assert result.code == 0
    assert study.numbers() == whole
    assert "Traceback" not in result.err
    again = study.command(*ARGS)
    assert again.code == 0
    assert runs(store(study)) == sorted([(name, "FINISHED") for name in (*whole, "sweep")])


def test_when_every_trial_fails_the_first_cause_is_told(prepared: Study, ray_local: None, tmp_path: Path) -> None:
    study = copy_of(prepared, tmp_path)
    wild = ("trial.optimizer.lr=1e30", "trial.epoch_steps=4")
    result = study.sweep(*wild, only=("finetune",))
    bases = study.planned("base")
    assert result.code == 1
    for base in bases:
        failure = study.ledger.failure(base.fingerprint)
        assert failure is not None
        assert "no finite number at step" in failure.message
        assert f"failed: {base.name}: {failure.message}" in result.out
    for child in study.planned("finetune"):
        assert f"not started: {child.name}: its parent" in result.out
        assert not study.ledger.folder(child.fingerprint).exists()
    assert "2 trials failed" in result.out
    again = study.sweep(*wild, only=("finetune",))
    assert (again.code, "0 to run" in again.out) == (1, True)
    assert "not repeated: 6 trials" in again.out
    attempts = len(list(study.root.glob("trials/*/attempts/*")))
    retried = study.sweep(*wild, only=("finetune",), retry_failed=True)
    assert "6 to run" in retried.out
    assert len(list(study.root.glob("trials/*/attempts/*"))) == attempts + 2


@pytest.mark.parametrize("step", ["trials", "features of images"])
def test_a_driver_whose_lock_is_gone_stops_at_the_next_report(
    step: str, prepared: Study, ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, shown, enter = copy_of(prepared, tmp_path), list[Path](), run.Display.__enter__
    if step != "trials":
        shutil.rmtree(study.root / "features")

    def entered(display: run.Display) -> run.Display:
        for path in study.root.glob("lock.*") if display._what == step else []:
            path.unlink()
            shown.append(path)
        return enter(display)

    monkeypatch.setattr(run.Display, "__enter__", entered)
    with pytest.raises(WorkspaceError, match=r"another driver (took over|may have taken over)"):
        study.sweep(*LONG, "stages.base.trial.epochs=5", "stages.base.trial.epoch_steps=25", only=("finetune",))
    assert len(shown) == 1
    assert not study.finished()
    assert step == "trials" or not list(study.root.glob("trials/*"))


def interrupt(started: Started) -> None:
    """Press Ctrl-C: a terminal sends it to the whole process group."""
    os.killpg(started.process.pid, signal.SIGINT)


@contextmanager
def mlflow_server(port: int, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "art")]
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=quiet, cwd=folder, start_new_session=True)
    try:
        wait(lambda: answers(port), 120)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_features_that_a_worker_finds_damaged_are_made_again(
    finished: Study, prepared: Study, ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(prepared, tmp_path)
    train, spoilt = run.Driver._train, list[Path]()

    def late(driver: run.Driver, prepared: Any) -> Any:
        """Invert every target between the plan and the first work."""
        for path in [] if spoilt else (study.root / "features" / TRUTH.fingerprint).rglob("*.npy"):
            data = path.read_bytes()
            path.unlink()  # a link to a file that is shared
            path.write_bytes(data[:128] + bytes(255 - value for value in data[128:]))
            spoilt.append(path)
        return train(driver, prepared)

    monkeypatch.setattr(run.Driver, "_train", late)
    result = study.sweep(only=("base",))
    assert result.code == 0, result
    assert re.search(r"\d+ groups of stored features were damaged, they are made again", result.out)
    found, sound = study.numbers(), finished.numbers()
    assert found == {name: sound[name] for name in found}
    assert found
