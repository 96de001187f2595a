"""Each judgement can fail: a finished study, spoilt in one way at a time, is seen to be."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.command import Result, Study
from tests.faults import judge
from tests.faults.__main__ import KINDS, MOMENTS, moments
from tests.faults.ground import SWEEP, Ground
from tests.faults.judge import State, Wanted

pytestmark = pytest.mark.ray

DONE = Result(0, "done, 0 to run\n", "")


@pytest.fixture(scope="module")
def ground(finished: Study) -> Ground:
    return Ground(finished)


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """A copy of the finished study, of which nothing is shared."""
    shutil.copytree(finished.root, tmp_path / "workspace", ignore=shutil.ignore_patterns("mini", "shards"))
    for name in ("mini", "shards"):
        (tmp_path / "workspace" / name).symlink_to(finished.root / name)
    return Study(tmp_path / "workspace")


def judged(study: Study, ground: Ground, before: State, result: Result = DONE) -> list[str]:
    return list(judge.finished(study, result, ground, before, f"sqlite:///{study.root}/mlflow.db"))


def rubbish(study: Study, ground: Ground, tmp_path: Path, memory: tuple[str, ...] = ()) -> list[str]:
    for name in ("temp", "here"):
        (tmp_path / name).mkdir(exist_ok=True)
    return list(judge.rubbish(study, ground, tmp_path / "temp", tmp_path / "here", lambda: set(memory)))


def one(study: Study, pattern: str) -> Path:
    return min(study.root.glob(pattern))


def test_a_whole_study_is_whole(study: Study, ground: Ground, tmp_path: Path) -> None:
    assert judged(study, ground, State.of(study)) == []
    found = rubbish(study, ground, tmp_path)
    assert [line for line in found if "mini/" not in line] == []


def test_a_number_that_moved_is_seen(study: Study, ground: Ground) -> None:
    before = State.of(study)
    path = study.root / "reports" / SWEEP / "evaluations.csv"
    path.write_text(path.read_text().replace("0.7983951568603516", "0.7983951568603517", 1))
    assert judged(study, ground, before) == ["evaluations.csv is not that of the quiet run"]


def test_rows_that_are_lacking_are_seen(study: Study, ground: Ground) -> None:
    before = State.of(study)
    one(study, "trials/*/rows/*.parquet").unlink()
    assert "epochs or rows are not those of the quiet run" in judged(study, ground, before)


def test_a_trial_that_was_trained_twice_is_seen(study: Study, ground: Ground) -> None:
    before = State.of(study)
    attempt = one(study, "trials/*/attempts/*")
    shutil.copytree(attempt, attempt.with_name("0" * 32))
    assert any("was begun 1 times more" in line for line in judged(study, ground, before))


def test_a_finished_trial_that_was_written_again_is_seen(study: Study, ground: Ground) -> None:
    before = State.of(study)
    done = one(study, "trials/*/done.json")
    done.write_bytes(done.read_bytes())
    assert judged(study, ground, before) == [f"trial {done.parent.name[:12]} was finished, and was written again"]


@pytest.mark.parametrize("change", ["RUNNING", "twice", "gone"])
def test_runs_that_are_not_as_they_should_be_are_seen(study: Study, ground: Ground, change: str) -> None:
    before = State.of(study)
    client = MlflowClient(tracking_uri=f"sqlite:///{study.root}/mlflow.db")
    (experiment,) = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    run = client.search_runs([experiment], "tags.`dfloc.fingerprint` LIKE '%'")[0]
    if change == "twice":
        client.create_run(experiment, tags={"dfloc.fingerprint": run.data.tags["dfloc.fingerprint"]})
    elif change == "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    else:
        client.delete_run(run.info.run_id)
    (line,) = judged(study, ground, before)
    assert line.startswith("MLflow has too much")


@pytest.mark.parametrize("name", [".rows.parquet.0123abcd.part", "sweeps/x/tune/state.json", "lock.0", "mlruns/x"])
def test_what_is_left_in_the_workspace_is_seen(study: Study, ground: Ground, tmp_path: Path, name: str) -> None:
    (study.root / name).parent.mkdir(parents=True, exist_ok=True)
    (study.root / name).write_text("left")
    assert any(line.startswith("left in the workspace: ") for line in rubbish(study, ground, tmp_path))


def test_what_is_left_elsewhere_is_seen(study: Study, ground: Ground, tmp_path: Path) -> None:
    for name in ("temp/dfloc-1", "here/core"):
        (tmp_path / name).mkdir(parents=True)
    found = rubbish(study, ground, tmp_path, ("plasma1",))
    for line in ("temp folder: dfloc-1", "current folder: core", "/dev/shm: plasma1"):
        assert f"left in the {line}".replace("the /", "/") in found


@pytest.mark.parametrize(
    "text",
    [
        'Traceback (most recent call last):\n  File "x"\n',
        "[2026-11-29 01:00:00,000 E 12 34] (gcs_server) gcs_server.cc:12: lost\n",
        "(raylet) one of the workers has died\n",
        "*** SIGTERM received at time=1 ***\n",
        "--- Logging error ---\n",
    ],
)
def test_what_a_user_should_not_see_is_seen(text: str) -> None:
    assert list(judge.screen(Result(0, text, ""))) != []
    assert list(judge.screen(Result(0, "", text))) != []
    assert list(judge.screen(Result(0, "00:50:42 features of images: 4 of 28 done, 0:53 left\n", ""))) == []


def test_how_a_command_ended_is_looked_at() -> None:
    wanted = Wanted((143,), says="Go on with: ", seconds=10)
    right = Result(143, "", "ended by TERM. Go on with: dfloc sweep exposure\n")
    assert list(judge.ended(right, wanted, 3)) == []
    assert len(list(judge.ended(right._replace(code=1), wanted, 3))) == 1
    assert len(list(judge.ended(right._replace(err=""), wanted, 3))) == 1
    assert len(list(judge.ended(right._replace(err=right.err * 2), wanted, 3))) == 1
    assert len(list(judge.ended(right, wanted, 11))) == 1


def test_each_kind_has_its_moment_and_a_seed_repeats_them() -> None:
    drawn = moments(7)
    assert len(drawn) == MOMENTS
    assert {moment.kind for moment in drawn} == set(KINDS)
    assert moments(7) == drawn != moments(8)
    assert all(moment.phase in KINDS[moment.kind].phases for moment in drawn)
