"""Dockerfiles and .dockerignore, as far as this repository writes them."""

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
KNOWN = {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "ENTRYPOINT"}


class Step(NamedTuple):
    """One instruction: its word, and the rest of it."""

    word: str
    rest: str


class Stage(NamedTuple):
    """What one FROM begins."""

    base: str
    name: str
    steps: list[Step]


def parse(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile; a word that is not known is an error."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        assert word in KNOWN, f"not understood: {line}"
        if word == "FROM":
            base, *name = rest.split(" AS ")
            stages.append(Stage(base, *(name or [""]), []))
        else:
            stages[-1].steps.append(Step(word, rest.strip()))
    return stages


def environment(steps: list[Step]) -> dict[str, str]:
    """Return what the ENVs of some steps set, over the PATH of the base."""
    found = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for step in steps:
        if step.word == "ENV":
            for pair in shlex.split(step.rest):
                name, _, value = pair.partition("=")
                found[name] = re.sub(r"\$(\w+)", lambda match: found[match[1]], value)
    return found


def last(steps: list[Step], word: str, otherwise: str) -> str:
    """Return the rest of the last such instruction."""
    return next((step.rest for step in reversed(steps) if step.word == word), otherwise)


def context(root: Path) -> Iterator[Path]:
    """Yield the files that `COPY . .` takes, by the last pattern of .dockerignore that matches."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for path in sorted(root.iterdir()):
        if not _ignored(path.relative_to(root), patterns):
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file() and not _ignored(file.relative_to(root), patterns):
                    yield file.relative_to(root)


def _ignored(path: Path, patterns: list[str]) -> bool:
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        parts = path.parts if wanted.startswith("**/") else path.parts[:1]
        if any(fnmatchcase(part, wanted.removeprefix("**/")) for part in parts):
            ignored = not pattern.startswith("!")
    return ignored
