"""What `dfloc doctor` says, its exit codes, and that its options do what they say."""

from pathlib import Path

import pytest
from upath import UPath

from dfloc import storage
from tests.cli.test_sweep import Dfloc, dfloc
from tests.old import unpacked

__all__ = ["dfloc"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def test_damage_is_told_then_mended_and_then_there_is_none(dfloc: Dfloc, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    unpacked(root)
    whole = dfloc("doctor")
    assert whole.code == 0
    assert "  rows: 76 looked at, of which 76 are of before receipts: unverifiable" in whole.out.splitlines()
    assert whole.out.splitlines()[-1] == "nothing is damaged"
    path = min(root.glob("features/*/0/*/0.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    told = dfloc("doctor")
    assert (told.code, path.exists()) == (1, True)
    [line] = [line for line in told.out.splitlines() if line.startswith("damaged: ")]
    assert line.startswith(f"damaged: features {path} (")
    assert " images " in line
    assert told.out.splitlines()[-1] == "1 damaged and 0 left over; dfloc doctor --mend takes them away"
    mended = dfloc("doctor", "--mend")
    assert (mended.code, path.exists()) == (0, False)
    assert mended.out.splitlines()[-1] == "1 damaged and 0 left over: taken away"
    assert dfloc("doctor").code == 0


def test_what_only_a_user_can_bring_back_stays_an_error(dfloc: Dfloc, tmp_path: Path) -> None:
    unpacked(tmp_path / "workspace")
    pair = (tmp_path / "workspace" / "shards" / "pair").rename(tmp_path / "pair")
    assert dfloc("doctor", "--data", str(pair)).code == 0
    (pair / "manifest.json").write_text("{")
    assert dfloc("doctor").code == 0
    for args in ([], ["--mend"]):
        told = dfloc("doctor", "--data", str(pair), *args)
        assert told.code == 1
        assert f"import again what {pair} was made from: dfloc data import SRC --out {pair}" in told.out
    assert (pair / "manifest.json.damaged").exists()


def test_a_manifest_that_was_set_aside_stays_an_error(dfloc: Dfloc, tmp_path: Path) -> None:
    unpacked(tmp_path / "workspace")
    manifest = tmp_path / "workspace" / "shards" / "pair" / "manifest.json"
    manifest.write_text("{")
    for args in (["--mend"], [], ["--mend"]):
        told = dfloc("doctor", *args)
        assert (told.code, f"damaged: shard {manifest} " in told.out) == (1, True)
        assert not manifest.exists()


def test_without_a_workspace_the_machine_alone_is_looked_at(dfloc: Dfloc, tmp_path: Path) -> None:
    told = dfloc("doctor")
    assert told.code == 0
    assert told.out.startswith("this machine\n  dfloc: ")
    assert "there is no workspace" in told.out
    assert list(tmp_path.iterdir()) == []
    for args in (["--workspace", "gone"], ["--mend"]):
        told = dfloc("doctor", *args)
        assert (told.code, "there is no workspace" in told.err) == (2, True)


def test_a_machine_that_is_not_fit_is_an_error(dfloc: Dfloc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    told = dfloc("doctor")
    assert told.code == 1
    assert "  bad: Ray's token: " in told.out


def test_data_that_are_no_shards_are_refused(dfloc: Dfloc, tmp_path: Path) -> None:
    unpacked(tmp_path / "workspace")
    told = dfloc("doctor", "--data", "nowhere")
    assert (told.code, "nowhere" in told.err) == (2, True)


def test_a_folder_that_is_no_workspace_is_said_and_not_mended(dfloc: Dfloc, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert dfloc("doctor", "--workspace", "mine").code == 0
    (tmp_path / "mine" / "mlflow.db").write_text("notes")
    told = dfloc("doctor", "--workspace", "mine")
    assert (told.code, "is not a workspace" in told.out, "damaged: " in told.out) == (1, True, False)
    told = dfloc("doctor", "--mend", "--workspace", "mine")
    assert (told.code, "is not a workspace" in told.err) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["mlflow.db"]


def test_what_cannot_be_taken_away_is_named(dfloc: Dfloc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked(tmp_path / "workspace")
    first, second = sorted((tmp_path / "workspace").glob("features/*/0/*/0.npy"))[:2]
    for path in (first, second):
        path.write_bytes(b"")
    real = storage.remove

    def refuse(path: UPath) -> None:
        if path.path == str(first):
            raise PermissionError(13, "Permission denied")
        real(path)

    monkeypatch.setattr(storage, "remove", refuse)
    told = dfloc("doctor", "--mend")
    assert told.code == 1
    assert told.out.splitlines()[-2:] == [
        "1 damaged and 0 left over: taken away",
        f"1 cannot be taken away: {first} (Permission denied)",
    ]
