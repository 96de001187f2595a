"""Which mask is whose, by their names: one to one, or the reason why not."""

import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from dfloc.errors import ConfigError, DataError
from dfloc.ids import bare

NAME, CUT = "{name}", "{cut}"
PROBED = 20  # images without a mask whose names are looked for inside the names of masks
SHOWN = 3


class MaskMatch(NamedTuple):
    """The mask of an image, or why there is none; both are file names below their folders."""

    mask: str | None
    fault: str = ""


def cut(name: str) -> str:
    """Return a bare name up to the last `_` of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition("_")[0] or last)


def check(pattern: str) -> None:
    """Return if this says how masks are named.

    Raises:
        ConfigError: it does not.
    """
    if pattern.count(NAME) + pattern.count(CUT) != 1 or set("{}") & set(re.sub(r"{(name|cut)}", "", pattern)):
        raise ConfigError(f'mask "{pattern}" cannot be used: expected one {NAME} or {CUT} in it, as {CUT}_mask')


def masked(name: str, pattern: str) -> str:
    """Return the bare name of the mask of an image with this bare name; folders stay."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + pattern.replace(NAME, last).replace(CUT, cut(last))


def apart(names: Sequence[str], pattern: str) -> tuple[list[str], list[str]]:
    """Part the files of one folder into images and masks.

    Raises:
        DataError: a file would be both.
    """
    wanted = {masked(bare(name), pattern) for name in names}
    groups = _grouped(names, lambda name: "mask" if bare(name) in wanted else "image")
    held = {bare(name) for name in names}
    for name in groups["mask"]:
        if bare(name) != masked(bare(name), pattern) in held:
            raise DataError(f"{name} would be both an image and a mask by the mask name {pattern}; rename it")
    return groups["image"], groups["mask"]


def find(images: Sequence[str], masks: Sequence[str], pattern: str = NAME) -> dict[str, MaskMatch]:
    """Return the mask of each image, or the reason why it has none.

    Where the masks have the names of their images, an extension may differ, and `a.jpg.png` is a mask of `a.jpg`.
    Images share a mask only where the pattern says so, by `{cut}`.

    Args:
        images: their names.
        masks: names of the files that may be one.
        pattern: a mask's bare name: `{name}` is the image's, `{cut}` the same up to its last `_`.
    """
    by_bare = _grouped(masks, bare)
    found: dict[str, MaskMatch] = {}
    for wanted, members in _grouped(images, lambda image: masked(bare(image), pattern)).items():
        whole = [mask for image in members if pattern == NAME for mask in by_bare.get(image, ())]
        found |= _of_group(members, sorted({*by_bare.get(wanted, ()), *whole}))
    owners = _grouped([image for image, partner in found.items() if partner.mask], lambda each: found[each].mask or "")
    for mask, members in owners.items():
        if len(members) > 1 and CUT not in pattern:
            fault = f"one mask, {mask}, for {len(members)} images: {_shown(members)}; rename them"
            found |= dict.fromkeys(members, MaskMatch(None, fault))
    lost = [image for image in images if found[image] == MaskMatch(None)]
    reasons = [MaskMatch(None, reason) for reason in _reasons(lost, masks, pattern)]
    return found | dict(zip(lost, reasons, strict=True))


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> defaultdict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _of_group(images: Sequence[str], masks: Sequence[str]) -> dict[str, MaskMatch]:
    """Pair the images of one name with the masks of that name; several are told apart by their extensions."""
    if len(masks) < 2:
        return dict.fromkeys(images, MaskMatch(masks[0] if masks else None))
    own = {image: [mask for mask in masks if image in (mask, bare(mask))] for image in images}
    if len(images) == len(masks) and {len(each) for each in own.values()} == {1}:
        return {image: MaskMatch(each[0]) for image, each in own.items()}
    return dict.fromkeys(images, MaskMatch(None, f"{len(masks)} masks of that name: {_shown(masks)}; leave one"))


def _shown(names: Sequence[str]) -> str:
    return f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"


def _reasons(lost: Sequence[str], masks: Sequence[str], pattern: str) -> Iterator[str]:
    """Yield for each image without a mask what is nearly one."""
    if not lost:
        return
    by_letters = _grouped(masks, lambda mask: _plain(bare(mask)))
    by_last = _grouped(masks, lambda mask: PurePosixPath(bare(mask)).name)
    affix = _affix([bare(image) for image in lost], {bare(mask) for mask in masks})
    for image in lost:
        wanted = masked(bare(image), pattern)
        reason = "no mask of that name"
        if near := by_letters.get(_plain(wanted)):
            same = unicodedata.normalize("NFC", wanted) == unicodedata.normalize("NFC", bare(near[0]))
            how = "the same letters in another Unicode form" if same else "other case"
            reason += f", but {near[0]}, {how}: rename one of them, or list them (--table)"
        elif near := by_last.get(PurePosixPath(wanted).name):
            reason += f", but {near[0]} in another folder: move it"
        elif affix:
            reason += f"; {affix}"
        yield reason


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _affix(lost: Sequence[str], masks: set[str]) -> str:
    """Return what most masks have before or behind the names of the images that lack one."""
    found: Counter[str] = Counter()
    lasts = {PurePosixPath(mask).name for mask in masks}
    for name in lost[:PROBED]:
        last = PurePosixPath(name).name
        for word, part in ((NAME, last), (CUT, cut(last))):
            found.update(mask.replace(part, word, 1) for mask in lasts if part in mask and not set("{}") & set(mask))
    counts = {pattern: sum(masked(name, pattern) in masks for name in lost) for pattern, _ in found.most_common(SHOWN)}
    best = [pattern for pattern, count in counts.items() if count == max(counts.values()) > len(lost) / 2]
    best = [pattern for pattern in best if NAME in pattern] or best
    if len(best) != 1:
        return ""
    pattern = best[0]
    shown = pattern.replace(NAME, "NAME").replace(CUT, "CUT")
    whose = "all" if counts[pattern] == len(lost) else f"{counts[pattern]} of"
    there = f"the masks of {whose} {len(lost)} images exist" if len(lost) > 1 else "its mask exists"
    return f"{there} as {shown}: --mask-name {_quoted(pattern)} (mask= in --own)"


def _quoted(pattern: str) -> str:
    """Return a pattern as a shell takes it; braces alone need no quotes."""
    bare_of_braces = re.sub("[{}]", "", pattern)
    return pattern if shlex.quote(bare_of_braces) == bare_of_braces else shlex.quote(pattern)
