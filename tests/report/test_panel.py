import base64
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy.ndimage import binary_dilation
from upath import UPath

from dfloc import plugin, registry, repro, storage
from dfloc.data.dolos import scan
from dfloc.data.importer import import_samples
from dfloc.data.manifest import Manifest, read_samples
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.errors import WorkspaceError
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.models import decoders
from dfloc.report import build, images, opening, panel, render
from dfloc.report.gallery import Gallery, GalleryRow, Head, Picture
from dfloc.report.groups import Study
from dfloc.report.page import Report, Section
from dfloc.report.results import Results
from dfloc.report.shown import shown
from tests.conftest import TINY_DOMAINS, TINY_SIZE
from tests.report import studies
from tests.sweep.conftest import Planner

pytestmark = pytest.mark.ray


class Finished:
    """The tiny study on real shards: maps are stored, weights are drawn and not trained, scores are told."""

    def __init__(self, folder: Path, shards: UPath, *settings: str):
        planner = Planner(folder, shards)
        self.workspace, self.shards = planner.workspace, shards
        resolved = planner.resolve(*settings)
        self.record, self.lists = resolved.record, resolved.lists
        for digest, refs in resolved.lists.items():
            storage.put_json(self.workspace.lists / f"{digest}.json", [ref.id for ref in refs])
        self.valid = {trial.fingerprint: 0.1 * place for place, trial in enumerate(self.record.trials)}
        for trial in self.record.trials:
            self._finish(trial)
        self.recipe = self.record.trials[0].spec.maps[0]
        self._store()

    def _finish(self, trial):
        ledger = Ledger(self.workspace)
        if ledger.done(trial.fingerprint):
            return
        data = b"solved"
        if trial.stage != "baselines":
            data = safetensors.torch.save(self.decoder(trial).state_dict())
        attempt = ledger.begin(trial.spec)
        attempt.save_epoch(b"state", [studies._epoch(1, self.valid[trial.fingerprint])])
        attempt.finish(data, data, 1, studies.VERSIONS)
        for evaluation in trial.evaluations:
            rows, refs = studies.rows(evaluation, 0.5), self.lists[evaluation.test.digest]
            rows = rows.set_column(rows.column_names.index("id"), "id", pa.array([ref.id for ref in refs]))
            ledger.put_rows(trial.fingerprint, evaluation.key, rows)

    def decoder(self, trial):
        shapes = [registry.map_spec(recipe.map) for recipe in trial.spec.maps]
        seed = int(trial.fingerprint[:6], 16)
        return decoders.build(trial.spec.decoder, shapes, repro.generator(seed, "init")).eval()

    def _store(self):
        spec, store = registry.map_spec(self.recipe.map), FeatureStore(self.workspace.features)
        groups = {}
        for ref in self.refs.values():
            groups.setdefault((ref.shard_digest, ref.group), []).append(ref)
        generator = np.random.default_rng(0)
        for (digest, group), refs in groups.items():
            ordered = sorted(refs, key=lambda ref: ref.row)
            array = generator.normal(size=(len(ordered), spec.channels, spec.height, spec.width))
            store.put(self.recipe, 0, digest, group, array, [ref.id for ref in ordered])

    @property
    def refs(self):
        manifest = Manifest.load(self.shards)
        domains = self.record.domains
        return {ref.id: ref for domain in domains for ref in read_samples(self.shards, manifest, domain, "test")}

    @property
    def study(self) -> Study:
        return Study(self.record, Results(self.workspace, self.record))

    @property
    def folder(self) -> Path:
        return Path(self.workspace.report(self.record.sweep).path) / "panel"

    @property
    def models(self):
        return shown(self.study).models

    def gallery(self):
        return panel.gallery(self.workspace, self.study, self.shards)

    def values(self, name, domain):
        """Return the recorded IoU of a model's best epoch on each test image of a domain, by id."""
        score = self.models[name].scores["best", domain]
        rows = Ledger(self.workspace).rows(score.spec.trial, score.spec.key)
        return dict(zip(rows["id"].to_pylist(), rows["iou"].to_pylist(), strict=True))


@pytest.fixture
def finished(tmp_path, tiny_shards) -> Finished:
    return Finished(tmp_path, tiny_shards)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def resized(array: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize((160, 160), Image.Resampling.BILINEAR))


NAMES = ("base", "fine-tuned, n = 2", "fine-tuned, n = 4")
BLUR, NOISE = TINY_DOMAINS


def levels(picture: Picture) -> np.ndarray:
    """Return a map as it is drawn, grey; where the truth is outlined -1."""
    image = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)
    line = (image == images.LINE).all(-1)
    return np.where(line | (binary_dilation(line) & (image == images.EDGE).all(-1)), -1, image[..., 0])


def test_the_columns_are_the_base_and_the_ns_of_the_first_held_out_domain(finished):
    found = finished.gallery()
    assert [head.name for head in found.columns] == ["photograph", *NAMES]
    assert found.caption.startswith(f"Held out: {BLUR}, the first of the study's held-out domains.")
    assert all(
        f"trial {model.trial.fingerprint[:12]}" in head.words
        for head, model in zip(found.columns[1:], finished.models.values(), strict=True)
    )


def test_fixed_images_are_the_first_of_their_lists_and_the_others_are_called_oracle_choices(finished):
    found = finished.gallery()
    judge = max(NAMES[1:], key=lambda name: finished.models[name].valid)
    values = finished.values(judge, BLUR)
    ids = {domain: sorted(name for name in finished.refs if name.startswith(domain)) for domain in TINY_DOMAINS}
    why = {row.name: row.why for row in found.rows}
    assert [row.name for row in found.rows[:3]] == [ids[BLUR][0], ids[NOISE][0], ids[BLUR][1]]
    assert why[ids[BLUR][0]].startswith("first of its list")
    assert why[ids[BLUR][1]].startswith("image 2 of its list")
    ranked = sorted(values, key=values.get, reverse=True)
    for word, name in {"best": ranked[0], "median": ranked[2], "worst": ranked[3]}.items():
        assert f"{word} for {judge} (oracle choice)" in why[name]
    assert f"{judge}, which has the highest validation of those fine-tuned: oracle choices" in found.caption


def test_below_each_map_stands_the_recorded_number_of_that_image(finished):
    for row in finished.gallery().rows:
        domain = row.name.rpartition("/test/")[0]
        assert row.pictures[0].below == ""
        for name, picture in zip(NAMES, row.pictures[1:], strict=True):
            values = finished.values(name, domain)
            number = f"IoU {values[row.name]:.2f} (mean {np.mean([*values.values()]):.2f})"
            assert picture.below == number
            assert picture.words == f"map of {name} on {row.name}: {number}"


def test_photograph_truth_and_maps_are_what_they_are_said_to_be(finished):
    found = finished.gallery()
    reader, store = ShardReader(finished.shards), FeatureStore(finished.workspace.features)
    for row in found.rows:
        ref = finished.refs[row.name]
        native = decode_image(reader.group(ref.shard, ref.group, ["image"])[ref.row]["image"]["bytes"])
        truth = resized(read_truth(finished.shards, [ref])[0]) > 127
        off = np.abs(pixels(row.pictures[0].data).astype(int) - resized(native)).mean()
        assert off < 35, "JPEG of noise, outlined; another image is 60 away"
        x = torch.from_numpy(store.gather(finished.recipe, [ref])).float()
        for model, one in zip(finished.models.values(), row.pictures[1:], strict=True):
            with torch.inference_mode():
                prob = finished.decoder(model.trial)(x).sigmoid()[0, 0].numpy()
            expected, level = resized((255 * prob).round().astype(np.uint8)), levels(one)
            assert np.abs(level - expected)[level >= 0].max() <= 255 / (images.GREYS - 1) / 2 + 1
            marked = np.argwhere(level < 0)
            rows, columns = np.argwhere(truth).min(0), np.argwhere(truth).max(0)
            assert (marked.min(0) == rows - 2).all()
            assert (marked.max(0) == columns + 2).all()
            assert (level[rows[0] + 3 : columns[0] - 3, rows[1] + 3 : columns[1] - 3] >= 0).all(), "within, it is whole"


@pytest.mark.parametrize("ground", [0, 127, 255])
@pytest.mark.parametrize("colours", [1, 3])
def test_the_outline_is_seen_on_any_ground(ground, colours):
    truth = np.zeros((160, 160), bool)
    truth[40:80, 0:50] = True
    data = images.drawn(np.full((160, 160) if colours == 1 else (160, 160, 3), ground, np.uint8), truth)
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    for place in [(40, 25), (79, 25), (60, 49), (60, 0)]:
        around = image[max(0, place[0] - 2) : place[0] + 3, max(0, place[1] - 2) : place[1] + 3].reshape(-1, 3)
        assert np.abs(around - ground).max() > 100
    assert np.abs(image[100:, 100:] - ground).max() < 12
    assert np.abs(image[45:75, 10:40] - ground).max() < 12


def test_a_truth_that_is_not_known_or_is_empty_has_no_outline():
    grey = np.full((160, 160), 90, np.uint8)
    assert images.drawn(grey, None) == images.drawn(grey, np.zeros((160, 160), bool))


def test_a_fake_part_that_is_lost_in_the_small_image_is_outlined(tmp_path):
    kept, sample = images.Kept(UPath(tmp_path)), images.Sample("a/b/test/c.png", "a/b", "")
    truth = np.zeros((1600, 1600), np.uint8)
    truth[800:805, 800:805] = 255
    kept.put(sample, np.zeros((1600, 1600, 3), np.uint8), truth)
    assert 0 < panel._truth(protocols.find("declip-2025"), kept, sample).sum() < 9


def test_maps_that_say_nothing_are_said(finished, monkeypatch):
    name = finished.models["base"].trial.fingerprint
    ledger = Ledger(finished.workspace)
    for trial in finished.record.trials:
        for evaluation in trial.evaluations if trial.fingerprint == name else ():
            path = next(Path(ledger.folder(name).path).rglob(f"{evaluation.key}.parquet"))
            rows = ledger.rows(name, evaluation.key)
            path.unlink()
            zeros = pa.array(np.zeros(len(rows), np.int64))
            for key in ("tp", "fp"):
                rows = rows.set_column(rows.column_names.index(key), key, zeros)
            rows = rows.append_column("spread", pa.array(np.zeros(len(rows))))
            ledger.put_rows(name, evaluation.key, rows)
    found = finished.gallery()
    assert found.columns[1].small == "COLLAPSED (empty, constant)"
    assert all(", empty, constant (mean " in row.pictures[1].below for row in found.rows)
    assert all("empty" not in row.pictures[2].below for row in found.rows)


def test_a_second_report_does_no_work_and_needs_no_data(finished, monkeypatch):
    first = finished.gallery()
    files = sorted(path.name for path in finished.folder.iterdir())
    assert len(files) == len(first.rows) * (2 + len(NAMES))

    def refuse(*_):
        raise AssertionError("work is done again")

    monkeypatch.setattr(images, "references", refuse)
    monkeypatch.setattr(images, "_keep_maps", refuse)
    assert panel.gallery(finished.workspace, finished.study, UPath("/nowhere")) == first


@pytest.mark.parametrize("damaged", [None, b"", b"\x89PNG cut"])
def test_only_what_is_missing_or_damaged_is_made(finished, damaged):
    first = finished.gallery()
    lost = next(finished.folder.glob(f"*.{finished.models['base'].trial.fingerprint[:24]}.png"))
    times = {path: path.stat().st_mtime_ns for path in finished.folder.iterdir() if path != lost}
    lost.unlink() if damaged is None else lost.write_bytes(damaged)
    assert finished.gallery() == first
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_weights_that_are_gone_are_told_and_the_rest_is_shown(finished):
    model = finished.models[NAMES[1]]
    for path in Ledger(finished.workspace).folder(model.trial.fingerprint).rglob("best.safetensors"):
        path.unlink()
    found = finished.gallery()
    (told,) = found.notes
    assert told.startswith("The maps of fine-tuned, n = 2 are not shown: the best weights of trial")
    assert "\n" not in told
    for row in found.rows:
        assert [one.data is None for one in row.pictures] == [False, False, True, False]
        assert row.pictures[2].below.startswith("IoU "), "the number is of the record"


def test_features_that_are_no_longer_stored_are_made_again(finished):
    for path in Path(finished.workspace.features.path).rglob("*.npy"):
        path.unlink()
    found = finished.gallery()
    assert found.notes == []
    assert all(one.data for row in found.rows for one in row.pictures)


def test_features_that_nobody_can_make_are_told(finished, monkeypatch):
    def gone(*_, **__):
        raise WorkspaceError("the weights of it are not known\nsecond line")

    for path in Path(finished.workspace.features.path).rglob("*.npy"):
        path.unlink()
    monkeypatch.setattr("dfloc.features.weights.WeightsIndex.make", gone)
    found = finished.gallery()
    assert found.notes == [f"The maps of {name} are not shown: the weights of it are not known." for name in NAMES]
    assert all(row.pictures[0].data for row in found.rows)


def test_a_truncated_image_is_one_line_and_the_rest_is_shown(finished, monkeypatch):
    reason = "image file is truncated"
    first = sorted(name for name in finished.refs if name.startswith(BLUR))[0]
    whole = ShardReader.group

    def cut(self, shard, group, columns):
        rows = whole(self, shard, group, columns)
        ref = finished.refs[first]
        if (shard, group) == (ref.shard, ref.group) and "image" in rows[ref.row]:
            image = rows[ref.row]["image"]
            rows = [*rows]
            rows[ref.row] = rows[ref.row] | {"image": image | {"bytes": image["bytes"][:200]}}
        return rows

    monkeypatch.setattr(ShardReader, "group", cut)
    found = finished.gallery()
    (told,) = found.notes
    assert told.startswith(f"{first} is not shown: "), reason
    for row in found.rows:
        assert (row.pictures[0].data is None) == (row.name == first)
        assert all(one.data for one in row.pictures[1:]), "maps are of stored features"


PLUGIN = """
from dfloc.models.decoders import nn, torch

class Steep(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, x_BCHW):
        return self.slope * nn.functional.interpolate(x_BCHW[:, :1], (256, 256))

DECODERS = {"steep": lambda spec, maps, generator: Steep()}
"""


@pytest.fixture
def steep():
    plugin.use([plugin.Plugin("steep.py", PLUGIN)])
    yield
    plugin.use(())


def test_a_decoder_of_a_plug_in_is_shown_with_its_file_and_told_without(steep, tmp_path, tiny_shards):
    finished = Finished(tmp_path, tiny_shards, "trial.decoder={name: steep}")
    found = finished.gallery()
    assert found.notes == []
    assert all("decoder steep" in head.words for head in found.columns[1:])
    assert all(one.data for row in found.rows for one in row.pictures)
    for path in finished.folder.glob("*.*.png"):
        path.unlink()
    plugin.use(())
    notes = finished.gallery().notes
    assert len(notes) == len(found.columns) - 1
    assert all('decoder "steep" is of a plug-in' in note for note in notes)


@pytest.mark.parametrize("shards", ["gone", "broken"])
def test_data_that_cannot_be_reached_are_one_line_and_the_report_is_built(finished, tmp_path, shards):
    place = tmp_path / shards
    if shards == "broken":
        place.mkdir()
        (place / "manifest.json").write_text("{")
    folder = build.build(finished.workspace, finished.record, shards=UPath(place))
    text = (Path(folder.path) / "index.html").read_text(encoding="utf-8")
    assert text.count("Images that were not kept by an earlier report are not shown:") == 1
    assert "Every planned trial." in text
    assert not finished.folder.exists()


def test_other_images_under_the_same_names_are_refused(finished, tiny_tree, tmp_path):
    for path in (tiny_tree / "tiny/fake/blur/images/test").iterdir():
        Image.new("RGB", (TINY_SIZE, TINY_SIZE)).save(path)
    other = UPath(tmp_path / "other")
    import_samples(scan(tiny_tree), other, group_rows=4)
    (told,) = panel.gallery(finished.workspace, finished.study, other).notes
    assert f"holds other test images of {BLUR} than those that were scored" in told


def test_no_model_is_begun_after_the_time_is_up(finished, monkeypatch):
    monkeypatch.setattr(images, "LIMIT_S", -1.0)
    assert finished.gallery().notes[0] == "base was left out after -1 s; build the report again for its maps."


def test_the_page_embeds_small_images_and_escapes_names(finished):
    folder = build.build(finished.workspace, finished.record, shards=finished.shards)
    text = (Path(folder.path) / "index.html").read_text(encoding="utf-8")
    found = re.findall(r'<img src="data:image/(webp|jpeg);base64,([^"]+)" alt="([^"]+)"', text)
    rows = len(finished.gallery().rows)
    assert len(found) >= rows * (1 + len(NAMES))
    assert sum(len(data) for _, data, _ in found) < 350_000
    assert {pixels(base64.b64decode(data)).shape[:2] for _, data, _ in found} == {(160, 160)}
    assert all(f"{BLUR}/test/" in alt or f"{NOISE}/test/" in alt for *_, alt in found)
    assert text.index('id="panel-study"') < text.index('id="behind"')
    evil = Gallery(
        "p", "<b>", "<i>", "", [Head("<u>")], [GalleryRow("<s>/x", "<q>", [Picture(None, '"<x>', "<y>")])], ["<n>"]
    )
    page = render.html("page", page=Report("t", "", [], [], [Section("s", "s", "", [evil])], []))
    for tag in ("<i>", "<u>", "<s>", "<q>", "<x>", "<y>", "<n>"):
        assert tag not in page


def test_markdown_says_what_the_images_show(finished):
    folder = build.build(finished.workspace, finished.record, shards=finished.shards)
    text = (Path(folder.path) / "report.md").read_text(encoding="utf-8")
    assert "Predictions on single images." in text
    first = finished.gallery().rows[0]
    values = {name: finished.values(name, BLUR) for name in NAMES}
    said = [f"{name} IoU {of[first.name]:.2f} (mean {np.mean([*of.values()]):.2f})" for name, of in values.items()]
    assert f"- {first.name} ({first.why}): {'; '.join(said)}\n- " in text


def test_the_first_rows_stand_beside_the_answer_and_say_less(finished):
    whole = finished.gallery()
    page, rest = opening.beside(Report("", "", [], [], [], []), whole)
    strip = page.opening.strip
    assert strip.id == "panel-first"
    assert [*strip.rows, *rest.rows] == [*whole.rows]
    assert [head.name for head in strip.columns] == [head.name for head in whole.columns]
    assert strip.caption.startswith(f"Held out: {BLUR}")
    assert not strip.detailed
    assert rest.detailed


def test_a_panel_of_the_usual_size_is_small():
    rng = np.random.default_rng(0)
    truth = np.zeros((160, 160), bool)
    truth[30:90, 40:120] = True
    size = 0
    for _ in range(36):
        coarse = Image.fromarray((255 * rng.random((16, 16))).astype(np.uint8))
        size += len(images.drawn(np.asarray(coarse.resize((160, 160), Image.Resampling.BICUBIC)), truth))
    assert size * 4 / 3 < 350_000


def test_the_panel_can_be_left_out(finished):
    folder = build.build(finished.workspace, finished.record, shards=finished.shards, with_panel=False)
    assert 'id="panel"' not in (Path(folder.path) / "index.html").read_text(encoding="utf-8")
    assert not finished.folder.exists()


def test_nothing_scored_has_no_panel(tmp_path, tiny_shards):
    planner = Planner(tmp_path, tiny_shards)
    record = planner.resolve().record
    assert panel.gallery(planner.workspace, Study(record, Results(planner.workspace, record)), tiny_shards) is None
