import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import dfloc
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace
from dfloc.sweep import proof
from dfloc.sweep.proof import Proof


@pytest.fixture
def mine(tmp_path: Path) -> Proof:
    return Proof.begin(Workspace(tmp_path / "workspace"))


def test_a_node_that_sees_and_runs_the_same_can_work(mine: Proof) -> None:
    mine.check()
    assert Path(mine.marker).read_bytes() == Path(mine.marker).name.encode()
    assert mine.runs["python"] == sys.version.split()[0]
    assert mine.runs["dfloc"].startswith(f"{dfloc.__version__} (source ")
    mine.end()
    mine.end()
    with pytest.raises(WorkspaceError, match=r"^node \S+ does not see the workspace \S+/workspace$"):
        mine.check()


def test_only_what_differs_is_named(mine: Proof) -> None:
    theirs = mine.runs | {"torch": "1.0", "more": "2"}
    assert mine.fault([], mine.runs) == ""
    assert mine.fault([], theirs) == f"runs torch 1.0 (the driver: torch {mine.runs['torch']})"
    assert mine.fault([mine.marker], theirs).startswith(
        f"does not see the workspace {Path(mine.marker).parent} and runs torch"
    )


def test_another_source_of_the_same_version_is_another_dfloc(mine: Proof, tmp_path: Path) -> None:
    for name, text in (("same", "1"), ("other", "2"), ("same again", "1")):
        package = tmp_path / name / "dfloc"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('__version__ = "0.1.0"')
        (package / "part.py").write_text(text)
    runs = [looked(mine, f"sys.path.insert(0, {str(tmp_path / name)!r})") for name in ("same", "other", "same again")]
    assert runs[0] == runs[2]
    assert runs[0].startswith("0.1.0 (source ")
    assert runs[1].startswith("0.1.0 (source ")
    assert runs[0] != runs[1]


def test_a_node_without_dfloc_can_still_be_looked_at(mine: Proof) -> None:
    assert looked(mine, "sys.modules['dfloc'] = None") == "missing"


def looked(mine: Proof, first: str) -> str:
    """Return which dfloc is found where `first` was run before."""
    code = f"import pickle, sys; {first}; look = pickle.load(sys.stdin.buffer)"
    code += f"; print(look([{mine.marker!r}])[1].get('dfloc', 'missing'))"
    sent = cloudpickle.dumps(proof._looker())
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.ray
def test_a_node_that_does_not_answer_is_named(mine: Proof, ray_local: None) -> None:
    mine.check_nodes()
    with pytest.raises(WorkspaceError, match=r"1 of 1 nodes cannot work: node \S+ \(\S+\) does not answer\. Share"):
        mine.check_nodes(seconds=0)


@pytest.mark.ray
def test_a_node_that_cannot_look_is_named_with_the_cause(
    mine: Proof, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason, said in (("stale file handle\nmore", " stale file handle"), ("", " ")):

        def broken(paths: list[str], reason: str = reason) -> None:
            raise OSError(reason)

        monkeypatch.setattr(proof, "_looker", lambda broken=broken: broken)
        with pytest.raises(WorkspaceError, match=rf"node \S+ \(\S+\) cannot look: OSError:{said}\. Share"):
            mine.check_nodes()


@pytest.mark.ray
def test_data_that_a_node_does_not_see_are_named(mine: Proof, ray_local: None, tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    mine._replace(data=[str(there)]).check_nodes()
    with pytest.raises(WorkspaceError, match=rf"node \S+ \(\S+\) does not see the data {gone}\. Share"):
        mine._replace(data=[str(there), str(gone)]).check_nodes()
    with pytest.raises(WorkspaceError, match=rf"^node \S+ does not see the data {gone}$"):
        mine._replace(data=[str(gone)]).check()


def test_the_marker_of_a_driver_that_was_killed_is_removed(mine: Proof) -> None:
    root = Path(mine.marker).parent
    other = Proof.begin(Workspace(root))
    assert [str(path) for path in root.glob(".seen-*")] == [other.marker]


def test_a_node_that_joined_later_proves_itself_before_its_first_trial(mine: Proof, tmp_path: Path) -> None:
    from dfloc.sweep.trainable import train_pack

    workspace = tmp_path / "unseen"
    told = {"workspace": str(workspace), "data": "", "device": "cpu", "plugins": [], "items": []}
    train_pack(told | {"proof": tuple(mine)})
    other = mine._replace(runs=mine.runs | {"dfloc": "0.0.1"})
    shutil.rmtree(workspace)
    with pytest.raises(WorkspaceError, match=r"node \S+ runs dfloc 0\.1\.0 \(source \w+\) \(the driver: dfloc 0\.0\.1"):
        train_pack(told | {"proof": tuple(other)})
    mine.end()
    with pytest.raises(WorkspaceError, match="does not see the workspace"):
        train_pack(told | {"proof": tuple(mine)})
    assert not workspace.exists()
