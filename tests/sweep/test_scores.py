"""What the rows of one domain are worth by a protocol of images."""

import numpy as np
import pytest

from dfloc.sweep import scores
from tests.metrics.image_rows import called_as, detected


@pytest.mark.parametrize(("domain", "key"), [("a/lama", "image_tpr"), ("a/real", "image_tnr")])
def test_a_domain_of_images_has_the_share_that_is_called_rightly_with_its_interval(domain: str, key: str) -> None:
    right = [0.9] * 30 + [0.1] * 10 if key == "image_tpr" else [0.1] * 30 + [0.9] * 10
    line = scores.of_rows(detected("image-1", domain, right), "image-1", domain)
    assert (line.values, line.first.key, line.images, line.photographs) == ({key: 0.75}, key, 40, 40)
    half = 2.0227 * np.sqrt(0.75 * 0.25 / 39)  # t of 39 degrees of freedom
    assert line.interval == pytest.approx((0.75 - half, 0.75 + half), abs=1e-4)
    assert (line.undefined, line.pooled, line.of_set, line.collapsed, line.all_fake) == ({}, None, {}, "", {})
    assert not line.is_not_above


def test_a_classifier_has_the_recall_of_the_domain() -> None:
    rows = called_as("thesis-2025", "a/lama", "lama", ("real", "lama", "ldm"), {"lama": 6, "ldm": 3, "real": 1})
    line = scores.of_rows(rows, "thesis-2025", "a/lama")
    assert (line.values, line.first.key) == ({"image_recall": 0.6}, "image_recall")
