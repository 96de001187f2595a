"""A report put where a person wants it: its folder, whole; nothing on its pages points out of it."""

from pathlib import Path

from upath import UPath

from dfloc import disk, storage
from dfloc.errors import ConfigError

MARK = ".dfloc-report"
"""The file by which an earlier copy is known: it holds what was copied."""

EVERY = "all sweeps"


def claim(folder: Path, what: str, workspace: UPath) -> Path:
    """Make a folder for a copy, or take the one of an earlier copy; return it, absolute.

    Args:
        folder: where the copy goes.
        what: is copied: a sweep's full name, or `EVERY`.
        workspace: holds the report.

    Raises:
        ConfigError: it cannot be written, is a file or lies in the workspace, or something else is in it.
    """
    shown = str(folder) if str(folder).isprintable() else repr(str(folder))
    try:
        place = folder.resolve()
        if storage.is_local(workspace) and place.is_relative_to(Path(workspace.path).resolve()):
            raise ConfigError(f"--out {shown} lies in the workspace, which holds the report; name a folder outside")
        if place.exists() and not place.is_dir():
            raise ConfigError(f"--out {shown} is no folder; name one that is not there yet")
        mark = place / MARK
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()) and not (mark.is_file() and mark.read_bytes() == what.encode()):
            raise ConfigError(
                f"--out {shown} holds something else than an earlier copy of this report ({what}); name another "
                "folder, or empty it"
            )
        mark.write_bytes(what.encode())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that no file can have
        raise ConfigError(f"--out {shown} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return place


def copy(report: UPath, place: Path) -> UPath:
    """Copy a folder of reports into one that was claimed; return the copy of its page.

    Links and what killed writers left are no part of a report, and nothing is written through a link.

    Raises:
        ConfigError: something else stands where a file or folder of the report goes.
        OSError: the disk is full, say.
    """
    for path in sorted(report.rglob("*"), key=str):
        if not path.is_file() or disk.SCRATCH.fullmatch(path.name) or (storage.is_local(report) and path.is_symlink()):
            continue
        target = place / str(path.relative_to(report))
        if target.is_dir() or any(up.exists() and not up.is_dir() for up in target.parents):
            raise ConfigError(f"--out {place}: {target} is in the way; delete it, or name another folder")
        if not target.parent.resolve().is_relative_to(place):
            raise ConfigError(f"--out {place}: {target.parent} is a link out of it; delete it, or name another folder")
        storage.put(UPath(target), path.read_bytes())
    return UPath(place) / "index.html"
