"""`dfloc-1` against scikit-learn, image by image, and its edge cases one by one."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional

from dfloc.metrics import counts, native, protocols, score
from tests.metrics.test_pixel import KINDS, maps, truths

KEYS = ["iou", "f1", "ap", "auc", "mcc", "pbca"]
NAN = math.nan
EMPTY, FULL = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
HALF = torch.tensor([[[1, 1, 0, 0]]], dtype=torch.bool).expand(1, 4, 4).contiguous()
BLANK, ALL = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
ONE = BLANK.clone()
ONE[0, 0, 0] = 1

# iou, f1, ap, auc, mcc, pbca
EDGES = {
    "empty truth, empty map": (BLANK, EMPTY, 1, 1, NAN, NAN, 0, 1),
    "empty truth, one false alarm": (ONE, EMPTY, 0, 0, NAN, NAN, 0, 15 / 16),
    "empty truth, full map": (ALL, EMPTY, 0, 0, NAN, NAN, 0, 0),
    "full truth, full map": (ALL, FULL, 1, 1, NAN, NAN, 0, 1),
    "full truth, empty map": (BLANK, FULL, 0, 0, NAN, NAN, 0, 0),
    "full truth, one pixel found": (ONE, FULL, 1 / 16, 2 / 17, NAN, NAN, 0, 1 / 16),
    "half a truth, empty map": (BLANK, HALF, 0, 0, 0.5, 0.5, 0, 0.5),
    "half a truth, full map": (ALL, HALF, 0.5, 2 / 3, 0.5, 0.5, 0, 0.5),
    "half a truth, found": (HALF.float(), HALF, 1, 1, 1, 1, 1, 1),
    "half a truth, inverted": (1 - HALF.float(), HALF, 0, 0, 0.5, 0, -1, 0),
    "half a truth, found under the threshold": (HALF * 0.4, HALF, 0, 0, 1, 1, 0, 0.5),
    "half a truth, exactly the threshold": (HALF * 0.5, HALF, 0, 0, 1, 1, 0, 0.5),
}


@pytest.mark.parametrize("case", EDGES)
def test_edge_cases(case: str) -> None:
    prob_BHW, fake_BHW, *expected = EDGES[case]
    got = score(prob_BHW, fake_BHW, "dfloc-1")
    assert list(got) == KEYS
    np.testing.assert_allclose([got[key].item() for key in KEYS], expected, rtol=1e-12)


def test_cases_in_one_batch_are_the_cases_alone() -> None:
    whole = [torch.cat([case[place] for case in EDGES.values()]) for place in (0, 1)]
    got = score(whole[0], whole[1], "dfloc-1")
    np.testing.assert_allclose(
        np.stack([got[key] for key in KEYS]).T, [case[2:] for case in EDGES.values()], rtol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_scikit_learns(kind: str) -> None:
    fake_BHW = truths(5)
    prob_BHW = maps(kind, fake_BHW)
    got = score(prob_BHW, fake_BHW, "dfloc-1")
    for index, (prob, fake) in enumerate(zip(prob_BHW.flatten(1).numpy(), fake_BHW.flatten(1).numpy(), strict=True)):
        called = prob > 0.5
        expected = {
            "iou": sk.jaccard_score(fake, called, zero_division=1),
            "f1": sk.f1_score(fake, called, zero_division=1),
            "ap": sk.average_precision_score(fake, prob),
            "auc": sk.roc_auc_score(fake, prob),
            "mcc": sk.matthews_corrcoef(fake, called),
            "pbca": sk.accuracy_score(fake, called),
        }
        assert {key: value[index].item() for key, value in got.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_no_pixel_at_the_border_is_left_out() -> None:
    fake_BHW = torch.zeros(1, 12, 12, dtype=torch.bool)
    fake_BHW[0, 3:9, 3:9] = True
    missed = score(torch.zeros(1, 12, 12), fake_BHW, "dfloc-1")["f1"]
    assert missed == 0
    assert score(torch.zeros(1, 12, 12), fake_BHW, "declip-2025")["f1_fixed"] == 1, "a truth that erodes to nothing"


def test_map_is_resized_and_truth_is_over_half() -> None:
    prob_BHW = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(0))
    fakeness_BHW = torch.randint(0, 256, (2, 20, 33), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    resized = functional.interpolate(prob_BHW[:, None], (20, 33), mode="bilinear", antialias=True)[:, 0]
    got, expected = score(prob_BHW, fakeness_BHW, "dfloc-1"), score(resized, fakeness_BHW > 127, "dfloc-1")
    for key in KEYS:
        assert torch.equal(got[key], expected[key])


def test_counts_on_the_grid_are_those_of_each_threshold() -> None:
    fake_BHW = truths(3)
    prob_BHW = (maps("noisy", fake_BHW) * 20).round() / 20  # many pixels lie exactly on a threshold
    found = counts(prob_BHW, fake_BHW, "dfloc-1")
    assert found["grid_tp"].shape == found["grid_fp"].shape == (3, 19)
    for place, threshold in enumerate(native.GRID):
        called_BHW = prob_BHW > torch.tensor(threshold, dtype=torch.float32)
        assert torch.equal(found["grid_tp"][:, place], (called_BHW & fake_BHW).sum((1, 2)))
        assert torch.equal(found["grid_fp"][:, place], (called_BHW & ~fake_BHW).sum((1, 2)))
    at_half = native.GRID.index(0.5)
    assert torch.equal(found["grid_tp"][:, at_half], found["tp"])
    assert torch.equal(found["grid_fp"][:, at_half], found["fp"])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_BHW = truths(5)
    prob_BHW = maps("noisy", fake_BHW)
    whole = score(prob_BHW, fake_BHW, "dfloc-1") | counts(prob_BHW, fake_BHW, "dfloc-1")
    monkeypatch.setattr(protocols, "CHUNK_PIXELS", 2 * 48 * 48)
    parts = score(prob_BHW, fake_BHW, "dfloc-1") | counts(prob_BHW, fake_BHW, "dfloc-1")
    for key in whole:
        assert torch.equal(whole[key], parts[key]), key


def test_protocols_without_a_grid_count_none() -> None:
    assert "grid_tp" not in counts(BLANK, HALF, "declip-2025")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(kind: str) -> None:
    fake_BHW = truths(4)
    prob_BHW = maps(kind, fake_BHW)
    for measure in (score, counts):
        for key, value in measure(prob_BHW.cuda(), fake_BHW.cuda(), "dfloc-1").items():
            expected = measure(prob_BHW, fake_BHW, "dfloc-1")[key]
            torch.testing.assert_close(value.cpu(), expected, rtol=1e-12, atol=0, equal_nan=True)
