"""What every protocol keeps to; a test class of a protocol inherits from this and names it."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from dfloc.engine.evaluate import measure
from dfloc.metrics import counts, degenerate, protocols, score, summarise
from dfloc.metrics.protocols import Protocol

ROW = {"id", "stem", "domain", "split", "condition", "protocol", "checkpoint", "trial"}


class ProtocolContract:
    """Attributes: `name` of the protocol."""

    name: ClassVar[str]

    @pytest.fixture
    def rule(self) -> Protocol:
        return protocols.find(self.name)

    @pytest.fixture
    def maps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of 64 x 64 and truths of 48 x 40: some of each kind, all fake, none fake, wholly right and wrong."""
        generator = torch.Generator().manual_seed(3)
        truth_BHW = (torch.rand(8, 48, 40, generator=generator) > 0.6).to(torch.uint8) * 255
        truth_BHW[0], truth_BHW[1] = 0, 255
        prob_BHW = torch.rand(8, 64, 64, generator=generator)
        prob_BHW[2], prob_BHW[3] = 1, 0
        return prob_BHW, truth_BHW

    @pytest.fixture
    def rows(self, maps: tuple[torch.Tensor, torch.Tensor]) -> pa.Table:
        prob_BHW, truth_BHW = maps
        found = measure(prob_BHW, truth_BHW.numpy(), self.name)
        told = {"protocol": self.name, "split": "test", "domain": "a/b", "condition": "clean"}
        return pa.Table.from_pylist(
            [{"id": str(place), "stem": str(place), **told, **row} for place, row in enumerate(found)]
        )

    def test_it_is_found_by_its_name(self, rule: Protocol) -> None:
        assert rule.name == self.name
        assert rule.truth

    def test_it_measures_each_image_by_the_keys_of_its_metrics(
        self, rule: Protocol, maps: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        found = score(*maps, self.name)
        assert list(found) == list(rule.per_image)
        assert {(value_B.dtype, value_B.shape) for value_B in found.values()} == {(torch.float64, (8,))}
        assert not found.keys() & (counts(*maps, self.name).keys() | ROW), "a row has a column of that name already"

    def test_its_values_lie_between_the_bounds_of_their_metrics(
        self, rule: Protocol, maps: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        for key, value_B in score(*maps, self.name).items():
            known_B = value_B[~value_B.isnan()]
            low, high = rule.per_image[key].bounds
            assert len(known_B), key
            assert low <= known_B.min(), key
            assert known_B.max() <= high + 1e-6, key

    def test_images_do_not_see_each_other(self, maps: tuple[torch.Tensor, torch.Tensor]) -> None:
        together, (prob_BHW, truth_BHW) = score(*maps, self.name), maps
        for place in range(len(prob_BHW)):
            alone = score(prob_BHW[place : place + 1], truth_BHW[place : place + 1], self.name)
            for key, value_B in alone.items():
                torch.testing.assert_close(value_B[0], together[key][place], rtol=0, atol=1e-12, equal_nan=True)

    def test_a_right_map_is_no_worse_than_its_contrary(self, rule: Protocol) -> None:
        truth_BHW = torch.zeros(1, 96, 96, dtype=torch.bool)
        truth_BHW[:, 20:70, 20:70] = True
        right, wrong = (
            score(prob_BHW, truth_BHW, self.name) for prob_BHW in (truth_BHW.float(), 1 - truth_BHW.float())
        )
        for key, metric in rule.per_image.items():
            assert metric.gain(right[key].item(), wrong[key].item()) > 0, key

    def test_a_set_has_means_and_the_numbers_of_a_set(self, rule: Protocol, rows: pa.Table) -> None:
        found = summarise(rows, self.name)
        assert found.keys() >= {*rule.per_image}
        known = {metric.key for metric in rule.metrics if metric.of_set} - {"f1_valid"}  # needs validation images
        assert found.keys() >= known
        assert {*rule.tracked} <= {metric.key for metric in rule.metrics}

    def test_all_fake_is_what_such_a_map_scores(
        self, rule: Protocol, maps: tuple[torch.Tensor, torch.Tensor], rows: pa.Table
    ) -> None:
        _, truth_BHW = maps
        wanted = score(torch.ones(8, 64, 64), truth_BHW, self.name)
        for key, value_B in degenerate.all_fake(rows, self.name).items():
            np.testing.assert_allclose(value_B, wanted[key].numpy(), atol=1e-9)
            assert key in rule.per_image
