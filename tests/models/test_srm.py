import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage

from dfloc import registry
from dfloc.errors import ConfigError
from dfloc.models.srm import make

ROW = registry.backbone("srm")
BOTH = ["stats", "absolute", "variance"]
KERNELS = [
    np.array([[1, -2, 1]]) / 2,
    np.array([[1, -3, 3, -1]]) / 3,
    np.array([[1], [-2], [1]]) / 2,
    np.array([[1], [-3], [3], [-1]]) / 3,
    np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]) / 12,
]


@pytest.fixture(scope="module")
def srm():
    return make("srm", "none", "cpu")


def _images(count: int, seed: int = 0) -> torch.Tensor:
    """Return textures whose residuals lie within, at and beyond the truncation."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(np.repeat(rng.uniform(0.2, 20, (count, 1, 32, 32)), 8, axis=2), 8, axis=3)
    images = 128 + scale * rng.standard_normal((count, 3, 256, 256))
    return torch.from_numpy(np.clip(images, 0, 255).astype(np.uint8))


def _luma(image: torch.Tensor) -> np.ndarray:
    return np.tensordot([0.299, 0.587, 0.114], image.numpy().astype(float), axes=1)


def test_maps_are_those_of_the_registry(srm) -> None:
    assert srm.maps == ROW.maps
    maps = srm(_images(2), BOTH)
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        name: tuple(spec[:3]) for name, spec in ROW.maps.items()
    }
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in maps.values())
    assert set(srm(_images(1), ["variance"])) == {"variance"}


@pytest.mark.parametrize("cell", [(1, 1), (10, 20), (30, 30)])
def test_residual_statistics_equal_scipys(srm, cell: tuple[int, int]) -> None:
    image = _images(1)
    stats = srm(image, ["stats"])["stats"][0, :, *cell].numpy()
    window = tuple(slice(8 * index, 8 * index + 8) for index in cell)
    for index, kernel in enumerate(KERNELS):
        residual = ndimage.correlate(_luma(image[0]), kernel, mode="mirror")[window].clip(-8, 8)
        energy = (residual**2).mean() + 0.01
        assert stats[index] == pytest.approx(np.log(abs(residual).mean() + 0.01), abs=1e-4)
        assert stats[5 + index] == pytest.approx(np.log(energy), abs=1e-4)
        assert stats[10 + index] == pytest.approx((residual[:, 1:] * residual[:, :-1]).mean() / energy, abs=1e-4)
        assert stats[15 + index] == pytest.approx((residual[1:] * residual[:-1]).mean() / energy, abs=1e-4)
        assert stats[20 + index] == pytest.approx((abs(residual) < 0.45).mean(), abs=1e-4)


def test_dct_bands_equal_scipys(srm) -> None:
    image = _images(1)
    stats = srm(image, ["stats"])["stats"][0, :, 5, 6].numpy()
    power = fft.dctn(_luma(image[0])[40:48, 48:56], norm="ortho") ** 2
    antidiagonal = np.add.outer(np.arange(8), np.arange(8))
    for index, (low, high) in enumerate([(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 10), (11, 14)]):
        expected = power[(antidiagonal >= low) & (antidiagonal <= high)].mean()
        assert stats[25 + index] == pytest.approx(np.log(expected + 0.01), abs=1e-3)


def test_the_second_half_is_the_first_less_the_images_median(srm) -> None:
    stats = srm(_images(1), ["stats"])["stats"][0].flatten(1).numpy()
    medians = np.sort(stats[:33], axis=1)[:, 512:513]
    np.testing.assert_array_equal(stats[33:], stats[:33] - medians)


def test_absolute_is_the_first_half_of_stats(srm) -> None:
    maps = srm(_images(2), ["absolute", "stats"])
    assert torch.equal(maps["absolute"], maps["stats"][:, :33])
    assert torch.equal(srm(_images(2), ["absolute"])["absolute"], maps["absolute"])


def test_variance_equals_numpys(srm) -> None:
    image = _images(1)
    blocks = _luma(image[0]).reshape(32, 8, 32, 8)
    np.testing.assert_allclose(
        srm(image, ["variance"])["variance"][0, 0], np.log(blocks.var(axis=(1, 3)) + 0.01), atol=1e-3
    )


def test_a_ramp_has_no_second_order_residual(srm) -> None:
    ramp = torch.arange(256, dtype=torch.uint8).expand(1, 3, 256, 256)
    stats = srm(ramp, ["stats"])["stats"][0, :, 1:-1, 1:-1]
    assert (stats[20:25] == 1).all()
    torch.testing.assert_close(stats[:5], torch.full_like(stats[:5], np.log(0.01)), atol=1e-2, rtol=0)


@pytest.mark.parametrize("low", [0, 255])
@pytest.mark.parametrize("high", [0, 255])
def test_extreme_and_constant_images_are_finite_in_half_precision(srm, low: int, high: int) -> None:
    image = torch.full((1, 3, 256, 256), low, dtype=torch.uint8)
    image[..., ::2, ::2] = high
    image[..., 1::2, 1::2] = high
    for value in srm(image, BOTH).values():
        assert value.half().isfinite().all()
        assert value.abs().max() < 30


def test_numbers_do_not_depend_on_the_batch_nor_on_the_run(srm) -> None:
    images = _images(16)
    together = srm(images, BOTH)
    again = srm(images, BOTH)
    for index in range(16):
        alone = srm(images[index : index + 1], BOTH)
        for name in BOTH:
            assert torch.equal(alone[name][0], together[name][index])
            assert torch.equal(again[name][index], together[name][index])


def test_an_image_of_another_size_is_resized_by_pil(srm) -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (300, 400, 3)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(large).resize((256, 256), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(srm.preprocess(large).numpy(), expected.transpose(2, 0, 1))
    exact = large[:256, :256]
    np.testing.assert_array_equal(srm.preprocess(exact).numpy(), exact.transpose(2, 0, 1))


def test_weights_and_unknown_maps_are_refused(srm) -> None:
    with pytest.raises(ConfigError, match='"srm" has no weights; use weights: none instead of "openai"'):
        make("srm", "openai", "cpu")
    with pytest.raises(ConfigError, match='unknown map of srm "stat"; did you mean "stats"'):
        srm(_images(1), ["stat"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_numbers(srm) -> None:
    images = _images(4)
    there = make("srm", "none", "cuda")(images.cuda(), BOTH)
    for name, value in srm(images, BOTH).items():
        torch.testing.assert_close(there[name].cpu(), value, atol=1e-3, rtol=1e-3)
