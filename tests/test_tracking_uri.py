import logging
import socket
import sqlite3
import time
from pathlib import Path

import pytest
import sqlalchemy
from upath import UPath

from dfloc import database_uri, storage, tracking_uri
from dfloc.errors import ConfigError
from dfloc.storage import Workspace


@pytest.mark.parametrize(
    ("uri", "understood"),
    [
        (None, "sqlite:///{root}/mlflow.db"),
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("https://mlflow.example.org/team", "https://mlflow.example.org/team"),
    ],
)
def test_known_forms(tmp_path: Path, uri: str | None, understood: str) -> None:
    assert tracking_uri.check(Workspace(tmp_path), uri) == understood.format(root=tmp_path)


HOSTILE = (
    *("a%41b", "a?b=c", "a#b", "a;b", "a b ", "a'b", 'a"b', "a&b=c", "a:b"),
    *("ü \u4e2d", "-a", "~a", "[bold]a", "a\\b", "a*b"),
)


@pytest.mark.parametrize("name", [*HOSTILE, "".join(HOSTILE), "bytes \udcff"])
def test_any_path_is_an_address_that_opens_this_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    uri = Workspace(folder).tracking_uri
    assert database_uri.database(uri) == folder / "mlflow.db"
    if "\udcff" not in name:
        assert tracking_uri.check(Workspace(tmp_path), uri) == uri
        engine = sqlalchemy.create_engine(uri)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE written (x)"))
        engine.dispose()
    tracking_uri.probe(uri, 1)
    with sqlite3.connect(database_uri.read_only(folder / "mlflow.db"), uri=True) as opened:
        assert opened.execute("SELECT name FROM sqlite_master").fetchall() == [("written",)][: "\udcff" not in name]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://user:secret@db/mlflow",
        "http://user:secret@host:99999",
        "http://user:secret@host",
        "https://user:secret@",
        "http://user:sec/secret@host",
        "user:secret@host",
        "http://user:a@secret@[::1",
    ],
)
def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    with pytest.raises(ConfigError) as given:
        tracking_uri.check(Workspace(tmp_path), uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError) as inherited:
        tracking_uri.check(Workspace(tmp_path), None)
    for told in (str(given.value), str(inherited.value)):
        assert "secret" not in told
        assert "understood" in told or "name or password" in told


def test_an_address_of_the_environment_is_used_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000/")
    assert tracking_uri.check(Workspace(tmp_path), None) == "http://127.0.0.1:5000"
    assert tracking_uri.check(Workspace(tmp_path), "http://127.0.0.1:6000") == "http://127.0.0.1:6000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    with pytest.raises(ConfigError, match='MLFLOW_TRACKING_URI="databricks" cannot be understood'):
        tracking_uri.check(Workspace(tmp_path), None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri.check(Workspace(tmp_path), None) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "cannot be understood"),
        ("./mlruns", "keeps no runs"),
        ("/data/mlruns", "keeps no runs"),
        ("file:///data/mlruns", "keeps no runs"),
        ("htp://127.0.0.1:5000", "cannot be understood"),
        ("http://", "cannot be understood"),
        ("http://host:port", "cannot be understood"),
        ("http://[::1", "cannot be understood"),
        ("http://host:99999", "cannot be understood"),
        ("sqlite://", "cannot be understood"),
        ("sqlite:///", "cannot be understood"),
        ("sqlite:////folder/", "cannot be understood"),
        ("127.0.0.1:5000", "cannot be understood"),
        ("databricks", "cannot be understood"),
        ("postgresql://host/db", "cannot be understood"),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, uri: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        tracking_uri.check(Workspace(tmp_path), uri)
    assert f'"{uri}"' in str(caught.value)
    assert "sqlite:////<path>/mlflow.db" in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://me:secret@127.0.0.1:5000", "https://secret@mlflow.example.org", "http://:secret@h"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (uri, None):
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
            tracking_uri.check(Workspace(tmp_path), given)
        assert "secret" not in str(caught.value)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql://user:secret@db/mlflow", '"postgresql://db/mlflow" cannot'),
        ("postgresql://db/mlflow?user=me&password=secret", '"postgresql://db/mlflow" cannot'),
        ("http://user:secret@host:99999", '"http://host:99999" cannot'),
        ("https://user:secret@", '"https://" cannot'),
        ("http://user:sec/ret@host", "of host has a name"),
        ("http://user:secr@et@host", "of host has a name"),
        ("http://user:12/secret@host", "of host has a name"),
        ("http://host/?token=secret", '"http://host/" cannot'),
        ("user:secret@host:5000", '"host:5000" cannot'),
    ],
)
def test_what_cannot_be_understood_is_shown_without_its_password(
    tmp_path: Path, uri: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (uri, None):
        with pytest.raises(ConfigError) as caught:
            tracking_uri.check(Workspace(tmp_path), given)
        assert told in str(caught.value)
        assert not any(part in str(caught.value) for part in ("secr", "sec/", "et@", "user:", "ret@"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.mark.parametrize(
    "uri", ["sqlite:////data/a@b/mlflow.db", "./a@b", "/a@b", "~/a@b", "file:///a@b", "http://h/a"]
)
def test_an_address_without_a_password_is_shown_as_it_is(uri: str) -> None:
    assert tracking_uri.shown(uri) == uri


def test_an_object_store_holds_no_database() -> None:
    with pytest.raises(ConfigError, match="--tracking"):
        tracking_uri.check(Workspace(UPath("memory://bucket/work")), None)


def test_a_server_that_is_not_there_or_silent_is_soon_known() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(OSError, match="refused"):
            tracking_uri.probe(f"http://127.0.0.1:{port}", 5)
        silent.listen()
        start = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            tracking_uri.probe(f"http://127.0.0.1:{port}", 0.3)
        assert time.monotonic() - start < 3


def test_a_database_is_made_and_a_damaged_or_locked_one_is_told(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new folder/mlflow.db"
    tracking_uri.probe(uri, 1)
    path = tmp_path / "new folder" / "mlflow.db"
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match="locked"):
        tracking_uri.probe(uri, 0.1)
    other.close()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match="not a database"):
        tracking_uri.probe(uri, 1)


def test_chatter_goes_into_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracking_uri.quiet(tmp_path / "logs" / "mlflow.log")
    logging.getLogger("mlflow.store").warning("heard %d", 1)
    logging.getLogger("alembic.runtime").warning("heard %d", 2)
    assert "mlflow.store: heard 1" in (tmp_path / "logs" / "mlflow.log").read_text()
    assert "alembic.runtime: heard 2" in (tmp_path / "logs" / "mlflow.log").read_text()
    assert capfd.readouterr() == ("", "")


FOUND = "/#/experiments/3/runs?searchFilter=tags.%60dfloc.fingerprint%60%20%3D%20%27ab%27"


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://mlflow.example.org/team/", "https://mlflow.example.org/team"),
        ("https://name:password@mlflow.example.org", "https://mlflow.example.org"),
        ("https://token@mlflow.example.org?key=secret#part", "https://mlflow.example.org"),
        ("sqlite:////data/runs.db", ""),
        ("javascript:alert(1)", ""),
        ("http://", ""),
        ("http://[", ""),
    ],
)
def test_a_server_that_is_noted_shows_the_runs_of_a_tag_and_no_secret(tmp_path: Path, uri: str, address: str) -> None:
    sweep = UPath(tmp_path) / "sweep"
    note = {"address": uri, "experiment": "3"}
    storage.put(sweep / tracking_uri.NOTE, storage.json_bytes(note))
    assert tracking_uri.search(sweep, "dfloc.fingerprint", "ab") == (address and f"{address}{FOUND}")


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"address": 1}', b'{"address": "http://a", "experiment": "../x"}'])
def test_a_note_that_is_damaged_is_no_server(tmp_path: Path, damaged: bytes) -> None:
    assert tracking_uri.search(UPath(tmp_path), "tag", "ab") == ""
    (tmp_path / tracking_uri.NOTE).write_bytes(damaged)
    assert tracking_uri.search(UPath(tmp_path), "tag", "ab") == ""


def test_the_newest_store_is_noted_where_it_is_a_server(tmp_path: Path) -> None:
    sweep = UPath(tmp_path) / "sweep"
    tracking_uri.note(sweep, "http://127.0.0.1:5000", "3")
    before = (sweep / tracking_uri.NOTE).stat()
    tracking_uri.note(sweep, "http://127.0.0.1:5000", "3")
    assert (sweep / tracking_uri.NOTE).stat() == before
    tracking_uri.note(sweep, "sqlite:////data/runs.db", "3")
    assert not (sweep / tracking_uri.NOTE).exists()
