"""Which models the panel of images shows: by what a study varies, as its answer has it, and never by a test score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dfloc.report import differs, recipe, search, setups, supervision
from dfloc.report.captions import BASELINES
from dfloc.report.cells import is_not_above
from dfloc.report.controls import FINE_TUNED, REPLAY, SCRATCH, best_facet, blocks, closest
from dfloc.report.findings_tuning import spoken_of
from dfloc.report.groups import Group, Study, scored_places
from dfloc.report.models import WITHOUT, Part, models, parts
from dfloc.report.ranking import chosen
from dfloc.report.results import Result
from dfloc.report.words import named

FEW, MOST = 4, 8  # models that are shown: of many the best, and of those that differ in their loss
TAUGHT = 9  # those of labels and masks
DATA = ("train", "valid", "init")  # what models of one recipe differ in


@dataclass(frozen=True)
class Shown:
    """The models of a panel, one training of each.

    Attributes:
        models: by what each is called.
        notes: what stands small below a name.
        domain: whose images come first; the new one where there is one.
        judge: the name of the model whose best, median and worst image are shown: of the highest validation.
        among: which models it is the best of; those whose validation images are alike.
        words: what is shown, in a sentence.
    """

    models: Mapping[str, Result]
    domain: str
    judge: str
    words: str
    among: str = "of these"
    notes: Mapping[str, str] = field(default_factory=dict)


def shown(study: Study) -> Shown | None:
    """Return what the panel of a study shows: of a search, a fine-tuning, or models; None where nothing is scored."""
    kinds: Sequence[Callable[[Study], Shown | None]] = (_searched, _tuned, _taught, _crossed, _others)
    return next((found for of in kinds if (found := of(study))), None)


def _searched(study: Study) -> Shown | None:
    """Return the best points of the newest search that has any."""
    for one in reversed(study.record.searches):
        found: dict[str, Result] = {}
        notes: dict[str, str] = {}
        for point in search.ranked(study, one, search.points(study, one)):
            domain = _first(study, [result for result in point.results if result.scores])
            tested = [each for each in search.judged(point, domain, one) if ("best", domain) in each.scores]
            if tested and len(found) < FEW:
                found[f"point {point.number}"], notes[f"point {point.number}"] = tested[0], point.words
        if found:
            domain, judge = _first(study, list(found.values())), next(iter(found))
            return Shown(
                found, domain, judge, f"The {len(found)} best points of the search by validation.", notes=notes
            )
    return None


def _tuned(study: Study) -> Shown | None:
    """Return the base, the smallest n, that of the answer (or a middle one), the largest, and controls at the answer's.

    They are of the first held-out domain in the study's order that has them, and of the facet that validation chooses.
    """
    facet = best_facet(study)
    for of, held_out, curve in blocks(study):
        points = {n: group for n, group in curve.items() if group.score([held_out])}
        ns = [n for n in points if n]
        if of != facet or not ns:
            continue
        found = {"base": points[0]} if 0 in points else {}
        of_answer = spoken_of(study)
        n = of_answer.n if of_answer and of_answer.n in ns else ns[-1]
        middle = n if n in ns[1:-1] else ns[len(ns) // 2]
        found |= {f"{FINE_TUNED.label}, n = {each:,}": points[each] for each in (ns[0], middle, ns[-1])}
        tuned = [name for name in found if name != "base"]
        for kind in (REPLAY, SCRATCH):
            control = closest(study, kind)
            theirs = control.curve(held_out, facet).items() if control else ()
            there = {each: group for each, group in theirs if each <= n and group.score([held_out])}
            found |= {f"{kind.label}, n = {each:,}": there[each] for each in list(there)[-1:]}
        which = f" with {' and '.join(named(*axis) for axis in facet)}, which validation chooses" if facet else ""
        words = f"Held out: {held_out}, the first of the study's held-out domains{which}."
        return replace(_of(found, held_out, tuned, words), among="of those fine-tuned")
    return None


def _taught(study: Study) -> Shown | None:
    """Return what learns from labels and from masks, in the order of the first stage that has both."""
    every = [one for one in supervision.found(study) if one.group.scored]
    for stage in dict.fromkeys(one.group.stage for one in every):
        of = {one.name: one for one in every if one.group.stage == stage}
        if len({one.kind for one in of.values()}) > 1:
            found = {name: one.group for name, one in [*of.items()][:TAUGHT]}
            domain = _first(study, [group.first for group in found.values()])
            judges = [name for name in found if of[name].kind == setups.MASKS]
            notes = {name: supervision.KINDS[of[name].kind] for name in found}
            words = "What is learned from labels and from masks, side by side."
            made = _of(found, domain, judges or list(found), words)
            return replace(made, among="of those with masks" if judges else "of these", notes=notes)
    return None


def _crossed(study: Study) -> Shown | None:
    """Return models of the same training data: those that differ from the best in their loss alone, or the best few.

    Losses where the study has no more of all other settings. The kind of data is that of most models.
    """
    kinds = [[part for part in of if part.valid is not None] for of in parts(study, models(study)).values()]
    block = max(kinds, key=len, default=[])
    if not block:
        return None
    best = chosen(study, block) or block[0]
    alike = [part for part in block if not _differ(best, part)]
    losses = {recipe.loss(part.model.spec.loss) for part in alike}
    by_loss = len(losses) > 1 and len(alike) >= len(block) / len(alike)  # as many as all else
    if by_loss:
        alike = sorted(alike, key=lambda part: study.groups.index(part.groups[0]))
    else:
        alike = [best, *(part for part in block if part is not best)]
    names = _losses(alike) if by_loss else [part.model.name for part in alike]
    column = next(column for column in best.columns if column.group.scored)
    theirs = [next((one.group for one in part.columns if one.name == column.name), None) for part in alike]
    there = [(name, group) for name, group in zip(names, theirs, strict=True) if group and group.scored]
    found = dict(there[: MOST if by_loss else FEW])
    domains = _tested(study, [column.group.first])
    domain = next((name for name in domains if not column.knows(name)), domains[0])
    if best.kind == WITHOUT and column.group.role.held_out in domains:
        domain = column.group.role.held_out
    of = f"{_head(best)} with other losses" if by_loss else "The best models by validation"
    data = f"held out: {domain}" if best.kind == WITHOUT else f"trained on {column.name}"
    return _of(found, domain, list(found), f"{of}; {data}.")


def _differ(one: Part, other: Part) -> bool:
    """Return whether two models differ in more than loss and augmentation."""
    return bool(differs.besides(one.model.spec, other.model.spec, (*DATA, "loss", "augment")))


def _losses(found: Sequence[Part]) -> list[str]:
    """Return what each model is trained by: its loss, and its augmentation where they differ in that too."""
    specs = [part.model.spec for part in found]
    augmented = len({recipe.augment(spec.augment) for spec in specs}) > 1
    said = [recipe.augment(spec.augment) if augmented and spec.augment else "" for spec in specs]
    return [", ".join(filter(None, [recipe.loss(spec.loss), word])) for spec, word in zip(specs, said, strict=True)]


def _head(part: Part) -> str:
    spec = part.model.spec
    return ", ".join(filter(None, [recipe.maps(spec), recipe.decoder(spec)]))


def _others(study: Study) -> Shown | None:
    """Return the best of each stage, case and facet by validation, those that are not above all fake last."""
    best: dict[object, tuple[tuple[bool, float], Group]] = {}
    for group in study.groups:
        if group.scored and group.valid is not None and group.first.trial.spec.decoder.name not in BASELINES:
            key = (group.stage, group.case, group.facet)
            rank = not is_not_above([(group, study.tested)]), group.valid
            if key not in best or rank > best[key][0]:
                best[key] = (rank, group)
    ranked = sorted(best.values(), key=lambda pair: pair[0], reverse=True)
    found = {f"model {place + 1}": group for place, (_, group) in enumerate(ranked[:FEW])}
    if not found:
        return None
    domain = _first(study, [group.first for group in found.values()])
    return _of(found, domain, list(found), "The best of each kind by validation.")


def _of(found: Mapping[str, Group], domain: str, judges: Sequence[str], words: str) -> Shown:
    """Return one training of each group, of the same draw and seed where all have one."""
    place = next(iter(scored_places(list(found.values()))), None)
    results = {name: group.first if place is None else group.runs[place] for name, group in found.items()}
    there = [name for name in judges if ("best", domain) in results[name].scores] or list(judges)
    judge = max(there, key=lambda name: -1.0 if (valid := results[name].valid) is None else valid)
    return Shown(results, domain, judge, words)


def _first(study: Study, results: Sequence[Result]) -> str:
    """Return the first domain that all of some trials are tested on."""
    return next(iter(_tested(study, results)), "")


def _tested(study: Study, results: Sequence[Result]) -> list[str]:
    domains = [*study.tested, *study.extra]
    return [domain for domain in domains if all(("best", domain) in result.scores for result in results)]
