"""Whether a study's numbers came out as published: the checks of its sweep file, each PASS, FAIL or not yet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dfloc.checks import Check
from dfloc.errors import ConfigError, unknown
from dfloc.report import captions, published, table
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.page import Section
from dfloc.report.published import PublishedTable
from dfloc.report.table import DASH, Cell, Column, Table

ID = "checks"
SLACK = 1e-9  # of a fraction: numbers that are equal but for the last bits
TEXT = "Numbers that are known beforehand, the cheapest first: where one fails, what stands below it is worth nothing."

Passed = Literal["PASS", "FAIL", "not yet", "not of this data"]
MARKS: Mapping[Passed, str] = {"PASS": "strong", "FAIL": "bad", "not yet": "hole", "not of this data": "hole"}


@dataclass(frozen=True)
class Checked:
    """A check and what became of it.

    Attributes:
        known: the published number, a fraction.
        ours: None where it is not there.
        why: it says neither PASS nor FAIL; empty where it does.
    """

    check: Check
    known: float
    ours: Estimate | None
    state: Passed
    why: str = ""

    @property
    def line(self) -> str:
        """What it says on screen."""
        head = f"{self.state}: {', '.join(filter(None, [self.check.name, self.check.metric, self.check.domain]))}"
        if self.ours is None or self.why:
            return f"{head} ({self.why})"
        away = f"{self.ours.value - self.known:+.4f}, at most {self.check.tolerance:g} either way"
        return f"{head}: {self.ours.metric.label} {self.ours.value:.4f}, published {self.known:.4f} ({away})"


def known(check: Check, tables: Mapping[str, PublishedTable]) -> float:
    """Return the number that a check is about, a fraction.

    Raises:
        ConfigError: no table has it.
    """
    if check.published is None:
        assert check.value is not None
        return check.value
    name, row, col = check.published
    if name not in tables:
        raise unknown("published table", name, tables)
    found = {(str(one.row), str(one.col)): one.value for one in tables[name].cells.values()}
    if (row, col) not in found:
        cells = ", ".join(dict.fromkeys(f"[{one}, {other}]" for one, other in found))
        raise ConfigError(f"check {check.name}: table {name} has no number at [{row}, {col}]; it has {cells}")
    return found[row, col]


def checked(studies: Sequence[Study]) -> list[Checked]:
    """Return what became of each check of a study.

    Args:
        studies: it, by each of its protocols.
    """
    checks = studies[0].record.checks
    tables = published.load(unpublished=True) if any(check.published for check in checks) else {}
    return [_checked(check, known(check, tables), studies) for check in checks]


def sections(studies: Sequence[Study]) -> list[Section]:
    """Return the part of the page with the checks: none where the sweep file has none."""
    found = checked(studies)
    counted = Counter(each.state for each in found)
    words = ", ".join(f"{counted[state]} {state}" for state in MARKS if counted[state])
    return [Section(ID, "Checks", f"{words}. {TEXT}", [_table(studies[0], found)])] if found else []


def _checked(check: Check, value: float, studies: Sequence[Study]) -> Checked:
    record = studies[0].record
    if record.synthetic:
        return Checked(check, value, None, "not of this data", "built-in data, or random weights")
    if record.limit is not None:
        return Checked(check, value, None, "not of this data", f"limited to {record.limit} images")
    groups = [(study, group) for study in studies for group in _groups(study, check)]
    if not groups:
        return Checked(check, value, None, "not yet", "not planned here")
    scored = [ours for _, group in groups if (ours := group.score([check.domain], check.metric))]
    if not scored:
        asked = {one.domain for _, group in groups for one in group.first.trial.evaluations}
        if check.domain not in asked:
            return Checked(check, value, None, "not of this data", f"{check.domain} is not tested")
        return Checked(check, value, None, "not yet", groups[0][1].hole)
    passed = abs(scored[0].value - value) <= check.tolerance + SLACK
    return Checked(check, value, scored[0], "PASS" if passed else "FAIL")


def _groups(study: Study, check: Check) -> list[Group]:
    stage, _, case = check.stage.partition("/")
    return [
        group
        for group in study.stage(stage, case or None)
        if all(str(group.axes.get(axis)) == str(value) for axis, value in check.axes.items())
    ]


def _table(study: Study, found: Sequence[Checked]) -> Table:
    def less(each: Checked) -> Cell:
        return Cell(f"{each.ours.value - each.known:+.4f}") if each.ours else Cell(DASH, mark="hole")

    columns: list[Column[Checked]] = [
        Column("Check", lambda each: Cell(each.check.name), words=True),
        Column("Test domain", lambda each: Cell(each.check.domain), words=True),
        Column("", lambda each: Cell(each.state, each.why, mark=MARKS[each.state]), words=True),
        Column("Published", lambda each: Cell(f"{each.known:.4f}", exact=(each.known,))),
        Column("Ours", lambda each: table.estimate(each.ours, DASH)),
        Column("Difference", less),
        Column("Tolerance", lambda each: Cell(f"{each.check.tolerance:g}")),
        Column("Why that much", lambda each: Cell(each.check.because), words=True),
        Column("Metric", lambda each: Cell(_metric(study, each)), words=True, small=True),
        Column("Training", lambda each: Cell(_training(each.check)), words=True, small=True),
        Column("Source", lambda each: Cell(" ".join(each.check.published or ())), words=True, small=True),
    ]
    return Table(
        id=ID,
        title="Published numbers that ours should meet.",
        caption="PASS: ours is away from the published number by no more than the tolerance. Numbers are fractions.",
        source=captions.provenance(study, [group for each in found for group in _groups(study, each.check)]),
        columns=columns,
        rows=[table.row(columns, each) for each in found],
        best="",
    )


def _metric(study: Study, each: Checked) -> str:
    key = each.check.metric
    return next((one.label for one in study.protocol.metrics if one.key == key), key or study.first.label)


def _training(check: Check) -> str:
    return ", ".join([check.stage, *(f"{axis} {value}" for axis, value in check.axes.items())])
