import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
from PIL import Image
from upath import UPath

import dfloc
from dfloc.errors import ConfigError, DataError
from dfloc.ray_log import RayLog
from dfloc.workers import Workers, first_cause
from tests.command import DFLOC, HARMFUL, fresh, other_checkout

ROOT = Path(dfloc.__file__).parent.parent
TERM = """
import os, signal, sys, time
from ray._private.node import Node
from dfloc import cli
from dfloc.cli import group
from dfloc.workers import Workers

def asks(node):
    os.write(1, b"asked\\n")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)

Node.start_head_processes = asks
group.run = lambda: Workers().start()
sys.argv = ["dfloc", "sweep", "x"]
cli.main()
"""
TIMED_OUT = "The current node timed out during startup. This could happen because\nof something."


@pytest.mark.ray
def test_an_import_from_within_another_checkout_is_like_any_other(tmp_path: Path, tiny_tree: Path) -> None:
    user, long = other_checkout(tmp_path / "user"), tmp_path / "long" / ("t" * 120)
    long.mkdir(parents=True)
    tiny_tree.rename(user / "tree")
    args = [DFLOC, "data", "import", "tree", "--out", "shards"]
    done = subprocess.run(args, cwd=user, env=fresh() | {"TMPDIR": str(long)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("54 images imported into shards, 0 unchanged\n"), done
    assert "Traceback" not in done.stderr
    found = json.loads((user / "shards/manifest.json").read_text())["domains"]["tiny/blur"]["splits"]["train"]
    masks = (user / "tree/tiny/fake/blur/masks/train").glob("*.png")
    assert found["fake_area"] == pytest.approx(np.mean([np.mean(np.asarray(Image.open(mask)) == 0) for mask in masks]))
    assert found["fake_area"] < 0.5
    assert list(long.iterdir()) == []


LOOKS = """
import json, os, sys
from pathlib import Path

import psutil
import ray
from ray._private.node import Node
from upath import UPath

from dfloc.workers import Workers, quiet_data


def look(told):
    from importlib.util import find_spec

    import dfloc

    names = ("beside_script", "beside_user", "in_lib")
    there = [name for name in names if find_spec(name)]
    return {"there": there, "dfloc": dfloc.__file__, "lives_with": os.listdir(), "cwd": os.getcwd()}


def report(told):
    from ray import tune

    tune.report({"said": json.dumps(look(told))})


def state():
    return [os.getcwd(), list(sys.path), os.environ["PYTHONPATH"], Node.start_log_monitor]


def ours(log):
    before = state()
    with Workers(log=log):
        assert state() == before
        assert not any("log_monitor" in " ".join(each.cmdline()) for each in psutil.Process().children(recursive=True))
        import ray.data
        from ray import tune

        with quiet_data():
            data = ray.data.from_items([{"told": 1}]).map(look)
        run = tune.RunConfig(storage_path=str(Path("tune").absolute()), verbose=0)
        ended = tune.Tuner(tune.with_resources(report, {"cpu": 1}), run_config=run).fit()
        return {
            "task": ray.get(ray.remote(look).remote({})),
            "data": data.take_all()[0],
            "tune": json.loads(ended[0].metrics["said"]),
        }


def the_users():
    from dfloc.data import dolos, importer
    from dfloc.errors import WorkspaceError

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=1)
    try:
        importer.import_samples(dolos.scan(Path("tree")), UPath("shards"))
    except WorkspaceError as error:
        return str(error)


print(json.dumps({"ours": ours(UPath("ray.log")), "the user's": the_users()}))
"""


class Looked(NamedTuple):
    """What a script saw of its workers, and the user's folder that it ran in."""

    user: Path
    ours: dict[str, dict[str, Any]]
    the_users: str


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Looked:
    """A script of its own folder, run in another checkout, with a relative folder and an empty word in PYTHONPATH."""
    from tests.conftest import write_tiny_tree

    user, scripts = other_checkout(tmp_path_factory.mktemp("user")), tmp_path_factory.mktemp("scripts")
    for name in HARMFUL:  # PYTHONPATH lets the script itself find them
        (user / f"{name}.py").unlink()
    write_tiny_tree(user / "tree")
    (user / "lib").mkdir()
    for path in (user / "beside_user.py", scripts / "beside_script.py", user / "lib/in_lib.py"):
        path.write_text("")
    (scripts / "looks.py").write_text(LOOKS)
    given = fresh() | {"PYTHONPATH": os.pathsep.join([str(ROOT), "lib", ""])}
    args = [sys.executable, str(scripts / "looks.py")]
    done = subprocess.run(args, cwd=user, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return Looked(user, found["ours"], found["the user's"])


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["task", "data", "tune"])
def test_a_worker_finds_what_the_driver_runs_and_not_what_lies_beside(looked: Looked, kind: str) -> None:
    found = looked.ours[kind]
    assert found["dfloc"] == str(ROOT / "dfloc/__init__.py")
    assert found["there"] == ["in_lib"], "a relative folder of PYTHONPATH is the user's"
    assert found["lives_with"] == []
    assert not Path(found["cwd"]).exists(), "it is gone in the end"
    assert Path(found["cwd"]).is_absolute()


@pytest.mark.ray
def test_workers_of_another_source_are_refused_with_both_places(looked: Looked) -> None:
    other, mine = (rf"dfloc 0\.1\.0 \(source \w{{12}}\) from {folder}/dfloc" for folder in (looked.user, ROOT))
    said = looked.the_users
    assert re.match(rf"1 of 1 nodes cannot work: node \S+ \(\S+\) runs {other} \(the driver: {mine}\)\. Share", said)
    assert not (looked.user / "shards").exists()


class Starts(NamedTuple):
    """What a stand-in for `ray.init` was told, and where and with which path it was called."""

    told: list[dict[str, Any]]
    places: list[Path]
    paths: list[list[str]]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's current folder, in a process without Ray, on whose path it is, as the script's is."""
    script = tmp_path / "scripts"
    script.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script / "run.py")])
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(script), *sys.path])
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    before = (Path.cwd(), list(sys.path))
    yield tmp_path
    assert (Path.cwd(), list(sys.path)) == before


def starts(monkeypatch: pytest.MonkeyPatch, *errors: BaseException) -> Starts:
    """Let `ray.init` fail with one error after the other, then start."""
    seen, left = Starts([], [], []), list(errors)

    def init(**told: Any) -> None:
        seen.told.append(told)
        seen.places.append(Path.cwd())
        seen.paths.append(list(sys.path))
        if left:
            raise left.pop(0)

    monkeypatch.setattr(ray, "init", init)
    return seen


def test_a_start_that_timed_out_is_tried_once_more(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = starts(monkeypatch, Exception(TIMED_OUT))
    with Workers() as mine:
        assert Path.cwd() == user
        assert mine.log is None
        [folder] = {place.parent for place in seen.places}
        assert list((folder / "empty").iterdir()) == []
        assert {Path(told["_temp_dir"]).parent for told in seen.told} == {folder}
        assert folder.stat().st_mode & 0o777 == 0o700
    assert len(seen.told) == 2
    assert not folder.exists()
    assert all({"", str(user), str(user / "scripts")}.isdisjoint(path) for path in seen.paths)
    assert all(entry in seen.paths[0] for entry in sys.path if entry and not Path(entry).is_relative_to(user))


def test_twice_is_one_line_and_names_what_was_logged(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = starts(monkeypatch, Exception(TIMED_OUT), Exception(TIMED_OUT))
    with pytest.raises(ConfigError) as raised:
        Workers().start()
    said = str(raised.value)
    assert len(seen.told) == 2
    reason = "The current node timed out during startup. This could happen because"
    match = re.fullmatch(rf"no Ray could be started: {re.escape(reason)}; see (\S+/ray\.log)", said)
    assert match
    log = Path(match[1])
    assert log.exists()
    shutil.rmtree(log.parent)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("validate_socket_filename failed: AF_UNIX path length\nmore"), "validate_socket_filename failed"),
        (OSError(28, os.strerror(28)), "No space left on device"),
        (PermissionError(13, "Permission denied", "/dev/shm"), "Permission denied"),
        (ValueError("\n\nThe object store is larger than memory.\nmore"), "started: The object store is larger"),
        (SystemError(), "no Ray could be started: SystemError; see"),
    ],
)
def test_any_other_failure_is_one_line_at_once(
    user: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    seen, screen = starts(monkeypatch, error), os.fstat(2).st_ino
    log = UPath(user / "logs" / "ray.log")
    with pytest.raises(ConfigError, match=said) as raised:
        Workers(log=log).start()
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(f"; see {log}")
    assert len(seen.told) == 1
    assert not seen.places[0].parent.exists()
    assert os.fstat(2).st_ino == screen


def test_ctrl_c_during_the_start_leaves_nothing(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = starts(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        Workers().start()
    assert not seen.places[0].parent.exists()


def test_term_during_the_start_is_an_ending_like_any_other(tmp_path: Path) -> None:
    """Ray puts a handler of its own in place, twice, and ends with exit code 1."""
    script = tmp_path / "script.py"
    script.write_text(TERM)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=fresh(), timeout=120)
    assert (done.returncode, done.stdout) == (143, "asked\n"), done
    assert re.fullmatch(r"ended by TERM; everything finished is saved. Go on with: dfloc sweep x\n", done.stderr)


def test_a_ray_at_an_address_is_asked_once_and_told_no_temp_folder(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = starts(monkeypatch, Exception("the head is gone"))
    with pytest.raises(ConfigError, match="no Ray answers at auto: the head is gone; see"):
        Workers("auto", UPath(user / "ray.log")).start()
    assert [(told["address"], "_temp_dir" in told) for told in seen.told] == [("auto", False)]
    assert str(user) not in seen.paths[0]
    seen = starts(monkeypatch, ConnectionError("AuthenticationError: no such token"))
    with pytest.raises(ConfigError, match=r"the Ray at auto refuses this machine's token: put .*; see \S+/ray\.log$"):
        Workers("auto", UPath(user / "ray.log")).start()


@pytest.mark.parametrize(
    ("address", "message"),
    [("nonsense", 'should be HOST:PORT or "auto"'), ("127.0.0.1:9", r"no Ray answers at 127\.0\.0\.1:9")],
)
def test_an_address_at_which_nothing_listens_is_told_at_once(
    user: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    seen = starts(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        Workers(address).start()
    assert seen.told == []
    with Workers("local"):
        pass
    assert seen.told[0]["address"] == "local"


def test_a_library_that_cannot_be_imported_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^no Ray could be started: import of ray halted"):
        Workers().start()


def test_the_stream_of_a_notebook_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    ray_log = RayLog(UPath(tmp_path / "ray.log"))
    ray_log.begin()
    try:
        assert sys.stderr is stream
        os.write(2, b"native words\n")
    finally:
        ray_log.end()
    assert sys.stderr is stream
    assert (tmp_path / "ray.log").read_text() == "native words\n"


def test_the_first_cause_is_one_line_without_its_dot() -> None:
    wrapped = ray.exceptions.RayTaskError("f", "Traceback\n...", DataError("a.png is empty. Import it again."))
    assert first_cause(wrapped) == "a.png is empty. Import it again"
    assert first_cause(ValueError("one\ntwo")) == "ValueError: one"
    assert first_cause(MemoryError()) == "MemoryError"
