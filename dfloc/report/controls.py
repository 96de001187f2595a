"""Curves beside the fine-tuned one, found by what their trainings are: from scratch, with replay, of other lengths."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfloc.axis import Value
from dfloc.config import TrialSpec
from dfloc.report import differs
from dfloc.report.differs import Field
from dfloc.report.groups import Facet, Group, Study, places

MAIN = "finetune"


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


TUNED = Kind("fine-tuned", "fine-tuned", ("epoch_steps", "steps"), ("circle", "solid"))
REPLAYED = Kind("with replay", "replay", ("train",), ("square", "dash"))
SCRATCH = Kind("from scratch", "scratch", ("init",), ("triangle-up", "dot"))
KINDS = (SCRATCH, REPLAYED, TUNED)


@dataclass(frozen=True)
class Control:
    """A curve for each held-out domain, to stand beside the fine-tuned ones.

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
            images_of(group): group
            for group in self.groups
            if group.axes.get("held_out") == held_out
            if all(wanted.get(axis, value) == value for axis, value in group.facet)
        }
        return dict(sorted(points.items()))


def kind_of(group: Group) -> Kind | None:
    """Return what a training is by its spec and lineage; None: none on a held-out domain."""
    spec, held_out = group.first.trial.spec, group.axes.get("held_out")
    trained = set(spec.train.counts)
    if held_out not in trained:
        return None
    if spec.start:
        return REPLAYED if trained & set(spec.lineage.base) else TUNED
    return SCRATCH if trained == {held_out} else None


def images_of(group: Group) -> int:
    """Return n, the images of the held-out domain, over the whole lineage."""
    spec = group.first.trial.spec
    return spec.lineage.exposure if spec.start else spec.train.size


def controls_of(study: Study) -> list[Control]:
    """Return the controls of a study's fine-tuning, by kind, in the order of the plan; the same trainings once."""
    shared = {axis for facet in study.facets(MAIN) for axis, _ in facet}
    known = {result.trial.fingerprint for group in study.stage(MAIN) for result in group.results}
    found: dict[Kind, dict[tuple[str, str, Facet], list[Group]]] = {kind: {} for kind in KINDS}
    for group in study.groups:
        if group.stage != MAIN and (kind := kind_of(group)):
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
        result += [Control(kind, words, groups) for words, groups in zip(told, new.values(), strict=True)]
    return result


def pairs(study: Study, control: Control) -> list[tuple[Group, Group]]:
    """Return each point of the fine-tuned curves with that of a control."""
    return [
        (group, other)
        for facet in study.facets(MAIN)
        for held_out in study.record.domains
        for theirs in [control.curve(held_out, facet)]
        for n, group in study.curve(MAIN, held_out, facet).items()
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
    if len(sources) == 1 and kind != TUNED:
        return [""]
    words = [_length(study, Control(kind, "", groups)) for groups in sources.values()]
    names = [", ".join(filter(None, [stage, case, *map(_valued, own)])) for stage, case, own in sources]
    return [
        word if words.count(word) == 1 and (word or kind != TUNED) else ", ".join(filter(None, [word, name]))
        for word, name in zip(words, names, strict=True)
    ]


def _length(study: Study, control: Control) -> str:
    steps = {group.first.trial.spec.steps for group in control.groups}
    if control.kind == TUNED:
        return f"{min(steps):,} steps at every n" if len(steps) == 1 else ""
    there = pairs(study, control)
    equal = all(one.first.trial.spec.steps == other.first.trial.spec.steps for one, other in there)
    return "equal steps" if there and equal else ""


def _valued(axis: tuple[str, Value]) -> str:
    return " = ".join(map(str, axis))
