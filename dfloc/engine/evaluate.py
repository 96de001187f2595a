"""Weights x samples x protocol -> one row per image."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from upath import UPath

from dfloc import arithmetic, metrics
from dfloc.config import EvaluationSpec
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.data.shards import Pixels, ShardReader, read_truth
from dfloc.engine.batches import StoredMaps
from dfloc.engine.explanation import Explainer
from dfloc.engine.labels import Classes
from dfloc.errors import DataError
from dfloc.metrics import pointing, protocols
from dfloc.models.base import Outputs, outputs

BATCH = 32
MAX_PIXELS = 8 << 20  # of truth that is measured together
LOCALIZES = Classes()
PIXELS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(protocols.COUNTS, pa.int64()),
    **dict.fromkeys(("mask_area", "mean_prob", "spread"), pa.float64()),
}
ImageRow = dict[str, Any]


def evaluate(
    decoder: nn.Module,
    maps: StoredMaps,
    samples: Sequence[SampleRef],
    folder: UPath,
    evaluation: EvaluationSpec,
    classes: Classes = LOCALIZES,
    explainer: Explainer | None = None,
    *,
    device: str = "cpu",
    num_threads: int = 1,
) -> pa.Table:
    """Score a decoder on every image of a test list, in eval mode and fp32 throughout.

    Args:
        decoder: with the weights of the evaluation's checkpoint; it is moved to the device.
        maps: the decoder's input.
        samples: the test list.
        folder: of the shards, for the truth at native size.
        evaluation: what the rows are keyed by.
        classes: what an image may be called, of a model that says it.
        explainer: gives the maps of an evaluation with `explain`, on the same device.
        device: cpu | cuda.
        num_threads: CPU threads.

    Returns:
        One row for each sample, in the order of the list: `id, stem, domain, split, condition, protocol, checkpoint,
        trial`, what `metrics.counts` says (`tp, fp, fn, tn` in pixels, `mask_area`, `mean_prob` and, of some protocols,
        more) and the protocol's keys; of a model that calls images what `Classes.rows` says; of an explanation
        `explain` (what it is read off) and what `metrics.pointing` measures.

    Raises:
        DataError: the samples are not those that the evaluation names, or a map has a probability that is no number.
        ConfigError: the protocol is not here.
    """
    if list_digest(samples) != evaluation.test.digest:
        raise DataError(
            f"the {len(samples)} samples of {evaluation.domain}/{evaluation.split} are not those that were planned "
            f"({evaluation.test.size}); start the sweep again to plan anew"
        )
    protocols.refuse_other([evaluation])
    assert (explainer is None) == (evaluation.explain is None)
    rows: list[ImageRow] = []
    reader = ShardReader(folder)
    decoder.to(device).eval()
    with arithmetic.exact(num_threads):
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            x_BCHW = maps.read(part).to(device)
            with torch.inference_mode():
                said = outputs(decoder(x_BCHW))
            prob_BHW = _map(said) if explainer is None else explainer(part, x_BCHW, _logits(said)).squeeze(1)
            found = [named(sample, evaluation) for sample in part]
            if prob_BHW is not None:
                truth = (read_truth(folder, [sample], reader)[0] for sample in part)
                measured = measure(prob_BHW, truth, evaluation.protocol, explained=explainer is not None)
                found = [row | values for row, values in zip(found, measured, strict=True)]
            if said.image_BK is not None and classes.names:
                called = classes.rows(said.image_BK, part)
                found = [row | values for row, values in zip(found, called, strict=True)]
            rows += found
    return typed(pa.Table.from_pylist(rows))


def _map(said: Outputs) -> Tensor | None:
    return None if said.map_B1HW is None else said.map_B1HW.squeeze(1).sigmoid()


def _logits(said: Outputs) -> Tensor:
    assert said.image_BK is not None
    return said.image_BK


def typed(table: pa.Table) -> pa.Table:
    """Return rows whose pixel columns are there, null where a model gives no map."""
    for name, kind in PIXELS.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    return table


def measure(prob_BHW: Tensor, truth: Iterable[Pixels], protocol: str, *, explained: bool = False) -> list[ImageRow]:
    """Return the counts and keys of each map; truths of one native size are measured together.

    Args:
        prob_BHW: of any size.
        truth: the fakeness of each, at its native size.
        protocol: its name.
        explained: whether the maps are explanations, of which is asked besides where they point.

    Raises:
        DataError: a map has a probability that is no number.
    """
    values: list[ImageRow] = [{} for _ in prob_BHW]
    rule = protocols.find(protocol)
    for alike in _alike(truth):
        indices = list(alike)
        truth_NHW = rule.binarise(torch.from_numpy(np.stack(list(alike.values()))).to(prob_BHW.device))
        prob_NHW = prob_BHW[indices]
        found = metrics.counts(prob_NHW, truth_NHW, protocol) | metrics.score(prob_NHW, truth_NHW, protocol)
        if explained:
            found |= pointing.pointing(prob_NHW, truth_NHW, protocol)
        for name, value_N in found.items():
            for index, value in zip(indices, value_N.tolist(), strict=True):
                values[index][name] = value
    return values


def _alike(truth: Iterable[Pixels]) -> Iterator[dict[int, Pixels]]:
    """Part truths, by their place, into groups of one size and of at most `MAX_PIXELS`, or of one alone."""
    by_size: defaultdict[tuple[int, ...], dict[int, Pixels]] = defaultdict(dict)
    for index, truth_HW in enumerate(truth):
        group = by_size[truth_HW.shape]
        group[index] = truth_HW
        if (len(group) + 1) * truth_HW.size > MAX_PIXELS:
            yield by_size.pop(truth_HW.shape)
    yield from by_size.values()


def named(sample: SampleRef, evaluation: EvaluationSpec) -> ImageRow:
    """Return what a row says of what it is of."""
    return {
        "id": sample.id,
        "stem": sample.stem,
        "domain": sample.domain,
        "split": sample.split,
        "condition": evaluation.condition,
        "protocol": evaluation.protocol,
        "checkpoint": evaluation.checkpoint,
        "trial": evaluation.trial,
        **({"explain": evaluation.explain.called} if evaluation.explain else {}),
    }
