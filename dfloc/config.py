"""What determines a trial and an evaluation, and the key that follows from it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dfloc.augmentation import AugmentSpec
from dfloc.components import DecoderSpec as DecoderSpec  # specs have one door, this module
from dfloc.components import LossSpec as LossSpec
from dfloc.components import Measure as Measure
from dfloc.components import OptimizerSpec as OptimizerSpec
from dfloc.components import ScheduleSpec as ScheduleSpec
from dfloc.frozen import Frozen, Whole, fingerprint
from dfloc.ids import MapName
from dfloc.measures import MEASURES, WATCHED
from dfloc.registry import COMPOSITE, SEMANTICS

Checkpoint = Literal["best", "last"]
Selection = Literal[*MEASURES, "last"]  # type: ignore[valid-type]


class SampleList(Frozen):
    """The samples that a trial trains, validates or is tested on.

    Attributes:
        digest: sha256 over the sorted (id, image sha256, mask sha256, mask kind); all that enters keys.
        counts: images of each domain, as asked and found (recorded).
        asked: the mixture as it was asked for (recorded).
    """

    digest: str
    counts: dict[str, int]
    asked: dict[str, Any] = {}  # noqa: RUF012

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(self.counts.values())


class MapRecipe(Frozen):
    """How the numbers of one map come about.

    Attributes:
        map: `<backbone>/<map>`.
        weights: digest over the loaded tensors, `random:<seed>`, or `none`.
        input_size: side of the square image that the backbone sees, in pixels.
        resize: how the stored image is brought there, and by which library.
        compute: dtype of the backbone's arithmetic.
        stored: dtype of the stored map.
        semantics: numbers of the decoding and of the adapter.
        plugin: digest of a plug-in's file.
        via: side to which PIL brings the stored image before the backbone's own resize to `input_size`; none: at once.
    """

    map: str
    weights: str
    input_size: int
    resize: str
    compute: str = "float32"
    stored: str = "float16"
    semantics: dict[str, int]
    plugin: str | None = None
    via: Annotated[Whole, Field(ge=1)] | None = None

    @property
    def name(self) -> MapName:
        """Its map, taken apart."""
        return MapName.of(self.map)

    @property
    def fingerprint(self) -> str:
        """The folder of this recipe in the feature store."""
        return fingerprint(self.model_dump(exclude_defaults=True))


class InitFrom(Frozen):
    """Whose weights a trial starts from."""

    parent: str
    checkpoint: Checkpoint = "best"


class Imported(Frozen):
    """A trial that was trained elsewhere; `imported`: sha256 of the file of its decoder's weights."""

    imported: str


class Lineage(Frozen):
    """What the ancestors trained on (recorded; their fingerprints are in the key).

    Attributes:
        seen: domains of all ancestors.
        base: domains of the root ancestor; of the trial itself where it has none.
        root: fingerprint of the root ancestor; empty where the trial has none.
        exposure: images of families that the root did not train on, over all ancestors; see `summary.params` too.
        families: of these domains, where a person gave another than the generator's name.
    """

    seen: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    root: str = ""
    exposure: int = 0
    families: dict[str, str] = Field(default_factory=dict)


Task = Literal["localize", "detect", "attribute"]
Targets = Literal["own", "shuffled", "label"]
Labels = Literal["own", "shuffled"]


class TrialSpec(Frozen):
    """Everything that determines a trial's weights, resolved, and what is recorded with it.

    Attributes:
        maps: recipes, concatenated in this order on the first one's grid; of a composite none.
        epochs: passes over the training list; with `epoch_steps`, so many steps each of an endless permuted stream.
        select: what names the best epoch: a validation measure (`measures.MEASURES`) | last.
        task: localize (which pixels are fake) | detect (whether an image is) | attribute (by which generator).
        classes: of attribute, in the order of its logits: real, then families of domains; of other tasks none.
        targets: own | shuffled (each image gets another one's mask: a control) | label (all of a fake is fake).
        labelled: the part of `train` whose masks are not read, but labels alone; reals and whole fakes, of which both
            say the same, are left out of it.
        labels: own | shuffled (each of `labelled`, reals too then, gets another one's label: a control).
        augment: how training images are changed; none: not at all.
        precision: dtype of the training arithmetic.
        init: where weights start: nothing, by role ("decoder") another trial's checkpoint, or trained elsewhere; of a
            composite its parts (`parts`).
    """

    train: SampleList
    valid: SampleList
    maps: tuple[MapRecipe, ...]
    decoder: DecoderSpec
    loss: LossSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    epochs: Annotated[Whole, Field(ge=1)]
    epoch_steps: Annotated[Whole, Field(ge=1)] | None = None
    batch: Annotated[Whole, Field(ge=1)]
    seed: Annotated[Whole, Field(ge=0)] = 0
    select: Selection = WATCHED
    task: Task = "localize"
    classes: tuple[str, ...] = ()
    targets: Targets = "own"
    labelled: SampleList | None = None
    labels: Labels = "own"
    precision: Literal["fp32", "bf16"] = "fp32"
    init: dict[str, InitFrom] | Imported = {}  # noqa: RUF012
    augment: AugmentSpec | None = None
    lineage: Lineage = Lineage()

    @property
    def key(self) -> dict[str, Any]:
        """What is hashed: fields that differ from their default, digests of lists, semantics of the components."""
        lists = {"train": self.train, "valid": self.valid, "labelled": self.labelled}
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"lineage", *lists})
        semantics = {name: SEMANTICS[name] for name in self._components()}
        return fields | {name: one.digest for name, one in lists.items() if one} | {"semantics": semantics}

    @property
    def fingerprint(self) -> str:
        """The trial's name in the ledger: 64 hexadecimal digits."""
        return fingerprint(self.key)

    @property
    def start(self) -> InitFrom | None:
        """The checkpoint of another trial that the decoder starts from."""
        return self.init.get("decoder") if isinstance(self.init, dict) and not self.parts else None

    @property
    def parts(self) -> dict[str, InitFrom]:
        """Of a composite the trials that it is made of: `route` and one by class, or several by number; else none."""
        return self.init if isinstance(self.init, dict) and self.decoder.name == COMPOSITE else {}

    def _components(self) -> tuple[str, ...]:
        """Return what has a semantics number: all but what comes from a plug-in, which has a digest."""
        decoder = () if self.decoder.plugin else (f"decoder/{self.decoder.name}",)
        losses = dict.fromkeys(f"loss/{term.name}" for term in (self.loss, *self.loss.terms) if not term.plugin)
        return ("engine", "target", *decoder, *losses, *(("augment",) if self.augment else ()))

    @property
    def masked(self) -> dict[str, int]:
        """Images of each domain of which more than the label is read, where there is more."""
        weak = self.train.counts if self.targets == "label" else self.labelled.counts if self.labelled else {}
        return {domain: count - weak.get(domain, 0) for domain, count in self.train.counts.items()}

    @property
    def taught(self) -> str:
        """What its targets are, in words: `targets`, and labels beside."""
        beside = {"own": " and label", "shuffled": " and shuffled label"}
        return self.targets + (beside[self.labels] if self.labelled else "")

    @property
    def num_classes(self) -> int | None:
        """How many classes of images it tells apart; None where it localizes."""
        return {"localize": None, "detect": 2, "attribute": len(self.classes)}[self.task]

    @property
    def steps(self) -> int:
        """Optimiser steps from the first to the last epoch."""
        per_epoch = self.epoch_steps or -(-self.train.size // self.batch)
        return per_epoch * self.epochs


class ExplainSpec(Frozen):
    """How a map is read off a model that answers once an image.

    Attributes:
        name: grad-cam (Selvaraju et al. 2017).
        layer: whose maps are weighed (`models.explain.layer_of`).
    """

    name: Literal["grad-cam"] = "grad-cam"
    layer: str

    @property
    def called(self) -> str:
        """What stands in rows and tables."""
        return f"{self.name} {self.layer}"


class EvaluationSpec(Frozen):
    """One checkpoint of a trial on one domain's split under one condition and one protocol.

    Attributes:
        trial: fingerprint.
        test: the samples: one domain, one split.
        plugin: digest of the plug-in that the protocol comes from.
        explain: what gives the maps that are measured; none: the model does, or there are none.
    """

    trial: str
    checkpoint: Checkpoint
    domain: str
    split: Literal["train", "valid", "test"] = "test"
    test: SampleList
    condition: str = "clean"
    protocol: str
    plugin: str | None = None
    explain: ExplainSpec | None = None

    @property
    def key(self) -> str:
        """The name of its rows: 64 hexadecimal digits."""
        rule = {"plugin": self.plugin} if self.plugin else {"semantics": SEMANTICS[f"protocol/{self.protocol}"]}
        own = self.model_dump(include={"trial", "checkpoint", "condition", "protocol"})
        if self.explain:
            number = SEMANTICS[f"explain/{self.explain.name}"]
            own["explain"] = {**self.explain.model_dump(), "semantics": number}
        return fingerprint(own | {"test": self.test.digest} | rule)
