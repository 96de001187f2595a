"""`dfloc.results`, `dfloc.rows`, `dfloc.load`: what they give is what the ledger has and what predict says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import dfloc
from dfloc import metrics
from dfloc.config import EvaluationSpec, SampleList, TrialSpec
from dfloc.engine.predict import Predictor
from dfloc.errors import ConfigError, DataError, WorkspaceError
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from tests.engine.test_predict import put_head, put_trial
from tests.report import studies

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def spec(workspace: Workspace) -> TrialSpec:
    return put_trial(workspace)


def put(workspace: Workspace, spec: TrialSpec, protocol: str, domain: str = "a/b") -> None:
    """Give a trial rows of random maps."""
    test = SampleList(digest=domain, counts={domain: 3})
    given = {"trial": spec.fingerprint, "checkpoint": "best", "domain": domain, "test": test, "protocol": protocol}
    generator = torch.Generator().manual_seed(0)
    prob, truth = torch.rand(3, 8, 8, generator=generator), torch.rand(3, 8, 8, generator=generator) > 0.5
    found = metrics.score(prob, truth, protocol) | metrics.counts(prob, truth, protocol)
    names = {"domain": domain, "split": "test", "condition": "clean", "protocol": protocol, "checkpoint": "best"}
    table = pa.table({key: value.tolist() for key, value in found.items()})
    for name, value in names.items():
        table = table.append_column(name, pa.array([value] * 3))
    table = table.append_column("id", pa.array([f"{domain}/test/{k}" for k in range(3)]))
    Ledger(workspace).put_rows(spec.fingerprint, EvaluationSpec(**given).key, table)


def test_rows_of_all_evaluations(workspace: Workspace, spec: TrialSpec) -> None:
    for protocol, domain in (("declip-2025", "a/b"), ("declip-2025", "c/d"), ("dfloc-1", "a/b")):
        put(workspace, spec, protocol, domain)
    frame = dfloc.rows(spec.fingerprint[:8], str(workspace.root))
    assert frame.groupby(["protocol", "domain"]).size().to_dict() == {
        ("declip-2025", "a/b"): 3,
        ("declip-2025", "c/d"): 3,
        ("dfloc-1", "a/b"): 3,
    }
    assert frame[frame.protocol == "declip-2025"]["auc"].isna().all()
    ours = frame[frame.protocol == "dfloc-1"]
    assert ours["auc"].notna().all()
    assert ours["f1_fixed"].isna().all()
    again = metrics.summarise(ours, "dfloc-1", ours)
    assert again["pooled_iou"] == pytest.approx(ours.tp.sum() / (ours.tp + ours.fp + ours.fn).sum())


def test_the_workspace_of_the_environment(
    workspace: Workspace, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(workspace, spec, "dolos-2024")
    monkeypatch.setenv("DFLOC_WORKSPACE", str(workspace.root))
    assert len(dfloc.rows(spec.fingerprint)) == 3


def test_a_loaded_trial_says_what_predict_says(workspace: Workspace, spec: TrialSpec) -> None:
    trial = dfloc.load(spec.fingerprint[:8], str(workspace.root))
    assert trial.spec == spec
    prob_HW = trial(IMAGE)
    assert (prob_HW.dtype, prob_HW.shape) == (np.float32, (40, 56))
    expected = Predictor.load(workspace, spec, "best", "cpu")(IMAGE).prob_HW.numpy()
    np.testing.assert_array_equal(prob_HW, expected)
    assert not np.array_equal(prob_HW, trial(IMAGE[::-1].copy()))
    sharper = dfloc.load(spec.fingerprint, str(workspace.root), protocol="dolos-2024")(IMAGE)
    assert not np.array_equal(prob_HW, sharper), "another protocol resizes otherwise"
    assert 0 <= sharper.min() <= sharper.max() <= 1


def test_a_loaded_detector_scores_an_image_or_several(workspace: Workspace) -> None:
    trial = dfloc.load(put_head(workspace).fingerprint, str(workspace.root))
    assert trial.classes == ("real", "fake")
    images = np.stack([IMAGE, IMAGE[::-1]])
    scores = trial(images)
    assert (scores.shape, trial(IMAGE).shape) == ((2,), ())
    assert [float(trial(image)) for image in images] == scores.tolist()
    assert scores[0] != scores[1]
    np.testing.assert_allclose(trial.probabilities(images), np.stack([1 - scores, scores], axis=1), rtol=1e-12)
    said = Predictor.load(workspace, trial.spec, "best", "cpu")(IMAGE)
    assert trial.probabilities(IMAGE).tolist() == list(said.probabilities.values())
    with pytest.raises(ConfigError, match="gives no map, which protocol declip-2025 measures"):
        dfloc.load(trial.spec.fingerprint, str(workspace.root), protocol="declip-2025")


def test_a_loaded_localizer_takes_several_images_and_knows_no_classes(workspace: Workspace, spec: TrialSpec) -> None:
    trial = dfloc.load(spec.fingerprint, str(workspace.root))
    images = np.stack([IMAGE, IMAGE[::-1]])
    maps = trial(images)
    assert maps.shape == (2, 40, 56)
    np.testing.assert_array_equal(maps[1], trial(images[1]))
    with pytest.raises(ConfigError, match="localizes and knows no classes"):
        trial.probabilities(IMAGE)


@pytest.mark.parametrize(
    "image", [IMAGE / 255, IMAGE[..., 0], IMAGE[..., :2], IMAGE[:0], np.zeros((4, 4, 4), np.uint8)]
)
def test_what_is_no_image(workspace: Workspace, spec: TrialSpec, image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"RGB image, uint8 \[H, W, 3\], or several of one size, \[N, H, W, 3\], came"):
        dfloc.load(spec.fingerprint, str(workspace.root))(image)


def test_mistakes(workspace: Workspace, spec: TrialSpec) -> None:
    with pytest.raises(WorkspaceError, match=r"has no rows: .* dfloc evaluate"):
        dfloc.rows(spec.fingerprint, str(workspace.root))
    with pytest.raises(ConfigError, match='no trial is called "best one"'):
        dfloc.load("best one", str(workspace.root))
    with pytest.raises(ConfigError, match="unknown protocol"):
        dfloc.load(spec.fingerprint, str(workspace.root), protocol="trufor")
    with pytest.raises(ConfigError, match='unknown checkpoint "bset"; did you mean "best"'):
        dfloc.load(spec.fingerprint, str(workspace.root), checkpoint="bset")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no attribute lod"):
        dfloc.lod  # noqa: B018


def test_results_are_those_of_the_latest_start(workspace: Workspace) -> None:
    maker = studies.Maker(num_test=16)
    maker.plan("alone", {studies.MINI[0]: 4})
    record = studies.record(maker, "mini")
    studies.fill(workspace, record, checkpoints=("best",))
    record.save(workspace.sweep(record.sweep))
    for name in (record.name, record.sweep):
        frame = dfloc.results(name, str(workspace.root))
        assert frame.attrs["sweep"] == record.sweep
        assert [*frame.test_domain] == [*studies.MINI]
        for line in frame.itertuples():
            own = dfloc.rows(line.trial, str(workspace.root))
            assert line.iou == pytest.approx(own[own.domain == line.test_domain].iou.mean(), rel=1e-9)
            assert line.num_images == 16


def test_what_has_no_results_is_one_message(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"there is no workspace .*nowhere; name one by workspace= or \$DFLOC"):
        dfloc.results("exposure", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"sweep exposure was not run in workspace .*; run it: dfloc sweep exposure"):
        dfloc.results("exposure", str(workspace.root))
    with pytest.raises(ConfigError, match='unknown sweep "exposur"; did you mean "exposure"'):
        dfloc.results("exposur", str(workspace.root))


def test_importing_dfloc_stays_light() -> None:
    code = "import sys, dfloc; print('torch' in sys.modules, 'load' in dir(dfloc), 'rows' in dir(dfloc))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
