"""The claims of the SAM 2 poster (s001), formula by formula as in claims.yaml."""

from collections.abc import Mapping, Sequence

from dfloc.report.formulas.numbers import DIFF, GAN, Matrix, MissingError, largest, mean, without
from dfloc.report.formulas.outcome import Formula, Outcome

EMBED, FEATS_0, FEATS_1 = MAPS = ("image_embed", "high_res_feats.0", "high_res_feats.1")
DEPTHS = ("conv-4", "conv-12", "conv-20")


def largest_decoder_inside(tables: Sequence[Matrix]) -> Outcome:
    """s001.c1: in domain, CONV-20 above CONV-4 and CONV-12 on image_embed."""
    (a,) = tables
    numbers = {depth: a.at(f"{depth}/{EMBED}", "id") for depth in DEPTHS}
    return Outcome(numbers["conv-20"] > max(numbers["conv-4"], numbers["conv-12"]), numbers)


def largest_decoder_outside(tables: Sequence[Matrix]) -> Outcome:
    """s001.c2: out of domain the same, recomputed from the matrices; what is printed stands beside."""
    a, *matrices = tables
    four, twelve, twenty = (mean(x.off()) for x in matrices)
    printed = {**a.cells, **a.suspect}
    beside = [printed[f"{depth}/{EMBED}", "ood"] for depth in DEPTHS if (f"{depth}/{EMBED}", "ood") in printed]
    numbers = {"recomputed": [four, twelve, twenty]} | ({"printed": beside} if beside else {})
    return Outcome(twenty > max(four, twelve), numbers)


def best_map_inside(tables: Sequence[Matrix]) -> Outcome:
    """s001.c3: of the three maps, high_res_feats.1 is best in domain."""
    return _best_map(tables, "id", FEATS_1)


def best_map_outside(tables: Sequence[Matrix]) -> Outcome:
    """s001.c4: of the three maps, image_embed is best out of domain."""
    return _best_map(tables, "ood", EMBED)


def _best_map(tables: Sequence[Matrix], col: str, name: str) -> Outcome:
    (a,) = tables
    numbers = {each: a.at(f"conv-20/{each}", col) for each in MAPS}
    return Outcome(largest(numbers) == name, numbers)


def fine_maps_on_gans(tables: Sequence[Matrix]) -> Outcome:
    """s001.c5: in domain on GANs, high_res_feats.1 above high_res_feats.0 above image_embed."""
    numbers = {name: mean(x.diag(GAN)) for name, x in zip(MAPS, tables, strict=True)}
    return Outcome(numbers[FEATS_1] > numbers[FEATS_0] > numbers[EMBED], numbers)


def fine_maps_on_diffusion(tables: Sequence[Matrix]) -> Outcome:
    """s001.c6: in domain on diffusion, image_embed above both others."""
    numbers = {name: mean(x.diag(DIFF)) for name, x in zip(MAPS, tables, strict=True)}
    return Outcome(numbers[EMBED] > max(numbers[FEATS_0], numbers[FEATS_1]), numbers)


def better_than_clip_inside(tables: Sequence[Matrix]) -> Outcome:
    """s001.c7: the best SAM 2 row in domain against ViT+RN50; other CLIP matrices stand beside."""
    a, b, *others = tables
    rows = a.rows("id")
    if not rows:
        raise MissingError(a.absent or "no SAM 2 model is finished on all domains")
    numbers = {"sam2": max(rows.values()), "vit_rn50": mean(b.diag())}
    beside = {name: mean(x.diag()) for name, x in zip(("declip", "vit"), others, strict=True) if x}
    return Outcome(numbers["sam2"] > numbers["vit_rn50"], numbers | beside)


def weak_on_unseen(tables: Sequence[Matrix]) -> Outcome:
    """s001.c8: mixtures of three, on the three less on the fourth."""
    numbers = {}
    for name, x in zip((FEATS_1, EMBED), tables, strict=True):
        unseen = mean([x.at(h, without(h)) for h in x.domains])
        seen = mean([x.at(test, without(h)) for h in x.domains for test in x.domains if test != h])
        numbers[name] = [unseen, seen]
    return Outcome(all(seen - unseen >= 20 for unseen, seen in numbers.values()), numbers)


def well_on_every_generator(tables: Sequence[Matrix]) -> Outcome:
    """s001.c9: in domain, the better of the two maps on the worst domain."""
    a, b = tables
    best = [max(pair) for pair in zip(a.diag(), b.diag(), strict=True)]
    return Outcome(min(best) >= 50, {"best_of_two": best})


FORMULAS: Mapping[str, Formula] = {
    "s001.c1": largest_decoder_inside,
    "s001.c2": largest_decoder_outside,
    "s001.c3": best_map_inside,
    "s001.c4": best_map_outside,
    "s001.c5": fine_maps_on_gans,
    "s001.c6": fine_maps_on_diffusion,
    "s001.c7": better_than_clip_inside,
    "s001.c8": weak_on_unseen,
    "s001.c9": well_on_every_generator,
}
