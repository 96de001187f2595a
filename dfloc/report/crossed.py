"""The sections of a study whose models are trained on some domains and tested on all."""

from collections.abc import Iterator, Sequence

from dfloc.report import areas, heatmaps, histories, ranking, trends
from dfloc.report.groups import Study
from dfloc.report.models import Model
from dfloc.report.page import Section
from dfloc.report.place import Pair

CROSSED = "Each model is trained on a domain, on all but one, or on all of them, and tested on each."
RANKED = "Models are ranked by validation, which is what a study could choose by; test numbers stand beside it."


def sections(study: Study, found: Sequence[Model], published: Sequence[Pair]) -> Iterator[Section]:
    """Yield train x test, the ranking of models, epochs and areas, each where the study has them.

    Args:
        study: what is shown.
        found: its models.
        published: the published numbers that stand beside them.
    """
    if not found:
        return
    numbers = ranking.crossed(study, found), ranking.tested(study, found)
    yield Section(
        "train-test-study",
        "Train x test",
        CROSSED,
        [heatmaps.crossed(study, found, published), *(each for each in numbers if each.rows)],
    )
    figures = [trends.ranking(study, found), *trends.trends(study, found), heatmaps.combined(study, found)]
    yield Section(
        "models-study",
        "Which model?",
        RANKED,
        [
            *(figure for figure in figures if figure.panels),
            ranking.ranked(study, found),
            ranking.measured(study, found),
        ],
    )
    epochs = histories.figure(study, found)
    yield Section("epochs-study", "Training", "", [epochs] if epochs.panels else [])
    if areas.wanted(study):
        yield Section(
            "areas-study",
            "Small and large fakes",
            "",
            [areas.figure(study, found), areas.table(study, found)],
        )
