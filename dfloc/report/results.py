"""What the ledger and the rows say of every trial that was planned under a sweep."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfloc import objective, registry, tracking_uri
from dfloc.config import Checkpoint, EvaluationSpec, Task
from dfloc.data import dolos, sample_lists
from dfloc.data.generators import SOURCE
from dfloc.engine import route
from dfloc.errors import DataError, WorkspaceError
from dfloc.ledger import Done, EpochRecord, Ledger, TrialState
from dfloc.measures import MEASURED
from dfloc.metrics import alarms, degenerate, image_rows, pairs, protocols, summarise, summarise_pair
from dfloc.metrics.degenerate import SAME, DegenerateMaps
from dfloc.metrics.metric import FALSE_ALARM
from dfloc.metrics.pointing import looks
from dfloc.metrics.routing import Routed
from dfloc.models.base import random_seed
from dfloc.objective import Standing
from dfloc.planned import PlannedTrial
from dfloc.projection import FINGERPRINT
from dfloc.record import SweepRecord
from dfloc.report.score import Score, Values
from dfloc.storage import Workspace
from dfloc.summary import validated

OUTSIDE = "out_of_range"

Valid = Callable[[Checkpoint], pa.Table | None]  # the rows that a threshold is chosen on


@dataclass(frozen=True, eq=False)
class Result:
    """One planned trial and what became of it.

    Attributes:
        failure: why it failed; empty where it did not.
        valid: validation IoU of the best epoch; None where no epoch was finished, or its task measures another thing
            than the first trial's.
        epochs: what was recorded by epoch, of an unfinished trial too.
        scores: by checkpoint and test domain (condition clean, split test).
        together: of images as a whole, the numbers of all fakes with all reals, best checkpoint.
    """

    trial: PlannedTrial
    state: TrialState
    failure: str
    done: Done | None
    valid: float | None
    epochs: Sequence[EpochRecord]
    scores: Mapping[tuple[Checkpoint, str], Score]
    together: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Score]:
        """By test domain, the scores of its best weights."""
        return {domain: score for (which, domain), score in self.scores.items() if which == "best"}

    @property
    def is_explained(self) -> bool:
        """Whether its maps are explanations of what it calls an image."""
        return any(score.looks for score in self.best.values())

    @property
    def random_weights(self) -> set[str]:
        """The weights of its maps that were drawn at random: such numbers mean nothing."""
        return {recipe.weights for recipe in self.trial.spec.maps if recipe.weights.startswith("random")}

    @property
    def from_scratch(self) -> bool:
        """Whether a model that is trained end to end began with random weights: by itself no fault of its numbers."""
        decoder = self.trial.spec.decoder
        return decoder.name == "xception" or (
            "weights" in registry.DECODER_FIELDS.get(decoder.name, ())
            and (decoder.weights is None or random_seed(decoder.weights) is not None)
        )

    @property
    def path_only(self) -> bool:
        """Whether its numbers mean nothing: of a random backbone, or from scratch on built-in data."""
        built_in = all(domain.startswith(f"{SOURCE}/") for domain in self.trial.spec.train.counts)
        return bool(self.random_weights) or (self.from_scratch and built_in)

    @cached_property
    def kinds(self) -> DegenerateMaps:
        """How many of its maps are all fake, empty or constant, over all test images but reals, best checkpoint."""
        return degenerate.together(score.kinds for score in self.best.values() if not score.of_reals)

    @property
    def empty(self) -> float | None:
        """Share of empty maps; None where nothing was scored."""
        return self.kinds.empty / self.kinds.maps if self.kinds.maps else None

    @property
    def collapsed(self) -> str:
        """What over 90 % of its maps of partly fake images are, over all domains, best checkpoint (`degenerate.word`).

        Of a model of images what it calls those of every class.
        """
        called = image_rows.together(score.called for score in self.best.values() if score.called)
        if self.trial.spec.decoder.name in SAME:
            return ""
        if called is not None:
            return f"all {called.collapsed}" if called.collapsed else ""
        return degenerate.together(score.telling for score in self.best.values()).word

    def degenerate(self, checkpoint: Checkpoint, domain: str) -> str:
        """Return what over 90 % of its maps on one domain are, as `collapsed`."""
        score = self.scores.get((checkpoint, domain))
        return score.telling.word if score and self.trial.spec.decoder.name not in SAME else ""


class Results:
    """Every planned trial of a sweep, read once; one fingerprint may stand in several stages.

    Args:
        workspace: where the ledger is.
        record: what was planned.

    Attributes:
        runs: by fingerprint, the address of the page on which an MLflow server shows a trial's runs; empty: none does.
        mask_kinds: the kinds of the masks of a list (`sample_lists.mask_kinds`).
        all_fake: by test domain, what calling every pixel fake scores there: no trial of it is needed.
    """

    def __init__(self, workspace: Workspace, record: SweepRecord):
        self.record = record
        self._ledger = Ledger(workspace)
        self.runs = partial(tracking_uri.search, workspace.sweep(record.sweep), FINGERPRINT)
        self.mask_kinds: Callable[[str], tuple[str, ...] | None] = cache(partial(sample_lists.mask_kinds, workspace))
        self._measure = MEASURED[record.trials[0].spec.task if record.trials else "localize"][0]
        self._scores: dict[str, Score | None] = {}
        self._photographs: dict[str, int] = {}
        self.all_fake: dict[str, Score] = {}
        protocols.refuse_other(
            each for trial in record.trials for each in trial.evaluations if each.protocol == record.protocol
        )
        self.all = [self._result(trial) for trial in record.trials]
        self.by_fingerprint: Mapping[str, Result] = {result.trial.fingerprint: result for result in self.all}

    def counts(self) -> Counter[str]:
        """Return how many trials are in which state, each fingerprint once."""
        return Counter(result.state for result in self.by_fingerprint.values())

    def standing(self, point: Sequence[str]) -> Standing:
        """Return where a point of the sweep's search stands, by the fingerprints of its trials."""
        return objective.of_point([objective.of_trial(self._ledger, name, self.record.sweep) for name in point])

    def scores(self) -> list[Score]:
        """Return every evaluation that has rows, once."""
        return [score for score in self._scores.values() if score is not None]

    def state(self, fingerprint: str) -> TrialState:
        """Return how far a trial is, of the page or not."""
        return self._ledger.state(fingerprint, self.record.sweep)

    def rows(self, evaluation: EvaluationSpec) -> pa.Table:
        """Return the rows of an evaluation that is scored."""
        return self._ledger.scored(evaluation)

    def routed(self, evaluation: EvaluationSpec, metric: str) -> Routed | None:
        """Return what routing costs a composite on the images of an evaluation of it; None: it has no router."""
        return route.routed(self._ledger, self.by_fingerprint[evaluation.trial].trial.spec, evaluation, metric)

    def routers(self, evaluation: EvaluationSpec) -> tuple[pa.Table, pa.Table] | None:
        """Return the rows of a detector on those images, and of the part that has its fakes; None: some are gone."""
        parts = self.by_fingerprint[evaluation.trial].trial.spec.parts
        try:
            router = route.routers(self._ledger, parts[route.ROUTE].parent, evaluation)
            return router, route.rows_of(self._ledger, parts[image_rows.FAKE].parent, evaluation)
        except WorkspaceError:
            return None

    def _result(self, trial: PlannedTrial) -> Result:
        fingerprint = trial.fingerprint
        state = self._ledger.state(fingerprint, self.record.sweep)
        failure = self._ledger.failure(fingerprint)
        epochs = self._ledger.epochs(fingerprint)
        done = self._ledger.done(fingerprint)
        best = next((epoch for epoch in epochs if done and epoch.epoch == done.best_epoch), None)

        @cache
        def valid(checkpoint: Checkpoint) -> pa.Table | None:
            return validated(self._ledger, fingerprint, trial.spec.valid, checkpoint, self.record.protocol)

        scores = {
            (spec.checkpoint, spec.domain): score
            for spec in trial.evaluations
            if spec.split == "test" and spec.condition == "clean" and spec.protocol == self.record.protocol
            if (score := self._score(spec, trial, valid)) is not None
        }
        return Result(
            trial=trial,
            state=state,
            failure=failure.message if failure and state == "failed" else "",
            done=done,
            valid=best.valid.get(self._measure) if best else None,
            epochs=epochs,
            scores=scores,
            together=self._together(trial, scores, valid),
        )

    def _together(
        self, trial: PlannedTrial, scores: Mapping[tuple[Checkpoint, str], Score], valid: Valid
    ) -> dict[str, float]:
        best = {domain: score.spec for (which, domain), score in scores.items() if which == "best"}
        asked = {each.domain for each in trial.evaluations if each.split == "test" and each.checkpoint == "best"}
        if best.keys() != asked or protocols.find(self.record.protocol).reads == "map":
            return {}
        tables = {domain: self._ledger.scored(spec) for domain, spec in best.items()}
        return pairs.together(tables, self.record.protocol, valid("best"))

    def _score(self, spec: EvaluationSpec, trial: PlannedTrial, valid: Valid) -> Score | None:
        if spec.key not in self._scores:
            there = self._ledger.has_rows(spec.trial, spec.key)
            self._scores[spec.key] = self._read(spec, trial, valid) if there else None
        return self._scores[spec.key]

    def _read(self, spec: EvaluationSpec, trial: PlannedTrial, valid: Valid) -> Score:
        rows = self._ledger.scored(spec)
        try:
            found = self._scored(spec, rows, valid(spec.checkpoint), trial.spec.task)
        except DataError as error:
            where = f"trial {trial.fingerprint[:12]} on {spec.domain}"
            cure = f"delete rows/{spec.key}.parquet in its folder, it is made again"
            raise DataError(f"{where}: {error}; {cure}") from error
        found = replace(found, routed=_routed(rows, trial, dolos.family(spec.domain, self.record.families)))
        if beside := _reals(spec, trial):
            reals = self._score(beside, trial, valid)
            if reals is not None:
                pair = summarise_pair(rows, self._ledger.scored(beside), spec.protocol, valid(spec.checkpoint))
                found = replace(found, reals=reals, of_set={**found.of_set, **pair})
        if spec.domain not in self.all_fake and found.protocol.reads == "map":
            every = spec.model_copy(update={"trial": "", "checkpoint": "best"})
            self.all_fake[spec.domain] = self._scored(every, _all_fake(rows, found), None, trial.spec.task)
        return found

    def _scored(self, spec: EvaluationSpec, rows: pa.Table, valid: pa.Table | None, task: Task) -> Score:
        numbers, rule = self._photographs, protocols.find(spec.protocol)
        images = image_rows.read(rows) if rule.reads == "image" else None
        there = {key: rows[key].to_numpy().astype(np.float64) for key in rule.per_image if key in rows.column_names}
        stems = rows["stem"].combine_chunks().dictionary_encode()
        codes = [numbers.setdefault(stem, len(numbers)) for stem in stems.dictionary.to_pylist()]
        values = there if rule.reads == "map" else rule.values(rows)
        of_set = summarise(rows, spec.protocol, valid)
        if beside := rule.reads == "map" and dolos.is_real(spec.domain) and spec.domain not in self.record.tested:
            values = alarms.alarms(rows)
            of_set = {key: value for key, value in of_set.items() if key == FALSE_ALARM.key}
        return Score(
            spec=spec,
            values=values,
            photographs=np.asarray(codes, dtype=np.int64)[stems.indices.to_numpy()],
            kinds=degenerate.kinds(rows),
            telling=degenerate.kinds(rows, partly_fake=True),
            areas=rows["mask_area"].to_numpy().astype(np.float64),
            of_set=of_set,
            out_of_range=pc.sum(rows[OUTSIDE], min_count=0).as_py() if OUTSIDE in rows.column_names else None,
            all_fake={} if beside else degenerate.all_fake(rows, spec.protocol),
            task=task,
            prob_fake=images.score_N if images else np.empty(0),
            called=image_rows.called(rows) if images else None,
            ranked=rule.ranks(rows) if rule.ranks else np.empty(0),
            looks=looks(rows),
            of_maps=there if beside and values else {},
        )


def _routed(rows: pa.Table, trial: PlannedTrial, family: str) -> Values:
    """Return 1 where a composite's router calls an image its class, else 0; nothing where there is no router."""
    if route.ROUTED not in rows.column_names:
        return np.empty(0)
    name = image_rows.FAKE if image_rows.FAKE in trial.spec.parts and family != image_rows.REAL else family
    right_N: Values = (rows[route.ROUTED].to_numpy(zero_copy_only=False) == name).astype(np.float64)
    return right_N


def _reals(spec: EvaluationSpec, trial: PlannedTrial) -> EvaluationSpec | None:
    """Return the evaluation of the reals that a domain of fakes is looked at beside, if the trial has one."""
    domain = pairs.reals_of(spec.domain)
    wanted = spec.model_dump(exclude={"domain", "test"}) | {"domain": domain}
    alike = (each for each in trial.evaluations if each.model_dump(exclude={"test"}) == wanted)
    return next(alike, None) if spec.domain != domain else None


def _all_fake(rows: pa.Table, scored: Score) -> pa.Table:
    """Return the rows that a map which calls every pixel fake has on the same images."""
    tp, fp, fn, tn = (rows[name].to_numpy() for name in protocols.COUNTS)
    none, unknown = np.zeros(len(tp), np.int64), np.full(len(tp), np.nan)
    new = {"tp": tp + fn, "fp": fp + tn, "fn": none, "tn": none, "spread": none.astype(np.float64)}
    new |= {key: scored.all_fake.get(key, unknown) for key in scored.values}
    kept = [name for name in rows.column_names if name not in new and name not in protocols.GRID_COUNTS]
    return pa.table({**{name: rows[name] for name in kept}, **new})
