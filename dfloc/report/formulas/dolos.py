"""The claims of the Dolos paper (s004), formula by formula as in claims.yaml."""

from collections.abc import Mapping, Sequence

from dfloc.report.formulas.numbers import ALL, GAN, LAMA, LDM, PLURALISTIC, REPAINT, Matrix, largest, mean, without
from dfloc.report.formulas.outcome import Formula, Outcome

SETUPS = ("A", "B", "C")
METHODS = GRADCAM, PATCHED, ATTENTION = ("gradcam", "patches", "attention")
MAPS, EVERY = ("iou", "pbca"), ("iou", "pbca", "ap")
SOURCES = ("celebahq", "ffhq")
HALF, WELL = 0.5, 90  # of what masks give; an AP at which a method detects well
TRAINED = "-trained-setup-c"
P2, GLIDE = "repaint-p2/iou", "coco-glide/iou"
PATCHES, PSCC = f"patches{TRAINED}", f"pscc{TRAINED}"


def labels_are_enough(tables: Sequence[Matrix]) -> Outcome:
    """s004.c1: of what Patches reaches with masks, the share with labels; setup B stands beside."""
    (a,) = tables
    iou = {setup: a.at(setup, f"iou/{PATCHED}") for setup in SETUPS}
    share = {f"share_{setup}": iou[setup] / iou["C"] if iou["C"] else 0.0 for setup in SETUPS[:2]}
    return Outcome(share["share_A"] >= HALF, iou | share)


def patches_is_mostly_best(tables: Sequence[Matrix]) -> Outcome:
    """s004.c2: in how many cells of a setup and a metric Patches is above both other methods; C has no AP."""
    (a,) = tables
    cells = [(setup, metric) for setup in SETUPS for metric in (EVERY if setup != "C" else MAPS)]
    found = [{method: a.at(setup, f"{metric}/{method}") for method in METHODS} for setup, metric in cells]
    wins = sum(each[PATCHED] > max(each[GRADCAM], each[ATTENTION]) for each in found)
    return Outcome(wins / len(cells) > HALF, {"wins": wins, "of": len(cells)})


def masks_are_best(tables: Sequence[Matrix]) -> Outcome:
    """s004.c3: with masks less the better of both setups with labels, for each method."""
    (a,) = tables
    numbers = {
        metric: [a.at("C", col) - max(a.at("A", col), a.at("B", col)) for col in _columns(metric)] for metric in MAPS
    }
    return Outcome(min(min(values) for values in numbers.values()) > 0, numbers)


def local_fakes_help_all_but_patches(tables: Sequence[Matrix]) -> Outcome:
    """s004.c4: labels of local fakes less labels of whole ones, IoU of each method; PBCA stands beside."""
    (a,) = tables
    numbers = {metric: [a.at("B", col) - a.at("A", col) for col in _columns(metric)] for metric in MAPS}
    gradcam, patches, attention = numbers["iou"]
    return Outcome(gradcam > 0 > patches and attention > 0, numbers)


def patches_detects_well(tables: Sequence[Matrix]) -> Outcome:
    """s004.c5: AP of Patches with labels of either kind."""
    (a,) = tables
    found = {setup: a.at(setup, f"ap/{PATCHED}") for setup in SETUPS[:2]}
    return Outcome(min(found.values()) >= WELL, found)


def all_detect_well_in_b(tables: Sequence[Matrix]) -> Outcome:
    """s004.c6: AP of each method with labels of local fakes."""
    (a,) = tables
    found = [a.at("B", col) for col in _columns("ap")]
    return Outcome(min(found) >= WELL, {"ap": found})


def another_source_costs(tables: Sequence[Matrix]) -> Outcome:
    """s004.c7: CelebA-HQ less FFHQ as the source of training photographs, in every setup and metric."""
    (a,) = tables
    numbers = {
        metric: [a.at(setup, f"celebahq/{metric}") - a.at(setup, f"ffhq/{metric}") for setup in setups]
        for metric, setups in (("iou", SETUPS), ("pbca", SETUPS), ("ap", SETUPS[:2]))
    }
    return Outcome(min(min(values) for values in numbers.values()) > 0, numbers)


def source_costs_most_in_b(tables: Sequence[Matrix]) -> Outcome:
    """s004.c8: that loss by setup, in IoU."""
    (a,) = tables
    own = {setup: a.at(setup, "celebahq/iou") for setup in SETUPS}
    loss = {setup: own[setup] - a.at(setup, "ffhq/iou") for setup in SETUPS}
    relative = [100 * loss[setup] / own[setup] for setup in SETUPS]
    return Outcome(largest(loss) == "B", {"iou": list(loss.values()), "iou_relative": relative})


def steepest_and_nearest_in_b(tables: Sequence[Matrix]) -> Outcome:
    """s004.c9: the slope of IoU over mask area by setup, of either source; and IoU of the one less that of the other.

    A slope is in points of IoU for a point of area; the steepest is that of the mean over both sources.
    """
    (a,) = tables
    slopes = {source: [a.at(setup, f"{source}/slope") for setup in SETUPS] for source in SOURCES}
    gaps = {setup: a.at(setup, "celebahq/iou") - a.at(setup, "ffhq/iou") for setup in SETUPS}
    both = {setup: mean([slopes[source][place] for source in SOURCES]) for place, setup in enumerate(SETUPS)}
    nearest = min(gaps, key=lambda setup: gaps[setup])
    holds = min(min(each) for each in slopes.values()) > 0 and largest(both) == nearest == "B"
    return Outcome(holds, {f"slope_{source}": each for source, each in slopes.items()} | {"gap": list(gaps.values())})


def well_inside_but_ldm(tables: Sequence[Matrix]) -> Outcome:
    """s004.c10: at least 80 in domain, but LDM under 50."""
    (a,) = tables
    own = {domain: a.at(domain, domain) for domain in ALL}
    holds = own[LDM] < 50 and all(value >= 80 for domain, value in own.items() if domain != LDM)
    return Outcome(holds, {"diag": list(own.values())})


def ldm_is_hard(tables: Sequence[Matrix]) -> Outcome:
    """s004.c11: the best of all trainings on LDM."""
    (a,) = tables
    own = a.at(LDM, LDM)
    best = max(a.columns(LDM).values())
    return Outcome(best <= 25, {"max": best, "own": own})


def drops_sharply(tables: Sequence[Matrix]) -> Outcome:
    """s004.c12: in domain less out of domain, trainings on one generator."""
    (a,) = tables
    inside, outside = mean(a.diag()), mean(a.off())
    return Outcome(inside - outside >= 20, {"diag": inside, "off_diag": outside})


def gans_transfer_to_each_other(tables: Sequence[Matrix]) -> Outcome:
    """s004.c13: LaMa and Pluralistic against every other pair of different generators."""
    (a,) = tables
    pair = [a.at(LAMA, PLURALISTIC), a.at(PLURALISTIC, LAMA)]
    others = [
        a.at(test, train) for test in ALL for train in ALL if test != train and {test, train} != {LAMA, PLURALISTIC}
    ]
    return Outcome(min(pair) > max(others), {"pair": pair, "best_other": max(others), "mean_other": mean(others)})


def diffusion_transfers(tables: Sequence[Matrix]) -> Outcome:
    """s004.c14: Repaint to GANs less GANs to Repaint; LDM stands beside."""
    (a,) = tables
    numbers = {
        name: [a.mean(GAN, [domain]), a.mean([domain], GAN)] for name, domain in (("repaint", REPAINT), ("ldm", LDM))
    }
    there, back = numbers["repaint"]
    return Outcome(there > back, numbers)


def three_are_learned(tables: Sequence[Matrix]) -> Outcome:
    """s004.c15: on each of its three sets a mixture against the model of that set alone."""
    (a,) = tables
    seen = {test: [a.at(test, without(h)) for h in a.domains if h != test] for test in a.domains}
    least = [min(values) - a.at(test, test) for test, values in seen.items()]
    every = mean([value for values in seen.values() for value in values])
    numbers: dict[str, float | list[float]] = {"min_minus_own": least, "mean_seen": every}
    return Outcome(min(least) >= -10, numbers)


def no_benefit_on_unseen(tables: Sequence[Matrix]) -> Outcome:
    """s004.c16: on the unseen set a mixture of three against the best single one of them."""
    (a,) = tables
    differences = [_mixture_less_single(a, domain) for domain in a.domains]
    return Outcome(max(differences) <= 1, {"difference": differences})


def slightly_worse_on_unseen(tables: Sequence[Matrix]) -> Outcome:
    """s004.c17: the same on Repaint, LaMa and Pluralistic: worse, but by at most 5."""
    (a,) = tables
    differences = [_mixture_less_single(a, domain) for domain in (REPAINT, LAMA, PLURALISTIC)]
    return Outcome(all(-5 <= value < 0 for value in differences), {"difference": differences})


def supervision_source_generator(tables: Sequence[Matrix]) -> Outcome:
    """s004.c18: what supervision, another source and another generator cost, in this order."""
    a, b, c = tables
    full = a.at("C", "iou/patches")
    supervision = [full - a.at(setup, "iou/patches") for setup in SETUPS[:2]]
    source = b.at("C", "celebahq/iou") - b.at("C", "ffhq/iou")
    others = [domain for domain in ALL if domain != REPAINT]
    generator = c.at(REPAINT, REPAINT) - c.mean([REPAINT], others)
    numbers = {"supervision_A": supervision[0], "supervision_B": supervision[1]}
    return Outcome(supervision[0] < source < generator, numbers | {"source": source, "generator": generator})


def untrained_are_modest(tables: Sequence[Matrix]) -> Outcome:
    """s004.c19: the best of the methods that were not trained on Dolos."""
    (a,) = tables
    a.at("trufor", P2)
    best = {
        col: max(value for method, value in a.rows(col).items() if not str(method).endswith(TRAINED))
        for col in (P2, GLIDE)
    }
    return Outcome(max(best.values()) <= 40, {col.partition("/")[0]: value for col, value in best.items()})


def patches_second_on_glide(tables: Sequence[Matrix]) -> Outcome:
    """s004.c20: the rank of Patches in IoU on COCO Glide."""
    (a,) = tables
    patches = a.at(PATCHES, GLIDE)
    beside = {name: a.at(name, GLIDE) for name in ("pscc", "trufor")}
    better = sum(value > patches for value in a.rows(GLIDE).values())
    return Outcome(better == 1, {"pscc": beside["pscc"], "patches": patches, "trufor": beside["trufor"]})


def trained_pscc_overfits(tables: Sequence[Matrix]) -> Outcome:
    """s004.c21: trained PSCC is best in domain, and below the untrained one on COCO Glide."""
    (a,) = tables
    inside, outside, untrained = a.at(PSCC, P2), a.at(PSCC, GLIDE), a.at("pscc", GLIDE)
    holds = max(a.rows(P2).values()) == inside and outside < untrained
    return Outcome(holds, {"repaint-p2": inside, "coco-glide": outside, "untrained_coco-glide": untrained})


def _columns(metric: str) -> list[str]:
    return [f"{metric}/{method}" for method in METHODS]


def _mixture_less_single(a: Matrix, domain: str) -> float:
    return a.at(domain, without(domain)) - max(a.at(domain, train) for train in a.domains if train != domain)


FORMULAS: Mapping[str, Formula] = {
    "s004.c1": labels_are_enough,
    "s004.c2": patches_is_mostly_best,
    "s004.c3": masks_are_best,
    "s004.c4": local_fakes_help_all_but_patches,
    "s004.c5": patches_detects_well,
    "s004.c6": all_detect_well_in_b,
    "s004.c7": another_source_costs,
    "s004.c8": source_costs_most_in_b,
    "s004.c9": steepest_and_nearest_in_b,
    "s004.c10": well_inside_but_ldm,
    "s004.c11": ldm_is_hard,
    "s004.c12": drops_sharply,
    "s004.c13": gans_transfer_to_each_other,
    "s004.c14": diffusion_transfers,
    "s004.c15": three_are_learned,
    "s004.c16": no_benefit_on_unseen,
    "s004.c17": slightly_worse_on_unseen,
    "s004.c18": supervision_source_generator,
    "s004.c19": untrained_are_modest,
    "s004.c20": patches_second_on_glide,
    "s004.c21": trained_pscc_overfits,
}
