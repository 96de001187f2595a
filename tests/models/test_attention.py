import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.engine.batches import fuse
from dfloc.errors import ConfigError
from dfloc.models.attention import AttentionDecoder
from dfloc.models.decoders import build
from dfloc.registry import MapSpec, map_spec
from tests.contracts.decoder import DecoderContract, Examples

TOKENS = MapSpec(128, 4, 5, "tokens")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int = 0, **fields: object) -> AttentionDecoder:
    return build(DecoderSpec(name="attention", **fields), [TOKENS], generator(seed)).eval()


def tokens(num: int = 2) -> torch.Tensor:
    return torch.randn(num, 128, 1, 21, generator=generator(5))


class _OfTokens(DecoderContract):
    maps, num = (TOKENS,), 3

    def examples(self, num: int | None = None) -> Examples:
        target_BHW = torch.zeros(num or self.num, 256, 256, dtype=torch.uint8)
        return Examples(tokens(num or self.num), target_BHW)


class TestAttention(_OfTokens):
    spec = DecoderSpec(name="attention")


class TestDeclips(_OfTokens):
    spec = DecoderSpec(name="attention", mask="causal", trained="declip", prior=0.2)


@pytest.mark.parametrize(("trained", "moving"), [("all", 25_193_473), ("declip", 8_397_825)])
def test_as_many_parameters_as_declip(trained, moving):
    with torch.device("meta"):
        spec = DecoderSpec(name="attention", trained=trained)
        decoder = build(spec, [map_spec("clip-vit-l14/layer20")], generator())
    parameters = list(decoder.parameters())
    assert sum(parameter.numel() for parameter in parameters) == 25_193_473
    assert sum(parameter.numel() for parameter in parameters if parameter.requires_grad) == moving


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_computes_two_blocks_of_a_clip_transformer_a_linear_layer_and_a_bicubic_resize(mask):
    decoder, x_BC1T = made(mask=mask), tokens()
    x_BTC = x_BC1T[:, :, 0].transpose(1, 2)
    for block in decoder.blocks:
        normed = functional.layer_norm(x_BTC, (128,), block.ln_1.weight, block.ln_1.bias)
        query, key, value = functional.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
        heads = [part.unflatten(-1, (2, 64)).transpose(1, 2) for part in (query, key, value)]
        scores = heads[0] @ heads[1].transpose(2, 3) / 8
        if mask == "causal":
            scores = scores + torch.full((21, 21), -math.inf).triu(1)
        x_BTC = x_BTC + block.attn.out_proj((scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2))
        normed = functional.layer_norm(x_BTC, (128,), block.ln_2.weight, block.ln_2.bias)
        widened = block.mlp.c_fc(normed)
        x_BTC = x_BTC + block.mlp.c_proj(widened * (1.702 * widened).sigmoid())
    logit_BT = (x_BTC @ decoder.head.weight.T + decoder.head.bias)[:, 1:, 0]
    expected = functional.interpolate(logit_BT.view(2, 1, 4, 5), (256, 256), mode="bicubic", align_corners=False)
    torch.testing.assert_close(decoder(x_BC1T), expected, rtol=1e-4, atol=1e-5)


def test_causal_tokens_see_those_before_them_alone():
    x = tokens(1)
    later = x.clone()
    later[..., 11:] = x[..., 11:].flip(1)  # of 21 tokens, CLS the first
    rows = {}
    for mask in ("none", "causal"):
        decoder, cells = made(mask=mask), []
        decoder.head.register_forward_hook(lambda _, __, out, kept=cells: kept.append(out[0, :, 0]))
        with torch.no_grad():
            decoder(x)
            decoder(later)
        rows[mask] = (cells[0] - cells[1]).abs() > 1e-6
    assert rows["causal"].tolist() == [False] * 10 + [True] * 10
    assert rows["none"].all()


def test_cls_is_read_and_has_no_cell_of_its_own():
    x = tokens(1)
    other = x.clone()
    other[..., 0] = x[..., 0].flip(1)
    decoder = made()
    with torch.no_grad():
        assert not torch.allclose(decoder(x), decoder(other), atol=1e-6)


@pytest.mark.parametrize("trained", ["all", "declip"])
def test_declip_moves_the_first_layers_of_mlps_and_the_head_alone(trained):
    decoder = made(trained=trained)
    before = {name: value.detach().clone() for name, value in decoder.named_parameters()}
    optimizer = torch.optim.SGD([p for p in decoder.parameters() if p.requires_grad], lr=1.0)
    decoder(tokens()).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in decoder.named_parameters() if not torch.equal(value, before[name])}
    few = {f"blocks.{k}.mlp.c_fc.{kind}" for k in (0, 1) for kind in ("weight", "bias")} | {"head.weight", "head.bias"}
    assert moved == (few if trained == "declip" else set(before))


def test_weights_are_drawn_as_pytorch_does():
    decoder = made()
    for block in decoder.blocks:
        bound = math.sqrt(6 / (128 + 3 * 128))
        assert 0.98 * bound < block.attn.in_proj_weight.abs().max() <= bound
        for zero in (block.attn.in_proj_bias, block.attn.out_proj.bias, block.ln_1.bias, block.ln_2.bias):
            assert not zero.any()
        for linear in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
            bound = linear.in_features**-0.5
            assert 0.98 * bound < linear.weight.abs().max() <= bound
        assert block.mlp.c_fc.bias.any()
        assert (block.ln_1.weight == 1).all()
    assert not torch.equal(decoder.blocks[0].attn.in_proj_weight, decoder.blocks[1].attn.in_proj_weight)
    assert not torch.equal(decoder.head.weight, made(seed=1).head.weight)


def test_init_declip_draws_the_heads_weight_from_a_normal_of_002_and_no_other():
    own, theirs = made().state_dict(), made(init="declip").state_dict()
    assert [name for name in own if not torch.equal(own[name], theirs[name])] == ["head.weight"]
    wide = build(DecoderSpec(name="attention", init="declip"), [MapSpec(1024, 2, 2, "tokens")], generator())
    weight = wide.head.weight.detach()
    assert weight.std().item() == pytest.approx(0.02, rel=0.08)
    assert weight.abs().max() > 1 / 32, "a uniform draw would end there"


def test_prior_sets_the_share_of_fake_pixels_at_which_it_starts():
    decoder = made(prior=0.18)
    nn.init.zeros_(decoder.head.weight)
    prob_B1HW = decoder(tokens()).sigmoid()
    torch.testing.assert_close(prob_B1HW, torch.full_like(prob_B1HW, 0.18))


def test_tokens_come_with_cls_first_as_one_row():
    part_BTC = torch.randn(2, 21, 128, generator=generator())
    x_BC1T = fuse([part_BTC], [TOKENS], tokens=True)
    assert x_BC1T.shape == (2, 128, 1, 21)
    assert torch.equal(x_BC1T[:, :, 0, 0], part_BTC[:, 0])
    assert torch.equal(x_BC1T[:, :, 0, 1:].reshape(2, 128, 4, 5), fuse([part_BTC], [TOKENS]))


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ([map_spec("clip-rn50/layer3")], "reads the tokens of one transformer .* not grid 1024x14x14$"),
        ([TOKENS, TOKENS], "not tokens 128x4x5, tokens 128x4x5$"),
        ([MapSpec(100, 4, 4, "tokens")], "a multiple of 64 values, not 100"),
    ],
)
def test_other_maps_are_refused(maps, words):
    with pytest.raises(ConfigError, match=words):
        build(DecoderSpec(name="attention"), maps, generator())
