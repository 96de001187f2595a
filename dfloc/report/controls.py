"""The curves of a study, found by what their trainings are: the fine-tuned one, and its controls beside it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfloc.config import TrialSpec
from dfloc.report import differs
from dfloc.report.differs import Field
from dfloc.report.groups import Facet, Group, Study, mean_valid, places
from dfloc.report.roles import ALONE, REPLAYED, Role
from dfloc.report.words import joined

DATA = ("train", "valid", "init", "steps")  # what any fine-tuning has of its own
HeldOutCurve = tuple[Facet, str, dict[int, Group]]


class Kind(NamedTuple):
    """What a training on the held-out domain is.

    Attributes:
        label: in a figure.
        short: in the head of a column.
        compared: fields in which it is meant to differ from the fine-tuned one.
        shape: marker and dash.
    """

    label: str
    short: str
    compared: tuple[str, ...]
    shape: tuple[str, str]


FINE_TUNED = Kind("fine-tuned", "fine-tuned", ("epoch_steps", "steps"), ("circle", "solid"))
REPLAY = Kind("with replay", "replay", ("train",), ("square", "dash"))
SCRATCH = Kind("from scratch", "scratch", ("init",), ("triangle-up", "dot"))
KINDS = (SCRATCH, REPLAY, FINE_TUNED)


@dataclass(frozen=True)
class Curves:
    """A curve for each facet and held-out domain: what a stage, or one case of it, plans.

    Attributes:
        told: what tells it from others of its kind; empty for none.
        groups: its points.
    """

    kind: Kind
    told: str
    groups: Sequence[Group]

    @property
    def label(self) -> str:
        """What it is called in a figure."""
        return ", ".join(filter(None, [self.kind.label, self.told]))

    @property
    def short(self) -> str:
        """What it is called in the head of a column."""
        return ", ".join(filter(None, [self.kind.short, self.told]))

    @property
    def shape(self) -> tuple[str, str]:
        """Its marker, filled where it is the only one of its kind or the first, and its dash."""
        marker, dash = self.kind.shape
        return (f"{marker}-open" if self.told else marker), dash

    @property
    def facets(self) -> list[Facet]:
        """Return the facets of its points, in the order of the plan."""
        return list(dict.fromkeys(group.facet for group in self.groups))

    def curve(self, held_out: str, facet: Facet = ()) -> dict[int, Group]:
        """Return its points by n, ascending; those without an axis of the facet belong to every value of it."""
        wanted = dict(facet)
        points = {
            group.role.n: group
            for group in self.groups
            if group.role.held_out == held_out and group.role.n is not None
            if all(wanted.get(axis, value) == value for axis, value in group.facet)
        }
        return dict(sorted(points.items()))


def kind_of(role: Role) -> Kind | None:
    """Return what a training on its held-out domain is; None: it is none."""
    if not role.exposed:
        return None
    if role.started:
        return REPLAY if REPLAYED in role else FINE_TUNED
    return SCRATCH if ALONE in role else None


def main(study: Study) -> Curves:
    """Return the curves that a study is about, without points where nothing is fine-tuned; with replay where all are.

    Of several, those that take most over from their base: that differ from it in the fewest settings besides images and
    start; of those the first of the plan.
    """
    kinds = {kind_of(group.role) for group in study.groups}
    kind = REPLAY if REPLAY in kinds and FINE_TUNED not in kinds else FINE_TUNED
    sources: dict[tuple[str, str], list[Group]] = {}
    for group in study.groups:
        if kind_of(group.role) is kind:
            sources.setdefault((group.stage, group.case), []).append(group)
    return Curves(kind, "", min(sources.values(), key=lambda groups: _own(study, groups), default=[]))


def _own(study: Study, groups: Sequence[Group]) -> int:
    """Return in how many settings a fine-tuned model differs from its base."""
    pairs = [(base, group) for group in groups if (base := study.base(group))]
    return len(besides(pairs[:1], DATA))


def blocks(study: Study, of: Curves | None = None) -> Iterator[HeldOutCurve]:
    """Yield (facet, held-out domain, groups by n), in the order of the study's domains; of the main curves unless told.

    Where they have a base, it stands at n = 0.
    """
    shown = of or main(study)
    for facet in shown.facets:
        for held_out in study.record.domains:
            if points := shown.curve(held_out, facet):
                base = next((base for group in points.values() if (base := study.base(group))), None)
                yield facet, held_out, {0: base, **points} if base else points


def name_of(facet: Facet, held_out: str) -> str:
    """Return what a curve is called: its held-out domain, and the axes that a user turned on."""
    return ", ".join(filter(None, [held_out, joined(facet)]))


def best_facet(study: Study) -> Facet:
    """Return the facet of the main curves that validation chooses, of those of which most is finished."""
    candidates = furthest(study)
    values = {facet: mean_valid(groups) for facet, groups in candidates.items()}
    return max(values, key=lambda facet: values[facet] or 0.0, default=())


def furthest(study: Study) -> dict[Facet, list[Group]]:
    """Return the facets of the main curves of which most has a validation value: all of the same points."""
    found = _validated(study)
    first = max(found.values(), key=len, default={})
    return {facet: [*of.values()] for facet, of in found.items() if of.keys() == first.keys()}


def _validated(study: Study) -> dict[Facet, dict[tuple[str, int | None], Group]]:
    """Return the fine-tuned points that have a validation value, by facet, held-out domain and n."""
    found: dict[Facet, dict[tuple[str, int | None], Group]] = {}
    for group in main(study).groups:
        if group.valid is not None:
            found.setdefault(group.facet, {})[group.role.held_out, group.role.n] = group
    return found


def controls_of(study: Study) -> list[Curves]:
    """Return the controls of a study's fine-tuning, by kind, in the order of the plan; the same trainings once."""
    tuned = main(study)
    shared = {axis for facet in tuned.facets for axis, _ in facet}
    known = {result.trial.fingerprint for group in tuned.groups for result in group.results}
    found: dict[Kind, dict[tuple[str, str, Facet], list[Group]]] = {kind: {} for kind in KINDS}
    for group in study.groups:
        if group not in tuned.groups and (kind := kind_of(group.role)):
            own = tuple((axis, value) for axis, value in group.facet if axis not in shared)
            found[kind].setdefault((group.stage, group.case, own), []).append(group)
    result = []
    for kind, sources in found.items():
        new = {}
        for source, groups in sources.items():
            names = {each.trial.fingerprint for group in groups for each in group.results}
            if not names <= known:
                new[source] = groups
                known |= names
        told = _told(study, kind, new)
        result += [Curves(kind, words, groups) for words, groups in zip(told, new.values(), strict=True)]
    return result


def rooted(study: Study) -> list[Curves]:
    """Return the curves whose base is of the study too, which say what is forgotten: the main ones first."""
    found = [main(study), *(one for one in controls_of(study) if one.kind != SCRATCH)]
    return [one for one in found if any(study.base(group) for group in one.groups)]


def closest(study: Study, kind: Kind) -> Curves | None:
    """Return the control of a kind that differs from what is fine-tuned in the least besides; None: there is none."""
    alike = [one for one in controls_of(study) if one.kind == kind]
    return min(alike, key=lambda one: len(besides(pairs(study, one), kind.compared)), default=None)


def pairs(study: Study, control: Curves) -> list[tuple[Group, Group]]:
    """Return each point of the fine-tuned curves with that of a control."""
    return [
        (group, other)
        for facet, held_out, curve in blocks(study)
        for theirs in [control.curve(held_out, facet)]
        for n, group in curve.items()
        if n and (other := theirs.get(n))
    ]


def besides(found: Sequence[tuple[Group, Group]], compared: Collection[str]) -> list[Field]:
    """Return what differs, over all draws and seeds of some pairs, beside what is compared."""
    sides: tuple[list[TrialSpec], list[TrialSpec]] = ([], [])
    for pair in found:
        for place in places(pair):
            for side, group in zip(sides, pair, strict=True):
                side.append(group.runs[place].trial.spec)
    return differs.besides(*sides, compared)


def along(curves: Iterable[Mapping[int, Group]]) -> list[Field]:
    """Return what differs along some curves, of the smallest n and of the others, beside the training images."""
    found = []
    for curve in curves:
        tuned = [group for n, group in curve.items() if n]
        found += [(tuned[0], other) for other in tuned[1:]]
    return besides(found, ("train",))


def _told(study: Study, kind: Kind, sources: Mapping[tuple[str, str, Facet], list[Group]]) -> list[str]:
    """Return what tells the controls of one kind apart: equal steps, else stage, case and axes; one needs no words."""
    if len(sources) == 1 and kind != FINE_TUNED:
        return [""]
    words = [_length(study, Curves(kind, "", groups)) for groups in sources.values()]
    names = [", ".join(filter(None, [stage, case, joined(own)])) for stage, case, own in sources]
    return [
        word if words.count(word) == 1 and (word or kind != FINE_TUNED) else ", ".join(filter(None, [word, name]))
        for word, name in zip(words, names, strict=True)
    ]


def _length(study: Study, control: Curves) -> str:
    steps, there = {group.first.trial.spec.steps for group in control.groups}, pairs(study, control)
    if control.kind == FINE_TUNED:
        alike = there and not besides(there, control.kind.compared) and len(steps) == 1
        return f"{min(steps):,} step{'s' * (steps != {1})} at every n" if alike else ""
    equal = all(one.first.trial.spec.steps == other.first.trial.spec.steps for one, other in there)
    return "equal steps" if there and equal else ""
