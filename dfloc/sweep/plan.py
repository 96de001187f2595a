"""What is done, what is left, what it rests on, and what it will cost."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from upath import UPath

from dfloc.config import EvaluationSpec, MapRecipe
from dfloc.data.augment import View, views_of
from dfloc.data.manifest import SampleRef
from dfloc.errors import WorkspaceError
from dfloc.features.extract import Job, missing
from dfloc.features.store import CLEAN, TRUTH, FeatureStore, bytes_of
from dfloc.frozen import fingerprint
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.sweep import compose, reals
from dfloc.sweep.augmentation_cost import AugmentedViews, views
from dfloc.sweep.cell import Cell

logger = logging.getLogger(__name__)


@dataclass
class Resolved:
    """A study's trials with their keys.

    Attributes:
        lists: the samples of every list by its digest.
        present: whether the samples are there, so that something may be done already.
        unasked: test domains that are scored though the study names them nowhere: nothing is trained again for them.
        planned: turns cells that a search draws into trials.
        cover: trials that stand for those which a search is still to draw: their maps, images and evaluations.
        to_draw: how many trials that are.
        ended: fingerprints of trials that a search will not train any more.
    """

    record: SweepRecord
    planned: Callable[[Sequence[Cell]], list[PlannedTrial]]
    lists: dict[str, list[SampleRef]] = field(default_factory=dict)
    present: bool = True
    unasked: frozenset[str] = frozenset()
    cover: tuple[PlannedTrial, ...] = ()
    to_draw: int = 0
    ended: frozenset[str] = frozenset()

    @property
    def all(self) -> list[PlannedTrial]:
        """Every trial, and those that stand for others."""
        return [*self.record.trials, *self.cover]


@dataclass(frozen=True)
class Item:
    """One item of work: a trial with what it lacks.

    Attributes:
        trial: as the first stage that wants it planned it.
        train: whether it must be trained; else only evaluations are left.
        evaluations: those that have no rows yet.
    """

    trial: PlannedTrial
    train: bool
    evaluations: tuple[EvaluationSpec, ...]

    @property
    def name(self) -> str:
        """How a person calls it."""
        return self.trial.name


@dataclass(frozen=True)
class Plan:
    """What a sweep's trials need.

    Attributes:
        resolved: the sweep's trials, as planned now.
        items: the work left, parents before children.
        done: trials of which nothing is lacking.
        shared: those of them that another sweep planned first.
        failed: trials that failed before, and their descendants; not repeated.
        jobs: row groups whose features are lacking.
        images: fingerprint of each map's recipe -> distinct images of which the sweep reads it, as they are.
        views: augmented draws of training images, which are read beside those.
        seconds: expected training time of one worker, by the rates of the trials that are done; None = no rate yet.
        notes: sentences for the screen.
    """

    resolved: Resolved
    items: tuple[Item, ...]
    done: int
    shared: int
    failed: tuple[str, ...]
    jobs: tuple[Job, ...]
    images: dict[str, int]
    views: tuple[AugmentedViews, ...]
    seconds: float | None
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> SweepRecord:
        """What is planned under the sweep's name."""
        return self.resolved.record

    @property
    def left(self) -> int:
        """Trials that are to run, known or still to be drawn."""
        return len(self.items) + self.resolved.to_draw

    @property
    def stopped(self) -> int:
        """Trials that a search has stopped early, or left out since another one of their point was."""
        return len(self.resolved.ended - {*self.failed})

    def lines(self) -> Iterator[str]:
        """Yield what `--dry-run` prints."""
        to_draw = self.resolved.to_draw
        stages = Counter({self.record.search.stage: to_draw} if self.record.search else {})
        stages.update(trial.stage for trial in self.record.trials)
        for stage, count in stages.items():
            yield f"stage {stage}: {count} trials"
        distinct = len({trial.fingerprint for trial in self.record.trials}) + to_draw
        evaluations = sum(len(item.evaluations) for item in self.items)
        evaluations += to_draw * max((len(trial.evaluations) for trial in self.resolved.cover), default=0)
        yield f"distinct trials: {distinct}" + ("" if distinct == sum(stages.values()) else ", the rest are shared")
        if self.resolved.present:
            stopped = f"; stopped early by the search: {self.stopped}" if self.stopped else ""
            failed = f"failed before: {len(self.failed)}{stopped}"
            yield f"done: {self.done}, of which {self.shared} by another sweep; {failed}"
        yield from reals.lines(self.resolved.all)
        left = sum(item.train for item in self.items) + to_draw
        yield f"{self.left} to run: {left} to train, {evaluations} evaluations"
        if to_draw:
            yield (
                f"{to_draw} of them are drawn while the search runs: those that are done already or stopped early "
                "cost less; passes and storage are those of every map that can be drawn"
            )
        yield from self._features()
        if self.seconds:
            yield f"time: {self.seconds / 3600:.2f} hours of one worker, at the rate of the trials that are done"
        yield from self.record.notes
        yield from self.notes

    def _features(self) -> Iterator[str]:
        recipes = recipes_of(self.resolved.all)
        passes = Counter({recipe.name.backbone: 0 for recipe in recipes})
        if self.resolved.present:
            for job in self.jobs:
                for name, _ in {(one.name.backbone, one.via) for one in job.recipes if one != TRUTH}:
                    passes[name] += job.rows
        else:
            largest: dict[tuple[str, int | None], int] = defaultdict(int)
            for recipe in recipes:
                way = recipe.name.backbone, recipe.via
                largest[way] = max(largest[way], self.images[recipe.fingerprint])
            for (name, _), count in largest.items():
                passes[name] += count
            for views in self.views:
                passes[views.backbone] += round(views.passes)
        passed = ", ".join(f"{count} images through {name}" for name, count in sorted(passes.items()))
        yield f"backbone passes: {passed}"
        images = max(self.images.values(), default=0)
        size = images * bytes_of(TRUTH) + sum(self.images[recipe.fingerprint] * bytes_of(recipe) for recipe in recipes)
        changed = sum(views.size for views in self.views)
        more = f", and {changed / 1e9:.2f} GB of their views" if changed else ""
        yield f"storage: {size / 1e9:.2f} GB of features for {images} images{more}"
        yield from (views.line() for views in self.views)


def make(resolved: Resolved, ledger: Ledger, store: FeatureStore, others: UPath, retry_failed: bool = False) -> Plan:
    """Compare a sweep's trials with ledger and feature store; `others`: the folder of all sweeps' records."""
    record = resolved.record
    distinct = list({trial.fingerprint: trial for trial in record.trials}.values())
    lacking = _lacking(distinct, ledger)
    done = {fp for fp in lacking if ledger.state(fp) == "done"}
    failed = set() if retry_failed else _failed(distinct, ledger)
    trained, notes = _to_train(distinct, lacking, done, ledger, resolved.unasked)
    items = [
        Item(trial, trial.fingerprint in trained, lacking[trial.fingerprint])
        for trial in distinct
        if trial.fingerprint not in {*failed, *resolved.ended}
        if trial.fingerprint in trained or lacking[trial.fingerprint] or trial.fingerprint not in done
    ]
    standing = [Item(trial, train=True, evaluations=trial.evaluations) for trial in resolved.cover]
    complete = [trial for trial in distinct if trial.fingerprint in done and not lacking[trial.fingerprint]]
    first = _first_elsewhere(others, record.sweep)
    jobs = _jobs([*items, *standing], resolved, store) if resolved.present else []
    notes += compose.waiting(distinct, failed)
    if store.damaged:
        notes.append(f"{len(store.damaged)} groups of stored features are damaged, they are made again")
    return Plan(
        resolved=resolved,
        items=tuple(items),
        done=len(complete),
        shared=sum(trial.fingerprint in first for trial in complete),
        failed=tuple(sorted(failed)),
        jobs=tuple(jobs),
        images={recipe.fingerprint: _num_images(resolved, recipe) for recipe in recipes_of(resolved.all)},
        views=tuple(views(resolved.all, partial(_distinct, resolved))),
        seconds=None if resolved.to_draw else _seconds(distinct, trained, ledger),
        notes=tuple(notes),
    )


def work_of(trials: Sequence[PlannedTrial], ledger: Ledger, unasked: Collection[str] = ()) -> list[Item]:
    """Return what trials lack that stand alone; nothing of those that failed. `unasked`: as of `Resolved`."""
    lacking, failed = _lacking(trials, ledger), _failed(trials, ledger)
    done = {fp for fp in lacking if ledger.state(fp) == "done"}
    trained, _ = _to_train(trials, lacking, done, ledger, unasked)
    items = [Item(trial, trial.fingerprint in trained, lacking[trial.fingerprint]) for trial in trials]
    return [item for item in items if item.trial.fingerprint not in failed and (item.train or item.evaluations)]


def recipes_of(trials: Sequence[PlannedTrial]) -> list[MapRecipe]:
    """Return every map that the trials read, once."""
    return list({recipe.fingerprint: recipe for trial in trials for recipe in trial.spec.maps}.values())


def _lacking(trials: Sequence[PlannedTrial], ledger: Ledger) -> dict[str, tuple[EvaluationSpec, ...]]:
    return {trial.fingerprint: tuple(e for e in trial.evaluations if not ledger.has_scored(e)) for trial in trials}


def _failed(trials: Sequence[PlannedTrial], ledger: Ledger) -> set[str]:
    failed: set[str] = set()
    for trial in trials:
        if not failed.isdisjoint(trial.parents) or ledger.state(trial.fingerprint) == "failed":
            failed.add(trial.fingerprint)
    return failed


def _to_train(
    trials: Sequence[PlannedTrial],
    lacking: dict[str, tuple[EvaluationSpec, ...]],
    done: set[str],
    ledger: Ledger,
    unasked: Collection[str],
) -> tuple[set[str], list[str]]:
    """Return what must be trained; a finished trial whose weights are gone is one if something needs them.

    What nobody asked for by name needs none: it is taken out of what such a trial, and what is composed of it, is
    lacking, and told once for all.
    """
    trained = {trial.fingerprint for trial in trials if not trial.spec.parts} - done
    reading = {t.fingerprint for t in trials if t.spec.decoder.rule == "mean" and lacking[t.fingerprint]}
    notes, left = list[str](), Counter[str]()
    for trial in (one for one in reversed(trials) if one.fingerprint in done and not one.spec.parts):
        name = trial.fingerprint
        child = [one for one in trials if name in one.parents and one.fingerprint in {*trained, *reading}]
        asked = tuple(each for each in lacking[name] if each.domain not in unasked)
        if not (child or lacking[name]) or ledger.has_weights(name):
            continue
        if child or asked:
            trained.add(name)
            notes.append(f"{trial.stage} {name[:12]}: its weights are gone or damaged, it is trained again")
        else:
            gone = {each.domain for each in lacking[name]}
            left.update(gone)
            for one in (name, *(each.fingerprint for each in trials if each.spec.parts and name in each.parents)):
                lacking[one] = tuple(each for each in lacking[one] if each.domain not in gone)
    return trained, notes + [
        f"finished trials that are not scored on {domain}, since their weights are gone or damaged: {count}; "
        f"--set evaluate.reals=[{domain}] trains them again for it"
        for domain, count in left.items()
    ]


def _seconds(trials: Sequence[PlannedTrial], trained: set[str], ledger: Ledger) -> float | None:
    """Return what training will take, at the mean time per step of the trials of the same maps and decoder."""
    steps, left = Counter[str](), Counter[str]()
    spent: dict[str, float] = defaultdict(float)
    for trial in trials:
        spec = trial.spec
        kind = fingerprint([spec.decoder.model_dump(mode="json"), [recipe.fingerprint for recipe in spec.maps]])
        done = ledger.done(trial.fingerprint)
        if trial.fingerprint in trained:
            left[kind] += spec.steps
        elif done:
            steps[kind] += done.cost.steps
            spent[kind] += done.cost.seconds
    if not left or any(not steps[kind] for kind in left):
        return None
    return sum(left[kind] * spent[kind] / steps[kind] for kind in left)


def _first_elsewhere(sweeps: UPath, own: str) -> set[str]:
    """Return the fingerprints that other sweeps planned."""
    folders = [folder for folder in sweeps.iterdir() if folder.name != own] if sweeps.exists() else []
    return {trial.fingerprint for folder in folders for trial in _trials(folder)}


def _trials(folder: UPath) -> tuple[PlannedTrial, ...]:
    """Return the trials of another sweep; a damaged record of it is no matter of this one."""
    try:
        record = SweepRecord.load(folder)
    except WorkspaceError as error:
        logger.warning("another sweep is left out of what is shared: %s", error)
        return ()
    return record.trials if record else ()


def _jobs(items: Sequence[Item], resolved: Resolved, store: FeatureStore) -> list[Job]:
    """Return the row groups that lack a map, each with every map that some item reads of it."""
    wanted: dict[tuple[str, tuple[str, ...]], dict[str, SampleRef]] = {}
    drawn: dict[str, View | None] = {}
    recipes = {recipe.fingerprint: recipe for recipe in recipes_of(resolved.all)}
    specs = {trial.fingerprint: trial.spec for trial in resolved.record.trials}
    for item in items:
        spec = item.trial.spec
        readers = [specs[name] for name in item.trial.parents] if spec.decoder.rule == "mean" else [spec]
        digests = [e.test.digest for e in item.evaluations]
        digests += [spec.train.digest, spec.valid.digest] if item.train else []
        read: list[tuple[View | None, list[str]]] = [(None, digests)]
        read += [(view, [spec.train.digest]) for view in views_of(spec.augment, spec.epochs) if item.train]
        for view, asked in read:
            name = view.name if view else CLEAN
            drawn.setdefault(name, view)
            for reader in (one for one in readers if one.maps):
                refs = wanted.setdefault((name, tuple(sorted(recipe.fingerprint for recipe in reader.maps))), {})
                for digest in asked:
                    refs.update((ref.id, ref) for ref in resolved.lists[digest])
    jobs: list[Job] = []
    for (name, fingerprints), refs in wanted.items():
        jobs += missing(store, list(refs.values()), [recipes[fp] for fp in fingerprints], drawn[name])
    return _merged(jobs)


def _merged(jobs: Sequence[Job]) -> list[Job]:
    """Return one job for each row group of a view, so that one pass of a backbone gives all its maps."""
    by_group: dict[tuple[str, int, str], Job] = {}
    for job in jobs:
        key = (job.shard_digest, job.group, job.view.name if job.view else CLEAN)
        by_group[key] = by_group[key].merged(job) if key in by_group else job
    return list(by_group.values())


def _num_images(resolved: Resolved, recipe: MapRecipe) -> int:
    """Return the number of distinct images of which the trials read a map."""
    trials = [trial for trial in resolved.all if recipe in trial.spec.maps]
    digests = {one.digest for trial in trials for one in (trial.spec.train, trial.spec.valid)}
    return _distinct(resolved, digests | {each.test.digest for trial in trials for each in trial.evaluations})


def _distinct(resolved: Resolved, digests: Collection[str]) -> int:
    """Return the number of distinct images of lists."""
    return len({ref.id for digest in digests for ref in resolved.lists[digest]})
