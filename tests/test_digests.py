"""Bytes are what their digest says: read whole, or verified once on a machine."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from upath import UPath

from dfloc import digests
from dfloc.errors import WorkspaceError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read whole to be verified, in order."""
    names: list[str] = []
    real = hashlib.file_digest

    def counted(file, digest):
        names.append(Path(file.name).name)
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return names


def write(path: Path, data: bytes) -> str:
    """Write a file; return its sha256."""
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a minute pass: what was written counts as having stood for a while."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)


def test_bytes_are_read_against_their_digest(tmp_path: Path) -> None:
    path = UPath(tmp_path / "a.bin")
    sha256 = write(Path(path), b"some bytes")
    assert digests.read(path, sha256) == digests.read(path, sha256[:16]) == b"some bytes"
    for data in (b"", b"some byte", b"some bytez", b"\0" * 10):
        path.write_bytes(data)
        with pytest.raises(WorkspaceError, match=r"a\.bin is damaged: not what was written; mend it"):
            digests.read(path, sha256, "mend it")
    path.unlink()
    path.mkdir()
    with pytest.raises(WorkspaceError, match="cannot be read"):
        digests.read(path, sha256)


def test_a_file_is_verified_once_as_long_as_it_stays(tmp_path: Path, later: None, hashed: list[str]) -> None:
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    assert [digests.verified(UPath(path), sha256) for _ in range(3)] == [True] * 3
    assert hashed == ["a.npy"]
    other = tmp_path / "b.npy"
    write(other, b"x" * 1000)
    assert digests.verified(UPath(other), sha256), "another file of the same bytes is another file"
    assert hashed == ["a.npy", "b.npy"]
    assert not digests.verified(UPath(path), "0" * 64), "a note speaks of the digest that it was verified against"


def test_a_file_that_changes_is_verified_anew_whatever_its_size_and_time(tmp_path: Path, later: None) -> None:
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    before = path.stat()
    assert digests.verified(UPath(path), sha256)
    path.write_bytes(b"x" * 999 + b"y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert not digests.verified(UPath(path), sha256)
    path.write_bytes(b"x" * 1000)
    assert digests.verified(UPath(path), sha256)
    path.unlink()
    assert not digests.verified(UPath(path), sha256)


def test_what_changed_a_moment_ago_is_not_noted(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    assert digests.verified(UPath(path), sha256)
    assert digests.verified(UPath(path), sha256)
    assert len(hashed) == 2, "within one tick of the clock it could change and look the same"


@pytest.mark.parametrize("damage", [b"", b"\0" * 70000, b"not a note\n", b"\xff\xfe"])
def test_damaged_notes_only_cost_time(
    tmp_path: Path, cache: Path, later: None, hashed: list[str], damage: bytes
) -> None:
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    assert digests.verified(UPath(path), sha256)
    (note,) = (cache / "dfloc" / "verified").iterdir()
    note.write_bytes(damage)
    assert digests.verified(UPath(path), sha256)
    assert len(hashed) == 2
    assert digests.verified(UPath(path), sha256)
    assert len(hashed) == 2, "it was noted again"


def test_notes_are_bounded_and_the_newest_stay(tmp_path: Path, cache: Path, later: None, hashed: list[str]) -> None:
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    assert digests.verified(UPath(path), sha256)
    (note,) = (cache / "dfloc" / "verified").iterdir()
    mine = note.read_bytes()
    others = [f"\n{number:032x}".encode() for number in range(3000)]
    note.write_bytes(b"".join(others))
    assert note.stat().st_size > digests.MAX_NOTES
    assert digests.verified(UPath(path), sha256)
    assert note.read_bytes() == b"".join(others[1500:]) + mine
    assert len(hashed) == 2


def test_where_nothing_can_be_noted_each_file_is_read_each_time(
    tmp_path: Path, later: None, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    path = tmp_path / "a.npy"
    sha256 = write(path, b"x" * 1000)
    assert digests.notes() is None
    assert [digests.verified(UPath(path), sha256) for _ in range(2)] == [True, True]
    assert len(hashed) == 2


def test_notes_of_somebody_else_are_not_believed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "dfloc" / "verified").mkdir(parents=True)
    (cache / "dfloc" / "verified").chmod(0o777)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert digests.notes() == tmp_path / f"dfloc-{os.getuid()}" / "verified"
    assert digests.notes().stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert digests.notes() == tmp_path / "home" / ".cache" / "dfloc" / "verified"


def test_a_core_verifies_a_gigabyte_in_a_second_or_so(tmp_path: Path) -> None:
    path = tmp_path / "big.npy"
    sha256 = write(path, bytes(64 << 20))
    start = time.process_time()
    assert digests.verified(UPath(path), sha256)
    assert time.process_time() - start < 0.064 * 8, (
        "eight times slower than it is measured: the bound is for any machine"
    )


def test_a_folder_in_its_place_is_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert not digests.verified(UPath(tmp_path / "a"), "0" * 64)
    with pytest.raises(WorkspaceError, match=r"cannot be read .*; delete it"):
        digests.read(UPath(tmp_path / "a"), "0" * 64)


def test_a_time_to_come_does_not_hinder_a_note(tmp_path: Path, hashed: list[str], monkeypatch) -> None:
    sha256 = write(tmp_path / "a", b"data")
    os.utime(tmp_path / "a", (4e9, 4e9))
    monkeypatch.setattr(digests, "FRESH_SECONDS", -1.0)
    assert digests.verified(UPath(tmp_path / "a"), sha256)
    assert digests.verified(UPath(tmp_path / "a"), sha256)
    assert hashed == ["a"]


def test_a_huge_file_of_notes_is_not_read(tmp_path: Path, hashed: list[str], monkeypatch) -> None:
    sha256 = write(tmp_path / "a", b"data")
    monkeypatch.setattr(digests, "FRESH_SECONDS", -1.0)
    assert digests.verified(UPath(tmp_path / "a"), sha256)
    folder = digests.notes()
    assert folder is not None
    [note] = folder.iterdir()
    with note.open("wb") as file:
        file.truncate(4 << 40)
    assert digests.verified(UPath(tmp_path / "a"), sha256)
    assert digests.verified(UPath(tmp_path / "a"), sha256)
    assert (hashed, note.stat().st_size) == (["a", "a"], 33)
