"""Which of our models stands for which number of a published table: by what they are, never by position."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dfloc.config import TrialSpec
from dfloc.report import captions
from dfloc.report.beside import setting
from dfloc.report.budgets import lines
from dfloc.report.comparable import fits, gaps
from dfloc.report.controls import blocks
from dfloc.report.formulas.numbers import TRAIN_ALL, Key, without
from dfloc.report.formulas.segmenters import IOU
from dfloc.report.groups import Group, Study
from dfloc.report.published import Table
from dfloc.report.resample import Part

EXPOSURE = ("test_domain", "num_samples_of_held_out_domain")
FIELDS = ("maps", "decoder", "model", "input")


@dataclass(frozen=True)
class Side:
    """Our numbers for one table.

    Attributes:
        id: of the table, or of numbers that no document prints.
        parts: by key as in the published matrix.
        held_out: as in the published table.
        model: what our model is.
        gaps: what it differs in from the table's.
        absent: why numbers are missing.
    """

    id: str
    parts: Mapping[Key, Part]
    held_out: str = ""
    model: str = ""
    gaps: tuple[str, ...] = ()
    absent: str = ""


def sides(study: Study, tables: Sequence[Table]) -> list[Side]:
    """Return our numbers for each of a claim's tables; the tables of curves give way to the study's own domains.

    A model stands for a table's where its maps, decoder and input size are the same. Where all tables are of one model
    and the study has only one of its own, that one stands in, and is named.
    """
    if tables and all(_axes(table) == EXPOSURE for table in tables):
        return [_curve(study, tables, held_out) for held_out in study.record.domains]
    alone = len({_identity(table) for table in tables}) == 1
    return [_side(study, table, alone) for table in tables]


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
    side = _own("blur", study, found, "no segmenter is trained with and without blur")
    unseen = {
        key: Part(tuple((group, test) for group, test in part.models if test not in _trained(group)))
        for key, part in side.parts.items()
    }
    return replace(side, parts={key: part for key, part in unseen.items() if part.models})


def _own(name: str, study: Study, found: Mapping[str, Sequence[Group]], absent: str) -> Side:
    if len(found) < 2:
        return Side(name, {}, absent=absent)
    parts: dict[Key, Part] = {
        (row, IOU): Part(tuple((group, test) for group in groups for test in study.record.domains))
        for row, groups in found.items()
    }
    return Side(name, parts, model="mean over all other axes")


def _segmenters(study: Study) -> list[Group]:
    return [group for group in study.groups if group.first.trial.spec.decoder.name == "smp"]


def _curve(study: Study, tables: Sequence[Table], held_out: str) -> Side:
    table = next((table for table in tables if table.held_out == held_out), None)
    curves = [curve for _, domain, curve in blocks(study) if domain == held_out]
    if not curves:
        return Side(f"held out {held_out}", {}, held_out=held_out, absent=f"no curve holds out {held_out}")
    sides = []
    for curve in curves:
        parts: dict[Key, Part] = {
            (test, n): Part(((group, test),)) for n, group in curve.items() for test in study.record.domains
        }
        used: dict[Key, Group] = {(test, n): group for n, group in curve.items() for test in study.record.domains}
        side = Side(f"held out {held_out}", parts, held_out, _words(next(iter(curve.values()))))
        sides.append(replace(side, gaps=_gaps(study, table, used)) if table else side)
    return min(sides, key=lambda side: len(side.gaps))


def _side(study: Study, table: Table, alone: bool) -> Side:
    if _axes(table) == ("training_data", "test_domain"):
        return _budgets(study, table)
    if _axes(table) == ("decoder_and_map", "split"):
        return _decoders(study, table)
    place = _PLACES.get(_axes(table))
    if place is None:
        return Side(table.id, {}, absent=_elsewhere(table))
    models = _models(study)
    wanted = _identity(table)
    fitting = [groups for groups in models if _fits(dict(wanted), groups[0].first.trial.spec)]
    if not fitting and alone and len({_kind(groups[0]) for groups in models}) == 1:
        fitting = models
    if not fitting:
        return Side(table.id, {}, absent=f"no model of this study has {_asked(table)}")
    sides = [_placed(study, table, groups, place) for groups in fitting]
    return min(sides, key=lambda side: (-len(side.parts), len(side.gaps)))


def _placed(study: Study, table: Table, groups: Sequence[Group], place: "Place") -> Side:
    kinds = {_column_kind(col) for _, col in table.cells}
    found = {
        key: (part, group) for group in groups for key, part in place(study, group) if _column_kind(key[1]) in kinds
    }
    used = {key: group for key, (_, group) in found.items()}
    parts = {key: part for key, (part, _) in found.items()}
    absent = "" if parts else "no model of this study is trained on the data of this table"
    return Side(table.id, parts, "", _words(groups[0]), _gaps(study, table, used), absent)


Place = Callable[[Study, Group], Iterator[tuple[Key, Part]]]


def _matrix(study: Study, group: Group) -> Iterator[tuple[Key, Part]]:
    """Yield the cells of a train x test matrix; of models of one domain, of all but one, of all."""
    if train := _column(study, group):
        for test in study.record.domains:
            yield (test, train), Part(((group, test),))


def _same_domain(study: Study, group: Group) -> Iterator[tuple[Key, Part]]:
    if (train := _column(study, group)) in study.record.domains:
        yield (train, IOU), Part(((group, train),))


def _held_out(study: Study, group: Group) -> Iterator[tuple[Key, Part]]:
    for domain in study.record.domains:
        if _column(study, group) == without(domain):
            yield (domain, IOU), Part(((group, domain),))


def _sources(study: Study, group: Group) -> Iterator[tuple[Key, Part]]:
    """Yield setup C of the table of sources, whose test set is that of CelebA-HQ."""
    trained, test = _trained(group), "celebahq/repaint-p2"
    if len(trained) == 1 and (train := next(iter(trained))) in ("celebahq/repaint-p2", "ffhq/repaint-p2"):
        for metric in (IOU, "pbca"):
            yield ("C", f"{train.partition('/')[0]}/{metric}"), Part(((group, test),), metric)


_PLACES: Mapping[tuple[str, str], Place] = {
    ("test_domain", "train_domain"): _matrix,
    ("test_domain", "training_data"): _matrix,
    ("train_and_test_domain", "quantity"): _same_domain,
    ("held_out_test_domain", "quantity"): _held_out,
    ("setup", "train_source/metric"): _sources,
}


def _decoders(study: Study, table: Table) -> Side:
    """Return the means in and out of domain of each map and decoder, from the matrices of their models."""
    parts: dict[Key, Part] = {}
    used: dict[Key, Group] = {}
    domains = study.record.domains
    for row in dict.fromkeys(row for row, _ in table.cells):
        one = replace(table, cells={key: cell for key, cell in table.cells.items() if key[0] == row})
        fitting = [groups for groups in _models(study) if _fits(dict(_identity(one)), groups[0].first.trial.spec)]
        for groups in sorted(fitting, key=lambda groups: len(_gaps(study, one, {(row, "id"): groups[0]}))):
            cells = {key: part for group in groups for key, part in _matrix(study, group)}
            pairs = [(test, train) for test in domains for train in domains]
            if (row, "id") in parts or any(pair not in cells for pair in pairs):
                continue
            for split in ("id", "ood"):
                wanted = [cells[test, train].models[0] for test, train in pairs if (test == train) == (split == "id")]
                parts[row, split], used[row, split] = Part(tuple(wanted)), groups[0]
    absent = "no model of this study has the map and decoder of this table's rows on every domain"
    return Side(table.id, parts, "", "", _gaps(study, table, used), absent)


def _budgets(study: Study, table: Table) -> Side:
    parts: dict[Key, Part] = {}
    used: dict[Key, Group] = {}
    for line in lines(study):
        for test, group in line.models.items():
            parts[test, line.name], used[test, line.name] = Part(((group, test),)), group
    published = {(test, row): cell for (row, test), cell in table.cells.items()}
    absent = "no budget of this study has the name of the table's row"
    return Side(table.id, parts, gaps=_gaps(study, replace(table, cells=published), used), absent=absent)


def _axes(table: Table) -> tuple[str, str]:
    return table.rows_axis, table.cols_axis


def _identity(table: Table) -> tuple[tuple[str, Any], ...]:
    """Return what a table requires of the model, of its first cell."""
    requires = next(iter(table.cells.values())).requires
    return tuple((name, _frozen(requires[name])) for name in FIELDS if name in requires)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _asked(table: Table) -> str:
    return ", ".join(f"{' + '.join(map(str, v)) if isinstance(v, tuple) else v}" for _, v in _identity(table))


def _fits(wanted: Mapping[str, Any], spec: TrialSpec) -> bool:
    via, _ = wanted.get("input", (None, None))
    return fits(wanted, spec) and (via is None or spec.maps[0].via == via)


def decoder_words(spec: TrialSpec) -> str:
    """Return what the documents call a decoder: conv-N, else its name."""
    return f"conv-{spec.decoder.depth}" if spec.decoder.name == "conv" else spec.decoder.name


def _models(study: Study) -> list[list[Group]]:
    """Return the models of a study without a parent, each with its groups of all training data."""
    found: dict[tuple[Any, ...], list[Group]] = {}
    for group in study.groups:
        spec = group.first.trial.spec
        if group.first.trial.parent is None and spec.decoder.name not in captions.BASELINES:
            amount = [group.axes[axis] for axis, fact in group.told.items() if fact in ("n", "count")]
            key = (_kind(group), group.case, group.facet, *amount)
            found.setdefault(key, []).append(group)
    return list(found.values())


def _kind(group: Group) -> tuple[Any, ...]:
    spec = group.first.trial.spec
    decoder = spec.decoder
    return tuple(recipe.map for recipe in spec.maps), decoder_words(spec), decoder.architecture, decoder.encoder


def _words(group: Group) -> str:
    maps, decoder, architecture, encoder = _kind(group)
    return ", ".join(filter(None, [" + ".join(maps), decoder, architecture, encoder, group.case]))


def _trained(group: Group) -> set[str]:
    return {domain for domain, count in group.first.trial.spec.train.counts.items() if count}


def _column(study: Study, group: Group) -> str:
    """Return what a matrix calls the data that a model is trained on; empty where it has no column for them."""
    trained, domains = _trained(group), study.record.domains
    if len(trained) == 1:
        return next(iter(trained))
    left = [domain for domain in domains if domain not in trained]
    if trained - set(domains) or len(left) > 1:
        return ""
    return without(left[0]) if left else TRAIN_ALL


def _column_kind(name: str | int) -> str:
    return str(name).partition("-")[0] if str(name).startswith((without(""), TRAIN_ALL)) else "one"


def _gaps(study: Study, table: Table | None, used: Mapping[Key, Group]) -> tuple[str, ...]:
    """Return what our models differ in from what a table requires, each once."""
    found: dict[str, None] = {}
    for key, cell in (table.cells if table else {}).items():
        if table and key in used:
            n = int(key[1]) if _axes(table) == EXPOSURE else None
            found |= dict.fromkeys(
                gaps(replace(cell, status="ok"), table.protocol, str(key[0]), setting(study, used[key], n))
            )
    return tuple(found)


def _elsewhere(table: Table) -> str:
    if table.metric == "data_reduction":
        return "arithmetic on sizes: there is no trial to run"
    return f"no study here has {table.rows_axis} by {table.cols_axis} (table {table.id})"
