from pathlib import Path

import pytest
from upath import UPath

from dfloc.data import rejects
from dfloc.data.rejects import Reject
from dfloc.errors import DataError

ODD = Reject('s/g/test/a,"b"\n.png', 'a,"b"\n.png', "not an image")
PLAIN = Reject("s/g/test/1.png", "1.png", "no mask of that name")


def test_rejects_come_back_sorted(tmp_path: Path) -> None:
    folder = UPath(tmp_path)
    assert rejects.read(folder) == []
    rejects.save(folder, [ODD, PLAIN])
    assert rejects.read(folder) == [PLAIN, ODD]
    assert (folder / "rejected.csv").read_text().startswith("id,file,reason\ns/g/test/1.png,1.png,no mask of that name")
    assert PLAIN.place == ("s/g", "test")
    rejects.save(folder, [])
    assert list(folder.iterdir()) == []


def test_more_than_one_in_a_hundred_is_refused(tmp_path: Path) -> None:
    rejects.check(UPath(tmp_path), [PLAIN, ODD], 200)
    with pytest.raises(
        DataError, match=r"(?s)2 of 199 images .*s/g/test/1.png \(no mask of that name\).*--allow-rejects"
    ):
        rejects.check(UPath(tmp_path), [ODD, PLAIN], 199)


@pytest.mark.parametrize("text", ["", "a,b\n", "id,file,reason\nx,y\n", "id,file,reason\nx,y,z\n", "\0\xff"])
def test_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "rejected.csv").write_text(text)
    with pytest.raises(DataError, match="damaged; delete it"):
        rejects.read(UPath(tmp_path))
