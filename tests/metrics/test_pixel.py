"""Numbers against scikit-learn, scipy and a slow reading of the definitions, image by image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.metrics import average_precision_score
from torch.nn import functional

from dfloc.metrics import pixel, score

SIDE = 48


def truths(num: int, side: int = SIDE) -> torch.Tensor:
    """Rectangles of many sizes, some at the edge."""
    rng = np.random.default_rng(3)
    fake_BHW = torch.zeros(num, side, side, dtype=torch.bool)
    for fake_HW in fake_BHW:
        top, left = rng.integers(0, side - 20, 2)
        height, width = rng.integers(16, side, 2)
        fake_HW[top : top + height, left : left + width] = True
    return fake_BHW


def maps(kind: str, fake_BHW: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    noise_BHW = torch.rand(fake_BHW.shape, generator=generator)
    prob_BHW = 0.6 * noise_BHW + 0.4 * fake_BHW
    match kind:
        case "noisy":
            return prob_BHW
        case "8-bit":
            return (prob_BHW * 255).round() / 255
        case "five levels":
            return (prob_BHW * 4).round() / 4
        case "two levels":
            return (prob_BHW > 0.7).float()
        case "saturated":
            return torch.sigmoid((prob_BHW - 0.5) * 200)
        case "tiny":
            return prob_BHW * 1e-41
    raise AssertionError(kind)


KINDS = ["noisy", "8-bit", "five levels", "two levels", "saturated", "tiny"]


def slow_f1(prob_HW: np.ndarray, fake_HW: np.ndarray) -> tuple[float, float]:
    """F1 at 0.5 and at the best of all cuts, as the protocol tells it: filters, then one count per threshold."""
    sure = minimum_filter(fake_HW.astype(float), 15, mode="constant", cval=np.inf) > 0
    pristine = ~(maximum_filter(fake_HW.astype(float), 11, mode="constant", cval=0) > 0)

    def f1(called: np.ndarray) -> float:
        tp, fp, fn = (called & sure).sum(), (called & pristine).sum(), (~called & sure).sum()
        return (2 * tp + 1e-32) / max(2 * tp + fp + fn, 1e-32)

    fixed = f1(prob_HW > 0.5)
    levels = np.unique(prob_HW[sure | pristine])[:-1]
    best = max([f1(prob_HW > level) for level in levels], default=float("nan"))
    return fixed, max(best, fixed)


@pytest.mark.parametrize("kind", KINDS)
def test_average_precision_is_scikit_learns(kind):
    fake_BHW = truths(6)
    prob_BHW = maps(kind, fake_BHW)
    expected = [average_precision_score(f.ravel(), p.ravel()) for f, p in zip(fake_BHW, prob_BHW.numpy(), strict=True)]
    np.testing.assert_allclose(score(prob_BHW, fake_BHW)["ap"], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_f1_is_what_the_definition_says(kind):
    fake_BHW = truths(4)
    prob_BHW = maps(kind, fake_BHW)
    got = score(prob_BHW, fake_BHW)
    expected = [slow_f1(p, f) for p, f in zip(prob_BHW.numpy(), fake_BHW.numpy(), strict=True)]
    np.testing.assert_allclose(np.stack([got["f1_fixed"], got["f1_best"]], axis=1), expected, rtol=1e-12)


def test_iou_and_accuracy_by_hand():
    fake_BHW = torch.zeros(2, 4, 4, dtype=torch.bool)
    fake_BHW[:, :2] = True
    prob_BHW = torch.zeros(2, 4, 4)
    prob_BHW[0, 1:3] = 0.75
    prob_BHW[1, 0] = 0.5
    got = score(prob_BHW, fake_BHW)
    np.testing.assert_allclose(got["iou"], [4 / 12, 0], atol=1e-8)
    np.testing.assert_allclose(got["pbca"], [0.5, 0.5])


def test_border_band_of_a_square():
    fake_BHW = torch.zeros(1, 256, 256, dtype=torch.bool)
    fake_BHW[0, 70:170, 70:170] = True
    eroded_BHW, pristine_BHW = pixel.banded(fake_BHW)
    ignored_BHW = ~(eroded_BHW | pristine_BHW)
    assert [int(each.sum()) for each in (eroded_BHW, pristine_BHW, ignored_BHW)] == [7396, 53436, 4704]


def test_the_edge_of_the_image_does_not_erode():
    fake_BHW = torch.zeros(1, 64, 64, dtype=torch.bool)
    fake_BHW[0, :, :32] = True
    eroded_BHW, pristine_BHW = pixel.banded(fake_BHW)
    assert torch.equal(eroded_BHW[0].all(0), torch.arange(64) < 25)
    assert torch.equal(pristine_BHW[0].all(0), torch.arange(64) >= 37)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (14, 14), (257, 100)])
def test_band_equals_scipys_filters_at_any_size(size):
    fake_BHW = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) > 0.5
    fake_BHW = functional.max_pool2d(fake_BHW.float(), 5, 1, 2)[:, 0] > 0
    eroded_BHW, pristine_BHW = pixel.banded(fake_BHW)
    for fake, eroded, pristine in zip(fake_BHW.numpy(), eroded_BHW, pristine_BHW, strict=True):
        np.testing.assert_array_equal(eroded, minimum_filter(fake, 15, mode="constant", cval=True))
        np.testing.assert_array_equal(~pristine, maximum_filter(fake, 11, mode="constant", cval=False))


def test_ignored_pixels_do_not_move_f1_but_do_move_ap():
    fake_BHW = torch.zeros(1, 64, 64, dtype=torch.bool)
    fake_BHW[0, :, :32] = True
    prob_BHW = 0.2 + 0.6 * fake_BHW.float()
    spoilt_BHW = prob_BHW.clone()
    spoilt_BHW[0, :, 25:37] = prob_BHW[0, :, 25:37].flip(1)
    clean, spoilt = score(prob_BHW, fake_BHW), score(spoilt_BHW, fake_BHW)
    assert clean["f1_best"] == spoilt["f1_best"] == spoilt["f1_fixed"] == 1
    assert spoilt["ap"] < clean["ap"] == 1


def test_negative_zero_is_zero():
    fake_BHW = truths(1)
    prob_BHW = maps("two levels", fake_BHW)
    signed_BHW = torch.where(prob_BHW == 0, -0.0, prob_BHW)
    for key, value in score(prob_BHW, fake_BHW).items():
        assert torch.equal(value, score(signed_BHW, fake_BHW)[key])


def test_f1_is_exact_beyond_float32():
    tp, fp, num_fake = (torch.tensor([value]) for value in (2**25 + 1, 3, 2**25 + 5))
    assert pixel.f1(tp, fp, num_fake).item() == pytest.approx(2 * (2**25 + 1) / (2**26 + 9), rel=1e-15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(kind):
    fake_BHW = truths(4)
    prob_BHW = maps(kind, fake_BHW)
    for key, value in score(prob_BHW.cuda(), fake_BHW.cuda()).items():
        torch.testing.assert_close(value.cpu(), score(prob_BHW, fake_BHW)[key], rtol=1e-12, atol=0, equal_nan=True)
