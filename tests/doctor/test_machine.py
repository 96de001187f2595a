"""What is said of a machine, and when it is not fit."""

import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from upath import UPath

from dfloc import storage
from dfloc.doctor import machine
from dfloc.doctor.machine import Fact
from dfloc.features.weights import Origin
from dfloc.storage import Workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, in which no token lies."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def facts(workspace: Workspace | None = None, tracking: str | None = None) -> dict[str, Fact]:
    return {fact.name: fact for fact in machine.look(workspace, tracking)}


def test_a_fit_machine(workspace: Workspace) -> None:
    found = facts(workspace)
    assert {fact.name for fact in found.values() if fact.state == "bad"} == set()
    assert found["torch"].text.startswith(torch.__version__)
    assert found["Python"].text == sys.version.split()[0]
    assert found["rights"].text == f"{workspace.root} can be written"
    assert found["tracking"].text.endswith("is made by the first sweep")
    assert list(Path(workspace.root.path).iterdir()) == [], "nothing is left there"
    assert "rights" not in facts()


def test_a_torch_that_cannot_be_imported_and_a_python_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert (facts()["torch"].state, "constraints.txt" in facts()["torch"].text) == ("bad", True)
    monkeypatch.setattr(machine, "OLDEST", (9, 0))
    assert (facts()["Python"].state, "dfloc needs 9.0" in facts()["Python"].text) == ("bad", True)


def test_a_token_is_private_and_there_where_it_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts()["Ray's token"].state == "ok"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert facts()["Ray's token"].state == "bad"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.write_text("0" * 64)
    for mode, state in ((0o644, "warn"), (0o600, "ok")):
        token.chmod(mode)
        assert facts()["Ray's token"].state == state
    assert "0000" not in facts()["Ray's token"].text
    token.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert facts()["Ray's token"].state == "warn"


def test_a_store_that_does_not_answer_is_a_warning_and_one_without_sense_an_error(workspace: Workspace) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert facts(workspace, f"http://127.0.0.1:{port}")["tracking"].state == "warn"
    assert facts(workspace, "mlfow://host")["tracking"].state == "bad"


def test_little_space_and_no_right_to_write(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4_000_000_000))
    assert facts(workspace)["space, workspace"].state == "warn"

    def refuse(path: UPath, data: bytes) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(storage, "put_new", refuse)
    assert (facts(workspace)["rights"].state, "Permission denied" in facts(workspace)["rights"].text) == ("bad", True)


def test_weights_that_are_known_and_those_whose_file_is_gone(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"x")
    for number, word in enumerate(("openai", str(file))):
        stamp = (1, 2) if number else None
        origin = Origin(backbone=f"clip-{number}", word=word, digest=f"{number}" * 64, stamp=stamp)
        storage.put_json(workspace.weights / f"{number}.json", origin.model_dump(mode="json"))
    assert facts(workspace)["weights, clip-0"].text == "openai: known"
    assert facts(workspace)["weights, clip-1"].state == "ok"
    file.unlink()
    assert facts(workspace)["weights, clip-1"].state == "warn"
    (Path(workspace.weights.path) / f"{'1' * 64}.safetensors").write_bytes(b"x")
    assert facts(workspace)["weights, clip-1"].text == f"{file}: kept in the workspace"
