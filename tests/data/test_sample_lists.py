"""Lists of samples are what their name says, in a form that can tell, and in that of before."""

import json
import logging
from pathlib import Path

import pytest

from dfloc import storage
from dfloc.data import sample_lists
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace


def ref(name: str, image: str = "a", mask: str = "b") -> SampleRef:
    return SampleRef(name, name, name, "x/y", "train", image * 64, mask * 64, "fake_is_white", "s", "d", 0, 0)


SAMPLES = [ref(f"x/y/train/{name}.png", mask=name[0]) for name in ("b-0", "a-1", "ü", "a-0")]
IDS = ("x/y/train/a-0.png", "x/y/train/a-1.png", "x/y/train/b-0.png", "x/y/train/ü.png")
DIGEST = list_digest(SAMPLES)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_list_holds_the_lines_that_its_name_is_the_digest_of(workspace: Workspace) -> None:
    assert sample_lists.ids(workspace, DIGEST) is None
    sample_lists.keep(workspace, DIGEST, SAMPLES)
    assert sample_lists.ids(workspace, DIGEST) == IDS
    lines = json.loads((workspace.lists / f"{DIGEST}.json").read_text())
    assert lines[0] == ["x/y/train/a-0.png", "a" * 64, "a" * 64, "fake_is_white"]


def test_a_list_says_what_kinds_of_masks_it_has_and_one_of_ids_alone_does_not(workspace: Workspace) -> None:
    assert sample_lists.mask_kinds(workspace, DIGEST) is None
    sample_lists.keep(workspace, DIGEST, SAMPLES)
    assert sample_lists.mask_kinds(workspace, DIGEST) == ("fake_is_white",)
    mixed = [*SAMPLES, ref("x/y/train/r.png")._replace(mask_kind="real")]
    sample_lists.keep(workspace, list_digest(mixed), mixed)
    assert sample_lists.mask_kinds(workspace, list_digest(mixed)) == ("fake_is_white", "real")
    storage.put_json(workspace.lists / f"{DIGEST}.json", list(IDS))
    assert sample_lists.ids(workspace, DIGEST) == IDS
    assert sample_lists.mask_kinds(workspace, DIGEST) is None


def test_any_change_of_a_list_is_refused(workspace: Workspace) -> None:
    sample_lists.keep(workspace, DIGEST, SAMPLES)
    path = workspace.lists / f"{DIGEST}.json"
    data, lines = path.read_bytes(), json.loads(path.read_text())
    spoilt = [[], lines[:2], [*lines, lines[0]], [lines[0][:3], *lines[1:]], {}, [[]], [1], [*lines[:3], "x/y/z"]]
    for changed in spoilt:
        storage.put_json(path, changed)
        with pytest.raises(WorkspaceError, match=r"is damaged: .* the sweep that planned it makes it again"):
            sample_lists.ids(workspace, DIGEST)
    refused = 0
    for bit in range(0, 8 * len(data), 5):
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :])
        try:
            assert sample_lists.ids(workspace, DIGEST) == IDS
        except WorkspaceError:
            refused += 1
    assert refused > len(data)


@pytest.mark.parametrize("order", [IDS, IDS[::-1]])
def test_a_list_of_before_is_read_in_the_same_order_and_kept_anew(
    workspace: Workspace, order: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    storage.put_json(workspace.lists / f"{DIGEST}.json", list(order))
    assert sample_lists.ids(workspace, DIGEST) == IDS
    sample_lists.keep(workspace, DIGEST, SAMPLES)
    assert isinstance(json.loads((workspace.lists / f"{DIGEST}.json").read_text())[0], list)
    assert sample_lists.ids(workspace, DIGEST) == IDS
    assert caplog.text == ""


@pytest.mark.parametrize("damage", [b"", b"[", json.dumps(IDS[:2]).encode(), b'[["x/y/train/a-0.png"]]'])
def test_a_damaged_list_is_made_again_by_who_has_its_samples(
    workspace: Workspace, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = workspace.lists / f"{DIGEST}.json"
    storage.put(path, damage)
    with caplog.at_level(logging.WARNING):
        sample_lists.keep(workspace, DIGEST, SAMPLES)
    assert f"{DIGEST}.json was damaged, it is made again" in caplog.text
    assert sample_lists.ids(workspace, DIGEST) == IDS
    before = path.stat().st_mtime_ns
    sample_lists.keep(workspace, DIGEST, SAMPLES)
    assert path.stat().st_mtime_ns == before
