"""What the data lack of a study, in words, with the cure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dfloc.errors import DataError
from dfloc.sweep.data import Data
from dfloc.sweep.space import Study


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
