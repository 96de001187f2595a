"""The claims of the poster on detection and attribution (s003), formula by formula as in claims.yaml.

Of its tables 1 to 4 it is not certain which axis is what was trained on: only what is the same either way decides.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from dfloc.report.formulas.numbers import ALL, CLASSES, LAMA, LDM, OVERALL, PLURALISTIC, REPAINT, Matrix, largest, mean
from dfloc.report.formulas.outcome import Formula, Outcome

SCRATCH, PRETRAINED, CLIP, SAM = MODELS = ("xception41_scratch", "xception41_pretrained", "clip", "sam")


def little_generalizes(tables: Sequence[Matrix]) -> Outcome:
    """s003.c1: from scratch, on other generators at most 0.6, and below its own."""
    (a,) = tables
    inside, outside = mean(a.diag()), mean(a.off())
    return Outcome(outside <= 0.6 and inside > outside, {"diag": inside, "off_diag": outside})


def pluralistic_is_best(tables: Sequence[Matrix]) -> Outcome:
    """s003.c2: from scratch, in domain; the means over tests and over trainings stand beside."""
    (a,) = tables
    own = _diag(a)
    numbers: dict[str, float | list[float]] = {
        "diag": [own[domain] for domain in ALL],
        "row_mean": a.mean(a.domains, [PLURALISTIC]),
        "column_mean": a.mean([PLURALISTIC], a.domains),
    }
    return Outcome(largest(own) == PLURALISTIC, numbers)


def diffusion_is_hardest(tables: Sequence[Matrix]) -> Outcome:
    """s003.c3: from scratch, in domain, LDM and Repaint are the two lowest."""
    (a,) = tables
    own = _diag(a)
    return Outcome(_two_lowest(own) == {LDM, REPAINT}, {"diag": [own[domain] for domain in ALL]})


def memorizes(tables: Sequence[Matrix]) -> Outcome:
    """s003.c4: pretrained, in domain less out of domain."""
    (a,) = tables
    inside, outside = mean(a.diag()), mean(a.off())
    return Outcome(inside - outside >= 0.2, {"diag": inside, "off_diag": outside})


def diffusion_transfers_to_itself(tables: Sequence[Matrix]) -> Outcome:
    """s003.c5: of all pairs of generators LDM and Repaint know each other best."""
    (a,) = tables
    pairs = {frozenset(pair): mean([a.at(*pair), a.at(*reversed(pair))]) for pair in combinations(a.domains, 2)}
    own = mean([a.at(LDM, REPAINT), a.at(REPAINT, LDM)])
    following = max(value for pair, value in pairs.items() if pair != {LDM, REPAINT})
    return Outcome(own > following, {"pair": own, "next": following})


def pretraining_helps(tables: Sequence[Matrix]) -> Outcome:
    """s003.c6: pretrained less from scratch, in domain: more on all, most on LaMa and LDM."""
    scratch, pretrained = (_diag(x) for x in tables)
    gain = {domain: pretrained[domain] - scratch[domain] for domain in ALL}
    most = set(sorted(gain, key=lambda name: gain[name])[-2:])
    return Outcome(min(gain.values()) > 0 and most == {LAMA, LDM}, {"gain": list(gain.values())})


def gaps_remain(tables: Sequence[Matrix]) -> Outcome:
    """s003.c7: pretrained better in domain than from scratch, and better in domain than out of it."""
    inside, outside = [mean(x.diag()) for x in tables], [mean(x.off()) for x in tables]
    holds = inside[1] > inside[0] and inside[1] - outside[1] >= 0.2
    return Outcome(holds, {"diag": inside, "off_diag": outside})


def two_stay_harder(tables: Sequence[Matrix]) -> Outcome:
    """s003.c8: pretrained, Repaint and Pluralistic are the two lowest, to detect and to name."""
    a, b = tables
    detection, attribution = _diag(a), {domain: b.at(PRETRAINED, domain) for domain in ALL}
    holds = all(_two_lowest(each) == {REPAINT, PLURALISTIC} for each in (detection, attribution))
    numbers = {"detection": [detection[domain] for domain in ALL], "attribution": list(attribution.values())}
    return Outcome(holds, numbers)


def works_on_some(tables: Sequence[Matrix]) -> Outcome:
    """s003.c9: from scratch, the best named generator less the worst."""
    (a,) = tables
    classes = [a.at(SCRATCH, domain) for domain in ALL]
    span = max(classes) - min(classes)
    return Outcome(span >= 50, {"classes": classes, "range": span})


def overall_is_the_mean(tables: Sequence[Matrix]) -> Outcome:
    """s003.c10: the overall accuracy of each model against the plain mean of its five classes; 46.19 is truncated."""
    (a,) = tables
    recomputed = [a.mean([model], CLASSES) for model in MODELS]
    holds = all(
        abs(value - a.at(model, OVERALL)) <= 0.01 + 1e-9 for model, value in zip(MODELS, recomputed, strict=True)
    )
    return Outcome(holds, {"recomputed": recomputed})


def _diag(x: Matrix) -> dict[str, float]:
    return {domain: x.at(domain, domain) for domain in x.domains}


def _two_lowest(values: Mapping[str, float]) -> set[str]:
    return set(sorted(values, key=lambda name: values[name])[:2])


FORMULAS: Mapping[str, Formula] = {
    "s003.c1": little_generalizes,
    "s003.c2": pluralistic_is_best,
    "s003.c3": diffusion_is_hardest,
    "s003.c4": memorizes,
    "s003.c5": diffusion_transfers_to_itself,
    "s003.c6": pretraining_helps,
    "s003.c7": gaps_remain,
    "s003.c8": two_stay_harder,
    "s003.c9": works_on_some,
    "s003.c10": overall_is_the_mean,
}
