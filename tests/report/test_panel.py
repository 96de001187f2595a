import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image
from upath import UPath

from dfloc import registry, repro, storage
from dfloc.data.manifest import Manifest, read_samples
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.models import decoders
from dfloc.report import build, panel, render
from dfloc.report.groups import Study
from dfloc.report.page import Report, Section
from dfloc.report.results import Results
from tests.report import studies
from tests.sweep.conftest import Planner

pytestmark = pytest.mark.ray


class Finished:
    """The tiny study on real shards: maps are stored, weights are drawn and not trained, scores are told."""

    def __init__(self, folder: Path, shards: UPath):
        planner = Planner(folder, shards)
        self.workspace, self.shards = planner.workspace, shards
        resolved = planner.resolve()
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

    def gallery(self):
        return panel.gallery(self.workspace, self.study, self.shards)


@pytest.fixture
def finished(tmp_path, tiny_shards) -> Finished:
    return Finished(tmp_path, tiny_shards)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def resized(array: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize((160, 160), Image.Resampling.BILINEAR))


def test_the_samples_are_those_of_the_smallest_digests_of_each_domain(finished):
    expected = []
    for domain in finished.record.domains:
        ids = [name for name, ref in finished.refs.items() if ref.domain == domain]
        expected += sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:2]
    assert [name for name, _ in finished.gallery().rows] == expected
    assert len(expected) == 4


def test_image_truth_and_maps_are_what_they_are_said_to_be(finished):
    found = finished.gallery()
    models = panel.chosen(finished.study)
    reader, store = ShardReader(finished.shards), FeatureStore(finished.workspace.features)
    for name, (image, truth, *maps) in found.rows:
        ref = finished.refs[name]
        row = reader.group(ref.shard, ref.group, ["image"])[ref.row]
        native = decode_image(row["image"]["bytes"])
        assert (
            np.abs(pixels(image.data).astype(int) - resized(native)).mean() < 20
        )  # JPEG of noise; another image is 60 away
        np.testing.assert_array_equal(pixels(truth.data), resized(read_truth(finished.shards, [ref])[0]))
        x = torch.from_numpy(store.gather(finished.recipe, [ref])).float()
        assert len(maps) == len(models)
        for model, one in zip(models, maps, strict=True):
            with torch.inference_mode():
                prob = finished.decoder(model.trial)(x).sigmoid()[0, 0].numpy()
            expected = resized((255 * prob).round().astype(np.uint8))
            assert np.abs(pixels(one.data).astype(int) - expected).max() <= 1
            assert one.words.endswith(name)


def test_the_best_by_validation_comes_first_and_baselines_do_not_come(finished):
    models = panel.chosen(finished.study)
    values = [model.valid for model in models]
    assert values == sorted(values, reverse=True)
    assert {model.trial.stage for model in models} == {"base", "finetune"}
    tuned = [trial for trial in finished.record.trials if trial.stage == "finetune"]
    assert models[0].valid == max(finished.valid[trial.fingerprint] for trial in tuned)
    notes = " ".join(finished.gallery().notes)
    assert "seed 0" in notes
    assert models[0].trial.fingerprint[:12] in notes
    assert f"validation IoU {models[0].valid:.3f}" in notes


def test_a_second_report_does_no_work_and_needs_no_data(finished, monkeypatch):
    first = finished.gallery()
    files = sorted(path.name for path in finished.folder.iterdir())
    assert len(files) == 4 * 2 + 4 * len(panel.chosen(finished.study))

    def refuse(*_):
        raise AssertionError("work is done again")

    monkeypatch.setattr(panel, "_references", refuse)
    monkeypatch.setattr(panel, "_keep_maps", refuse)
    assert panel.gallery(finished.workspace, finished.study, UPath("/nowhere")) == first


def test_only_what_is_missing_is_made(finished):
    finished.gallery()
    model = panel.chosen(finished.study)[0]
    lost = next(finished.folder.glob(f"*.{model.trial.fingerprint[:24]}.png"))
    times = {path: path.stat().st_mtime_ns for path in finished.folder.iterdir() if path != lost}
    lost.unlink()
    assert all(one.data for _, row in finished.gallery().rows for one in row)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_weights_that_are_gone_are_told_and_the_rest_is_shown(finished):
    model = panel.chosen(finished.study)[1]
    for path in Ledger(finished.workspace).folder(model.trial.fingerprint).rglob("best.safetensors"):
        path.unlink()
    found = finished.gallery()
    (told,) = [note for note in found.notes if "not shown" in note]
    assert told.startswith("The maps of model 2 are not shown: the best weights of trial")
    assert "\n" not in told
    assert all(row[3].data is None and row[2].data and row[0].data for _, row in found.rows)


def test_maps_that_are_no_longer_stored_are_told(finished):
    for path in Path(finished.workspace.features.path).rglob("*.npy"):
        path.unlink()
    notes = finished.gallery().notes
    assert sum("are not shown" in note for note in notes) == len(panel.chosen(finished.study))


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


def test_other_images_under_the_same_names_are_refused(finished):
    study = finished.study
    digest = study.results.scores()[0].spec.test.digest
    path = finished.workspace.lists / f"{digest}.json"
    storage.put_json(path, storage.get_json(path)[:-1])
    notes = panel.gallery(finished.workspace, study, finished.shards).notes
    assert any("holds other test images of" in note for note in notes)


def test_no_model_is_begun_after_the_time_is_up(finished, monkeypatch):
    monkeypatch.setattr(panel, "LIMIT_S", -1.0)
    notes = finished.gallery().notes
    assert "Model 1 was left out after -1 s; build the report again for its maps." in notes


def test_the_page_embeds_small_images_and_escapes_names(finished):
    folder = build.build(finished.workspace, finished.record, shards=finished.shards)
    text = (Path(folder.path) / "index.html").read_text(encoding="utf-8")
    images = re.findall(r'<img src="data:image/(png|jpeg);base64,([^"]+)"', text)
    assert len(images) == 4 * (2 + len(panel.chosen(finished.study)))
    assert sum(len(data) for _, data in images) < 500_000
    assert {pixels(base64.b64decode(data)).shape[:2] for _, data in images} == {(160, 160)}
    assert text.index('id="panel-study"') < text.index('id="behind"')
    assert "What the models see." in (Path(folder.path) / "report.md").read_text(encoding="utf-8")
    evil = panel.Gallery("p", "<b>", "<i>", ["<u>"], [("<s>/x", [panel.Picture(None, '"<x>')])], ["<n>"])
    page = render.html("page", page=Report("t", "", [], [], [Section("s", "s", "", [evil])], []))
    for tag in ("<i>", "<u>", "<s>", "<x>", "<n>"):
        assert tag not in page


def test_the_panel_can_be_left_out(finished):
    folder = build.build(finished.workspace, finished.record, shards=finished.shards, with_panel=False)
    assert 'id="panel"' not in (Path(folder.path) / "index.html").read_text(encoding="utf-8")
    assert not finished.folder.exists()


def test_nothing_scored_has_no_panel(tmp_path, tiny_shards):
    planner = Planner(tmp_path, tiny_shards)
    record = planner.resolve().record
    assert panel.gallery(planner.workspace, Study(record, Results(planner.workspace, record)), tiny_shards) is None
