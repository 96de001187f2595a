"""The engine on the ledger, killed at each write."""

import subprocess
import sys
from pathlib import Path

import pytest

from dfloc import repro
from dfloc.config import TrialSpec
from dfloc.engine.fit import fit
from dfloc.ledger import Done, Ledger
from dfloc.storage import Workspace
from tests.engine.fakes import FakeSource, make_member, make_spec, numbers
from tests.test_ledger import Killed, kill_after


def train(ledger: Ledger, spec: TrialSpec) -> Done:
    attempt, member = ledger.begin(spec), make_member(spec)
    if attempt.state:
        member.restore(attempt.state)
    for ((_, record, _),) in fit([member], FakeSource(), FakeSource(4, seed=1)):
        assert record is not None
        attempt.save_epoch(member.state(), [*attempt.records, record])
    attempt.finish(member.weights("best"), member.weights("last"), member.best_epoch, repro.environment("cpu", 1))
    done = ledger.done(spec.fingerprint)
    assert done is not None
    return done


def test_killed_at_any_write_and_started_again_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec()
    whole = Ledger(Workspace(tmp_path / "whole"))
    expected = train(whole, spec)
    assert expected.versions["threads"] == "1"
    for writes in range(2 + 2 * 3 + 3):
        ledger = Ledger(Workspace(tmp_path / str(writes)))
        with monkeypatch.context() as patch:
            kill_after(patch, writes)
            with pytest.raises(Killed):
                train(ledger, spec)
        done = train(ledger, spec)
        assert (done.digests, done.best_epoch, done.cost.steps) == (
            expected.digests,
            expected.best_epoch,
            expected.cost.steps,
        )
        records = [[numbers(record) for record in book.epochs(spec.fingerprint)] for book in (ledger, whole)]
        assert records[0] == records[1]


WITHOUT_RAY = """
import sys
sys.modules["ray"] = sys.modules["mlflow"] = None
from pathlib import Path
from dfloc.engine import batches, evaluate
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from tests.engine.fakes import make_spec
from tests.engine.test_resume import train
print(train(Ledger(Workspace(sys.argv[1])), make_spec(epochs=1)).epochs)
"""


def test_it_trains_without_ray_and_mlflow(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.stdout == "1\n", result.stderr
