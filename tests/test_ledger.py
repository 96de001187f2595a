import contextlib
import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from dfloc import epochs, storage
from dfloc.config import (
    DecoderSpec,
    EvaluationSpec,
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
            valid={"loss": 0.5, "iou": 0.1 * k},
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


@pytest.mark.parametrize("twice", ["id", "iou"])
def test_rows_with_a_column_twice_are_damaged(ledger: Ledger, twice: str) -> None:
    fp, other = make_spec().fingerprint, "id" if twice == "iou" else "iou"
    path = ledger.folder(fp) / "rows" / "k.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_arrays([["a"], ["b"], [0.5]], [twice, twice, other]), path)
    with pytest.raises(WorkspaceError, match=r"k\.parquet is damaged \(ValueError: a column is there twice"):
        ledger.rows(fp, "k")
    assert not ledger.has_whole_rows(fp, "k")


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
    record = EpochRecord(epoch=1, steps=2, images=8, valid={"loss": 0.5, "iou": 0.25}, seconds=1.0, time=0.0)
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


def test_an_epoch_of_before_is_read_with_a_field_for_each_measure() -> None:
    old = b'{"epoch":1,"steps":2,"images":8,"valid_loss":0.5,"valid_iou":0.25,"seconds":1,"time":0}'
    [record] = epochs.read([old])
    assert record.valid == {"iou": 0.25, "loss": 0.5}
    assert epochs.read(epochs.written([record]).splitlines()) == [record]
    for lacking in (old.replace(b'"valid_loss":0.5,', b""), old.replace(b'"valid_iou":0.25,', b"")):
        with pytest.raises(ValueError, match="valid"):
            epochs.read([lacking])
    with pytest.raises(ValueError, match="should have iou"):
        epochs.read([epochs.written([record]).replace(b'"iou"', b'"other"')])


def flips(data: bytes, seed: int, num: int) -> Iterator[bytes]:
    """Yield the bytes with one bit turned, somewhere else each time."""
    draw = random.Random(seed)
    for bit in draw.sample(range(len(data) * 8), num):
        yield data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


def only_right(read: Callable[[], object], expected: object) -> bool:
    """Ask for the right value or an error of ours; return whether it was an error."""
    try:
        assert read() == expected
    except WorkspaceError:
        return True
    return False


def test_a_bit_that_turned_in_a_stored_file_changes_no_number(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    rows = pa.table({"id": [f"i{k}" for k in range(50)], "iou": [k / 50 for k in range(50)], "trial": [fp] * 50})
    ledger.put_rows(fp, "k", rows)
    (attempt,) = ledger.folder(fp).glob("attempts/*")
    readers: dict[str, tuple[UPath, Callable[[], object]]] = {
        "rows": (ledger.folder(fp) / "rows" / "k.parquet", lambda: ledger.rows(fp, "k")),
        "done": (ledger.folder(fp) / "done.json", lambda: ledger.done(fp)),
        "epochs": (attempt / "epochs.jsonl", lambda: ledger.epochs(fp)),
        "spec": (attempt / "spec.json", lambda: ledger.spec(fp)),
        "weights": (attempt / "best.safetensors", lambda: ledger.weights(fp, "best").read_bytes()),
    }
    for place, (name, (path, read)) in enumerate(readers.items()):
        right, data = read(), path.read_bytes()
        refused = 0
        for changed in flips(data, place, min(60, 8 * len(data))):
            path.write_bytes(changed)
            refused += only_right(read, right)
        assert refused > 20, name
        path.write_bytes(data)
        assert read() == right


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff", None])
def test_the_epochs_of_a_finished_trial_are_those_that_it_ended_with(ledger: Ledger, content: bytes | None) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    (path,) = ledger.folder(fp).glob("attempts/*/epochs.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]) if content is None else content)
    with pytest.raises(WorkspaceError, match=r"epochs\.jsonl is damaged.*done\.json, the trial is trained again"):
        ledger.epochs(fp)
    path.unlink()
    with pytest.raises(WorkspaceError, match="is gone"):
        ledger.epochs(fp)
    (ledger.folder(fp) / "done.json").unlink()
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]
    assert ledger.epochs(fp) == records(5)


@pytest.mark.parametrize("kept", [0, 2, 4])
def test_of_a_trial_finished_before_the_number_of_epochs_is_asked(ledger: Ledger, kept: int) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    told = json.loads((ledger.folder(fp) / "done.json").read_bytes())
    del told["sealed"], told["epochs_sha256"]
    storage.put_json(ledger.folder(fp) / "done.json", told)
    assert ledger.epochs(fp) == records(5)
    (path,) = ledger.folder(fp).glob("attempts/*/epochs.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    with pytest.raises(WorkspaceError, match=f"has {kept} epochs of 5"):
        ledger.epochs(fp)


def test_a_number_that_changed_in_the_epochs_of_a_trial_in_flight_is_not_gone_on_from(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    train(ledger, make_spec(), epochs=4, finish=False)
    path = Path(state_files(ledger)[0].parent / "epochs.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"iou":0.4', b'"iou":0.9')]))
    assert path.read_bytes().count(b"0.9") == 1
    assert ledger.epochs(make_spec().fingerprint) == records(3)
    path.write_bytes(b"".join([lines[0].replace(b'"iou":0.1', b'"iou":0.9'), *lines[1:]]))
    assert ledger.epochs(make_spec().fingerprint) == []
    path.write_bytes(b"")
    caplog.clear()
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]
    assert "epochs.jsonl is damaged" in caplog.text
    assert ledger.epochs(make_spec().fingerprint) == records(5)


def test_an_epoch_checkpoint_of_before_is_gone_on_from(ledger: Ledger) -> None:
    train(ledger, make_spec(), epochs=4, finish=False)
    for path in state_files(ledger):
        assert len(path.stem.split("-")) == 4
        path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}.state"))
    assert train(ledger, make_spec()) == [5]


def test_rows_stand_where_their_receipt_says(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    fp = make_spec().fingerprint
    for key, iou in (("k", 0.25), ("j", 0.75)):
        ledger.put_rows(fp, key, pa.table({"id": ["a"], "iou": [iou]}))
    folder = ledger.folder(fp) / "rows"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "k.parquet").write_bytes(kept["j.parquet"])
    assert ledger.has_rows(fp, "k")
    assert not ledger.has_whole_rows(fp, "k")
    with pytest.raises(WorkspaceError, match=r"k\.parquet holds the rows j of trial .*; delete it, the next sweep or"):
        ledger.rows(fp, "k")
    assert "rows are made again" in caplog.text
    other = make_spec(seed=1).fingerprint
    for name, data in kept.items():
        storage.put(ledger.folder(other) / "rows" / name, data)
    assert not ledger.has_whole_rows(other, "j")
    assert ledger.has_whole_rows(fp, "j")


def test_rows_of_before_have_no_receipt_and_are_read(ledger: Ledger) -> None:
    fp, table = make_spec().fingerprint, pa.table({"id": ["a", "b"], "iou": [0.25, 0.5]})
    path = ledger.folder(fp) / "rows" / "k.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path.path)
    assert ledger.has_whole_rows(fp, "k")
    assert ledger.rows(fp, "k") == table
    data = path.read_bytes()
    for changed in flips(data, 0, 300):
        path.write_bytes(changed)
        only_error(lambda: ledger.rows(fp, "k"))
    for length in range(0, len(data), 50):
        path.write_bytes(data[:length])
        with pytest.raises(WorkspaceError, match="is damaged"):
            ledger.rows(fp, "k")
        assert not ledger.has_whole_rows(fp, "k")


def only_error(read: Callable[[], object]) -> None:
    """Let nothing but an error of ours come out, whatever is read."""
    with contextlib.suppress(WorkspaceError):
        read()


def test_rows_of_something_else_than_the_evaluation_names_are_refused(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    of = EvaluationSpec(
        trial=fp, checkpoint="best", domain="a/b", test=SampleList(digest="t", counts={"a/b": 2}), protocol="dfloc-1"
    )
    right = {"id": ["x", "y"], "trial": [fp] * 2, "checkpoint": ["best"] * 2, "domain": ["a/b"] * 2}
    ledger.put_rows(fp, of.key, pa.table(right))
    assert ledger.scored(of).to_pydict() == right
    odd = {"id": ["x", "x"], "trial": [fp, "other"], "checkpoint": ["last"] * 2, "domain": ["a/b", "a/c"]}
    for name, values in odd.items():
        ledger.put_rows(fp, of.key, pa.table(right | {name: values}))
        with pytest.raises(WorkspaceError, match="again"):
            ledger.scored(of)
    ledger.put_rows(fp, of.key, pa.table(right).slice(0, 1))
    with pytest.raises(WorkspaceError, match="has 1 rows of 1 images for a/b, expected one for each of 2 samples"):
        ledger.scored(of)


def test_weights_that_were_changed_count_as_gone(ledger: Ledger) -> None:
    fp = make_spec().fingerprint
    train(ledger, make_spec())
    path = ledger.weights(fp, "last")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not ledger.has_weights(fp)
    assert train(ledger, make_spec()) == [1, 2, 3, 4, 5]
    assert ledger.weights(fp, "last").read_bytes() == b"last"


def test_a_record_of_another_trial_is_refused(ledger: Ledger) -> None:
    mine, other = make_spec(seed=1), make_spec(seed=2)
    for spec in (mine, other):
        train(ledger, spec)
        ledger.begin(spec).fail("nan", "the loss is NaN", epoch=spec.seed)
    for name, read in (("done.json", ledger.done), ("failed.json", ledger.failure)):
        told = read(mine.fingerprint)
        path = ledger.folder(mine.fingerprint) / name
        path.write_bytes((ledger.folder(other.fingerprint) / name).read_bytes())
        with pytest.raises(WorkspaceError, match=rf"{name} is damaged: not what was written"):
            read(mine.fingerprint)
        assert told != read(other.fingerprint)


def test_an_edited_spec_of_before_seals_is_refused(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    spec = make_spec()
    Ledger(place).begin(spec)
    [path] = place.trials.glob("*/attempts/*/spec.json")
    fields = spec.model_dump(mode="json")
    storage.put_json(path, fields)
    assert Ledger(place).spec(spec.fingerprint) == spec
    storage.put_json(path, fields | {"batch": 99})
    with pytest.raises(WorkspaceError, match="is not the spec of this trial"):
        Ledger(place).spec(spec.fingerprint)


def test_a_new_done_without_its_digest_is_damaged(tmp_path: Path) -> None:
    ledger = Ledger(Workspace(tmp_path / "workspace"))
    spec = make_spec()
    attempt = ledger.begin(spec)
    attempt.save_epoch(b"state", records(2))
    attempt.finish(b"best", b"last", 1, {})
    path = ledger.folder(spec.fingerprint) / "done.json"
    fields = storage.get_json(path)
    del fields["sealed"]
    storage.put_json(path, fields | {"best_epoch": 2})
    with pytest.raises(WorkspaceError, match="its digest is gone"):
        ledger.done(spec.fingerprint)
    del fields["epochs_sha256"]
    storage.put_json(path, fields)
    done = ledger.done(spec.fingerprint)
    assert done is not None
    assert done.best_epoch == 1


def test_rows_of_before_receipts_are_asked_as_the_report_asks_them(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    ledger, digest = Ledger(place), "d" * 64
    evaluation = EvaluationSpec(
        trial="t" * 64,
        checkpoint="best",
        domain="a/b",
        test=SampleList(digest=digest, counts={"a/b": 2}),
        protocol="dfloc-1",
    )
    path = place.trials / evaluation.trial / "rows" / f"{evaluation.key}.parquet"
    Path(path.parent.path).mkdir(parents=True)
    storage.put_json(place.lists / f"{digest}.json", ["a/b/test/1", "a/b/test/2"])
    for ids, whole in ((["1", "2"], True), (["1"], False), (["1", "3"], False)):
        pq.write_table(pa.table({"id": [f"a/b/test/{one}" for one in ids]}), path.path)
        assert ledger.has_scored(evaluation) is whole
        with contextlib.nullcontext() if whole else pytest.raises(WorkspaceError, match=r"expected one|other images"):
            ledger.scored(evaluation)
