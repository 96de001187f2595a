"""A study against its data: what they lack of it, with the cure, and what none of its trials would read."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.checks import Check
from dfloc.data import dolos
from dfloc.data.generators import SOURCE, WHOLE
from dfloc.data.mixture import Split
from dfloc.errors import ConfigError, DataError, unknown
from dfloc.frozen import canonical
from dfloc.ids import MapName
from dfloc.metrics import protocols
from dfloc.metrics.alarms import ALARMS
from dfloc.report.score import OF_SETS
from dfloc.sweep import counts, reals
from dfloc.sweep.cell import Cell, Composite, Study
from dfloc.sweep.compose import REPEATED
from dfloc.sweep.counts import Scale
from dfloc.sweep.data import Data
from dfloc.sweep.fields import words_in
from dfloc.sweep.train_keys import Number

SplitCounts = list[tuple[Split, dict[str, Number]]]
Part = tuple[str, Number | Mapping[str, Number], str | tuple[str, ...]]  # field, what it asks, and of which domains


class Demand(NamedTuple):
    """Images of a domain's split that a study asks for before any limit, of the first `within` alone."""

    domain: str
    split: Split
    num: int
    within: int | None


def sentences(study: Study, data: Data, skipped: Mapping[str, Sequence[set[str]]]) -> Iterator[str]:
    """Yield a sentence for each stage that the data cannot give whole, and the cure; `skipped` is `Resolver.skipped`.

    Raises:
        DataError: nothing is left.
    """
    domains = [domain for domain in study.ask.domains if data.has(domain)]
    planned = Counter(cell.stage for cell in (*study.cells, *study.cover))
    lacking = sorted({domain for cells in skipped.values() for cell in cells for domain in cell})
    cure = "name those that are there by --set domains=[...]"
    cure = next((reals.cure(domain) for domain in lacking if dolos.is_real(domain)), cure)
    if sum(len(cells) for cells in skipped.values()) == planned.total():
        have = ", ".join(data.local)
        raise DataError(f"every trial of the study needs {', '.join(lacking)}, but the data have {have}; {cure}")
    for stage, cells in skipped.items():
        needed = ", ".join(sorted({domain for cell in cells for domain in cell}))
        yield f"stage {stage}: {len(cells)} of {planned[stage]} trials skipped: the data lack {needed}"
    yield from _without_reals(study, data)
    yield from (reals.cure(domain) for domain in lacking if dolos.is_real(domain))
    if {*lacking} & {f"{SOURCE}/{name}" for name in WHOLE}:
        yield "these built-in data are of an earlier version: delete shards/mini, and they are made again as they were"
    if not all(map(dolos.is_real, lacking)) and len(domains) > 1:
        name = f"{study.ask.name}-{len(domains)}"
        yield f"for a study of the domains that are there: --set name={name} --set domains=[{','.join(domains)}]"


def refuse_short(study: Study, data: Data) -> None:
    """Return if the data have as many images as each cell asks for that they have the domains of.

    What an ancestor saw and `pairing: disjoint` leaves out is looked at when the list is made.

    Raises:
        DataError: they have not; names each domain and split that has too few, and the largest `--limit` that fits.
    """
    demands, there = set[Demand](), dict[tuple[str, Split], int]()
    lacking: dict[Cell, bool] = {}
    for cell in study.unscaled:
        own = _split_counts(cell, study, data)
        inherited = cell.parent is not None and lacking[cell.parent]
        lacking[cell] = inherited or not all(data.has(domain) for _, part in own for domain in part)
        if lacking[cell]:
            continue
        for split, part in own:
            within = cell.train.within if split == "train" else None
            demands |= {Demand(domain, split, num, within) for domain, num in part.items() if num != "all"}
            there |= {(domain, split): counts.images(domain, split, data) for domain in part}
    scale = study.scale
    short = _short(demands, there, scale)
    if not short:
        return
    low, high = 0, min(scale.limit, scale.largest)  # the largest limit that fits is not below low, but below high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if not _short(demands, there, Scale(middle, scale.largest)) else (low, middle)
    lacks = "; ".join(
        f"{domain} has {has} {split} images, but the study asks for {wanted}"
        for (domain, split), (has, wanted) in short.items()
    )
    cure = f"scale every count down with --limit {low}" if low else "leave out what has none (--set domains=[...])"
    raise DataError(f"{lacks}; import more, or {cure}")


def refuse_unread(study: Study, data: Data) -> None:
    """Return if every weight and every number of images that is named would be read.

    A stage that `--only` leaves out reads what it names, and so does a value that an axis does not have now.

    Raises:
        ConfigError: says what would not, and where it was given.
    """
    cells = (*study.cells, *study.cover)
    backbones = {MapName.of(word).backbone for word in words_in(study.ask.model_dump())}
    for cell in cells:
        weights = cell.trial.weights
        for name in weights if isinstance(weights, Mapping) else ():
            if name not in backbones:
                with cell.blames("trial.weights"):
                    raise ConfigError(f"weights for {name}, but no trial reads a map of it; leave {name} out")
    _refuse_numbers(cells, study, data)


def refuse_checks(study: Study) -> None:
    """Return if each check of a study is of one training, and of a metric that this is scored by.

    Of a stage of which nothing is planned here, by `--only`, say, nothing but its name is known.

    Raises:
        ConfigError: an unknown stage, case, axis or metric, or several trainings.
    """
    for check in study.ask.checks:
        stage, _, case = check.stage.partition("/")
        if stage not in study.ask.stages:
            raise unknown("stage", check.stage, study.ask.stages)
        asked = study.ask.stages[stage]
        if case and case not in (cases := {**asked.cases, **asked.compose}):
            raise unknown(f"case of stage {stage}", case, cases)
        made: tuple[Cell | Composite, ...] = (*study.cells, *study.composites)
        every = [one for one in made if one.stage == stage and case in ("", one.case)]
        if every:
            _refuse_check(check, every, study.ask.evaluate.protocol)


def _refuse_check(check: Check, every: Sequence[Cell | Composite], protocol: str) -> None:
    axes = {axis for one in every for axis in one.axes}
    if strange := [axis for axis in check.axes if axis not in axes]:
        raise unknown(f"axis of {check.stage}", strange[0], axes)
    found = [one for one in every if all(str(one.axes.get(axis)) == str(value) for axis, value in check.axes.items())]
    told = sorted(axes - {*REPEATED})
    apart = {canonical([one.case, *(one.axes.get(axis) for axis in told)]) for one in found}
    if len(apart) > 1:
        raise ConfigError(
            f"check {check.name}: {check.stage} is {len(apart)} trainings; name one by stage: STAGE/CASE, or by axes"
        )
    rules = {(one.protocol if isinstance(one, Cell) else None) or protocol for one in found}
    known = {key for rule in rules for key in protocols.find(rule).per_image} | {*OF_SETS, *ALARMS}
    if check.metric is not None and found and check.metric not in known:
        raise unknown(f"metric of {' and '.join(sorted(rules))}", check.metric, known)


def _split_counts(cell: Cell, study: Study, data: Data) -> SplitCounts:
    """Return the images of each domain that a cell trains and validates on."""
    train, domains = cell.train, study.ask.domains
    with cell.blames("train.domains", "train.valid_domains"):
        listed = [counts.names(of, cell.stage, cell.axes, domains, data) for of in (train.domains, train.judges)]
    with cell.blames("train.count", "train.valid"):
        asked = counts.by_domain(train.count, listed[0], domains)
        valid = counts.by_domain(train.valid, listed[1], domains)
    if train.labels:
        with cell.blames("train.labels"):
            for domain, num in counts.labelled(train.labels, cell.stage, cell.axes, domains, data).items():
                before = asked.get(domain, 0)
                assert before != "all", "a cell has a number for each"
                asked[domain] = before + num
    return [("train", asked), ("valid", valid)]


def _short(
    demands: Collection[Demand], there: Mapping[tuple[str, Split], int], scale: Scale
) -> dict[tuple[str, Split], tuple[int, int]]:
    """Return what there is too little of under a limit: how many images there are, and the most that are asked for."""
    found: dict[tuple[str, Split], tuple[int, int]] = {}
    for demand in sorted(demands, key=lambda one: (one.domain, one.split, one.num, one.within or 0)):
        wanted, has = scale.count(demand.num), there[demand.domain, demand.split]
        if demand.within is not None:
            has = min(has, scale.count(demand.within))
        if wanted > has:
            found[demand.domain, demand.split] = (has, wanted)
    return found


def _without_reals(study: Study, data: Data) -> Iterator[str]:
    """Yield a sentence on sources of the study without real images, where those of others stand for `real`."""
    lists = [of for cell in (*study.cells, *study.cover) for of in cell.train.named]
    if not any(of == counts.REAL or (isinstance(of, tuple) and counts.REAL in of) for of in lists):
        return
    there = counts.reals_of(study.ask.domains, data)
    lacking = sorted({f"{name.partition('/')[0]}/{counts.REAL}" for name in study.ask.domains} - {*there})
    if lacking:
        yield f"the data have no {', '.join(lacking)}: `real` stands for {', '.join(there)} alone"


def _varies(of: str | tuple[str, ...], cell: Cell) -> bool:
    """Return whether a list differs from cell to cell, or with the study's domains, so that a number may idle."""
    words = (counts.ALL, counts.ALL_BUT_HELD_OUT, *cell.given.values())
    return of in words or (isinstance(of, tuple) and any(name in words for name in of))


def _real_among(found: Collection[str]) -> list[str]:
    return [counts.REAL] if any(map(dolos.is_real, found)) else []


def _refuse_numbers(cells: tuple[Cell, ...], study: Study, data: Data) -> None:
    """Refuse a number for a domain that no cell of the same case trains, or validates, on."""
    read, named = set[tuple[str, ...]](), dict[tuple[str, ...], Cell]()
    for cell in cells:
        train = cell.train
        parts: list[Part] = [("count", train.count, train.domains), ("valid", train.valid, train.judges)]
        parts += [("labels.count", train.labels.count, train.labels.domains)] if train.labels else []
        for field, asked, of in parts:
            if isinstance(asked, Mapping):
                found = counts.names(of, cell.stage, cell.axes, study.ask.domains, data)
                read |= {(cell.stage, cell.case, field, name) for name in (*found, *_real_among(found))}
                keys = asked.keys() & {counts.REAL} if _varies(of, cell) else asked.keys() - {"first", "rest"}
                named |= {(cell.stage, cell.case, field, name): cell for name in sorted(keys)}
    for (stage, case, field, name), cell in named.items():
        if (stage, case, field, name) not in read:
            what = "validates" if field == "valid" else "trains"
            with cell.blames(f"train.{field}"):
                raise ConfigError(f"train.{field} names {name}, but {cell.name} {what} on others; leave {name} out")
