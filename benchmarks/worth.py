"""How often the interval of what labels are worth holds the true worth: `python -m benchmarks.worth`.

Curves of masks alone whose true scores are known, images of some photographs whose scores share a part, one training a
point: what a page draws (`report.worth`), source images resampled alike in all points, 400 resamples.
"""

import sys

import numpy as np

from dfloc.metrics.worth import Values, images_for, middle

COUNTS = (8, 32, 128, 512, 3000)
TRUE = (0.30, 0.42, 0.52, 0.60, 0.66)  # a curve as fine-tuning gives
SCORES = {"60 masks": 0.4685, "under the first": 0.25, "at the last": 0.66}
STUDIES, RESAMPLES, CROPS = 300, 400, 4


def study(photographs: int, score: float, generator: np.random.Generator) -> tuple[float, float]:
    """Return the interval of one study's worth of no masks and some labels."""
    true_P = np.array([score, *TRUE])
    shared_SP = generator.normal(0, 0.10, (photographs, 1)) + generator.normal(0, 0.06, (photographs, len(true_P)))
    image_SCP = true_P + shared_SP[:, None] + generator.normal(0, 0.12, (photographs, CROPS, len(true_P)))
    mean_SP = image_SCP.mean(1)
    times_NS = generator.multinomial(photographs, np.full(photographs, 1 / photographs), size=RESAMPLES)
    drawn_NP: Values = times_NS @ mean_SP / photographs
    return middle(np.array([images_for(row[0], COUNTS, row[1:]) for row in drawn_NP]))


def main() -> None:
    """Print the share of studies whose interval holds the true worth."""
    for photographs in (15, 30, 225):
        for words, score in SCORES.items():
            generator = np.random.default_rng([photographs, round(1000 * score)])
            truth = images_for(score, COUNTS, TRUE)
            spans = [study(photographs, score, generator) for _ in range(STUDIES)]
            held = [low <= truth <= high for low, high in spans]
            told = f"{words:>16} (true {truth:g}), {photographs:3} source images"
            sys.stdout.write(f"{told}: {sum(held) / len(held):.3f}\n")


if __name__ == "__main__":
    main()
