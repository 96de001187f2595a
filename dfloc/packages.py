"""Installed packages, by name and version: which of them a module is of."""

import re
from functools import cache
from importlib import metadata

# What dfloc's own packages are called where they are imported, if not as where they are installed.
_IMPORTED = frozenset({"PIL", "cv2", "open_clip", "skimage", "sklearn", "upath", "yaml"})


_NEED, _EXTRA = re.compile(r"([\w.-]+)(?:\[([\w, -]+)\])?"), re.compile(r"extra == .([\w-]+)")


@cache
def of(head: str) -> tuple[tuple[str, str], ...]:
    """Return name and version of the packages that a module is of, but for those that are installed with dfloc.

    Args:
        head: the first part of the module's name.
    """
    own = _with_dfloc()
    if head in _IMPORTED or _normal(head) in own:
        return ()
    found = {_normal(name) for name in metadata.packages_distributions().get(head, ())}
    return tuple((name, version(name)) for name in found - own) if found else ((head, "none"),)


@cache
def _with_dfloc() -> frozenset[str]:
    """Return the names of all packages that dfloc needs, and that those need."""
    found: set[tuple[str, str]] = set()
    waiting = [("dfloc", "cluster,sam2")]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in needs:
            match, extra = _NEED.match(need), _EXTRA.search(need)
            if match and (not extra or extra[1] in extras.split(",")):
                waiting.append((_normal(match[1]), (match[2] or "").replace(" ", "")))
    return frozenset(name for name, _ in found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version(name: str) -> str:
    """Return the version of a package that is installed, "none" where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
