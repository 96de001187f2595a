"""A composite: whose rows and weights it is made of, and what they give together."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from dfloc import arithmetic
from dfloc.config import Checkpoint, EvaluationSpec, MapRecipe, TrialSpec
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import ShardReader, read_truth
from dfloc.engine import route
from dfloc.engine.batches import StoredMaps
from dfloc.engine.evaluate import BATCH, measure, named, typed
from dfloc.engine.predict import trained
from dfloc.errors import WorkspaceError
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.models.base import outputs

Resize = Callable[[Tensor, tuple[int, int]], Tensor]


def maps_of(spec: TrialSpec, ledger: Ledger) -> Sequence[MapRecipe]:
    """Return the maps that a trial is scored on: those of the parts where it averages theirs."""
    if spec.decoder.rule != "mean":
        return spec.maps
    every = [recipe for part in spec.parts.values() for recipe in ledger.spec(part.parent).maps]
    return list({recipe.fingerprint: recipe for recipe in every}.values())


def score(
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    samples: Sequence[SampleRef],
    folder: UPath,
    ledger: Ledger,
    device: str = "cpu",
) -> pa.Table:
    """Return the rows of a composite: of argmax a join of its parts' rows, of mean one pass over their maps' mean.

    Args:
        spec: the composite's.
        evaluation: of it.
        samples: the test list.
        folder: of the shards, for truths.
        ledger: where its parts are.
        device: cpu | cuda, of mean.

    Raises:
        WorkspaceError: a part is not scored on these images, or its weights are gone.
        DataError: as `route.join` and `evaluate`.
    """
    if spec.decoder.rule == "mean":
        return _mean(spec, evaluation, samples, folder, ledger, device)
    parts = {name: part.parent for name, part in spec.parts.items()}
    router = route.routers(ledger, parts.pop(route.ROUTE), evaluation)
    rows = {name: route.rows_of(ledger, part, evaluation) for name, part in parts.items()}

    def empty(places: Sequence[int]) -> pa.Table:
        return _empty([samples[place] for place in places], folder, evaluation)

    return route.join(evaluation, router, rows, empty)


def mean_map(prob_B1HW: Sequence[Tensor], resize: Resize) -> Tensor:
    """Return the mean of maps [B, 1, h, w], on the largest one's grid; of one map that map, bit for bit."""
    height, width = max((one.shape[2], one.shape[3]) for one in prob_B1HW)
    alike = [one if one.shape[2:] == (height, width) else resize(one, (height, width)).clamp(0, 1) for one in prob_B1HW]
    return torch.stack(alike).double().mean(0).float()


def _empty(samples: Sequence[SampleRef], folder: UPath, evaluation: EvaluationSpec) -> pa.Table:
    """Return the rows of a map without a fake pixel."""
    rows, reader = list[dict[str, object]](), ShardReader(folder)
    with arithmetic.exact(1):
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            truth = (read_truth(folder, [sample], reader)[0] for sample in part)
            found = measure(torch.zeros(len(part), 1, 1), truth, evaluation.protocol)
            rows += [named(sample, evaluation) | values for sample, values in zip(part, found, strict=True)]
    return typed(pa.Table.from_pylist(rows))


def _mean(
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    samples: Sequence[SampleRef],
    folder: UPath,
    ledger: Ledger,
    device: str,
) -> pa.Table:
    members = [_member(ledger, part.parent, evaluation.checkpoint, device) for part in spec.parts.values()]
    rows, reader = list[dict[str, object]](), ShardReader(folder)
    resize = protocols.find(evaluation.protocol).resize
    with arithmetic.exact(1):
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            with torch.inference_mode():
                prob_B1HW = mean_map([member(part) for member in members], resize)
            truth = (read_truth(folder, [sample], reader)[0] for sample in part)
            found = measure(prob_B1HW.squeeze(1), truth, evaluation.protocol)
            rows += [named(sample, evaluation) | values for sample, values in zip(part, found, strict=True)]
    return typed(pa.Table.from_pylist(rows))


def _member(ledger: Ledger, part: str, which: Checkpoint, device: str) -> Callable[[Sequence[SampleRef]], Tensor]:
    """Return what gives a part's maps [B, 1, H, W] of samples, probabilities."""
    spec = ledger.spec(part)
    decoder = trained(spec, ledger.weights(part, which)).to(device)
    maps = StoredMaps(FeatureStore(ledger.workspace.features), spec.maps, tokens=spec.decoder.reads_tokens)

    def prob_B1HW(samples: Sequence[SampleRef]) -> Tensor:  # noqa: N802
        said = outputs(decoder(maps.read(samples).to(device)))
        if said.map_B1HW is None:
            raise WorkspaceError(f"trial {part[:12]} gives no map to be averaged; compose localizers alone")
        return said.map_B1HW.sigmoid()

    return prob_B1HW
