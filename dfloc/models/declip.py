"""DeCLIP's published checkpoints: what is in one, and which of our decoders it is.

The form is that of Smeu et al. (WACV 2025): `{"model", "feature_layer", "decoder_type", ...}`, where `model` holds a
whole CLIP beside the decoder; where two CLIPs are fused they are not in it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from dfloc import repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, unknown
from dfloc.models import attention, decoders, tensors
from dfloc.registry import backbone, map_spec

FUSED_STAGE = "layer3"  # what DeCLIP always reads of the second of two CLIPs
QUIRKS = ("layer1", "layer2")  # of the first of two CLIPs: there DeCLIP doubles fewer times than for other layers

_VISUAL = re.compile(r"(.*?\.)?visual\.")
_TEXT = re.compile(
    r"(transformer\.resblocks\.\d+\.(attn|ln_1|ln_2|mlp)\..+|token_embedding\.weight|positional_embedding"
    r"|ln_final\.(weight|bias)|text_projection|logit_scale)"
)
_BLOCK = re.compile(r"(?P<block>.*?)(?P<part>(attn\.(in_proj_|out_proj\.)|ln_[12]\.|mlp\.c_(fc|proj)\.)(weight|bias))")
_PART = re.compile(r"(?P<head>(?:.*?\.)?)(?P<place>(?:\d+\.)*)(?P<kind>[a-z_]+)")

_Modules = list[tuple[str, dict[str, Tensor]]]


class DeclipCheckpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        maps: `<backbone>/<map>`, as a recipe names them.
        decoder: which decoder it is.
        tower: the image tower's tensors, by the names of a CLIP; empty where two CLIPs are fused.
        weights: the decoder's, by our names.
    """

    maps: tuple[str, ...]
    decoder: DecoderSpec
    tower: dict[str, Tensor]
    weights: dict[str, Tensor]


def read(path: Path, arch: str) -> DeclipCheckpoint:
    """Read a checkpoint.

    Args:
        path: torch's file; nothing of it is run.
        arch: the backbone, or two with a comma between: transformer first, then ResNet.

    Raises:
        ConfigError: it is damaged, of another form or backbone, or a tensor is missing or left over (named).
    """
    held = tensors.contents(path)
    if not isinstance(held, Mapping) or not isinstance(held.get("model"), Mapping):
        raise ConfigError(f"{path} is no checkpoint of DeCLIP: expected the keys model, feature_layer and decoder_type")
    maps = _maps(arch, _word(path, held, "feature_layer"))
    decoder = _decoder(_word(path, held, "decoder_type"), maps)
    tower, rest = _without_clip(tensors.plain(path, held["model"]))
    tensors.check_finite(path, tower | rest)
    if bool(tower) == (len(maps) > 1):
        cure = "it is of one CLIP; name that one by --arch" if tower else "is it a fused one? Then --arch names two"
        raise ConfigError(f"{path} holds {'an' if tower else 'no'} image tower, but --arch is {arch}; {cure}")
    return DeclipCheckpoint(maps, decoder, tower, _weights(path, rest, decoder, maps))


def _word(path: Path, held: Mapping[str, object], key: str) -> str:
    value = held.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} should be a word, but it is {value!r}; is it a checkpoint of DeCLIP?")
    return value


def _maps(arch: str, layer: str) -> tuple[str, ...]:
    names = arch.split(",")
    if len(names) > 2:
        raise ConfigError(f"--arch {arch} names {len(names)} backbones; expected one or two")
    if len(names) == 2 and layer in QUIRKS:
        raise ConfigError(f"a fused checkpoint of {layer} has a decoder of another shape, which is not built")
    for name, each in zip(names, (layer, FUSED_STAGE), strict=False):
        known = [layer for layer, spec in backbone(name).maps.items() if spec.layout != "vector"]
        if each not in known:
            raise ConfigError(
                f"the checkpoint reads {each}, but {name} gives {known[0]} to {known[-1]}; is --arch {arch} right?"
            )
    maps = tuple(f"{name}/{each}" for name, each in zip(names, (layer, FUSED_STAGE), strict=False))
    layouts = [map_spec(each).layout for each in maps]
    if len(maps) == 2 and layouts != ["tokens", "grid"]:
        raise ConfigError(f"--arch {arch}: expected a transformer, then a ResNet, as in clip-vit-l14,clip-rn50")
    return maps


def _decoder(word: str, maps: Sequence[str]) -> DecoderSpec:
    if conv := re.fullmatch(r"conv-(\d+)", word):
        if int(conv[1]) < 4:
            raise ConfigError(f"decoder_type {word} has too few convolutions; expected conv-4 or more")
        return DecoderSpec(name="conv", depth=int(conv[1]) // 4 * 4, init="declip")
    if word not in ("linear", "attention"):
        raise unknown("decoder_type", word, ("conv-N", "linear", "attention"))
    if len(maps) > 1 or map_spec(maps[0]).layout != "tokens":
        raise ConfigError(f"decoder_type {word} reads the tokens of one transformer, not {', '.join(maps)}")
    if word == "attention":
        return DecoderSpec(name="attention", init="declip", mask="causal", trained="declip")
    return DecoderSpec(name="linear", init="declip")


def _without_clip(model: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the image tower's tensors, and what is neither it nor the text tower beside it."""
    visual = [match for name in model if (match := _VISUAL.match(name))]
    prefix = visual[0][1] or "" if visual else None
    tower: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in model.items():
        inside = name.removeprefix(prefix) if prefix is not None and name.startswith(prefix) else ""
        if inside.startswith("visual."):
            tower[inside] = tensor
        elif not _TEXT.fullmatch(inside):
            rest[name] = tensor
    return tower, rest


def _weights(path: Path, rest: Mapping[str, Tensor], spec: DecoderSpec, maps: Sequence[str]) -> dict[str, Tensor]:
    """Return the decoder's tensors by our names: its modules in the order of their numbers are ours in theirs."""
    if spec.name == "conv" and spec.depth > len(rest):
        raise ConfigError(f"{path} holds {len(rest)} tensors beside CLIP's, too few for a decoder conv-{spec.depth}")
    built = decoders.build(spec, [map_spec(each) for each in maps], repro.generator(0, "init"))
    ours = _modules(built.state_dict())
    theirs = _attention(path, rest, ours) if spec.name == "attention" else _numbered(path, rest)
    what = f"a decoder {spec.name}{f'-{spec.depth}' if spec.name == 'conv' else ''} on {', '.join(maps)}"
    weights: dict[str, Tensor] = {}
    for (name, wanted), (module, given) in zip(ours, theirs, strict=False):
        for kind in dict.fromkeys([*wanted, *given]):
            value = _fitting(wanted.get(kind), given.get(kind), f"{path}: {module}{kind}", what)
            weights[f"{name}{kind}"] = value
    if len(theirs) != len(ours):
        more = [f"{module}{kind}" for module, given in theirs[len(ours) :] for kind in given]
        odd = f"left over: {tensors.some(more)}" if more else f"{len(ours) - len(theirs)} layers are missing"
        raise ConfigError(f"{path} holds {len(theirs)} layers with weights, {what} has {len(ours)}; {odd}")
    return weights


def _numbered(path: Path, rest: Mapping[str, Tensor]) -> _Modules:
    """Return the modules of a Sequential in the order of their numbers."""
    parts = {name: match for name in rest if (match := _PART.fullmatch(name))}
    heads = [match["head"] for match in parts.values()]
    head = max(set(heads), key=heads.count) if heads else ""
    odd = [name for name in rest if name not in parts or parts[name]["head"] != head]
    if odd:
        raise ConfigError(f"{path} holds tensors that are neither CLIP's nor a decoder's: {tensors.some(odd)}")
    numbers = {name: [int(each) for each in match["place"].split(".")[:-1]] for name, match in parts.items()}
    return _modules({name: rest[name] for name in sorted(rest, key=lambda name: numbers[name])})


def _attention(path: Path, rest: Mapping[str, Tensor], ours: _Modules) -> _Modules:
    """Return the modules of two blocks, in the order of their numbers, and of the head, as ours are ordered."""
    found = {name: match for name in rest if (match := _BLOCK.fullmatch(name))}
    blocks = sorted(
        {match["block"] for match in found.values()},
        key=lambda block: [int(each) for each in re.findall(r"\d+", block)],
    )
    heads = {module for module, _ in _modules({name: rest[name] for name in rest if name not in found})}
    if len(blocks) != attention.NUM_BLOCKS or len(heads) != 1:
        raise ConfigError(
            f"{path} holds {len(blocks)} blocks of attention and {len(heads)} other layers beside CLIP's tensors; "
            f"expected {attention.NUM_BLOCKS} and a head for decoder_type attention"
        )
    starts = {f"blocks.{number}.": block for number, block in enumerate(blocks)} | {"head.": heads.pop()}
    theirs = dict(_modules(rest))
    order = []
    for name, _ in ours:
        start = next(each for each in starts if name.startswith(each))
        order.append(starts[start] + name.removeprefix(start))
    return [(name, theirs.get(name, {})) for name in order]


def _numbers(name: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", name)]


def _modules(state: Mapping[str, Tensor]) -> _Modules:
    """Return tensors by their module's name (with the dot) and their own, modules by their first tensor."""
    found: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        module, dot, kind = name.rpartition(".")
        found[module + dot][kind] = tensor
    return list(found.items())


def _fitting(wanted: Tensor | None, given: Tensor | None, name: str, what: str) -> Tensor:
    """Return a tensor as ours is; a layer on tokens [out, in] is a convolution of one pixel [out, in, 1, 1]."""
    if wanted is None or given is None:
        raise ConfigError(f"{name} is {'missing' if given is None else 'left over'} for {what}; is --arch right?")
    value = given[..., None, None] if wanted.shape == (*given.shape, 1, 1) else given
    if value.shape != wanted.shape:
        shapes = ["x".join(map(str, each.shape)) for each in (given, wanted)]
        raise ConfigError(f"{name} is {shapes[0]}, expected {shapes[1]} for {what}; is --arch right?")
    return value.to(wanted.dtype).contiguous().clone()
