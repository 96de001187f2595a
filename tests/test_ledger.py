import hashlib
import logging
from pathlib import Path

import pyarrow as pa
import pytest

from dfloc import storage
from dfloc.config import (
    DecoderSpec,
    Imported,
    Lineage,
    LossSpec,
    MapRecipe,
    OptimizerSpec,
    SampleList,
    ScheduleSpec,
    TrialSpec,
)
from dfloc.errors import WorkspaceError
from dfloc.ledger import EpochRecord, Ledger, Stopped
from dfloc.storage import Workspace

RECIPE = MapRecipe(map="srm/stats", weights="none", input_size=256, resize="pil-bilinear", semantics={"decode": 1})


def make_spec(seed: int = 0) -> TrialSpec:
    return TrialSpec(
        train=SampleList(digest="t", counts={"a/b": 8}),
        valid=SampleList(digest="v", counts={"a/b": 4}),
        maps=(RECIPE,),
        decoder=DecoderSpec(name="linear"),
        loss=LossSpec(name="bce"),
        optimizer=OptimizerSpec(name="adamw"),
        schedule=ScheduleSpec(name="constant"),
        epochs=5,
        batch=4,
        seed=seed,
    )


def records(num: int) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=k,
            steps=2 * k,
            images=8,
            lr=1e-3,
            train_loss=1 / k,
            valid_loss=0.5,
            valid_iou=0.1 * k,
            seconds=2.0,
            time=100.0 + k,
        )
        for k in range(1, num + 1)
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Workspace(tmp_path))


class Killed(BaseException):
    """What stands for kill -9: nothing catches it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Let so many writes through; the next one never happens."""
    left = [writes]
    for name in ("put", "put_new"):
        real = getattr(storage, name)

        def dying(path, data, real=real):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(path, data)

        monkeypatch.setattr(storage, name, dying)


def train(ledger: Ledger, spec: TrialSpec, epochs: int = 5, finish: bool = True) -> list[int]:
    """Stand for the engine: the state of epoch k is the text "state k"; returns the epochs that it trained."""
    attempt = ledger.begin(spec)
    start = int(attempt.state.decode().split()[1]) if attempt.state else 0
    assert len(attempt.records) == start
    trained = list(range(start + 1, epochs + 1))
    for epoch in trained:
        attempt.save_epoch(f"state {epoch}".encode(), [*attempt.records, records(epoch)[-1]])
    if finish:
        attempt.finish(b"best", b"last", best_epoch=epochs, versions={"torch": "2"})
    return trained


def test_a_new_trial_is_unknown(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    assert ledger.state(fp) == "new"
    assert ledger.done(fp) is None
    assert ledger.failure(fp) is None
    assert ledger.epochs(fp) == []
    assert not ledger.has_weights(fp)
    with pytest.raises(WorkspaceError, match="never begun"):
        ledger.spec(fp)
    with pytest.raises(WorkspaceError, match="not finished"):
        ledger.weights(fp, "best")


def test_a_finished_trial_is_read_back(ledger: Ledger) -> None:
    spec = make_spec()
    fp = spec.fingerprint
    assert train(ledger, spec) == [1, 2, 3, 4, 5]
    done = ledger.done(fp)
    assert ledger.state(fp) == "done"
    assert done is not None
    assert done.best_epoch == 5
    assert done.digests == {which: hashlib.sha256(which.encode()).hexdigest() for which in ("best", "last")}
    assert (done.cost.steps, done.cost.seconds, done.cost.images_per_second) == (10, 10.0, 4.0)
    assert ledger.epochs(fp) == records(5)
    assert ledger.spec(fp) == spec
    assert ledger.weights(fp, "last").read_bytes() == b"last"
    assert not list(ledger.folder(fp).glob("attempts/*/*.state*"))


@pytest.mark.parametrize("writes", range(2 + 2 * 5 + 3))
def test_a_kill_at_any_write_loses_at_most_one_epoch(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    spec = make_spec()
    with monkeypatch.context() as patch:
        kill_after(patch, writes)
        with pytest.raises(Killed):
            train(ledger, spec)
    saved = min(5, max(0, writes - 2) // 2)
    assert ledger.state(spec.fingerprint) == ("partial" if saved else "new")
    assert ledger.epochs(spec.fingerprint) == records(saved)
    assert train(ledger, spec) == list(range(saved + 1, 6))
    assert ledger.epochs(spec.fingerprint) == records(5)
    assert ledger.weights(spec.fingerprint, "best").read_bytes() == b"best"


def state_files(ledger: Ledger) -> list[Path]:
    return sorted(
        (Path(path.path) for path in ledger.folder(make_spec().fingerprint).glob("attempts/*/*.state")),
        key=lambda p: p.name,
    )


def test_two_checkpoints_are_kept(ledger: Ledger) -> None:
    train(ledger, make_spec(), finish=False)
    assert [path.name[:11] for path in state_files(ledger)] == ["epoch-00004", "epoch-00005"]


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    train(ledger, make_spec(), epochs=4, finish=False)
    state_files(ledger)[-1].write_bytes(b"state")
    with caplog.at_level(logging.INFO, logger="dfloc.ledger"):
        assert train(ledger, make_spec()) == [4, 5]
    assert "checkpoint of epoch 4 is damaged" in caplog.text
    assert "goes on from epoch 3" in caplog.text


def test_with_all_checkpoints_damaged_it_starts_at_the_first_epoch(ledger: Ledger) -> None:
    train(ledger, make_spec(), epochs=4, finish=False)
    for path in state_files(ledger):
        path.write_bytes(b"")
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]


def test_damaged_records_are_skipped(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    train(ledger, make_spec(), epochs=4, finish=False)
    (state_files(ledger)[0].parent / "epochs.jsonl").write_text('{"epoch": 1')
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]
    assert "is damaged" in caplog.text


def test_an_attempt_goes_on_from_the_most_advanced_one_and_leaves_it_alone(ledger: Ledger) -> None:
    first, second = ledger.begin(make_spec()), ledger.begin(make_spec())
    first.save_epoch(b"state 1", records(1))
    for epoch in (1, 2):
        second.save_epoch(f"state {epoch}".encode(), records(epoch))
    before = [(path, path.read_bytes()) for path in state_files(ledger)]
    third = ledger.begin(make_spec())
    assert third.state == b"state 2"
    assert third.records == records(2)
    third.save_epoch(b"state 3", records(3))
    assert [(path, path.read_bytes()) for path in state_files(ledger)][:-1] == before


def test_the_second_to_finish_does_not_count(ledger: Ledger) -> None:
    first, second = ledger.begin(make_spec()), ledger.begin(make_spec())
    for attempt in (first, second):
        attempt.save_epoch(b"state 1", records(1))
    assert first.finish(b"a", b"a", 1, {})
    assert not second.finish(b"b", b"b", 1, {})
    assert ledger.weights(make_spec().fingerprint, "best").read_bytes() == b"a"


def test_a_trial_whose_weights_are_gone_can_be_trained_again(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    ledger.weights(fp, "best").unlink()
    assert ledger.state(fp) == "done"
    assert not ledger.has_weights(fp)
    with pytest.raises(WorkspaceError, match="gone"):
        ledger.weights(fp, "best")
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]
    assert ledger.has_weights(fp)


def test_weights_that_were_changed_since_are_refused(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    path = ledger.weights(fp, "last")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkspaceError, match="is damaged: not what the ledger says"):
        ledger.weights(fp, "last")


def test_a_failure_stands_until_it_is_forgotten(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    ledger.begin(make_spec()).fail("nan", "loss is nan", epoch=2, step=7)
    failure = ledger.failure(fp)
    assert ledger.state(fp) == "failed"
    assert failure is not None
    assert (failure.kind, failure.message, failure.epoch, failure.step) == ("nan", "loss is nan", 2, 7)
    ledger.forget_failure(fp)
    assert ledger.state(fp) == "new"
    ledger.forget_failure(fp)


def test_a_failure_of_an_attempt_does_not_undo_a_finished_trial(ledger: Ledger) -> None:
    late = ledger.begin(make_spec())
    train(ledger, make_spec())
    late.fail("error", "late")
    assert ledger.state(make_spec().fingerprint) == "done"


def test_trials_do_not_mix(ledger: Ledger) -> None:
    train(ledger, make_spec(seed=1))
    assert ledger.state(make_spec(seed=2).fingerprint) == "new"
    assert train(ledger, make_spec(seed=2)) == [1, 2, 3, 4, 5]


def test_rows_go_in_and_out(ledger: Ledger) -> None:
    fp, table = make_spec().fingerprint, pa.table({"id": ["a", "b"], "iou": [0.25, float("nan")]})
    assert not ledger.has_rows(fp, "k")
    with pytest.raises(WorkspaceError, match="not evaluated"):
        ledger.rows(fp, "k")
    ledger.put_rows(fp, "k", table)
    assert ledger.has_rows(fp, "k")
    assert ledger.rows(fp, "k").column("id").to_pylist() == ["a", "b"]
    assert ledger.rows(fp, "k").column("iou").to_pylist()[0] == 0.25


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing"])
def test_damaged_rows_are_named(ledger: Ledger, content: bytes) -> None:
    fp = make_spec().fingerprint
    ledger.put_rows(fp, "k", pa.table({"id": ["a"]}))
    (ledger.folder(fp) / "rows" / "k.parquet").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"k\.parquet is damaged"):
        ledger.rows(fp, "k")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"attempt": 1}'])
def test_a_damaged_done_file_is_named(ledger: Ledger, content: str) -> None:
    train(ledger, make_spec())
    (ledger.folder(make_spec().fingerprint) / "done.json").write_text(content)
    with pytest.raises(WorkspaceError, match=r"done\.json is"):
        ledger.done(make_spec().fingerprint)


def test_a_trial_trained_elsewhere_is_finished_and_the_same_again_replaces_its_record(tmp_path: Path) -> None:
    ledger = Ledger(Workspace(tmp_path))
    unknown = SampleList(digest="unknown", counts={})
    spec = make_spec().model_copy(update={"train": unknown, "valid": unknown, "init": Imported(imported="f" * 64)})
    for seen in ((), ("celebahq/ldm",)):
        told = spec.model_copy(update={"lineage": Lineage(seen=seen, base=seen)})
        assert told.fingerprint == spec.fingerprint != make_spec().fingerprint
        ledger.put_imported(told, b"weights", {"torch": "2"})
        assert ledger.spec(spec.fingerprint) == told
        assert ledger.weights(spec.fingerprint, "last").read_bytes() == b"weights"
        assert (ledger.state(spec.fingerprint), ledger.epochs(spec.fingerprint)) == ("done", [])
    assert len(list((ledger.folder(spec.fingerprint) / "attempts").iterdir())) == 1


def test_a_trial_is_found_by_the_first_digits_of_its_fingerprint(tmp_path: Path) -> None:
    ledger = Ledger(Workspace(tmp_path))
    for name in ("abcdef01", "abcdef02", "123456aa"):
        (ledger.folder(name) / "attempts").mkdir(parents=True)
    assert ledger.find("123456") == "123456aa"
    assert ledger.find("abcdef02") == "abcdef02"
    said_of = {"abcdef": "give more digits", "654321": "no trial 654321", "12": "no fingerprint", "../../": "no"}
    for prefix, said in said_of.items():
        with pytest.raises(WorkspaceError, match=said):
            ledger.find(prefix)


def test_a_stop_is_final_for_the_sweep_that_stopped_alone(tmp_path: Path) -> None:
    ledger, spec = Ledger(Workspace(tmp_path)), make_spec()
    attempt = ledger.begin(spec)
    record = EpochRecord(epoch=1, steps=2, images=8, valid_loss=0.5, valid_iou=0.25, seconds=1.0, time=0.0)
    attempt.save_epoch(b"state", [record])
    stopped = Stopped(epoch=1, value=0.25, needed=0.4, time=3.0)
    ledger.stop(spec.fingerprint, "mine", stopped)
    assert ledger.stopped(spec.fingerprint, "mine") == stopped
    assert ledger.stopped(spec.fingerprint, "yours") is None
    assert ledger.state(spec.fingerprint, "mine") == "stopped"
    assert ledger.state(spec.fingerprint, "yours") == ledger.state(spec.fingerprint) == "partial"
    again = ledger.begin(spec)
    assert (again.state, again.records) == (b"state", [record]), "another sweep goes on from its checkpoint"
    again.finish(b"best", b"last", 1, {})
    assert ledger.state(spec.fingerprint, "mine") == "done"
