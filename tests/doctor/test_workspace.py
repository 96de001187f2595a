"""Each kind of damage is named with what makes it again; `--mend` takes that away and nothing else."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from upath import UPath

from dfloc import identity, lock, storage
from dfloc.config import TrialSpec
from dfloc.data import importer, sample_lists
from dfloc.data.dolos import scan
from dfloc.data.manifest import Manifest, domains_of, read_samples
from dfloc.doctor import leftovers, trials, workspace
from dfloc.doctor.finding import Finding
from dfloc.errors import DataError, WorkspaceError
from dfloc.features.store import TRUTH
from dfloc.frozen import fingerprint
from dfloc.ledger import Ledger
from dfloc.lock import DriverLock
from dfloc.owner import Owner
from dfloc.planned import PlannedTrial, SearchAxis, SearchRecord
from dfloc.record import OLD, Starts, SweepRecord, files
from dfloc.storage import Workspace
from dfloc.sweep.settled import Settled
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
    index = old.root / "weights" / f"{'0123' * 4}.json"
    storage.put(UPath(index), b'{"backbone": "srm"')
    database = old.root / "mlflow.db"
    database.write_bytes(b"no database" * 100)
    marker = old.root / f".seen-{'0123' * 8}"
    parts = [old.root / folder / ".x.json.01234567.part" for folder in ("lists", "settled", "mlartifacts")]
    scratch = [*parts, marker, old.root / "shards/pair/.import"]
    for path in (*scratch[:-1], scratch[-1] / "mine" / "a.parquet", old.root / f"sweeps/{SWEEP}/tune/state"):
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
    assert kept.items() - whole.items() == {("mlflow.db.damaged", hashlib.sha256(b"no database" * 100).hexdigest())}

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


def test_each_start_and_point_of_a_sweep_is_looked_at_alone(old: Old) -> None:
    folder = old.workspace.sweep(SWEEP)
    starts, record = Starts(folder), SweepRecord.load(folder)
    assert record is not None
    axes = {"lr": SearchAxis(low=0.1, high=1)}
    searching = SearchRecord(stage="scratch", objective="valid", trials=3, axes=axes)
    starts.begin(record.model_copy(update={"trials": record.trials[:2], "search": searching}))
    for number in range(1, 4):
        starts.add(record.model_copy(update={"trials": record.trials[number:][:1], "search": searching}))
    looked = workspace.examine(old.workspace)
    assert not [*looked.of("damaged")]
    assert [one.path.name for one in looked.of("unverifiable") if one.path.name.endswith("n.json")] == [OLD]
    paths = [Path((folder / "starts" / name).path) for name in ("1.json", "1.2.json", "1.3.json")]
    flip(paths[0])
    cut(paths[1])
    paths[2].unlink()
    paths[2].symlink_to("/nonexistent/x")
    named = found(old.workspace)
    assert {*named} == {str(path.relative_to(old.root)) for path in paths}
    assert {one.after for one in named.values()} == {f"start {SWEEP} again: it is planned anew, what is finished stays"}
    workspace.mend(old.workspace)
    assert found(old.workspace) == {}
    assert [path.name for path in files(folder).values()] == [OLD, "1.1.json"]
    assert not planned(old.workspace).items


@pytest.mark.parametrize("whose", ["pair", "tree"])
def test_a_flipped_bit_of_an_image_is_found_and_a_users_data_are_not_deleted(old: Old, whose: str) -> None:
    shard = min((old.root / "shards" / whose).rglob("test-*.parquet"))
    held = shard.read_bytes()
    place = held.index(b"IDAT") + 20
    shard.write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
    [(name, finding)] = found(old.workspace).items()
    assert name == str(shard.relative_to(old.root))
    assert "the image of " in finding.wrong
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
    for name in ("mini", "shards"):
        shutil.copytree(finished.root / name, copied.root / name)
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
    sample_lists.keep(place, digest, refs)
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


def test_an_identity_is_set_aside_and_a_note_of_a_settled_study_taken_away(old: Old) -> None:
    identity.identify(old.workspace)
    note = old.root / "settled" / "0123.json"
    whole = Settled(lines=("done",), rests=(), makes=(), asked="", seen="")
    storage.put(UPath(note), storage.sealed(whole, UPath(note)))
    (old.root / "settled/.1.json.0123abcd.part").write_text("")
    os.utime(old.root / "settled/.1.json.0123abcd.part", (0, 0))
    assert [*found(old.workspace)] == ["settled/.1.json.0123abcd.part"]
    flip(note)
    flip(old.root / "workspace.json")
    findings = found(old.workspace)
    assert sorted(findings) == ["settled/.1.json.0123abcd.part", "settled/0123.json", "workspace.json"]
    assert "a new id" in findings["workspace.json"].after
    workspace.mend(old.workspace)
    assert found(old.workspace) == {}
    assert [*(old.root / "settled").iterdir()] == []
    assert (old.root / "workspace.json.damaged").exists()
    identity.identify(old.workspace)


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
    with DriverLock(place.root):
        path = tmp_path / "workspace" / f"lock.{lock.generations(place.root)[0]}"
        path.write_bytes(b"{")
        with pytest.raises(WorkspaceError, match="another driver owns"):
            workspace.mend(place)
    path.write_bytes(b"{")
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
    gone = Owner.me().model_copy(update={"ticks": 1})
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


def foreign(root: Path) -> Path:
    """Make a folder that dfloc never worked in, with names like its own."""
    names = (".movie.mkv.part", "lock.mdb", "lock.txt", "mlflow.db", ".seen-by-me", "weights/config.json",
             "lists/abc.json", "trials/t1/done.json", "trials/t1/rows/a.parquet", "shards/my/manifest.json",
             "features/a/b/c/d.npy", "sweeps/x/tune/data", "lists/.thesis.part")  # fmt: skip
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    return root


def test_a_folder_that_never_was_a_workspace_is_left_alone(tmp_path: Path) -> None:
    root = foreign(tmp_path / "mine")
    before = {str(path) for path in root.rglob("*")}
    with pytest.raises(WorkspaceError, match="is not a workspace"):
        workspace.mend(Workspace(root))
    assert {str(path) for path in root.rglob("*")} == before


def test_what_is_not_named_as_dfloc_names_it_is_left_alone(tmp_path: Path) -> None:
    root = foreign(tmp_path / "mine")
    Ledger(Workspace(root)).begin(make_spec())
    before = content(root)
    assert found(Workspace(root)).keys() == {"mlflow.db", "shards/my/manifest.json"}
    workspace.mend(Workspace(root))
    kept = content(root)
    aside = {"mlflow.db", "shards/my/manifest.json"}
    assert {name.removesuffix(".damaged"): value for name, value in kept.items()} == before
    assert kept.keys() == {f"{name}.damaged" if name in aside else name for name in before}


@pytest.mark.parametrize("full", [True, False])
def test_folders_in_files_places_are_taken_away(old: Old, full: bool) -> None:
    npy, other = sorted(old.root.glob("features/*/0/*/0.npy"))[:2]
    paths = [
        old.root / "trials" / old.trial("base").fingerprint / "done.json",
        old.attempt(old.trial("scratch")) / "spec.json",
        old.attempt(old.trial("scratch", 1)) / "epochs.jsonl",
        old.attempt(old.trial("finetune")) / "best.safetensors",
        old.rows(old.trial("baselines")),
        min(old.root.glob("lists/*.json")),
        old.root / "sweeps" / SWEEP / "plan.json",
        npy,
        other.with_suffix(".json"),
    ]
    for path in paths:
        path.unlink()
        path.mkdir()
        if full:
            (path / "mine").write_text("x")
    assert found(old.workspace).keys() == {str(path.relative_to(old.root)) for path in (*paths[:-1], other)}
    assert workspace.mend(old.workspace).stuck == {}
    assert not any(path.exists() for path in paths)
    assert {path.with_name(f"{path.name}.damaged").exists() for path in paths} == {full}
    assert found(old.workspace) == {}


def test_links_to_nothing_and_files_in_a_trials_place_are_taken_away(old: Old) -> None:
    trial, other = old.trial("base"), old.trial("finetune")
    paths = [old.rows(other), min(old.root.glob("lists/*.json")), old.root / f"sweeps/{SWEEP}/plan.json",
             old.root / f"trials/{trial.fingerprint}/done.json"]  # fmt: skip
    for path in paths:
        path.unlink()
        path.symlink_to("/nonexistent/x")
    plain = old.root / "trials" / ("0" * 64)
    plain.write_text("")
    assert found(old.workspace).keys() == {str(path.relative_to(old.root)) for path in (*paths, plain)}
    workspace.mend(old.workspace)
    assert found(old.workspace) == {}
    assert not any(path.is_symlink() for path in (*paths, plain))


def test_an_edited_spec_and_records_without_a_digest_are_named(old: Old) -> None:
    path = old.attempt(old.trial("base")) / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"batch": 99}))
    assert [*found(old.workspace)] == [str(path.relative_to(old.root))]
    unverifiable = [*workspace.examine(old.workspace).of("unverifiable")]
    named = {one.path.name for one in unverifiable if one.kind == "record"}
    assert named == {"plan.json", "manifest.json", *(each.name for each in old.root.glob("trials/*"))}
    assert sum(one.kind == "features" for one in unverifiable) == 16


def test_features_that_a_driver_writes_are_not_damaged(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    path = min(old.root.glob("features/*/0/*/0.npy"))
    receipt, held = path.with_suffix(".json").read_bytes(), path.read_bytes()
    with DriverLock(old.workspace.root):
        path.with_suffix(".json").unlink()
        assert found(old.workspace) == {}
        path.with_suffix(".json").write_bytes(receipt)
        path.write_bytes(held[:-1] + b"!")
        monkeypatch.setattr("dfloc.doctor.features.time.sleep", lambda seconds: path.write_bytes(held))
        assert found(old.workspace) == {}


def test_epochs_that_go_on_meanwhile_are_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path / "workspace")
    attempt = Ledger(place).begin(make_spec())
    attempt.save_epoch(b"one", records(1))
    real = trials.epochs.checkpoints

    def rolled(folder: UPath) -> list[UPath]:
        states = real(folder)
        states[0].unlink()
        return states

    monkeypatch.setattr(trials.epochs, "checkpoints", rolled)
    assert found(place) == {}


def test_a_manifest_that_was_set_aside_still_tells_the_rules(old: Old) -> None:
    folder = old.workspace.shards / "tree"
    before = domains_of(folder)
    flip(min(Path(folder.path).rglob("test-*.parquet")), 0.3)
    workspace.mend(old.workspace)
    assert not (folder / "manifest.json").exists()
    assert domains_of(folder) == before
    [finding] = workspace.examine(old.workspace).of("awaited")
    assert (finding.path.path, finding.after.partition(" ")[0]) == (folder.path, "imported")


def test_a_list_of_ids_alone_has_no_fewer_than_images(old: Old) -> None:
    path = min(old.root.glob("lists/*.json"))
    ids = json.loads(path.read_text())
    values = [str(number) for number in range(len(ids))]
    storage.put_json(UPath(path.with_suffix(".stems")), {"sha256": fingerprint(values), "stems": values})
    assert sample_lists.ids(old.workspace, path.stem) == tuple(sorted(ids))
    path.write_text(json.dumps(ids[1:]))
    with pytest.raises(WorkspaceError, match="fewer ids than images"):
        sample_lists.ids(old.workspace, path.stem)
