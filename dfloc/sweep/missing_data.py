"""What the data lack of a study, in words, with the cure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dfloc.data.mixture import Split
from dfloc.errors import DataError
from dfloc.sweep import counts, limit
from dfloc.sweep.cell import Cell
from dfloc.sweep.data import Data
from dfloc.sweep.limit import Demand
from dfloc.sweep.study import Study
from dfloc.sweep.sweep_keys import Number

SplitCounts = list[tuple[Split, dict[str, Number]]]


def sentences(study: Study, data: Data, skipped: Mapping[str, Sequence[set[str]]]) -> Iterator[str]:
    """Yield a sentence for each stage that the data cannot give whole, and the cure.

    Args:
        study: the cells that were asked for.
        data: what they were planned against.
        skipped: stage -> domains that its cells need and the data lack, one entry for each cell that is left out.

    Raises:
        DataError: nothing is left.
    """
    domains = [domain for domain in study.ask.domains if data.has(domain)]
    planned = Counter(cell.stage for cell in (*study.cells, *study.cover))
    lacking = sorted({domain for cells in skipped.values() for cell in cells for domain in cell})
    cure = "name those that are there by --set domains=[...]"
    if sum(len(cells) for cells in skipped.values()) == planned.total():
        have = ", ".join(data.local)
        raise DataError(f"every trial of the study needs {', '.join(lacking)}, but the data have {have}; {cure}")
    for stage, cells in skipped.items():
        needed = ", ".join(sorted({domain for cell in cells for domain in cell}))
        yield f"stage {stage}: {len(cells)} of {planned[stage]} trials skipped: the data lack {needed}"
    if lacking and len(domains) > 1:
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
    limit.refuse_short(demands, there, study.scale)


def _split_counts(cell: Cell, study: Study, data: Data) -> SplitCounts:
    """Return the images of each domain that a cell trains and validates on."""
    train, domains = cell.train, study.ask.domains
    with cell.blames("train.domains", "train.valid_domains"):
        listed = [counts.names(of, cell.stage, cell.axes, domains, data) for of in (train.domains, train.judges)]
    with cell.blames("train.count", "train.valid"):
        return [
            ("train", counts.by_domain(train.count, listed[0], domains)),
            ("valid", counts.by_domain(train.valid, listed[1], domains)),
        ]
