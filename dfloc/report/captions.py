"""Where the numbers of a figure or table come from: protocol, data, seeds, photographs."""

from collections.abc import Iterable, Sequence

from dfloc.config import fingerprint
from dfloc.report.groups import Group, Study
from dfloc.report.results import Score

BASELINES = {"all-fake": "all fake", "mean-mask": "mean training mask", "threshold": "local-variance threshold"}


def provenance(study: Study, groups: Iterable[Group]) -> str:
    """Return the end of a caption: protocol, test data, seeds, and what the intervals are of."""
    results = [result for group in groups for result in group.scored]
    scores = [score for result in results for score in result.scores.values()]
    if not scores:
        return "No trial of it is finished."
    seeds = sorted({result.trial.axes.get("seed", result.trial.spec.seed) for result in results})
    draws = sorted({result.trial.axes.get("draw", 0) for result in results})
    several = len(seeds) * len(draws) > 1
    over = "draws, seeds, then photographs" if several else "photographs: test sampling only"
    random = {recipe.weights for result in results for recipe in result.trial.spec.maps if "random" in recipe.weights}
    weights = f" Weights: {_list(sorted(random))}, so these numbers mean nothing." if random else ""
    return (
        f"Protocol {study.record.protocol}. {_data(study, scores)}. Trial seeds {_list(seeds)}, "
        f"mixture draws {_list(draws)}. Intervals: 95 %, bootstrap over {over}.{weights}"
    )


def digest(scores: Iterable[Score]) -> str:
    """Return a short name of the test lists of some scores."""
    return fingerprint(sorted({score.spec.test.digest for score in scores}))[:10]


def baseline(study: Study, name: str) -> Group | None:
    """Return the group of a baseline; None where the sweep has none."""
    return next((g for g in study.stage("baselines") if g.first.trial.spec.decoder.name == name), None)


def baseline_note(study: Study) -> tuple[str, ...]:
    """Return a footnote with the baselines' IoU, for tables that have no row for them."""
    found = []
    for name, words in BASELINES.items():
        group = baseline(study, name)
        if group and (mean := group.score(study.record.domains)):
            each = ", ".join(f"{d} {e.value:.3f}" for d in study.record.domains if (e := group.score([d])))
            found.append(f"{words} {mean.value:.3f} ({each})")
    return (
        (f"For scale, mean test IoU of what looks at no image or learns nothing: {'; '.join(found)}.",) if found else ()
    )


def _data(study: Study, scores: list[Score]) -> str:
    images = sorted({score.num_images for score in scores})
    photographs = sorted({score.num_photographs for score in scores})
    each = str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}"
    of = str(photographs[0]) if len(photographs) == 1 else f"{photographs[0]} to {photographs[-1]}"
    plural = "photograph" if of == "1" else "photographs"
    return f"Test: {each} images a domain, of {of} {plural} (data {study.record.data}, lists {digest(scores)})"


def _list(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
