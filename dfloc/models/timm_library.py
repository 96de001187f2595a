"""The door to timm: which models it has, what it says of them, and how one is made."""

import difflib
from typing import Any

import torch
from torch import nn

from dfloc.errors import ConfigError
from dfloc.models import hub

LISTING = "python -c 'import timm; print(*timm.list_models())'"


def config(model: str, what: str = "model of timm", prefix: str = "") -> Any:
    """Return what timm says of a model: `mean`, `std`, `input_size`, `classifier`, `hf_hub_id` and so on.

    Args:
        model: timm's name.
        what: it is, for messages.
        prefix: with which a user writes it, for messages.

    Raises:
        ConfigError: there is none of this name (says what is near).
    """
    import timm

    known = timm.list_models()
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, known, n=1)
        hint = f'did you mean "{prefix}{near[0]}"? ' if near else ""
        raise ConfigError(f'unknown {what} "{prefix}{model}"; {hint}{len(known)} are listed by {LISTING}')
    try:
        return timm.models.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise ConfigError(f'unknown {what} "{prefix}{model}": {error}') from error


def file(model: str, what: str) -> str:
    """Return the file of a model's published weights, in the cache or fetched into it.

    Args:
        model: timm's name.
        what: is wanted, for messages.

    Raises:
        ConfigError: timm publishes none, or it cannot be fetched (says what to put where).
    """
    found = config(model)
    repository = found.hf_hub_id
    if not repository and found.url:
        return hub.published(found.url, what=what)
    if not repository:
        raise ConfigError(f"timm has no file of {what} on the hub; use weights: random, or the path of a file")
    names = ("model.safetensors", "pytorch_model.bin")
    return hub.fetched(repository, names, None, what=what, cure="name it by --set trial.decoder.weights=PATH")


def build(model: str, **options: Any) -> nn.Module:
    """Return a model in eval mode, with weights drawn from torch's global generator."""
    import timm

    return timm.create_model(model, pretrained=False, **options).eval()


def build_sam(device: str | torch.device = "cpu", **options: Any) -> nn.Module:
    """Return SAM's image encoder of any size, likewise, with options of timm's class."""
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    return VisionTransformerSAM(num_classes=0, device=device, **options).eval()
