"""What determines a trial and an evaluation, and the key that follows from it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dfloc.augmentation import AugmentSpec
from dfloc.frozen import Fraction, Frozen, Real, Whole, fingerprint
from dfloc.ids import MapName
from dfloc.measures import MEASURES, WATCHED
from dfloc.registry import SEMANTICS, TOKENS

Checkpoint = Literal["best", "last"]
Measure = Literal[*MEASURES]  # type: ignore[valid-type]
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


class DecoderSpec(Frozen):
    """What is trained on the maps; each decoder reads some of the fields (`registry.DECODER_FIELDS`).

    Attributes:
        name: conv, linear, attention; smp, xception or timm, trained end to end on `pixels`; or a baseline, solved.
        depth: N of conv-N, a multiple of 4: depth / 4 convolutions in each stage, and the last one, not counted.
        channels: width of each stage.
        out_size: side of the grid of the last convolution in pixels; logits are resized to 256 from there.
        init: default (PyTorch's) | declip (N(0, 0.02) on every weight and BatchNorm's scale; of `attention` the head).
        prior: share of fake pixels at which the output's bias starts; none: as `init` has it.
        standardize: inputs less mean, over deviation, per channel of the training images.
        batch_norm: train | frozen (statistics and affine of the parent never move).
        plugin: digest of the plug-in's file that the name comes from.
        grid: side of the grid to which maps are resized, bilinearly, before the first layer; none: the first map's own.
        mask: which tokens one of `attention` sees: none = all of them | causal = those before it and itself.
        trained: which weights of `attention` move: all | declip (the first layers of its MLPs and the head).
        architecture: of segmentation_models_pytorch: fpn, unet, unetplusplus, ...
        encoder: its encoder, such as resnet50.
        weights: digest of the tensors that the encoder, or model, starts from; none: drawn by the trial's seed.
        block: after which block Xception's trunk ends.
        pool: of `linear`, a vector of each map: cls (its CLS token) | mean | max | mean+max; none: it is one, or stays.
        model: of timm, such as xception41.
    """

    name: str
    depth: Annotated[Whole, Field(ge=4, multiple_of=4)] = 12
    channels: tuple[Annotated[Whole, Field(ge=1)], ...] = (512, 256, 128, 64)
    out_size: Annotated[Whole, Field(ge=1)] = 256
    init: Literal["default", "declip"] = "default"
    prior: Annotated[Real, Field(gt=0, lt=1)] | None = None
    standardize: bool = False
    batch_norm: Literal["train", "frozen"] = "train"
    plugin: str | None = None
    grid: Annotated[Whole, Field(ge=1)] | None = None
    mask: Literal["none", "causal"] = "none"
    trained: Literal["all", "declip"] = "all"
    architecture: str | None = None
    encoder: str | None = None
    weights: str | None = None
    block: Annotated[Whole, Field(ge=1, le=12)] | None = None
    pool: Literal["cls", "mean", "max", "mean+max"] | None = None
    model: str | None = None

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads all tokens of its maps, CLS first, as a grid of one row [B, C, 1, T]."""
        return self.name in TOKENS or self.pool == "cls"


class LossSpec(Frozen):
    """What is minimised; each loss reads some of the fields (`registry.LOSS_FIELDS`).

    Attributes:
        name: bce, dice, focal, jaccard, lovasz; ce, of image-level tasks; or sum.
        plugin: digest of the plug-in's file that the name comes from.
        reduction: what a region is counted over: batch (all images as one) | image (each alone, then their mean).
        smooth: added to numerator and denominator of dice and jaccard.
        alpha: focal's weight of fake pixels, of the others 1 - alpha; none: no weights.
        gamma: focal's exponent: how little pixels count that are right already.
        terms: of a sum.
        weight: of a term of a sum.
    """

    name: str
    plugin: str | None = None
    reduction: Literal["batch", "image"] = "batch"
    smooth: Annotated[Real, Field(ge=0)] = 0.0
    alpha: Fraction | None = None
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    terms: tuple["LossSpec", ...] = ()
    weight: Annotated[Real, Field(gt=0)] = 1.0


class OptimizerSpec(Frozen):
    """How weights are changed: adam or adamw, which differ in where a weight decay acts, or a plug-in's.

    Attributes:
        name: adam, adamw, or a plug-in's.
        lr: learning rate.
        weight_decay: share of a weight that a step takes away, times the learning rate.
        plugin: digest of the plug-in that the name comes from.
    """

    name: str
    lr: Annotated[Real, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    plugin: str | None = None


class ScheduleSpec(Frozen):
    """How the learning rate changes: constant, plateau (DeCLIP's), one-cycle (over all steps).

    Attributes:
        name: constant, plateau, one-cycle, or a plug-in's.
        plugin: digest of the plug-in that the name comes from.
        watch: the validation measure that plateau, or a plug-in's, follows.
        delta: what an epoch must gain, after plateau's first drop twice; none: of iou or loss 1e-5, of the others 1e-3.
    """

    name: str
    plugin: str | None = None
    watch: Measure = WATCHED
    delta: Annotated[Real, Field(ge=0)] | None = None

    @property
    def called(self) -> str:
        """Its name, and what it follows and calls a gain where that is not what others do."""
        delta = f", delta {self.delta:g}" if self.delta is not None else ""
        return (self.name if self.watch == WATCHED else f"{self.name} on {self.watch}") + delta


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


class TrialSpec(Frozen):
    """Everything that determines a trial's weights, resolved, and what is recorded with it.

    Attributes:
        maps: recipes, concatenated in this order on the first one's grid.
        epochs: passes over the training list; with `epoch_steps`, so many steps each of an endless permuted stream.
        select: what names the best epoch: a validation measure (`measures.MEASURES`) | last.
        task: localize (which pixels are fake) | detect (whether an image is) | attribute (by which generator).
        classes: of attribute, in the order of its logits: real, then families of domains; of other tasks none.
        targets: own | shuffled (each image gets another one's mask: a control) | label (all of a fake is fake).
        augment: how training images are changed; none: not at all.
        precision: dtype of the training arithmetic.
        init: where weights start: nothing, by role ("decoder") another trial's checkpoint, or trained elsewhere.
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
    precision: Literal["fp32", "bf16"] = "fp32"
    init: dict[Literal["decoder"], InitFrom] | Imported = {}  # noqa: RUF012
    augment: AugmentSpec | None = None
    lineage: Lineage = Lineage()

    @property
    def key(self) -> dict[str, Any]:
        """What is hashed: fields that differ from their default, digests of lists, semantics of the components."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"lineage", "train", "valid"})
        semantics = {name: SEMANTICS[name] for name in self._components()}
        return fields | {"train": self.train.digest, "valid": self.valid.digest, "semantics": semantics}

    @property
    def fingerprint(self) -> str:
        """The trial's name in the ledger: 64 hexadecimal digits."""
        return fingerprint(self.key)

    @property
    def start(self) -> InitFrom | None:
        """The checkpoint of another trial that the decoder starts from."""
        return self.init.get("decoder") if isinstance(self.init, dict) else None

    def _components(self) -> tuple[str, ...]:
        """Return what has a semantics number: all but what comes from a plug-in, which has a digest."""
        decoder = () if self.decoder.plugin else (f"decoder/{self.decoder.name}",)
        losses = dict.fromkeys(f"loss/{term.name}" for term in (self.loss, *self.loss.terms) if not term.plugin)
        return ("engine", "target", *decoder, *losses, *(("augment",) if self.augment else ()))

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
