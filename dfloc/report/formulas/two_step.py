"""The claims of the thesis slides (s000) about two-step models, formula by formula as in claims.yaml."""

from collections.abc import Mapping, Sequence

from dfloc.report.formulas.numbers import ALL, DIFF, LDM, TRAIN_ALL, Matrix, mean
from dfloc.report.formulas.outcome import Formula, Outcome

GENERALIST, DETECTED, CLASSIFIED = "generalist", "detector+generalist", "classifier+4-specialists"
STATED = {
    TRAIN_ALL: TRAIN_ALL,
    "smallest": "smallest_subset_1000-ldm-500-rest",
    "two_step": "two-step_classifier_4_specialists",
    "single": "best_single_domain",
}
SMALLEST, CLASSIFIER = "1000-ldm-500-rest", "classifier"
ROUNDED, SPREAD = 0.1, 0.2  # points: of a mean that is printed with one digit; of a score on reals that is one for all
SLACK = 1e-9


def means_are_those_of_the_tables(tables: Sequence[Matrix]) -> Outcome:
    """s000.c11: each mean that the conclusion states, computed again from the tables."""
    a, b, c, d = tables
    found = {
        TRAIN_ALL: b.mean(ALL, ["3000-each-train_all_4"]),
        "smallest": b.mean(ALL, [SMALLEST]),
        "two_step": c.mean([CLASSIFIED], ALL),
        "single": d.mean(ALL, [LDM]),
    }
    away = [abs(value - a.at(STATED[name], "mean")) for name, value in found.items()]
    return Outcome(max(away) <= ROUNDED + SLACK, {"recomputed": list(found.values())})


def specialists_beat_the_generalist(tables: Sequence[Matrix]) -> Outcome:
    """s000.c13: fakes alone, classifier and specialists less the generalist."""
    (a,) = tables
    per_test = [a.at(CLASSIFIED, test) - a.at(GENERALIST, test) for test in ALL]
    return Outcome(mean(per_test) > 0, {"difference": mean(per_test), "per_test": per_test})


def specialists_beat_the_detector(tables: Sequence[Matrix]) -> Outcome:
    """s000.c14: fakes and reals, classifier and specialists less detector and generalist."""
    (a,) = tables
    classifier, detector = a.mean([CLASSIFIED], ALL), a.mean([DETECTED], ALL)
    numbers = {"difference": classifier - detector, "classifier": classifier, "detector": detector}
    return Outcome(classifier > detector, numbers)


def reals_raise_the_second_values(tables: Sequence[Matrix]) -> Outcome:
    """s000.c15: what reals must have scored for the second values to follow from the first, the same in all columns."""
    a, b = tables
    reals = [2 * b.at(CLASSIFIED, test) - a.at(CLASSIFIED, test) for test in ALL]
    increase = [b.at(CLASSIFIED, test) - a.at(CLASSIFIED, test) for test in ALL]
    holds = max(reals) - min(reals) <= SPREAD + SLACK and min(increase) > 0
    return Outcome(holds, {"reals": reals, "increase": increase})


def losses_come_from_misrouting(tables: Sequence[Matrix]) -> Outcome:
    """s000.c16: what is lost against the specialist of a test, and how much of the test is routed to it.

    The four tests stand in the same order by both: the less is routed rightly, the more is lost.
    """
    a, b, c, d = tables
    own = {test: (b if test in DIFF else c).at(test, test) for test in ALL}
    lost = {test: a.at(CLASSIFIED, test) - own[test] for test in ALL}
    recall = {test: d.at(CLASSIFIER, test) for test in ALL}
    same = sorted(ALL, key=lambda test: lost[test]) == sorted(ALL, key=lambda test: recall[test])
    return Outcome(same, {"loss_against_specialist": list(lost.values()), "routing_recall": list(recall.values())})


FORMULAS: Mapping[str, Formula] = {
    "s000.c11": means_are_those_of_the_tables,
    "s000.c13": specialists_beat_the_generalist,
    "s000.c14": specialists_beat_the_detector,
    "s000.c15": reals_raise_the_second_values,
    "s000.c16": losses_come_from_misrouting,
}
