"""The claims of the thesis slides (s000), formula by formula as in claims.yaml."""

import math
from collections.abc import Mapping, Sequence

from dfloc.report.formulas.numbers import (
    ALL,
    CLASSES,
    DIFF,
    GAN,
    LAMA,
    LDM,
    TRAIN_ALL,
    Matrix,
    MissingError,
    largest,
    mean,
    without,
)
from dfloc.report.formulas.outcome import Formula, Outcome

SMALL, LARGER = "1000-ldm-500-rest", "1750-ldm-750-rest"
OWN, THIRD, THIRD_ALL = "9000-each-per-model", "3000-each-per-model", "3000-each-train_all_4"
CLASSIFIER, KNOWN = "classifier", 0.6  # what it must recall of each class; by chance that is 0.2
SAME_BACKBONE = "3000-each-per-model-same-backbone"


def diffusion_transfers(tables: Sequence[Matrix]) -> Outcome:
    """s000.c1: diffusion to GAN less GAN to diffusion, for each backbone."""
    pairs = [(x.mean(GAN, DIFF), x.mean(DIFF, GAN)) for x in tables]
    numbers = {name: list(pair) for name, pair in zip("ab", pairs, strict=True)}
    return Outcome(all(there > back for there, back in pairs), numbers)


def mixed_near_the_top(tables: Sequence[Matrix]) -> Outcome:
    """s000.c2: one model of all four against the best leave-one-out model."""
    (a,) = tables
    means = {without(h): a.mean(a.domains, [without(h)]) for h in a.domains}
    every, best = a.mean(a.domains, [TRAIN_ALL]), largest(means)
    gaps = [max(a.at(test, name) for name in means) - a.at(test, TRAIN_ALL) for test in a.domains]
    numbers: dict[str, float | list[float]] = {
        "difference": every - means[best],
        TRAIN_ALL: every,
        best: means[best],
        "gap_to_best_per_test": gaps,
    }
    return Outcome(every - means[best] >= -1, numbers)


def few_samples_help(tables: Sequence[Matrix]) -> Outcome:
    """s000.c3: the smallest gain on the held-out domain."""
    gains = [_changes(x, [x.held_out]) for x in tables]
    lasts = [max(each) for each in gains]
    smallest = [min(each.values()) for each in gains]
    last = [each[n] for each, n in zip(gains, lasts, strict=True)]
    return Outcome(min(smallest) > 0, {"min_gain": smallest, f"gain_at_{max(lasts)}": last})


def little_is_lost(tables: Sequence[Matrix]) -> Outcome:
    """s000.c4: the mean change on the domains of the base."""
    cells = [
        [x.at(test, n) - x.at(test, 0) for test in x.domains if test != x.held_out for n in _counts(x, [test])]
        for x in tables
    ]
    means = [mean(each) for each in cells]
    return Outcome(min(means) >= -5, {"mean_change": means, "worst_cell": min(min(each) for each in cells)})


def exposure_pays(tables: Sequence[Matrix]) -> Outcome:
    """s000.c5: the net change of the mean of all tests, at the best n."""
    nets = [_changes(x, x.domains) for x in tables]
    best = [max(net.values()) for net in nets]
    shared = set.intersection(*(set(net) for net in nets))
    at = {f"at_{n}": [net[n] for net in nets] for n in (1000, 3000) if n in shared}
    return Outcome(min(best) > 0, {"best_n": best} | at)


def a_thousand_suffice(tables: Sequence[Matrix]) -> Outcome:
    """s000.c6: the share of the gain at 3000 that is there at 1000; undecided where there is no gain at 3000."""
    few, many = ([x.at(x.held_out, n) - x.at(x.held_out, 0) for x in tables] for n in (1000, 3000))
    if min(many) <= 0:
        without_gain = ", ".join(x.held_out for x, gain in zip(tables, many, strict=True) if gain <= 0)
        return Outcome(False, {"gain_at_3000": many}, f"there is no gain at 3000 on {without_gain}")
    shares = [part / whole for part, whole in zip(few, many, strict=True)]
    return Outcome(min(shares) >= 2 / 3, {"share": shares})


def reductions(tables: Sequence[Matrix]) -> Outcome:
    """s000.c7: arithmetic on the sizes of the budgets."""
    (a,) = tables
    printed = sorted(a.cells.items(), key=lambda item: (int(item[0][1]), int(item[0][0])))
    if not printed:
        raise MissingError(a.absent)
    exact = [100 * (1 - int(small) / int(large)) for (small, large), _ in printed]
    return Outcome([math.trunc(value) for value in exact] == [round(value) for _, value in printed], {"exact": exact})


def mixtures_match_thirds(tables: Sequence[Matrix]) -> Outcome:
    """s000.c8: small mixtures against models of one domain's third, of the same backbone."""
    (a,) = tables
    third = SAME_BACKBONE if (LDM, SAME_BACKBONE) in a.cells else THIRD
    differences = {
        name: [a.at(test, row) - a.at(test, third) for test in ALL]
        for name, row in (("small", SMALL), ("larger", LARGER))
    }
    holds = all(
        value > 0 if test in (LDM, LAMA) else value >= -5
        for values in differences.values()
        for test, value in zip(ALL, values, strict=True)
    )
    mixed = any(row == third for _, row in a.mixed)
    return Outcome(holds, differences, f"the row {third} is of another backbone than the mixtures" if mixed else "")


def one_against_specialists(tables: Sequence[Matrix]) -> Outcome:
    """s000.c9: one mixed model against four specialists, each on its own domain."""
    (a,) = tables
    own = a.mean(ALL, [OWN])
    rows = {TRAIN_ALL: THIRD_ALL, "mix_4000": LARGER, "mix_2500": SMALL}
    numbers = {name: a.mean(ALL, [row]) - own for name, row in rows.items()}
    return Outcome(numbers[TRAIN_ALL] > 0, numbers | {"specialists": own})


def one_against_best_single(tables: Sequence[Matrix]) -> Outcome:
    """s000.c10: one mixed model against the best model of one domain, over all tests."""
    a, b = tables
    single = max(b.mean(ALL, [train]) for train in ALL)
    rows = {"mix_2500": SMALL, "mix_4000": LARGER, TRAIN_ALL: THIRD_ALL}
    numbers = {name: a.mean(ALL, [row]) - single for name, row in rows.items()}
    return Outcome(numbers["mix_2500"] > 0, numbers | {"best_single": single})


def ldm_transfers_best(tables: Sequence[Matrix]) -> Outcome:
    """s000.c12: the model of LDM has the best mean, and the best mean on the others."""
    a, b = tables
    four = {train: a.mean(ALL, [train]) for train in ALL}
    off = {train: _mean_off(a, train) for train in ALL}
    numbers: dict[str, list[float]] = {"mean_of_four": list(four.values()), "mean_off": list(off.values())}
    if b:
        numbers["b_mean_off"] = [_mean_off(b, train) for train in ALL]
    return Outcome(largest(four) == largest(off) == LDM, numbers)


def each_its_specialty(tables: Sequence[Matrix]) -> Outcome:
    """s000.c17: SAM 2 less ViT+RN50 in domain: lower on diffusion, higher on GANs."""
    a, b = tables
    less = {domain: b.at(domain, domain) - a.at(domain, domain) for domain in ALL}
    holds = all(less[domain] < 0 for domain in DIFF) and all(less[domain] > 0 for domain in GAN)
    return Outcome(holds, {"b_minus_a": list(less.values())})


def gans_are_easier(tables: Sequence[Matrix]) -> Outcome:
    """s000.c18: in domain, GANs against diffusion, for each backbone."""
    pairs = [(mean(x.diag(GAN)), mean(x.diag(DIFF))) for x in tables]
    numbers = {name: list(pair) for name, pair in zip("ab", pairs, strict=True)}
    return Outcome(all(gan > diffusion for gan, diffusion in pairs), numbers)


def linear_on_clip_works(tables: Sequence[Matrix]) -> Outcome:
    """s000.c19: the recall of every class of the thesis' classifier."""
    (a,) = tables
    recall = [a.at(CLASSIFIER, name) for name in CLASSES]
    return Outcome(min(recall) >= KNOWN, {"recall": recall})


def generalizes_badly(tables: Sequence[Matrix]) -> Outcome:
    """s000.c20: in domain less out of domain."""
    (a,) = tables
    inside, outside = mean(a.diag()), mean(a.off())
    return Outcome(inside - outside >= 20, {"id": inside, "ood": outside})


def _mean_off(x: Matrix, train: str) -> float:
    return x.mean([test for test in ALL if test != train], [train])


def _counts(x: Matrix, tests: Sequence[str]) -> list[int]:
    """Return the n > 0 at which all of some tests have a number."""
    found = {int(n) for _, n in x.cells if n}
    counts = sorted(n for n in found if all((test, n) in x.cells for test in tests))
    if not counts:
        raise MissingError(x.absent or f"no n > 0 has a number for {x.held_out} held out")
    return counts


def _changes(x: Matrix, tests: Sequence[str]) -> dict[int, float]:
    """Return the change of the mean of some tests against n = 0, by n."""
    return {n: x.mean(tests, [n]) - x.mean(tests, [0]) for n in _counts(x, tests)}


FORMULAS: Mapping[str, Formula] = {
    "s000.c1": diffusion_transfers,
    "s000.c2": mixed_near_the_top,
    "s000.c3": few_samples_help,
    "s000.c4": little_is_lost,
    "s000.c5": exposure_pays,
    "s000.c6": a_thousand_suffice,
    "s000.c7": reductions,
    "s000.c8": mixtures_match_thirds,
    "s000.c9": one_against_specialists,
    "s000.c10": one_against_best_single,
    "s000.c12": ldm_transfers_best,
    "s000.c17": each_its_specialty,
    "s000.c18": gans_are_easier,
    "s000.c19": linear_on_clip_works,
    "s000.c20": generalizes_badly,
}
