"""Trials that differ in seed and draw alone, pooled into one cell of a table or one point of a curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dfloc import measures
from dfloc.axis import Value
from dfloc.config import Checkpoint, DecoderSpec, Lineage, SampleList, Task
from dfloc.data import dolos
from dfloc.data.generators import SOURCE
from dfloc.frozen import canonical
from dfloc.metrics import protocols
from dfloc.metrics.degenerate import ALL_FAKE
from dfloc.metrics.metric import Metric
from dfloc.metrics.protocols import Protocol
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report.estimate import Estimate, Run, difference, pooled
from dfloc.report.results import Result, Results
from dfloc.report.roles import REPEATED, SOLVED, WORDS, Role, roles, told
from dfloc.report.score import Score
from dfloc.report.variants import variants

COLLAPSED = "COLLAPSED"
Facet = tuple[tuple[str, Value], ...]
GroupOn = tuple["Group", Sequence[str]]  # and the test domains that it answers for
Repetition = tuple[int, int]  # a mixture draw and a trial seed
Cells = Sequence[tuple["Group", str]]  # trainings, each on a test domain


@dataclass(frozen=True, eq=False)
class Group:
    """One cell of a study: its trials over seeds and draws.

    Attributes:
        role: what they are in the study.
        axes: what they have in common, without seed and draw.
        told: of these those that the role tells too, each with the fact that it says: domain, n, count or decoder.
        facet: values of the other axes, but for `held_out`, that vary in a stage.
        results: its trainings in the order of the plan, each once.
        runs: the training of each draw and seed. A whole set is the same in every draw, so one training may stand for
            several: it can be paired with each of another group's, and is counted once.
    """

    stage: str
    case: str
    role: Role
    axes: Mapping[str, Value]
    told: Mapping[str, str]
    facet: Facet
    results: tuple[Result, ...]
    runs: Mapping[Repetition, Result]
    _known: dict[tuple[Any, ...], Estimate | None] = field(default_factory=dict, repr=False)

    @property
    def scored(self) -> tuple[Result, ...]:
        """Those of its trials that have rows."""
        return tuple(result for result in self.results if result.scores)

    @property
    def first(self) -> Result:
        """The trial that says what all of them have in common."""
        return (self.scored or self.results)[0]

    @property
    def metrics(self) -> set[str]:
        """The numbers that its rows have."""
        return {key for result in self.scored for each in result.scores.values() for key in each.known}

    def measures(self, metric: str | None) -> bool:
        """Return whether its rows may have a metric; None: the one that stands for their protocol."""
        return metric is None or metric in self.metrics

    @property
    def collapsed(self) -> str:
        """COLLAPSED, and what over 90 % of the maps of any of its trials are; empty where none has collapsed."""
        found = dict.fromkeys(result.collapsed for result in self.scored if result.collapsed)
        return f"{COLLAPSED} ({'; '.join(found)})" if found else ""

    @property
    def valid(self) -> float | None:
        """Mean validation IoU of the best epochs."""
        return _mean([result.valid for result in self.scored])

    @property
    def empty(self) -> float | None:
        """Mean share of empty maps."""
        return _mean([result.empty for result in self.scored])

    @property
    def hole(self) -> str:
        """What to write where a number is missing."""
        states = {result.state for result in self.results}
        if "failed" in states:
            return "failed"
        if states == {"done"}:
            return "not scored"
        return "unfinished" if states & {"partial", "stopped", "done"} else "not run"

    def score(
        self, domains: Sequence[str], metric: str | None = None, checkpoint: Checkpoint = "best"
    ) -> Estimate | None:
        """Return the mean over domains, each one's images averaged first, with its interval; None: a hole."""
        key = (tuple(domains), metric, checkpoint)
        if not domains or not self.measures(metric):
            return None
        if key not in self._known:
            runs = [
                run(result, [result.scores[checkpoint, domain] for domain in domains])
                for result in self.scored
                if all((checkpoint, domain) in result.scores for domain in domains)
            ]
            self._known[key] = pooled(runs, metric, len(self.results))
        return self._known[key]


class Study:
    """The groups of a sweep, and how they hang together.

    Attributes:
        groups: in the order of the plan.
        tested: the study's domains that its trials are tested on; means run over them. Of an attribution its reals too.
        extra: other test domains of fakes.
        reals: test domains of photographs.
    """

    def __init__(self, record: SweepRecord, results: Results):
        self.record = record
        self.results = results
        apart = variants(record.trials, record.replaced, [one.stage for one in record.searches], record.weights)
        own = [result.trial.axes | more for result, more in zip(results.all, apart, strict=True)]
        of = roles(record.trials, record.families)
        said = told(record.trials, of)
        varying = _varying(record, own, said)
        found: dict[tuple[str, str, str], tuple[dict[str, Value], Role, list[Result]]] = {}
        for result, axes, role in zip(results.all, own, of, strict=True):
            shared = {key: value for key, value in axes.items() if key not in REPEATED}
            name = canonical({key: str(value) for key, value in shared.items()})
            found.setdefault((result.trial.stage, result.trial.case, name), (shared, role, []))[2].append(result)
        self.groups = [_group(*each, varying, said[each[2][0].trial.stage]) for each in found.values()]
        asked = {each.domain: None for trial in record.trials for each in trial.evaluations if each.split == "test"}
        self.tested = list(record.tested)
        others = [domain for domain in asked if domain not in self.tested]
        self.reals = [domain for domain in others if dolos.is_real(domain)]
        self.extra = [domain for domain in others if domain not in self.reals]
        if self.task == "attribute":  # reals are a class as any other
            self.tested, self.reals = [*self.reals, *self.tested], []
        self._of = {result.trial.fingerprint: group for group in reversed(self.groups) for result in group.results}

    @cached_property
    def all_fake(self) -> Group | None:
        """What calling every pixel fake scores, where no trial is planned for it; else None, or nothing is scored."""
        planned = any(result.trial.spec.decoder.name == ALL_FAKE for result in self.results.all)
        return None if planned else _all_fake(self)

    @property
    def task(self) -> Task:
        """What its trials are trained for."""
        return self.results.all[0].trial.spec.task if self.results.all else "localize"

    @property
    def shown(self) -> tuple[Metric, ...]:
        """What its page shows; the first one stands for the protocol."""
        return self.protocol.shown(self.task)

    @property
    def protocol(self) -> Protocol:
        """What its trials are scored by."""
        return protocols.find(self.record.protocol)

    @property
    def first(self) -> Metric:
        """The metric that stands for its protocol."""
        return self.shown[0]

    @property
    def measure(self) -> str:
        """What validation measures first, in a word: IoU; of tasks of images AP."""
        return measures.LABELS[measures.MEASURED[self.task][0]]

    @property
    def random_weights(self) -> bool:
        """Whether a map of any trial has random weights."""
        return any(result.random_weights for result in self.results.all)

    @property
    def path_only(self) -> bool:
        """Whether the numbers of any trial mean nothing (`Result.path_only`)."""
        return any(result.path_only for result in self.results.all)

    @property
    def built_in(self) -> bool:
        """Whether the data are the built-in ones, and not only the weights random."""
        own = any(domain.startswith(f"{SOURCE}/") for domain in self.record.domains)
        return self.record.synthetic and (own or not self.random_weights)

    def stage(self, name: str, case: str | None = None) -> list[Group]:
        """Return the groups of a stage, of one case where it is named."""
        return [group for group in self.groups if group.stage == name and case in (None, group.case)]

    def base(self, group: Group) -> Group | None:
        """Return the group of the root ancestors; None: it has no parent."""
        return self._of.get(group.first.trial.spec.lineage.root)

    def seen(self, curve: Mapping[int, Group]) -> list[str]:
        """Return the tested domains that the base of a curve was trained on, whether it is of this sweep or not."""
        base = {domain for group in curve.values() for domain in group.first.trial.spec.lineage.base}
        return [domain for domain in self.tested if domain in base]

    def mean_of(self, models: Sequence[GroupOn], metric: str | None = None) -> Estimate | None:
        """Return the mean over all pairs of a model and one of its domains; None where they have no run in common."""
        flat = [(group, domain) for group, domains in models for domain in domains]
        return over(flat, metric) if flat else None

    def less(self, first: Group, second: Group, domains: Sequence[str]) -> Estimate | None:
        """Return the mean of the first less that of the second, trials paired by seed and draw."""
        return less([(first, domain) for domain in domains], [(second, domain) for domain in domains])


def _all_fake(study: "Study") -> Group | None:
    """Return the baseline that calls every pixel fake, as a trial of it would be scored; None: nothing is scored."""
    if not study.results.all_fake:
        return None
    nothing = SampleList(digest="", counts={})
    new = {"train": nothing, "valid": nothing, "maps": (), "decoder": DecoderSpec(name=ALL_FAKE), "init": {}}
    spec = study.results.all[0].trial.spec.model_copy(update=new | {"lineage": Lineage()})
    trial = PlannedTrial(fingerprint="", stage="", spec=spec)
    scores: dict[tuple[Checkpoint, str], Score] = {("best", name): of for name, of in study.results.all_fake.items()}
    result = Result(trial, "done", "", None, None, (), scores)
    role = Role(frozenset([SOLVED]), decoder=ALL_FAKE)
    return Group("", "", role, {}, {}, (), (result,), {trial.repetition: result})


def _group(
    axes: Mapping[str, Value], role: Role, results: list[Result], varying: frozenset[str], said: Mapping[str, str]
) -> Group:
    trial = results[0].trial
    facet = tuple(sorted((key, value) for key, value in axes.items() if key in varying and key not in said))
    distinct: dict[str, Result] = {}
    for result in results:
        distinct.setdefault(result.trial.fingerprint, result)
    runs = {result.trial.repetition: result for result in results}
    by_role = {axis: fact for axis, fact in said.items() if axis in axes}
    return Group(trial.stage, trial.case, role, axes, by_role, facet, tuple(distinct.values()), runs)


def _varying(
    record: SweepRecord, own: Sequence[Mapping[str, Value]], said: Mapping[str, Mapping[str, str]]
) -> frozenset[str]:
    """Return the axes that have several values in a stage where no role tells them."""
    values: dict[tuple[str, str], set[str]] = {}
    for trial, axes in zip(record.trials, own, strict=True):
        for axis in axes.keys() - said[trial.stage].keys() - {*WORDS}:
            values.setdefault((trial.stage, axis), set()).add(str(axes[axis]))
    return frozenset(axis for (_, axis), seen in values.items() if len(seen) > 1)


def places(groups: Sequence[Group]) -> list[Repetition]:
    """Return the draws and seeds that all groups have; of those that stand for the same trainings, the first alone."""
    shared = sorted(set.intersection(*(set(group.runs) for group in groups))) if groups else []
    firsts: dict[tuple[str, ...], Repetition] = {}
    for place in shared:
        firsts.setdefault(tuple(group.runs[place].trial.fingerprint for group in groups), place)
    return list(firsts.values())


def common_runs(models: Sequence[tuple[Group, str]]) -> list[Run]:
    """Return a run for each of `places` where all are scored: of each group on its domain, best epoch."""
    wanted: list[tuple[Group, tuple[Checkpoint, str]]] = [(group, ("best", domain)) for group, domain in models]
    return [
        Run(*place, [group.runs[place].scores[key] for group, key in wanted])
        for place in places([group for group, _ in models])
        if all(key in group.runs[place].scores for group, key in wanted)
    ]


def over(models: Sequence[tuple[Group, str]], metric: str | None = None) -> Estimate | None:
    """Return the mean over groups, each on its domain, of `common_runs`; None where there is none."""
    if not all(group.measures(metric) for group, _ in models):
        return None
    return pooled(common_runs(models), metric, len(places([group for group, _ in models])))


def less(first: Cells, second: Cells) -> Estimate | None:
    """Return the mean over groups, each on its domain, less that over others on the same domains in the same order.

    Trials are paired by seed and draw, where both were scored on the same images; None where there are none.
    """
    pairs, planned = _paired(first, second)
    return difference(pairs, planned) if first else None


class Sides(NamedTuple):
    """Two means over the same runs, and the first less the second."""

    first: Estimate
    second: Estimate
    change: Estimate


def sides(first: Cells, second: Cells) -> Sides | None:
    """Return both means of `less` with their difference, over the runs that are scored on both sides."""
    pairs, planned = _paired(first, second)
    change = difference(pairs, planned) if first else None
    one, other = (pooled([pair[side] for pair in pairs], planned=planned) for side in (0, 1))
    return Sides(one, other, change) if one and other and change else None


def _paired(first: Cells, second: Cells) -> tuple[list[tuple[Run, Run]], int]:
    """Return the runs of both sides that are scored on the same images, and how many there should be."""
    shared = places([group for group, _ in (*first, *second)])
    pairs = []
    for place in shared:
        both = [[group.runs[place].scores.get(("best", domain)) for group, domain in side] for side in (first, second)]
        if all(_same_images(one, other) for one, other in zip(*both, strict=True)):
            pairs.append((Run(*place, [one for one in both[0] if one]), Run(*place, [one for one in both[1] if one])))
    return pairs, len(shared)


def scored_places(groups: Sequence[Group]) -> list[Repetition]:
    """Return those of `places` where the best weights of all groups are scored, on each domain of theirs but reals."""
    keys = [{name for each in group.results for name, of in each.best.items() if not of.of_reals} for group in groups]
    return [
        place
        for place in places(groups)
        if all(wanted and wanted <= group.runs[place].best.keys() for wanted, group in zip(keys, groups, strict=True))
    ]


def mean_valid(groups: Sequence[Group]) -> float | None:
    """Return the mean validation IoU of the best epochs at `scored_places`; None where there is none, or one lacks."""
    values = [group.runs[place].valid for place in scored_places(groups) for group in groups]
    return None if None in values else _mean(values)


def run(result: Result, scores: Sequence[Score]) -> Run:
    """Return some scores of a trial as a run of its draw and seed."""
    return Run(*result.trial.repetition, scores)


def _same_images(first: Score | None, second: Score | None) -> bool:
    return first is not None and second is not None and first.spec.test.digest == second.spec.test.digest


def _mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None
