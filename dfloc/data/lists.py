"""Lists of samples in a workspace: `lists/<digest>.json`, each read against the digest that names it."""

import json
import logging
from collections.abc import Sequence

from upath import UPath

from dfloc import storage
from dfloc.data.manifest import SampleRef, lines_digest, list_lines
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

CURE = "delete it, the sweep that planned it makes it again"


def keep(workspace: Workspace, digest: str, samples: Sequence[SampleRef]) -> None:
    """Put a list where workers and reports read it; one that is there and is another is replaced, and that is said."""
    lines, path = list_lines(samples), _path(workspace, digest)
    data = ("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n").encode()
    if path.exists():
        if path.read_bytes() == data:
            return
        try:
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
    path = _path(workspace, digest)
    if not path.exists():
        return None
    lines = storage.get_json(path, CURE)
    if isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
        return tuple(sorted(lines))
    if not _are_lines(lines) or lines_digest(tuple(line) for line in lines) != digest:
        raise WorkspaceError(f"{path} is damaged: not the list that it is named by; {CURE}")
    return tuple(line[0] for line in lines)


def _path(workspace: Workspace, digest: str) -> UPath:
    return workspace.lists / f"{digest}.json"


def _are_lines(lines: object) -> bool:
    return isinstance(lines, list) and all(
        isinstance(line, list) and line and all(isinstance(word, str) for word in line) for line in lines
    )
