"""What one trial says in a table: its name, its params and its scores."""

from collections.abc import Iterable, Mapping, Set
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

from dfloc.augmentation import AugmentSpec
from dfloc.axis import Value
from dfloc.config import Checkpoint, DecoderSpec, EvaluationSpec, LossSpec, SampleList, TrialSpec
from dfloc.data import dolos, sample_lists
from dfloc.engine import route
from dfloc.ledger import Ledger
from dfloc.metrics import alarms, degenerate, pairs, pointing, protocols
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord

HEADS: Mapping[Checkpoint, str] = {"best": "test", "last": "test_last"}

UNTOLD = frozenset({"prior", "standardize", "plugin"})  # fields of a decoder that stand in its spec.json alone
FAILURE = "dfloc.failure"
WEIGHTS = "dfloc.weights"
COLLAPSED = "dfloc.collapsed"
ALL = "all"  # where a domain's name stands otherwise: the images of all of them together

ScoreGroup = Literal["mean", "id", "ood", "base", "held_out"]
Relation = Literal["in", "out", "unknown"]


class LoggedValue(NamedTuple):
    """A value, when it was recorded (seconds since 1970), and its epoch; 0 = of the whole trial."""

    value: float
    time: float
    epoch: int = 0


def axes(record: SweepRecord, planned: PlannedTrial) -> dict[str, Value]:
    """Return the axes of a trial in every stage of a sweep that has it; the first stage's value of each."""
    same = [each.axes for each in record.trials if each.fingerprint == planned.fingerprint]
    return {axis: value for one in reversed([planned.axes, *same]) for axis, value in one.items()}


def relation(spec: TrialSpec, domain: str, families: Mapping[str, str]) -> Relation:
    """Return whether a trial or an ancestor was trained on a domain's family: in-domain, or out-of-domain.

    Neither is known where the training of the root ancestor is not.

    Args:
        spec: the trial's.
        domain: in full.
        families: of domains, where a person gave another than the generator's name.
    """
    seen = (*spec.lineage.seen, *spec.lineage.base, *spec.train.counts)
    said = {**spec.lineage.families, **families}
    if dolos.family(domain, said) in {dolos.family(name, said) for name in seen}:
        return "in"
    return "out" if spec.lineage.base else "unknown"


def params(spec: TrialSpec, words: Mapping[str, str], held_out: str = "") -> dict[str, str]:
    """Return the fields of a spec that make trials different, under the names by which `--set` knows them.

    The keys are the same for every trial, whatever the sweep; numbers are written so that they can be plotted.

    Args:
        spec: the trial's.
        words: digest of weights -> the word by which they were asked for.
        held_out: the domain of the trial's axis; empty where it has none.
    """
    start, exposed = spec.start, _exposed(spec, held_out)
    parts = _listed(f"{role} {part.parent[:12]}" for role, part in spec.parts.items())
    return {
        "exposure": str(exposed.get(held_out, 0) if held_out else spec.lineage.exposure),
        "steps": str(spec.steps),
        "task": spec.task,
        "classes": _listed(spec.classes),
        "train.domains": _listed(spec.train.counts),
        "train.counts": _listed(spec.train.counts.values()),
        "train.images": str(spec.train.size),
        "train.targets": spec.taught,
        "train.masks": _listed(spec.masked.values()),
        "valid.images": str(spec.valid.size),
        "exposure.domains": _listed(exposed),
        "base.domains": _listed(_base(spec)),
        "init": f"{start.checkpoint} of {start.parent[:12]}" if start else parts,
        "maps": _listed(recipe.map for recipe in spec.maps),
        "weights": _listed(dict.fromkeys(words.get(recipe.weights, recipe.weights) for recipe in spec.maps)),
        **_decoder(spec.decoder, words),
        "input": _listed(dict.fromkeys(str(size) for one in spec.maps for size in (one.via, one.input_size) if size)),
        "loss": loss(spec.loss),
        "augment": augment(spec.augment),
        "augment.views": str(spec.augment.views) if spec.augment else "none",
        "optimizer": spec.optimizer.name,
        "optimizer.lr": f"{spec.optimizer.lr:g}",
        "optimizer.weight_decay": f"{spec.optimizer.weight_decay:g}",
        "schedule": spec.schedule.called,
        "epochs": str(spec.epochs),
        "epoch_steps": str(spec.epoch_steps or "all"),
        "batch": str(spec.batch),
        "select": spec.select,
        "precision": spec.precision,
        "seed": str(spec.seed),
    }


def _decoder(spec: DecoderSpec, words: Mapping[str, str]) -> dict[str, str]:
    told = {name: value for name, value in spec.model_dump().items() if name not in UNTOLD}
    told |= {"channels": _listed(spec.channels), "weights": words.get(str(spec.weights), spec.weights)}
    return {f"decoder.{name}": "none" if value is None else str(value) for name, value in told.items()}


def loss(spec: LossSpec) -> str:
    """Return a loss in one word, with the fields that differ from their default: `dice(reduction=image)`."""
    if spec.terms:
        return "+".join(f"{'' if term.weight == 1 else f'{term.weight:g}*'}{loss(term)}" for term in spec.terms)
    fields = spec.model_dump(exclude_defaults=True, exclude={"name", "plugin", "terms", "weight"})
    return spec.name + (f"({', '.join(f'{name}={value}' for name, value in fields.items())})" if fields else "")


def augment(spec: AugmentSpec | None) -> str:
    """Return an augmentation in one word: its operations in their order, each with what differs from the default."""
    if spec is None:
        return "none"
    ops = [(op.name, op.model_dump(exclude_defaults=True, exclude={"name"})) for op in spec.ops]
    said = (f"{name}({', '.join(f'{key}={_bare(value)}' for key, value in fields.items())})" for name, fields in ops)
    return "+".join(said)


def tags(record: SweepRecord, ledger: Ledger, planned: PlannedTrial) -> dict[str, str]:
    """Return what is said of an ended trial in words: axes, weights, where it ran, why it failed, how it collapsed."""
    name, done, failure = planned.fingerprint, ledger.done(planned.fingerprint), ledger.failure(planned.fingerprint)
    words = {f"dfloc.axis.{axis}": str(value) for axis, value in axes(record, planned).items()}
    if planned.case:
        words["dfloc.case"] = planned.case
    if any(recipe.weights.startswith("random:") for recipe in planned.spec.maps):
        words["dfloc.random_weights"] = "true"
    if done:
        words |= {f"dfloc.environment.{package}": version for package, version in done.versions.items()}
        if ledger.has_weights(name):
            words[WEIGHTS] = str(ledger.weights(name, "best"))
    elif failure:
        words[FAILURE] = failure.message
    tests = [one for one in _clean_tests(planned) if one.checkpoint == "best" and ledger.has_rows(name, one.key)]
    word = degenerate.word(ledger.rows(name, one.key) for one in tests)
    if word and planned.spec.decoder.name not in degenerate.SAME:
        words[COLLAPSED] = word
    return words


def curves(ledger: Ledger, planned: PlannedTrial) -> dict[str, list[LoggedValue]]:
    """Return what was recorded by epoch, in their order."""
    curves: dict[str, list[LoggedValue]] = {}
    for record in ledger.epochs(planned.fingerprint):
        values: dict[str, float | None] = {
            "train/loss": record.train_loss,
            "train/lr": record.lr,
            **{f"valid/{measure}": value for measure, value in record.valid.items()},
        }
        for key, value in values.items():
            if value is not None:
                curves.setdefault(key, []).append(LoggedValue(value, record.time, record.epoch))
    return curves


def evaluated(record: SweepRecord, ledger: Ledger, planned: PlannedTrial) -> list[EvaluationSpec]:
    """Return the clean tests by its protocol whose rows are there: its own, then those of its root ancestor."""
    root, protocol = planned.spec.lineage.root, record.protocol_of(planned)
    every = (*record.trials, *record.replaced)
    ancestors = [trial for trial in every if trial.fingerprint == root][:1] if root else []
    wanted = [each for trial in (planned, *ancestors) for each in _clean_tests(trial) if each.protocol == protocol]
    protocols.refuse_other(wanted)
    return [each for each in wanted if ledger.has_rows(each.trial, each.key)]


def summary(record: SweepRecord, ledger: Ledger, planned: PlannedTrial) -> dict[str, float]:
    """Return the numbers of a trial: scores, computed from its rows as fractions, and what its training took.

    Returns:
        `test/<domain>/<measure>` of the best epoch and `test_last/<domain>/<measure>` of the last one, of the measures
        that the protocol has tracked; of maps of real images beside them `reals_flagged` and `reals_area` instead; of
        explained fakes `explain_iou`, `explain_pointed`, `explain_mass` and `explain_area` too (`metrics.pointing`);
        `test/<group>/<measure>`: mean over the study's tested domains and over those of them that are in-domain,
        out-of-domain and base (absent without members, and until all of them are there); held-out is the domain of the
        axis `held_out`, of a trial without it the mean over the tested domains outside the base;
        `test/all/<measure>`, of a protocol of images: the fakes of all tested domains together, beside the reals;
        `forgetting/<domain>`, of the domains that the root ancestor was trained on: by how much it is better than the
        trial, by the protocol's first metric;
        `route/<domain>/recall` of a composite with a router: the share of images that are called their class, and
        `route/cost`: by how much a right router would raise the mean IoU over the tested domains;
        `cost/seconds`, `cost/images_per_second`, `cost/steps` (those taken; the param `steps` is what was planned,
        which a schedule may end before); `best/epoch`, and `best/valid_iou` there.

    Raises:
        WorkspaceError, DataError: rows are damaged.
    """
    found = evaluated(record, ledger, planned)
    own = [each for each in found if each.trial == planned.fingerprint]
    protocol = record.protocol_of(planned)
    rule = protocols.find(protocol)
    measures, first = rule.tracked, rule.first
    scores: dict[str, float] = {}
    wanted = [each for each in _clean_tests(planned) if (each.checkpoint, each.protocol) == ("best", protocol)]
    whole = all(each in own for each in wanted if rule.reads == "image" or not _is_beside(record, each.domain))
    for checkpoint, head in HEADS.items():
        valid = validated(ledger, planned.fingerprint, planned.spec.valid, checkpoint, protocol) if own else None
        tables = _tables(ledger, own, checkpoint)
        numbers = pairs.by_domain(tables, protocol, valid)
        if rule.reads == "map":
            numbers |= {name: alarms.means(rows) for name, rows in tables.items() if _is_beside(record, name)}
        numbers = {name: values | pointing.numbers(tables[name]) for name, values in numbers.items()}
        if whole:
            numbers[ALL] = pairs.together(tables, protocol, valid)
        for domain, values in numbers.items():
            told = (*measures, *alarms.ALARMS, *pointing.NUMBERS)
            scores |= {f"{head}/{domain}/{measure}": values[measure] for measure in told if measure in values}
    if whole:
        scores |= _means(record, planned, {each.domain for each in wanted}, scores)
    root = pairs.by_domain(_tables(ledger, [each for each in found if each not in own], "best"), protocol)
    for domain, values in root.items():
        if domain in planned.spec.lineage.base and first.key in values and f"test/{domain}/{first.key}" in scores:
            scores[f"forgetting/{domain}"] = first.gain(values[first.key], scores[f"test/{domain}/{first.key}"])
    return scores | route.numbers(ledger, planned.spec, own, record.tested) | _training(ledger, planned.fingerprint)


def _is_beside(record: SweepRecord, domain: str) -> bool:
    """Return whether a test domain is of real images, over which no mean runs."""
    return dolos.is_real(domain) and domain not in record.tested


def _clean_tests(planned: PlannedTrial) -> list[EvaluationSpec]:
    return [each for each in planned.evaluations if each.split == "test" and each.condition == "clean"]


def validated(ledger: Ledger, trial: str, valid: SampleList, checkpoint: Checkpoint, protocol: str) -> pa.Table | None:
    """Return the rows that a threshold is chosen on: of the trial's own validation list, each image once.

    Of a trial whose list nobody knows (an imported one) these are all validation images that were scored. Explanations
    are none of them: they are relative to their own maximum.

    Returns:
        None where the protocol chooses no threshold, or rows of the list, or the list itself, are not there.

    Raises:
        WorkspaceError: rows are damaged.
    """
    if not protocols.find(protocol).chooses:
        return None
    wanted = {"split": "valid", "checkpoint": checkpoint, "protocol": protocol, "condition": "clean"}
    every = ledger.all_rows(trial)
    every = (rows for rows in every if "explain" not in rows.column_names)
    found = [rows for rows in every if all(rows[name][0].as_py() == value for name, value in wanted.items())]
    if not found:
        return None
    whole = pa.concat_tables(found, promote_options="permissive")
    first = {name: place for place, name in reversed([*enumerate(whole["id"].to_pylist())])}
    names = (sample_lists.ids(ledger.workspace, valid.digest) or ()) if valid.counts else first.keys()
    return whole.take(sorted(first[name] for name in names)) if names and first.keys() >= {*names} else None


def _tables(ledger: Ledger, evaluations: Iterable[EvaluationSpec], checkpoint: Checkpoint) -> dict[str, pa.Table]:
    wanted = (each for each in evaluations if each.checkpoint == checkpoint)
    return {each.domain: ledger.rows(each.trial, each.key) for each in wanted}


def _training(ledger: Ledger, name: str) -> dict[str, float]:
    done = ledger.done(name)
    if done is None:
        return {}
    cost = done.cost
    costs = {
        "cost/seconds": cost.seconds,
        "cost/images_per_second": cost.images_per_second,
        "cost/steps": float(cost.steps),
    }
    if not done.best_epoch:  # a composite
        return {}
    best = ledger.epochs(name)[done.best_epoch - 1]
    return costs | {"best/epoch": float(done.best_epoch), f"best/valid_{best.watched}": best.worth}


def is_mean(key: str) -> bool:
    """Return whether a number is of several domains of the study, so that it depends on which those are."""
    return key.startswith(tuple(f"test/{group}/" for group in (ALL, *get_args(ScoreGroup))))


def _means(
    record: SweepRecord, planned: PlannedTrial, tested: Set[str], scores: Mapping[str, float]
) -> dict[str, float]:
    base = _base(planned.spec)  # empty: nobody knows what the root ancestor saw, so that no domain is known to be new
    held_out = axes(record, planned).get("held_out")
    domains, rule = record.tested, protocols.find(record.protocol_of(planned))
    related = {domain: relation(planned.spec, domain, record.families) for domain in domains}
    groups: dict[ScoreGroup, list[str]] = {
        "mean": list(domains),
        "id": [domain for domain in domains if related[domain] == "in"],
        "ood": [domain for domain in domains if related[domain] == "out"],
        "base": [domain for domain in domains if domain in base],
        "held_out": [str(held_out)] if held_out else [domain for domain in domains if base and domain not in base],
    }
    means, pairs_alone = {}, {metric.key for metric in rule.metrics if metric.of_pair}  # not of fakes without reals
    for group, members in groups.items():
        if not tested >= {*members}:
            continue
        for measure in rule.tracked:
            keys = [f"test/{domain}/{measure}" for domain in members]
            values = [scores[key] for key in keys if key in scores]
            if values and (measure not in pairs_alone or len(values) == len(members)):
                means[f"test/{group}/{measure}"] = sum(values) / len(values)
    return means


def _exposed(spec: TrialSpec, held_out: str) -> dict[str, int]:
    """Return the held-out domains that a trial is trained on, and how many images of each it has seen along a curve.

    Without the axis these are the domains of no family of the root ancestor; a trial without a parent has none.
    """
    said = spec.lineage.families
    families = {dolos.family(domain, said) for domain in spec.lineage.base}
    before = int(spec.train.asked.get("skip", 0))  # what the points before saw (mode `incremental`)
    return {
        domain: before + count
        for domain, count in spec.train.counts.items()
        if (domain == held_out if held_out else spec.start and dolos.family(domain, said) not in families)
    }


def _base(spec: TrialSpec) -> tuple[str, ...]:
    return spec.lineage.base or (() if spec.lineage.root else tuple(spec.train.counts))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _bare(value: object) -> str:
    return "-".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
