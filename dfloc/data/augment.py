"""Random changes of training images, drawn by augmentation, view and sample; a flip is of the mask too."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance

from dfloc import repro
from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.errors import ConfigError
from dfloc.frozen import fingerprint
from dfloc.registry import SEMANTICS

Pixels = npt.NDArray[np.uint8]
AppliedTo = Literal["stored", "input"]

TRUNCATE = 4.0
MAX_SIGMA, MAX_KERNEL, MAX_STRENGTH = 64.0, 255, 0.5

_DECLIP = {
    "jitter": AugmentOp(name="color-jitter", strength=0.3, at="input"),
    "jpeg": AugmentOp(name="jpeg", quality=(30, 100), at="input"),
    "blur": AugmentOp(name="blur", kernel=5, sigma=(0.4, 2.0), at="input"),
}

NAMED: Mapping[str, tuple[AugmentOp, ...]] = {
    "blur": (AugmentOp(name="blur", sigma=(0.0, 3.0), probability=0.5),),
    **{f"declip-{name}": (op,) for name, op in _DECLIP.items()},
    "declip-all": tuple(_DECLIP.values()),
    "flip": (AugmentOp(name="flip", probability=0.5),),
}
"""Sets of operations by the name that a sweep file gives them.

`blur` is that of the segmentation poster (seeds/002): sigma ~ U[0, 3] with probability 0.5, on the stored image. `flip`
is that of Dolos' weakly supervised models, left to right with probability 0.5. The others are DeCLIP's `--data_aug`,
always, after the resize.
"""


def name_of(augment: AugmentSpec) -> str | None:
    """Return the name of an augmentation's operations in NAMED; None where they are a user's own."""
    return next((name for name, ops in NAMED.items() if ops == augment.ops), None)


FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "blur": (frozenset({"sigma"}), frozenset({"sigma", "kernel"})),
    "jpeg": (frozenset({"quality"}), frozenset({"quality"})),
    "color-jitter": (frozenset({"strength"}), frozenset({"strength"})),
    "flip": (frozenset(), frozenset()),
}
"""Of each operation: the fields that it needs, and those that it reads, beside name, probability and at."""


def check(ops: tuple[AugmentOp, ...]) -> None:
    """Refuse operations that cannot be carried out as they are written.

    Raises:
        ConfigError: one lacks a field or has one that it does not read, a number is out of bounds, or one at: input
            stands before one at: stored.
    """
    for op in ops:
        needs, reads = FIELDS[op.name]
        given = {name for name in ("sigma", "kernel", "quality", "strength") if getattr(op, name) is not None}
        if needs - given:
            raise ConfigError(f"augmentation {op.name} needs {', '.join(needs - given)}: {EXAMPLES[op.name]}")
        if given - reads:
            raise ConfigError(
                f"augmentation {op.name} does not read {', '.join(sorted(given - reads))}, only "
                f"{', '.join(sorted(reads)) or 'probability and at'}: {EXAMPLES[op.name]}"
            )
        _check_numbers(op)
    places = [op.at for op in ops]
    if places != sorted(places, reverse=True):
        raise ConfigError("augmentation: what is at: stored acts first, so it stands before what is at: input")


def _check_numbers(op: AugmentOp) -> None:
    for name in ("sigma", "quality"):
        low, high = getattr(op, name) or (0, 0)
        if low > high:
            raise ConfigError(f"augmentation {op.name}: {name} is [from, to], but {low} is over {high}")
    if op.sigma and op.sigma[1] > MAX_SIGMA:
        raise ConfigError(f"augmentation blur: sigma is at most {MAX_SIGMA:g} pixels, not {op.sigma[1]:g}")
    if op.kernel and (op.kernel % 2 == 0 or op.kernel > MAX_KERNEL):
        raise ConfigError(f"augmentation blur: kernel is odd and at most {MAX_KERNEL} pixels, not {op.kernel}")
    if op.kernel and op.sigma and op.sigma[0] <= 0:
        raise ConfigError("augmentation blur: with a kernel, sigma is over 0 (without one, sigma 0 changes nothing)")
    if op.strength is not None and op.strength > MAX_STRENGTH:
        raise ConfigError(
            f"augmentation color-jitter: strength is at most {MAX_STRENGTH} (half the circle of hues), "
            f"not {op.strength:g}"
        )


EXAMPLES: Mapping[str, str] = {
    "blur": "{name: blur, sigma: [0, 3], probability: 0.5}",
    "jpeg": "{name: jpeg, quality: [30, 100]}",
    "color-jitter": "{name: color-jitter, strength: 0.3}",
    "flip": "{name: flip, probability: 0.5}",
}


@dataclass(frozen=True)
class View:
    """One augmented draw of the data; the clean one, view 0, is no View but None.

    Each operation draws from a generator of its own for (operations, semantics, seed, view, sample): never by the
    trial's seed or a row's position, so trials share views, and the views of `views: epochs` begin with those of
    `views: k`.

    Attributes:
        augment: the operations.
        number: from 1.
    """

    augment: AugmentSpec
    number: int

    @property
    def name(self) -> str:
        """The view's folder in the feature store."""
        return f"{self._digest[:16]}-{self.number}"

    def touches(self, sample_id: str) -> bool:
        """Whether some operation acts on this sample; else it is as in view 0."""
        ops = self.augment.ops
        if any(op.probability == 1 for op in ops):
            return True
        return any(self._draws(place, sample_id) is not None for place in range(len(ops)))

    def flips(self, sample_id: str) -> bool:
        """Whether left and right have changed places in this view of a sample, so that its mask must follow."""
        ops = enumerate(self.augment.ops)
        return sum(op.name == "flip" and self._draws(place, sample_id) is not None for place, op in ops) % 2 == 1

    def apply(self, image_HWC: Pixels, sample_id: str, where: AppliedTo | None = None) -> Pixels:
        """Return the image as this view has it.

        Args:
            image_HWC: RGB, of any size.
            sample_id: whose image it is.
            where: only the operations of this place; none: all of them.
        """
        for place, op in enumerate(self.augment.ops):
            if where not in (None, op.at):
                continue
            generator = self._draws(place, sample_id)
            if generator is not None:
                image_HWC = KERNELS[op.name](image_HWC, op, generator)
        return image_HWC

    @cached_property
    def _digest(self) -> str:
        return digest(self.augment)

    def change(self, image_CHW: torch.Tensor, sample_id: str, where: AppliedTo | None = None) -> torch.Tensor:
        """Return the same of an image as a backbone takes it or as `pixels` stores it, uint8 [3, H, W].

        Raises:
            ConfigError: there is something to do, and it is no such image.
        """
        if not any(where in (None, op.at) for op in self.augment.ops):
            return image_CHW
        if image_CHW.dtype != torch.uint8 or image_CHW.ndim != 3 or len(image_CHW) != 3:
            raise ConfigError(
                "augmentation at: input needs a backbone that takes uint8 [3, H, W]; this one takes "
                f"{str(image_CHW.dtype).removeprefix('torch.')} {list(image_CHW.shape)}: use at: stored"
            )
        changed_HWC = self.apply(np.ascontiguousarray(image_CHW.numpy().transpose(1, 2, 0)), sample_id, where)
        return torch.from_numpy(np.ascontiguousarray(changed_HWC.transpose(2, 0, 1)))

    def _draws(self, place: int, sample_id: str) -> torch.Generator | None:
        """Return what an operation draws from, past the draw of whether it acts; None if it does not."""
        sample = f"{self._digest}/{place}/{sample_id}"
        generator = repro.generator(self.augment.seed, "view", self.number, sample)
        return generator if _uniform(generator, 0, 1) < self.augment.ops[place].probability else None


def digest(augment: AugmentSpec) -> str:
    """Return what tells draws apart, 64 hexadecimal digits: operations, seed and semantics; not how many views."""
    ops = [op.model_dump(mode="json", exclude_defaults=True) for op in augment.ops]
    return fingerprint({"ops": ops, "seed": augment.seed, "semantics": SEMANTICS["augment"]})


def view_of(augment: AugmentSpec | None, epoch: int) -> View | None:
    """Return the view that an epoch reads; epoch 0 (validation, test, closed forms) and no augmentation: the clean one.

    `views: epochs`: epoch e reads view e. `views: k`: the epochs take views 1 to k in turn.
    """
    if augment is None or epoch == 0:
        return None
    return View(augment, epoch if augment.views == "epochs" else (epoch - 1) % augment.views + 1)


def views_of(augment: AugmentSpec | None, epochs: int) -> list[View]:
    """Return the views that so many epochs read, without the clean one."""
    count = 0 if augment is None else epochs if augment.views == "epochs" else min(epochs, augment.views)
    return [view for epoch in range(1, count + 1) if (view := view_of(augment, epoch))]


def share_touched(augment: AugmentSpec) -> float:
    """Return the probability that some operation acts on an image."""
    return 1 - float(np.prod([1 - op.probability for op in augment.ops]))


def blur(image_HWC: Pixels, sigma: float, kernel: int | None = None) -> Pixels:
    """Return a Gaussian blur of each channel, rounded to whole grey levels.

    Args:
        image_HWC: RGB.
        sigma: in pixels.
        kernel: side in pixels; edges are mirrored without repeating them: torchvision's GaussianBlur. None: cut at
            4 sigma (radius int(4 sigma + 0.5), so under 0.125 nothing changes), edges mirrored with their own pixels:
            scipy.ndimage.gaussian_filter(truncate=4, mode="reflect").
    """
    side = kernel if kernel is not None else 2 * int(TRUNCATE * sigma + 0.5) + 1
    if side == 1:
        return image_HWC
    border = cv2.BORDER_REFLECT if kernel is None else cv2.BORDER_REFLECT_101
    blurred_HWC = cv2.GaussianBlur(image_HWC.astype(np.float32), (side, side), sigma, borderType=border)
    rounded_HWC: Pixels = np.rint(blurred_HWC).astype(np.uint8)
    return rounded_HWC


def jpeg(image_HWC: Pixels, quality: int) -> Pixels:
    """Return an image as it is after being saved as JPEG (PIL, optimize) and read again."""
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "JPEG", quality=quality, optimize=True)
    return np.asarray(Image.open(buffer).convert("RGB"))


def color_jitter(image_HWC: Pixels, strength: float, generator: torch.Generator) -> Pixels:
    """Return an image with brightness, contrast, saturation and hue changed in random order.

    As torchvision's ColorJitter(strength, strength, strength, strength) on a PIL image, draw for draw: the order, then
    three factors ~ U[1 - strength, 1 + strength], then a turn of the hue ~ U[-strength, strength] of its circle.
    """
    order = torch.randperm(4, generator=generator).tolist()
    factors = [_uniform(generator, 1 - strength, 1 + strength) for _ in range(3)]
    turn = _uniform(generator, -strength, strength)
    image = Image.fromarray(image_HWC)
    for what in order:
        enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, None)[what]
        image = enhance(image).enhance(factors[what]) if enhance else _turned(image, turn)
    return np.asarray(image)


def flip(image_HWC: Pixels) -> Pixels:
    """Return an image with left and right changed places."""
    return np.ascontiguousarray(image_HWC[:, ::-1])


def _turned(image: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned_HW = (np.asarray(hue, np.int32) + int(turn * 255)) % 256
    merged = Image.merge("HSV", (Image.fromarray(turned_HW.astype(np.uint8)), saturation, value))
    return merged.convert("RGB")


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _blur(image_HWC: Pixels, op: AugmentOp, generator: torch.Generator) -> Pixels:
    assert op.sigma is not None
    return blur(image_HWC, _uniform(generator, *op.sigma), op.kernel)


def _jpeg(image_HWC: Pixels, op: AugmentOp, generator: torch.Generator) -> Pixels:
    assert op.quality is not None
    return jpeg(image_HWC, int(torch.randint(op.quality[0], op.quality[1] + 1, (), generator=generator)))


def _jitter(image_HWC: Pixels, op: AugmentOp, generator: torch.Generator) -> Pixels:
    assert op.strength is not None
    return color_jitter(image_HWC, op.strength, generator)


KERNELS: Mapping[str, Callable[[Pixels, AugmentOp, torch.Generator], Pixels]] = {
    "blur": _blur,
    "jpeg": _jpeg,
    "color-jitter": _jitter,
    "flip": lambda image_HWC, _op, _generator: flip(image_HWC),
}
