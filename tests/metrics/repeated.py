"""Repetitions of an experiment whose truth is known: photographs and trainings drawn around a mean of 0.7."""

import numpy as np

from dfloc.metrics.intervals import Floats, Images, Mean, Training

NUM_IMAGES = 10  # of a photograph


def trainings(
    rng: np.random.Generator,
    photographs: int,
    seeds: int,
    spread: float,
    skewed: bool = False,
    effect: Floats | None = None,
) -> tuple[list[Training], Floats]:
    """Return trainings on the same photographs, and each photograph's effect in units of its deviation.

    Args:
        rng: what is drawn from.
        photographs: their number; standard deviation 0.15.
        seeds: number of trainings.
        spread: standard deviation of a training; where there is one, photographs vary by training too, by 0.05.
        skewed: whether photographs are drawn from an exponential distribution (skewness -2), else a normal one.
        effect: of the photographs, where it was drawn before.
    """
    if effect is None:
        effect = 1 - rng.exponential(1, photographs) if skewed else rng.normal(0, 1, photographs)
    own = 0.05 if spread else 0.0
    photograph = np.repeat(np.arange(photographs), NUM_IMAGES)
    found = []
    for seed in range(seeds):
        mean = 0.7 + 0.15 * effect + rng.normal(0, spread) + rng.normal(0, own, photographs)
        values = np.repeat(mean, NUM_IMAGES) + rng.normal(0, 0.1, photograph.size)
        found.append(Training(0, seed, [Images(values, photograph)]))
    return found, effect


def covered(found: Mean | None, truth: float) -> bool:
    """Return whether the 95 % interval holds the truth."""
    assert found is not None
    interval = found.interval()
    return interval.low <= truth <= interval.high
