import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision import transforms
from torchvision.transforms import functional

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.data import augment
from dfloc.data.augment import NAMED, View, blur, color_jitter, jpeg, share_touched, view_of, views_of
from dfloc.errors import ConfigError

GOLDEN_DRAWS = [0, 1.411809, 1.19373, 1.741283, 0, 0.492256, 1.752913, 0.821612, 0.506041, 0, 60, 77, 58, 43]
GOLDEN_NAME = "57839d2462aa4b9d-1"
IDS = [f"celebahq/ldm/train/{k:05}.png" for k in range(400)]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(96, 80, 3)), (6, 6, 0))
    return np.clip(128 + 900 * smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def levels_apart(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    apart = np.abs(one.astype(int) - other.astype(int))
    return int(apart.max()), float((apart > 0).mean())


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 3.0, 9.7])
def test_blur_is_scipys_cut_at_four_sigma(image: np.ndarray, sigma: float) -> None:
    expected = np.rint(ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=4.0, mode="reflect"))
    most, share = levels_apart(blur(image, sigma), expected)
    assert most <= 1
    assert share < 1e-3
    if sigma in (1.0, 3.0):
        cut = np.rint(ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=1.0, mode="reflect"))
        assert levels_apart(blur(image, sigma), cut)[1] > 0.1


@pytest.mark.parametrize("sigma", [0.4, 1.1, 2.0])
def test_declips_blur_is_torchvisions(image: np.ndarray, sigma: float) -> None:
    image_CHW = torch.from_numpy(image.transpose(2, 0, 1).copy())
    expected = functional.gaussian_blur(image_CHW, [5, 5], [sigma, sigma]).numpy().transpose(1, 2, 0)
    most, share = levels_apart(blur(image, sigma, 5), expected)
    assert most <= 1
    assert share < 1e-3
    assert sigma == 0.4 or levels_apart(blur(image, sigma), expected)[1] > 0.02


@pytest.mark.parametrize("sigma", [0.0, 1e-9, 0.12])
def test_a_sigma_near_zero_changes_nothing(image: np.ndarray, sigma: float) -> None:
    assert np.array_equal(blur(image, sigma), image)


def test_a_flat_image_stays_flat_up_to_its_edges() -> None:
    flat = np.full((7, 5, 3), 201, np.uint8)
    for kernel in (None, 5):
        assert np.array_equal(blur(flat, 3.0, kernel), flat)
    assert np.array_equal(blur(flat[:1, :1], 3.0), flat[:1, :1])


def test_jpeg_is_pils(image: np.ndarray) -> None:
    errors = {}
    for quality in (30, 100):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
        assert np.array_equal(jpeg(image, quality), np.asarray(Image.open(buffer)))
        errors[quality] = np.abs(jpeg(image, quality).astype(int) - image).mean()
    assert errors[30] > 1.2 * errors[100] > 0


@pytest.mark.parametrize("seed", range(6))
def test_color_jitter_is_torchvisions_draw_for_draw(image: np.ndarray, seed: int) -> None:
    made = color_jitter(image, 0.3, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        expected = transforms.ColorJitter(0.3, 0.3, 0.3, 0.3)(Image.fromarray(image))
    assert np.array_equal(made, np.asarray(expected))
    assert not np.array_equal(made, image)


def test_a_flip_changes_left_and_right_of_half_of_the_images(image: np.ndarray) -> None:
    view = View(AugmentSpec(ops=NAMED["flip"]), 1)
    flipped = {name: view.flips(name) for name in IDS}
    assert 0.4 < np.mean(list(flipped.values())) < 0.6
    for name in IDS[:20]:
        expected = np.asarray(Image.fromarray(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert np.array_equal(view.apply(image, name), expected if flipped[name] else image)
        assert view.touches(name) == flipped[name]
    other = View(view.augment, 2)
    assert 0.3 < np.mean([other.flips(name) == flipped[name] for name in IDS]) < 0.7
    twice = View(AugmentSpec(ops=(AugmentOp(name="flip"), AugmentOp(name="flip"))), 1)
    assert np.array_equal(twice.apply(image, "a"), image)
    assert not twice.flips("a")
    blurred = View(AugmentSpec(ops=NAMED["blur"]), 1)
    assert not any(blurred.flips(name) for name in IDS)


def test_the_named_sets_are_the_documents() -> None:
    assert NAMED["blur"] == (AugmentOp(name="blur", sigma=(0, 3), probability=0.5, at="stored"),)
    assert sorted(NAMED) == ["blur", "declip-all", "declip-blur", "declip-jitter", "declip-jpeg", "flip"]
    assert NAMED["flip"] == (AugmentOp(name="flip", probability=0.5),)
    assert [op.name for op in NAMED["declip-all"]] == ["color-jitter", "jpeg", "blur"]
    for name, ops in NAMED.items():
        augment.check(ops)
        if name not in ("blur", "flip"):
            assert all(op.at == "input" and op.probability == 1 for op in ops)
    jitter, saved, blurred = NAMED["declip-all"]
    assert (jitter.strength, saved.quality, blurred.kernel, blurred.sigma) == (0.3, (30, 100), 5, (0.4, 2.0))


def spec(*ops: AugmentOp, **fields: Any) -> AugmentSpec:
    return AugmentSpec(ops=ops or NAMED["blur"], **fields)


def test_a_draw_depends_on_operations_seed_view_and_sample_alone(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = AugmentOp(name="blur", sigma=(1, 3))
    one = View(spec(always), 1)
    again = View(spec(always, views=5), 1)
    assert (again.name, again.apply(image, "a").tobytes()) == (one.name, one.apply(image, "a").tobytes())
    others = [
        View(spec(always), 2),
        View(spec(always, seed=1), 1),
        View(spec(always.model_copy(update={"at": "input"})), 1),
        View(spec(always.model_copy(update={"sigma": (1.0, 2.0)})), 1),
    ]
    assert len({view.name for view in [one, *others]}) == 5
    made = {view.apply(image, "a").tobytes() for view in [one, *others]} | {one.apply(image, "b").tobytes()}
    assert len(made) == 6
    monkeypatch.setattr(augment, "SEMANTICS", {"augment": 2})
    assert View(spec(always), 1).name != one.name


def test_draws_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, stored views and trials are of other numbers: raise registry.SEMANTICS["augment"]."""
    drawn: list[float] = []
    monkeypatch.setattr(augment, "blur", lambda image, sigma, kernel: drawn.append(sigma))
    monkeypatch.setattr(augment, "jpeg", lambda image, quality: drawn.append(quality))
    for name in ("blur", "declip-blur", "declip-jpeg"):
        view = View(spec(*NAMED[name]), 1)
        drawn.append(0)
        for sample in IDS[:4]:
            view.apply(np.zeros(()), sample)
    assert drawn == pytest.approx(GOLDEN_DRAWS, abs=1e-5)
    assert View(spec(), 1).name == GOLDEN_NAME


def test_the_numbers_are_uniform_and_half_of_the_images_are_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    sigmas, qualities = [], []
    monkeypatch.setattr(augment, "blur", lambda image, sigma, kernel: sigmas.append(sigma))
    monkeypatch.setattr(augment, "jpeg", lambda image, quality: qualities.append(quality))
    blurred, saved = View(spec(), 1), View(spec(*NAMED["declip-jpeg"]), 1)
    for name in IDS:
        blurred.apply(np.zeros(()), name)
        saved.apply(np.zeros(()), name)
    touched = [name for name in IDS if blurred.touches(name)]
    assert len(sigmas) == len(touched)
    assert abs(len(touched) - 200) < 4 * 10  # four deviations of a binomial
    assert 0 <= min(sigmas) < 0.1
    assert 2.9 < max(sigmas) <= 3
    assert abs(np.mean(sigmas) - 1.5) < 4 * 3 / np.sqrt(12 * len(sigmas))
    assert len(qualities) == len(IDS)
    assert set(qualities) <= set(range(30, 101))
    assert {30, 100} <= set(qualities)


def test_other_views_touch_other_images() -> None:
    touched = [{name for name in IDS if View(spec(), number).touches(name)} for number in (1, 2)]
    assert 60 < len(touched[0] & touched[1]) < 140


def test_each_place_has_its_own_operations(image: np.ndarray) -> None:
    ops = (AugmentOp(name="blur", sigma=(1, 3)), AugmentOp(name="jpeg", quality=(30, 60), at="input"))
    view = View(spec(*ops), 4)
    stored = view.apply(image, "a", "stored")
    assert np.array_equal(view.apply(stored, "a", "input"), view.apply(image, "a"))
    assert not np.array_equal(stored, view.apply(image, "a"))
    assert not np.array_equal(stored, image)
    assert np.array_equal(view.apply(image, "a", "input"), view.apply(image.copy(), "a", "input"))


def test_epochs_read_views() -> None:
    every, two = spec(), spec(views=2)
    assert view_of(None, 3) is view_of(every, 0) is view_of(two, 0) is None
    assert [view_of(every, epoch) for epoch in (1, 2, 9)] == [View(every, number) for number in (1, 2, 9)]
    assert [view_of(two, epoch).number for epoch in range(1, 6)] == [1, 2, 1, 2, 1]
    assert [view.number for view in views_of(every, 3)] == [1, 2, 3]
    assert [view.number for view in views_of(two, 3)] == [1, 2]
    assert [view.number for view in views_of(two, 1)] == [1]
    assert views_of(None, 3) == []


def test_the_share_of_images_that_some_operation_touches() -> None:
    ops = (AugmentOp(name="jpeg", quality=(30, 100), probability=0.5), AugmentOp(name="blur", sigma=(0, 3)))
    assert share_touched(spec(*ops[:1])) == 0.5
    assert share_touched(spec(*ops)) == 1
    half = spec(ops[0], ops[0])
    assert share_touched(half) == 0.75
    assert abs(sum(View(half, 1).touches(name) for name in IDS) - 300) < 4 * 8.7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "blur"}, "blur needs sigma: {name: blur, sigma"),
        ({"name": "jpeg", "sigma": (0, 3)}, "jpeg needs quality"),
        ({"name": "jpeg", "quality": (30, 90), "kernel": 5}, "jpeg does not read kernel, only quality"),
        ({"name": "color-jitter", "strength": 0.3, "sigma": (0, 1)}, "color-jitter does not read sigma"),
        ({"name": "blur", "sigma": (3, 0)}, "sigma is .from, to., but 3.0 is over 0.0"),
        ({"name": "jpeg", "quality": (90, 30)}, "90 is over 30"),
        ({"name": "blur", "sigma": (0, 1e9)}, "at most 64 pixels, not 1e.09"),
        ({"name": "blur", "sigma": (1, 2), "kernel": 4}, "kernel is odd and at most 255 pixels, not 4"),
        ({"name": "blur", "sigma": (1, 2), "kernel": 10**6 + 1}, "not 1000001"),
        ({"name": "blur", "sigma": (0, 2), "kernel": 5}, "with a kernel, sigma is over 0"),
        ({"name": "color-jitter", "strength": 0.6}, "at most 0.5"),
    ],
)
def test_operations_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augment.check((AugmentOp(**fields),))


def test_what_acts_on_the_input_does_not_stand_before_what_acts_on_the_stored_image() -> None:
    stored, late = NAMED["blur"][0], NAMED["declip-blur"][0]
    augment.check((stored, late))
    with pytest.raises(ConfigError, match="at: stored acts first"):
        augment.check((late, stored))
