"""Lists of samples in a workspace: `lists/<digest>.json`, each read against the digest that names it."""

import json
import logging
from collections.abc import Sequence

from upath import UPath

from dfloc import storage
from dfloc.data import dolos
from dfloc.data.manifest import FILE_NAME, Manifest, SampleRef, lines_digest, list_lines, read_samples
from dfloc.errors import DataError, WorkspaceError
from dfloc.frozen import fingerprint
from dfloc.ids import SampleId
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

CURE = "delete it, the sweep that planned it makes it again"


def keep(workspace: Workspace, digest: str, samples: Sequence[SampleRef]) -> None:
    """Put a list where workers and reports read it; one that is there and is another is replaced, and that is said."""
    _keep_pixels(workspace, digest, samples)
    shown = [stem for _, stem in sorted((sample.id, sample.stem) for sample in samples)]
    _keep_companion(_companion_path(workspace, digest, "stems"), "stems", shown)
    lines, path = list_lines(samples), _path(workspace, digest)
    data = ("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n").encode()
    if path.exists():
        try:
            if storage.read(path) == data:
                return
            same = sorted(ids(workspace, digest) or ()) == [line[0] for line in lines]
        except WorkspaceError:
            same = False
        if not same:
            logger.warning("%s was damaged, it is made again", path)
    storage.put(path, data)


def ids(workspace: Workspace, digest: str) -> tuple[str, ...] | None:
    """Return the ids of a list, sorted; None where it is not in the workspace.

    A list holds the lines that its digest is over. Of one that was kept before, which holds ids alone, only who joins
    it with shards can tell whether it is whole.

    Raises:
        WorkspaceError: it is damaged.
    """
    lines = _read(workspace, digest)
    return None if lines is None else tuple(line[0] for line in lines)


def mask_kinds(workspace: Workspace, digest: str) -> tuple[str, ...] | None:
    """Return the kinds of the masks of a list, sorted; None where it is not in the workspace, or holds ids alone.

    Raises:
        WorkspaceError: it is damaged.
    """
    lines = _read(workspace, digest) or [("",)]
    return None if len(lines[0]) == 1 else tuple(sorted({line[3] for line in lines}))


def pixels(workspace: Workspace, digest: str) -> frozenset[str] | None:
    """Return the digests of the images of a list, decoded; None where they are not known.

    Raises:
        WorkspaceError: they are damaged.
    """
    found = _read_companion(_companion_path(workspace, digest, "pixels"), "pixels")
    return None if found is None else frozenset(found)


def stems(workspace: Workspace, digest: str, data: Sequence[UPath] = ()) -> dict[str, str] | None:
    """Return the photograph that each image of a list shows, by its id; None where one is not known.

    They stand beside the list. Of one that was kept before, Dolos' names say it, or shards that hold the image.

    Args:
        workspace: of the list.
        digest: of the list.
        data: folders of shards that are asked before those of the workspace.

    Raises:
        WorkspaceError: list or photographs are damaged.
    """
    names = ids(workspace, digest)
    if names is None:
        return None
    found = _read_companion(_companion_path(workspace, digest, "stems"), "stems")
    if found is not None:
        return dict(zip(names, found, strict=True)) if len(found) == len(names) else None
    known = {name: _by_dolos(SampleId.of(name)) for name in names if SampleId.of(name).domain in dolos.COUNTS}
    for folder in (*data, *(workspace.shards.iterdir() if workspace.shards.exists() else ())):
        if len(known) < len(names):
            known = _of_shards(folder, set(names)) | known
    return {name: known[name] for name in names} if len(known) == len(names) else None


def _read(workspace: Workspace, digest: str) -> list[tuple[str, ...]] | None:
    path = _path(workspace, digest)
    if not path.exists():
        return None
    lines = storage.get_json(path, CURE)
    if isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
        beside = [_read_companion(_companion_path(workspace, digest, what), what) or [] for what in ("pixels", "stems")]
        if len(lines) < max(map(len, beside)):
            raise WorkspaceError(f"{path} is damaged: it has fewer ids than images; {CURE}")
        return [(line,) for line in sorted(lines)]
    if not _are_lines(lines) or lines_digest(tuple(line) for line in lines) != digest:
        raise WorkspaceError(f"{path} is damaged: not the list that it is named by; {CURE}")
    return [tuple(line) for line in lines]


def _by_dolos(name: SampleId) -> str:
    return f"{name.source}/{dolos.photograph(name.bare)}"


def _of_shards(folder: UPath, names: set[str]) -> dict[str, str]:
    """Return the stems of those images that a data folder holds; of a damaged one, none."""
    places = sorted({SampleId.of(name).place for name in names})
    try:
        if not (folder / FILE_NAME).exists():
            return {}
        manifest = Manifest.load(folder)
        held = [place for place in places if place[1] in getattr(manifest.domains.get(place[0]), "splits", {})]
        refs = [ref for place in held for ref in read_samples(folder, manifest, *place)]
    except DataError as error:
        logger.info("source images are not looked up in %s: %s", folder, error)
        return {}
    return {ref.id: ref.stem for ref in refs if ref.id in names}


def _keep_pixels(workspace: Workspace, digest: str, samples: Sequence[SampleRef]) -> None:
    """Put beside a list which images it has, by their pixels, unless shards of an earlier version do not say."""
    found = sorted({sample.pixels_sha256 for sample in samples})
    if "" not in found:
        _keep_companion(_companion_path(workspace, digest, "pixels"), "pixels", found)


def _keep_companion(path: UPath, what: str, values: list[str]) -> None:
    data = storage.json_bytes({"sha256": fingerprint(values), what: values})
    try:
        if path.exists() and storage.read(path) == data:
            return
    except WorkspaceError as error:
        logger.warning("%s", error)
    storage.put(path, data)


def _read_companion(path: UPath, what: str) -> list[str] | None:
    if not path.exists():
        return None
    found = storage.get_json(path, CURE)
    if not isinstance(found, dict) or found.get("sha256") != fingerprint(found.get(what)):
        raise WorkspaceError(f"{path} is damaged: its digest is of other {what}; {CURE}")
    return list(found[what])


def _companion_path(workspace: Workspace, digest: str, what: str) -> UPath:
    return workspace.lists / f"{digest}.{what}"


def _path(workspace: Workspace, digest: str) -> UPath:
    return workspace.lists / f"{digest}.json"


def _are_lines(lines: object) -> bool:
    return isinstance(lines, list) and all(
        isinstance(line, list) and line and all(isinstance(word, str) for word in line) for line in lines
    )
