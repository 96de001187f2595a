"""A router's rows and those of the models behind it -> the rows of both together; nothing is computed anew."""

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from dfloc.config import EvaluationSpec
from dfloc.errors import DataError
from dfloc.metrics.image_rows import REAL

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
