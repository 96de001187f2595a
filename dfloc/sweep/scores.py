"""What rows of one domain are worth: means, an interval, numbers of the set, and what the trial had seen before."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.data import dolos, lists
from dfloc.data.manifest import SampleRef
from dfloc.ledger import Ledger
from dfloc.metrics import bootstrap, protocols, summarise
from dfloc.storage import Workspace
from dfloc.summary import validated

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
        of_set: numbers of the set that are no mean of a key: `pooled_iou`, and what the protocol adds.
        num_valid: validation images that the threshold among these was chosen on; 0 where none was.
    """

    domain: str
    images: int
    photographs: int
    trained_on: int
    relation: Relation
    values: dict[str, float]
    undefined: dict[str, int]
    interval: tuple[float, float]
    of_set: dict[str, float]
    num_valid: int


def line(workspace: Workspace, spec: TrialSpec, evaluation: EvaluationSpec, refs: Sequence[SampleRef]) -> Line:
    """Return what the rows of an evaluation of a trial say.

    Args:
        workspace: holds the rows, and the lists that the trial was trained on.
        spec: the trial's.
        evaluation: whose rows are there.
        refs: the samples that were evaluated.

    Raises:
        WorkspaceError: the rows are damaged.
    """
    ledger = Ledger(workspace)
    chooses = evaluation.split != "valid"
    valid = (
        validated(ledger, evaluation.trial, spec.valid, evaluation.checkpoint, evaluation.protocol) if chooses else None
    )
    found = of_rows(ledger.rows(spec.fingerprint, evaluation.key), evaluation.protocol, evaluation.domain, valid)
    seen = {ref.stem for ref in refs} & _trained_on(workspace, spec)
    return found._replace(trained_on=len(seen), relation=relation(spec, evaluation.domain))


def of_rows(rows: pa.Table, protocol: str, domain: str, valid: pa.Table | None = None) -> Line:
    """Return what the rows of one domain say, whoever made the maps.

    Args:
        rows: one for each image.
        protocol: theirs.
        domain: theirs.
        valid: rows of validation images, of a protocol that chooses a threshold there.

    Raises:
        DataError: the rows are of another protocol, or lack what it says.
    """
    keys = protocols.find(protocol).keys
    numbers = summarise(rows, protocol, valid)
    alone = pa.array(np.zeros(len(rows), np.int64))
    spread = bootstrap.interval(rows.append_column("draw", alone).append_column("seed", alone), keys[0])
    return Line(
        domain=domain,
        images=len(rows),
        photographs=spread.num_photographs,
        trained_on=0,
        relation="unknown",
        values={key: numbers[key] for key in keys if key in numbers},
        undefined={key: int(numbers[f"nan/{key}"]) for key in keys if numbers[f"nan/{key}"]},
        interval=(spread.low, spread.high),
        of_set={key: value for key, value in numbers.items() if key not in keys and not key.startswith("nan/")},
        num_valid=0 if valid is None else len(valid),
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
        stems |= {_stem(sample_id) for sample_id in lists.ids(workspace, spec.train.digest) or ()}
        if spec.start is None or not ledger.folder(spec.start.parent).exists():
            return stems
        spec = ledger.spec(spec.start.parent)


def _stem(sample_id: str) -> str:
    """Return the photograph of an id, `<source>/<generator>/<split>/<file name>`."""
    source, _, _, name = sample_id.split("/", 3)
    return f"{source}/{dolos.photograph(name.rpartition('.')[0] or name)}"
