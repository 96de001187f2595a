"""Standard output and standard error that end alone: a reader that is gone, or a full disk, ends no work."""

import errno
import io
import os
import select
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import IO, Any

GONE = {errno.EPIPE, errno.EIO}
"""The reader has ended (`| head`), or the terminal is closed: nobody misses what is dropped."""


ITEM = "- "
"""What a sentence begins with that is broken between words at the width of a terminal."""


def wrapped(line: str) -> str:
    """Return a line for standard output: an item (`ITEM`) as wide as the terminal, where it is one; others whole."""
    if not line.startswith(ITEM) or not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size().columns, 20)
    indent = " " * len(ITEM)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class _Raw(io.FileIO):
    """A file descriptor for writing, to which every write succeeds.

    Args:
        descriptor: stays open.
        on_loss: told of an error other than that the reader has ended.
    """

    def __init__(self, descriptor: int, on_loss: Callable[[OSError], None]):
        super().__init__(descriptor, "w", closefd=False)
        self._on_loss = on_loss

    def write(self, data: Any, /) -> int:
        """Write all of it; what cannot be written is dropped."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                written = super().write(left)
            except OSError as error:
                if error.errno not in GONE:
                    self._on_loss(error)
                break
            if written is None:  # a descriptor that does not block is full
                select.select([], [self], [])
            left = left[written or 0 :]
        return size


class Screen:
    """Puts such streams in place of the process' own, for good: the interpreter writes to them until its end.

    Attributes:
        lost: why something of standard output could not be written; None: all was, or its reader has ended.
    """

    def __init__(self) -> None:
        self.lost: OSError | None = None
        if (out := _stream(sys.stdout)) is not None:
            sys.stdout = _over(out, 1, self._lose)
        if (err := _stream(sys.stderr)) is not None:
            sys.stderr = _over(err, os.dup(2), lambda error: None)

    def _lose(self, error: OSError) -> None:
        if self.lost is None:
            self.lost = error
            sys.stderr.write(f"Error: standard output cannot be written ({error.strerror}); the rest of it is lost\n")


def occupy() -> None:
    """Open what is closed (`>&-`) of the descriptors 0, 1 and 2 on nothing, before anything else is opened.

    The first file would take the number, and native code writes to 2 whatever that is.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == descriptor, "the lowest free number is taken"
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))


def _stream(stream: IO[str]) -> io.TextIOWrapper | None:
    """Return a stream that is the process' own, not one of a notebook or a test."""
    try:
        own = stream.fileno() in (1, 2)
    except (OSError, AttributeError):
        return None
    return stream if own and isinstance(stream, io.TextIOWrapper) else None


def _over(stream: io.TextIOWrapper, descriptor: int, on_loss: Callable[[OSError], None]) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(descriptor, on_loss)),
        encoding=stream.encoding,
        errors="backslashreplace",  # a name need not be one that the terminal can show
        line_buffering=stream.line_buffering or descriptor != 1,
        write_through=stream.write_through,
    )
