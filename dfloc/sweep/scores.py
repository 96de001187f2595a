"""What a finished trial is worth on one domain, from its rows: means, an interval, and what it had seen before."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from dfloc import storage
from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.data import dolos
from dfloc.data.manifest import SampleRef
from dfloc.ledger import Ledger
from dfloc.metrics import bootstrap, protocols, summarise
from dfloc.storage import Workspace

Relation = Literal["in", "out", "unknown"]


class Line(NamedTuple):
    """One domain's result.

    Attributes:
        photographs: distinct ones, which the interval resamples.
        trained_on: how many of them the trial or an ancestor trained on, as far as their lists are in the workspace.
        relation: whether the trial or an ancestor trained on the domain's family.
        values: the mean of each of the protocol's keys that any image has.
        undefined: images that have no value, by key.
        interval: 95 % of the first key's mean, over photographs.
    """

    domain: str
    images: int
    photographs: int
    trained_on: int
    relation: Relation
    values: dict[str, float]
    undefined: dict[str, int]
    interval: tuple[float, float]


def line(workspace: Workspace, spec: TrialSpec, evaluation: EvaluationSpec, refs: Sequence[SampleRef]) -> Line:
    """Return what the rows of an evaluation say.

    Args:
        workspace: holds the rows, and the lists that the trial was trained on.
        spec: the trial's.
        evaluation: whose rows are there.
        refs: the samples that were evaluated.

    Raises:
        WorkspaceError: the rows are damaged.
    """
    rows = Ledger(workspace).rows(spec.fingerprint, evaluation.key)
    keys = protocols.find(evaluation.protocol).keys
    means = summarise(rows, evaluation.protocol)
    alone = pa.array(np.zeros(len(rows), np.int64))
    spread = bootstrap.interval(rows.append_column("draw", alone).append_column("seed", alone), keys[0])
    stems = {ref.stem for ref in refs}
    return Line(
        domain=evaluation.domain,
        images=len(rows),
        photographs=len(stems),
        trained_on=len(stems & _trained_on(workspace, spec)),
        relation=relation(spec, evaluation.domain),
        values={key: means[key] for key in keys if key in means},
        undefined={key: int(means[f"nan/{key}"]) for key in keys if means[f"nan/{key}"]},
        interval=(spread.low, spread.high),
    )


def relation(spec: TrialSpec, domain: str) -> Relation:
    """Return whether a trial or an ancestor trained on a domain's family; unknown where the root's training is."""
    seen = (*spec.lineage.seen, *spec.lineage.base, *spec.train.counts)
    if dolos.family(domain) in {dolos.family(name) for name in seen}:
        return "in"
    return "out" if spec.lineage.base else "unknown"


def _trained_on(workspace: Workspace, spec: TrialSpec) -> set[str]:
    """Return the photographs of the training lists of a trial and its ancestors."""
    ledger, stems = Ledger(workspace), set()
    while True:
        path = workspace.lists / f"{spec.train.digest}.json"
        if path.exists():
            stems |= {_stem(sample_id) for sample_id in storage.get_json(path)}
        if spec.start is None or not ledger.folder(spec.start.parent).exists():
            return stems
        spec = ledger.spec(spec.start.parent)


def _stem(sample_id: str) -> str:
    """Return the photograph of an id, `<source>/<generator>/<split>/<file name>`."""
    source, _, _, name = sample_id.split("/", 3)
    return f"{source}/{dolos.photograph(name.rpartition('.')[0] or name)}"
