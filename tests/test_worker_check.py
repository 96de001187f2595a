import re
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import dfloc
from dfloc import worker_check
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck

ROOT = Path(dfloc.__file__).parent.parent


@pytest.fixture
def mine(tmp_path: Path) -> WorkerCheck:
    return WorkerCheck.begin(Workspace(tmp_path / "workspace"))


def test_a_node_that_sees_and_runs_the_same_can_work(mine: WorkerCheck) -> None:
    mine.check()
    assert Path(mine.marker).read_bytes() == Path(mine.marker).name.encode()
    assert mine.runs["python"] == sys.version.split()[0]
    assert mine.runs["dfloc"].startswith(f"{dfloc.__version__} (source ")
    mine.end()
    mine.end()
    with pytest.raises(WorkspaceError, match=r"^node \S+ does not see the workspace \S+/workspace\. Share"):
        mine.check()


def test_only_what_differs_is_named(mine: WorkerCheck) -> None:
    theirs = mine.runs | {"torch": "1.0", "more": "2"}
    assert mine.fault([], mine.runs, "/elsewhere") == "", "where it lies is no difference"
    assert mine.fault([], theirs, "/elsewhere") == f"runs torch 1.0 (the driver: torch {mine.runs['torch']})"
    assert mine.fault([mine.marker], theirs, "/elsewhere").startswith(
        f"does not see the workspace {Path(mine.marker).parent} and runs torch"
    )
    assert mine.fault([], theirs | {"dfloc": "0.0.1"}, "/elsewhere/dfloc") == (
        f"runs torch 1.0, dfloc 0.0.1 from /elsewhere/dfloc "
        f"(the driver: torch {mine.runs['torch']}, dfloc {mine.runs['dfloc']} from {ROOT / 'dfloc'})"
    )


def test_of_two_places_on_one_machine_the_way_out_is_told(mine: WorkerCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, told in (("/elsewhere/dfloc", True), (mine.place, False)):
        theirs = mine.runs | {"dfloc": "0.0.1"}
        monkeypatch.setattr(worker_check, "_here", lambda theirs=theirs, place=place: ([], theirs, place))
        with pytest.raises(WorkspaceError, match=r"and give the command again") as raised:
            mine.check()
        assert str(raised.value).endswith(f"start it outside of {ROOT}, or set PYTHONPATH to it") is told


OTHERS = {
    "same": {"__init__.py": '__version__ = "0.1.0"', "a.py": "12", "b.py": "3"},
    "same again": {"__init__.py": '__version__ = "0.1.0"', "a.py": "12", "b.py": "3", ".a.py": "edited", "a.txt": "?"},
    "another text": {"__init__.py": '__version__ = "0.1.0"', "a.py": "12", "b.py": "4"},
    "another name": {"__init__.py": '__version__ = "0.1.0"', "a.py": "12", "c.py": "3"},
    "text moved": {"__init__.py": '__version__ = "0.1.0"', "a.py": "1", "b.py": "23"},
    "below": {"__init__.py": '__version__ = "0.1.0"', "a.py": "12", "part/b.py": "3"},
}


def test_another_source_of_the_same_version_is_another_dfloc(mine: WorkerCheck, tmp_path: Path) -> None:
    found = {}
    for name, files in OTHERS.items():
        package = tmp_path / name / "dfloc"
        (package / "part").mkdir(parents=True)
        for file, text in files.items():
            (package / file).write_text(text)
        found[name] = looked(mine, str(tmp_path / name))
    assert all(re.fullmatch(r"0\.1\.0 \(source [0-9a-f]{12}\)", runs) for runs in found.values()), found
    assert found.pop("same again") == found["same"]
    assert len(set(found.values())) == len(found)


def test_a_copy_of_the_source_is_the_same_dfloc_also_in_an_archive(mine: WorkerCheck, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dfloc", tmp_path / "copy" / "dfloc")
    assert looked(mine, str(tmp_path / "copy")) == mine.runs["dfloc"]
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "copy", "dfloc")
    assert looked(mine, packed) == mine.runs["dfloc"]


def test_a_node_without_dfloc_can_still_be_looked_at(mine: WorkerCheck) -> None:
    assert looked(mine, "", "sys.modules['dfloc'] = None") == "missing"


def looked(mine: WorkerCheck, place: str, first: str = "pass") -> str:
    """Return which dfloc is found where a place comes first on the path, once `first` was run."""
    code = f"import pickle, sys; sys.path.insert(0, {place!r}); {first}; look = pickle.load(sys.stdin.buffer)"
    code += f"; print(look([{mine.marker!r}])[1].get('dfloc', 'missing'))"
    sent = cloudpickle.dumps(worker_check._looker())
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.ray
def test_a_node_that_does_not_answer_is_named(mine: WorkerCheck, ray_local: None) -> None:
    mine.check_nodes()
    with pytest.raises(WorkspaceError, match=r"1 of 1 nodes cannot work: node \S+ \(\S+\) does not answer\. Share"):
        mine.check_nodes(seconds=0)


@pytest.mark.ray
def test_a_node_that_cannot_look_is_named_with_the_cause(
    mine: WorkerCheck, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason, said in (("stale file handle\nmore", ": stale file handle"), ("", "")):

        def broken(paths: list[str], reason: str = reason) -> None:
            raise OSError(reason)

        monkeypatch.setattr(worker_check, "_looker", lambda broken=broken: broken)
        with pytest.raises(WorkspaceError, match=rf"node \S+ \(\S+\) cannot look: OSError{said}\. Share"):
            mine.check_nodes()


@pytest.mark.ray
def test_data_that_a_node_does_not_see_are_named(mine: WorkerCheck, ray_local: None, tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    mine._replace(data=[str(there)]).check_nodes()
    with pytest.raises(WorkspaceError, match=rf"node \S+ \(\S+\) does not see the data {gone}\. Share"):
        mine._replace(data=[str(there), str(gone)]).check_nodes()
    with pytest.raises(WorkspaceError, match=rf"^node \S+ does not see the data {gone}\. Share"):
        mine._replace(data=[str(gone)]).check()


def test_the_marker_of_a_driver_that_was_killed_is_removed(mine: WorkerCheck) -> None:
    root = Path(mine.marker).parent
    other = WorkerCheck.begin(Workspace(root))
    assert [str(path) for path in root.glob(".seen-*")] == [other.marker]


def test_a_node_that_joined_later_proves_itself_before_its_first_trial(mine: WorkerCheck, tmp_path: Path) -> None:
    from dfloc.sweep.tuning import train_pack

    workspace = tmp_path / "unseen"
    told = {"workspace": str(workspace), "data": "", "device": "cpu", "plugins": [], "items": []}
    train_pack(told | {"proof": tuple(mine)})
    other = mine._replace(runs=mine.runs | {"dfloc": "0.0.1"})
    shutil.rmtree(workspace)
    said = rf"node \S+ runs dfloc 0\.1\.0 \(source \w+\) from {ROOT}/dfloc \(the driver: dfloc 0\.0\.1 from"
    with pytest.raises(WorkspaceError, match=said):
        train_pack(told | {"proof": tuple(other)})
    mine.end()
    with pytest.raises(WorkspaceError, match="does not see the workspace"):
        train_pack(told | {"proof": tuple(mine)})
    assert not workspace.exists()
