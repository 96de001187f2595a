"""`dolos-2024` against Pillow, and against the reference's formulas on cases counted by hand."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn import metrics as sk

from dfloc import repro
from dfloc.errors import DataError
from dfloc.metrics import protocols, score, summarise, summarise_pair
from dfloc.metrics.image import image_ap

RULE = protocols.find("dolos-2024")


def smooth(num: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(num, height, width, generator=torch.Generator().manual_seed(5))


def reference(prob_hw: np.ndarray, grey_HW: np.ndarray) -> tuple[float, float]:
    """IoU and PBCA as the paper's code has them, from a mask as it lies on disk (white = real)."""
    size = (grey_HW.shape[1], grey_HW.shape[0])
    called = np.array(Image.fromarray(prob_hw).resize(size, Image.Resampling.BICUBIC)) > 0.5
    fake = grey_HW != 255
    union = np.logical_or(called, fake).sum()
    iou = 1.0 if union == 0 else np.logical_and(called, fake).sum() / union
    return iou, (called == fake).mean()


@pytest.mark.parametrize("size", [(37, 37), (256, 256), (100, 60), (17, 20), (1, 5)])
def test_maps_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    prob_BHW = (smooth(3, 37, 37) > 0.5).float()
    got = RULE.resize(prob_BHW[:, None], size)
    expected = [
        np.asarray(Image.fromarray(each).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for each in prob_BHW.numpy()
    ]
    np.testing.assert_array_equal(got[:, 0], np.stack(expected))


def test_a_map_that_overshoots_is_measured_as_it_is() -> None:
    prob_BHW = torch.zeros(1, 8, 8)
    prob_BHW[0, 2:6, 2:6] = 1
    resized = RULE.resize(prob_BHW[:, None], (64, 64))
    assert resized.min() < -0.05
    assert resized.max() > 1.05
    assert 0 < float(score(prob_BHW, torch.ones(1, 64, 64, dtype=torch.bool), RULE.name)["pbca"]) < 1


@pytest.mark.parametrize("side", [37, 64, 90])
def test_iou_and_pbca_are_the_references(side: int) -> None:
    prob_BHW = smooth(4, side, side)
    grey_BHW = (smooth(4, 64, 48) * 3).floor().mul(127.5).round().to(torch.uint8)
    got = score(prob_BHW, 255 - grey_BHW, RULE.name)
    assert list(got) == ["iou", "pbca"]
    expected = [reference(prob, grey) for prob, grey in zip(prob_BHW.numpy(), grey_BHW.numpy(), strict=True)]
    np.testing.assert_allclose(np.stack([got["iou"], got["pbca"]], axis=1), expected, rtol=1e-12)


@pytest.mark.parametrize("grey", [0, 1, 127, 128, 254, 255])
def test_every_grey_but_white_is_fake(grey: int) -> None:
    fakeness_BHW = torch.full((1, 4, 4), 255 - grey, dtype=torch.uint8)
    assert bool(RULE.binarise(fakeness_BHW).all()) == bool(RULE.binarise(fakeness_BHW).any()) == (grey != 255)
    declip = protocols.find("declip-2025").binarise(fakeness_BHW)
    assert bool(declip.all()) == (grey <= 127), "where DeCLIP draws the line elsewhere"


def test_edge_cases() -> None:
    empty, full = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    blank, one = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    cases = [(blank, empty, 1, 1), (one, empty, 0, 0), (blank, full, 0, 0), (one, full, 1, 1), (one / 2, full, 0, 0)]
    for prob, truth, iou, pbca in cases:
        got = score(prob, truth, RULE.name)
        assert (got["iou"].item(), got["pbca"].item()) == (iou, pbca)


def test_summary_has_its_keys_and_pooled_iou() -> None:
    rows = {"protocol": np.array(["dolos-2024"] * 2), "iou": np.array([1.0, 0.25]), "pbca": np.array([1.0, 0.5])}
    rows |= {"tp": np.array([4, 1]), "fp": np.array([0, 3]), "fn": np.array([0, 0])}

    class Rows(dict[str, np.ndarray]):
        def __len__(self) -> int:
            return 2

    summary = summarise(Rows(rows), "dolos-2024")
    expected = {"iou": 0.625, "pbca": 0.75, "nan/iou": 0, "nan/pbca": 0, "pooled_iou": 5 / 8}
    assert summary == pytest.approx(expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same() -> None:
    prob_BHW, truth_BHW = smooth(2, 37, 37), smooth(2, 64, 48) > 0.5
    for key, value in score(prob_BHW.cuda(), truth_BHW.cuda(), RULE.name).items():
        assert torch.equal(value.cpu(), score(prob_BHW, truth_BHW, RULE.name)[key])


def rows_of(domain: str, scores: np.ndarray, name: str) -> pa.Table:
    ids = [f"{domain}/test/{k:05}.png" for k in range(len(scores))]
    told = {"protocol": ["dolos-2024"] * len(ids), "domain": [domain] * len(ids)}
    return pa.table({"id": ids, **told, name: scores})


@pytest.mark.parametrize("name", ["mean_prob", "fake_logit"])
def test_ap_of_a_pair_is_the_mean_of_five_balanced_draws(name: str) -> None:
    rng = np.random.default_rng(0)
    fake, real = rng.normal(1, 1, 40).round(1), rng.normal(0, 1, 300).round(1)
    expected = []
    for draw in range(5):
        generator = repro.generator(1337, "ap", draw)
        picked = [side[torch.randperm(len(side), generator=generator)[:40].numpy()] for side in (fake, real)]
        expected.append(sk.average_precision_score(np.repeat([1, 0], 40), np.concatenate(picked)))
    fakes, reals = rows_of("a/p2", fake, name), rows_of("a/real", real, name)
    found = summarise_pair(fakes, reals, "dolos-2024")
    assert found == pytest.approx({"image_ap": np.mean(expected), "image_ap_2sd": 2 * np.std(expected)}, abs=1e-12)
    assert len({*expected}) == 5
    mixed = [rows.take(rng.permutation(len(rows))) for rows in (fakes, reals)]
    assert summarise_pair(*mixed, "dolos-2024") == found, "draws are over the list's order"


def test_of_equally_many_every_draw_is_the_whole_and_image_ap_the_other_protocols() -> None:
    rng = np.random.default_rng(1)
    fake, real = rng.beta(3, 2, 50), rng.beta(2, 3, 50)
    found = summarise_pair(rows_of("a/p2", fake, "mean_prob"), rows_of("a/real", real, "mean_prob"), "dolos-2024")
    assert found == pytest.approx({"image_ap": image_ap(fake, real), "image_ap_2sd": 0}, abs=1e-12)


def test_a_raw_logit_comes_before_the_mean_of_a_map() -> None:
    fakes, reals = rows_of("a/p2", np.array([5.0, 6.0]), "fake_logit"), rows_of("a/real", np.zeros(2), "fake_logit")
    fakes = fakes.append_column("mean_prob", pa.array([0.1, 0.1]))
    reals = reals.append_column("mean_prob", pa.array([0.9, 0.9]))
    assert summarise_pair(fakes, reals, "dolos-2024")["image_ap"] == 1
    with pytest.raises(DataError, match='score 1 in "fake_logit" is nan'):
        summarise_pair(rows_of("a/p2", np.array([5.0, np.nan]), "fake_logit"), reals, "dolos-2024")
