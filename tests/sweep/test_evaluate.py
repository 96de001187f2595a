"""A finished trial on shards that no sweep of it has seen."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from upath import UPath

from dfloc import storage
from dfloc.config import EvaluationSpec, InitFrom, Lineage, SampleList, TrialSpec
from dfloc.data import sample_lists
from dfloc.data.manifest import Manifest, SampleRef, list_digest, read_samples
from dfloc.engine import predict_files
from dfloc.engine.predict import Predictor, facts
from dfloc.errors import ConfigError, DataError, WorkspaceError
from dfloc.features.store import TRUTH, FeatureStore
from dfloc.ledger import Ledger
from dfloc.metrics.protocols import COUNTS
from dfloc.storage import Workspace
from dfloc.summary import relation
from dfloc.sweep import cluster, scores
from dfloc.sweep import evaluate as module
from dfloc.sweep.evaluate import EvaluationRequest, evaluate
from dfloc.sweep.scores import DomainScore
from dfloc.worker_check import WorkerCheck
from tests.engine.fakes import make_spec
from tests.engine.test_predict import put_trial

pytestmark = pytest.mark.ray


class Bench:
    """A workspace with one finished trial, and the tiny data elsewhere."""

    def __init__(self, folder: Path, shards: UPath):
        self.workspace = Workspace(folder / "workspace")
        self.spec = put_trial(self.workspace, size=(64, 64))
        self.shards = shards

    def evaluate(self, **how: Any) -> list[DomainScore]:
        self.console = Console(file=io.StringIO(), width=200)
        asked = {"run": self.spec.fingerprint, "data": str(self.shards), "protocol": "declip-2025"}
        request = EvaluationRequest(workspace=str(self.workspace.root), **(asked | how))
        self.scored = evaluate(request, self.console)
        assert self.scored.spec == self.spec
        return self.scored.lines

    def rows(self) -> set[str]:
        return {path.name for path in Ledger(self.workspace).folder(self.spec.fingerprint).glob("rows/*")}


@pytest.fixture
def bench(tmp_path: Path, tiny_shards: UPath) -> Bench:
    return Bench(tmp_path, tiny_shards)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, tiny_shards: UPath) -> tuple[Bench, list[DomainScore]]:
    """One evaluation of everything local; shared, so not to be changed."""
    bench = Bench(tmp_path_factory.mktemp("scored"), tiny_shards)
    return bench, bench.evaluate()


def test_every_local_domain_is_scored_and_its_rows_are_the_trials(scored: tuple[Bench, list[DomainScore]]) -> None:
    bench, lines = scored
    assert [(line.domain, line.images, line.photographs) for line in lines] == [
        ("tiny/blur", 4, 2),
        ("tiny/noise", 4, 2),
    ]
    ledger = Ledger(bench.workspace)
    for line in lines:
        refs = read_samples(bench.shards, Manifest.load(bench.shards), line.domain, "test")
        test = SampleList(digest=list_digest(refs), counts={})
        evaluation = EvaluationSpec(
            trial=bench.spec.fingerprint, checkpoint="best", domain=line.domain, test=test, protocol="declip-2025"
        )
        rows = ledger.rows(bench.spec.fingerprint, evaluation.key)
        assert sorted(rows["id"].to_pylist()) == sorted(ref.id for ref in refs)
        assert line.values["iou"] == pytest.approx(np.mean(rows["iou"]))
        assert line.photographs == 2
        assert line.interval is None, "two photographs tell no spread"
        assert list(line.values) == ["iou", "f1_fixed", "f1_best", "ap", "pbca"]


def test_rows_of_an_earlier_version_stand_beside_new_ones(bench: Bench) -> None:
    bench.evaluate(domains=("tiny/blur",))
    ledger = Ledger(bench.workspace)
    [name] = bench.rows()
    key = name.partition(".")[0]
    new = ledger.rows(bench.spec.fingerprint, key)
    ledger.put_rows(bench.spec.fingerprint, key, new.drop_columns(["out_of_range"]))
    asked = EvaluationRequest(
        workspace=str(bench.workspace.root),
        run=bench.spec.fingerprint,
        data=str(bench.shards),
        protocol="declip-2025",
    )
    scored = evaluate(asked, bench.console)
    assert [line.domain for line in scored.lines] == ["tiny/blur", "tiny/noise"]
    assert scored.rows["out_of_range"].to_pylist() == [None] * 4 + [False] * 4
    assert scored.rows["iou"].to_pylist()[:4] == new["iou"].to_pylist()


def test_predict_says_of_the_same_files_what_the_rows_say(
    scored: tuple[Bench, list[DomainScore]], tmp_path: Path
) -> None:
    """From the PNG of a 64x64 test image, by this test's own counting: tp, mean probability, and IoU of the domain."""
    bench, lines = scored
    tree = Path(bench.shards.parent.path) / "tree/tiny/fake/blur"
    predictor = Predictor.load(bench.workspace, bench.spec, "best", "cpu")
    found, _ = predict_files.find([tree / "images/test"])
    assert {
        wrong for _, wrong, _ in predict_files.predict(predictor, found, tmp_path, facts(bench.spec, "best", None))
    } == {""}
    [path] = [p for p in (bench.workspace.trials / bench.spec.fingerprint / "rows").glob("*") if "blur" in names(p)]
    ious = []
    for row in pq.read_table(path.path).to_pylist():
        name = row["id"].rpartition("/")[2]
        prob = np.asarray(Image.open(tmp_path / f"{name[:-4]}.prob.png"))
        fake = np.asarray(Image.open(tree / "masks/test" / name)) == 0
        assert prob.shape == (64, 64)
        called = prob >= 128
        assert int((called & fake).sum()) == row["tp"]
        assert int((called & ~fake).sum()) == row["fp"]
        assert prob.mean() / 255 == pytest.approx(row["mean_prob"], abs=1 / 255)
        assert storage.get_json(UPath(tmp_path) / f"{name[:-4]}.json")["mean_prob"] == pytest.approx(row["mean_prob"])
        ious.append(row["tp"] / (called | fake).sum())
    assert lines[0].values["iou"] == pytest.approx(np.mean(ious))
    assert 0 < np.mean(ious) < 1


def names(path: UPath) -> str:
    return str(pq.read_table(path.path, columns=["domain"])["domain"][0])


def test_a_second_time_nothing_is_computed(
    scored: tuple[Bench, list[DomainScore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, lines = scored

    def refuse(*args: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("dfloc.workers.Workers.start", refuse)
    assert bench.evaluate() == lines


def test_domains_split_and_checkpoint_are_what_was_asked(bench: Bench) -> None:
    lines = bench.evaluate(domains=("noise", "tiny/real"), split="valid", checkpoint="last")
    assert [(line.domain, line.images) for line in lines] == [("tiny/noise", 4), ("tiny/real", 4)]
    assert lines[1].values["ap"] == 0, "nothing of a photograph is fake"
    rows = [
        Ledger(bench.workspace).rows(bench.spec.fingerprint, name.removesuffix(".parquet")).to_pylist()[0]
        for name in bench.rows()
    ]
    found = {(row["split"], row["checkpoint"], row["domain"]) for row in rows}
    assert found == {("valid", "last", "tiny/noise"), ("valid", "last", "tiny/real")}


@pytest.mark.slow
def test_a_tree_is_imported_once(
    bench: Bench, scored: tuple[Bench, list[DomainScore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.shards.parent.path)
    tree = "tree"
    assert bench.evaluate(data=tree) == scored[1], "the same images by another way"
    before = {path: path.stat().st_mtime_ns for path in Path(bench.workspace.root.path).rglob("*.parquet")}
    assert (bench.workspace.shards / "tree" / "manifest.json").exists()
    assert bench.evaluate(data=tree) == scored[1]
    assert {path: path.stat().st_mtime_ns for path in Path(bench.workspace.root.path).rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"run": "abcdef"}, WorkspaceError, "no trial abcdef"),
        ({"data": "gone"}, DataError, "--data gone"),
        ({"protocol": "declip-2024"}, ConfigError, 'did you mean "declip-2025"'),
        ({"domains": ("tiny/blurr",)}, ConfigError, 'unknown domain "tiny/blurr"; did you mean'),
        ({"address": "ray://head:10001"}, ConfigError, "ray job submit"),
        ({"workspace": "nowhere"}, WorkspaceError, "no trial"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(
    bench: Bench, how: dict[str, Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.workspace.root.path)
    asked = {"run": bench.spec.fingerprint, "data": str(bench.shards), "protocol": "declip-2025"}
    asked |= {"workspace": str(bench.workspace.root)} | how
    with pytest.raises(error, match=said):
        evaluate(EvaluationRequest(**asked), Console(file=io.StringIO()))
    assert bench.rows() == set()


def test_another_driver_is_refused(bench: Bench) -> None:
    code = (
        "import sys, time; from upath import UPath; from dfloc.lock import DriverLock\n"
        f"with DriverLock(UPath({str(bench.workspace.root)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match=f"pid {other.pid}"):
            bench.evaluate()
        other.kill()


def test_a_backbone_that_cannot_be_made_is_one_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bench.spec
    lost = spec.model_copy(update={"maps": (spec.maps[0].model_copy(update={"weights": "f" * 64}),)})
    Ledger(bench.workspace).put_imported(
        lost, Ledger(bench.workspace).weights(spec.fingerprint, "best").read_bytes(), {}
    )
    bench.spec = lost
    with pytest.raises(WorkspaceError, match=r"the weights f{12} of srm are not known"):
        bench.evaluate()


@pytest.mark.slow
def test_a_node_that_joined_later_proves_itself_before_it_computes_or_scores(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(mine: cluster.Cluster, workspace: Workspace, data: list[str]) -> None:
        mine.proof = WorkerCheck.begin(workspace, data)._replace(runs={"dfloc": "0.0.1"})

    monkeypatch.setattr(cluster.Cluster, "prove", prove)
    for _ in range(2):
        with pytest.raises(
            WorkspaceError, match=r"node \S+ runs dfloc \S+ \(source \w+\) from \S+ \(the driver: dfloc 0\.0\.1 from"
        ):
            bench.evaluate(split="valid")
        assert bench.rows() == set()
        monkeypatch.setattr("dfloc.features.extract.missing", lambda *args: [])


def test_photographs_that_it_or_an_ancestor_was_trained_on_are_counted(bench: Bench) -> None:
    manifest, ledger = Manifest.load(bench.shards), Ledger(bench.workspace)
    train, test = (read_samples(bench.shards, manifest, "tiny/blur", split) for split in ("train", "test"))
    digest = list_digest(train[:3])
    parent = make_spec(train=SampleList(digest=digest, counts={"tiny/blur": 3}))
    ledger.begin(parent)
    storage.put_json(bench.workspace.lists / f"{digest}.json", [ref.id for ref in train[:3]])  # as 40e56a3 wrote it
    child = make_spec(init={"decoder": InitFrom(parent=parent.fingerprint)})
    for refs, expected in ((train, len({ref.stem for ref in train[:3]})), (test, 0)):
        evaluated = SampleList(digest=list_digest(refs), counts={"tiny/noise": len(refs)})
        evaluation = EvaluationSpec(
            trial=child.fingerprint, checkpoint="best", domain="tiny/noise", test=evaluated, protocol="declip-2025"
        )
        names = ("iou", "f1_fixed", "f1_best", "ap", "pbca", *COUNTS)
        columns = {name: [0.5] * len(refs) for name in names}
        columns |= {"protocol": ["declip-2025"] * len(refs), "stem": [ref.stem for ref in refs]}
        ledger.put_rows(child.fingerprint, evaluation.key, pa.table(columns))
        assert scores.line(bench.workspace, child, evaluation, refs).trained_on is None, "no shards, no spelling"
        assert scores.line(bench.workspace, child, evaluation, refs, [bench.shards]).trained_on == expected
        sample_lists.keep(bench.workspace, digest, train[:3])
        assert scores.line(bench.workspace, child, evaluation, refs).trained_on == expected
        (bench.workspace.lists / f"{digest}.stems").unlink()


def test_images_that_it_or_an_ancestor_was_trained_on_are_counted_by_their_pixels(bench: Bench) -> None:
    """Two of four test images have the pixels of training images; of which list, and whether all are known."""
    manifest, ledger = Manifest.load(bench.shards), Ledger(bench.workspace)
    train, test = (read_samples(bench.shards, manifest, "tiny/blur", split) for split in ("train", "test"))
    parent = make_spec(train=SampleList(digest=list_digest(train[:3]), counts={"tiny/blur": 3}))
    ledger.begin(parent)
    start = {"decoder": InitFrom(parent=parent.fingerprint)}
    child = make_spec(init=start, train=SampleList(digest=list_digest(train[3:5]), counts={"tiny/blur": 2}))
    asked = [
        test[0],
        *(ref._replace(pixels_sha256=seen.pixels_sha256) for ref, seen in zip(test[1:3], train[2:4], strict=True)),
    ]

    def count(refs: list[SampleRef]) -> tuple[int | None, bool]:
        return scores._by_pixels(bench.workspace, child, refs)

    assert count(asked) == (None, False), "no list says what was seen"
    sample_lists.keep(bench.workspace, child.train.digest, train[3:5])
    assert count(asked) == (1, False), "the parent's is not known"
    sample_lists.keep(bench.workspace, parent.train.digest, train[:3])
    assert count(asked) == (2, True)
    assert count(test) == (0, True)
    assert count([*asked, test[3]._replace(pixels_sha256="")]) == (2, False)
    assert count([ref._replace(pixels_sha256="") for ref in asked]) == (None, False)
    orphan = make_spec(init={"decoder": InitFrom(parent="0" * 64)}, train=child.train)
    assert scores._by_pixels(bench.workspace, orphan, asked) == (1, False), "an ancestor is not in the workspace"
    path = bench.workspace.lists / f"{child.train.digest}.pixels"
    path.write_text(path.read_text().replace(train[3].pixels_sha256, "0" * 64))
    with pytest.raises(WorkspaceError, match="damaged"):
        count(asked)


@pytest.mark.parametrize(
    ("lineage", "counts", "expected"),
    [
        (Lineage(base=("a/ldm",)), {"a/ldm": 4}, {"b/ldm": "in", "a/lama": "out"}),
        (Lineage(base=("a/ldm",), seen=("a/ldm",), root="r"), {"a/lama": 4}, {"a/ldm": "in", "a/lama": "in"}),
        (Lineage(base=("a/repaint-p2",)), {}, {"a/repaint-p2-9k": "in"}),
        (Lineage(), {}, {"a/ldm": "unknown"}),
        (Lineage(root="r"), {"a/lama": 4}, {"a/lama": "in", "a/ldm": "unknown"}),
    ],
)
def test_relation(lineage: Lineage, counts: dict[str, int], expected: dict[str, str]) -> None:
    spec: TrialSpec = make_spec(lineage=lineage, train=SampleList(digest="t", counts=counts))
    assert {domain: relation(spec, domain, {}) for domain in expected} == expected


def test_features_that_a_worker_finds_damaged_are_made_again(
    bench: Bench, scored: tuple[Bench, list[DomainScore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    score, store = module._score, FeatureStore(bench.workspace.features)
    spoilt: list[UPath] = []

    def late(*args: Any) -> None:
        """Spoil every map between the plan and the first work."""
        for path in [path for path in store.files() if TRUTH.fingerprint not in path.parts and not spoilt]:
            path.write_bytes(path.read_bytes()[:-1] + b"\7")
            spoilt.append(path)
            break
        score(*args)

    monkeypatch.setattr(module, "_score", late)
    assert bench.evaluate() == scored[1]
    assert len(spoilt) == 1
    assert "1 groups of stored features were damaged, they are made again" in bench.console.file.getvalue()
    assert {store.state(path) for path in store.files()} == {"whole"}
