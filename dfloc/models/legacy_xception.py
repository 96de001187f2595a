"""Whole Xceptions with the heads of Dolos (Tantaru et al., WACV 2024): a fully convolutional one, an attention map."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from dfloc import repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, unknown
from dfloc.models import tensors, timm_library
from dfloc.models.base import Outputs, freeze_norms, random_seed
from dfloc.models.decoders import PIXELS, Examples, check_pixels
from dfloc.models.xception import BLOCKS, scaled
from dfloc.registry import MapSpec

MODEL = "legacy_xception"
"""timm's name of the network that ImageNet's weights are of."""

FFD, FILE, BLOCK = "ffd", "xcp_reg.tar", 7
"""Weights of Dang et al., CVPR 2020, the file in which their authors give them, and the block that its map is after."""

DROPOUT = 0.1

RENAMED = (
    (r"^last_linear\.", "fc."),
    (r"^map\.c\.", "map."),
    (r"(^|\.)skip_bn\.", r"\1skipbn."),
    (r"(^|\.)c\.weight$", r"\1conv1.weight"),
)
"""What their names are in ours: timm's, and `map` for the separable convolution of the attention map."""


class Fcn(nn.Module):
    """Images [B, 3, 256 or 299, ...], values 0 to 255, to logits of a coarse grid: after block 11 [B, 1, 19, 19].

    The head is that of Long et al. 2015 as torchvision has it: a 3x3 convolution to a quarter of the channels,
    BatchNorm, ReLU, dropout, a 1x1 convolution to two logits, whose difference is the one logit of a cell.

    Args:
        trunk: of timm's network.
        channels: that the trunk gives.
    """

    def __init__(self, trunk: nn.Sequential, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels // 4, 2, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits; positive = fake."""
        logit_B2HW = self.head(self.trunk(scaled(x_BCHW)))
        return cast(Tensor, logit_B2HW[:, 1:] - logit_B2HW[:, :1])

    def begin_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the trunk's weights (`classifiers.weights`); the head stays as it was drawn.

        Raises:
            ConfigError: they do not fit the model.
        """
        _fill(self.trunk, weights)

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


class Attention(nn.Module):
    """Images as of `Fcn` to a map [B, 1, 19, 19] of where it looks, and image logits [B, K] of what it sees there.

    The map is a separable 3x3 convolution after a block, without biases; its sigmoid multiplies the features that the
    other blocks read (Dang et al., CVPR 2020).

    Args:
        before: timm's network until the map.
        channels: that the block gives.
        after: the rest of it; None: the task is to localize, so that nothing behind the map is made.
    """

    def __init__(self, before: nn.Sequential, channels: int, after: nn.Sequential | None) -> None:
        super().__init__()
        self.before, self.after = before, after
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.map = nn.Sequential(OrderedDict(conv1=depthwise, pointwise=nn.Conv2d(channels, 1, 1, bias=False)))

    def forward(self, x_BCHW: Tensor) -> Tensor | Outputs:
        """Return the map, positive = fake, and where there are classes their logits."""
        seen_BCHW = self.before(scaled(x_BCHW))
        map_B1HW = cast(Tensor, self.map(seen_BCHW))
        if self.after is None:
            return map_B1HW
        return Outputs(map_B1HW, self.after(seen_BCHW * map_B1HW.sigmoid()))

    def begin_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights (`weights`); of other than two classes the last layer stays as it was drawn.

        Raises:
            ConfigError: they do not fit the model.
        """
        _fill(self.before, weights)
        _fill(
            self.map, {name.removeprefix("map."): value for name, value in weights.items() if name.startswith("map.")}
        )
        if self.after is not None:
            own = self.after.state_dict()
            kept = "fc.bias" in own and own["fc.bias"].shape != weights["fc.bias"].shape
            _fill(self.after, {**weights, **{name: own[name] for name in ("fc.weight", "fc.bias") if kept}})

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


def make_fcn(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Fcn:
    """Make a fully convolutional Xception with random weights, as timm draws them, from the generator alone.

    Raises:
        ConfigError: the block is not named, or it would not read pixels.
    """
    block = _block(spec, 11)
    check_pixels(spec.name, maps, (*PIXELS,))
    with repro.seeded(_seed(generator)):
        before, _ = _cut(timm_library.build(MODEL), block)
        made = Fcn(before, BLOCKS[block - 1][1])
    if spec.prior is not None:
        half = math.log(spec.prior / (1 - spec.prior)) / 2
        with torch.no_grad():
            cast(Tensor, cast(nn.Conv2d, made.head[-1]).bias).copy_(torch.tensor([-half, half]))
    if spec.batch_norm == "frozen":
        freeze_norms(made)
    return made


def make_attention(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> Attention:
    """Make an Xception with an attention map likewise; where the task is to localize nothing behind the map is made.

    Raises:
        ConfigError: the block is not named or not that of the weights, or it would not read pixels.
    """
    block = _block(spec, BLOCK)
    check_pixels(spec.name, maps, (*PIXELS,))
    if block != BLOCK and spec.weights not in (None, "random"):
        raise ConfigError(f"weights of {spec.name} have their map after block {BLOCK}; use block: {BLOCK}, or random")
    with repro.seeded(_seed(generator)):
        before, after = _cut(timm_library.build(MODEL, num_classes=num_classes or 2), block)
        made = Attention(before, BLOCKS[block - 1][1], None if num_classes is None else after)
    if spec.batch_norm == "frozen":
        freeze_norms(made)
    return made


def weights(model: str, word: str) -> dict[str, Tensor]:
    """Return the tensors of an Xception with an attention map after block 7, by timm's names and `map`.

    Args:
        model: `MODEL`.
        word: ffd (`FILE`, which its authors hand out, in torch's cache), `random:<seed>`, or path or URL of such a file
            (`tensors.FORMS`), by FFD's names or ours.

    Raises:
        ConfigError: no such file, or a tensor is missing, left over or of another shape (named).
    """
    seed = random_seed(word)
    with repro.seeded(seed or 0):
        before, after = _cut(timm_library.build(model, num_classes=2), BLOCK)
        made = Attention(before, BLOCKS[BLOCK - 1][1], after)
    own = {_bare(name): value for name, value in made.state_dict().items() if not tensors.counts(name)}
    if seed is not None:
        return own
    is_file = "/" in word or re.search(r"\.\w+$", word)
    if word != FFD and not is_file:
        raise unknown("weights of xception-attention", word, [FFD, "random", "random:<seed>", "path or URL of a file"])
    found = tensors.read(word if is_file else str(_handed_out()))
    given = {_renamed(name): value for name, value in found.items() if not tensors.counts(name)}
    if problems := tensors.differences(own, given):
        raise ConfigError(
            f"weights {word} do not fit xception-attention: {problems}; give FFD's {FILE}, or one like it"
        )
    return {name: given[name].to(value.dtype).contiguous().clone() for name, value in own.items()}


def _handed_out() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise ConfigError(
            f'weights "{FFD}" cannot be fetched: their authors hand out {FILE} (github.com/JStehouwer/FFD_CVPR2020); '
            f"put it at {path} on every node, or name it: decoder: {{weights: PATH}}"
        )
    return path


def _renamed(name: str) -> str:
    name = name.removeprefix("module.")
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _bare(name: str) -> str:
    """Return timm's name of a tensor of `Attention`."""
    return re.sub(r"^(before|after)\.", "", name)


def _cut(net: nn.Module, block: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return timm's network until after a block, and the rest of it; its parts run in the order in which they stand."""
    parts = dict(net.named_children())
    number = len([*takewhile(lambda name: name != f"block{block}", parts)]) + 1
    named = list(parts.items())
    return nn.Sequential(OrderedDict(named[:number])), nn.Sequential(OrderedDict(named[number:]))


def _fill(part: nn.Module, given: Mapping[str, Tensor]) -> None:
    own = part.state_dict()
    kept = {name: given[name] for name in own if name in given}
    if problems := tensors.differences({name: own[name] for name in own if not tensors.counts(name)}, kept):
        raise ConfigError(f"weights do not fit the model: {problems}")
    nn.Module.load_state_dict(part, own | kept)


def _block(spec: DecoderSpec, usual: int) -> int:
    if spec.block is None:
        raise ConfigError(f'decoder "{spec.name}" needs a block, 1 to 12: {{name: {spec.name}, block: {usual}}}')
    return spec.block


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
