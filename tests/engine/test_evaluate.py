import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc.config import EvaluationSpec, SampleList
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.engine import evaluate as module
from dfloc.engine.batches import StoredMaps
from dfloc.engine.evaluate import evaluate
from dfloc.errors import DataError
from dfloc.models.base import Outputs
from tests.engine.conftest import SIZES, Data

COLUMNS = {"id", "stem", "domain", "split", "condition", "protocol", "checkpoint", "mask_area", "tp", "fp", "fn", "tn",
           "mean_prob", "spread", "out_of_range", "trial"}  # fmt: skip
PROTOCOL_KEYS = {"iou", "f1_fixed", "f1_best", "ap", "pbca"}


class LeftHalf(nn.Module):
    """Calls the left half fake, with a doubt that falls from row to row."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logit_HW = torch.linspace(4, 1, 256)[:, None].repeat(1, 256)
        logit_HW[:, 128:] -= 6
        return logit_HW.expand(len(x_BCHW), 1, -1, -1)


def evaluation(samples: list[SampleRef]) -> EvaluationSpec:
    return EvaluationSpec(
        trial="f" * 64,
        checkpoint="best",
        domain="a/one",
        split="train",
        test=SampleList(digest=list_digest(samples), counts={"a/one": len(samples)}),
        protocol="declip-2025",
    )


def rows_of(data: Data, samples: list[SampleRef], decoder: nn.Module | None = None) -> list[dict]:
    maps = StoredMaps(data.store, [data.recipe])
    return evaluate(decoder or LeftHalf(), maps, samples, data.folder, evaluation(samples)).to_pylist()


def test_each_image_has_its_row_in_order_with_the_counts_at_native_size(data: Data) -> None:
    samples = [data.samples[k] for k in (3, 0, 5, 1, 2, 4)]
    rows = rows_of(data, samples)
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    assert set(rows[0]) == COLUMNS | PROTOCOL_KEYS
    for row, k in zip(rows, (3, 0, 5, 1, 2, 4), strict=True):
        fake = data.fake[k]
        called = np.zeros(SIZES[k], bool)
        called[:, : SIZES[k][1] // 2] = True
        tp, fp, fn = (called & fake).sum(), (called & ~fake).sum(), (~called & fake).sum()
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (tp, fp, fn, fake.size - tp - fp - fn)
        assert row["mask_area"] == pytest.approx(fake.mean())
        assert row["iou"] == pytest.approx(tp / (tp + fp + fn))
        assert row["mean_prob"] == pytest.approx(LeftHalf()(torch.zeros(1)).sigmoid().mean().item(), rel=1e-5)
        assert row["spread"] == pytest.approx(1 / (1 + np.exp(-4)) - 1 / (1 + np.exp(5)))


class Coarse(nn.Module):
    """Answers on a grid of 37 cells."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.interpolate(x_BCHW[:, :1], (37, 37), mode="bilinear")


def test_a_coarse_map_is_resized_by_the_protocol(data: Data) -> None:
    x_BCHW = StoredMaps(data.store, [data.recipe]).read(data.samples)
    for row, x_CHW, fake_HW in zip(rows_of(data, data.samples, Coarse()), x_BCHW, data.fake, strict=True):
        prob_1HW = Coarse()(x_CHW[None]).sigmoid()[0]
        called = functional.interpolate(prob_1HW[None], fake_HW.shape, mode="bilinear", antialias=True)[0, 0] > 0.5
        tp, fp = int((called.numpy() & fake_HW).sum()), int((called.numpy() & ~fake_HW).sum())
        assert (row["tp"], row["fp"]) == (tp, fp)
        assert row["mean_prob"] == pytest.approx(prob_1HW.mean().item(), rel=1e-5)


def test_of_a_localizer_that_answers_once_an_image_too_the_map_is_measured(data: Data) -> None:
    class Both(LeftHalf):
        def forward(self, x_BCHW: Tensor) -> Outputs:  # type: ignore[override]
            return Outputs(super().forward(x_BCHW), torch.zeros(len(x_BCHW), 3))

    assert rows_of(data, data.samples, Both()) == rows_of(data, data.samples)


def test_rows_say_what_they_are_of(data: Data) -> None:
    row = rows_of(data, data.samples)[0]
    expected = {"stem": "a/0", "domain": "a/one", "split": "train", "condition": "clean", "checkpoint": "best"}
    assert expected.items() <= row.items()
    assert (row["protocol"], row["trial"]) == ("declip-2025", "f" * 64)


def test_parting_the_list_changes_nothing(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_of(data, data.samples)
    monkeypatch.setattr(module, "BATCH", 4)
    assert rows_of(data, data.samples) == whole


def test_large_truths_are_measured_few_at_a_time(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen, real = rows_of(data, data.samples), [], module.metrics.score

    def score(prob_BHW: Tensor, truth_BHW: Tensor, protocol: str) -> dict[str, Tensor]:
        seen.append(tuple(truth_BHW.shape))
        return real(prob_BHW, truth_BHW, protocol)

    monkeypatch.setattr(module.metrics, "score", score)
    monkeypatch.setattr(module, "MAX_PIXELS", 3 * 256 * 256)
    assert rows_of(data, data.samples) == whole
    assert sorted(seen) == [(1, 256, 256), (2, 96, 160), (3, 256, 256)]
    seen.clear()
    monkeypatch.setattr(module, "MAX_PIXELS", 1)
    assert rows_of(data, data.samples) == whole
    assert seen == [(1, *size) for size in SIZES], "one at a time, and as soon as it is read"


def test_the_decoder_is_in_eval_mode_without_gradients(data: Data) -> None:
    seen = []
    decoder = LeftHalf().train()
    decoder.register_forward_hook(
        lambda hooked, inputs, output: seen.append((hooked.training, torch.is_grad_enabled()))
    )
    rows_of(data, data.samples, decoder)
    assert seen == [(False, False)]


def test_tf32_is_off_and_put_back(data: Data) -> None:
    seen = []
    decoder = LeftHalf()
    before = torch.backends.cudnn.allow_tf32
    decoder.register_forward_hook(lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.get_num_threads())))
    rows_of(data, data.samples, decoder)
    assert seen == [(False, 1)]
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("change", ["missing", "twice", "other"])
def test_other_samples_than_planned_are_refused(data: Data, change: str) -> None:
    wrong = {
        "missing": data.samples[:-1],
        "twice": [*data.samples, data.samples[0]],
        "other": [*data.samples[:-1], data.samples[-1]._replace(mask_sha256="0")],
    }[change]
    with pytest.raises(DataError, match=r"not those that were planned \(6\)"):
        evaluate(LeftHalf(), StoredMaps(data.store, [data.recipe]), wrong, data.folder, evaluation(data.samples))


def test_probabilities_that_are_no_number_are_refused(data: Data) -> None:
    class Broken(LeftHalf):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return super().forward(x_BCHW) * torch.nan

    with pytest.raises(DataError, match="not finite"):
        rows_of(data, data.samples, Broken())


@pytest.mark.parametrize(("protocol", "fake"), [("declip-2025", 0), ("dfloc-1", 0), ("dolos-2024", 4)])
def test_fakeness_near_real_is_measured_as_the_protocol_has_it(protocol: str, fake: int) -> None:
    """A black WebP mask may decode to 0 and 1: the reader of masks knows it, and `metrics.score` alone does not."""
    truth = np.array([[0, 1], [1, 0], [0, 1], [1, 0]], np.uint8)
    (row,) = module.measure(torch.zeros(1, 2, 2), [truth], protocol)
    assert row["fn"] == fake
