"""Cells and data -> trials: full names, sample lists, recipes, fingerprints."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from dfloc.config import DecoderSpec, EvaluationSpec, ExplainSpec, InitFrom, Lineage, MapRecipe, SampleList, TrialSpec
from dfloc.data import dolos
from dfloc.engine import member
from dfloc.errors import ConfigError, DataError
from dfloc.metrics import protocols
from dfloc.models import explain
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.registry import DECODER_FIELDS, SOLVED, plugin_of
from dfloc.sweep import component_specs, compose, counts, image_task, reals, study_checks
from dfloc.sweep.cell import Cell, Study
from dfloc.sweep.counts import RULE
from dfloc.sweep.data import Data, akin, alike, is_synthetic, named, said
from dfloc.sweep.fields import words_in
from dfloc.sweep.inventory import Inventory, start_notes
from dfloc.sweep.lists import StudyLists, TrainLists
from dfloc.sweep.plan import Resolved

CHECKPOINTS: tuple[Literal["best"], Literal["last"]] = ("best", "last")


class Resolver:
    """Turns cells into planned trials, parents first.

    Args:
        study: the cells.
        data: what they are planned against.
        inventory: what the workspace knows of weights and finished trials.
        limit: largest number of test images of a domain.

    Attributes:
        notes: what a user must be told of stages and domains, in order, each once.
        scores: whether any test domain, reals beside them apart, has test images.
        unasked: test domains of real images that the study names nowhere.
        skipped: stage -> domains that its cells need and the data lack, one entry for each cell that is left out.
    """

    def __init__(self, study: Study, data: Data, inventory: Inventory, limit: int | None = None):
        self.study = study
        self.data = data
        self.inventory = inventory
        self._lists = StudyLists(study, data, limit)
        self.lists = self._lists.by_digest
        self.skipped: dict[str, list[set[str]]] = {}
        self.notes: dict[str, None] = {}
        self._planned: dict[Cell, PlannedTrial] = {}
        self._lacking: dict[Cell, set[str]] = {}
        self._explained: dict[str, ExplainSpec] = {}  # by trial
        with study.first.blames("evaluate.domains"):
            tests = [counts.full_name(name, study.ask.domains, data) for name in study.ask.evaluate.domains]
        with study.first.blames("evaluate.reals"):
            beside = reals.scored(study.ask.evaluate, tests, data)
        with study.first.blames("evaluate.protocol"):
            protocols.find(study.ask.evaluate.protocol)
        there = {domain: data.facts(domain) for domain in tests if data.has(domain)}
        self._tests = {domain: self._lists.test(domain) for domain, facts in there.items() if "test" in facts}
        for domain in there.keys() - self._tests.keys():
            self.notes[f"{domain} has no test images: nothing is scored on it"] = None
        self.scores = bool(self._tests)
        lacking = dict(reals.lacking(reals.told(study, beside, tests, data), data))
        self.notes |= dict.fromkeys(lacking.values())
        self._tests |= {domain: self._lists.test(domain) for domain in beside if domain not in lacking}
        self.unasked = frozenset({*beside} - {*tests}) if study.ask.evaluate.reals is None else frozenset[str]()

    def planned(self, cells: Sequence[Cell]) -> list[PlannedTrial]:
        """Return the trial of every cell that the data can give, parents first.

        Raises:
            ConfigError: an unknown domain, map, decoder or loss.
            DataError: fewer images than asked.
        """
        for cell in cells:
            lacking = self._lacking[cell] = self._lacks(cell)
            if lacking:
                self.skipped.setdefault(cell.stage, []).append(lacking)
            else:
                try:
                    self._planned[cell] = self._plan(cell)
                except ConfigError as error:
                    where = "" if cell.stage in str(error) else f"stage {cell.stage}: "
                    raise ConfigError(f"{where}{error}") from error
        return [self._planned[cell] for cell in cells if not self._lacking[cell]]

    def _lacks(self, cell: Cell) -> set[str]:
        """Return the domains that a cell or what it starts from needs and the data lack."""
        names = {name for of in cell.train.named for name in self._lists.names(of, cell)}
        inherited = self._lacking[cell.parent] if cell.parent else set()
        return inherited | {name for name in names if not self.data.has(name)}

    def _plan(self, cell: Cell) -> PlannedTrial:
        with cell.blames("from"):
            parent = self._planned[cell.parent] if cell.parent else self.inventory.start(cell)
        with cell.blames("evaluate.protocol"):
            protocols.find(self._rule(cell.protocol)["protocol"])
        spec = self._spec(cell, self._train_lists(cell), self._lists.valid(cell), parent)
        return PlannedTrial(
            fingerprint=spec.fingerprint,
            stage=cell.stage,
            case=cell.case,
            axes=dict(sorted(cell.axes.items())),  # as a record has them when it is read again
            parent=parent.fingerprint if parent else None,
            spec=spec,
            evaluations=(
                *self._evaluations(spec.fingerprint, self._explain(cell, spec), cell.protocol),
                *self._validations(spec, cell.protocol),
            ),
        )

    def composed(self) -> Iterator[PlannedTrial]:
        """Yield the composites of the study whose parts are planned; of others a note says what they wait for."""
        for one in self.study.composites:
            if lacking := [cell for cell in one.parts.values() if cell not in self._planned]:
                self.notes[compose.hole(one, lacking)] = None
                continue
            found = compose.trial(one, {role: self._planned[cell] for role, cell in one.parts.items()}, self.data)
            yield found.model_copy(update={"evaluations": self._evaluations(found.fingerprint, None)})

    def _spec(self, cell: Cell, lists: TrainLists, valid: SampleList, parent: PlannedTrial | None) -> TrialSpec:
        cell, train, labels = _as_taught(cell, lists), lists.train, cell.train.labels
        ask, names = image_task.filled(cell.trial), self._classes(cell, train, valid)
        image_task.refuse_other(names, parent)
        maps, decoder = self._model(cell, parent, len(names) or None)
        assert ask.precision != "auto"
        spec = TrialSpec(
            train=train,
            valid=valid,
            maps=maps,
            decoder=decoder,
            epochs=ask.epochs,
            epoch_steps=ask.epoch_steps,
            batch=ask.batch,
            seed=ask.seed or 0,
            select=ask.select,
            task=ask.task,
            classes=names if ask.task == "attribute" else (),
            targets=ask.targets,
            labelled=lists.labelled,
            labels=labels.kind if labels and lists.labelled else "own",
            precision=ask.precision,
            init={"decoder": InitFrom(parent=parent.fingerprint, checkpoint=cell.checkpoint)} if parent else {},
            lineage=self._lineage(train, parent),
            **component_specs.learned(replace(cell, trial=ask), maps),
        )
        if ask.decoder.name in SOLVED:
            return component_specs.solved(spec)
        with cell.blames("trial.loss"):
            component_specs.refuse_misfit(spec.decoder, spec.loss, len(names) or None)
        member.check(spec)
        with cell.blames("train.count" if train.size == 1 else "trial.batch"):
            component_specs.refuse_lone(spec, cell.name)
        return spec

    def _model(
        self, cell: Cell, parent: PlannedTrial | None, num_classes: int | None
    ) -> tuple[tuple[MapRecipe, ...], DecoderSpec]:
        """Return the maps that a cell reads, and its decoder: those of the finished trial that it goes on from."""
        if cell.begun and parent:
            self.notes.update(dict.fromkeys(start_notes(cell, parent.spec, self.data.families)))
            return parent.spec.maps, component_specs.goes_on(parent.spec.decoder, cell.trial.decoder)
        maps = self.inventory.recipes_of(cell)
        with cell.blames("trial.decoder"):
            decoder = component_specs.decoder(cell.trial, maps, num_classes)
            if not decoder.plugin and "weights" in DECODER_FIELDS.get(decoder.name, ()):
                decoder = decoder.model_copy(update={"weights": self.inventory.encoder(decoder)})
        return maps, decoder

    def _classes(self, cell: Cell, train: SampleList, valid: SampleList) -> tuple[str, ...]:
        task, families = cell.trial.task, self.data.families
        with cell.blames(*(("trial.targets", "train") if cell.trial.targets == "label" else ("trial.task",))):
            protocol = self._rule(cell.protocol)["protocol"]
            image_task.refuse_idle(cell.trial, train, protocol, cell.explain is not None)
        with cell.blames("train.domains"):
            names = image_task.classes(task, train, self.study.ask.domains, families)
            image_task.refuse_lacking(task, names, valid, families)
        return names

    def _lineage(self, train: SampleList, parent: PlannedTrial | None) -> Lineage:
        own = tuple(sorted(train.counts))
        if parent is None:
            return Lineage(base=own, families=said(self.data, own))
        before = parent.spec.lineage
        seen = {*before.seen, *parent.spec.train.counts}
        families = before.families | said(self.data, {*seen, *before.base, *own})
        base = {dolos.family(domain, families) for domain in before.base}
        new = sum(
            count
            for domain, count in train.counts.items()
            if not dolos.is_real(domain) and dolos.family(domain, families) not in base
        )
        goes_on = before.exposure if train.asked.get("mode") == "incremental" else 0
        return Lineage(
            seen=tuple(sorted(seen)),
            base=before.base,
            root=before.root or parent.fingerprint,
            exposure=new + goes_on,
            families=families,
        )

    def _train_lists(self, cell: Cell) -> TrainLists:
        base = cell.base
        avoid = self._stems_seen(base, cell.begun) if cell.train.pairing == "disjoint" else set[str]()
        return self._lists.train(cell, self._planned[base].spec.train if base else None, avoid)

    def _rule(self, protocol: str | None) -> dict[str, Any]:
        """Return what evaluations are by: a cell's protocol or the study's, and the plug-in that it comes from."""
        return {
            "protocol": (name := protocol or self.study.ask.evaluate.protocol),
            "plugin": plugin_of("protocol", name),
        }

    def _explain(self, cell: Cell, spec: TrialSpec) -> ExplainSpec | None:
        if cell.explain is None:
            return None
        with cell.blames("evaluate.explain"):
            found = ExplainSpec(layer=explain.layer_of(spec, cell.explain.layer))
            first = self._explained.setdefault(spec.fingerprint, found)
            if found != first:
                words = f"{found.layer} would explain a trial that {first.layer} explains already; name one"
                raise ConfigError(f"{words}, and score the other by dfloc evaluate --explain --layer")
            return found

    def _evaluations(
        self, trial: str, by: ExplainSpec | None, protocol: str | None = None
    ) -> tuple[EvaluationSpec, ...]:
        return tuple(
            EvaluationSpec(trial=trial, checkpoint=which, domain=domain, test=test, explain=by, **self._rule(protocol))
            for which in CHECKPOINTS
            for domain, test in self._tests.items()
        )

    def _validations(self, spec: TrialSpec, protocol: str | None) -> Iterator[EvaluationSpec]:
        """Yield the trial's own validation images, where the protocol chooses a threshold; explanations have none."""
        by = self._rule(protocol)
        rule = protocols.find(by["protocol"])
        if not rule.chooses or (rule.reads == "map" and spec.task != "localize"):
            return
        for domain in spec.valid.counts:
            asked: dict[str, object] = {"valid": spec.valid.digest, "domain": domain}
            part = self._lists.keep([ref for ref in self.lists[spec.valid.digest] if ref.domain == domain], asked)
            yield EvaluationSpec(
                trial=spec.fingerprint, checkpoint="best", domain=domain, split="valid", test=part, **by
            )

    def _stems_seen(self, cell: Cell | None, begun: str | None) -> set[str]:
        """Return the photographs that a cell, its ancestors and the finished trial before them train on."""
        seen = self.inventory.stems(begun, self.data.folders) if begun else set()
        while cell is not None:
            seen |= {ref.stem for ref in self.lists[self._planned[cell].spec.train.digest]}
            cell = cell.parent
        return seen


def resolve(study: Study, data: Data, inventory: Inventory, *, preset: str, limit: int | None = None) -> Resolved:
    """Return the record of a sweep and the lists of its samples.

    Raises:
        ConfigError: weights were asked for that no backbone of the study has.
        DataError: every cell of the study needs a domain that the data lack, or nothing could be scored.
    """
    ask = study.ask
    resolver = Resolver(study, data, inventory, limit)
    study_checks.refuse_short(study, data)
    trials, cover = resolver.planned(study.cells), resolver.planned(study.cover)
    trials += resolver.composed()
    with study.first.blames("trial.weights"):
        inventory.refuse_idle(words_in(ask.model_dump()))
    study_checks.refuse_unread(study, data)
    if study.cover and ask.search and not any(axis.of for axis in ask.search.space.values()):
        with study.cover[0].blames("trial.batch"):
            component_specs.refuse_lone_drawn(cover)
    domains = tuple(domain for domain in ask.domains if data.has(domain))
    used = named(domains, [*trials, *cover])
    told = (*reals.warnings([*trials, *cover]), *image_task.notes([*trials, *cover], data.families))
    notes = (*alike(data, used), *akin(data, used), *told, *data.notes(domains, sorted(used - {*domains})))
    record = SweepRecord(
        sweep="-".join([ask.name, preset, data.name, *([f"limit{limit}"] if limit else [])]),
        name=ask.name,
        title=ask.title,
        preset=preset,
        data=data.name,
        limit=limit,
        limit_rule=1 if limit is None else RULE,
        domains=domains,
        protocol=ask.evaluate.protocol,
        tables=ask.tables,
        facts={domain: data.facts(domain) for domain in domains},
        families=said(data, used),
        kinds={name: data.kinds[name] for name in sorted(used & data.kinds.keys()) if not _tells(name, data)},
        notes=(*study.notes, *resolver.notes, *study_checks.sentences(study, data, resolver.skipped), *notes),
        synthetic=is_synthetic(domains, [*trials, *cover]),
        weights=inventory.words,
        checks=ask.checks,
        trials=tuple(trials),
    )
    if not resolver.scores:
        none = f"no trial would be scored: the data have test images of none of {', '.join(ask.evaluate.domains)}"
        raise DataError(f"{none}; name the domains of the study by --set domains=[...]")
    return Resolved(record, resolver.planned, resolver.lists, data.present, resolver.unasked, tuple(cover))


def _tells(domain: str, data: Data) -> bool:
    """Return whether a domain's name tells of which kind it is."""
    return dolos.named_kind(domain) == data.kinds[domain]


def _as_taught(cell: Cell, lists: TrainLists) -> Cell:
    """Return a cell as its images with labels alone have it: where all that masks could say is labels, all are."""
    if cell.train.labels:
        with cell.blames("train.labels"):
            image_task.refuse_twice(cell.trial)
    return replace(cell, trial=cell.trial.model_copy(update={"targets": "label"})) if lists.is_weak else cell
