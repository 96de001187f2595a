"""A mask beside the pixels that were changed -> whether it fits, or what would make it fit; and that in words."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dfloc.data.originals import Marks, Pixels, difference, shares
from dfloc.frozen import Frozen

Counts = npt.NDArray[np.float64]

FITS, INVERTED, MOVED, ANEW, ENCODED, PARTLY, UNCHANGED, UNCOMPARED = (
    "fits", "inverted", "moved", "made anew", "encoded anew", "partly", "unchanged", "not compared",
)  # fmt: skip
MISFIT, OUTSIDE, NOTHING, CLEAN = 0.05, 0.1, 0.001, 0.25
SAID = 0.05
GRID = 256
NEAR = 2
ONLY = "fit their originals only when"

# What is tried on a mask, the first of equals wins. Without the last four on a picture that is no square.
_TURNS: Mapping[str, Callable[[Marks], Marks]] = {
    "": lambda mask: mask,
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
    "mirrored left to right": lambda mask: mask[:, ::-1],
    "mirrored top to bottom": lambda mask: mask[::-1],
    "turned by 90 degrees to the left": lambda mask: np.rot90(mask),
    "turned by 90 degrees to the right": lambda mask: np.rot90(mask, -1),
    "with rows and columns exchanged": lambda mask: mask.T,
    "with rows and columns exchanged, turned by 180 degrees": lambda mask: mask[::-1, ::-1].T,
}


class MaskVerdict(NamedTuple):
    """What the original of one fake says of its mask: the shares of pixels changed, and a verdict."""

    inside: float | None
    outside: float | None
    verdict: str


class MaskComparison(Frozen):
    """What originals say of the masks of a split.

    Attributes:
        images: that were compared with their originals.
        inside: mean share of the pixels changed inside the masks; None where none has fake pixels.
        outside: the same outside of them.
        verdicts: images by what was found, those that could not be compared among them.
    """

    images: int
    inside: float | None
    outside: float | None
    verdicts: dict[str, int]

    @property
    def shares(self) -> str:
        """The two shares, as a sentence has them."""
        inside, outside = ("-" if share is None else f"{share:.1%}" for share in (self.inside, self.outside))
        return f"changed inside {inside}, outside {outside}"

    @property
    def tally(self) -> str:
        """How many images have which verdict, the commonest first."""
        shown = sorted(self.verdicts.items(), key=lambda one: (-one[1], one[0]))
        return ", ".join(f"{verdict}: {number}" for verdict, number in shown)


class _Turned(NamedTuple):
    """A change of a mask, and the shares of changed pixels inside and outside of it then."""

    name: str
    inside: float
    outside: float

    @property
    def contrast(self) -> float:
        return self.inside - self.outside


def judge(image_HW3: Pixels, original_HW3: Pixels, fakeness_HW: Pixels) -> MaskVerdict:
    """Return what the original of a fake says of its mask.

    The misfit of a mask is the share of its inside that is not changed and the share of its outside that is. One of
    over 5 % is explained by the other polarity, a turn, a mirror or a move by up to a quarter of each side, if that
    leaves less than half of it (of a picture that was encoded anew, where few pixels change plainly: if the mask has at
    most a quarter of that contrast). Else the outside was changed as much as the inside, a little everywhere, or in
    parts.
    """
    fake_HW = fakeness_HW > 127.5
    marks_HW, everywhere = difference(image_HW3, original_HW3, fake_HW)
    if marks_HW is None:
        return MaskVerdict(None, None, UNCOMPARED)
    inside, outside = shares(marks_HW, fake_HW)
    if inside is None or outside is None:
        return MaskVerdict(inside, outside, PARTLY if outside and outside > MISFIT else FITS)
    if not everywhere and marks_HW.mean() < NOTHING:
        return MaskVerdict(inside, outside, UNCHANGED)
    asis = _Turned(FITS, inside, outside)
    best = max(_ways(marks_HW, fake_HW), key=lambda way: way.contrast) if asis.contrast < 1 - MISFIT else asis
    return MaskVerdict(
        inside, outside, best.name if _explains(best, asis, everywhere) else _otherwise(asis, everywhere)
    )


def _explains(best: _Turned, asis: _Turned, everywhere: bool) -> bool:
    if best.outside > CLEAN * best.inside:
        return False
    faint = everywhere and best.contrast > OUTSIDE and asis.contrast <= CLEAN * best.contrast
    return faint or 1 - best.contrast < (1 - asis.contrast) / 2


def _otherwise(asis: _Turned, everywhere: bool) -> str:
    if not everywhere:
        return PARTLY if asis.outside > MISFIT else FITS
    if asis.outside > OUTSIDE and asis.outside >= asis.inside / 2:
        return ANEW
    return PARTLY if asis.outside > 2 * OUTSIDE and asis.outside > CLEAN * asis.inside else ENCODED


def _ways(marks_HW: Marks, fake_HW: Marks) -> list[_Turned]:
    """Return what a mask can be changed to, the first of equals the likeliest."""
    step = -(-max(fake_HW.shape) // GRID)
    marks_HW, fake_HW = marks_HW[::step, ::step], fake_HW[::step, ::step]
    total, size = int(marks_HW.sum()), marks_HW.size
    plain, other = [], []
    for name, turn in _TURNS.items():
        turned_HW = turn(fake_HW)
        if turned_HW.shape == fake_HW.shape:
            area, hits = int(turned_HW.sum()), int(marks_HW[turned_HW].sum())
            inside, outside = hits / max(area, 1), (total - hits) / max(size - area, 1)
            plain.append(_Turned(name or FITS, inside, outside))
            other.append(_Turned(f"{INVERTED}, {name}" if name else INVERTED, outside, inside))
    return [plain[0], other[0], *plain[1:], *other[1:], _move(marks_HW, fake_HW, step)]


def _move(marks_HW: Marks, fake_HW: Marks, step: int) -> _Turned:
    """Return the move of a mask, by so many pixels to the right and down, after which it fits best."""
    height, width = fake_HW.shape
    spectrum = np.conj(np.fft.rfft2(fake_HW, s=(2 * height, 2 * width)))
    downs, rights = (np.arange(-(side // 4), side // 4 + 1) for side in (height, width))

    def at_each(plane_HW: Marks) -> Counts:
        product = np.fft.rfft2(plane_HW, s=(2 * height, 2 * width)) * spectrum
        found: Counts = np.rint(np.fft.irfft2(product, s=(2 * height, 2 * width)))[np.ix_(downs, rights)]
        return found

    hits, area = at_each(marks_HW), at_each(np.ones_like(marks_HW))
    inside = hits / np.maximum(area, 1)
    outside = (marks_HW.sum() - hits) / np.maximum(marks_HW.size - area, 1)
    contrast = np.where(2 * area >= fake_HW.sum(), inside - outside, -1)
    row, column = np.unravel_index(contrast.argmax(), contrast.shape)
    name = f"{MOVED} {rights[column] * step} {downs[row] * step}"
    return _Turned(name, float(inside[row, column]), float(outside[row, column]))


def compared(judged: Sequence[MaskVerdict]) -> MaskComparison | None:
    """Return what is said of several images together; None of none."""
    if not judged:
        return None
    sides = [[share for share in column if share is not None] for column in list(zip(*judged, strict=True))[:2]]
    inside, outside = (float(np.mean(side)) if side else None for side in sides)
    verdicts = Counter(one.verdict for one in judged)
    return MaskComparison(
        images=len(judged) - verdicts[UNCOMPARED],
        inside=inside,
        outside=outside,
        verdicts=dict(sorted(verdicts.items())),
    )


def together(parts: Iterable[MaskComparison | None]) -> MaskComparison | None:
    """Return what is said of several splits; None of none."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    means = []
    for values in ([(part.inside, part.images) for part in known], [(part.outside, part.images) for part in known]):
        held = [(share, images) for share, images in values if share is not None]
        images = sum(number for _, number in held)
        means.append(sum(share * number for share, number in held) / images if images else None)
    verdicts = sum((Counter(part.verdicts) for part in known), Counter[str]())
    return MaskComparison(
        images=sum(part.images for part in known), inside=means[0], outside=means[1], verdicts=dict(verdicts)
    )


def words(domain: str, mask_kind: str, found: MaskComparison) -> Iterator[str]:
    """Yield a sentence for each thing that originals say against over 5 % of a domain's masks."""
    moves = [verdict for verdict in found.verdicts if verdict.startswith(f"{MOVED} ")]
    counts = Counter({verdict: num for verdict, num in found.verdicts.items() if verdict not in (FITS, *moves)})
    counts[MOVED] = sum(found.verdicts[verdict] for verdict in moves)
    total = found.images + found.verdicts.get(UNCOMPARED, 0)
    for verdict, number in counts.most_common():
        if number > SAID * total:
            said = _moved(found.verdicts, moves) if verdict == MOVED else _SAID.get(verdict, f"{ONLY} {verdict}")
            cure = _polarity(domain, mask_kind) if verdict == INVERTED else ""
            yield f"{domain}: {number} of {total} masks {said}{cure} ({found.shares} of the masks)"


_SAID = {
    INVERTED: "have the wrong polarity: their images differ from the originals outside of the mask, not inside",
    ANEW: "cannot be judged: outside of the mask the images differ from their originals as much as inside (wholly "
    "regenerated, or these are not their originals)",
    ENCODED: "lie on images that were encoded anew: outside of the mask they differ a little from their originals "
    "everywhere",
    PARTLY: "do not cover all that was changed of the originals, and no turn or move of them does",
    UNCHANGED: "lie on images that are equal to their originals",
    UNCOMPARED: "cannot be compared with an original (of another shape, or damaged)",
}


def _polarity(domain: str, mask_kind: str) -> str:
    other = {"fake_is_black": "white", "fake_is_white": "black"}.get(mask_kind)
    if other is None:
        return "; the other side of them is the fake one"
    return f"; import them as a folder pair: --domain {domain} --masks DIR --fake-is {other}"


def _moved(verdicts: Mapping[str, int], moves: Sequence[str]) -> str:
    """Return by how much masks are to be moved, where most of them agree within two pixels."""
    by = {verdict: tuple(map(int, verdict.split()[1:])) for verdict in moves}
    right, down = by[max(moves, key=lambda verdict: verdicts[verdict])]
    near = [v for v in moves if abs(by[v][0] - right) <= NEAR and abs(by[v][1] - down) <= NEAR]
    if 2 * sum(verdicts[verdict] for verdict in near) <= sum(verdicts[verdict] for verdict in moves):
        return f"are shifted: they {ONLY} moved, each by another way"
    ways = [
        f"{abs(way)} pixels {names[way < 0]}"
        for way, names in ((right, ("right", "left")), (down, ("down", "up")))
        if way
    ]
    return f"are shifted: they {ONLY} moved by about {' and '.join(ways)}"
