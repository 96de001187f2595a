"""What 40e56a3 left behind is read as it was: the same numbers, nothing to train, the same images and truth."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from dfloc.data.manifest import Manifest, SampleRef, read_samples
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.ledger import Ledger
from dfloc.metrics import degenerate
from dfloc.record import SweepRecord, files
from dfloc.report.build import build
from dfloc.storage import Workspace
from dfloc.sweep.work import Work, run
from tests.golden.points import PROCESSOR, assert_same, points, processor
from tests.old import planned, unpacked
from tests.old.make import HERE, PAIR, SWEEP

TRUTH = {  # what 40e56a3 read: the manifest's digest, and a digest of every id, size and fakeness
    "pair": (
        "250a0c0d359b9258c175b8dd6d353817e890cc1b36ac32a7807c90eb57fbfab9",
        "9621e8f3469c7174dbfb649b6b15dac9e3c13d55f43d689803e8dacc44c81347",
    ),
    "tree": (
        "005df51b33e1595975023cd8fbfe9e8394fd875e380a904f8cc0be5207d47612",
        "56c53985b8ee4621dd6e27bdc1ead3d815804071273bd8cdaafbf8c6cdbc7d96",
    ),
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The old workspace, in another place than where it was made."""
    return unpacked(tmp_path / "moved")


@pytest.fixture
def record(workspace: Workspace) -> SweepRecord:
    found = SweepRecord.load(workspace.sweep(SWEEP))
    assert found is not None
    return found


def test_nothing_is_left_to_train_and_no_image_passes_again(workspace: Workspace, record: SweepRecord) -> None:
    plan = planned(workspace)
    assert {trial.fingerprint for trial in record.trials} <= {trial.fingerprint for trial in plan.record.trials}
    assert len({trial.fingerprint for trial in record.trials}) == 19
    assert not [item.name for item in plan.items if item.train]
    assert not plan.jobs
    keys = {trial.fingerprint: {each.key for each in trial.evaluations} for trial in record.trials}
    for item in plan.items:  # a later protocol may ask for more, of what is there for nothing
        assert not {each.key for each in item.evaluations} & keys[item.trial.fingerprint]


def test_a_start_of_today_goes_on_from_the_old_record_and_leaves_it_as_it_was(
    workspace: Workspace, record: SweepRecord
) -> None:
    """The old file is the first start; the next one is put beside it, and the page is as it was."""
    folder = workspace.sweep(SWEEP)
    before = {path.path: path.read_bytes() for path in files(folder).values()}
    union = planned(workspace).record.save(folder)
    assert {trial.fingerprint for trial in union.trials} == {trial.fingerprint for trial in record.trials}
    assert union.replaced == ()
    assert {path.path: path.read_bytes() for path in files(folder).values()}.items() >= before.items()
    assert_same(points(Path(build(workspace, union).path) / "evaluations.csv"), points(HERE / "evaluations.csv"))


def test_the_report_has_the_same_point_values(workspace: Workspace, record: SweepRecord) -> None:
    folder = Path(build(workspace, record).path)
    golden = points(HERE / "evaluations.csv")
    assert len(golden) == sum(len(trial.evaluations) for trial in record.trials) > 70
    assert_same(points(folder / "evaluations.csv"), golden)


def test_weights_features_and_lists_give_the_old_rows_again(workspace: Workspace, record: SweepRecord) -> None:
    ledger = Ledger(workspace)
    for stage in ("base", "finetune", "baselines"):
        trial = next(trial for trial in record.trials if trial.stage == stage)
        before = {each.key: ledger.rows(trial.fingerprint, each.key).to_pylist() for each in trial.evaluations}
        for path in (ledger.folder(trial.fingerprint) / "rows").iterdir():
            path.unlink()
        data = workspace.shards / "tree"
        assert list(run(Work(trial.spec, False, trial.evaluations, workspace, data)))[-1]["finished"]
        for key, old in before.items():
            new = ledger.rows(trial.fingerprint, key)
            assert {*new.column_names} - {*old[0]} == {"spread", "out_of_range"}, "what rows have today besides"
            rows = new.select(list(old[0])).to_pylist()
            if processor() == PROCESSOR:
                assert repr(rows) == repr(old)  # to the last digit, NaN included
            for row, other in zip(rows, old, strict=True):
                assert row["id"] == other["id"]
                assert row["ap"] == pytest.approx(other["ap"], rel=1e-3, nan_ok=True)


def test_all_fake_of_any_old_rows_is_what_the_planned_baseline_scored(
    workspace: Workspace, record: SweepRecord
) -> None:
    """To the last bit, but for AP: on 48 x 48 pixels the resize of the baseline's maps rounds, and noise is ranked."""
    ledger = Ledger(workspace)
    planned, other = (
        next(trial for trial in record.trials if test(trial.spec.decoder.name))
        for test in (lambda name: name == "all-fake", lambda name: name == "conv")
    )
    for mine, theirs in zip(planned.evaluations, other.evaluations, strict=True):
        assert mine.test.digest == theirs.test.digest
        scored, rows = (ledger.scored(each) for each in (mine, theirs))
        found = degenerate.all_fake(rows, mine.protocol)
        assert {key: found[key].tolist() for key in ("iou", "pbca")} == scored.select(["iou", "pbca"]).to_pydict()
        assert found["ap"].tolist() == pytest.approx(scored["mask_area"].to_pylist(), rel=1e-12), "prevalence"


def test_epochs_and_views_of_a_trial_are_read(workspace: Workspace, record: SweepRecord) -> None:
    trained = [trial for trial in record.trials if trial.stage == "scratch"]
    assert {len(Ledger(workspace).epochs(trial.fingerprint)) for trial in trained} == {2}
    augmented = [trial for trial in trained if trial.spec.augment]
    assert augmented
    for path in Ledger(workspace).folder(augmented[0].fingerprint).rglob("done.json"):
        path.unlink()
    plan = planned(workspace)
    assert [item.trial.fingerprint for item in plan.items if item.train] == [augmented[0].fingerprint]
    assert not plan.jobs, "its views are there"


def read(folder: UPath) -> Iterator[SampleRef]:
    manifest = Manifest.load(folder)
    for domain in sorted(manifest.domains):
        for split in ("train", "valid", "test"):
            yield from read_samples(folder, manifest, domain, split)


@pytest.mark.parametrize("name", TRUTH)
def test_shards_have_the_same_truth(workspace: Workspace, name: str) -> None:
    folder, digest = workspace.shards / name, hashlib.sha256()
    for sample in read(folder):
        [truth_HW] = read_truth(folder, [sample])
        digest.update(f"{sample.id} {truth_HW.shape}".encode())
        digest.update(truth_HW.tobytes())
    assert (Manifest.load(folder).digest, digest.hexdigest()) == TRUTH[name]


def test_a_folder_pair_keeps_the_photographs_of_its_import(workspace: Workspace) -> None:
    folder = workspace.shards / "pair"
    stems = {sample.id.rpartition("/")[2]: sample.stem for sample in read(folder)}
    assert stems == {f"{name}.png": f"mine/{name.partition('-')[0]}" for name in PAIR}
    rows = ShardReader(folder).group("mine/sd/test-00000.parquet", 0)
    assert {decode_image(row["image"]["bytes"]).shape for row in rows} == {(32, 40, 3), (32, 41, 3), (32, 42, 3)}
    assert all(row["mask"]["bytes"].startswith(b"\xff\xd8") for row in rows), "JPEG, as it was given"
