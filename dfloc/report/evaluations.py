"""evaluations.csv: a line for each evaluation of a sweep, with what was trained and what it scores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

from dfloc.report.estimate import pooled
from dfloc.report.groups import Study, run
from dfloc.report.results import Result, Score

Evaluation = tuple[Study, Result, Score | None]  # None: nothing of the trial is scored
Says = Callable[[Evaluation], object]


def lines(studies: Sequence[Study]) -> list[list[object]]:
    """Return heads, a line for each evaluation, and one for each trial without any."""
    heads, columns = zip(*_columns(studies), strict=True)
    found: list[Evaluation] = [
        (study, result, score)
        for study in studies
        for result in study.results.all
        for score in (*result.scores.values(), *([] if result.scores else [None]))
    ]
    return [[*heads], *([column(line) for column in columns] for line in found)]


def _columns(studies: Sequence[Study]) -> list[tuple[str, Says]]:
    """Return a head and what it says of an evaluation, for each column; an axis may have any name."""
    axes = dict.fromkeys(axis for study in studies for result in study.results.all for axis in result.trial.axes)
    metrics = dict.fromkeys(metric for study in studies for metric in study.metrics)
    firsts = dict.fromkeys(study.first.key for study in studies)
    return [
        ("stage", _planned(lambda result: result.trial.stage)),
        ("case", _planned(lambda result: result.trial.case)),
        *((axis, _planned(partial(_axis, axis))) for axis in axes),
        ("state", _planned(lambda result: result.state)),
        ("checkpoint", _scored(lambda score: score.spec.checkpoint)),
        ("test_domain", _scored(lambda score: score.spec.domain)),
        ("protocol", lambda line: line[2].spec.protocol if line[2] else line[0].record.protocol),
        ("num_images", _scored(lambda score: score.num_images)),
        ("num_photographs", _scored(lambda score: score.num_photographs)),
        *((metric, _scored(partial(_mean, metric))) for metric in metrics),
        *_ends(firsts),
        ("empty", _scored(lambda score: score.kinds.empty / score.num_images)),
        ("all_fake", _scored(lambda score: score.kinds.all_fake / score.num_images)),
        ("constant", _scored(lambda score: score.kinds.constant / score.kinds.told if score.kinds.told else "")),
        ("collapsed", lambda line: bool(line[1].collapsed) if line[2] else ""),
        ("steps", _planned(lambda result: result.trial.spec.steps)),
        ("train_images", _planned(lambda result: result.trial.spec.train.size)),
        ("trial", _planned(lambda result: result.trial.fingerprint)),
        ("evaluation", _scored(lambda score: score.spec.key)),
    ]


def _planned(value: Callable[[Result], object]) -> Says:
    return lambda line: value(line[1])


def _scored(value: Callable[[Score], object]) -> Says:
    return lambda line: "" if line[2] is None else value(line[2])


def _ends(firsts: Iterable[str]) -> Iterator[tuple[str, Says]]:
    """Yield the interval of each metric that stands for a protocol, and what calling every pixel fake scores."""

    @cache
    def judged(result: Result, score: Score) -> list[object]:
        found, other = pooled([run(result, [score])]), score.all_fake_mean
        ends = [found.low, found.high] if found and found.known else ["", ""]
        return [*ends, "" if other is None else other]

    def end(key: str, place: int, line: Evaluation) -> object:
        _, result, score = line
        return judged(result, score)[place] if score and key == score.metric().key else ""

    for key in firsts:
        for place, what in enumerate(("low", "high", "all_fake")):
            yield f"{key}_{what}", partial(end, key, place)


def _axis(axis: str, result: Result) -> object:
    return result.trial.axes.get(axis, "")


def _mean(metric: str, score: Score) -> object:
    return "" if (mean := score.mean(metric)) is None else mean
