"""A detector with a map: it learns from labels where images are fake, and its rows have both."""

import math
from typing import Any

import pyarrow as pa
import pytest
import torch

from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec, TrialSpec
from dfloc.engine.batches import Batch, StoredMaps
from dfloc.engine.evaluate import evaluate
from dfloc.engine.fit import Member, fit
from dfloc.engine.labels import Classes
from dfloc.metrics import protocols
from dfloc.registry import map_spec
from tests.engine.conftest import Data
from tests.engine.fakes import MAPS, FakeSource, make_spec
from tests.engine.test_evaluate import evaluation

DECODER = DecoderSpec(name="small-attention", widths=(8, 8), standardize=True)


def spec_of(weight_map: float = 1.0, **changes: Any) -> TrialSpec:
    loss = LossSpec(name="attention", weight_map=weight_map)
    fields = {"loss": loss, "optimizer": OptimizerSpec(name="adam", lr=2e-2), "select": "loss", "task": "detect"}
    return make_spec(**fields | changes).model_copy(update={"decoder": DECODER})


class Half(FakeSource):
    """Every other image is a fake, in which some cells are other; the others have none."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(64, seed)
        self.label = torch.arange(64) % 2
        reals = self.label == 0
        self.x[reals] = 5.0 + 0.3 * torch.randn(int(reals.sum()), *self.x.shape[1:], generator=_generator(seed))
        self.target[reals] = 0

    def batch(self, indices: Any, epoch: int) -> Batch:
        return super().batch(indices, epoch)._replace(label_B=self.label[list(indices)])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 + seed)


def trained(weight_map: float) -> tuple[Member, list[dict[str, float]]]:
    member = Member.create(spec_of(weight_map, epochs=12, batch=8), MAPS)
    records = [result.record for (result,) in fit([member], Half(), Half(seed=1))]
    return member, [dict(record.valid) for record in records if record]


def test_labels_teach_it_where_fakes_are() -> None:
    member, valid = trained(1.0)
    assert all(set(each) == {"ap", "accuracy", "loss"} for each in valid)
    assert valid[-1]["ap"] > 0.95
    assert member.best_epoch == 1 + min(range(12), key=lambda epoch: valid[epoch]["loss"])
    source = Half(seed=2)
    fakes = source.batch([place for place in range(64) if source.label[place]], 0)
    with torch.no_grad():
        said = member.decoder.eval()(fakes.x)
    truth_BHW = fakes.target_BHW[:, 8::16, 8::16].bool()
    called_BHW = said.map_B1HW[:, 0] > 0
    assert called_BHW.any()
    assert truth_BHW[called_BHW].float().mean() > 2 * truth_BHW.float().mean(), "no mask was seen"
    assert called_BHW[truth_BHW].float().mean() > 3 * called_BHW[~truth_BHW].float().mean()
    reals = source.batch([place for place in range(64) if not source.label[place]], 0)
    with torch.no_grad():
        assert (member.decoder(reals.x).map_B1HW > 0).float().mean() < 0.01


def test_a_validation_loss_is_that_of_the_whole_formula() -> None:
    member = Member.create(spec_of(0.5), MAPS)
    batch = Half().batch(list(range(8)), 0)
    member.decoder.eval()
    with torch.no_grad():
        loss, prob_BK = member.loss_and_prob(batch.x, batch.target_BHW, batch.label_B)
        said = member.decoder(batch.x)
    by_hand = 0.0
    for map_HW, logits, label in zip(said.map_B1HW[:, 0], said.image_BK, batch.label_B, strict=True):  # type: ignore[arg-type]
        ce = -math.log(math.exp(logits[label]) / sum(math.exp(logit) for logit in logits))
        highest = 1 / (1 + math.exp(-max(map_HW.flatten().tolist())))
        by_hand += (ce - 0.5 * math.log(highest if label else 1 - highest)) / 8
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    torch.testing.assert_close(prob_BK, said.image_BK.softmax(1))


def test_rows_have_the_map_and_the_logit_and_dolos_ranks_by_the_logit(data: Data) -> None:
    spec = spec_of()
    maps = StoredMaps(data.store, [data.recipe])
    member = Member.create(spec, [map_spec(data.recipe.map)])
    asked = evaluation(data.samples).model_copy(update={"protocol": "dolos-2024"})
    rows = evaluate(member.decoder, maps, data.samples, data.folder, asked, Classes.of(spec))
    frame = rows.to_pandas()
    assert frame[["iou", "pbca", "mean_prob", "fake_logit", "score"]].notna().all().all()
    with torch.no_grad():
        said = member.decoder(maps.read(data.samples))
    assert frame["fake_logit"].tolist() == pytest.approx(said.image_BK[:, 1].tolist(), rel=1e-5)
    assert frame["mean_prob"].tolist() == pytest.approx(said.map_B1HW.sigmoid().mean((1, 2, 3)).tolist(), rel=1e-5)
    reals = rows.set_column(rows.column_names.index("fake_logit"), "fake_logit", pa.array([-9.0] * len(rows)))
    above = pairs(rows, reals)
    assert (above["image_ap"], pairs(reals, rows)["image_ap"] < 1) == (1.0, True), "by the logit, whatever the maps are"


def pairs(fakes: pa.Table, reals: pa.Table) -> dict[str, float]:
    rule = protocols.find("dolos-2024").of_pair
    assert rule is not None
    return rule(fakes, reals, None)
