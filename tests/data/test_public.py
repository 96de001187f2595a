"""Public tools' example sets: taken with the fake areas of an independent loader, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from dfloc.data.dolos import Sample
from dfloc.data.folder_pairs import read_pair
from dfloc.data.manifest import SampleRef
from dfloc.data.writer import ShardJob, write_shard
from dfloc.engine import external_maps
from dfloc.errors import DataError
from tests.cases import public
from tests.cases.public import Areas


def areas(samples: list[Sample], out: Path) -> Areas:
    """Return what the shards of samples say, by the path of the image."""
    found: Areas = {}
    for sample in samples:
        receipt = write_shard(ShardJob(UPath(out / "one.parquet"), [sample]))
        assert not receipt.rejected
        found[str(sample.image)] = receipt.fake_area
    return found


TAKEN: dict[str, tuple[Callable[[Path], Areas], str]] = {
    "HiFi_IFDL CASIA": (public.hifi_casia, "fake=white,images=fake,masks=mask,mask={name}_gt,table=fake.txt"),
    "HiFi_IFDL NIST16": (public.hifi_nist, "fake=black,table=alllist.txt"),
    "IML-ViT": (public.iml_vit, "fake=white,images=Tp,masks=Gt,mask={name}_gt"),
    "NIST16": (public.nist, "fake=black,table=reference/manipulation/NC2016-manipulation-ref.csv"),
    "Coverage by a list": (public.coverage, "fake=white,table=coverage_fake.txt"),
    "TruFor's images": (public.trufor, "fake=white"),
    "TruFor's lists": (public.trufor_authentic, "fake=white,table=list.txt"),
    "LaMa": (public.flat_results, "fake=white,images=out,masks=out,mask={name}_mask001"),
    "IMDL-BenCo": (public.imdl_benco, "fake=white,table=train.json"),
    "headless": (public.headless, "fake=white,table=list.csv"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_with_the_areas_of_its_own_loader(name: str, tmp_path: Path) -> None:
    write, asked = TAKEN[name]
    expected = {str(tmp_path / path): area for path, area in write(tmp_path).items()}
    samples = read_pair(f"set/tool={tmp_path},{asked}", otherwise="test")
    found = areas(samples, tmp_path)
    assert found == pytest.approx(expected)
    assert {str(s.image) for s in samples if s.domain == "set/real"} == {
        path for path in expected if not expected[path]
    }
    assert len({sample.id for sample in samples}) == len(expected)


def test_the_photographs_of_nist_are_their_base_files(tmp_path: Path) -> None:
    write, asked = TAKEN["NIST16"]
    write(tmp_path)
    samples = read_pair(f"nist/splice={tmp_path},{asked}", otherwise="test")
    assert {sample.name: sample.stem for sample in samples} == {
        "probe/NC2016_120.jpg": "nist/world/NC2016_0",
        "probe/NC2016_121.jpg": "nist/world/NC2016_0",
        "probe/NC2016_122.jpg": "nist/world/NC2016_1",
        "world/NC2016_0.jpg": "nist/world/NC2016_0",
    }


@pytest.mark.parametrize(
    ("write", "asked", "said"),
    [
        (public.coverage, "fake=white,images=image,masks=mask", "10.tif: no mask of that name"),
        (public.inpaint_anything, "fake=white,images=results,masks=results", "lie in one folder.*by a table"),
        (
            public.iml_vit,
            "fake=white,images=Tp,masks=Gt",
            r"the masks of all 3 images exist as NAME_gt: --mask-name \{name\}_gt",
        ),
        (public.hifi_casia, "fake=white,images=fake,masks=mask,table=fake.txt", r"--mask-name \{name\}_gt"),
    ],
)
def test_it_is_refused_by_name(write: Callable[[Path], Areas], asked: str, said: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=said):
        read_pair(f"set/tool={tmp_path},{asked}", otherwise="test")


def test_results_of_inpaint_anything_are_taken_by_a_list(tmp_path: Path) -> None:
    expected = public.inpaint_anything(tmp_path)
    pairs = [(path, str(Path(path).parent / "mask_0.png")) for path in expected]
    (tmp_path / "list.csv").write_text("image,mask\n" + "".join(f"{image},{mask}\n" for image, mask in pairs))
    found = areas(read_pair(f"set/tool={tmp_path},fake=white,table=list.csv", otherwise="test"), tmp_path)
    assert found == pytest.approx({str(tmp_path / path): area for path, area in expected.items()})


def test_maps_of_trufor_are_scored(tmp_path: Path) -> None:
    """The probabilities are .75 inside of the fake rectangle and .25 outside, so that IoU is 1 for each."""
    public.trufor(tmp_path)
    refs = []
    for sample in read_pair(f"set/tool={tmp_path},fake=white", otherwise="test"):
        out = UPath(tmp_path) / f"{sample.pair}.parquet"
        write_shard(ShardJob(out, [sample]))
        names = (sample.id, sample.pair, sample.stem, sample.domain, sample.split)
        refs.append(SampleRef(*names, "", "", sample.mask_kind, f"{sample.pair}.parquet", "", 0, 0))
    rows = external_maps.score(tmp_path / "maps", {"set/tool": refs}, UPath(tmp_path), "dfloc-1")["set/tool"]
    assert rows["iou"].to_pylist() == [1.0, 1.0, 1.0]
    truths = [np.asarray(Image.open(tmp_path / f"masks/tampered {k}.png")) > 0 for k in range(3)]
    assert sorted(rows["tp"].to_pylist()) == sorted(int(truth.sum()) for truth in truths)
