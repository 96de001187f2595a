"""What was planned under one sweep: the list of its starts, and their union, from which tracking and report draw."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pydantic import Field
from upath import UPath

from dfloc import disk, storage
from dfloc.checks import Check
from dfloc.errors import WorkspaceError
from dfloc.frozen import Frozen
from dfloc.ids import SampleId
from dfloc.planned import PlannedTrial, SearchRecord, cell, is_named

OLD = "plan.json"
"""Where one file held the union of all starts; it is read as the first one."""

_FILE = re.compile(r"([0-9]+)(?:\.([0-9]+))?\.json")
_CURE = "delete it and start the sweep again"


class DomainFacts(Frozen):
    """What a report says of a domain's split: images, and the photographs that an interval rests on."""

    images: int
    photographs: int


class SweepRecord(Frozen):
    """One sweep: (name, preset, data name, limit), and what was planned under it, by one start or by all of them.

    A start is one command that planned something else than the one before: some stages, whole or in part, by one
    protocol, with one recipe. It is put on record once and never changed; so is each point that its search draws.

    Attributes:
        sweep: its full name, `<name>-<preset>-<data>` and `-limit<N>`.
        limit_rule: how a limit scales counts: 1 = those of training and of validation by a factor each, as of old; 2 =
            all by one, the limit over the largest training count. 1 where there is no limit.
        domains: the study's local domains, in the order of its tables.
        tables: ids of published tables that the study stands beside.
        facts: domain -> split -> counts.
        families: of the domains that are trained or tested on, where a person gave another than the generator's name.
        kinds: local, full or real, of those of these domains whose name does not tell it.
        notes: sentences that a report must show (limited, overlap between splits, polarity).
        synthetic: numbers that say nothing about Dolos: built-in data or random weights.
        weights: digest of a backbone's weights -> the word by which the sweep named them.
        search: what is searched; none where every trial is written in the sweep's file.
        earlier: of a union, the searches of other stages.
        checks: numbers that are known beforehand.
        replaced: of a union, trials in whose place a newer start planned others.
    """

    version: int = 1
    sweep: str
    name: str
    title: str
    preset: str
    data: str
    limit: int | None = None
    limit_rule: int = 1
    domains: tuple[str, ...]
    protocol: str
    tables: tuple[str, ...] = ()
    facts: dict[str, dict[str, DomainFacts]] = Field(default_factory=dict)
    families: dict[str, str] = Field(default_factory=dict)
    kinds: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    weights: dict[str, str] = Field(default_factory=dict)
    trials: tuple[PlannedTrial, ...] = ()
    search: SearchRecord | None = None
    earlier: tuple[SearchRecord, ...] = ()
    replaced: tuple[PlannedTrial, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def searches(self) -> tuple[SearchRecord, ...]:
        """Every search, the newest last."""
        return (*self.earlier, *([self.search] if self.search else []))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are planned, a searched one also before a point of it is drawn."""
        return tuple(dict.fromkeys([*(trial.stage for trial in self.trials), *(one.stage for one in self.searches)]))

    @property
    def tested(self) -> tuple[str, ...]:
        """The study's domains that its trials are tested on, over which means run; others where none of them is.

        Real images, which have no fake pixel to find, are in a mean only where nothing else is tested.
        """
        asked = {each.domain: None for trial in self.trials for each in trial.evaluations if each.split == "test"}
        fakes = tuple(domain for domain in asked if SampleId.of(f"{domain}//").generator != "real")
        return tuple(domain for domain in self.domains if domain in asked) or fakes or tuple(asked) or self.domains

    @property
    def protocols(self) -> tuple[str, ...]:
        """Whose scores are asked for: first the one of the page, then those of other starts."""
        return tuple(dict.fromkeys([self.protocol, *(name for trial in self.trials for name in trial.protocols)]))

    def protocol_of(self, trial: PlannedTrial) -> str:
        """Return the protocol by which a trial is told in one line: the page's, or the newest that it is scored by."""
        return self.protocol if self.protocol in trial.protocols else (*trial.protocols, self.protocol)[0]

    def by(self, protocol: str) -> "SweepRecord":
        """Return what is to be scored by one protocol: no trial is unfinished since another start asks for others."""
        if self.protocols == (protocol,):
            return self
        trials = tuple(trial for trial in self.trials if not trial.evaluations or protocol in trial.protocols)
        searches = tuple(one for one in (_of_those(one, trials) for one in self.searches) if one.points)
        update = {"search": searches[-1] if searches else None, "earlier": searches[:-1]}
        return self.model_copy(update={"protocol": protocol, "trials": trials, **update})

    def save(self, folder: UPath) -> "SweepRecord":
        """Put a start on record, unless it is the newest one already; return the union of all."""
        starts = Starts(folder)
        starts.begin(self)
        return starts.union

    @classmethod
    def load(cls, folder: UPath) -> "SweepRecord | None":
        """Read the union of all starts; None where the sweep was never planned.

        Raises:
            WorkspaceError: a file is damaged, or a trial in it is not the one that it is named as.
        """
        starts = Starts(folder)
        return starts.union if starts.all else None


class Position(NamedTuple):
    """Where a start stands among those of all sweeps of the workspace, and a point among those that it has drawn.

    Attributes:
        start: from 1; 0 is the union that an older version of dfloc has left.
        draw: from 1; 0 is the start itself.
    """

    start: int
    draw: int = 0


def files(folder: UPath) -> dict[Position, UPath]:
    """Return the files of a sweep's record, in their order: by number, whatever the clock was."""
    found = {Position(0): folder / OLD} if (folder / OLD).exists() or (folder / OLD).is_symlink() else {}
    for path in folder.glob("starts/*.json"):
        if match := _FILE.fullmatch(path.name):
            found[Position(int(match[1]), int(match[2] or 0))] = path
    return dict(sorted(found.items()))


def read(path: UPath) -> SweepRecord:
    """Read one file of a record.

    Raises:
        WorkspaceError: it is damaged, another sweep's, or a trial in it is not the one that it is named as.
    """
    try:
        record = storage.get_model(SweepRecord, path, _CURE, wants_seal=lambda _: path.name != OLD)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} is a link to nothing; {_CURE}") from error
    if path.name != OLD and record.sweep != path.parent.parent.name:
        raise WorkspaceError(f"{path} is damaged: it is that of {record.sweep}; {_CURE}")
    if not storage.is_sealed(path):
        odd = [trial for trial in record.trials if not is_named(trial.spec, trial.fingerprint)]
        if odd:
            raise WorkspaceError(f"{path} is damaged: trial {odd[0].fingerprint[:12]} has another spec; {_CURE}")
    return record


class Starts:
    """The starts of a sweep as its folder has them, and the way to put another one there.

    Each file is created exclusively and whole, so that whatever moment a driver is killed at, a start or a point is on
    record or was not begun. `starts/7.json` is the seventh start of the workspace, `starts/7.2.json` the second point
    that it drew: a start with the trials of this point alone.

    Args:
        folder: the sweep's.

    Raises:
        WorkspaceError: a file of it is damaged.
    """

    def __init__(self, folder: UPath):
        self._folder = folder
        self.all: dict[int, SweepRecord] = {}
        self._draws: dict[int, int] = {}
        for place, path in files(folder).items():
            self._take(place, read(path))

    @property
    def newest(self) -> tuple[int, float]:
        """What orders sweeps by their newest start; those of older versions of dfloc by the time of their file."""
        number = max(self.all, default=0)
        return number, 0.0 if number else (self._folder / OLD).stat().st_mtime

    @property
    def union(self) -> SweepRecord:
        """What tracking and report draw from."""
        return union(list(self.all.values()))

    def begin(self, start: SweepRecord) -> None:
        """Put a start on record; where the newest one planned the same, only that the sweep was started, if need be."""
        if self.repeats(start):
            starts = self._folder / "starts"
            if storage.is_local(starts) and starts.exists():  # who put it may have died before its name was on the disk
                disk.sync(storage.local(starts))
            return
        again = self._planned(start)
        self._put(
            Position(self._last() + 1), start.model_copy(update={"trials": (), "search": None}) if again else start
        )

    def repeats(self, start: SweepRecord) -> bool:
        """Return whether a start would put nothing on record: the newest one of the workspace planned the same."""
        return self._planned(start) and max(self.all) == self._last()

    def _planned(self, start: SweepRecord) -> bool:
        planning = [one for one in self.all.values() if one.stages]
        return bool(planning) and _plan(planning[-1]) == _plan(start)

    def _last(self) -> int:
        """Return the number of the workspace's newest start."""
        names = (_FILE.fullmatch(path.name) for path in self._folder.parent.glob("*/starts/*.json"))
        return max((int(name[1]) for name in names if name), default=0)

    def add(self, drawn: SweepRecord) -> None:
        """Put on record what a search has drawn, or weighed, since the newest start that searches; if it is new."""
        number = max(number for number, start in self.all.items() if start.search)
        start = self.all[number]
        if drawn.trials or _search_facts(drawn.search) != _search_facts(start.search):
            self._put(Position(number, self._draws[number] + 1), drawn)

    def _put(self, place: Position, record: SweepRecord) -> None:
        name = f"{place.start}.{place.draw}.json" if place.draw else f"{place.start}.json"
        path = self._folder / "starts" / name
        if not storage.put_new(path, storage.sealed(record, path)):
            raise WorkspaceError(f"{path} is there already: another driver is at work; wait until it has ended")
        self._take(place, record)

    def _take(self, place: Position, record: SweepRecord) -> None:
        self._draws[place.start] = place.draw
        start = self.all.get(place.start)
        self.all[place.start] = _joined(start, record) if start else record


def union(starts: Sequence[SweepRecord]) -> SweepRecord:
    """Return what several starts planned together.

    By stage, case and axes (seed and draw among them) the trials of the newest start speak; others that stood there
    are replaced. A trial that several starts plan there is scored as all of them ask. Of each stage the newest search
    stands, with the points that it took over or drew. What describes the page is of the newest start that plans its
    stage: the one that is searched, else that of most trials; notes are of every start that is the newest of a stage.

    Args:
        starts: the oldest first.
    """
    if len(starts) == 1:
        return starts[0]
    searches = {one.stage: one for start in starts for one in start.searches}
    newest = {stage: number for number, start in enumerate(starts) for stage in start.stages}
    trials, replaced = _speaking(starts, searches)
    behind = Counter(newest[trial.stage] for trial in trials)
    behind.update({newest[stage]: len(trials) for stage in searches})
    order = sorted({*newest.values()} or {len(starts) - 1}, key=lambda number: (behind[number], number), reverse=True)
    first, about = starts[order[0]], [starts[number] for number in order]
    stages = list(dict.fromkeys(stage for start in about for stage in start.stages))
    trials.sort(key=lambda trial: stages.index(trial.stage))
    in_order = sorted(searches.values(), key=lambda one: newest[one.stage])
    kept = [_of_those(one, trials) for one in in_order]
    return first.model_copy(
        update={
            "facts": {domain: facts for start in reversed(about) for domain, facts in start.facts.items()},
            "families": _families(starts),
            "notes": tuple(dict.fromkeys(note for start in about for note in start.notes)),
            "synthetic": any(start.synthetic for start in about),
            "weights": {digest: word for start in starts for digest, word in start.weights.items()},
            "trials": tuple(trials),
            "search": kept[-1] if kept else None,
            "earlier": tuple(kept[:-1]),
            "replaced": tuple(replaced),
        }
    )


def _families(starts: Sequence[SweepRecord]) -> dict[str, str]:
    """Return the families that a person gave, of each domain as the newest start that has it knows it."""
    found: dict[str, str] = {}
    for start in starts:
        found = {domain: family for domain, family in found.items() if domain not in start.domains} | start.families
    return found


def _speaking(
    starts: Sequence[SweepRecord], searched: Collection[str]
) -> tuple[list[PlannedTrial], list[PlannedTrial]]:
    """Return the trials that speak, those of the newest start first, and those that are replaced."""
    found: dict[str, dict[str, PlannedTrial]] = {}
    replaced: dict[tuple[str, str], PlannedTrial] = {}
    order: list[tuple[str, str]] = []
    for start in reversed(starts):
        newer = {*found}
        for trial in start.trials:
            key, name = cell(trial, searched), trial.fingerprint
            there = found.setdefault(key, {})
            if key not in newer:
                order.append((key, name))
                there[name] = trial
            elif name in there:
                there[name] = there[name].with_those_of(trial)
            else:
                replaced.setdefault((key, name), trial)
    return [found[key][name] for key, name in order], list(replaced.values())


def _of_those(search: SearchRecord, trials: Sequence[PlannedTrial]) -> SearchRecord:
    """Return a search with the points of which all trials speak."""
    there = {trial.fingerprint for trial in trials if trial.stage == search.stage}
    return search.model_copy(update={"points": tuple(point for point in search.points if there.issuperset(point))})


def _joined(start: SweepRecord, drawn: SweepRecord) -> SweepRecord:
    """Return a start with what its search has drawn since."""
    assert drawn.search
    points = (*(start.search.points if start.search else ()), *drawn.search.points)
    search = drawn.search.model_copy(update={"points": points})
    return start.model_copy(update={"trials": (*start.trials, *drawn.trials), "search": search})


def _plan(start: SweepRecord) -> object:
    """Return what two starts that plan the same have in common."""
    weighed = {"importance": {}, "weighed": 0}
    search = start.search and start.search.model_copy(update=weighed)
    return start.model_copy(update={"search": search}).model_dump(mode="json")


def _search_facts(search: SearchRecord | None) -> object:
    """Return what is said of a search besides its points."""
    return search and (search.exhausted, search.importance, search.weighed)
