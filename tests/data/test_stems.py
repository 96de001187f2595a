"""Which photographs the images of a list show: beside the list, by Dolos' names, or in shards; else nobody knows."""

from pathlib import Path

import pytest
from upath import UPath

from dfloc import storage
from dfloc.data import sample_lists
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace


def ref(name: str, stem: str) -> SampleRef:
    domain, split = "/".join(name.split("/")[:2]), name.split("/")[2]
    return SampleRef(name, "pair", stem, domain, split, "a" * 64, "b" * 64, "fake_is_white", "", "", 0, 0)


OWN = [ref("mine/sd/train/img-2.png", "mine/img-2"), ref("mine/sd/train/img-1.png", "mine/img-1")]
DOLOS = [ref("celebahq/ldm/train/7-1.png", "celebahq/7"), ref("celebahq/ldm/train/v1.2/abc-3.png", "celebahq/v1.2/abc")]


def kept(workspace: Workspace, refs: list[SampleRef]) -> str:
    """Keep a list as 40e56a3 did: its ids alone."""
    digest = list_digest(refs)
    storage.put_json(workspace.lists / f"{digest}.json", sorted(each.id for each in refs))
    return digest


def test_they_stand_beside_the_list_as_they_are_told(tmp_path: Path) -> None:
    workspace, digest = Workspace(tmp_path), list_digest(OWN)
    assert sample_lists.stems(workspace, digest) is None
    sample_lists.keep(workspace, digest, OWN)
    assert sample_lists.stems(workspace, digest) == {each.id: each.stem for each in OWN}
    told = [each._replace(stem="mine/img") for each in OWN]
    sample_lists.keep(workspace, digest, told)
    assert sample_lists.stems(workspace, digest) == {each.id: "mine/img" for each in OWN}, "another rule, the same list"


def test_of_a_list_that_was_kept_before_dolos_names_say_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert sample_lists.stems(workspace, kept(workspace, DOLOS)) == {each.id: each.stem for each in DOLOS}
    assert sample_lists.stems(workspace, kept(workspace, OWN)) is None, "own names are not spelled"
    assert sample_lists.stems(workspace, kept(workspace, [*DOLOS, *OWN])) is None


@pytest.mark.ray
def test_of_a_list_that_was_kept_before_shards_say_it(tmp_path: Path, tiny_shards: UPath) -> None:
    workspace = Workspace(tmp_path)
    digest = kept(workspace, [ref("tiny/blur/train/train0-1.png", ""), ref("tiny/real/test/test1-0.png", "")])
    (workspace.shards / "other").mkdir(parents=True)
    (workspace.shards / "other" / "manifest.json").write_text("{")
    assert sample_lists.stems(workspace, digest) is None, "a damaged folder knows nothing"
    found = {"tiny/blur/train/train0-1.png": "tiny/train0", "tiny/real/test/test1-0.png": "tiny/test1"}
    assert sample_lists.stems(workspace, digest, [tiny_shards]) == found


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": "0", "stems": ["mine/img-1", "mine/img-3"]}'])
def test_damaged_photographs_are_named(text: str, tmp_path: Path) -> None:
    workspace, digest = Workspace(tmp_path), list_digest(OWN)
    sample_lists.keep(workspace, digest, OWN)
    (workspace.lists / f"{digest}.stems").write_text(text)
    with pytest.raises(WorkspaceError, match="stems"):
        sample_lists.stems(workspace, digest)
