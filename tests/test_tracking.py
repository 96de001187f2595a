import errno
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from upath import UPath

from dfloc import summary, tracking, tracking_store
from dfloc.errors import ConfigError
from dfloc.ledger import Ledger
from dfloc.projection import FINGERPRINT
from dfloc.storage import Workspace
from dfloc.tracking import Tracker
from tests.ended import DOMAINS, START, finish, planned_of, record_of, spec_of, train
from tests.tracked import BASE, P2, RECORD, SCORES, TAG, TUNED, runs_of, track, warnings_of


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path) -> Workspace:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Workspace(tmp_path)


@pytest.fixture
def ledger(workspace: Workspace) -> Ledger:
    ledger = Ledger(workspace)
    for trial in (BASE, TUNED):
        finish(ledger, trial, SCORES)
    return ledger


def content(workspace: Workspace) -> dict[str, Any]:
    """All that is projected, less what differs from store to store."""
    return {
        name: (
            run.info.status,
            run.data.params,
            run.data.metrics,
            {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"},
        )
        for name, run in runs_of(workspace).items()
    }


def test_scratch_files_are_not_uploaded(workspace: Workspace, ledger: Ledger) -> None:
    report = workspace.report("x")
    for name in ("index.html", ".index.html.0123abcd.part", "csv/a.csv", "csv/.a.csv.0123abcd.part"):
        (report / name).parent.mkdir(parents=True, exist_ok=True)
        (report / name).write_text("x")
    track(workspace, report=report)
    held = Path(workspace.root.path, "mlartifacts").rglob("report/**/*")
    assert sorted(path.name for path in held if path.is_file()) == ["a.csv", "index.html"]


def test_a_trial_is_a_run_under_its_sweep(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, RECORD, BASE, TUNED)
    runs = runs_of(workspace)
    assert set(runs) == {"exposure-paper-dolos", "lama base seed=0", "n=6 lama finetune seed=0"}
    parent, run = runs["exposure-paper-dolos"], runs["n=6 lama finetune seed=0"]
    assert {each.info.status for each in runs.values()} == {"FINISHED"}
    assert parent.data.tags["dfloc.sweep_run"] == "exposure-paper-dolos"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.tags["dfloc.fingerprint"] == TUNED.fingerprint
    assert run.data.tags[TAG] == "finetune"
    assert run.data.tags["dfloc.protocol"] == "declip-2025"
    assert Path(run.data.tags["dfloc.weights"]).read_bytes() == b"best"
    assert run.data.params["exposure"] == "6"
    assert run.data.metrics["test/celebahq/lama/iou"] == pytest.approx(0.2)
    assert run.data.metrics["test_last/celebahq/lama/iou"] == pytest.approx(0.1)
    assert run.data.metrics["forgetting/celebahq/ldm"] == pytest.approx(0.0)
    assert run.info.start_time == START * 1000
    ended = ledger.done(TUNED.fingerprint)
    assert ended is not None
    assert run.info.end_time == round(ended.time * 1000)


def test_epochs_and_rows_are_as_recorded(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, RECORD, BASE)
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    run = runs_of(workspace)["lama base seed=0"]
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in loss] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert [point.timestamp for point in loss] == [(START + 2 * k) * 1000 for k in (1, 2, 3)]
    assert run.data.metrics["valid/iou"] == pytest.approx(0.3)
    files = [each.path for each in client.list_artifacts(run.info.run_id, "rows/best")]
    assert len(files) == 4
    path = client.download_artifacts(run.info.run_id, "rows/last/celebahq-ldm.parquet")
    assert pq.read_table(path)["iou"].to_pylist() == pytest.approx([0.3, 0.5])
    assert (workspace.root / "mlartifacts").exists()


def test_the_description_finds_the_trials(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace)
    note = runs_of(workspace)["exposure-paper-dolos"].data.tags["mlflow.note.content"]
    searches = [line.strip() for line in note.splitlines() if line.startswith("    ")]
    found = [set(runs_of(workspace, search=search)) for search in searches]
    assert found == [
        {"lama base seed=0", "n=6 lama finetune seed=0"},
        {"lama base seed=0"},
        {"n=6 lama finetune seed=0"},
    ]


def test_the_parent_run_says_what_the_report_answers(workspace: Workspace, ledger: Ledger, tmp_path: Path) -> None:
    """Its numbers are metrics; one that is gone is NaN; the sentences stand before the note, once."""

    def answered(sentence: str, **numbers: float) -> Any:
        content = {"sentences": [{"key": "gain", "text": sentence}], "numbers": numbers}
        (tmp_path / "answer.json").write_text(json.dumps(content))
        tracker = Tracker(workspace, ledger)
        tracker.open(RECORD)
        tracker.close("FINISHED", UPath(tmp_path))
        return runs_of(workspace)["exposure-paper-dolos"].data

    first = answered("It lifts.", **{"gain/n": 4.0, "best/one": 0.5})
    assert first.metrics["answer/gain/n"] == 4.0
    assert first.metrics["answer/best/one"] == 0.5
    second = answered("It falls.", **{"gain/n": 8.0})
    assert second.metrics["answer/gain/n"] == 8.0
    assert math.isnan(second.metrics["answer/best/one"])
    note = second.tags["mlflow.note.content"]
    assert note.startswith("It falls.\n\n**")
    assert "It lifts" not in note


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"[]", b"null", b'{"sentences": 3, "numbers": {}}'])
def test_an_answer_that_cannot_be_read_is_one_line_and_the_parent_run_ends(
    workspace: Workspace, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "answer.json").write_bytes(content)
    tracker = Tracker(workspace, ledger)
    tracker.open(RECORD)
    tracker.close("FINISHED", UPath(tmp_path))
    assert runs_of(workspace)["exposure-paper-dolos"].info.status == "FINISHED"
    assert "says no answer" in caplog.text


def test_a_second_time_changes_nothing(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, RECORD, BASE, TUNED)
    before, runs = content(workspace), runs_of(workspace)
    track(workspace)
    assert content(workspace) == before
    assert {run.info.run_id for run in runs_of(workspace).values()} == {run.info.run_id for run in runs.values()}
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    assert len(client.get_metric_history(runs["lama base seed=0"].info.run_id, "test/mean/iou")) == 1


def test_a_deleted_store_is_filled_again(workspace: Workspace, ledger: Ledger, empty_database: Path) -> None:
    track(workspace, RECORD, BASE, TUNED)
    before = content(workspace)
    shutil.copy(empty_database, workspace.root / "mlflow.db")
    track(workspace)
    assert content(workspace) == before


def test_runs_of_a_killed_driver_are_mended(workspace: Workspace, ledger: Ledger) -> None:
    other = record_of(planned_of(spec_of(P2, seed=7), "base", seed=7), sweep="other")
    killed = Tracker(workspace, ledger)
    killed.open(other)
    killed._tasks.put(None)
    killed._thread.join()
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    experiment = client.get_experiment_by_name("dfloc").experiment_id
    half = {"dfloc.workspace": str(workspace.root), "dfloc.fingerprint": BASE.fingerprint}
    half |= {"dfloc.protocol": "declip-2025", "mlflow.parentRunId": runs_of(workspace)["other"].info.run_id}
    client.create_run(experiment, tags=half, run_name="half")
    client.create_run(experiment, tags={"dfloc.workspace": "/elsewhere"}, run_name="another's")
    assert runs_of(workspace)["other"].info.status == "RUNNING"

    track(workspace, status="FAILED")
    assert {name: run.info.status for name, run in runs_of(workspace).items()} == {
        "other": "KILLED",
        "half": "FINISHED",
        "n=6 lama finetune seed=0": "FINISHED",
        "exposure-paper-dolos": "FAILED",
        "another's": "RUNNING",
    }
    half_done = runs_of(workspace)["half"].data
    assert half_done.metrics["test/mean/iou"] == pytest.approx(0.5)
    assert Path(half_done.tags["dfloc.weights"]).name == "best.safetensors"


def test_an_interrupted_sweep_is_reopened(workspace: Workspace, ledger: Ledger, tmp_path: Path) -> None:
    track(workspace, record_of(BASE), status="KILLED")
    first = runs_of(workspace)["exposure-paper-dolos"]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>page</p>")
    track(workspace, report=UPath(tmp_path / "report"))
    again = runs_of(workspace)["exposure-paper-dolos"]
    assert (first.info.status, again.info.status) == ("KILLED", "FINISHED")
    assert again.info.run_id == first.info.run_id
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    assert [each.path for each in client.list_artifacts(again.info.run_id, "report")] == ["report/index.html"]


def test_a_second_sweep_shares_runs_and_changes_no_number(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, record_of(BASE.model_copy(update={"evaluations": BASE.evaluations[:4]})))
    before = runs_of(workspace)["lama base seed=0"]
    assert before.data.metrics["test/mean/iou"] == pytest.approx(0.5), "of ldm and lama"
    track(workspace, record_of(BASE, TUNED, sweep="depth-paper-dolos"))
    runs = runs_of(workspace)
    after = runs["lama base seed=0"]
    assert after.data.tags["mlflow.parentRunId"] == runs["exposure-paper-dolos"].info.run_id
    assert (after.data.tags[TAG], after.data.tags["dfloc.sweep.depth-paper-dolos"]) == ("base", "base")
    assert {key: after.data.metrics[key] for key in before.data.metrics} == before.data.metrics
    assert after.data.metrics["test/celebahq/repaint-p2/iou"] == pytest.approx(0.6), "what was missing is added"


def test_means_of_two_sweeps_never_meet_in_a_run(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, record_of(BASE.model_copy(update={"evaluations": BASE.evaluations[:2]})))
    assert "test/ood/iou" not in runs_of(workspace)["lama base seed=0"].data.metrics, "ldm alone, which it has seen"
    track(workspace, record_of(BASE, sweep="depth-paper-dolos"))
    after = runs_of(workspace)["lama base seed=0"].data.metrics
    assert after["test/mean/iou"] == pytest.approx(0.8), "of ldm"
    assert "test/ood/iou" not in after
    assert after["test/celebahq/lama/iou"] == pytest.approx(0.2), "what was missing is added"


def test_the_first_sweep_follows_its_rows(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, record_of(BASE.model_copy(update={"evaluations": BASE.evaluations[:2]})))
    assert runs_of(workspace)["lama base seed=0"].data.metrics["test/mean/iou"] == pytest.approx(0.8)
    track(workspace)
    assert runs_of(workspace)["lama base seed=0"].data.metrics["test/mean/iou"] == pytest.approx(0.5)


def test_numbers_of_two_protocols_never_meet_in_a_run(workspace: Workspace, ledger: Ledger) -> None:
    part = planned_of(BASE.spec, "base", DOMAINS[:1], "dolos-2024", **BASE.axes)
    track(workspace, record_of(part, sweep="theirs", protocol="dolos-2024"))
    track(workspace)
    run = runs_of(workspace)["lama base seed=0"]
    assert run.data.tags["dfloc.protocol"] == "dolos-2024"
    assert "test/celebahq/lama/iou" not in run.data.metrics
    assert run.data.tags[TAG] == "base"


def test_a_failed_trial_and_its_second_try(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    ledger.begin(BASE.spec).fail("nan", "the loss is no number at step 3", step=3)
    track(workspace, RECORD, BASE, TUNED, status="FAILED")
    runs = runs_of(workspace)
    assert set(runs) == {"exposure-paper-dolos", "lama base seed=0"}, "a trial that did not end has no run"
    assert runs["lama base seed=0"].info.status == "FAILED"
    assert runs["lama base seed=0"].data.tags["dfloc.failure"] == "the loss is no number at step 3"
    ledger.forget_failure(BASE.fingerprint)
    finish(ledger, BASE, SCORES)
    track(workspace)
    run = runs_of(workspace)["lama base seed=0"]
    assert run.info.status == "FINISHED"
    assert "dfloc.failure" not in run.data.tags
    assert run.data.metrics["valid/iou"] == pytest.approx(0.3)


def test_a_trial_of_two_stages_names_both(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace, record_of(BASE, BASE.model_copy(update={"stage": "budgets"})))
    assert runs_of(workspace)["lama base seed=0"].data.tags[TAG] == "base, budgets"


def test_a_run_is_called_as_its_trial_is_by_now(workspace: Workspace, ledger: Ledger) -> None:
    """A search that is planned anew counts its points anew; what another sweep recorded first keeps its name."""
    points = [BASE.model_copy(update={"axes": {"seed": 0, "point": point}}) for point in (5, 2)]
    assert [trial.name for trial in points] == ["point=5 base seed=0", "point=2 base seed=0"]
    ids = []
    for point in points:
        track(workspace, record_of(point))
        ids.append(runs_of(workspace)[point.name].info.run_id)
    assert ids[0] == ids[1]
    track(workspace, record_of(points[0], sweep="another"))
    assert runs_of(workspace)[points[1].name].info.run_id == ids[0]


def test_more_epochs_than_one_request_takes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "MAX_METRICS", 5)
    train(Ledger(workspace), BASE)
    track(workspace)
    run = runs_of(workspace)["lama base seed=0"]
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    curves = ("train/loss", "train/lr", "valid/loss", "valid/iou")
    assert [len(client.get_metric_history(run.info.run_id, key)) for key in curves] == [3] * 4


def test_damaged_rows_cost_one_trial_its_run(
    workspace: Workspace, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    (ledger.folder(BASE.fingerprint) / "rows" / f"{BASE.evaluations[0].key}.parquet").write_bytes(b"PAR1")
    alone = planned_of(spec_of(P2, seed=3), "base", seed=3)
    finish(ledger, alone, SCORES)
    track(workspace, record_of(BASE, alone))
    assert {name: run.info.status for name, run in runs_of(workspace).items()} == {
        "exposure-paper-dolos": "FINISHED",
        "base seed=3": "FINISHED",
    }
    assert f"trial {BASE.fingerprint[:12]} is not tracked" in caplog.text


def test_trials_that_are_not_tracked_are_two_lines_and_the_store_is_not_whole(
    workspace: Workspace, ledger: Ledger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [planned_of(spec_of(P2, seed=seed), "base", seed=seed) for seed in (3, 4)]
    for trial in more:
        finish(ledger, trial, SCORES)
    full = OSError(errno.ENOSPC, "No space left on device", "elsewhere/x.parquet")
    with monkeypatch.context() as patch:
        patch.setattr("dfloc.projection.pq.write_table", Mock(side_effect=full))
        tracker = track(workspace, record_of(BASE, *more), BASE, *more)
    first, rest = warnings_of(caplog)
    assert first.startswith(f"trial {BASE.fingerprint[:12]} is not tracked: ")
    assert rest == "MLflow lacks parts of 2 trials more; the next command tries again"
    assert not tracker.is_whole
    assert track(workspace, record_of(BASE, *more)).is_whole


def test_a_driver_that_is_asked_to_end_does_not_wait_for_its_store(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(tracking_store.Store, "log", lambda *_: answered.wait(60))
        tracker = Tracker(workspace, ledger)
        tracker.open(RECORD)
        tracker.submit(BASE)
        before = time.monotonic()
        tracker.close("KILLED", seconds=0.5)
        assert time.monotonic() - before < 5
        assert not tracker.is_whole
        answered.set()
        tracker._thread.join(60)
    assert track(workspace, status="KILLED", seconds=60).is_whole is False, "it has not been looked at"
    runs = runs_of(workspace)
    assert runs["exposure-paper-dolos"].info.status == "KILLED"
    assert TUNED.name not in runs, "what is lacking is the next command's"
    track(workspace)
    assert {run.info.status for run in runs_of(workspace).values()} == {"FINISHED"}


def test_a_deleted_experiment_and_strange_names(workspace: Workspace, ledger: Ledger) -> None:
    track(workspace)
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("dfloc").experiment_id)
    track(workspace, record_of(BASE, sweep="exposure-paper-my data (1)+ü"))
    run = runs_of(workspace)["lama base seed=0"]
    assert run.data.tags["dfloc.sweep.exposure-paper-my data :28:1:29::2b:ü"] == "base"


def test_a_silent_server_is_one_warning(
    workspace: Workspace,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(tracking, "LAST_ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        track(workspace, RECORD, BASE, TUNED, uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 5
    (warning,) = warnings_of(caplog)
    assert "does not answer (timed out); the next command fills it in" in warning
    assert capfd.readouterr() == ("", "")


def test_a_damaged_database_is_one_warning(
    workspace: Workspace, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace.root / "mlflow.db").write_bytes(b"no database" * 100)
    track(workspace, RECORD, BASE)
    assert len(warnings_of(caplog)) == 1
    assert "not a database" in caplog.text


def test_nothing_of_mlflow_reaches_the_screen(tmp_path: Path) -> None:
    """In a process of its own, whose MLflow is not imported yet, on a database that is made then and there."""
    finish(Ledger(Workspace(tmp_path)), BASE, SCORES)
    record_of(BASE).save(Workspace(tmp_path).sweep(RECORD.sweep))
    code = (
        "import sys; from dfloc.ledger import Ledger; from dfloc.record import SweepRecord;"
        "from dfloc.storage import Workspace; from dfloc.tracking import Tracker;"
        "space = Workspace(sys.argv[1]); tracker = Tracker(space, Ledger(space)); assert 'mlflow' not in sys.modules;"
        f"tracker.open(SweepRecord.load(space.sweep('{RECORD.sweep}'))); tracker.close('FINISHED')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(runs_of(Workspace(tmp_path))) == {"exposure-paper-dolos", "lama base seed=0"}


def test_an_uri_that_cannot_be_understood_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="htp://x"):
        Tracker(workspace, Ledger(workspace), "htp://x")


def test_a_mistake_of_our_own_is_not_swallowed(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(summary, "params", broken)
    with pytest.raises(ValueError, match="broken"):
        track(workspace, RECORD, BASE)


@pytest.fixture
def serve(tmp_path: Path, empty_database: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """A function that starts an MLflow server on a port, and waits until it answers."""
    started: list[subprocess.Popen[bytes]] = []
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")

    def start(port: int) -> subprocess.Popen[bytes]:
        words = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--port", str(port), "--workers", "1"]
        words += ["--artifacts-destination", str(folder / "files")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [sys.executable, "-m", "mlflow", "server", *words]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        started.append(server)
        for _ in range(600):
            try:
                tracking.tracking_uri.probe(f"http://127.0.0.1:{port}", 5)
                return server
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError("the server does not start")

    yield start
    for server in started:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_a_server_that_is_down_then_up_then_dies(
    workspace: Workspace,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    serve: Callable[[int], subprocess.Popen[bytes]],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    track(workspace, record_of(BASE), BASE, uri=uri)
    assert len(warnings_of(caplog)) == 1

    server = serve(port)
    tracker = Tracker(workspace, ledger, uri)
    tracker.open(record_of(BASE, TUNED))
    tracker.submit(BASE)
    while "lama base seed=0" not in runs_of(workspace, uri):
        time.sleep(0.1)
    while runs_of(workspace, uri)["lama base seed=0"].info.status != "FINISHED":
        time.sleep(0.1)
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    tracker.submit(TUNED)
    start = time.monotonic()
    tracker.close("FINISHED")
    assert time.monotonic() - start < 15
    assert len(warnings_of(caplog)) == 2

    serve(port)
    track(workspace, uri=uri)
    assert len(warnings_of(caplog)) == 2
    runs = runs_of(workspace, uri)
    assert {name: run.info.status for name, run in runs.items()} == {
        "exposure-paper-dolos": "FINISHED",
        "lama base seed=0": "FINISHED",
        "n=6 lama finetune seed=0": "FINISHED",
    }
    client = MlflowClient(tracking_uri=uri)
    assert len(client.list_artifacts(runs["lama base seed=0"].info.run_id, "rows/best")) == 4
    assert capfd.readouterr() == ("", "")
    address, _, query = tracking.tracking_uri.search(
        workspace.sweep("exposure-paper-dolos"), FINGERPRINT, BASE.fingerprint
    ).partition("?searchFilter=")
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("dfloc")
    assert address == f"{uri}/#/experiments/{found.experiment_id}/runs"
    [shown] = client.search_runs([found.experiment_id], unquote(query))
    assert shown.info.run_name == "lama base seed=0"
    track(workspace)
    assert not (workspace.sweep("exposure-paper-dolos") / "mlflow.json").exists()
