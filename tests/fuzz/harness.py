"""Runs cases that are made from a seed and judges them: refused by an error of dfloc's, right, or a fault."""

import faulthandler
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from dfloc.errors import DflocError

SLOW = 60.0  # seconds of CPU for one case, which reads its input some ten times
HANGS = 300  # seconds after which the process ends itself with a traceback
MAX_LINES = 2  # of an error
SHRINKS = 150  # tries at a smaller input

FAULTS = ("raised", "wrong", "said", "slow")


class WrongError(Exception):
    """What was read is not what should have been."""


class Case(NamedTuple):
    """One changed input.

    Attributes:
        name: what was changed, and how it is read.
        data: the changed bytes.
        read: reads bytes; returns a word for what came of it (right, same, ...), raises `WrongError` or anything else.
    """

    name: str
    data: bytes
    read: Callable[[bytes], str]


class Verdict(NamedTuple):
    """What came of a case: a word (`refused`, one of its own, or one of `FAULTS`), and more of a fault."""

    word: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.word in FAULTS


@dataclass(frozen=True)
class Part:
    """A kind of input: makes its case of a number.

    Attributes:
        name: for the table.
        count: cases of a whole run.
        make: a case out of a generator, on which alone it depends.
        shrinks: a part of an input that is a fault may be one too: the smallest is looked for.
    """

    name: str
    count: int
    make: Callable[[Random], Case]
    shrinks: bool = True


@dataclass
class Result:
    """What came of a part's cases."""

    part: str
    words: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, Verdict]] = field(default_factory=list)
    chatter: int = 0
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return self.words.total()


def judge(case: Case) -> Verdict:
    """Read a case and say what came of it."""
    start = time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        verdict = _read(case)
    if warned and not verdict.is_fault:
        return Verdict("said", f"{warned[0].category.__name__}: {warned[0].message}")
    taken = time.process_time() - start
    return Verdict("slow", f"{taken:.0f} s") if taken > SLOW and not verdict.is_fault else verdict


def _read(case: Case) -> Verdict:
    try:
        return Verdict(case.read(case.data))
    except DflocError as error:
        lines = str(error).splitlines()
        if not lines or len(lines) > MAX_LINES:
            return Verdict("said", f"an error of {len(lines)} lines: {str(error)[:300]}")
        return Verdict("refused")
    except WrongError as error:
        return Verdict("wrong", str(error))
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return Verdict("raised", "".join(traceback.format_exception(error)[-4:]))


def run(
    part: Part, seed: int, count: int, out: Path | None = None, until: float = float("inf"), first: int = 0
) -> Result:
    """Run the cases of a part.

    Args:
        part: which.
        seed: with it a case is the same each time.
        count: how many.
        out: where the inputs of faults are put.
        until: time.monotonic() after which none is begun.
        first: number of the first.
    """
    result = Result(part.name)
    start = time.monotonic()
    with _listening() as said:
        for number in range(first, first + count):
            if time.monotonic() > until:
                break
            faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.__stderr__)
            case = part.make(Random(f"{seed} {part.name} {number}"))
            before = time.process_time()
            verdict = judge(case)
            result.chatter += bool(said())
            result.slowest = max(result.slowest, (time.process_time() - before, f"{number} {case.name}"))
            result.words[verdict.word] += 1
            if verdict.is_fault:
                result.faults.append((number, case.name, verdict))
                if out:
                    data = shrunk(case, verdict) if part.shrinks else case.data
                    _keep(
                        out / f"{part.name}-{seed}-{number}", data, f"{case.name}\n{verdict.word}: {verdict.detail}\n"
                    )
            _progress(part, result, number + 1 - first, count)
    faulthandler.cancel_dump_traceback_later()
    result.seconds = time.monotonic() - start
    return result


def _keep(path: Path, data: bytes, words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".bin").write_bytes(data)
    path.with_suffix(".txt").write_text(words)


def shrunk(case: Case, verdict: Verdict) -> bytes:
    """Return the smallest bytes, got by leaving pieces away, of which the same comes as of the case."""
    data, size, tries = case.data, len(case.data) // 2, 0
    while size >= 1 and tries < SHRINKS:
        for start in range(0, len(data), size):
            smaller = data[:start] + data[start + size :]
            tries += 1
            if tries > SHRINKS:
                break
            if _same(judge(case._replace(data=smaller)), verdict):
                data = smaller
                break
        else:
            size //= 2
    return data


def _same(one: Verdict, other: Verdict) -> bool:
    return one.word == other.word and one.detail.splitlines()[-1:] == other.detail.splitlines()[-1:]


@contextmanager
def _listening() -> Iterator[Callable[[], str]]:
    """Give a function that returns what the process, C libraries too, has written to stderr since the last call."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        place = 0

        def said() -> str:
            nonlocal place
            sys.stderr.flush()
            file.seek(place)
            text = file.read()
            place += len(text)
            return text.decode(errors="replace")

        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _progress(part: Part, result: Result, done: int, count: int) -> None:
    if sys.stdout.isatty() and (done % 10 == 0 or done == count):
        end = "\n" if done == count else ""
        sys.stdout.write(f"\r{part.name}: {done} of {count}, {len(result.faults)} faults{end}")
        sys.stdout.flush()
