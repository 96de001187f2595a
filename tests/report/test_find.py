import os

import pytest
from upath import UPath

from dfloc.errors import ConfigError, WorkspaceError
from dfloc.report.find import find
from tests.report import studies


@pytest.fixture
def workspace(tmp_path) -> UPath:
    """Three sweeps of one name; the one on Dolos is the latest."""
    mini = studies.mini().model_copy(update={"trials": ()})
    records = [
        mini,
        mini.model_copy(update={"sweep": "exposure-mini-mini-limit8", "limit": 8}),
        mini.model_copy(update={"sweep": "exposure-paper-dolos", "preset": "paper", "data": "dolos"}),
    ]
    root = UPath(tmp_path)
    for age, record in enumerate(records):
        record.save(root / "sweeps" / record.sweep)
        [path] = (tmp_path / "sweeps" / record.sweep / "starts").iterdir()
        os.utime(path, (1e9 - age, 1e9 - age))
    return root


def test_the_latest_is_found(workspace):
    assert find(workspace, "exposure", ["exposure"]).sweep == "exposure-paper-dolos"


@pytest.mark.parametrize(
    ("asked", "sweep"),
    [
        ({"preset": "mini"}, "exposure-mini-mini-limit8"),
        ({"limit": 8}, "exposure-mini-mini-limit8"),
        ({"data": "dolos"}, "exposure-paper-dolos"),
    ],
)
def test_options_choose(workspace, asked, sweep):
    assert find(workspace, "exposure", ["exposure"], **asked).sweep == sweep


def test_a_full_name_is_understood(workspace):
    assert find(workspace, "exposure-mini-mini", ["exposure"]).limit is None


def test_what_was_not_run_so_is_told_with_what_is_there(workspace):
    with pytest.raises(ConfigError, match=r"not run with --preset smoke; there is: exposure-mini-mini, "):
        find(workspace, "exposure", ["exposure"], preset="smoke")


def test_an_unknown_name_is_told_what_is_near(workspace):
    with pytest.raises(ConfigError, match='unknown sweep "exposur"; did you mean "exposure"'):
        find(workspace, "exposur", ["exposure"])


def test_a_sweep_that_did_not_run_is_told_the_command(tmp_path):
    with pytest.raises(ConfigError, match=r"run it: dfloc sweep exposure --workspace"):
        find(UPath(tmp_path / "none"), "exposure", ["exposure"])
    assert not (tmp_path / "none").exists()


def test_a_workspace_that_is_a_file_has_no_sweeps(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="was not run"):
        find(UPath(tmp_path / "file"), "exposure", ["exposure"])


def test_a_damaged_record_stops_the_sweeps_alone_that_may_be_meant(workspace):
    mini = studies.mini().model_copy(update={"trials": (), "name": "other", "sweep": "other-mini-mini"})
    mini.save(workspace / "sweeps" / "other-mini-mini")
    [path] = (workspace / "sweeps" / "exposure-mini-mini-limit8" / "starts").iterdir()
    path.write_text("{")
    assert find(workspace, "other", ["exposure"]).name == "other"
    for full in ("exposure-mini-mini", "exposure-paper-dolos"):
        assert find(workspace, full, ["exposure"]).sweep == full
    for meant in ("exposure", "exposure-mini-mini-limit8"):
        with pytest.raises(WorkspaceError, match=rf"{path} is no JSON.*delete it and start the sweep again"):
            find(workspace, meant, ["exposure"])
