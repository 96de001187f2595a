from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc import registry
from dfloc.config import DecoderSpec, LossSpec
from dfloc.engine.batches import fuse
from dfloc.errors import ConfigError
from dfloc.models import answers, decoders
from dfloc.models.base import Outputs, outputs
from dfloc.models.decoders import build
from dfloc.registry import MapSpec, map_spec
from dfloc.sweep import component_specs

GRID, TOKENS, VECTOR = MapSpec(5, 6, 4), MapSpec(8, 3, 4, "tokens"), MapSpec(9, 1, 1, "vector")
CLS = DecoderSpec(name="linear", pool="cls")


class Examples(NamedTuple):
    x: Tensor
    label_B: Tensor  # noqa: N815

    @property
    def num_samples(self) -> int:
        return len(self.x)

    def batch(self, indices: list[int], epoch: int) -> "Examples":
        return Examples(self.x[indices], self.label_B[indices])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(spec: DecoderSpec, maps: tuple[MapSpec, ...], num: int = 150, num_classes: int = 3) -> Examples:
    channels = sum(each.channels for each in maps)
    grid = (1, maps[0].height * maps[0].width + 1) if spec.reads_tokens else maps[0][1:3]
    x = 3 + 2 * torch.randn(num, channels, *grid, generator=generator(7))
    return Examples(x, torch.arange(num) % num_classes)


def made(maps: tuple[MapSpec, ...] = (GRID,), num_classes: int = 3, seed: int = 0, **fields: Any) -> nn.Module:
    return build(DecoderSpec(**{"name": "linear", **fields}), maps, generator(seed), num_classes).eval()


class HeadContract:
    """Attributes: `spec` and `maps` of a decoder that answers once an image, and how many images it is solved on."""

    spec: ClassVar[DecoderSpec]
    maps: ClassVar[tuple[MapSpec, ...]]
    num: ClassVar[int] = 150

    def solved(self, seed: int = 0) -> nn.Module:
        decoder = build(self.spec, self.maps, generator(seed), 3)
        decoder.solve(examples(self.spec, self.maps, self.num))
        return decoder.eval()

    def test_gives_one_logit_a_class(self) -> None:
        for num in (1, 2):
            said = outputs(self.solved()(examples(self.spec, self.maps, num).x))
            assert said.map_B1HW is None
            assert said.image_BK is not None
            assert said.image_BK.shape == (num, 3)
            assert said.image_BK.isfinite().all()

    def test_draws_from_the_given_generator_alone(self) -> None:
        before = torch.random.get_rng_state()
        first, second = self.solved().state_dict(), self.solved().state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_state_says_everything(self) -> None:
        decoder, other = self.solved(), build(self.spec, self.maps, generator(1), 3).eval()
        other.load_state_dict(decoder.state_dict())
        x = examples(self.spec, self.maps, 6).x
        assert torch.equal(decoder(x), other(x))

    def test_images_do_not_see_each_other(self) -> None:
        decoder, x = self.solved(), examples(self.spec, self.maps, 6).x
        torch.testing.assert_close(decoder(x)[1:2], decoder(x[1:2]), rtol=1e-4, atol=1e-5)

    def test_trains_on_one_image_or_is_solved(self) -> None:
        decoder, data = self.solved().train(), examples(self.spec, self.maps, 1)
        assert not decoders.needs_two(self.spec, self.maps, 3)
        trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
        if trained:
            functional.cross_entropy(decoder(data.x), data.label_B).backward()
            assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)

    def test_what_suits_is_checked_without_a_draw(self) -> None:
        before = torch.random.get_rng_state()
        decoders.check(self.spec, self.maps, 3)
        bytes_ = sum(value.nbytes for value in self.solved().state_dict().values())
        assert decoders.weight_bytes(self.spec, self.maps, 3) == (0 if self.spec.plugin else bytes_)
        assert torch.equal(torch.random.get_rng_state(), before)


class TestVector(HeadContract):
    spec, maps = DecoderSpec(name="linear", standardize=True), (VECTOR, MapSpec(4, 1, 1, "vector"))


class TestMean(HeadContract):
    spec, maps = DecoderSpec(name="linear", pool="mean"), (GRID,)


class TestMeanAndMax(HeadContract):
    spec, maps = DecoderSpec(name="linear", pool="mean+max", standardize=True, init="declip"), (GRID, TOKENS)


class TestCls(HeadContract):
    spec, maps = CLS, (TOKENS, TOKENS)


class TestPrior(HeadContract):
    spec, maps = DecoderSpec(name="prior"), (GRID,)


def pooled(x_BCHW: np.ndarray, how: str) -> np.ndarray:
    flat_BCP = x_BCHW.reshape(*x_BCHW.shape[:2], -1)
    parts = {"mean": flat_BCP.mean(2), "max": flat_BCP.max(2), "cls": flat_BCP[:, :, 0]}
    return np.concatenate([parts[each] for each in how.split("+")], axis=1)


@pytest.mark.parametrize("how", ["cls", "mean", "max", "mean+max"])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_head_weighs_what_is_pooled(how: str, standardize: bool) -> None:
    spec = DecoderSpec(name="linear", pool=how, standardize=standardize)
    maps = (TOKENS,) if how == "cls" else (GRID,)
    data = examples(spec, maps)
    decoder = build(spec, maps, generator(), 3).eval()
    decoder.solve(data)
    feature_BC = pooled(data.x.double().numpy(), how)
    if standardize:
        feature_BC = (feature_BC - feature_BC.mean(0)) / feature_BC.std(0)
    head = decoder.layers.head
    expected_BK = feature_BC @ head.weight.flatten(1).detach().double().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(decoder(data.x).detach(), expected_BK, rtol=1e-4, atol=1e-4)


def test_standardizing_is_of_what_is_pooled_not_of_cells() -> None:
    decoder, data = made(pool="mean", standardize=True), examples(DecoderSpec(name="linear"), (GRID,))
    decoder.solve(data)
    means_BC = data.x.mean((2, 3))
    torch.testing.assert_close(decoder.layers.standardize.mean.flatten(), means_BC.mean(0))
    torch.testing.assert_close(decoder.layers.standardize.deviation.flatten(), means_BC.std(0, correction=0))


def test_the_cls_token_is_what_cls_reads() -> None:
    part_BTC = torch.randn(2, 13, 8, generator=generator())
    decoder, other_BTC = made((TOKENS,), pool="cls"), part_BTC.clone()
    other_BTC[:, 1:] += 1
    shown = [decoder(fuse([each], [TOKENS], tokens=CLS.reads_tokens)) for each in (part_BTC, other_BTC)]
    assert torch.equal(*shown)
    head = decoder.layers.head
    torch.testing.assert_close(shown[0], part_BTC[:, 0] @ head.weight.flatten(1).T + head.bias)
    mean = made((TOKENS,), pool="mean")
    shown = [mean(fuse([each], [TOKENS])) for each in (part_BTC, other_BTC)]
    assert not torch.allclose(*shown)


def test_tokens_of_several_maps_stand_one_after_the_other() -> None:
    parts = [torch.randn(2, 13, 8, generator=generator(seed)) for seed in (0, 1)]
    x_BC1T = fuse(parts, [TOKENS, TOKENS], tokens=True)
    assert x_BC1T.shape == (2, 16, 1, 13)
    assert torch.equal(x_BC1T[:, 8:, 0, 0], parts[1][:, 0])


def test_a_vector_is_a_grid_of_one_cell() -> None:
    parts = [torch.randn(2, 9), torch.randn(2, 4)]
    x_BC11 = fuse(parts, [VECTOR, MapSpec(4, 1, 1, "vector")])
    assert x_BC11.shape == (2, 13, 1, 1)
    assert torch.equal(x_BC11.flatten(1), torch.cat(parts, 1))


def test_weights_begin_as_the_layer_of_torch_does_or_as_declip() -> None:
    for init, spread in (("default", 1 / np.sqrt(3 * 2048)), ("declip", 0.02)):
        head = made((MapSpec(2048, 1, 1, "vector"),), 5, init=init).layers.head
        assert head.weight.std().item() == pytest.approx(spread, rel=0.03)
        assert 0 < head.bias.abs().max() <= 1 / np.sqrt(2048)
    assert torch.equal(made(pool="max", seed=3).layers.head.weight, made(pool="max", seed=3).layers.head.weight)
    assert not torch.equal(made(pool="max", seed=3).layers.head.weight, made(pool="max").layers.head.weight)


def test_without_classes_the_linear_decoder_is_the_one_of_pixels() -> None:
    spec = DecoderSpec(name="linear", standardize=True, grid=9, prior=0.2)
    first, second = (make(spec, [GRID], generator()) for make in (build, decoders.make_linear))
    assert {name: value.tolist() for name, value in first.state_dict().items()} == {
        name: value.tolist() for name, value in second.state_dict().items()
    }
    assert first.eval()(torch.ones(1, 5, 6, 4)).shape == (1, 1, 256, 256)


def test_prior_answers_with_the_share_of_each_class() -> None:
    data = Examples(torch.zeros(200, 1, 2, 2), torch.tensor([0] * 50 + [1] * 150))
    for num_classes, shares in ((2, [0.25, 0.75]), (3, [0.25, 0.75, 0.0])):
        decoder = build(DecoderSpec(name="prior"), [MapSpec(1, 2, 2)], generator(), num_classes)
        decoder.solve(data)
        logit_BK = decoder(data.x[:4])
        torch.testing.assert_close(logit_BK.softmax(1), torch.tensor([shares] * 4), atol=1e-4, rtol=0)
        assert logit_BK.isfinite().all()


def test_equal_shares_are_exactly_a_half() -> None:
    data = Examples(torch.zeros(130, 1, 2, 2), torch.arange(130) % 2)
    decoder = build(DecoderSpec(name="prior"), [MapSpec(1, 2, 2)], generator(), 2)
    decoder.solve(data)
    assert decoder(data.x).softmax(1).unique().tolist() == [0.5]


def test_a_tensor_of_four_dimensions_is_a_map_and_one_of_two_are_logits() -> None:
    map_B1HW, image_BK = torch.zeros(2, 1, 4, 4), torch.zeros(2, 3)
    assert outputs(map_B1HW).map_B1HW is map_B1HW
    assert outputs(image_BK).image_BK is image_BK
    assert outputs(Outputs(map_B1HW, image_BK)) == Outputs(map_B1HW, image_BK)


@pytest.mark.parametrize(
    ("fields", "maps", "num_classes", "words"),
    [
        ({"pool": "mean"}, (GRID,), None, "pool: mean answers once an image, .* leave out pool, or set task: detect"),
        ({"name": "prior"}, (GRID,), None, "prior.*the task is to localize; use mean-mask"),
        ({}, (GRID,), 2, "must pool grid 5x6x4; add pool: mean, max or mean.max$"),
        ({}, (TOKENS,), 2, "must pool tokens 8x3x4; add pool: mean, max or mean.max, or cls"),
        ({"pool": "cls"}, (GRID,), 2, "pool: cls needs tokens of one grid, not grid 5x6x4; use pool: mean"),
        ({"pool": "cls"}, (TOKENS, GRID), 2, "pool: cls needs tokens of one grid"),
        ({"pool": "cls"}, (TOKENS, MapSpec(8, 5, 5, "tokens")), 2, "pool: cls needs tokens of one grid"),
        ({"pool": "cls"}, (VECTOR,), 2, "nothing to pool in vectors"),
        ({"pool": "mean"}, (VECTOR,), 2, "nothing to pool in vectors .*leave out pool"),
        ({"pool": "mean"}, (GRID, VECTOR), 2, "not both"),
        ({"pool": "mean", "grid": 8}, (GRID,), 2, "leave out grid"),
        ({"pool": "mean", "prior": 0.1}, (GRID,), 2, "leave out prior"),
        ({"name": "conv"}, (GRID,), 2, 'decoder "conv" gives a map, but .* use linear or prior or small'),
        ({"name": "conv", "pool": "mean"}, (VECTOR,), None, "a vector of 9 has none"),
        ({"name": "all-fake"}, (GRID,), 2, 'decoder "all-fake" gives a map'),
        ({"pool": "mean"}, (GRID,), 1, "two classes or more apart, not 1"),
    ],
)
def test_one_clear_error_each(
    fields: dict[str, Any], maps: tuple[MapSpec, ...], num_classes: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        decoders.check(DecoderSpec(**{"name": "linear", **fields}), maps, num_classes)


def test_a_linear_head_finds_the_optimum_that_scikit_learn_finds() -> None:
    """Multinomial regression is convex: the same loss on any path to its optimum."""
    from sklearn.linear_model import LogisticRegression

    spec, data = DecoderSpec(name="linear", pool="mean+max", standardize=True), examples(CLS, (TOKENS,), 150)
    signal_B1 = data.label_B[:, None, None, None] * torch.linspace(-0.5, 0.5, 8).view(1, 8, 1, 1)
    data = data._replace(x=data.x + signal_B1)
    decoder = build(spec, (MapSpec(8, 1, 13),), generator(), 3)
    decoder.solve(data)
    feature_BC = decoder.layers.standardize(decoder.layers.pool(data.x)).flatten(1).numpy()
    fitted = LogisticRegression(C=1e9, max_iter=5000, tol=1e-8).fit(feature_BC, data.label_B.numpy())
    best = -np.log(fitted.predict_proba(feature_BC)[np.arange(150), data.label_B]).mean()
    optimizer = torch.optim.Adam(decoder.parameters(), 0.1)
    for _ in range(300):
        loss = functional.cross_entropy(decoder(data.x), data.label_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(best, rel=0.01)
    assert loss.item() >= best - 1e-5


def test_the_spec_says_who_reads_tokens() -> None:
    assert CLS.reads_tokens
    assert DecoderSpec(name="attention").reads_tokens
    assert not DecoderSpec(name="linear", pool="mean").reads_tokens
    assert map_spec("clip-vit-l14/layer20").layout == "tokens"


class Head(nn.Module):
    """What a plug-in might bring: the means of a map, weighed."""

    def __init__(self, maps: Sequence[MapSpec], num_classes: int | None) -> None:
        super().__init__()
        self.head = nn.Linear(sum(each.channels for each in maps), num_classes or 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(x_BCHW.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_plug_ins_decoder_answers_once_an_image_where_it_declares_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(
        spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None = None
    ) -> nn.Module:
        return Head(maps, num_classes)

    added = {("decoder", "own"): registry.Added(make, "d" * 64)}
    monkeypatch.setitem(registry._plugged, "added", added)
    spec = DecoderSpec(name="own", plugin="d" * 64)
    with pytest.raises(ConfigError, match=r'"own" gives a map, .*make\.gives = "image"'):
        decoders.build(spec, [GRID], torch.Generator(), 3)
    component_specs.refuse_misfit(spec, LossSpec(name="bce"))
    make.gives = "image"  # type: ignore[attr-defined]
    assert answers.gives(spec, 3) == {"image"}
    assert answers.gives(spec, None) == {"image"}
    with pytest.raises(ConfigError, match=r"bce reads a map, but decoder own gives one answer an image; set task: det"):
        component_specs.refuse_misfit(spec, LossSpec(name="bce"))
    assert decoders.build(spec, [GRID], torch.Generator(), 3)(torch.zeros(2, GRID.channels, 4, 4)).shape == (2, 3)
    make.gives = "both"  # type: ignore[attr-defined]
    assert answers.gives(spec, 3) == {"map", "image"}
    make.gives = "picture"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="declares gives = 'picture'"):
        answers.gives(spec, 3)


@pytest.mark.parametrize(
    ("declared", "said", "message"),
    [
        ("image", torch.zeros(2, 1, 4, 4), r'decoder "own" is to give an image 3 logits, \[B, K\], but gave none'),
        ("image", torch.zeros(2, 2), r"is to give an image 3 logits, \[B, K\], but gave \[2, 2\]"),
        ("image", Outputs(image_BK=torch.zeros(2, 3, 1)), r"but gave \[2, 3, 1\]"),
        ("both", torch.zeros(2, 3), r"is to give a map \[B, 1, H, W\], but gave none"),
        ("both", Outputs(torch.zeros(2, 2, 4, 4), torch.zeros(2, 3)), r"is to give a map .*, but gave \[2, 2, 4, 4\]"),
    ],
)
def test_an_answer_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, declared: str, said: torch.Tensor | Outputs, message: str
) -> None:
    def make() -> None: ...

    make.gives = declared  # type: ignore[attr-defined]
    monkeypatch.setitem(registry._plugged, "added", {("decoder", "own"): registry.Added(make, "d" * 64)})
    spec = DecoderSpec(name="own", plugin="d" * 64)
    with pytest.raises(ConfigError, match=message):
        answers.given(spec, 3, said)
    both = Outputs(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3))
    assert answers.given(spec, 3, both) == both
    assert answers.given(spec, None, both) == Outputs(both.map_B1HW, None), "a localizer's answer an image is not read"
