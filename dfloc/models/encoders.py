"""Encoders of segmentation_models_pytorch: which there are, their normalisation, and the weights they start from."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from dfloc import repro
from dfloc.errors import ConfigError, did_you_mean, unknown
from dfloc.models import hub, tensors, timm_library
from dfloc.models.base import Normalization, random_seed

TIMM = "tu-"
"""What stands before the name of a model of timm's, any of which can be an encoder."""

HEADS = ("fc.", "_fc.", "last_linear.", "classifier.", "head.", "linear.")
"""What classifiers hold behind their encoders: left out of a file."""

Weights = Mapping[str, Tensor]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5,) * 3, (0.5,) * 3)
DPN = Normalization((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)

# By how an encoder's name begins, where it is not ImageNet's; `advprop` weights are normalised by half too.
NORMALIZATIONS: Mapping[str, Normalization] = {
    "dpn": DPN,
    "inception": HALF,
    "xception": HALF,
    "timm-tf_efficientnet_lite": HALF,
}


def library() -> Any:
    """Return segmentation_models_pytorch, imported on first use: it takes seconds.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'decoder "smp" needs the module {error.name}, which is not installed: '
            "pip install segmentation_models_pytorch"
        ) from error
    return segmentation_models_pytorch


def check(encoder: str) -> None:
    """Return if there is an encoder of this name: one of the library's own, or `tu-` and a model of timm's.

    Raises:
        ConfigError: there is none (says what is near).
    """
    known = library().encoders.encoders
    if encoder.startswith(TIMM):
        _timm_config(encoder)
    elif encoder not in known:
        own = did_you_mean(encoder, known)
        raise ConfigError(f'unknown encoder "{encoder}"; {own}, and {TIMM}<model of timm>')


def build(encoder: str) -> nn.Module:
    """Return an encoder with weights drawn from torch's global generator."""
    smp = library()
    try:
        return cast(nn.Module, smp.encoders.get_encoder(encoder, weights=None))
    except ValueError:
        if not encoder.startswith(TIMM):
            raise
        return cast(nn.Module, smp.encoders.TimmViTEncoder(encoder.removeprefix(TIMM), pretrained=False, depth=4))


def normalization(encoder: str, tag: str | None = None) -> Normalization:
    """Return what an encoder's weights of a tag were trained with; without a tag, its usual one."""
    if encoder.startswith(TIMM):
        config = _timm_config(encoder)
        return Normalization(tuple(config.mean), tuple(config.std))
    if tag == "advprop":
        return HALF
    return next((each for start, each in NORMALIZATIONS.items() if encoder.startswith(start)), IMAGENET)


def weights(encoder: str, word: str) -> dict[str, Tensor]:
    """Return the tensors that an encoder starts from, by its own names, and its normalisation, `mean` and `std`.

    Args:
        encoder: as `check` knows it.
        word: a tag of the library (imagenet; of timm's models, whose tag is in their name, only that), `random:<seed>`,
            or path or URL of a file (`tensors.FORMS`) of an encoder, of a classifier on it, or of a segmenter.

    Raises:
        ConfigError: no such encoder, tag or file, or it is another model's.
    """
    check(encoder)
    tags = ("imagenet",) if encoder.startswith(TIMM) else library().encoders.encoders[encoder]["pretrained_settings"]
    seed = random_seed(word)
    with repro.seeded(seed or 0):
        own = {name: value for name, value in build(encoder).state_dict().items() if not tensors.counts(name)}
    tag = word if word in tags else None
    if tag:
        own = _fitting(encoder, own, tensors.read(_file(encoder, tag)), f'"{tag}"')
    elif "/" in word or re.search(r"\.\w+$", word):
        own = _fitting(encoder, own, tensors.read(word), word)
    elif seed is None:
        raise unknown(f"weights of {encoder}", word, [*tags, "random", "random:<seed>", "path or URL of a file"])
    moved, scale = normalization(encoder, tag)
    return own | {"mean": torch.tensor(moved), "std": torch.tensor(scale)}


def fill(encoder: nn.Module, given: Weights) -> None:
    """Copy weights into an encoder, which may end earlier than the one whose they are.

    Raises:
        ConfigError: one is missing or of another shape (named).
    """
    own = encoder.state_dict()
    kept = {name: given[name] for name in own if name in given}
    if problems := tensors.differences({name: own[name] for name in own if not tensors.counts(name)}, kept):
        raise ConfigError(f"weights do not fit the encoder: {problems}")
    nn.Module.load_state_dict(encoder, own | kept)


def _timm_config(encoder: str) -> Any:
    return timm_library.config(encoder.removeprefix(TIMM), "encoder", TIMM)


def _file(encoder: str, tag: str) -> str:
    """Return the file of a tag, in the cache or fetched into it."""
    what = f'weights "{tag}" of {encoder}'
    if encoder.startswith(TIMM):
        return timm_library.file(encoder.removeprefix(TIMM), what)
    where = library().encoders.encoders[encoder]["pretrained_settings"][tag]
    cure = "name it by --set trial.decoder.weights=PATH"
    return hub.fetched(where["repo_id"], ("model.safetensors",), where["revision"], what=what, cure=cure)


def _fitting(encoder: str, own: Weights, given: Weights, source: str) -> dict[str, Tensor]:
    """Return given tensors by an encoder's own names, without what stands behind it."""
    renamed = _renamed(own, _encoder_of(given))
    behind = renamed.keys() - own.keys()
    if not encoder.startswith(TIMM):  # which cuts a model where its last map is
        behind = {name for name in behind if name.startswith(HEADS) or tensors.counts(name)}
    left = {name: value for name, value in renamed.items() if name not in behind}
    if problems := tensors.differences(own, left):
        raise ConfigError(f"weights {source} do not fit the encoder {encoder}: {problems}; give those of this encoder")
    return {name: left[name].to(value.dtype).contiguous().clone() for name, value in own.items()}


def _encoder_of(given: Weights) -> dict[str, Tensor]:
    """Return the tensors of the encoder in a segmenter; all of them where it is none."""
    plain = {name.removeprefix("module."): value for name, value in given.items()}
    inside = {name.partition("encoder.")[2]: value for name, value in plain.items() if _SEGMENTER.match(name)}
    return inside or plain


_SEGMENTER = re.compile(r"(model\.)?encoder\.")


def _renamed(own: Weights, given: Weights) -> dict[str, Tensor]:
    """Return given tensors by an encoder's names, which may differ in dots and underscores and begin with `model.`."""

    def bare(name: str) -> str:
        return re.sub(r"[._]", "", name.removeprefix("model."))

    counts = Counter(bare(name) for name in own)
    ours = {bare(name): name for name in own if counts[bare(name)] == 1}
    return {name if name in own else ours.get(bare(name), name): value for name, value in given.items()}
