"""What a study answers, in a few sentences that are computed from its numbers: first on its page, and in MLflow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from dfloc.metrics.degenerate import EQUAL
from dfloc.metrics.intervals import holm
from dfloc.report import (
    findings_images,
    findings_models,
    findings_routing,
    findings_tuning,
    search,
    supervision,
    worth,
)
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Study
from dfloc.report.words import counted

MOST = 6  # sentences that a reader takes in, and one on how sure they are
NOTHING = "No trial of it is scored yet."
MORE = "--seeds 3 adds two of each"
KINDS = (
    *(search.findings, findings_routing.findings, worth.findings, supervision.findings, findings_tuning.findings),
    *(findings_images.findings, findings_models.findings),
)


@dataclass(frozen=True)
class Answer:
    """What a study says first.

    Attributes:
        sentences: by key, in order.
        numbers: what they rest on, by `<key>/<name>`; of what is compared `<key>/difference`, and `<key>/decided`, 0
            or 1.
    """

    sentences: Mapping[str, str]
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """It as a file says it, in order."""
        said = [{"key": key, "text": text} for key, text in self.sentences.items()]
        return {"sentences": said, "numbers": dict(self.numbers)}


def answer(study: Study) -> Answer:
    """Return what a study finds, by what its trials are: a search, a fine-tuning, or models; the first that it is."""
    every = ([*islice(of(study), MOST)] for of in KINDS)
    return next((told(study, found) for found in every if found), Answer({"none": _nothing(study)}))


def told(study: Study, found: Sequence[Finding]) -> Answer:
    """Return some findings with what is decided of them, and how sure they are."""
    sentences, numbers = dict[str, str](), dict[str, float]()
    every = [one for each in found for one, _ in each.differences if one]
    apart = iter(decided(every))
    for each in found:
        verdicts = [next(apart) if one else False for one, _ in each.differences]
        pairs = zip(each.differences, verdicts, strict=True)
        undecided = [words for (one, words), sure in pairs if not sure and not (one and _is_nothing(one))]
        text = each.plain if each.plain and not all(verdicts[:1]) else each.text
        sentences[each.key] = f"{'; '.join([text[0].upper() + text[1:], *undecided])}."
        values = {name: one.value if isinstance(one, Estimate) else one for name, one in each.numbers.items()}
        if each.differences:
            first = each.differences[0][0]
            values |= {"difference": first.value} if first else {}
            values["decided"] = float(verdicts[0] and not (first and first.p != first.p))
        numbers |= {_plain(f"{each.key}/{name}"): value for name, value in values.items() if math.isfinite(value)}
    return Answer(sentences | {"sure": _sure(study, every)}, numbers)


def _nothing(study: Study) -> str:
    """Return what there is of a study that answers nothing yet."""
    counts, total = study.results.counts(), len(study.results.by_fingerprint)
    scored = sum(bool(result.scores) for result in study.results.by_fingerprint.values())
    yet = " yet" if counts["done"] < total else ""
    there = f"{scored} of {counted(total, 'trial')} {'is' if scored == 1 else 'are'} scored"
    return f"{f'{there}; none answers the question{yet}.' if scored else NOTHING}{_states(study, ['failed'], 'failed')}"


def _is_nothing(one: Estimate) -> bool:
    """Return whether two sides are equal on every image."""
    return one.known and max(abs(one.low), abs(one.high)) <= EQUAL


def decided(differences: Sequence[Estimate]) -> list[bool]:
    """Return which differences luck does not explain, by Holm's procedure over them.

    Of one training a side nobody knows the luck; of such the interval over photographs speaks, the answer says so, and
    its number `decided` is 0.
    """
    apart = holm([float("nan") if one.p is None else one.p for one in differences])
    return [
        far if one.p == one.p else one.known and not one.low <= 0 <= one.high
        for one, far in zip(differences, apart, strict=True)
    ]


def _sure(study: Study, differences: Sequence[Estimate]) -> str:
    """Return what the differences rest on, and from where on they tell."""
    scores = [score for score in study.results.scores() if not score.of_reals]
    photographs = min((score.num_photographs for score in scores), default=0)
    runs = sorted({one.runs for one in differences} or {len(group.scored) for group in study.groups if group.scored})
    if not runs:
        return "Nothing is scored on test images yet."
    trainings = counted(runs[0], "training") if len(runs) == 1 else f"{runs[0]} to {runs[-1]} trainings"
    widths = [half for one in differences if one.known and (half := (one.high - one.low) / 2) > EQUAL]
    words = [f"{trainings} of each, {counted(photographs, 'source image')} a domain"]
    if widths:
        words.append(f"differences under {_span(widths)} are not decided")
        words += [f"another training may tell otherwise{_more(study)}"] if runs[0] == 1 else []
    elif any(one.known for one in differences):
        words.append("what is compared is equal")
    elif differences:
        words.append("too few source images for an interval, so no difference is decided")
    open_ = _states(study, ["new", "partial"], "are not finished")
    return f"{': '.join(filter(None, [words[0], '; '.join(words[1:])]))}.{_states(study, ['failed'], 'failed')}{open_}"


def _more(study: Study) -> str:
    """Return which option adds trainings, where one of each is planned."""
    fixed = {group.first.trial.spec.seed for group in study.groups if group.scored} != {0}  # `trial.seed`, say
    return "" if fixed or any(len(group.results) > 1 for group in study.groups) else f" ({MORE})"


def _states(study: Study, states: Sequence[str], words: str) -> str:
    """Return how many trials are in some states, in a sentence after a space; nothing where none is."""
    counts = study.results.counts()
    count = sum(counts[state] for state in states)
    said = words.replace("are ", "is ") if count == 1 else words
    return f" {count} of {counted(sum(counts.values()), 'trial')} {said}." if count else ""


def _span(widths: Sequence[float]) -> str:
    """Return half the widths of some intervals: the usual one, or the least and the most where they are far apart."""
    low, high = min(widths), max(widths)
    return f"{_rounded(low)} to {_rounded(high)}" if high > 1.5 * low else f"about {_rounded(median(widths))}"


def _rounded(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _plain(name: str) -> str:
    """Return a name of signs that MLflow takes in the name of a metric."""
    return "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in name)
