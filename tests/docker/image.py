"""Images without a docker engine: each stage is an overlay over this machine's root, in which its steps are run.

Of this machine's root a step sees the system alone: users, /tmp and /usr/local are those of a fresh base, where
/usr/local is the Python that runs the tests, as it is Python in the base image.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.docker.dockerfile import DOCKER, ROOT, Stage, Step, context, environment, last, parse

TOOLS = ("ip", "mount", "nsenter", "readelf", "unshare")
HOSTS = "127.0.0.1 localhost postgres mlflow\n"
LOADER = {"LD_LIBRARY_PATH": "/usr/local/lib"}  # where the base's own loader finds the library of its Python
SYSTEM_UIDS = 1000
BUILD_SECONDS = 1200
_ENTER = """
set -eu
mount -t overlay overlay -o lowerdir=/,upperdir={stage}/upper,workdir={stage}/work {stage}/root
mount --bind -o ro {python} {stage}/root/usr/local
mount --bind {stage}/tmp {stage}/root/tmp
mount --rbind /dev {stage}/root/dev
mount -t proc proc {stage}/root/proc
exec chroot {user} {stage}/root /usr/bin/env -i {env} /bin/sh -c {command}
"""


def lacking() -> str | None:
    """Return why no image can be built here; None = one can."""
    if "DFLOC_TEST_DOCKER" not in os.environ:
        return "takes minutes and 20 GB of disk: make test-docker"
    if os.geteuid() != 0:
        return "overlays need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)} (apt-get install iproute2 binutils)" if missing else None


class Image(NamedTuple):
    """A built image: the folder of its last stage, what that says, and the seconds that it took."""

    folder: Path
    stage: Stage
    seconds: float

    @property
    def files(self) -> Path:
        """What the image adds to its base."""
        return self.folder / "upper"

    @property
    def entrypoint(self) -> list[str]:
        return [str(word) for word in json.loads(last(self.stage.steps, "ENTRYPOINT", "[]"))]

    def megabytes(self) -> int:
        """Return its size without that of the base."""
        return int(
            subprocess.run(["du", "-sm", self.files], capture_output=True, text=True, check=True).stdout.split()[0]
        )

    def command(self, *words: str, net: int | None = None, env: dict[str, str] | None = None) -> list[str]:
        """Return the command that runs words in the image as its user, with its environment and folder."""
        steps = self.stage.steps
        user = last(steps, "USER", "root")
        variables = environment(steps) | {"HOME": f"/home/{user}", "USER": user} | (env or {})
        inside = _enter(self.folder, steps, shlex.join(words), variables, user)
        return [*(["nsenter", f"--net=/proc/{net}/ns/net"] if net else []), *inside]

    def run(self, *words: str, net: int | None = None, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run words in the image to their end."""
        return subprocess.run(self.command(*words, net=net), capture_output=True, text=True, timeout=seconds)


def build(name: str, folder: Path) -> Image:
    """Run every step of docker/<name>, and return its last stage."""
    began = time.monotonic()
    stages = parse((DOCKER / name).read_text())
    made: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        here = made[stage.name or "last"] = folder / f"stage{number}"
        for part in ("upper", "work", "root", "tmp"):
            (here / part).mkdir(parents=True)
        (here / "tmp").chmod(0o1777)
        _base(here / "upper/etc")
        for place, step in enumerate(stage.steps):
            before = stage.steps[:place]
            if step.word == "RUN":
                assert last(before, "USER", "root") == "root"
                _run(_enter(here, before, step.rest, environment(before) | _pip(), "root"))
            elif step.word == "COPY":
                _copy(step, here / "upper", Path(last(before, "WORKDIR", "/")), made)
            elif step.word == "WORKDIR":
                (here / "upper" / step.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return Image(folder / f"stage{len(stages) - 1}", stages[-1], time.monotonic() - began)


def _enter(stage: Path, before: list[Step], command: str, env: dict[str, str], user: str) -> list[str]:
    within = f"cd {last(before, 'WORKDIR', '/')} && {command}"
    script = _ENTER.format(
        stage=stage,
        python=sys.base_prefix,
        user=f"--userspec={user}",
        env=" ".join(f"{key}={shlex.quote(value)}" for key, value in (env | LOADER).items()),
        command=shlex.quote(within),
    )
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def _base(etc: Path) -> None:
    """Give a stage the users of a base image, and the names that compose gives to services."""
    etc.mkdir()
    for name in ("passwd", "group"):
        lines = Path("/etc", name).read_text().splitlines(keepends=True)
        (etc / name).write_text("".join(line for line in lines if int(line.split(":")[2]) < SYSTEM_UIDS))
    (etc / "hosts").write_text(HOSTS)


def _pip() -> dict[str, str]:
    """Return how pip reaches its packages here."""
    return {key: value for key, value in os.environ.items() if key.startswith("PIP_")}


def _copy(step: Step, upper: Path, workdir: Path, made: dict[str, Path]) -> None:
    *sources, target = step.rest.split()
    inside = upper / str(workdir / target).lstrip("/")
    inside.parent.mkdir(parents=True, exist_ok=True)
    if sources[0].startswith("--from="):
        source = made[sources[0].removeprefix("--from=")] / "upper" / sources[1].lstrip("/")
        subprocess.run(["cp", "--archive", "--link", source, inside], check=True)
        return
    names = list(context(ROOT))
    for name in names if sources == ["."] else map(Path, sources):
        assert name in names, f"{name} is kept out by .dockerignore"
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, inside / name)
