import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional

from dfloc.errors import ConfigError, DataError
from dfloc.metrics import counts, protocols, score, summarise
from tests.contracts.protocol import ProtocolContract


class TestDeclip(ProtocolContract):
    name = "declip-2025"


class TestDolos(ProtocolContract):
    name = "dolos-2024"


class TestNative(ProtocolContract):
    name = "dfloc-1"


KEYS = ["iou", "f1_fixed", "f1_best", "ap", "pbca"]
NAN = math.nan


def square(side: int) -> torch.Tensor:
    """A truth of 256 x 256 with a square in the middle."""
    fake_BHW = torch.zeros(1, 256, 256, dtype=torch.bool)
    first = 128 - side // 2
    fake_BHW[0, first : first + side, first : first + side] = True
    return fake_BHW


EMPTY, FULL, REGION, TINY = square(0), square(256), square(120), square(12)
BLANK = torch.zeros(1, 256, 256)
FALSE_ALARM = (torch.arange(256 * 256) == 5).float().view(1, 256, 256)

# What DeCLIP's own code gives: iou, f1_fixed, f1_best, ap.
GOLDEN = {
    "constant map of a collapsed model": (BLANK + 0.7, REGION, 0.22, 0.316, NAN, 0.22),
    "truth that erodes to nothing, empty map": (BLANK, TINY, 0, 1, NAN, 0.002),
    "real image, empty map": (BLANK, EMPTY, 1, 1, NAN, 0),
    "full-frame truth, perfect map": (BLANK + 1, FULL, 1, 1, NAN, 1),
    "inverted map": (1 - REGION.float(), REGION, 0, 0, 0, 0.22),
    "truth that erodes to nothing, perfect map": (TINY.float(), TINY, 1, 1, NAN, 1),
    "truth that erodes to nothing, far false alarm": (FALSE_ALARM, TINY, 0, 0, 0, 0.002),
    "real image, one false alarm": (FALSE_ALARM, EMPTY, 0, 0, 0, 0),
    "perfect map": (REGION.float(), REGION, 1, 1, 1, 1),
    "right, but under the threshold": (REGION * 0.4, REGION, 0, 0, 1, 1),
    "full-frame truth, two levels": (1 - 0.6 * FALSE_ALARM, FULL, 65535 / 65536, 1, 1, 1),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_declip_edge_cases(case):
    prob_BHW, fake_BHW, *expected = GOLDEN[case]
    got = score(prob_BHW, fake_BHW, "declip-2025")
    assert list(got) == KEYS
    np.testing.assert_allclose([got[key].item() for key in KEYS[:4]], expected, atol=5e-4)


def test_a_map_that_rounding_takes_over_1_is_counted_and_its_ap_is_not_of_a_sigmoid():
    prob_BHW = torch.full((2, 256, 256), 1e-9)
    prob_BHW[:, 128:192] = 2e-9
    prob_BHW[0, :128], prob_BHW[1, :128] = 1, 0.9
    fake_BHW = torch.zeros(2, 64, 64, dtype=torch.bool)
    fake_BHW[:, :48] = True
    resized_BHW = functional.interpolate(prob_BHW[:, None], (64, 64), mode="bilinear", antialias=True)[:, 0]
    assert [each.max().item() > 1 for each in resized_BHW] == [True, False]
    truth = fake_BHW[0].flatten()
    found = counts(prob_BHW, fake_BHW)
    assert found["out_of_range"].tolist() == [True, False]
    ap = score(prob_BHW, fake_BHW)["ap"]
    np.testing.assert_allclose(ap, [average_precision_score(truth, each.flatten()) for each in resized_BHW])
    assert average_precision_score(truth, resized_BHW[0].sigmoid().flatten()) == pytest.approx(0.921875)
    assert "out_of_range" not in counts(prob_BHW, fake_BHW, "dfloc-1")
    assert "out_of_range" not in counts(prob_BHW, fake_BHW, "dolos-2024")


def test_all_cases_in_one_batch_are_the_cases_alone():
    batch = score(torch.cat([case[0] for case in GOLDEN.values()]), torch.cat([case[1] for case in GOLDEN.values()]))
    for index, case in enumerate(GOLDEN.values()):
        alone = score(case[0], case[1])
        for key in KEYS:
            torch.testing.assert_close(batch[key][index : index + 1], alone[key], rtol=0, atol=0, equal_nan=True)


def smooth(num: int, size: int = 32) -> torch.Tensor:
    return torch.rand(num, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (17, 20), (300, 256)])
def test_map_is_resized_to_the_truth(size):
    fake_BHW = torch.rand(2, *size, generator=torch.Generator().manual_seed(2)) > 0.5
    resized = functional.interpolate(smooth(2)[:, None], size, mode="bilinear", antialias=True)[:, 0]
    got, expected = score(smooth(2), fake_BHW), score(resized, fake_BHW)
    for key in KEYS:
        torch.testing.assert_close(got[key], expected[key], equal_nan=True)
    called_BHW = resized > 0.5
    assert counts(smooth(2), fake_BHW)["tp"].tolist() == (called_BHW & fake_BHW).sum((1, 2)).tolist()


def test_fakeness_is_fake_over_127():
    fakeness_BHW = torch.tensor([[[0, 127], [128, 255]]], dtype=torch.uint8)
    prob_BHW = torch.tensor([[[0.1, 0.2], [0.9, 0.9]]])
    assert score(prob_BHW, fakeness_BHW)["iou"] == 1
    assert counts(prob_BHW, fakeness_BHW)["mask_area"] == 0.5


def test_threshold_is_strict():
    got = counts(torch.tensor([[[0.5, 0.5000001]]]), torch.ones(1, 1, 2, dtype=torch.bool))
    assert (got["tp"], got["fn"]) == (1, 1)


def test_counts_by_hand():
    fake_BHW = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0]]], dtype=torch.bool)
    prob_BHW = torch.tensor([[[0.9, 0.1, 0.9, 0.9, 0.2]], [[0, 0, 0, 0, 1.0]]])
    got = counts(prob_BHW, fake_BHW)
    assert {key: got[key].tolist() for key in ("tp", "fp", "fn", "tn")} == {
        "tp": [1, 0],
        "fp": [2, 1],
        "fn": [1, 0],
        "tn": [1, 4],
    }
    assert got["tp"].dtype == torch.int64
    np.testing.assert_allclose(got["mask_area"], [0.4, 0])
    np.testing.assert_allclose(got["mean_prob"], [0.6, 0.2], rtol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    prob_BHW, fake_BHW = smooth(7), smooth(7).flip(0) > 0.4
    whole = score(prob_BHW, fake_BHW) | counts(prob_BHW, fake_BHW)
    monkeypatch.setattr(protocols, "CHUNK_PIXELS", 3 * 32 * 32)
    parts = score(prob_BHW, fake_BHW) | counts(prob_BHW, fake_BHW)
    for key in whole:
        torch.testing.assert_close(whole[key], parts[key], rtol=0, atol=0, equal_nan=True)


def test_half_precision_maps_are_measured_in_float32():
    prob_BHW = (smooth(2) > 0.5).to(torch.bfloat16)
    assert torch.equal(score(prob_BHW, smooth(2) > 0.5)["iou"], torch.ones(2, dtype=torch.float64))


BOOL = torch.zeros(2, 8, 8, dtype=torch.bool)


@pytest.mark.parametrize(
    ("prob", "truth", "words"),
    [
        (torch.full((2, 8, 8), NAN), BOOL, "map 0 .*not finite"),
        (torch.tensor([0.5, 1.5]).view(2, 1, 1).expand(2, 8, 8), BOOL, r"map 1 .*outside \[0, 1\]"),
        (torch.full((2, 8, 8), -0.1), BOOL, "sigmoid"),
        (torch.zeros(2, 1, 8, 8), BOOL, r"float \[B, h, w\], came .*\[2, 1, 8, 8\]"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), BOOL, "came torch.uint8"),
        (torch.zeros(2, 0, 8), BOOL, r"\[2, 0, 8\]"),
        (torch.zeros(0, 8, 8), BOOL[:0], r"\[0, 8, 8\]"),
        (torch.zeros(2, 8, 8), torch.zeros(2, 8, 8), "uint8 or bool"),
        (torch.zeros(2, 8, 8), BOOL[0], "uint8 or bool"),
        (torch.zeros(3, 8, 8), BOOL, "3 maps and 2 truths"),
        (torch.zeros(2, 8, 8), torch.stack([0 * BOOL[0], ~BOOL[0]]).byte(), "truth 1 has values from 1 to 1.*as bool"),
    ],
)
@pytest.mark.parametrize("measure", [score, counts])
def test_bad_input(measure, prob, truth, words):
    with pytest.raises(DataError, match=words):
        measure(prob, truth)


@pytest.mark.parametrize("values", [(0, 1), (1, 1), (0, 2), (0, 100), (1, 2), (0, 1, 2), (200, 255), (0, 127)])
@pytest.mark.parametrize("measure", [score, counts])
def test_a_truth_that_is_no_fakeness_is_refused_image_by_image(measure, values):
    """Read as fakeness each of them would be wholly real, or wholly fake."""
    odd = torch.tensor(values, dtype=torch.uint8).repeat(64)[: 8 * 8].view(1, 8, 8)
    truth = torch.cat([torch.zeros_like(odd), torch.full_like(odd, 255), odd])
    with pytest.raises(DataError, match=f"truth 2 has values from {min(values)} to {max(values)}.*truth == VALUE"):
        measure(torch.zeros(3, 8, 8), truth)
    assert len(measure(torch.zeros(3, 8, 8), truth == max(values))) > 0


@pytest.mark.parametrize("values", [(0, 0), (255, 255), (0, 255), (3, 250), (0, 127, 128), (0, 128)])
def test_fakeness_is_taken(values):
    truth = torch.tensor(values, dtype=torch.uint8).repeat(64)[: 8 * 8].view(1, 8, 8)
    found = counts(torch.zeros(1, 8, 8), truth)
    assert found["fn"].tolist() == [int((truth > 127).sum())]


def test_unknown_protocol():
    with pytest.raises(ConfigError, match='did you mean "declip-2025"'):
        score(BLANK, EMPTY, "declip-2024")


def rows() -> dict[str, list]:
    return {
        "protocol": ["declip-2025"] * 3,
        "iou": [0.1, 0.2, 0.6],
        "f1_fixed": [0.0, 0.5, 1.0],
        "f1_best": [NAN, 0.5, 1.0],
        "ap": [NAN] * 3,
        "pbca": [1.0, 1.0, 0.7],
        "tp": [1, 2, 3],
        "fp": [0, 4, 0],
        "fn": [10, 0, 0],
    }


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_summary_leaves_nan_out_and_counts_it(table):
    summary = summarise(table(rows()), "declip-2025")
    assert summary == pytest.approx(
        {
            "iou": 0.3,
            "f1_fixed": 0.5,
            "f1_best": 0.75,
            "pbca": 0.9,
            "nan/iou": 0,
            "nan/f1_fixed": 0,
            "nan/f1_best": 1,
            "nan/ap": 3,
            "nan/pbca": 0,
            "pooled_iou": 6 / 20,
        }
    )


def test_pooled_iou_of_nothing_at_all():
    nothing = rows() | {name: [0, 0, 0] for name in ("tp", "fp", "fn")}
    assert summarise(pa.table(nothing), "declip-2025")["pooled_iou"] == 1


def test_summary_errors():
    whole = pd.DataFrame(rows())
    with pytest.raises(DataError, match="came none"):
        summarise(whole[:0], "declip-2025")
    with pytest.raises(DataError, match='column "pbca"'):
        summarise(pa.table(whole.drop(columns="pbca")), "declip-2025")
    with pytest.raises(DataError, match="came also dolos-2024"):
        summarise(whole.assign(protocol=["declip-2025", "dolos-2024", "declip-2025"]), "declip-2025")
    with pytest.raises(ConfigError, match="unknown protocol"):
        summarise(whole, "trufor")
