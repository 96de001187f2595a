"""Every claim of the documents in one place: on the published numbers, and on ours of each sweep that puts it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from dfloc.report import claims, conclusions, published
from dfloc.report.claims import UNDECIDED, Claim, Verdict
from dfloc.report.groups import Study
from dfloc.report.published import PublishedTable
from dfloc.report.results import Results
from dfloc.report.sides import Side, side
from dfloc.report.table import csv_text
from dfloc.storage import Workspace

Decided = Literal["holds", "fails", "differs", "open"]
WORDS: Mapping[Decided, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "differs": ("is decided differently by sweeps", "are decided differently by sweeps"),
    "open": ("is open", "are open"),
}


@dataclass(frozen=True)
class Put:
    """What a claim's formula says of one sweep's numbers.

    Attributes:
        sweeps: their full names: one, or those whose models are taken together.
    """

    sweeps: tuple[str, ...]
    verdict: Verdict

    @property
    def chip(self) -> str:
        """The verdict in a word."""
        return conclusions.CHIPS[self.verdict.state]

    @property
    def beside(self) -> str:
        """In how many resamples the claim holds, or why it is not decided; empty where neither is known."""
        share, why = self.verdict.share, self.verdict.why
        told = why if share is None else f"holds in {100 * share:.0f} % of resamples"
        return f": {told}" if told else ""

    @property
    def said(self) -> str:
        """Its numbers, why they do not decide, and what our model is."""
        return conclusions.said(self.verdict)


@dataclass(frozen=True)
class ClaimLine:
    """One claim, and all that is known of it here.

    Attributes:
        ours: of every sweep whose report has the claim, those that decide it first.
    """

    claim: Claim
    published: Verdict
    ours: Sequence[Put]

    @property
    def state(self) -> Decided:
        """What ours say together."""
        found = {put.verdict.state for put in self.ours} - UNDECIDED
        return "open" if not found else "differs" if len(found) > 1 else "holds" if "holds" in found else "fails"

    @property
    def shown(self) -> list[Put]:
        """The sweeps that decide it; where none does, all that have it."""
        return [put for put in self.ours if put.verdict.state not in UNDECIDED] or list(self.ours)

    @property
    def why(self) -> str:
        """Why no sweep says anything of it; empty where one does."""
        if self.ours:
            return ""
        names = [self.claim.study, *(name for name, more in claims.BESIDE.items() if self.claim.study in more)]
        return f"no sweep of {' or '.join(names)} ran here"

    @property
    def chip(self) -> str:
        """The verdict on the published numbers, in a word."""
        return conclusions.CHIPS[self.published.state]

    @property
    def said(self) -> str:
        """The published numbers, and what the references say of them."""
        return conclusions.said(self.published, self.claim.note)


@dataclass(frozen=True)
class Document:
    """The claims of one document.

    Attributes:
        cite: what it is.
    """

    name: str
    cite: str
    lines: Sequence[ClaimLine]

    @property
    def summary(self) -> str:
        """How many of its claims hold, on either side."""
        return _counted(self.lines)


@dataclass(frozen=True)
class AllClaims:
    """Every claim of every document.

    Attributes:
        failed: by a sweep's full name, why it has no report, so that nothing is said of it.
    """

    documents: Sequence[Document]
    failed: Mapping[str, str]

    @cached_property
    def lines(self) -> list[ClaimLine]:
        """The claims of all documents, in order."""
        return [line for one in self.documents for line in one.lines]

    @property
    def summary(self) -> str:
        """How many claims hold, fail and are open."""
        return f"{len(self.lines)} claims of {len(self.documents)} documents. {_counted(self.lines)}"

    def csv(self) -> str:
        """Return a line for each claim and each sweep that puts it."""
        heads = ["claim", "document", "where", "words", "formula", "published", "published numbers", "note"]
        rows: list[list[object]] = [[*heads, "ours", "sweep", "share of resamples", "our numbers", "why"]]
        for line in self.lines:
            one, told = line.claim, line.published
            head = [one.id, one.doc, one.where, one.claim, one.formula, told.state]
            head += [conclusions.numbers(told), one.note]
            ours: list[list[object]] = [
                [
                    put.verdict.state,
                    " + ".join(put.sweeps),
                    "" if put.verdict.share is None else put.verdict.share,
                    conclusions.numbers(put.verdict),
                    put.verdict.why,
                ]
                for put in line.shown
            ]
            rows += [[*head, *each] for each in ours or [["open", "", "", "", line.why]]]
        return csv_text(rows)


def gather(workspace: Workspace, studies: Sequence[Study], failed: Mapping[str, str]) -> AllClaims:
    """Return every claim with what published numbers and the studies of a workspace say.

    A claim that no study of its own decides is put to studies of the same data and protocol together, where its tables
    are of several: what supervision, a source and a generator cost, say.

    Args:
        workspace: where the studies ran.
        studies: each by one protocol.
        failed: by sweep, why it has none.
    """
    tables, known = published.load(unpublished=True), claims.load()
    found: dict[str, list[Put]] = {name: [] for name in known}
    for study in studies:
        for judged in claims.judge(study):
            found[judged.claim.id].append(Put((study.record.sweep,), judged.ours))
    for several in _together(studies):
        open_ = [one for one in known.values() if _spans(one, several) and not _decided(found[one.id])]
        if open_:
            study = _joined(workspace, several)
            ours = _sides(study, tables)
            for one in open_:
                verdict = claims.on_ours(one, tables, study, ours)
                if verdict.state not in UNDECIDED:
                    found[one.id].append(Put(tuple(each.record.sweep for each in several), verdict))
    lines = [ClaimLine(one, claims.on_published(one, tables), found[name]) for name, one in known.items()]
    cites = published.documents()
    names = dict.fromkeys(line.claim.doc for line in lines)
    return AllClaims(
        [Document(name, cites[name], [line for line in lines if line.claim.doc == name]) for name in names], failed
    )


def _sides(study: Study, tables: Mapping[str, PublishedTable]) -> Callable[[PublishedTable], Side]:
    """Return what gives a study's numbers for a table, each once."""
    ours = cache(lambda name: side(study, tables[name]))
    return lambda table: ours(table.id)


def _counted(lines: Sequence[ClaimLine]) -> str:
    """Return how many claims hold, on the published numbers and on ours."""
    told = Counter(line.chip for line in lines)
    ours = Counter(line.state for line in lines)
    order = [word for word in dict.fromkeys(conclusions.CHIPS.values()) if told[word]]
    first = ", ".join(f"{told[word]} {_several(word, told[word])}" for word in order)
    second = ", ".join(f"{ours[state]} {WORDS[state][ours[state] != 1]}" for state in WORDS if ours[state])
    return f"On the published numbers {first}. On ours {second}."


def _several(word: str, count: int) -> str:
    return {"holds": "hold", "fails": "fail"}.get(word, word) if count != 1 else word


def _decided(found: Sequence[Put]) -> bool:
    return any(put.verdict.state not in UNDECIDED for put in found)


def _spans(claim: Claim, studies: Sequence[Study]) -> bool:
    """Return whether a claim reads tables of several sweeps, all of which are among the studies'."""
    of = [{name for name in claim.uses if name in study.record.tables} for study in studies]
    return set().union(*of) == {*claim.uses} and sum(map(bool, of)) > 1


def _together(studies: Sequence[Study]) -> Iterator[list[Study]]:
    """Yield studies of the same data and protocol, of each sweep's name the newest, where there are several."""
    alike: dict[tuple[str, str, bool], dict[str, Study]] = {}
    for study in studies:
        record = study.record
        alike.setdefault((record.data, record.protocol, record.synthetic), {})[record.name] = study
    yield from ([*of.values()] for of in alike.values() if len(of) > 1)


def _joined(workspace: Workspace, studies: Sequence[Study]) -> Study:
    """Return one study of the trials of several; a stage is called by its sweep too, so that none is another's."""
    first = studies[0].record
    trials = [
        trial.model_copy(update={"stage": f"{study.record.name}: {trial.stage}"})
        for study in studies
        for trial in study.record.trials
    ]
    together = {
        "trials": tuple(trials),
        "domains": tuple(dict.fromkeys(domain for study in studies for domain in study.record.domains)),
        "weights": {digest: word for study in studies for digest, word in study.record.weights.items()},
        "families": {domain: family for study in studies for domain, family in study.record.families.items()},
        **{"search": None, "earlier": (), "replaced": ()},
    }
    record = first.model_copy(update=together)
    return Study(record, Results(workspace, record))
