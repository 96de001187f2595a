"""A disk that forgets: real files in memory are what processes see, beside them stands what a crash would leave.

Every call of the system that changes a file below the root, and every opening of one to read it, is an operation:
it may fail, it may be the last one. What was not synced may be lost, whole, in part, and each name for itself.
"""

import builtins
import errno
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.simulator.world import Crash, World

BLOCK = 256
REAL_OPEN = io.open
REAL = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")}
REAL |= {name: getattr(os, name) for name in ("open", "close", "write", "truncate", "symlink")}


class LostError(OSError):
    """An error of the disk.

    Attributes:
        after: what was asked for has happened all the same.
    """

    after = False


class Node:
    """A file or a folder, whatever its names are."""

    __slots__ = ("data", "durable", "entries", "pending", "poisoned", "synced")

    def __init__(self, folder: bool):
        self.data = b""
        self.synced = b""
        self.poisoned = False  # a sync of it has failed: what it held then is never written
        self.entries: dict[str, Node] | None = {} if folder else None
        self.durable: dict[str, Node] = {}
        self.pending: list[list[tuple[str, Node | None]]] = []


class Disk:
    """Files below a real folder.

    Args:
        root: the folder; emptied.
        world: told of every operation.

    Attributes:
        nameless: the file system has files without a name.
    """

    def __init__(self, root: Path, world: World):
        self.root, self._world = str(root), world
        shutil.rmtree(root, ignore_errors=True)
        REAL["mkdir"](self.root)
        self._top = Node(folder=True)
        self._open: dict[int, Node] = {}
        self._paths: dict[int, str] = {}  # of what is open
        self.nameless = True

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Put the disk beneath this process' calls."""
        with (
            mock.patch.multiple(
                os,
                fsync=self._fsync,
                fdatasync=self._fsync,
                replace=self._replace,
                rename=self._replace,
                link=self._link,
                unlink=self._unlink,
                remove=self._unlink,
                mkdir=self._mkdir,
                rmdir=self._rmdir,
                open=self._os_open,
                close=self._close,
                write=self._os_write,
            ),
            mock.patch.object(io, "open", self._io_open),
            mock.patch.object(builtins, "open", self._io_open),
        ):
            yield

    def files(self) -> dict[str, bytes]:
        """Return every file by its path below the root."""
        return dict(_walk(self._top, ""))

    def rot(self, path: str, rng: random.Random) -> None:
        """Damage a file where it lies."""
        folder, name = self._place(f"{self.root}/{path}")
        assert folder.entries is not None
        node, place = Node(folder=False), rng.randrange(3)
        data = folder.entries[name].data
        middle = rng.randrange(len(data)) if data else 0
        flipped = data[:middle] + bytes([data[middle] ^ 64]) + data[middle + 1 :] if data else b""
        node.data = node.synced = (data[:middle], flipped, b"")[place]
        folder.entries[name] = folder.durable[name] = node
        self._put_real(f"{self.root}/{path}", node)

    def crash(self, rng: random.Random) -> list[str]:
        """Lose power: return what was lost, as lines; afterwards all that is there is durable."""
        self._open.clear()
        lost: list[str] = []
        share = rng.choice([1.0, 0.5, 0.5, 0.15])
        self._survive(self.root, self._top, rng, share, lost)
        return lost

    def _survive(self, path: str, folder: Node, rng: random.Random, share: float, lost: list[str]) -> None:
        kept = dict(folder.durable)
        for change in folder.pending:
            if rng.random() < share:
                lost.append(f"lost: name {path[len(self.root) :]}/{change[0][0]}")
                continue
            both = len(change) == 1 or rng.random() < 0.7
            for name, node in change if both else change[:1]:
                if node is None:
                    kept.pop(name, None)
                else:
                    kept[name] = node
        before, folder.pending = folder.entries or {}, []
        folder.entries, folder.durable = kept, dict(kept)
        for name in before.keys() - kept.keys():
            _remove_real(f"{path}/{name}")
        for name, node in kept.items():
            place = f"{path}/{name}"
            same = before.get(name) is node
            if node.entries is not None:
                if not same:
                    if name in before:
                        _remove_real(place)
                    REAL["mkdir"](place)
                    self._fresh(node)
                self._survive(place, node, rng, share, lost)
            elif self._settle(node, place, rng, share, lost) or not same:
                self._put_real(place, node)

    def _fresh(self, folder: Node) -> None:
        """A folder whose real twin is gone begins without any."""
        folder.entries = {}

    def _settle(self, node: Node, place: str, rng: random.Random, share: float, lost: list[str]) -> bool:
        """Decide what is left of a file's content; return whether that is another one than was seen."""
        if node.data == node.synced or rng.random() >= share + 0.1:
            node.synced = node.data
            return False
        seen, old = node.data, node.synced
        kinds = (old, seen[: rng.randrange(len(seen) + 1)], _mixed(old, seen, rng), bytes(len(seen)))
        node.data = node.synced = kinds[rng.randrange(4)]
        lost.append(f"lost: {len(node.data)} of {len(seen)} bytes are left of {place[len(self.root) :]}")
        return node.data != seen

    def _put_real(self, place: str, node: Node) -> None:
        if os.path.lexists(place):
            REAL["unlink"](place)
        with REAL_OPEN(place, "wb") as file:
            file.write(node.data)
        self._touch(place)

    def _touch(self, place: str | int) -> None:
        """Let the time of a change be one of the world: the file system's clock, which nobody sets."""
        os.utime(place, (self._world.now, self._world.now))

    def _inside(self, path: object) -> str | None:
        """Return a path's text if it lies below the root."""
        if isinstance(path, int):
            return None
        text = os.fspath(path) if not isinstance(path, str) else path  # type: ignore[call-overload]
        return text if isinstance(text, str) and text.startswith(self.root) else None

    def _place(self, path: str) -> tuple[Node, str]:
        """Return the folder that has a name, and the name."""
        *folders, name = path[len(self.root) :].strip("/").split("/")
        node = self._top
        for part in folders:
            found = (node.entries or {}).get(part)
            if found is None or found.entries is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = found
        return node, name

    def _node(self, path: str) -> Node | None:
        if path.rstrip("/") == self.root:
            return self._top
        folder, name = self._place(path)
        assert folder.entries is not None
        return folder.entries.get(name)

    def _do(self, kind: str, path: str, effect: Callable[[], Any], more: str = "") -> Any:
        try:
            self._world.op(kind, path[len(self.root) :] + more)
        except LostError as error:
            if error.after:
                effect()
            raise
        return effect()

    def _name(self, path: str, node: Node | None, gone: str = "") -> None:
        """Give a file its name, or none, in the folder as it is seen; what is durable waits for a sync."""
        folder, name = self._place(path)
        assert folder.entries is not None
        change: list[tuple[str, Node | None]] = [(name, node)]
        if gone:
            assert self._place(gone)[0] is folder, "nothing is renamed into another folder"
            change.append((self._place(gone)[1], None))
        for each, what in change:
            if what is None:
                folder.entries.pop(each, None)
            else:
                folder.entries[each] = what
        folder.pending.append(change)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path)
        if inside is None:
            return REAL["mkdir"](path, mode, dir_fd=dir_fd)

        def effect() -> None:
            REAL["mkdir"](path, mode)
            self._name(inside, Node(folder=True))

        return self._do("mkdir", inside, effect)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path)
        if inside is None:
            return REAL["rmdir"](path, dir_fd=dir_fd)

        def effect() -> None:
            REAL["rmdir"](path)
            self._name(inside, None)

        return self._do("rmdir", inside, effect)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path)
        if inside is None:
            return REAL["unlink"](path, dir_fd=dir_fd)

        def effect() -> None:
            REAL["unlink"](path)
            self._name(inside, None)

        return self._do("unlink", inside, effect)

    def _replace(self, path: Any, to: Any, **how: Any) -> None:
        inside, target = self._inside(path), self._inside(to)
        if inside is None or target is None:
            return REAL["replace"](path, to, **how)

        def effect() -> None:
            node = self._node(inside)
            REAL["replace"](path, to)
            self._name(target, node, inside)

        return self._do("rename", inside, effect, f" -> {target.rpartition('/')[2]}")

    def _link(self, path: Any, to: Any, **how: Any) -> None:
        target = self._inside(to)
        if target is None:
            return REAL["link"](path, to, **how)

        def effect() -> None:
            node = self._linked(os.fspath(path))
            REAL["link"](path, to, **how)
            self._touch(target)
            self._name(target, node)

        return self._do("link", target, effect)

    def _linked(self, path: str) -> Node | None:
        """Return what a path names; also that of an open file without a name."""
        parts = path.split("/")
        if parts[1:2] == ["proc"] and parts[-2] == "fd":
            return self._open[int(parts[-1])]
        return self._node(path)

    def _fsync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        node = self._open.get(number)
        if node is None:
            return REAL["fsync"](handle)
        return self._sync(node, number)

    def _sync(self, node: Node, number: int) -> None:
        def effect() -> None:
            if node.entries is not None:
                node.durable, node.pending = dict(node.entries), []
            elif not node.poisoned:
                node.synced = node.data

        try:
            self._do("sync folder" if node.entries is not None else "sync", self._paths[number], effect)
        except LostError:
            node.poisoned = node.entries is None
            raise

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inside = self._inside(path)
        if inside is None:
            return int(REAL["open"](path, flags, mode, dir_fd=dir_fd))
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            if not self.nameless:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
            number = int(self._do("create unnamed in", inside, lambda: REAL["open"](path, flags, mode)))
            self._open[number], self._paths[number] = Node(folder=False), f"{inside}/unnamed"
            return number
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL, "a file is written in a way that is not simulated"
            return int(self._do("create", inside, lambda: self._create(inside, flags)))
        assert not flags & (os.O_WRONLY | os.O_RDWR), "a file is written in a way that is not simulated"
        number = int(REAL["open"](path, flags, mode))
        node = self._node(inside)
        assert node is not None
        self._open[number], self._paths[number] = node, inside
        return number

    def _create(self, path: str, flags: int) -> int:
        """Create or open a file to write it."""
        node = self._node(path)
        number = int(REAL["open"](path, flags, 0o666))
        if node is None:
            node = Node(folder=False)
            self._name(path, node)
        elif flags & os.O_TRUNC:
            node.data = b""
        self._open[number], self._paths[number] = node, path
        self._touch(number)
        return number

    def _os_write(self, number: int, data: Any) -> int:
        node = self._open.get(number)
        if node is None:
            return int(REAL["write"](number, data))
        self.write(number, node, bytes(data), self._paths[number])
        return len(data)

    def _close(self, number: int) -> None:
        self._open.pop(number, None)
        REAL["close"](number)

    def _io_open(self, file: Any, mode: str = "r", *args: Any, **how: Any) -> Any:
        inside = self._inside(file)
        if inside is None:
            return REAL_OPEN(file, mode, *args, **how)
        if mode in ("r", "rb"):
            self._world.op("read", inside[len(self.root) :])
            return REAL_OPEN(file, mode, *args, **how)
        assert mode in ("wb", "ab", "xb"), "a file is written in a way that is not simulated"
        return self._do("create" if self._node(inside) is None else "open", inside, lambda: self._writer(inside, mode))

    def _writer(self, path: str, mode: str) -> "_Writer":
        flags = {"wb": os.O_TRUNC, "ab": os.O_APPEND, "xb": os.O_EXCL}[mode]
        number = self._create(path, os.O_WRONLY | os.O_CREAT | flags)
        return _Writer(self, number, self._open[number], path)

    def write(self, number: int, node: Node, data: bytes, path: str) -> None:
        """Append bytes to an open file; where that fails, a part of them may be there."""
        try:
            self._world.op("write", f"{path[len(self.root) :]} ({len(data)} bytes)")
        except (LostError, Crash):
            part = data[: self._world.rng.randrange(len(data) + 1)]
            REAL["write"](number, part)
            node.data += part
            self._touch(number)
            raise
        REAL["write"](number, data)
        node.data += data
        self._touch(number)


class _Writer:
    """A file that is written; its bytes go to the disk when it is flushed."""

    def __init__(self, disk: Disk, number: int, node: Node, path: str):
        self._disk, self._number, self._node, self._path = disk, number, node, path
        self._buffer = b""
        self.closed = False

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *how: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._number

    def write(self, data: Any) -> int:
        self._buffer += bytes(data)
        return len(data)

    def flush(self) -> None:
        data, self._buffer = self._buffer, b""
        if data:
            self._disk.write(self._number, self._node, data, self._path)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            self.flush()
        finally:
            os.close(self._number)


def _walk(folder: Node, path: str) -> Iterator[tuple[str, bytes]]:
    for name, node in (folder.entries or {}).items():
        if node.entries is None:
            yield f"{path}{name}", node.data
        else:
            yield from _walk(node, f"{path}{name}/")


def _mixed(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """Return a file of which some blocks are new, and some as before, or zeros."""
    blocks = range(0, len(new), BLOCK)
    before = old.ljust(len(new), b"\0")
    return b"".join((new if rng.random() < 0.5 else before)[start : start + BLOCK] for start in blocks)[: len(new)]


def _remove_real(place: str) -> None:
    path = Path(place)
    if path.is_dir() and not path.is_symlink():
        for below in path.iterdir():
            _remove_real(str(below))
        REAL["rmdir"](place)
    else:
        REAL["unlink"](place)
