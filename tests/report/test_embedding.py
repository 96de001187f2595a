"""Feature spaces on a page: from stored maps and weights, kept, never twice, and never a failure."""

from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from upath import UPath

from dfloc import registry, repro
from dfloc.data.manifest import SampleRef
from dfloc.errors import DataError
from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.models import decoders
from dfloc.record import SweepRecord
from dfloc.report import build, embedding, files, images, latex, render
from dfloc.report.chart import Figure
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.table import Table
from tests.report.image_studies import REAL, attribution, detection, filled
from tests.report.planned import any_number_of_images
from tests.report.studies import DOLOS

NUM, STEMS = 12, 4  # images of each list, and their source images
CLASSES = ["real", "lama", "ldm", "pluralistic", "repaint-p2"]


class Made:
    """Two heads on vectors that are stored, of which that of CLIP tells the classes apart; others have no weights."""

    def __init__(self, folder: Path, record: SweepRecord, patch: pytest.MonkeyPatch):
        self.workspace = filled(folder, record)
        self.record = record
        lists = [REAL, *DOLOS]
        self.refs = {
            ref.id: ref
            for place, domain in enumerate(lists)
            for ref in (_ref(domain, place, row) for row in range(NUM))
        }
        self.weights: dict[str, UPath] = {}
        for trial in record.trials:
            if trial.case in ("clip-linear", "sam-linear"):
                self._store(folder, trial.spec)
        own = Ledger.weights
        patch.setattr(Ledger, "weights", lambda ledger, name, which: self.weights.get(name) or own(ledger, name, which))
        patch.setattr(images, "references", lambda *_: self.refs)

    @property
    def study(self) -> Study:
        return Study(self.record, Results(self.workspace, self.record))

    @property
    def folder(self) -> Path:
        return Path(self.workspace.report(self.record.sweep).path) / "tsne"

    def spaces(self, **more: bool) -> embedding.Spaces:
        return embedding.spaces(self.workspace, self.study, **more)

    def _store(self, folder, spec) -> None:
        [recipe], rng = spec.maps, np.random.default_rng(0)
        shape = registry.map_spec(recipe.map)
        self.stored = rng.normal(size=(len(self.refs), shape.channels))
        if "clip" in recipe.map:
            self.stored[:, :750] += 4 * np.eye(5).repeat(NUM, 0).repeat(150, 1)
        store = FeatureStore(self.workspace.features)
        for place, ref in enumerate(self.refs.values()):
            store.put(recipe, 0, ref.shard_digest, ref.group, self.stored[[place]], [ref.id])
        decoder = decoders.build(spec.decoder, [shape], repro.generator(0, "init"), spec.num_classes)
        self.weights[spec.fingerprint] = UPath(folder / f"{spec.fingerprint}.safetensors")
        self.weights[spec.fingerprint].write_bytes(safetensors.torch.save(decoder.state_dict()))


def _ref(domain: str, place: int, row: int) -> SampleRef:
    """Return a sample in a row group of its own."""
    kind = "real" if domain == REAL else "fake_is_white"
    name = f"{domain}/test/{NUM - row:02}.png"
    group = place * NUM + row
    return SampleRef(name, name, f"celebahq/{row % STEMS}", domain, "test", "", "", kind, "s", "d", group, 0)


@pytest.fixture
def made(tmp_path, monkeypatch) -> Made:
    return Made(tmp_path, attribution(), monkeypatch)


def test_classes_that_lie_apart_are_found_and_others_are_not(made):
    apart, mixed = made.spaces().found
    assert [apart.model.name, mixed.model.name] == ["clip-linear", "sam-linear"]
    assert apart.accuracy.value == 1
    assert 0 < mixed.accuracy.value < 0.5
    assert apart.accuracy.photographs == STEMS
    assert apart.mean("silhouette") > 0.1 > mixed.mean("silhouette")
    assert apart.classes == CLASSES
    assert len(apart.rows) == len(CLASSES) * NUM


def test_what_is_measured_is_what_the_head_reads(made):
    model = next(one for one in made.study.results.all if one.trial.case == "sam-linear")
    refs = [*made.refs.values()][::-1]
    found = embedding._features(made.workspace, model, refs)
    np.testing.assert_array_equal(found, made.stored.astype(np.float16)[::-1])


def test_weights_that_are_gone_are_a_sentence(made):
    found = made.spaces()
    [said] = found.notes
    assert said.startswith("The feature space of collapsed is not shown: ")
    [_, numbers] = embedding.blocks(made.study, found)
    assert numbers.notes == [said]
    for path in (*made.weights.values(), *made.folder.iterdir()):
        path.unlink()
    assert embedding.blocks(made.study, made.spaces()) == []


@pytest.mark.parametrize("lost", [DataError("no imported data in /x"), FileNotFoundError("no such file")])
def test_data_that_are_gone_are_one_sentence(made, monkeypatch, lost):
    monkeypatch.setattr(images, "references", mock.Mock(side_effect=lost))
    assert made.spaces().notes == [
        f"The feature space of clip-linear, sam-linear, collapsed is not shown: {lost}.",
    ]


def test_a_second_report_measures_nothing_and_needs_neither_data_nor_weights(made, monkeypatch):
    first = made.spaces()
    never = mock.Mock(side_effect=AssertionError("work is done again"))
    for place in ("sklearn.manifold.TSNE", "dfloc.report.embedding._features"):
        monkeypatch.setattr(place, never)
    for path in made.weights.values():
        path.unlink()
    second = made.spaces(make=False)
    assert [one.rows for one in second.found] == [one.rows for one in first.found]
    assert second.notes == [f"The feature space of collapsed is not shown: {embedding.LATER}."]
    assert not never.called


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "foreign", "no receipt", "folder"])
def test_a_file_that_is_not_what_was_kept_is_made_again(made, damage):
    first = made.spaces()
    one, other = sorted(made.folder.iterdir())
    data, good = one.read_bytes(), pq.read_table(one)
    if damage == "no receipt":
        pq.write_table(good.replace_schema_metadata(), one)
    elif damage == "folder":
        one.unlink()
        one.mkdir()
    else:
        spoiled = {
            "empty": b"",
            "cut": data[:-9],
            "changed": data.replace(b"ldm", b"ldn"),
            "foreign": other.read_bytes(),
        }
        assert spoiled[damage] != data
        one.write_bytes(spoiled[damage])
    found = made.spaces()
    assert [each.rows for each in found.found] == [each.rows for each in first.found]
    assert pq.read_table(one).schema.metadata


@pytest.mark.parametrize("what", ["MOST", "SEMANTICS"])
def test_what_was_measured_of_something_else_is_not_used(made, monkeypatch, what):
    made.spaces()
    monkeypatch.setattr(embedding, what, 5)
    found = made.spaces()
    assert len([*made.folder.iterdir()]) == 4
    assert len(found.found[0].rows) == (25 if what == "MOST" else 60)


def test_other_weights_of_the_same_trial_are_measured_anew(made, monkeypatch):
    made.spaces()
    done = Ledger.done
    monkeypatch.setattr(
        Ledger, "done", lambda *of: (it := done(*of)) and it.model_copy(update={"digests": {"best": "x"}})
    )
    made.spaces()
    assert len([*made.folder.iterdir()]) == 4


def test_the_first_of_each_class_are_taken_in_the_data_s_own_order_by_turns():
    refs = [_ref(domain, place, row) for place, domain in enumerate([DOLOS[1], REAL, DOLOS[2]]) for row in range(NUM)]
    both = dict.fromkeys((DOLOS[1], DOLOS[2]), "one")
    with mock.patch.object(embedding, "MOST", 3):
        found = embedding._chosen(refs, both)
    expected = [(REAL, 12), (REAL, 11), (REAL, 10), (DOLOS[1], 12), (DOLOS[2], 12), (DOLOS[1], 11)]
    assert [ref.id for ref in found] == [f"{domain}/test/{number:02}.png" for domain, number in expected]


def test_late_models_are_left_out_and_told(made, monkeypatch):
    monkeypatch.setattr(images, "LIMIT_S", -1.0)
    assert made.spaces().found == []
    assert "left out after -1 s; build the report again" in made.spaces().notes[0]


def test_what_means_nothing_is_not_measured(made, monkeypatch):
    monkeypatch.setattr("dfloc.report.results.Result.path_only", True)
    assert made.spaces().notes == [
        f"The feature space of clip-linear, sam-linear, collapsed is not shown: {embedding.MEANS_NOTHING}.",
    ]


@pytest.mark.parametrize(("record", "section"), [(attribution, "classes-study"), (detection, "scores-study")])
def test_the_page_shows_the_picture_under_its_number(tmp_path, monkeypatch, record, section):
    with any_number_of_images():
        made = Made(tmp_path, record(), monkeypatch)
        folder = Path(str(build.build(made.workspace, made.record)))
        report = build.read(made.workspace, made.record)
    found = next(one for one in report.sections if one.id == section)
    figure, numbers = found.blocks[-2:]
    assert isinstance(figure, Figure)
    assert isinstance(numbers, Table)
    assert figure.panels[0].title == "clip-linear: 10-NN 1.00"
    assert figure.panels[0].words.startswith("10-NN balanced accuracy 1.000 (")
    assert "A picture proves nothing; the number beside it does" in figure.caption
    assert [key.label for key in figure.legend] == CLASSES
    assert "10-NN: low" in (folder / "neighbours.csv").read_text()
    page = (folder / "index.html").read_text()
    drawing = page[page.index("10-NN 1.00</h3>") :].partition("</svg>")[0]
    assert drawing.count("<use") == len(CLASSES) * NUM
    assert 'data-name="lama"' in drawing
    assert 'aria-label="10-NN balanced accuracy 1.000' in drawing
    assert "10-NN" in latex.latex(numbers)
    assert files.drawn(figure, "pdf").startswith(b"%PDF")


def test_without_images_a_page_measures_nothing_and_says_so(made):
    with any_number_of_images(), mock.patch.object(render, "html", return_value=""):
        report = build.read(made.workspace, made.record)
        build.build(made.workspace, made.record, with_panel=False)
    assert not made.folder.exists()
    found = next(one for one in report.sections if one.id == "classes-study")
    assert found.text == f"The feature space of clip-linear, sam-linear, collapsed is not shown: {embedding.LATER}."
