"""Our numbers for the tables that a claim reads: where they stand beside its own, and a few that no document prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dfloc.metrics.metric import IOU_SLOPE, ROUTED_RIGHT
from dfloc.report import place, recipe, setups, two_step
from dfloc.report.address import ATTRIBUTION, BUDGETS, DETECTION, SOURCES_TEST
from dfloc.report.comparable import RANDOM, fits, gaps, is_via
from dfloc.report.formulas.numbers import ALL, CLASSES, REPAINT, Key
from dfloc.report.formulas.segmenters import IOU
from dfloc.report.formulas.two_step import CLASSIFIED, CLASSIFIER, STATED
from dfloc.report.groups import Group, Study
from dfloc.report.place import Pair
from dfloc.report.published import PIPELINES, PublishedNumber, PublishedTable
from dfloc.report.resample import MeanOver

MEANS = ("model", "quantity")  # over the test domains
FIELDS = ("maps", "decoder", "model", "input")  # what makes a model another


@dataclass(frozen=True)
class Side:
    """Our numbers for one table.

    Attributes:
        id: of the table, or of numbers that no document prints.
        parts: by key as in the published matrix.
        held_out: as in the published table.
        models: what ours are.
        lacks: what they differ in from the table's.
        absent: why there is no number.
    """

    id: str
    parts: Mapping[Key, MeanOver] = field(default_factory=dict)
    held_out: str = ""
    models: Sequence[str] = ()
    lacks: Sequence[str] = ()
    absent: str = ""


def key_of(table: PublishedTable, cell: PublishedNumber) -> Key:
    """Return (test, train); the poster on segmenters does not say which of two sets its Repaint is, ours is the 9k."""
    if table.axes in (BUDGETS, DETECTION):
        return cell.col, cell.row
    generic = table.cols_axis == "quantity" and cell.row == REPAINT.removesuffix("-9k")
    return (REPAINT if generic else cell.row), cell.col


def side(study: Study, table: PublishedTable) -> Side:
    """Return our numbers for a table: of each of its models, those of ours that fill most of it and lack least."""
    if table.axes == PIPELINES:
        return _pipelines(study, table)
    if table.axes == ATTRIBUTION and (routed := _recalls(study, table)):
        return routed
    found = place.pairs(study, [_with_twins(table)])
    by_model: dict[str, dict[str, list[Pair]]] = {}
    for pair in (pair for pair in found if pair.matched and not study.random_weights and _is_way(pair)):
        by_model.setdefault(_model(pair), {}).setdefault(pair.where, []).append(pair)
    best = [min(each.values(), key=lambda ours: (-len(ours), len(_lacks(ours)))) for each in by_model.values()]
    used = [pair for each in best for pair in each]
    if not used:
        why = RANDOM if study.random_weights else place.missing(study, table, found)
        return _with_composite(study, table, _by_counts(study, table, Side(table.id, absent=why)))
    parts = {
        key_of(table, pair.published): MeanOver(
            tuple((group, test) for group, domains in pair.place.cells for test in domains), pair.place.metric
        )
        for pair in used
    }
    models = dict.fromkeys(_words(pair.place.cells[0][0]) for pair in used if pair.where)
    whole = Side(table.id, parts, table.held_out, [*models], _lacks(used))
    return _with_composite(study, table, _by_counts(study, table, whole))


def _by_counts(study: Study, table: PublishedTable, whole: Side) -> Side:
    """Return numbers with those of mixtures that a table of budgets or means has, and that stand in no table here.

    Such a model is told by its maps, its decoder and how many images of which domains it is trained on.
    """
    if table.axes not in (BUDGETS, MEANS) or study.random_weights or place.apart(study, table):
        return whole
    parts, models, lacks = dict(whole.parts), dict.fromkeys(whole.models), dict.fromkeys(whole.lacks)
    for cell in table.cells.values():
        key, tests = key_of(table, cell), [str(cell.col)] if table.axes == BUDGETS else [*ALL]
        group = next((one for one in study.groups if _is_exactly(one, cell)), None)
        if group is not None and key not in parts and {*tests} <= {*study.tested}:
            parts[key] = MeanOver(tuple((group, test) for test in tests))
            models |= dict.fromkeys([_words(group)])
            lacks |= dict.fromkeys(gaps(cell, table.protocol, tests[0], place.setting(study, group)))
    return replace(whole, parts=parts, models=[*models], lacks=[*lacks])


def _is_exactly(group: Group, cell: PublishedNumber) -> bool:
    spec = group.first.trial.spec
    fresh = spec.start is None and not spec.parts
    return fresh and spec.train.counts == cell.requires.get("train") and fits(cell.requires, spec)


def _pipelines(study: Study, table: PublishedTable) -> Side:
    """Return our numbers for a table of pipelines by test domains: of fakes alone, or with the reals beside them."""
    why = RANDOM if study.random_weights else "the data are built-in" if study.built_in else ""
    if why or (why := place.other_protocol(study, table)):
        return Side(table.id, absent=why)
    found = two_step.find(study, table)
    parts: dict[Key, MeanOver] = {
        (str(row), str(col)): MeanOver(((found[str(row)].group, str(col)),), two_step.metric(table))
        for row, col in table.cells
        if str(row) in found and col in study.tested
    }
    gone = [row for row in dict.fromkeys(str(row) for row, _ in table.cells) if row not in found]
    models = [_pipeline(row, one.group) for row, one in found.items()]
    lacks = list(dict.fromkeys(lack for one in found.values() for lack in one.lacks))
    absent = f"not planned: no model here is the pipeline {' or '.join(gone)}" if gone else ""
    return Side(table.id, parts, models=models, lacks=lacks, absent=absent)


def _recalls(study: Study, table: PublishedTable) -> Side | None:
    """Return the recall of a composite's classifier, where maps are scored: None where it routes none here."""
    found = two_step.pipeline(study, CLASSIFIED) if CLASSIFIER in {row for row, _ in table.cells} else None
    if found is None or study.protocol.reads != "map" or study.random_weights or study.built_in:
        return None
    parts: dict[Key, MeanOver] = {
        (CLASSIFIER, test): MeanOver(((found.group, test),), ROUTED_RIGHT.key) for test in CLASSES
    }
    return Side(table.id, parts, models=[f"router of {found.group.case}"])


def _with_composite(study: Study, table: PublishedTable, whole: Side) -> Side:
    """Return numbers of models with that of two steps, where a table of means over the domains has it."""
    key: Key = (STATED["two_step"], "mean")
    found = two_step.pipeline(study, CLASSIFIED) if key in table.cells else None
    if found is None or not {*ALL} <= {*study.tested}:
        return whole
    part = MeanOver(tuple((found.group, test) for test in ALL))
    models = [*whole.models, _pipeline(CLASSIFIED, found.group)]
    return replace(whole, parts={**whole.parts, key: part}, models=models, lacks=[*whole.lacks, *found.lacks])


def _pipeline(row: str, group: Group) -> str:
    return " ".join(dict.fromkeys([row, *([f"({group.case})"] if group.case not in ("", row) else [])]))


def _with_twins(table: PublishedTable) -> PublishedTable:
    """Return a table with the numbers that it would have if a row of another model were of the model of the rest."""
    mixed = [cell for cell in table.cells.values() if cell.status == "mixed_config"]
    twins = [replace(cell, row=f"{cell.row}-same-backbone", requires={}) for cell in mixed]
    return replace(table, cells={**table.cells, **{(cell.row, cell.col): cell for cell in twins}})


def _is_way(pair: Pair) -> bool:
    """Return whether images reach the backbone as the number's did: another way is another model."""
    return all(is_via(pair.published.requires, group.first.trial.spec) for group, _ in pair.place.cells)


def _model(pair: Pair) -> str:
    each = pair.table.axes in (ATTRIBUTION, MEANS)  # each of whose rows is another model
    row: object = pair.published.row if each else None
    if pair.table.rows_axis == "setup":  # as is what is trained with labels and what with masks
        row = sorted(pair.published.requires["train"])
    return str([row, *(pair.published.requires.get(name) for name in FIELDS)])


def _lacks(found: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(lack for pair in found for lack in pair.lacks))


def _words(group: Group) -> str:
    spec = group.first.trial.spec
    return ", ".join(filter(None, [recipe.maps(spec), recipe.decoder(spec), group.case]))


def configurations(study: Study) -> Side:
    """Return the mean test IoU of each architecture and encoder, over losses, in the stage that has most of them."""
    stages: dict[str, dict[str, list[Group]]] = {}
    for group in _segmenters(study):
        decoder = group.first.trial.spec.decoder
        stages.setdefault(group.stage, {}).setdefault(f"{decoder.architecture}/{decoder.encoder}", []).append(group)
    most = max(stages.values(), key=len, default={})
    return _own("configurations", study, most, "no stage compares architectures and encoders")


def losses(study: Study) -> Side:
    """Return the mean test IoU of each loss of the trained segmenter, over all it was crossed with."""
    found: dict[str, list[Group]] = {}
    for group in _segmenters(study):
        found.setdefault(group.first.trial.spec.loss.name, []).append(group)
    return _own("losses", study, found, "no segmenter is trained with several losses")


def blur(study: Study) -> Side:
    """Return the mean IoU on domains that were not trained on, with blurred training images and without."""
    found: dict[str, list[Group]] = {}
    for group in _segmenters(study):
        augment = group.first.trial.spec.augment
        names = {op.name for op in augment.ops} if augment else {"none"}
        if names <= {"blur", "none"}:
            found.setdefault(names.pop(), []).append(group)
    whole = _own("blur", study, found, "no segmenter is trained with and without blur")
    unseen = {
        key: MeanOver(tuple((group, test) for group, test in part.models if test not in _trained(group)))
        for key, part in whole.parts.items()
    }
    return replace(whole, parts={key: part for key, part in unseen.items() if part.models})


def areas(study: Study) -> Side:
    """Return mean IoU of Patches and its slope over mask area, by setup and by the source of its photographs."""
    name, parts, models = "areas", dict[Key, MeanOver](), dict[str, None]()
    for group in study.groups if not study.random_weights else ():
        spec = group.first.trial.spec
        setup, sources = setups.setup(spec), {domain.partition("/")[0] for domain in setups.trained(spec)}
        patches = setups.is_method(setups.PATCHES, spec) and setup and len(sources) == 1
        if not patches or not group.score([SOURCES_TEST]) or setups.generators(spec) - setups.USED[setup]:
            continue
        source = sources.pop()
        tested = ((group, SOURCES_TEST),)
        parts.setdefault((setup, f"{source}/{IOU}"), MeanOver(tested))
        parts.setdefault((setup, f"{source}/slope"), MeanOver(tested, IOU_SLOPE.key))
        models.setdefault(_words(group))
    why = RANDOM if study.random_weights else "no Patches of Dolos' setups is scored on its test set here"
    return Side(name, parts, models=[*models], absent="" if parts else why)


def _own(name: str, study: Study, found: Mapping[str, Sequence[Group]], absent: str) -> Side:
    gone = [f"this study has no {domain}" for domain in ALL if domain not in study.tested]
    why = [*([RANDOM] if study.random_weights else gone), *([absent] if len(found) < 2 else [])]
    if why:
        return Side(name, absent=why[0])
    parts: dict[Key, MeanOver] = {
        (row, IOU): MeanOver(tuple((group, test) for group in groups for test in study.record.domains))
        for row, groups in found.items()
    }
    return Side(name, parts, models=["mean over all other axes"])


def _segmenters(study: Study) -> list[Group]:
    return [group for group in study.groups if group.first.trial.spec.decoder.name == "smp"]


def _trained(group: Group) -> set[str]:
    return {domain for domain, count in group.first.trial.spec.train.counts.items() if count}
