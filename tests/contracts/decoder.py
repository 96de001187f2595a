"""What every decoder keeps to; a test class of a decoder inherits from this and names a spec and its maps."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.models.decoders import build
from dfloc.registry import MapSpec


class Examples(NamedTuple):
    x: Tensor
    target_BHW: Tensor  # noqa: N815

    @property
    def num_samples(self) -> int:
        return len(self.x)

    def batch(self, indices: Sequence[int], epoch: int) -> "Examples":
        return Examples(self.x[list(indices)], self.target_BHW[list(indices)])


def examples(maps: Sequence[MapSpec], num: int = 6) -> Examples:
    generator = torch.Generator().manual_seed(7)
    channels = sum(spec.channels for spec in maps)
    x = 3 + 2 * torch.randn(num, channels, maps[0].height, maps[0].width, generator=generator)
    target_BHW = (torch.rand(num, 256, 256, generator=generator) > 0.7).to(torch.uint8)
    return Examples(x, target_BHW)


class DecoderContract:
    """Attributes: `spec`, `maps`, side of the grid of the logits, and how many images are tried."""

    spec: ClassVar[DecoderSpec]
    maps: ClassVar[tuple[MapSpec, ...]]
    size: ClassVar[int] = 256
    num: ClassVar[int] = 6

    def examples(self, num: int | None = None) -> Examples:
        return examples(self.maps, num or self.num)

    def make(self, seed: int = 0) -> nn.Module:
        return build(self.spec, self.maps, torch.Generator().manual_seed(seed))

    def solved(self, seed: int = 0) -> nn.Module:
        decoder = self.make(seed)
        decoder.solve(self.examples())
        return decoder.eval()

    def test_gives_one_logit_per_pixel(self):
        for num in (1, 2):
            logit_B1HW = self.solved()(self.examples(num).x)
            assert logit_B1HW.shape == (num, 1, self.size, self.size)
            assert logit_B1HW.dtype == torch.float32
            assert logit_B1HW.isfinite().all()

    def test_draws_from_the_given_generator_alone(self):
        before = torch.random.get_rng_state()
        first = self.solved().state_dict()
        torch.rand(5)
        torch.random.set_rng_state(before)
        second = self.solved().state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_state_says_everything(self):
        decoder, other = self.solved(), self.make(seed=1).eval()
        other.load_state_dict(decoder.state_dict())
        x = self.examples().x
        assert torch.equal(decoder(x), other(x))

    def test_images_do_not_see_each_other(self):
        decoder, x = self.solved(), self.examples().x
        torch.testing.assert_close(decoder(x)[1:2], decoder(x[1:2]), rtol=1e-4, atol=1e-5)

    def test_trains_or_is_solved(self):
        decoder = self.solved().train()
        logit_B1HW = decoder(self.examples().x)
        trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
        assert logit_B1HW.requires_grad == bool(trained)
        if trained:
            logit_B1HW.square().mean().backward()
            assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
