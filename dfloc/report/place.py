"""Where among our trials a published number stands, and where not, why: one answer for tables, figures and claims."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfloc.metrics.metric import IOU
from dfloc.report import captions
from dfloc.report.address import ATTRIBUTION, AXES, DETECTION, EXPOSURE, IMAGES, UNSEEN, Ours, find, named, right
from dfloc.report.cells import notes
from dfloc.report.comparable import Setting, gaps
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.published import PublishedNumber, PublishedTable
from dfloc.report.score import Score

CONTEXT = "the table is context: its protocol or main settings are not known"
SAME_RECALL = ("image-1", "thesis-2025")  # of a class, by the largest probability; beside each other as context
SHARE = "the share of reals in its test sets is not known, and is not a half in all of them"


@dataclass(frozen=True)
class Pair:
    """A published number, ours, and why they may not be subtracted.

    Attributes:
        where: which of our curves or models ours is of; empty for budgets.
        row: what it stands in the row of.
        col: what it stands in the column of.
        place: what ours is the mean of.
        ours: None where that is nothing, or not scored.
        doubts: why there is no difference, whatever our trial is.
        lacks: what our trial lacks of what is required.
    """

    table: PublishedTable
    published: PublishedNumber
    where: str
    row: str
    col: str
    place: Ours
    ours: Estimate | None
    doubts: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def matched(self) -> bool:
        """Whether it has a place among our trials, scored or not."""
        return bool(self.place.cells)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Why they may not be subtracted; empty where they may."""
        return self.doubts + self.lacks

    @property
    def difference(self) -> Estimate | None:
        """Ours less the published number, with the interval of ours; None where they may not be subtracted."""
        return self.ours.less(self.published.value) if self.ours and not self.gaps else None

    @property
    def note(self) -> str:
        """What must be said of our maps; empty where nothing."""
        return "; ".join(dict.fromkeys(note for group, domains in self.place.cells for note in notes(group, domains)))

    @property
    def scores(self) -> list[Score]:
        """What ours is the mean of."""
        every = [(each, domain) for group, domains in self.place.cells for each in group.scored for domain in domains]
        return [each.scores["best", name] for each, name in every if ("best", name) in each.scores] if self.ours else []

    def told(self) -> list[str]:
        """Return ours and the difference in words, as fractions, or why there is none; nothing where ours is a hole."""
        if self.ours is None:
            return []
        less = self.difference
        last = f"difference: {less.words('+')}" if less else f"no difference: {'; '.join(self.gaps)}"
        return [f"ours: {self.ours.words()}", last]


def pairs(study: Study, tables: Sequence[PublishedTable]) -> list[Pair]:
    """Return every number of the tables that can be compared, for each of ours that it may speak of."""
    return [pair for table in tables if not apart(study, table) for pair in _pairs(study, table)]


def matched(found: Sequence[Pair]) -> list[Pair]:
    """Return the numbers of the tables in which at least one has a place: what a page shows."""
    there = {pair.table.id for pair in found if pair.matched}
    return [pair for pair in found if pair.table.id in there]


def apart(study: Study, table: PublishedTable) -> str:
    """Return why no number of a table stands beside ours, whatever was trained; empty where one may."""
    if study.built_in:
        return "the data are built-in"
    if table.metric == "data_reduction":
        return "arithmetic on sizes: there is no trial to run"
    if table.axes in IMAGES and right(study) is None:
        return "no trial here says whether an image is fake, or who made it"
    measured = isinstance(table.metric, list) or table.axes in IMAGES or str(table.metric).split("_")[0] == IOU.key
    if table.axes not in AXES or not measured:
        return f"no table here has {table.metric} by {table.rows_axis} and {table.cols_axis}"
    return other_protocol(study, table)


def other_protocol(study: Study, table: PublishedTable) -> str:
    """Return that a table is of another protocol than a study's page; empty where it is not."""
    protocol = study.record.protocol
    alike = {protocol, "unknown", *(SAME_RECALL if table.axes == ATTRIBUTION and protocol in SAME_RECALL else ())}
    return "" if table.protocol in alike else f"protocol {table.protocol}, ours {protocol}"


def unmatched(study: Study, tables: Sequence[PublishedTable], found: Sequence[Pair]) -> list[str]:
    """Return a sentence with the tables of which no number has a place, and why; none for built-in data."""
    shown, why = {pair.table.id for pair in matched(found)}, dict[str, list[str]]()
    for table in tables if not study.built_in else ():
        if table.id not in shown:
            why.setdefault(missing(study, table, found), []).append(table.id)
    words = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in why.items())
    return [f"Published tables without a number of this study, which are not shown: {words}."] if words else []


def missing(study: Study, table: PublishedTable, found: Sequence[Pair]) -> str:
    """Return why no number of a table has a place."""
    tested = [*study.tested, *study.extra, *study.reals]
    gone = [domain for domain in table.tested if domain not in tested]
    whys = [pair.place.why for pair in found if pair.table.id == table.id]
    why = f"this study has no {gone[0]}" if gone else max(whys, key=whys.count, default="it has no number")
    return apart(study, table) or why


def terms(study: Study, found: Sequence[Pair]) -> str:
    """Return which masks and lists some published numbers and ours are of."""
    sources = {pair.table.id: pair.table for pair in found}
    return captions.compared(study, list(sources.values()), [score for pair in found for score in pair.scores])


def quoted(study: Study, found: Sequence[Pair]) -> str:
    """Return what the caption of a figure says of the published numbers in it, and a space; nothing where none is."""
    words = "How uncertain a published number is, is not known: the interval of a difference is that of ours alone."
    return f"{words} {terms(study, found)} " if found else ""


def setting(study: Study, group: Group, n: int | None = None) -> Setting:
    """Return where our number comes from; `n`: images of the held-out domain, where the study has such an axis."""
    trial = group.first.trial
    root = study.results.by_fingerprint.get(trial.spec.lineage.root)
    beside = study.reals if study.protocol.reads == "map" else ()
    return Setting(
        random=study.random_weights,
        tested={
            one.domain: one.test.size for one in trial.evaluations if one.split == "test" and one.domain not in beside
        },
        protocol=study.record.protocol,
        spec=trial.spec,
        words=study.record.weights,
        base=trial.spec if n == 0 else root.trial.spec if root else None,
        n=n,
        chained=trial.parent is not None and trial.parent != trial.spec.lineage.root,
    )


def _pairs(study: Study, table: PublishedTable) -> Iterator[Pair]:
    """Yield each number for each of ours that it speaks of, or once where it speaks of none."""
    spoken = {
        name: {key: ours for key, cell in table.cells.items() if (ours := look(cell)) is not None}
        for name, look in find(study, table).items()
    }
    found = {name: each for name, each in spoken.items() if each} or {"": {}}
    for name, each in found.items():
        for key, cell in table.cells.items():
            if key in each or not any(key in other for other in found.values()):
                yield _pair(study, table, cell, name, each.get(key, Ours(why=_no_model(cell))))


def _pair(study: Study, table: PublishedTable, cell: PublishedNumber, name: str, place: Ours) -> Pair:
    ours = study.mean_of(place.cells, place.metric)
    doubts = [] if ours else [_hole(place) if place.cells else place.why]
    doubts += [] if table.comparable else [CONTEXT]
    doubts += [SHARE] if table.axes == DETECTION else []
    doubts += [] if cell.status == "ok" else [f"published value {cell.status}: {cell.reason}"]
    lacks = [place.other] if place.other else []
    for group, domains in place.cells:
        for domain in domains:
            lacks += gaps(cell, table.protocol, domain, setting(study, group, place.n))
    row, col = str(cell.row), named(study, cell.col)
    if table.axes == EXPOSURE:
        row, col = f"{cell.col:,}", str(cell.row)
    return Pair(table, cell, name, row, col, place, ours, tuple(doubts), tuple(dict.fromkeys(lacks)))


def _hole(place: Ours) -> str:
    return next((group.hole for group, domains in place.cells if not group.score(domains, place.metric)), "unfinished")


def _no_model(cell: PublishedNumber) -> str:
    if not {"model", "maps", "table"} & cell.requires.keys() and cell.table != UNSEEN:
        return "the source does not record its model"
    return "not planned: no model here is what the table requires"
