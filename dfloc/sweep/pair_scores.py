"""What rows of fakes and of reals are worth together: each number with its interval, and what images are called."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dfloc.metrics import image_rows, pair_intervals, pairs, protocols
from dfloc.metrics.image_rows import FAKE, PROB, REAL, Called
from dfloc.summary import ALL

NUM_RESAMPLES = 400
THRESHOLD = "image_threshold"
READ = frozenset({"stem", "protocol", "domain", "class", "called", "score", "mean_prob", "fake_logit"})


class PairNumber(NamedTuple):
    """A number of a pair, and its 95 % interval over source images; None where it has none."""

    value: float
    interval: tuple[float, float] | None


class PairScore(NamedTuple):
    """What fakes and reals are worth together.

    Attributes:
        fakes: their domain; `all`: of all domains together.
        reals: domains of the reals.
        num_fakes: images.
        num_reals: images.
        numbers: by key, in the order of the protocol's tables.
        threshold: that the trial's own validation images chose; None where they chose none.
        num_valid: of these images; 0 where they are not there.
    """

    fakes: str
    reals: tuple[str, ...]
    num_fakes: int
    num_reals: int
    numbers: dict[str, PairNumber]
    threshold: float | None
    num_valid: int


def of_pairs(tables: Mapping[str, pa.Table], protocol: str, valid: pa.Table | None = None) -> list[PairScore]:
    """Return what each domain of fakes is worth beside the reals of its source, then all fakes beside all reals.

    Args:
        tables: rows by domain, in full; `<source>/real` are the reals.
        protocol: their name.
        valid: rows of the trial's validation list, of a protocol that chooses a threshold there.

    Returns:
        Those of which the protocol says something; none without reals.

    Raises:
        DataError: as `pairs.summarise_pair`.
    """
    return [found for sides in _sides(tables, protocol) if (found := _score(*sides, protocol, valid)).numbers]


def called(tables: Mapping[str, pa.Table], protocol: str) -> Called | None:
    """Return what the images of each class are called, of a model that tells more than real and fake apart; else None.

    Raises:
        DataError: as `image_rows.called`.
    """
    if protocols.find(protocol).reads == "map":
        return None
    found = image_rows.together(map(image_rows.called, tables.values()))
    return None if found is None or found.called == (REAL, FAKE) else found


Fakes = tuple[str, pa.Table]
Reals = tuple[tuple[str, ...], pa.Table]


def _sides(tables: Mapping[str, pa.Table], protocol: str) -> Iterator[tuple[Fakes, Reals]]:
    fakes = [domain for domain in tables if domain != pairs.reals_of(domain)]
    reals = tuple(domain for domain in tables if domain not in fakes)
    for domain in fakes:
        if (real := pairs.reals_of(domain)) in tables:
            yield (domain, tables[domain]), ((real,), tables[real])
    if len(fakes) > 1 and reals and protocols.find(protocol).reads == "image":
        whole = [
            pa.concat_tables([tables[name] for name in side], promote_options="permissive") for side in (fakes, reals)
        ]
        yield (ALL, whole[0]), (reals, whole[1])


def _score(fakes: Fakes, reals: Reals, protocol: str, valid: pa.Table | None) -> PairScore:
    found = pairs.summarise_pair(fakes[1], reals[1], protocol, valid)
    keys = [metric.key for metric in protocols.find(protocol).metrics if metric.key in found]
    one, other = _alone(fakes[1]), _alone(reals[1])
    around = pair_intervals.several(one, other, protocol, keys, valid, num_resamples=NUM_RESAMPLES) if keys else {}
    ends = {key: each.ends for key, each in around.items()}
    numbers = {
        key: PairNumber(found[key], (float(two[0]), float(two[1])) if (two := ends[key]) else None) for key in keys
    }
    numbers |= {key: PairNumber(found[key], None) for key in found if key not in (*keys, THRESHOLD)}
    threshold = found.get(THRESHOLD)
    used = len(valid) if valid is not None and threshold is not None else 0
    return PairScore(fakes[0], reals[0], len(fakes[1]), len(reals[1]), numbers, threshold, used)


def _alone(rows: pa.Table) -> pa.Table:
    """Return what is read of rows, as those of one training."""
    rows = rows.select([name for name in rows.column_names if name in READ or name.startswith(PROB)])
    zeros = pa.array(np.zeros(len(rows), np.int64))
    return rows.append_column("draw", zeros).append_column("seed", zeros)
