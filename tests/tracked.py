"""A study of two trials, projected into a store, and what a store has of it."""

import logging
from typing import Any

import pytest
from mlflow import MlflowClient

from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.tracking import Tracker
from tests.ended import DOMAINS, planned_of, record_of, spec_of

LDM, LAMA, P2, _ = DOMAINS
SCORES = dict(zip(DOMAINS, (0.8, 0.2, 0.6, 0.4), strict=True))
BASE = planned_of(spec_of(LDM, P2), "base", held_out=LAMA, seed=0)
TUNED = planned_of(spec_of(LAMA, parent=BASE), "finetune", held_out=LAMA, n=6, seed=0)
RECORD = record_of(BASE, TUNED)
TAG = "dfloc.sweep.exposure-paper-dolos"


def track(
    workspace: Workspace, record: SweepRecord = RECORD, *submitted: PlannedTrial, uri: str | None = None, **end: Any
) -> Tracker:
    tracker = Tracker(workspace, Ledger(workspace), uri)
    tracker.open(record)
    for planned in submitted:
        tracker.submit(planned)
    tracker.close(**{"status": "FINISHED", **end})
    return tracker


def runs_of(workspace: Workspace, uri: str | None = None, search: str = "") -> dict[str, Any]:
    client = MlflowClient(tracking_uri=uri or workspace.tracking_uri)
    experiment = client.get_experiment_by_name("dfloc")
    runs = client.search_runs([experiment.experiment_id], search) if experiment else []
    assert len({run.info.run_name for run in runs}) == len(runs), "a run is there twice"
    return {run.info.run_name: run for run in runs}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
