"""What a study of models finds: which one validation chooses, what generalizes, what each setting does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dfloc.frozen import canonical
from dfloc.report.cells import NOT_ABOVE
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Group, Study, less, over
from dfloc.report.models import (
    ALL,
    ONE,
    ONWARD,
    WITHOUT,
    MatrixColumn,
    Part,
    Which,
    every,
    known,
    models,
    parts,
    settings,
    unknown,
)
from dfloc.report.ranking import chosen
from dfloc.report.words import label, named

RESERVED = ("best", "lead", "unseen", "diversity", "source", "hardest", "sure", "none")  # keys of other findings
MOST = 2  # settings that a sentence is said of
SHOWN = 3  # values of one
CellGroups = Mapping[tuple[str, str, str], Group]  # trainings by a name, that of their data, and the test domain


def findings(study: Study) -> Iterator[Finding]:
    """Yield what is found of models that are trained on one, several or all domains but one.

    Models are compared where there are several that are trained alike; what none of them says of domains that were not
    trained on, those say that were trained so.
    """
    blocks = parts(study, models(study))
    there = {kind: block for kind in (WITHOUT, ONE, ALL, ONWARD) if (block := _distinct(blocks.get(kind, [])))}
    if not there:
        return
    kind = next((kind for kind, block in there.items() if len(block) > 1), next(iter(there)))
    best = chosen(study, there[kind]) or there[kind][0]
    which, where = _which(study, best)
    yield _standing(study, there[kind], best)
    if found := _lead(study, there[kind], best, which, where):
        yield found
    yield from _settings(study, blocks[kind], which, where)
    first, *_ = there
    if kind != first:
        best = chosen(study, there[first]) or there[first][0]
        which, where = _which(study, best)
        yield _standing(study, there[first], best)._replace(key="unseen")
    for found in (_diverse(study, blocks), _sources(study, best), _hardest(study, best, which, where)):
        if found:
            yield found


def _distinct(block: Sequence[Part]) -> list[Part]:
    """Return the parts that validation ranks; of several that are the same trainings the first."""
    found = {frozenset(_trainings(part.groups)): part for part in reversed(block) if part.valid is not None}
    return [part for part in block if part in found.values()]


def _which(study: Study, part: Part) -> tuple[Which, str]:
    """Return the cells that a study is about: out of domain where there are any."""
    if part.cells(study, unknown):
        return unknown, "out of domain"
    return (known, "in domain") if part.cells(study, known) else (every, "over all domains")


def _standing(study: Study, block: Sequence[Part], best: Part) -> Finding:
    first = chosen(study, block)
    of = f", which validation chooses of {len(block)}," if first and len(block) > 1 else ""

    def own(column: MatrixColumn, domain: str) -> bool:
        return known(column, domain) and not _foreign(study, column)

    means = {words: best.mean(study, which) for words, which in (("in domain", own), ("out of domain", unknown))}
    said = " and ".join(f"{found.value:.2f} {words}" for words, found in means.items() if found) or "no number yet"
    mark = "" if first else f", {NOT_ABOVE}"
    text = f"Trained on {best.kind}, {best.model.name}{of} has {study.first.word} {said}{mark}"
    return Finding("best", text, {words.replace(" ", "_"): found for words, found in means.items() if found})


def _lead(study: Study, block: Sequence[Part], best: Part, which: Which, where: str) -> Finding | None:
    """Return how the model that validation chooses stands to the best of the others on test images."""
    means = {part: found for part in block if (found := part.mean(study, which))}
    if best not in means or len(means) < 2:
        return None
    others = {part: found for part, found in means.items() if part is not best}
    top = study.first.best(found.value for found in others.values())
    other = next(part for part, found in others.items() if found.value == top)
    numbers = {"chosen": means[best], "other": others[other]}
    ahead = study.first.gain(means[best].value, top) >= 0
    sides = (best, other) if ahead else (other, best)
    lead = _less(*(_cells(study, {"": part}, which) for part in sides))
    if lead and lead.p is not None and not ahead:  # the best of the others, chosen by what it is tested by (Bonferroni)
        lead = replace(lead, p=len(others) * lead.p)
    more, most = ("more", "Most") if study.first.higher_is_better else ("less", "Least")
    text = (
        f"No other has {more} {where}; the next is {other.model.name} with {top:.2f}"
        if ahead
        else f"{most} {where} has {other.model.name} with {top:.2f}, which validation does not choose"
    )
    return Finding("lead", text, numbers, [(lead, "which of the two is better is not decided")])


def _settings(study: Study, block: Sequence[Part], which: Which, where: str) -> Iterator[Finding]:
    """Yield what some settings do where the others stay: the means of their values over the same of all else."""
    axes = dict.fromkeys(axis for part in block for axis in settings(part.groups[0]))
    found = [(place, axis, values) for axis in axes for place, values in enumerate(_alike(block, axis))]
    said = list[str]()
    for _, axis, values in sorted(found, key=lambda each: each[0]) if len(axes) > 1 else ():
        cells = {name: _cells(study, of, which) for name, of in values.items()}
        shared = set.intersection(*({key for key in of if of[key].score([key[-1]])} for of in cells.values()))
        means = {name: mean for name, of in cells.items() if (mean := _mean({key: of[key] for key in shared}))}
        if len(means) < 2 or len(said) == MOST:
            continue
        ranked = sorted(means, key=lambda name: -study.first.gain(means[name].value, 0))
        said_of = label(axis.removeprefix("trial."))
        shown = [f"{means[name].value:.2f} with {name.removeprefix(f'{said_of} = ')}" for name in ranked]
        shown = [*shown[:SHOWN], f"... {shown[-1]}"] if len(shown) > SHOWN + 1 else shown
        key = axis.removeprefix("trial.").removesuffix(".name").rpartition(".")[2]
        lead = _less(*({key: cells[name][key] for key in shared} for name in ranked[:2]))
        words = "the difference is not decided" if len(ranked) == 2 else "the first two are not told apart"
        said.append(key)
        yield Finding(
            _key(key, said),
            f"By {said_of}, all else equal, {where}: {', '.join(shown)}",
            {name: means[name] for name in ranked},
            [(lead, words)],
        )


def _key(name: str, said: Sequence[str]) -> str:
    """Return what a setting's finding is called: as the setting, unless another is called so."""
    key = f"by-{name}" if name in RESERVED else name
    return f"{key}-{said.count(name)}" if said.count(name) > 1 else key


def _alike(block: Sequence[Part], axis: str) -> list[dict[str, dict[str, Part]]]:
    """Return the values of an axis with the models that have each, by all else; apart where that is not the same."""
    by_value, names = dict[str, dict[str, Part]](), dict[str, str]()
    for part in (part for part in block if axis in part.groups[0].axes):
        group = part.groups[0]
        rest = {other: str(group.axes[other]) for other in settings(group) if other != axis}
        key = canonical([group.stage, group.case, rest])
        name, value = named(axis, group.axes[axis]), str(group.axes[axis])
        alike = sum(of == name or of.startswith(f"{name} (") for of in names.values())
        names.setdefault(value, f"{name} ({alike + 1})" if alike else name)
        by_value.setdefault(names[value], {})[key] = part
    apart: dict[frozenset[str], dict[str, dict[str, Part]]] = {}
    for name, of in by_value.items():
        apart.setdefault(frozenset(of), {})[name] = of
    return sorted((values for values in apart.values() if len(values) > 1), key=lambda values: -len(values))


def _diverse(study: Study, blocks: Mapping[str, Sequence[Part]]) -> Finding | None:
    """Return what several training domains bring on one that is none of them, over the models that have both."""
    several = {part.model: part for part in blocks.get(WITHOUT, [])}
    both = [(part, several[part.model]) for part in blocks.get(ONE, []) if part.model in several]
    one: list[tuple[Group, str]] = []
    many: list[tuple[Group, str]] = []
    for alone, without in both:
        answers = {domain: group for group, domains in without.cells(study, unknown) for domain in domains}
        cells = [(group, domain) for group, domains in alone.cells(study, unknown) for domain in domains]
        cells = [(group, name) for group, name in cells if name in answers and not _same(group, answers[name])]
        one += cells
        many += [(answers[domain], domain) for _, domain in cells]
    means, change = (over(one), over(many)) if one else (None, None), less(many, one) if one else None
    if means[0] is None or means[1] is None or change is None:
        return None
    text = f"Out of domain a model of one domain has {means[0].value:.2f}, one of all others {means[1].value:.2f}"
    return Finding(
        "diversity", text, {"one": means[0], "others": means[1]}, [(change, "the difference is not decided")]
    )


def _sources(study: Study, best: Part) -> Finding | None:
    """Return what a model has that is trained on photographs of a source that is not tested on."""
    own = ", ".join(sorted({domain.partition("/")[0] for domain in study.tested}))
    by_source: dict[str, list[tuple[Group, str]]] = {own: []}
    for column in best.columns:
        cells = by_source.setdefault(", ".join(_foreign(study, column)) or own, [])
        cells += [(column.group, domain) for domain in study.tested if column.knows(domain)]
    means = {name: found for name, cells in by_source.items() if (found := over(cells))}
    if len(means) < 2 or len({found.value for found in means.values()}) == 1:
        return None
    ranked = sorted(means, key=lambda name: (name != own, -study.first.gain(means[name].value, 0)))
    first, second = (by_source[name] for name in ranked[:2])
    change = less(first, second) if [key for _, key in first] == [key for _, key in second] else None
    said = ", of ".join(f"{name}: {means[name].value:.2f}" for name in ranked)
    undecided = "the difference is not decided" if len(ranked) == 2 else "the first two are not told apart"
    return Finding("source", f"Trained on source images of {said}", means, [(change, undecided)])


def _trainings(groups: Sequence[Group]) -> set[str]:
    return {result.trial.fingerprint for group in groups for result in group.results}


def _same(one: Group, other: Group) -> bool:
    return _trainings([one]) == _trainings([other])


def _foreign(study: Study, column: MatrixColumn) -> list[str]:
    """Return the sources that a training has and no test domain has."""
    tested = {domain.partition("/")[0] for domain in study.tested}
    return sorted({domain.partition("/")[0] for domain in column.group.first.trial.spec.train.counts} - tested)


def _hardest(study: Study, best: Part, which: Which, where: str) -> Finding | None:
    """Return the test domains on which the chosen model has least and most; None where it has the same on all."""
    by_domain: dict[str, list[tuple[Group, str]]] = {}
    for group, domains in best.cells(study, which):
        for domain in domains:
            by_domain.setdefault(domain, []).append((group, domain))
    means = {domain: found for domain, cells in by_domain.items() if (found := over(cells))}
    if len(means) < 2 or len({found.value for found in means.values()}) == 1:
        return None
    ranked = sorted(means, key=lambda domain: study.first.gain(means[domain].value, 0))
    ends = [f"{domain} ({means[domain].value:.2f})" for domain in (ranked[0], ranked[-1])]
    text = f"Hardest for it {where} is {ends[0]}, easiest {ends[1]}"
    return Finding("hardest", text, {"hardest": means[ranked[0]], "easiest": means[ranked[-1]]})


def _cells(study: Study, of: Mapping[str, Part], which: Which) -> CellGroups:
    """Return the trainings of some parts by the part, the data and the test domain."""
    return {
        (name, column.name, domain): column.group
        for name, part in of.items()
        for column in part.columns
        for domain in study.tested
        if which(column, domain)
    }


def _mean(cells: CellGroups) -> Estimate | None:
    return over([(group, key[-1]) for key, group in cells.items()]) if cells else None


def _less(first: CellGroups, second: CellGroups) -> Estimate | None:
    shared = [key for key in first if key in second]
    return less(*([(side[key], key[-1]) for key in shared] for side in (first, second)))
