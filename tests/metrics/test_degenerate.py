"""Maps that say nothing, and all fake: counted by hand, and against the baseline that is evaluated like any trial."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from dfloc.config import DecoderSpec
from dfloc.metrics import counts, degenerate, protocols, score
from dfloc.models.baselines import make_all_fake
from dfloc.repro import generator

PROTOCOLS = ("declip-2025", "dolos-2024", "dfloc-1")


def rows(*maps: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    return dict(zip(("tp", "fp", "fn", "tn"), map(list, zip(*maps, strict=True)), strict=True)) | more


FULL, EMPTY, SOUND = (3, 7, 0, 0), (0, 0, 3, 7), (2, 1, 1, 6)


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_kinds_by_hand(table: type) -> None:
    """Nine of ten are not over 90 %."""
    nine = degenerate.kinds(table(rows(*[FULL] * 9, SOUND)))
    assert nine == (10, 9, 0, 0, 0)
    assert nine.word == ""
    ten = degenerate.together([nine, degenerate.kinds(table(rows(FULL)))])
    assert (ten, ten.word) == ((11, 10, 0, 0, 0), "all fake")
    assert degenerate.kinds(table(rows(*[EMPTY] * 4))).word == "empty"
    assert degenerate.together([]).word == ""


def test_a_map_of_one_probability_is_constant_whatever_it_is_called() -> None:
    flat, noise, ramp = 0.0, 1e-7, 0.01
    both = degenerate.kinds(pd.DataFrame(rows(FULL, EMPTY, spread=[flat, noise])))
    assert (both, both.word) == ((2, 1, 1, 2, 2), "constant")
    assert degenerate.kinds(pd.DataFrame(rows(FULL, spread=[flat]))).word == "all fake, constant"
    assert degenerate.kinds(pd.DataFrame(rows(EMPTY, spread=[ramp]))).word == "empty"


def test_rows_of_earlier_versions_do_not_say_whether_a_map_is_constant() -> None:
    old, new = pa.table(rows(FULL, EMPTY)), pa.table(rows(FULL, spread=[0.0]))
    mixed = degenerate.kinds(pa.concat_tables([old, new], promote_options="permissive"))
    assert mixed == (3, 2, 1, 1, 1)
    assert mixed.word == "constant", "of those that say it"
    assert degenerate.kinds(old).recorded == 0


def test_the_spread_of_a_map_is_that_of_its_probabilities_before_it_is_resized() -> None:
    prob = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.3, 0.3], [0.3, 0.3]]])
    found = counts(prob, torch.zeros(2, 64, 64, dtype=torch.bool))["spread"]
    assert found.tolist() == [0.5, 0.0]


def test_a_map_of_one_kind_that_is_right_tells_nothing() -> None:
    """Nineteen photographs without a fake pixel, or images that are fake as a whole, and one that is fake in part."""
    real, whole = (0, 0, 0, 10), (10, 0, 0, 0)
    for right in (real, whole):
        data = pa.table(rows(*[right] * 19, SOUND))
        assert degenerate.kinds(data).word in ("empty", "all fake")
        assert degenerate.kinds(data, partly_fake=True).word == ""
        assert degenerate.kinds(pa.table(rows(right)), partly_fake=True).word == ""
    assert degenerate.kinds(pa.table(rows(*[whole] * 19, EMPTY)), partly_fake=True).word == "empty"


def truths(height: int, width: int) -> Tensor:
    """None fake, all fake, one pixel, a block, and half of the pixels here and there."""
    fake = torch.zeros(5, height, width, dtype=torch.bool)
    fake[1] = True
    fake[2, 3, 4] = True
    fake[3, 20:60, 10:50] = True
    fake[4] = torch.rand(height, width, generator=torch.Generator().manual_seed(0)) < 0.5
    return fake


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [(256, 256), (300, 260), (1024, 683)])
def test_all_fake_is_what_the_baseline_scores_to_the_last_bit(protocol: str, size: tuple[int, int]) -> None:
    """The baseline's maps go the way of every map: sigmoid, resize, threshold, sort."""
    decoder = make_all_fake(DecoderSpec(name="all-fake"), [], generator(0, "init"))
    prob = decoder(torch.zeros(5, 1)).sigmoid().squeeze(1)
    planned = score(prob, truths(*size), protocol)
    other = counts(torch.rand(5, 16, 16), truths(*size), protocol)
    found = degenerate.all_fake(pd.DataFrame({name: other[name].numpy() for name in protocols.COUNTS}), protocol)
    assert {"iou", "pbca"} <= found.keys() <= planned.keys()
    assert planned.keys() - found.keys() <= {"f1_fixed", "f1_best"}, "which leave out a border that no row has"
    for key, values in found.items():
        np.testing.assert_array_equal(values, planned[key].numpy(), err_msg=key)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_a_resize_rounds_the_baseline_is_all_fake_but_its_ranking_is_noise(protocol: str) -> None:
    """Antialias to an odd smaller size leaves 6e-8 between pixels of one probability; AP is prevalence all the same."""
    prob = torch.full((5, 256, 256), 10.0).sigmoid()
    truth = truths(97, 213)
    planned, own = score(prob, truth, protocol), counts(prob, truth, protocol)
    found = degenerate.all_fake(pd.DataFrame({name: own[name].numpy() for name in protocols.COUNTS}), protocol)
    for key in found.keys() - {"ap", "auc"}:
        np.testing.assert_array_equal(found[key], planned[key].numpy(), err_msg=key)
    if "ap" in found:
        prevalence = truth.double().mean((1, 2)).numpy()
        np.testing.assert_allclose(found["ap"][2:], prevalence[2:], rtol=1e-12)


def test_all_fake_by_hand() -> None:
    """Three of ten pixels are fake: IoU 3/10, F1 6/13, AP 3/10."""
    found = degenerate.all_fake(pa.table(rows(SOUND)), "dfloc-1")
    assert {key: value.item() for key, value in found.items()} == {
        "iou": 0.3,
        "f1": pytest.approx(6 / 13),
        "ap": 0.3,
        "auc": 0.5,
        "mcc": 0.0,
        "pbca": 0.3,
    }
