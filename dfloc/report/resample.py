"""Many numbers resampled together: the same draws, seeds and photographs in all, so that they can be compared."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfloc.config import Checkpoint
from dfloc.metrics.intervals import Images, Mean
from dfloc.metrics.metric import IOU
from dfloc.report.estimate import Run, average
from dfloc.report.groups import Group, Repetition, places
from dfloc.report.score import Score

Array = NDArray[np.float64]
NUM = 400


class MeanOver(NamedTuple):
    """One number: the mean of a metric, as published tables name it, over models, each on a test domain; best epoch."""

    models: tuple[tuple[Group, str], ...]
    metric: str = IOU.key


def there(part: MeanOver) -> bool:
    """Return whether all that a number is the mean of is scored."""
    return bool(part.models) and all(_runs(group, domain, part.metric) for group, domain in part.models)


def shared_runs(parts: Sequence[MeanOver]) -> list[Repetition]:
    """Return the draws and seeds at which all models of some numbers are scored, the same trainings once."""
    scored = [_runs(group, domain, part.metric) for part in parts for group, domain in part.models]
    shared = places([group for part in parts for group, _ in part.models])
    return [place for place in shared if all(place in each for each in scored)]


def averages(parts: Sequence[MeanOver]) -> list[Mean]:
    """Return the numbers, each with what the trainings and photographs that they share move it by.

    Args:
        parts: numbers that are there and share a run.
    """
    runs = shared_runs(parts)
    found = [
        average(
            [Run(*place, [_runs(*model, part.metric)[place] for model in part.models]) for place in runs], part.metric
        )
        for part in parts
    ]
    return [one for one in found if one is not None]


def resample(parts: Sequence[MeanOver], *, num: int = NUM, seed: int = 0) -> Array:
    """Return the numbers as they are in each resample, [num, parts]; NaN where a set came empty.

    Draws with replacement, within each its seeds, and for all alike photographs (the pigeonhole bootstrap, Owen, Annals
    of Applied Statistics 1, 2007).

    Args:
        parts: numbers that are there and share a run.
        num: resamples.
        seed: of the resampling.
    """
    runs = shared_runs(parts)
    scores = {
        (part.metric, id(group), domain): _runs(group, domain, part.metric)
        for part in parts
        for group, domain in part.models
    }
    every = [
        part.photographs for (key, *_), found in scores.items() for one in found.values() for part in one.images(key)
    ]
    size = 1 + max(int(photographs.max()) for photographs in every)
    used = np.zeros(size, dtype=bool)
    for photographs in every:
        used[photographs] = True
    generator = np.random.default_rng(seed)
    run_NR = _run_weights([draw for draw, _ in runs], num, generator)
    photo_NP = np.zeros((num, size))
    photo_NP[:, used] = generator.multinomial(used.sum(), np.full(used.sum(), 1 / used.sum()), size=num)
    means = {key: _mean(key[0], [found[run] for run in runs], run_NR, photo_NP) for key, found in scores.items()}
    columns = [
        np.mean([means[part.metric, id(group), domain] for group, domain in part.models], axis=0) for part in parts
    ]
    return np.stack(columns, axis=1)


def _runs(group: Group, domain: str, metric: str) -> Mapping[Repetition, Score]:
    key: tuple[Checkpoint, str] = ("best", domain)
    return {
        place: result.scores[key]
        for place, result in group.runs.items()
        if key in result.scores and result.scores[key].mean(metric) is not None
    }


def _mean(metric: str, scores: Sequence[Score], run_NR: Array, photo_NP: Array) -> Array:
    """Return the mean over runs of the mean over images in each resample."""
    size = photo_NP.shape[1]
    mean_N = np.zeros(len(photo_NP))
    for run_N, score in zip(run_NR.T, scores, strict=True):
        own_N = np.mean([_mean_of(part, photo_NP, size) for part in score.images(metric)], axis=0)
        mean_N += np.where(run_N > 0, run_N * own_N, 0.0)
    found: Array = mean_N / run_NR.sum(1)
    return found


def _mean_of(part: Images, photo_NP: Array, size: int) -> Array:
    known = ~np.isnan(part.values)
    photographs = part.photographs[known]
    total_N = photo_NP @ np.bincount(photographs, part.values[known], size)
    count_N = photo_NP @ np.bincount(photographs, minlength=size)
    found: Array = np.divide(total_N, count_N, out=np.full(len(total_N), np.nan), where=count_N > 0)
    return found


def _run_weights(draws: Sequence[int], num: int, generator: np.random.Generator) -> Array:
    """Return how often each run comes in each resample, [num, runs]."""
    weight_NR = np.zeros((num, len(draws)))
    known = sorted(set(draws))
    times_ND = generator.multinomial(len(known), np.full(len(known), 1 / len(known)), size=num)
    for place, draw in enumerate(known):
        mine = [index for index, each in enumerate(draws) if each == draw]
        shares = np.full(len(mine), 1 / len(mine))
        weight_NR[:, mine] = generator.multinomial(times_ND[:, place] * len(mine), shares)
    return weight_NR
