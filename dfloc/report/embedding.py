"""Do the classes lie apart in what a model makes of an image? Nearest neighbours in numbers, t-SNE as a picture.

What was measured lies in `reports/<sweep>/tsne/`, so that a second report does no work and needs neither data nor
weights. Features come from stored maps on the CPU; nothing is trained, and no backbone is run.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from upath import UPath

from dfloc import rows_file
from dfloc.data.manifest import SampleRef
from dfloc.errors import DataError, WorkspaceError
from dfloc.frozen import fingerprint
from dfloc.metrics import intervals, neighbours
from dfloc.metrics.image_rows import REAL
from dfloc.metrics.intervals import Images, Training
from dfloc.metrics.metric import IMAGE_ACCURACY
from dfloc.report import captions, images, table
from dfloc.report.chart import COLOURS, GREY, Figure, LegendKey, Mark, Panel, Points, Series
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.models import Model, best, models
from dfloc.report.results import Result
from dfloc.report.table import Cell, Column, Table
from dfloc.report.words import counted
from dfloc.storage import Workspace

SEMANTICS = 1  # raised where the same weights and images give other numbers
MOST = 200  # images of a class
MODELS = 12
BATCH = 32
LATER = "the page builds it with its panel of images: dfloc report NAME"
MEANS_NOTHING = "random weights, or from scratch on built-in data, so that it would mean nothing"
SHAPES = ("circle", "square", "triangle-up", "diamond")
COLUMNS = ("id", "class", "stem", "x", "y", "right", "silhouette", "trustworthiness", "features")

Listed = Callable[[tuple[tuple[str, str], ...]], Sequence[SampleRef]]


class Space(NamedTuple):
    """The feature space of one training; `rows`: `COLUMNS` of each image."""

    model: Model
    rows: pa.Table

    @property
    def accuracy(self) -> Estimate | None:
        """Balanced accuracy of the nearest neighbours; None where no image has one of another source image."""
        stems = np.unique(self._of("stem"), return_inverse=True)[1]
        mine = [self._of("class") == name for name in self.classes]
        parts = [Images(self._of("right")[one], stems[one]) for one in mine]
        found = intervals.mean([Training(0, 0, parts)], IMAGE_ACCURACY.bounds)
        if found is None:
            return None
        value, low, high, photographs, runs, _ = found.interval()
        return Estimate(value, low, high, runs, photographs, metric=IMAGE_ACCURACY)

    @property
    def classes(self) -> list[str]:
        """The classes of its images."""
        return list(dict.fromkeys(self.rows["class"].to_pylist()))

    def mean(self, column: str) -> float | None:
        """Return the mean of a column; None where it has no number."""
        found = self._of(column)
        return None if np.isnan(found).any() else float(found.mean())

    def marks(self, name: str) -> list[Mark]:
        """Return the places of the images of a class."""
        mine = self._of("class") == name
        return [Mark(float(x), float(y)) for x, y in zip(self._of("x")[mine], self._of("y")[mine], strict=True)]

    @property
    def words(self) -> str:
        """Its numbers."""
        found, silhouette, trust = self.accuracy, self.mean("silhouette"), self.mean("trustworthiness")
        said = [f"10-NN balanced accuracy {found.words()}" if found else "no image of another source image"]
        said += [] if silhouette is None else [f"silhouette {silhouette:.3f}"]
        return ", ".join([*said, *([] if trust is None else [f"trustworthiness of the picture {trust:.3f}"])])

    def _of(self, column: str) -> NDArray[Any]:
        return np.asarray(self.rows[column].to_pylist())


class Spaces(NamedTuple):
    """Those that are there, and a sentence for those that are not."""

    found: Sequence[Space] = ()
    notes: Sequence[str] = ()


def spaces(workspace: Workspace, study: Study, shards: UPath | None = None, *, make: bool = True) -> Spaces:
    """Return the feature spaces of a study's models of images: of each its first training.

    Args:
        workspace: of weights, stored maps, lists, and what earlier reports kept.
        study: that is shown.
        shards: folder of the data; None = that of the data's name in the workspace.
        make: whether what is not kept is measured and kept.
    """
    if study.protocol.reads == "map":
        return Spaces()
    place, start = shards or workspace.shards / study.record.data, time.monotonic()

    @cache
    def find(lists: tuple[tuple[str, str], ...]) -> Sequence[SampleRef]:
        return _chosen(images.references(workspace, place, lists).values(), study.record.families)

    found, lost = list[Space](), dict[str, list[str]]()
    every = models(study)
    shown = best(study, every, MODELS)
    for model in sorted(shown, key=lambda one: one.spec.decoder.name == "timm"):  # what runs whole networks comes last
        try:
            in_time = time.monotonic() - start <= images.LIMIT_S
            late = "" if in_time else f"left out after {images.LIMIT_S:.0f} s; build the report again"
            found.append(Space(model, _rows(workspace, study, _first(model), find, late if make else LATER)))
        except images.LOST as error:
            lost.setdefault(images.first_line(error), []).append(model.name)
    found.sort(key=lambda space: shown.index(space.model))
    notes = [f"The feature space of {', '.join(names)} is not shown: {why}." for why, names in lost.items()]
    more = len(every) - len(shown)
    return Spaces(found, [*notes, *([f"{counted(more, 'more model')} left out."] if more else [])])


def blocks(study: Study, of: Spaces) -> list[Figure | Table]:
    """Return the picture of each space under its number, and a table of all numbers; each where there is one."""
    drawn, made = _figure(study, of), _numbers(study, of)
    return [*([drawn] if drawn.panels else []), *([made] if made.rows else [])]


def _figure(study: Study, of: Spaces) -> Figure:
    shown = [space for space in of.found if space.mean("x") is not None]
    names = list(dict.fromkeys(name for space in shown for name in space.classes))
    look = _looks(names)
    return Figure(
        id="fig-neighbours",
        title="Feature spaces by t-SNE.",
        caption="A picture proves nothing; the number beside it does, which is of the features themselves. A point is "
        "a test image; axes, the distances between groups and their sizes mean nothing. Of the first "
        f"{neighbours.COMPONENTS} principal components of the standardised features, perplexity "
        f"{neighbours.PERPLEXITY:.0f} or a third of the images.",
        source=captions.provenance(study, [_group(space) for space in shown])[1:2],
        panels=[_panel(space, look) for space in shown],
        legend=[LegendKey(name, colour, "", shape) for name, (colour, shape) in look.items()],
        numbers="neighbours",
    )


def _numbers(study: Study, of: Spaces) -> Table:
    columns: list[Column[Space]] = [
        Column("Model", lambda space: Cell(space.model.name), words=True),
        Column("Trained on", lambda space: Cell(space.model.columns[0].name), words=True, small=True),
        Column("Seed", lambda space: Cell(str(_first(space.model).trial.spec.seed)), small=True),
        Column("10-NN", lambda space: table.estimate(space.accuracy, "one source image")),
        Column("Silhouette", lambda space: table.number(space.mean("silhouette"))),
        Column("Trustworthiness", lambda space: table.number(space.mean("trustworthiness")), under="of t-SNE"),
        Column("Features", lambda space: Cell(f"{space.rows['features'][0].as_py():,}"), small=True),
        Column("Classes", lambda space: Cell(str(len(space.classes))), small=True),
        Column("Images", lambda space: Cell(f"{len(space.rows):,}"), small=True),
    ]
    return Table(
        id="neighbours",
        title="Nearest neighbours in the feature space.",
        caption="Features: what the last linear layer of a model reads of a test image, standardised; best epoch, the "
        f"first training and seed of each model, the first {MOST} images of each class in the data's own order. "
        "Classes: reals, and each family of fakes, of a detector too. 10-NN: an image is called what most of the ten "
        "nearest are, which are looked for among other source images, since a "
        "real and its fakes are one photograph; the mean over classes of the share that is right, so chance is one by "
        "their number. Its interval is over the source images of those that are called, whose neighbours stay. "
        "Silhouette: from -1 to 1, how much nearer the own class is than the next, the own source image too. "
        "Trustworthiness: how far neighbours in the picture are neighbours in the space.",
        source=captions.provenance(study, [_group(space) for space in of.found])[1:2],
        columns=columns,
        rows=table.rows(columns, [of.found]),
        best="",
        notes=of.notes,
        trials=frozenset(_first(space.model).trial.fingerprint for space in of.found),
    )


def _rows(workspace: Workspace, study: Study, model: Result, find: Listed, why_not: str) -> pa.Table:
    """Return what is kept of a training's space; else measure and keep it, unless there is a reason not to.

    Raises:
        DflocError, OSError, RuntimeError, ValueError: weights, stored maps or data are gone, or broken.
    """
    done, trial = model.done, model.trial.fingerprint
    if model.path_only:
        raise WorkspaceError(MEANS_NOTHING)
    lists = tuple((name, of.spec.test.digest) for name, of in model.best.items() if name in _tested(study))
    if done is None or not lists:
        raise WorkspaceError("it is not finished, or has no test images")
    determined = [SEMANTICS, MOST, trial, done.digests["best"], sorted(lists), study.record.families]
    folder = workspace.report(study.record.sweep) / "tsne"
    path = folder / f"{trial[:24]}-{fingerprint(determined)[:24]}.parquet"
    try:
        if rows_file.receipt(path, trial) is not None:
            return rows_file.read(path, trial).select(COLUMNS)
        images.log.info("%s says not what it is of, and is made again", path)
    except (WorkspaceError, KeyError) as error:
        images.log.info("a feature space is measured anew: %s", error)
    if why_not:
        raise WorkspaceError(why_not)
    refs = find(lists)
    rows_file.put(path, trial, made := _measured(refs, _features(workspace, model, refs), study.record.families))
    return made


def _measured(refs: Sequence[SampleRef], feature_ND: neighbours.Floats, families: Mapping[str, str]) -> pa.Table:
    from dfloc.engine.labels import class_of

    classes, stems = [class_of(ref, families) for ref in refs], [ref.stem for ref in refs]
    found = neighbours.apart(feature_ND, classes, stems)
    values = [
        [ref.id for ref in refs],
        classes,
        stems,
        found.xy_N2[:, 0],
        found.xy_N2[:, 1],
        found.right_N,
        found.silhouette_N,
        np.full(len(refs), found.trustworthiness),
        np.full(len(refs), feature_ND.shape[1]),
    ]
    return pa.table(dict(zip(COLUMNS, values, strict=True)))


def _features(workspace: Workspace, model: Result, refs: Sequence[SampleRef]) -> neighbours.Floats:
    """Return what the last layer of a model reads of samples, float64 [N, D], from stored maps."""
    import torch

    from dfloc import arithmetic
    from dfloc.engine.batches import StoredMaps
    from dfloc.engine.predict import trained
    from dfloc.features.store import FeatureStore
    from dfloc.ledger import Ledger
    from dfloc.models.penultimate import penultimate

    spec = model.trial.spec
    decoder = trained(spec, Ledger(workspace).weights(spec.fingerprint, "best"))
    maps = StoredMaps(FeatureStore(workspace.features), spec.maps, tokens=spec.decoder.reads_tokens)
    starts = range(0, len(refs), BATCH)
    with arithmetic.exact(torch.get_num_threads()), torch.inference_mode():
        found = torch.cat([penultimate(decoder, maps.read(refs[start : start + BATCH])) for start in starts])
    feature_ND: neighbours.Floats = found.double().numpy()
    return feature_ND


def _chosen(refs: Iterable[SampleRef], families: Mapping[str, str]) -> list[SampleRef]:
    """Return the first images of each class in rank order, by turns where several lists are of one class.

    Raises:
        DataError: there is none.
    """
    from dfloc.engine.labels import class_of

    by_list: dict[tuple[str, str], list[SampleRef]] = {}
    for ref in refs:
        by_list.setdefault((class_of(ref, families), ref.domain), []).append(ref)
    found = list[SampleRef]()
    for name in sorted({each for each, _ in by_list}, key=lambda each: (each != REAL, each)):
        turns = zip_longest(*(many for (each, _), many in by_list.items() if each == name))
        found += [ref for turn in turns for ref in turn if ref is not None][:MOST]
    if not found:
        raise DataError("its test lists are empty")
    return found


def _tested(study: Study) -> Sequence[str]:
    return [*study.tested, *study.reals]


def _group(space: Space) -> Group:
    return space.model.columns[0].group


def _first(model: Model) -> Result:
    return model.columns[0].group.first


def _looks(names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the colour and marker of each class; reals are grey."""
    fakes = [name for name in names if name != REAL]
    places = {name: divmod(place, len(COLOURS)) for place, name in enumerate(fakes)}
    found = {name: (COLOURS[place], SHAPES[turn % len(SHAPES)]) for name, (turn, place) in places.items()}
    return {name: found.get(name, (GREY, "circle")) for name in names}


def _panel(space: Space, look: Mapping[str, tuple[str, str]]) -> Panel:
    found = space.accuracy
    series = [Series(name, space.marks(name), *_drawn(*look[name])) for name in space.classes]
    title = f"{space.model.name}: 10-NN {found.value:.2f}" if found else space.model.name
    return Panel(title, Points(series), f"{space.words}; {len(space.rows):,} images of {', '.join(space.classes)}.")


def _drawn(colour: str, shape: str) -> tuple[str, str, str, float, float]:
    return colour, "", shape, 0, 4
