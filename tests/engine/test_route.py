"""The join of rows, and the mean of maps."""

import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from dfloc.config import EvaluationSpec, SampleList
from dfloc.engine import route
from dfloc.engine.composite import mean_map
from dfloc.errors import DataError

OF = EvaluationSpec(
    trial="c" * 64, checkpoint="best", domain="a/x", test=SampleList(digest="d", counts={}), protocol="declip-2025"
)


def rows(trial: str, iou: list[float]) -> pa.Table:
    ids = [f"a/x/test/{place}.png" for place in range(len(iou))]
    return pa.table({"id": ids, "trial": [trial] * len(iou), "iou": iou, "mean_prob": [value / 2 for value in iou]})


ROUTER = pa.table(
    {
        "id": [f"a/x/test/{place}.png" for place in range(5)],
        "called": ["x", "real", "y", "real", "x"],
        "score": [0.9, 0.1, 0.8, 0.2, 0.7],
    }
)
PARTS = {"x": rows("x" * 64, [0.1, 0.2, 0.3, 0.4, 0.5]), "y": rows("y" * 64, [0.6, 0.7, 0.8, 0.9, 1.0])}


def nothing(places: object) -> pa.Table:
    assert places == [1, 3]
    return rows("", [0.0] * 5).take([1, 3])


def test_each_row_is_the_one_of_the_part_that_is_called() -> None:
    frame = {name: table.to_pandas() for name, table in PARTS.items()}
    found = route.join(OF, ROUTER, PARTS, nothing).to_pandas()
    called = ROUTER["called"].to_pylist()
    by_hand = [frame[name].iou[place] if name != "real" else 0.0 for place, name in enumerate(called)]
    assert found.iou.tolist() == by_hand == [0.1, 0.0, 0.8, 0.0, 0.5]
    assert found.id.tolist() == ROUTER["id"].to_pylist()
    assert set(found.trial) == {OF.trial}
    assert found.routed.tolist() == called
    assert found.part.tolist() == ["x" * 64, "", "y" * 64, "", "x" * 64]
    assert found.score.tolist() == ROUTER["score"].to_pylist()


def test_rows_of_other_images_or_of_no_part_are_refused() -> None:
    with pytest.raises(DataError, match="the rows of y are of other images"):
        route.join(OF, ROUTER, {**PARTS, "y": PARTS["y"].take([1, 0, 2, 3, 4])}, nothing)
    with pytest.raises(DataError, match='calls an image "y", and no part'):
        route.join(OF, ROUTER, {"x": PARTS["x"]}, nothing)


def bilinear(prob: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(prob, size, mode="bilinear")


def test_the_mean_of_one_map_is_that_map_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(3, 1, 16, 16, generator=generator)
    assert torch.equal(mean_map([one], bilinear), one)
    other = torch.rand(3, 1, 16, 16, generator=generator)
    assert torch.allclose(mean_map([one, other], bilinear), (one + other) / 2, atol=1e-7)


def test_maps_of_several_sizes_meet_on_the_largest_grid() -> None:
    small, large = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 8, 8)
    expected = (bilinear(small, (8, 8)) + large) / 2
    assert torch.allclose(mean_map([small, large], bilinear), expected, atol=1e-7)
