"""The claims of the segmentation poster (s002), formula by formula as in claims.yaml; fractions, not per cent."""

from collections.abc import Mapping, Sequence

from dfloc.report.formulas.numbers import ALL, LAMA, LDM, PLURALISTIC, Matrix, MissingError
from dfloc.report.formulas.outcome import Formula, Outcome

IOU = "iou"
BEST = "unetplusplus/resnet50"


def best_configuration(tables: Sequence[Matrix]) -> Outcome:
    """s002.c1: Unet++ with ResNet-50 against every other architecture and encoder."""
    (a,) = tables
    numbers = {str(name): value for name, value in a.rows(IOU).items()}
    best = a.at(BEST, IOU)
    if len(numbers) < 2:
        raise MissingError("no other architecture or encoder has a number")
    return Outcome(best - max(value for name, value in numbers.items() if name != BEST) >= 0.02, numbers)


def jaccard_is_best(tables: Sequence[Matrix]) -> Outcome:
    """s002.c2: Jaccard against Dice and focal."""
    (a,) = tables
    numbers = {name: a.at(name, IOU) for name in ("jaccard", "dice", "focal")}
    return Outcome(numbers["jaccard"] > max(numbers["dice"], numbers["focal"]), numbers)


def blur_generalizes(tables: Sequence[Matrix]) -> Outcome:
    """s002.c3: with blur and without, on generators that were not trained on."""
    (a,) = tables
    numbers = {name: a.at(name, IOU) for name in ("blur", "none")}
    return Outcome(numbers["blur"] > numbers["none"], numbers)


def high_on_its_own(tables: Sequence[Matrix]) -> Outcome:
    """s002.c4: LaMa and Pluralistic around 0.90 on their own."""
    (a,) = tables
    holds = all(abs(a.at(domain, IOU) - 0.9) <= 0.02 for domain in (LAMA, PLURALISTIC))
    return Outcome(holds, {"all": [a.at(domain, IOU) for domain in a.domains]})


def drops_on_the_fourth(tables: Sequence[Matrix]) -> Outcome:
    """s002.c5: own domain less held out, per domain."""
    a, b = tables
    drop = [a.at(domain, IOU) - b.at(domain, IOU) for domain in a.domains]
    return Outcome(min(drop) >= 0.2, {"drop": drop, "means": [x.mean(x.domains, [IOU]) for x in (a, b)]})


def ldm_is_hardest(tables: Sequence[Matrix]) -> Outcome:
    """s002.c6: LDM is the lowest on its own."""
    (a,) = tables
    ldm, following = a.at(LDM, IOU), min(a.at(domain, IOU) for domain in ALL if domain != LDM)
    return Outcome(ldm < following, {"ldm": ldm, "next": following})


def lama_unseen(tables: Sequence[Matrix]) -> Outcome:
    """s002.c7: held out, LaMa is the lowest and drops most."""
    a, b = tables
    drops = {domain: a.at(domain, IOU) - b.at(domain, IOU) for domain in ALL}
    lama, following = b.at(LAMA, IOU), min(b.at(domain, IOU) for domain in ALL if domain != LAMA)
    holds = lama < following and max(drops, key=lambda name: drops[name]) == LAMA
    return Outcome(holds, {"lama": lama, "next": following, "drop": drops[LAMA]})


FORMULAS: Mapping[str, Formula] = {
    "s002.c1": best_configuration,
    "s002.c2": jaccard_is_best,
    "s002.c3": blur_generalizes,
    "s002.c4": high_on_its_own,
    "s002.c5": drops_on_the_fourth,
    "s002.c6": ldm_is_hardest,
    "s002.c7": lama_unseen,
}
