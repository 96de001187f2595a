"""Each kind of damage is named with what makes it again; `--mend` takes that away and nothing else."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from upath import UPath

from dfloc import lock, storage
from dfloc.config import TrialSpec
from dfloc.data import importer, lists
from dfloc.data.dolos import scan
from dfloc.data.manifest import Manifest, read_samples
from dfloc.doctor import leftovers, workspace
from dfloc.doctor.finding import Finding
from dfloc.errors import DataError, WorkspaceError
from dfloc.features.store import TRUTH
from dfloc.ledger import Ledger
from dfloc.lock import DriverLock, Owner
from dfloc.record import PlannedTrial, SweepRecord
from dfloc.storage import Workspace
from tests.command import Study
from tests.old import planned, unpacked
from tests.old.make import SWEEP
from tests.test_ledger import make_spec, records


def content(root: Path) -> dict[str, str]:
    """Return every file below a folder, with its digest; locks aside."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith("lock."))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def flip(path: Path, place: float = 0.5) -> Path:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def found(place: Workspace, *data: UPath) -> dict[str, Finding]:
    """Return what is damaged or left over, by its path below the workspace."""
    diagnosis = workspace.examine(place, data)
    return {str(Path(one.path.path).relative_to(place.root.path)): one
            for one in (*diagnosis.of("damaged"), *diagnosis.of("left over"))}  # fmt: skip


class Old:
    """The old workspace, its trials by stage, and what has been done to it."""

    def __init__(self, root: Path):
        self.workspace = unpacked(root)
        self.root = root
        self.ledger = Ledger(self.workspace)
        record = SweepRecord.load(self.workspace.sweep(SWEEP))
        assert record is not None
        self.trials = {trial.fingerprint: trial for trial in reversed(record.trials)}

    def trial(self, stage: str, number: int = 0) -> PlannedTrial:
        return [trial for trial in reversed(self.trials.values()) if trial.stage == stage][number]

    def attempt(self, trial: PlannedTrial) -> Path:
        done = self.ledger.done(trial.fingerprint)
        assert done is not None
        return self.root / "trials" / trial.fingerprint / "attempts" / done.attempt

    def rows(self, trial: PlannedTrial, number: int = 0) -> Path:
        return self.root / "trials" / trial.fingerprint / "rows" / f"{trial.evaluations[number].key}.parquet"


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "workspace")


def test_a_whole_workspace_of_before_receipts_is_whole_and_nothing_is_written(old: Old) -> None:
    before = content(old.root)
    diagnosis = workspace.examine(old.workspace)
    assert {one.state for one in diagnosis.findings} == {"unverifiable"}
    kinds = {kind: sum(one.kind == kind for one in diagnosis.findings) for kind in ("rows", "epochs", "list")}
    assert kinds == {"rows": 76, "epochs": 19, "list": 0}, "ids alone are joined with the shards"
    assert diagnosis.looked["features"] == len(list(old.root.glob("features/*/*/*/*.npy"))) == 16
    assert diagnosis.looked["shard"] == 12 + 12, "each file, and each split of the manifests"
    assert content(old.root) == before


@pytest.mark.ray
def test_of_a_workspace_of_today_nothing_is_unverifiable(finished: Study) -> None:
    diagnosis = workspace.examine(Workspace(finished.root))
    assert diagnosis.findings == []
    assert {"features", "list", "rows", "epochs", "weights", "shard", "record", "tracking"} <= diagnosis.looked.keys()


def test_all_damage_is_named_and_mended_and_then_made_again(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.0)
    whole = content(old.root)
    base, tuned, solved = old.trial("base"), old.trial("finetune"), old.trial("baselines")
    other, third, last = old.trial("scratch"), old.trial("scratch", 1), old.trial("equal-total")

    rows = cut(old.rows(solved), 0.4)
    again = old.rows(tuned)
    old.ledger.put_rows(tuned.fingerprint, again.stem, old.ledger.rows(tuned.fingerprint, again.stem))
    assert workspace.examine(old.workspace).looked["rows"] == 76
    flip(again, 0.2)
    weights = flip(old.attempt(base) / "last.safetensors", 0.9)
    emptied = old.attempt(other) / "epochs.jsonl"
    emptied.write_bytes(b"")
    done = cut(old.root / "trials" / third.fingerprint / "done.json")
    spec = flip(old.attempt(last) / "spec.json", 0.01)
    (map_name,) = {recipe.map for recipe in solved.spec.maps}
    group = sorted(old.root.glob(f"features/{solved.spec.maps[0].fingerprint}/0/*/0.npy"))[0]
    flip(group)
    truth = cut(sorted(old.root.glob(f"features/{TRUTH.fingerprint}/0/*/0.json"))[1]).with_suffix(".npy")
    half = old.root / "lists" / f"{base.spec.train.digest}.json"
    half.write_text(json.dumps(json.loads(half.read_text())[:2]))
    index = old.root / "weights" / f"{'0123' * 16}.json"
    storage.put(UPath(index), b'{"backbone": "srm"')
    database = old.root / "mlflow.db"
    database.write_bytes(b"no database" * 100)
    scratch = [
        old.root / "lists" / ".x.json.01234567.part",
        old.root / f".seen-{'0123' * 8}",
        old.root / "shards/pair/.import",
    ]
    for path in (*scratch[:2], scratch[2] / "mine" / "a.parquet", old.root / f"sweeps/{SWEEP}/tune/state"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    before, named = content(old.root), found(old.workspace)
    assert content(old.root) == before
    files = [rows, again, weights, emptied, done, spec, group, truth, half, index, database, *scratch]
    assert named.keys() == {str(path.relative_to(old.root)) for path in (*files, old.root / f"sweeps/{SWEEP}/tune")}

    def after(path: Path) -> str:
        return named[str(path.relative_to(old.root))].after

    assert after(rows) == f"evaluated again by the next start of {SWEEP}: 3 images of {solved.evaluations[0].domain}"
    assert after(weights).startswith("trained again where a child or an evaluation needs them: 2 epochs, ")
    assert after(emptied).startswith("the trial is trained again: 2 epochs, ")
    images = len(json.loads(group.with_suffix(".json").read_text())["ids"])
    assert after(group).endswith(f"{images} images through {map_name.partition('/')[0]}")

    workspace.mend(old.workspace)
    assert found(old.workspace) == {}
    kept = content(old.root)
    gone = {rows, again, again.with_suffix(".json"), weights, emptied, done, spec, half, index, database, *scratch}
    gone |= {path.with_suffix(end) for path in (group, truth) for end in (".npy", ".json")}
    gone |= {old.root / f"trials/{trial.fingerprint}/done.json" for trial in (other, last)}
    names = {str(path.relative_to(old.root)) for path in gone}
    assert whole.keys() - kept.keys() == names & whole.keys()
    assert {name: kept[name] for name in whole.keys() & kept.keys()} == {
        name: whole[name] for name in kept if name in whole
    }
    assert kept.keys() - whole.keys() == {"mlflow.db.damaged"}

    plan = planned(old.workspace)
    assert {item.trial.fingerprint for item in plan.items if item.train} == {
        other.fingerprint, third.fingerprint, last.fingerprint,
    }  # fmt: skip
    lacking = {item.trial.fingerprint: {one.key for one in item.evaluations} for item in plan.items if not item.train}
    assert lacking == {solved.fingerprint: {rows.stem}, tuned.fingerprint: {again.stem}}
    made = {(job.shard_digest, job.group, recipe.fingerprint) for job in plan.jobs for recipe in job.recipes}
    assert made <= {(path.parts[-2], 0, path.parts[-4]) for path in (group, truth)}


def test_damaged_features_are_exactly_what_is_passed_again(old: Old) -> None:
    solved = old.trial("baselines")
    for path in (old.root / "trials" / solved.fingerprint / "rows").iterdir():
        path.unlink()
    assert not planned(old.workspace).jobs
    [job] = _tested(old, solved)
    path = old.root / "features" / solved.spec.maps[0].fingerprint / "0" / job / "0.npy"
    flip(path)
    workspace.mend(old.workspace)
    jobs = planned(old.workspace).jobs
    assert [(one.shard_digest, one.recipes) for one in jobs] == [(job, solved.spec.maps)]


def _tested(old: Old, trial: PlannedTrial) -> set[str]:
    manifest = Manifest.load(old.workspace.shards / "tree")
    return {shard.digest for shard in manifest.split(trial.evaluations[0].domain, "test").shards}


def test_a_record_of_a_sweep_is_planned_anew(old: Old) -> None:
    path = cut(old.root / "sweeps" / SWEEP / "plan.json")
    assert found(old.workspace)[str(path.relative_to(old.root))].after == (
        f"start {SWEEP} again: it is planned anew, what is finished stays"
    )
    workspace.mend(old.workspace)
    assert not path.exists()
    assert not planned(old.workspace).items


@pytest.mark.parametrize("whose", ["pair", "tree"])
def test_a_flipped_bit_of_an_image_is_found_and_a_users_data_are_not_deleted(old: Old, whose: str) -> None:
    shard = min((old.root / "shards" / whose).rglob("test-*.parquet"))
    held = shard.read_bytes()
    place = held.index(b"IDAT") + 20
    shard.write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
    [(name, finding)] = found(old.workspace).items()
    assert name == str(shard.relative_to(old.root))
    assert "the image in row " in finding.wrong
    workspace.mend(old.workspace)
    manifest = old.root / "shards" / whose / "manifest.json"
    if whose == "tree":  # its sweep imports it again
        assert (finding.lost, shard.exists(), manifest.exists()) == (False, False, False)
        assert found(old.workspace) == {}
        return
    assert finding.lost
    assert f"dfloc data import SRC --out {old.root}/shards/pair" in finding.after
    assert shard.with_name(f"{shard.name}.damaged").exists()
    [(name, finding)] = found(old.workspace).items()
    assert (finding.wrong, finding.remove) == ("is gone", ())


@pytest.mark.slow
@pytest.mark.ray
def test_the_next_sweep_imports_its_own_data_again(finished: Study, copied: Study, ray_local: None) -> None:
    shutil.copytree(finished.root / "shards", copied.root / "shards")
    shard = min((copied.root / "shards/mini/mini/telea").glob("test-*.parquet"))
    before = shard.read_bytes()
    flip(shard)
    place = Workspace(copied.root)
    assert list(found(place)) == [str(shard.relative_to(copied.root))]
    workspace.mend(place)
    again = Study(copied.root).sweep()
    assert again.code == 0
    assert "15 trials, 15 done, 0 to run" in again.out
    assert shard.read_bytes() == before
    assert found(place) == {}


def test_a_manifest_that_says_other_things_than_its_shards_is_found(old: Old) -> None:
    path = old.root / "shards" / "pair" / "manifest.json"
    text = path.read_text()
    for wrong in (text.replace('"photographs": 4', '"photographs": 5', 1), text[:-20]):
        path.write_text(wrong)
        [finding] = found(old.workspace).values()
        assert (finding.path.path, finding.kind, finding.lost) == (str(path), "shard", True)


def test_shards_outside_of_the_workspace_are_looked_at_too(old: Old, tmp_path: Path) -> None:
    outside = (old.root / "shards" / "pair").rename(tmp_path / "pair")
    shard = cut(min(outside.rglob("train-*.parquet")))
    assert found(old.workspace) == {}
    diagnosis = workspace.examine(old.workspace, [UPath(outside)])
    assert [one.path.path for one in diagnosis.of("damaged")] == [str(shard)]


def test_an_unfinished_trial_goes_on_from_what_is_whole(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    attempt = Ledger(place).begin(make_spec())
    attempt.save_epoch(b"one", records(1))
    attempt.save_epoch(b"two", records(2))
    assert found(place) == {}
    newest = max((tmp_path / "workspace").rglob("*.state"))
    newest.write_bytes(b"six")
    assert list(found(place)) == [str(newest.relative_to(place.root.path))]
    workspace.mend(place)
    assert Ledger(place).begin(make_spec()).state == b"one"


def test_a_spec_of_another_trial_is_found(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    specs = [make_spec(seed) for seed in (0, 1)]
    for spec in specs:
        Ledger(place).begin(spec)
    paths = [next(Path(place.trials.path).glob(f"{spec.fingerprint}/attempts/*/spec.json")) for spec in specs]
    storage.put_json(UPath(paths[0]), specs[1].model_dump(mode="json"))  # as before seals, which know whose they are
    [finding] = found(place).values()
    assert (finding.path.path, finding.wrong) == (str(paths[0]), f"is that of trial {specs[1].fingerprint[:12]}")


def test_a_list_with_its_lines_needs_no_shards(tmp_path: Path) -> None:
    place = unpacked(tmp_path / "workspace")
    folder = place.shards / "tree"
    refs = read_samples(folder, Manifest.load(folder), "old/blur", "train")
    digest = Manifest.load(folder).split("old/blur", "train").digest
    for path in Path(place.lists.path).iterdir():
        path.unlink()
    lists.keep(place, digest, refs)
    folder.fs.rm(place.shards.path, recursive=True)
    assert found(place) == {}
    path = Path(place.lists.path) / f"{digest}.json"
    path.write_text(path.read_text().replace("old/blur", "old/blue", 1))
    [finding] = found(place).values()
    assert (finding.kind, finding.wrong) == ("list", "is damaged: not the list that it is named by")
    path.write_text(path.read_text().replace("old/blue", "old/blur", 1))
    path = path.with_suffix(".stems")
    path.write_text(path.read_text().replace("old/train0", "old/train9", 1))
    [finding] = found(place).values()
    assert (finding.path.path, finding.remove) == (str(path), (finding.path,))


def test_while_a_driver_runs_nothing_is_mended(old: Old) -> None:
    path = cut(old.rows(old.trial("base")), 0.4)
    with DriverLock(old.workspace.root):
        with pytest.raises(WorkspaceError, match="another driver owns"):
            workspace.mend(old.workspace)
        (old.root / f".seen-{'0' * 32}").touch()
        assert list(found(old.workspace)) == [str(path.relative_to(old.root))], "the marker is that of the driver"
    assert path.exists()


def test_a_damaged_lock_is_removed_unless_its_driver_puts_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.2)
    place = Workspace(tmp_path / "workspace")
    Ledger(place).begin(make_spec())
    with DriverLock(place.root) as driver:
        path = tmp_path / "workspace" / f"lock.{driver.highest()}"
        path.write_bytes(b"{")
        with pytest.raises(WorkspaceError, match="another driver owns"):
            workspace.mend(place)
    path.write_bytes(b"{")
    with pytest.raises(WorkspaceError, match="no JSON"):
        DriverLock(place.root).__enter__()
    [finding] = workspace.mend(place).of("damaged")
    assert (finding.kind, finding.path.path) == ("lock", str(path))
    with DriverLock(place.root):
        pass


def test_an_import_at_work_is_left_alone(tmp_path: Path, tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path / "workspace")
    folder = place.shards / "mine" / ".import"

    def write(*_: object) -> None:
        assert folder.is_dir()
        assert found(place) == {}
        raise DataError("enough")

    monkeypatch.setattr(importer, "_write", write)
    with pytest.raises(DataError, match="enough"):
        importer.import_samples(scan(tiny_tree), folder.parent)
    assert not folder.exists()
    gone = Owner.me().model_copy(update={"started": 1.0})
    storage.put_json(folder / "owner.json", gone.model_dump(mode="json"))
    assert list(found(place)) == ["shards/mine/.import"]
    workspace.mend(place)
    assert not folder.exists()


def test_a_scratch_file_that_is_being_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path / "workspace")
    path = tmp_path / "workspace" / "lists" / ".a.json.01234567.part"
    path.parent.mkdir()
    path.write_bytes(b"x")
    os.utime(path, (time.time() + 60,) * 2)
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.05)
    assert found(place) == {}


def test_a_file_that_cannot_be_read_is_a_finding(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Ledger, fingerprint: str, key: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Ledger, "rows", refuse)
    findings = found(old.workspace)
    assert len(findings) == 76
    assert all(one.lost and "Permission denied" in one.wrong for one in findings.values())
    assert isinstance(old.trial("base").spec, TrialSpec)
