"""DeCLIP's attention decoder (Smeu et al., WACV 2025): two residual blocks over all tokens of a transformer."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models.decoders import OUTPUT_SIZE, Examples, allocate
from dfloc.models.parts import on_meta
from dfloc.registry import MapSpec

NUM_BLOCKS = 2
HEAD_WIDTH = 64
WIDENING = 4  # of the first layer of an MLP


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP: x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return x * torch.sigmoid(1.702 * x)


class AttentionBlock(nn.Module):
    """Attention and an MLP, each behind a LayerNorm and past a shortcut; without dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = {
            "c_fc": nn.Linear(width, WIDENING * width),
            "gelu": QuickGELU(),
            "c_proj": nn.Linear(WIDENING * width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_BTC: Tensor, unseen_TT: Tensor | None) -> Tensor:
        """Return the tokens after the block; `unseen_TT`: which token (row) does not see which (column)."""
        normed_BTC = self.ln_1(x_BTC)
        seen_BTC, _ = self.attn(normed_BTC, normed_BTC, normed_BTC, attn_mask=unseen_TT, need_weights=False)
        x_BTC = x_BTC + seen_BTC
        return cast(Tensor, x_BTC + self.mlp(self.ln_2(x_BTC)))


class AttentionDecoder(nn.Module):
    """Tokens [B, C, 1, 1 + H * W], CLS first, to logits [B, 1, 256, 256].

    Two blocks over all tokens, one linear layer on each but CLS, and a bicubic resize of the logits.

    Args:
        width: of a token, a multiple of 64.
        grid: height and width on which the tokens lie, row by row.
        mask: none = every token sees all | causal = those before it and itself (as DeCLIP: CLS sees itself alone).
    """

    def __init__(self, width: int, grid: tuple[int, int], mask: Literal["none", "causal"]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(width) for _ in range(NUM_BLOCKS))
        self.head = nn.Linear(width, 1)
        self._grid, self._causal = grid, mask == "causal"

    def forward(self, x_BC1T: Tensor) -> Tensor:
        """Return logits; positive = fake."""
        x_BTC = x_BC1T.squeeze(2).transpose(1, 2)
        num_tokens = x_BTC.shape[1]
        unseen_TT = None
        if self._causal:
            unseen_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x_BTC.device).triu(1)
        for block in self.blocks:
            x_BTC = block(x_BTC, unseen_TT)
        logit_B1hw = self.head(x_BTC[:, 1:]).reshape(len(x_BTC), 1, *self._grid)
        return functional.interpolate(logit_B1hw, (OUTPUT_SIZE, OUTPUT_SIZE), mode="bicubic")

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


def make_attention(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> AttentionDecoder:
    """Make an attention decoder from the generator alone, with PyTorch's initialisation.

    `init: declip` draws the head's weight from N(0, 0.02), and leaves the blocks and all biases as PyTorch does.
    `trained: declip` lets the first layers of the MLPs and the head move, and leaves all else as it was drawn.

    Raises:
        ConfigError: the map is not that of the tokens of one transformer, or their width is no multiple of 64.
    """
    if len(maps) != 1 or maps[0].layout != "tokens":
        given = ", ".join(f"{each.layout} {each.channels}x{each.height}x{each.width}" for each in maps)
        raise ConfigError(
            'decoder "attention" reads the tokens of one transformer with its CLS, as of clip-vit-l14/layer20; '
            f"not {given}"
        )
    if spec.init == "patches":
        raise ConfigError('decoder "attention" has init: default or declip; patches is of convolutions')
    [tokens] = maps
    if tokens.channels % HEAD_WIDTH:
        raise ConfigError(
            f'decoder "attention" needs tokens of a multiple of {HEAD_WIDTH} values, not {tokens.channels}'
        )
    device = torch.get_default_device()
    with torch.device("meta"):
        decoder = AttentionDecoder(tokens.channels, (tokens.height, tokens.width), spec.mask)
    _initialise(allocate(decoder, device), generator)
    if spec.init == "declip" and not on_meta(decoder):
        nn.init.normal_(decoder.head.weight, 0.0, 0.02, generator)
    if spec.trained == "declip":
        for name, parameter in decoder.named_parameters():
            parameter.requires_grad_("mlp.c_fc." in name or name.startswith("head."))
    if spec.prior is not None:
        nn.init.constant_(decoder.head.bias, math.log(spec.prior / (1 - spec.prior)))
    return decoder


def _initialise(decoder: AttentionDecoder, generator: torch.Generator) -> None:
    """Draw as PyTorch does, layer by layer: queries, keys and values Xavier-uniform, linear layers by their fan in."""
    for layer in decoder.modules():
        if isinstance(layer, nn.MultiheadAttention):
            nn.init.xavier_uniform_(cast(Tensor, layer.in_proj_weight), generator=generator)
            nn.init.zeros_(cast(Tensor, layer.in_proj_bias))
        elif isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator)
        elif isinstance(layer, nn.LayerNorm):
            layer.reset_parameters()
    for block in decoder.blocks:
        nn.init.zeros_(cast(Tensor, cast(AttentionBlock, block).attn.out_proj.bias))
