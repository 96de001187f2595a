"""A router's rows and those of the models behind it -> the rows of both together; nothing is computed anew."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from dfloc import registry
from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.errors import DataError, WorkspaceError
from dfloc.ledger import Ledger
from dfloc.metrics import protocols, routing
from dfloc.metrics.image_rows import REAL
from dfloc.metrics.metric import IOU
from dfloc.metrics.routing import Routed

ROUTE = "route"
ROUTED, PART, SCORE = "routed", "part", "score"


def join(
    evaluation: EvaluationSpec,
    router: pa.Table,
    parts: Mapping[str, pa.Table],
    empty: Callable[[Sequence[int]], pa.Table],
) -> pa.Table:
    """Return the rows of a composite: of each image those of the part that its router's call names.

    Args:
        evaluation: of the composite.
        router: one row an image, with `called` and `score`.
        parts: by class, rows of the same images in the same order.
        empty: places of images -> rows of a map without a fake pixel, for those that are called real.

    Returns:
        The rows of the parts, with `routed` (the class that the router calls), `part` (fingerprint of the part whose
        map it is; empty: the empty map) and `score` (the router's) beside.

    Raises:
        DataError: a table has other images, or the router calls an image what no part has.
    """
    ids, called = router["id"].to_pylist(), router["called"].to_pylist()
    for name, rows in parts.items():
        if rows["id"].to_pylist() != ids:
            raise DataError(f"the rows of {name} are of other images than the router's; score both again")
    if strange := sorted({*called} - {REAL, *parts}):
        raise DataError(f'the router calls an image "{strange[0]}", and no part has its map; compose one of that class')
    passed = [place for place, name in enumerate(called) if name == REAL]
    tables = {**parts, **({REAL: empty(passed)} if passed else {})}
    whole = pa.concat_tables(tables.values(), promote_options="permissive")
    starts, start = dict[str, int](), 0
    for name, rows in tables.items():
        starts[name], start = start, start + len(rows)
    nth = {place: number for number, place in enumerate(passed)}
    found = whole.take([starts[name] + nth.get(place, place) for place, name in enumerate(called)])
    trials = ["" if name == REAL else trial for name, trial in zip(called, found["trial"].to_pylist(), strict=True)]
    found = found.set_column(found.column_names.index("trial"), "trial", pa.array([evaluation.trial] * len(ids)))
    for name, values in ((ROUTED, called), (PART, trials), (SCORE, router["score"].to_pylist())):
        found = found.append_column(name, pa.array(values))
    return found


def routers(ledger: Ledger, router: str, evaluation: EvaluationSpec) -> pa.Table:
    """Return the rows in which a router calls the images of a composite's evaluation; any protocol of images will do.

    Raises:
        WorkspaceError: it is not scored on them.
    """
    for name in registry.names("protocol"):
        if protocols.find(name).reads == "image":
            one = of_part(evaluation, router).model_copy(
                update={"protocol": name, "plugin": registry.plugin_of("protocol", name)}
            )
            if ledger.has_scored(one):
                return ledger.scored(one)
    raise _lacking(router, evaluation, " --protocol image-1")


def of_part(evaluation: EvaluationSpec, part: str) -> EvaluationSpec:
    """Return the evaluation of a part on the images of a composite's, by the same protocol and checkpoint."""
    return evaluation.model_copy(update={"trial": part})


def rows_of(ledger: Ledger, part: str, evaluation: EvaluationSpec) -> pa.Table:
    """Return the rows of a part on the images of a composite's evaluation.

    Raises:
        WorkspaceError: it is not scored on them.
    """
    one = of_part(evaluation, part)
    if not ledger.has_scored(one):
        raise _lacking(part, evaluation, f" --protocol {evaluation.protocol}")
    return ledger.scored(one)


def _lacking(part: str, evaluation: EvaluationSpec, by: str) -> WorkspaceError:
    return WorkspaceError(
        f"trial {evaluation.trial[:12]} is composed of trial {part[:12]}, which has no rows of {evaluation.domain} "
        f"({evaluation.split}, {evaluation.checkpoint}); score it first: dfloc evaluate {part[:12]} --data DIR{by}"
    )


def routed(ledger: Ledger, spec: TrialSpec, evaluation: EvaluationSpec, metric: str) -> Routed | None:
    """Return what routing costs a composite by its rows, and by those of its router and parts.

    None: it has no router, or rows of its router or of a part are gone since.

    Raises:
        WorkspaceError: its own rows are gone or damaged.
    """
    parts = {name: part.parent for name, part in spec.parts.items()}
    if ROUTE not in parts or spec.decoder.rule != "argmax":
        return None
    try:
        router = routers(ledger, parts.pop(ROUTE), evaluation)
        tables = {name: rows_of(ledger, part, evaluation) for name, part in parts.items()}
    except WorkspaceError:
        return None
    return routing.routed(ledger.scored(evaluation), router, tables, metric)


def numbers(
    ledger: Ledger, spec: TrialSpec, evaluations: Iterable[EvaluationSpec], domains: Sequence[str]
) -> dict[str, float]:
    """Return what MLflow says of a composite's router: nothing of another trial.

    Args:
        ledger: where the rows are.
        spec: of the trial.
        evaluations: of it that have rows.
        domains: those of fakes over which means run.

    Returns:
        `route/<domain>/recall`: the share of images that are called their class; `route/cost`, where all domains are
        there: by how much a right router would raise the mean IoU over them.
    """
    found = {
        each.domain: part
        for each in evaluations
        if spec.parts and each.checkpoint == "best" and IOU.key in protocols.find(each.protocol).per_image
        if (part := routed(ledger, spec, each, IOU.key))
    }
    costs = [found[domain].cost for domain in domains if domain in found]
    whole = bool(costs) and len(costs) == len(domains) and all(map(math.isfinite, costs))
    recalls = {f"route/{domain}/recall": part.recall for domain, part in found.items()}
    return recalls | ({"route/cost": sum(costs) / len(costs)} if whole else {})
