"""What the documents conclude, on the page: a table of the claims that our numbers decide, a sentence of the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfloc.report.captions import provenance
from dfloc.report.claims import NO_FORMULA, UNDECIDED, Claim, Judged, State, Verdict, judge
from dfloc.report.groups import Study
from dfloc.report.page import Section
from dfloc.report.table import DASH, Cell, Column, Table, row
from dfloc.report.words import counted

ID = "claims-study"
WORDS: Mapping[State, str] = {
    "holds": "holds",
    "fails": "FAILS",
    "cannot_be_computed": "cannot be computed",
    "no_formula": NO_FORMULA,
}
ALIKE = {True: Cell("yes"), False: Cell("NO", mark="bad"), None: Cell(DASH, mark="hole")}
CHIPS: Mapping[State, str] = {
    "holds": "holds",
    "fails": "fails",
    "cannot_be_computed": "undecided",
    "no_formula": NO_FORMULA,
}
PATH_ONLY = "shows the path only"
SEVERAL: Mapping[State, str] = {**WORDS, "holds": "hold", "fails": "fail"}


@dataclass(frozen=True)
class Claims(Table):
    """The table of claims, which a page writes as chips: verdicts, one number, and the rest of a row folded.

    Attributes:
        judged: what each row is about.
    """

    judged: Sequence[Judged] = ()

    @property
    def chips(self) -> Mapping[State, str]:
        """What a chip says, by verdict."""
        return CHIPS


def summary(found: Sequence[Judged]) -> str:
    """Return in a few sentences how many claims hold, where ours and the published numbers part, which are not put."""

    def count(verdicts: Sequence[Verdict]) -> str:
        states = [verdict.state for verdict in verdicts]
        words = {state: (WORDS if states.count(state) == 1 else SEVERAL)[state].lower() for state in WORDS}
        said = [state for state in WORDS if state in states and state != "no_formula"]
        return ", ".join(f"{states.count(state)} {words[state]}" for state in said)

    put, apart = [each for each in found if each.is_put], [each.claim.id for each in found if each.agree is False]
    rest = _not_put([each for each in found if not each.is_put], any_put=bool(put))
    if not put:
        return f"{counted(len(found), 'claim')}. {rest}"
    decided = f"They decide differently: {', '.join(apart)}." if apart else "Where both decide, they decide alike."
    said = f"{counted(len(found), 'claim')}. On the published numbers: {count([each.published for each in found])}."
    return " ".join(filter(None, [said, f"On ours: {count([each.ours for each in put])}. {decided}", rest]))


def _not_put(found: Sequence[Judged], *, any_put: bool) -> str:
    """Return a sentence with the claims that are not put to our numbers, and why; one for each without a formula."""
    waiting = [each.claim.id for each in found if each.ours.state == "no_formula"]
    why: dict[str, list[str]] = {}
    for each in found:
        if each.ours.state != "no_formula":
            why.setdefault(each.ours.why, []).append(each.claim.id)
    words = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in why.items())
    if len(why) == 1 and not any_put:
        words = next(iter(why))
    said = f"{'Not' if any_put else 'None is'} put to ours: {words}." if why else ""
    return " ".join(filter(None, [said, *(f"{name} has {NO_FORMULA}." for name in waiting)]))


def sections(study: Study) -> list[Section]:
    """Return the part of the page with the claims: a table of those that our numbers decide, a sentence of the rest."""
    found = judge(study)
    put = [each for each in found if each.is_put]
    chip = PATH_ONLY if study.path_only or study.built_in else ""
    section = Section(ID, "What the documents conclude", summary(found), [table(study, put)] if put else [], chip)
    return [section] if found else []


def table(study: Study, found: Sequence[Judged]) -> Claims:
    """Return the claims with formula, numbers and verdicts."""
    columns: list[Column[Judged]] = [
        Column("Claim", lambda each: Cell(each.claim.claim, _where(each.claim)), words=True),
        Column("Formula", lambda each: Cell(each.claim.formula, _uses(each.claim)), words=True),
        Column("Published", lambda each: _cell(each.published, each.claim.note), words=True),
        Column("Ours", lambda each: _cell(each.ours), words=True),
        Column("Alike", lambda each: ALIKE[each.agree], words=True),
    ]
    of = "IoU" if study.task == "localize" else "accuracies, or recalls,"
    return Claims(
        id="claims",
        title="What the documents conclude, on their numbers and on ours.",
        caption="Each sentence is read as a formula, and its thresholds are ours. Published verdicts are computed from "
        f"the published tables; numbers that are called suspect are left out. Numbers are {of} in per cent where the "
        "document prints them. The share of resamples in which a claim holds is of one bootstrap over sampling seeds, "
        "training seeds and source images for all its numbers; a resample that leaves it undecided counts as one in "
        "which it does not.",
        source=provenance(study, study.groups),
        columns=columns,
        rows=[row(columns, each) for each in found],
        judged=found,
    )


def _where(claim: Claim) -> str:
    return f"{claim.id}, {claim.doc}: {claim.where}"


def _uses(claim: Claim) -> str:
    return f"Tables: {', '.join(claim.uses)}." if claim.uses else ""


def _cell(verdict: Verdict, note: str = "") -> Cell:
    share = f", in {100 * verdict.share:.0f} % of resamples" if verdict.share is not None else ""
    if verdict.share is not None and verdict.state == "fails":
        share = f", holds in {100 * verdict.share:.0f} % of resamples"
    marks: Mapping[State, str] = {"holds": "", "fails": "bad"}
    words = WORDS[verdict.state] + (share if verdict.state not in UNDECIDED else "")
    return Cell(words, said(verdict, note), mark=marks.get(verdict.state, "hole"))


def said(verdict: Verdict, note: str = "") -> str:
    """Return what stands behind a verdict: its numbers, why they do not decide, and our model."""
    told = [numbers(verdict), f"{verdict.why}." if verdict.why else "", verdict.model, note and f"Note: {note}."]
    return " ".join(filter(None, told))


def numbers(verdict: Verdict) -> str:
    """Return the numbers of a verdict by name, with their intervals."""
    told = []
    for name, values in verdict.numbers.items():
        spans = (verdict.spans or {}).get(name)
        each = [_rounded(value) + (_between(*spans[place]) if spans else "") for place, value in enumerate(values)]
        told.append(f"{name} {', '.join(each)}")
    return f"{'; '.join(told)}." if told else ""


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({_rounded(low)} … {_rounded(high)})"


def _rounded(value: float) -> str:
    """Return two decimals, halves away from zero as the documents round them."""
    return f"{value + math.copysign(1e-9, value):.2f}"
