"""What rows of one domain are worth: means, an interval, numbers of the set, and what the trial had seen before."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from upath import UPath

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.data import dolos, sample_lists
from dfloc.data.manifest import SampleRef
from dfloc.ledger import Ledger
from dfloc.metrics import bootstrap, degenerate, protocols, summarise
from dfloc.metrics.metric import Metric
from dfloc.metrics.sets import pooled_iou
from dfloc.storage import Workspace
from dfloc.summary import Relation, relation, validated

NUM_RESAMPLES = 400


class DomainScore(NamedTuple):
    """One domain's result.

    Attributes:
        photographs: distinct ones, which the intervals are over.
        trained_on: how many of them the trial or an ancestor trained on, as far as their lists are in the workspace;
            None where it is not known which photographs the images of these show.
        relation: whether the trial or an ancestor trained on the domain's family.
        values: the mean of each of the protocol's keys that any image has.
        undefined: images that have no value, by key.
        first: the metric that stands for the protocol; of one of images, where it needs reals, the first that is there.
        interval: 95 % of its mean, over photographs; None where they are under three.
        of_set: numbers of the set that are no mean of a key: `pooled_iou`, and what the protocol adds.
        num_valid: validation images that the threshold among these was chosen on; 0 where none was.
        images_trained_on: images whose pixels the trial or an ancestor trained on, under whatever name; None where none
            could be compared.
        compared: whether every image was compared with everything that they trained on.
        collapsed: what over 90 % of the maps are (`DegenerateMaps.word`); empty where they are none of it.
        all_fake: the mean of each key that calling every pixel of the same images fake has.
        pooled: as `interval`, of `pooled_iou`.
    """

    domain: str
    first: Metric
    images: int
    photographs: int
    trained_on: int | None
    relation: Relation
    values: dict[str, float]
    undefined: dict[str, int]
    interval: tuple[float, float] | None
    of_set: dict[str, float]
    num_valid: int
    images_trained_on: int | None = None
    compared: bool = False
    collapsed: str = ""
    all_fake: Mapping[str, float] = MappingProxyType({})
    pooled: tuple[float, float] | None = None

    @property
    def is_not_above(self) -> bool:
        """Whether the mean of the first metric is no better than that of calling every pixel fake."""
        own, other = self.values.get(self.first.key), self.all_fake.get(self.first.key)
        return own is not None and other is not None and self.first.gain(own, other) <= degenerate.EQUAL


def line(
    workspace: Workspace,
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    refs: Sequence[SampleRef],
    data: Sequence[UPath] = (),
    families: Mapping[str, str] = MappingProxyType({}),
) -> DomainScore:
    """Return what the rows of an evaluation of a trial say, on samples of which data may know photographs and families.

    Raises:
        WorkspaceError: the rows are damaged.
    """
    ledger = Ledger(workspace)
    chooses = evaluation.split != "valid"
    valid = (
        validated(ledger, evaluation.trial, spec.valid, evaluation.checkpoint, evaluation.protocol) if chooses else None
    )
    found = of_rows(ledger.scored(evaluation), evaluation.protocol, evaluation.domain, valid)
    seen = _trained_on(workspace, spec, data)
    number, compared = _by_pixels(workspace, spec, refs)
    return found._replace(
        trained_on=None if seen is None else len({ref.stem for ref in refs} & seen),
        relation=_relation(spec, evaluation.domain, families),
        images_trained_on=number,
        compared=compared,
    )


def of_rows(rows: pa.Table, protocol: str, domain: str, valid: pa.Table | None = None) -> DomainScore:
    """Return what the rows of one domain say, whoever made the maps.

    `valid` are rows of validation images, of a protocol that chooses a threshold there.

    Raises:
        DataError: the rows are of another protocol, or lack what it says.
    """
    rule = protocols.find(protocol)
    keys = {key: metric for key, metric in rule.per_image.items() if rule.reads == "map" or key in rule.tracked}
    numbers = summarise(rows, protocol, valid)
    first = rule.first
    if rule.reads == "image":  # what needs reals, one domain has not
        first = next((metric for metric in keys.values() if metric.key in numbers), first)
    alone = pa.array(np.zeros(len(rows), np.int64))
    one = pa.table({"draw": alone, "seed": alone, "stem": rows["stem"], first.key: rule.values(rows)[first.key]})
    spread = bootstrap.interval(one, first.key, bounds=first.bounds)
    return DomainScore(
        domain=domain,
        first=first,
        images=len(rows),
        photographs=spread.num_photographs,
        trained_on=0,
        relation="unknown",
        values={key: numbers[key] for key in keys if key in numbers},
        undefined={key: int(numbers[f"nan/{key}"]) for key in keys if numbers.get(f"nan/{key}")},
        interval=spread.ends,
        pooled=_pooled(rows) if rule.reads == "map" else None,
        of_set={
            key: value for key, value in numbers.items() if key not in rule.per_image and not key.startswith("nan/")
        },
        num_valid=0 if valid is None else len(valid),
        collapsed=degenerate.word([rows]),
        all_fake={
            key: float(np.nanmean(values))
            for key, values in degenerate.all_fake(rows, protocol).items()
            if not np.isnan(values).all()
        },
    )


def _relation(spec: TrialSpec, domain: str, families: Mapping[str, str]) -> Relation:
    """Return as `summary.relation`; the photographs of another source are no family of those trained on."""
    found = relation(spec, domain, families)
    seen = (*spec.lineage.seen, *spec.lineage.base, *spec.train.counts)
    if found != "in" or not dolos.is_real(domain) or domain in seen:
        return found
    return "out" if spec.lineage.base else "unknown"


def _pooled(rows: pa.Table) -> tuple[float, float] | None:
    """Return the interval of IoU over all pixels."""
    alone = pa.array(np.zeros(len(rows), np.int64))
    counted = rows.select(["stem", "tp", "fp", "fn"]).append_column("draw", alone).append_column("seed", alone)
    return bootstrap.interval(counted, pooled_iou, num_resamples=NUM_RESAMPLES).ends


def _trained_on(workspace: Workspace, spec: TrialSpec, data: Sequence[UPath]) -> set[str] | None:
    """Return the photographs of the training lists of a trial and its ancestors, as far as these are there."""
    there = [each for each in _line_of(workspace, spec) if sample_lists.ids(workspace, each.train.digest) is not None]
    shown = [sample_lists.stems(workspace, each.train.digest, data) for each in there]
    known = [stems for stems in shown if stems is not None]
    return None if len(known) < len(shown) else {stem for stems in known for stem in stems.values()}


def _line_of(workspace: Workspace, spec: TrialSpec) -> Iterator[TrialSpec]:
    """Yield a trial and its ancestors, as far as the workspace knows them."""
    ledger = Ledger(workspace)
    yield spec
    while spec.start is not None and ledger.folder(spec.start.parent).exists():
        spec = ledger.spec(spec.start.parent)
        yield spec


def _by_pixels(workspace: Workspace, spec: TrialSpec, refs: Sequence[SampleRef]) -> tuple[int | None, bool]:
    """Return how many images a trial or an ancestor trained on, by their pixels, and whether all were compared."""
    line = list(_line_of(workspace, spec))
    kept = [sample_lists.pixels(workspace, each.train.digest) for each in line]
    known = [pixels for pixels in kept if pixels is not None]
    digested = [ref.pixels_sha256 for ref in refs if ref.pixels_sha256]
    if not digested or not known:
        return None, False
    whole = len(known) == len(line) and line[-1].start is None and len(digested) == len(refs)
    return len([pixels for pixels in digested if any(pixels in seen for seen in known)]), whole
