import numpy as np
import pyarrow as pa
import pytest

from dfloc.errors import DataError
from dfloc.metrics.alarms import ALARMS, alarms
from tests.metrics.image_rows import detected


def test_an_image_is_flagged_where_over_one_per_cent_of_its_pixels_are_called_fake() -> None:
    called = np.array([0, 9, 10, 11, 1000])
    none = np.zeros(5, np.int64)
    found = alarms(pa.table({"tp": none, "fp": called, "fn": none, "tn": 1000 - called}))
    assert found["reals_flagged"].tolist() == [0, 0, 0, 1, 1], "1 % itself is not over it"
    assert found["reals_area"].tolist() == [0, 0.009, 0.01, 0.011, 1]
    assert found.keys() == ALARMS.keys()
    assert not any(metric.higher_is_better for metric in ALARMS.values())


def test_a_large_image_is_counted_in_whole_pixels() -> None:
    pixels = 50_000_000
    row = {"tp": [0], "fp": [pixels // 100], "fn": [0], "tn": [pixels - pixels // 100]}
    assert alarms(pa.table({key: pa.array(value, pa.int32()) for key, value in row.items()}))["reals_flagged"] == [0]


def test_rows_of_images_as_a_whole_have_no_maps_and_rows_without_counts_are_told() -> None:
    assert alarms(detected("image-1", "celebahq/real", [0.2, 0.8])) == {}
    explained = {"tp": [0], "fp": [500], "fn": [0], "tn": [500], "explain": ["grad-cam of layer4"]}
    assert alarms(pa.table(explained)) == {}, "an explanation reaches its own maximum on every image"
    with pytest.raises(DataError, match='a column "fp"'):
        alarms(pa.table({"tp": [0], "fn": [0], "tn": [5]}))
