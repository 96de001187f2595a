import csv
import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from dfloc import storage
from dfloc.data import importer, writer
from dfloc.data.dolos import scan
from dfloc.data.folder_pairs import read_pair
from dfloc.data.importer import GROUP_ROWS, SHARD_ROWS, ImportSummary, import_samples
from dfloc.data.manifest import Manifest, domains_of, list_digest, read_samples
from dfloc.data.shards import read_truth
from dfloc.errors import DataError, WorkspaceError
from dfloc.worker_check import WorkerCheck
from tests.cases import names
from tests.data.pairs import scan_pair

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture
def out(tmp_path: Path, tiny_shards: UPath) -> UPath:
    """The shards of `tiny_tree`, imported from a tree with the same files."""
    folder = UPath(tmp_path / "shards")
    shutil.copytree(tiny_shards, folder)
    return folder


def contents(folder: UPath) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def run(tree: Path, folder: UPath, **options: object) -> ImportSummary:
    return import_samples(scan(tree), folder, group_rows=4, **options)  # type: ignore[arg-type]


def rejected(folder: UPath) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "rejected.csv").read_text().splitlines()))


def only(tree: Path, *keep: str) -> None:
    """Leave these generators in a tiny tree."""
    for name in {"blur", "noise"} - set(keep):
        shutil.rmtree(tree / "tiny/fake" / name)
    shutil.rmtree(tree / "tiny/real")


def test_shards_and_manifest_agree(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    train = manifest.split("tiny/blur", "train")
    samples = read_samples(tiny_shards, manifest, "tiny/blur", "train")
    assert train.digest == list_digest(samples)
    assert train.shards[0].groups == (4, 4, 2)
    masks = sorted((tiny_shards.parent / "tree/tiny/fake/blur/masks/train").iterdir())
    by_hand = np.mean([np.mean(np.asarray(Image.open(path)) == 0) for path in masks])
    assert train.fake_area == pytest.approx(by_hand)
    assert manifest.notes == ()
    assert not (tiny_shards / "rejected.csv").exists()
    assert {path.name for path in Path(tiny_shards).iterdir()} == {"manifest.json", "tiny"}


def test_twice_changes_nothing(tiny_tree: Path, out: UPath) -> None:
    expected = contents(out)
    first = run(tiny_tree, out)
    assert (first.written, first.unchanged) == (54, 0)
    del expected["manifest.json"]
    shards = contents(out)
    manifest = shards.pop("manifest.json")
    assert shards == expected, "other times of the same files, the same bytes"
    second = run(tiny_tree, out)
    assert (second.written, second.unchanged) == (0, 54)
    assert contents(out) == {**shards, "manifest.json": manifest}


def test_only_a_changed_split_is_written(tiny_tree: Path, out: UPath) -> None:
    run(tiny_tree, out)
    before = Manifest.load(out)
    times = {path: path.stat().st_mtime_ns for path in Path(out).rglob("*.parquet")}
    mask = tiny_tree / "tiny/fake/blur/masks/test/test0-0.png"
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    seen: list[tuple[int, int]] = []
    summary = run(tiny_tree, out, on_progress=lambda done, total: seen.append((done, total)))
    assert (summary.written, summary.unchanged, seen) == (4, 50, [(4, 4)])
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"test-00000.parquet"}
    after = Manifest.load(out)
    assert after.split("tiny/blur", "test").digest != before.split("tiny/blur", "test").digest
    assert after.domains["tiny/noise"] == before.domains["tiny/noise"]


def test_a_fifth_domain_leaves_the_others_alone(tiny_tree: Path, out: UPath) -> None:
    before, old = contents(out), Manifest.load(out)
    only(tiny_tree, "noise")
    (tiny_tree / "tiny/fake/noise").rename(tiny_tree / "tiny/fake/fifth")
    summary = run(tiny_tree, out)
    after = contents(out)
    assert summary.manifest.local == ("tiny/blur", "tiny/fifth", "tiny/noise")
    assert {name: after[name] for name in before if name.endswith("parquet")} == {
        name: data for name, data in before.items() if name.endswith("parquet")
    }
    assert {name: Manifest.load(out).domains[name] for name in old.domains} == old.domains


def test_a_missing_shard_is_made_again(tiny_tree: Path, out: UPath) -> None:
    run(tiny_tree, out)
    path = out / "tiny/noise/valid-00000.parquet"
    data = path.read_bytes()
    path.unlink()
    assert run(tiny_tree, out).written == 4
    assert path.read_bytes() == data


def test_shards_have_a_size_and_leave_nothing_behind(tiny_tree: Path, tmp_path: Path) -> None:
    only(tiny_tree, "blur")
    folder = UPath(tmp_path / "small")
    run(tiny_tree, folder, shard_rows=4)
    train = Manifest.load(folder).split("tiny/blur", "train")
    assert [shard.groups for shard in train.shards] == [(4,), (4,), (2,)]
    whole = [sample.id for sample in scan(tiny_tree) if sample.split == "train"]
    assert [sample.id for sample in read_samples(folder, Manifest.load(folder), "tiny/blur", "train")] == whole
    run(tiny_tree, folder)
    assert len(list(Path(folder).rglob("train-*.parquet"))) == 1
    assert Manifest.load(folder).split("tiny/blur", "train").digest == train.digest


def test_few_rejects_go_on_and_many_stop(tiny_tree: Path, out: UPath) -> None:
    before = contents(out)
    (tiny_tree / "tiny/fake/blur/images/test/test0-0.png").write_text("hello")
    (tiny_tree / "tiny/fake/blur/masks/train/train0-0.png").unlink()
    with pytest.raises(DataError, match=r"2 of 54 images .*--allow-rejects"):
        run(tiny_tree, out)
    assert [row["id"] for row in rejected(out)] == ["tiny/blur/test/test0-0.png", "tiny/blur/train/train0-0.png"]
    assert [row["reason"].partition(" of a type")[0] for row in rejected(out)] == [
        "not an image",
        "no mask of that name",
    ]
    named = (out / "rejected.csv").read_bytes()
    assert contents(out) == {**before, "rejected.csv": named}, "what was there stays"
    summary = run(tiny_tree, out, allow_rejects=True)
    assert (summary.written, len(summary.rejected)) == (52, 2)
    assert summary.manifest.split("tiny/blur", "test").count == 3
    again = run(tiny_tree, out)
    assert (again.written, again.unchanged, again.rejected) == (0, 54, summary.rejected)
    assert (out / "rejected.csv").read_bytes() == named


def test_one_in_a_hundred_is_not_too_many(tmp_path: Path) -> None:
    folder = tmp_path / "tree/s/real/train"
    folder.mkdir(parents=True)
    for number in range(99):
        Image.new("L", (4, 4)).save(folder / f"{number}.png")
    (folder / "99.png").write_text("hello")
    summary = run(tmp_path / "tree", UPath(tmp_path / "out"))
    assert (summary.written, len(summary.rejected)) == (99, 1)


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "tree/s/real/train"
    folder.mkdir(parents=True)
    (folder / "1.png").write_text("hello")
    with pytest.raises(DataError, match="no image could be imported"):
        run(tmp_path / "tree", UPath(tmp_path / "out"), allow_rejects=True)
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_split_without_a_usable_image_leaves_the_manifest(tiny_tree: Path, out: UPath) -> None:
    for path in (tiny_tree / "tiny/real/test").iterdir():
        path.write_text("hello")
    manifest = run(tiny_tree, out, allow_rejects=True).manifest
    assert set(manifest.domains["tiny/real"].splits) == {"train", "valid"}
    assert not (out / "tiny/real/test-00000.parquet").exists()


def test_both_polarities_are_one_truth(tiny_tree: Path, out: UPath) -> None:
    pair = tiny_tree / "tiny/fake/blur"
    for path in (pair / "masks").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    import_samples(scan_pair(pair / "images", pair / "masks", "tiny/inverted", "white"), out, group_rows=4)
    manifest = Manifest.load(out)
    assert manifest.domains["tiny/inverted"].mask_kind == "fake_is_white"
    assert manifest.domains["tiny/inverted"].photograph == "{name}"
    assert any("(blur by {stem}, inverted by {name})" in note for note in manifest.notes)
    truth = [read_truth(out, read_samples(out, manifest, domain, "train")) for domain in ("tiny/blur", "tiny/inverted")]
    np.testing.assert_array_equal(truth[0], truth[1])
    assert manifest.domains["tiny/inverted"].fake_area == manifest.domains["tiny/blur"].fake_area


def test_wrong_polarity_is_told_and_mended_by_importing_again(tiny_tree: Path, tmp_path: Path) -> None:
    pair = tiny_tree / "tiny/fake/blur"
    folder = UPath(tmp_path / "out")
    wrong = scan_pair(pair / "images", pair / "masks", "tiny/blur", "white")
    (note,) = import_samples(wrong, folder).manifest.notes
    assert note.startswith("tiny/blur: fake pixels are 8")
    right = scan_pair(pair / "images", pair / "masks", "tiny/blur", "black")
    with pytest.raises(DataError, match=r"fake_is_black, but its split test, which stays, has fake_is_white"):
        import_samples([sample for sample in right if sample.split != "test"], folder)
    assert import_samples(right, folder).manifest.notes == ()


def test_an_import_made_before_keeps_its_photographs_until_it_is_told_others(tmp_path: Path) -> None:
    """Its manifest knows no rule: STEM-K, nothing is imported again, and the splits stay."""
    names.dash(tmp_path)
    for k in range(1, 10):
        shutil.copy(tmp_path / f"images/img-{k}.png", tmp_path / f"images/other{k}.png")
        shutil.copy(tmp_path / f"masks/img-{k}.png", tmp_path / f"masks/other{k}.png")
    written, folder = f"mine/sd={tmp_path},fake=white,split=50/0/50", UPath(tmp_path / "shards")
    import_samples(read_pair(f"{written},photograph={{stem}}"), folder, allow_overlap=True)
    manifest = storage.get_json(folder / "manifest.json")
    assert manifest["domains"]["mine/sd"].pop("photograph") is None
    del manifest["sealed"]
    storage.put_json(folder / "manifest.json", manifest)
    before = contents(folder)

    def again(more: str = "") -> tuple[int, str | None, int]:
        summary = import_samples(read_pair(written + more, held=domains_of(folder)), folder, allow_overlap=True)
        info = summary.manifest.domains["mine/sd"]
        return summary.written, info.photograph, sum(part.photographs for part in info.splits.values())

    assert again() == (0, None, 10)
    assert contents(folder) == before
    assert again(",photograph={name}") == (18, "{name}", 18)
    assert again() == (0, "{name}", 18)


def test_masks_of_another_folder_are_others(tmp_path: Path) -> None:
    """Names, sizes and times are equal; where an import digested no more than these, it is left alone."""
    names.photo(tmp_path / "images/a.png")
    for folder, white in (("one", True), ("two", False)):
        names.mask(tmp_path / folder / "a.bmp", white)
        os.utime(tmp_path / folder / "a.bmp", (10**9, 10**9))
    out = UPath(tmp_path / "shards")

    def written(folder: str) -> int:
        return import_samples(scan_pair(tmp_path / "images", tmp_path / folder, "mine/x", "white", "test"), out).written

    assert [written(folder) for folder in ("one", "one", "two", "two", "one")] == [1, 0, 1, 0, 1]
    manifest = storage.get_json(out / "manifest.json")
    time = (tmp_path / "images/a.png").stat()
    line = f"mine/x/test/a.png\x1ffake_is_white\x1f{time.st_size}\x1f{time.st_mtime_ns}"
    size = (tmp_path / "one/a.bmp").stat().st_size
    line += f"\x1f('a.bmp', {size}, {10**18})\x1fmine/a"
    origin = hashlib.sha256(f"{GROUP_ROWS},{SHARD_ROWS}\n{line}".encode()).hexdigest()
    manifest["domains"]["mine/x"]["splits"]["test"]["origin"] = origin
    del manifest["sealed"]
    storage.put_json(out / "manifest.json", manifest)
    assert [written(folder) for folder in ("one", "two")] == [0, 0], "digested by names, sizes and times alone"


def test_authentic_images_of_other_photographs_are_imported_again(tmp_path: Path) -> None:
    """STEM-K stands in no digest; an authentic image that goes by its whole name does."""
    for name in ("DSC-1-1", "DSC-1-2"):
        names.photo(tmp_path / f"images/{name}.png")
        names.mask(tmp_path / f"masks/{name}.png")
    names.photo(tmp_path / "real/DSC-1.png")
    samples = read_pair(f"mine/x={tmp_path},fake=white,split=test,photograph={{stem}},real=real")
    assert {sample.stem for sample in samples} == {"mine/DSC-1"}
    other = [s._replace(stem="mine/DSC") if s.mask_kind == "real" else s for s in samples]
    now, then = (importer._split_parts(each, "") for each in (samples, other))
    assert now["mine/x", "test"].origin == then["mine/x", "test"].origin
    assert now["mine/real", "test"].origin != then["mine/real", "test"].origin


def test_a_photograph_in_two_splits_stops_the_import(tiny_tree: Path, out: UPath) -> None:
    shutil.copy(tiny_tree / "tiny/real/test/test1-0.png", tiny_tree / "tiny/real/train/test1-9.png")
    with pytest.raises(DataError, match=r"two splits: 1 \(tiny/test1 in test and train\).*--allow-overlap"):
        run(tiny_tree, out)
    summary = run(tiny_tree, out, allow_overlap=True)
    assert summary.manifest.notes == ("photographs that lie in two splits: 1 (tiny/test1 in test and train)",)
    assert run(tiny_tree, out).written == 0, "nothing new, nothing to stop at"


def test_overlap_with_what_the_folder_holds_already(tiny_tree: Path, out: UPath) -> None:
    only(tiny_tree, "blur")
    (tiny_tree / "tiny/fake/blur/images/train").rename(tiny_tree / "tiny/fake/blur/images/held")
    (tiny_tree / "tiny/fake/blur/images/test").rename(tiny_tree / "tiny/fake/blur/images/train")
    (tiny_tree / "tiny/fake/blur/images/held").rename(tiny_tree / "tiny/fake/blur/images/test")
    (tiny_tree / "tiny/fake/blur").rename(tiny_tree / "tiny/fake/other")
    with pytest.raises(DataError, match="two splits: 7"):
        run(tiny_tree, out)


def test_wholly_generated_images_show_no_photograph(tiny_tree: Path, out: UPath) -> None:
    (tiny_tree / "tiny/fake/p2/train").mkdir(parents=True)
    shutil.copy(tiny_tree / "tiny/real/test/test1-0.png", tiny_tree / "tiny/fake/p2/train/test1-0.png")
    with pytest.raises(DataError, match=r"1 of them equal pixels .*tiny/p2/train/test1-0.png in test and train"):
        run(tiny_tree, out)
    Image.new("RGB", (64, 64)).save(tiny_tree / "tiny/fake/p2/train/test1-0.png")
    manifest = run(tiny_tree, out).manifest
    assert (manifest.domains["tiny/p2"].kind, manifest.domains["tiny/p2"].fake_area) == ("full", 1.0)
    assert "tiny/p2" not in manifest.local
    assert manifest.notes == ()


def test_an_import_that_is_cut_off_leaves_the_folder_as_it_was(
    tiny_tree: Path, out: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(out)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_tree, out, on_progress=interrupt)
    kept = {name: data for name, data in contents(out).items() if not name.startswith(importer.SCRATCH)}
    assert kept == before, "a task in flight may still write into the scratch folder, and nowhere else"


def test_a_folder_that_cannot_be_written(tiny_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(DataError, match="cannot write the data folder"):
        run(tiny_tree, UPath(tmp_path / "file"))


def test_a_full_disk_in_a_task_is_told(tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: writer.ShardJob) -> writer.ShardReceipt:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(importer, "write_shard", full)
    job = importer.pickle.dumps(writer.ShardJob(UPath(tiny_tree), []))
    item = {"index": 3, "job": job}
    assert (
        importer.pickle.loads(importer._task(item, WorkerCheck.begin())["error"]).strerror == "No space left on device"
    )
    other = WorkerCheck.begin()._replace(runs={"dfloc": "0.0.1"})
    refused = importer.pickle.loads(importer._task(item, other)["error"])
    assert isinstance(refused, WorkspaceError), "a worker that starts later is proved too"
    assert re.match(r"node \S+ runs dfloc \S+ \(source \w+\) from \S+ \(the driver: dfloc 0\.0\.1 from", str(refused))


class Runs:
    """Runs code where it is unpickled: in the worker."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (self.code,)


@pytest.mark.parametrize(
    ("code", "cause"), [("1 / 0", "ZeroDivisionError: division by zero;"), ("import os; os._exit(3)", "WorkerCrashed")]
)
def test_what_ends_a_worker_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: str, cause: str
) -> None:
    monkeypatch.setattr(importer, "RETRIES", 1)
    job = writer.ShardJob(UPath(tmp_path / "0.parquet"), Runs(code))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"nothing was imported: {cause}") as raised:
        list(importer._run([job]))
    assert "\n" not in str(raised.value)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_another_family_alone_is_put_into_the_manifest_and_no_digest_moves(tmp_path: Path) -> None:
    for number in range(3):
        names.photo(tmp_path / f"images/{number}.png")
        names.mask(tmp_path / f"masks/{number}.png")
    folder = UPath(tmp_path / "shards")

    def imported(more: str) -> Manifest:
        samples = read_pair(f"mine/sd={tmp_path},fake=white,split=test{more}", held=domains_of(folder))
        done = import_samples(samples, folder).manifest
        assert importer.is_imported(samples, folder)
        return done

    first, said, kept = imported(""), imported(",family=diffusion"), imported("")
    assert [each.families["mine/sd"] for each in (first, said, kept)] == ["sd", "diffusion", "diffusion"]
    assert len({each.split("mine/sd", "test").digest for each in (first, said, kept)}) == 1
