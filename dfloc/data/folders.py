"""The files of a folder: walked once each, without litter, by names that can be written."""

import os
from pathlib import Path, PurePosixPath

from dfloc.errors import DataError
from dfloc.ids import bare

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})

LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What systems leave in folders, beside hidden files; in lower case."""


def text(name: str) -> str:
    """Return a file name that can be written as UTF-8: bytes of it that cannot are spelled out."""
    return name.encode(errors="backslashreplace").decode()


def is_image(name: str) -> bool:
    """Return whether this is the name of an image."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_folder(path: Path) -> bool:
    """Return whether there is such a folder; what cannot be the name of one is none."""
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


def names_in(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their names in it."""
    return {text(path.relative_to(folder).as_posix()): path for path in walk(folder)}


def masks_in(folder: Path) -> dict[str, Path]:
    """Return files by their name, and images among them by their name without extension.

    Raises:
        DataError: two images have one name.
    """
    held = names_in(folder)
    found: dict[str, Path] = {}
    for name in filter(is_image, held):
        other = found.setdefault(bare(name), held[name])
        if other != held[name]:
            raise DataError(f"{other} and {held[name]} have one name; leave one of them")
    return found | held


def walk(folder: Path) -> list[Path]:
    """Return all files below a folder but litter, sorted; each real folder once, so that a link loop ends.

    A folder that is missing has none.

    Raises:
        DataError: a folder cannot be listed.
    """
    seen: set[str] = set()
    files: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        files += [Path(top, name) for name in names if not is_litter(name)]
    return sorted(files)


def _refuse(error: OSError) -> None:
    """Name a folder that cannot be listed, which os.walk would pass over."""
    if not isinstance(error, FileNotFoundError):
        raise DataError(f"cannot list folder {error.filename}: {error.strerror}") from error


def is_litter(name: str) -> bool:
    """Return whether a system left this."""
    return name.startswith(".") or name.lower() in LITTER
