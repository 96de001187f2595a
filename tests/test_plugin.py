"""Plug-ins: the examples of docs/PLUGINS.md run, change what they should, and travel; wrong files are errors."""

import hashlib
import os
import pickle
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from upath import UPath

from dfloc import plugin, registry
from dfloc.cli import cli
from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec, ScheduleSpec, TrialSpec
from dfloc.data import mini
from dfloc.data.shards import decode_image
from dfloc.engine import schedule
from dfloc.engine.fit import fit
from dfloc.engine.member import Member, check
from dfloc.errors import ConfigError, DataError, DflocError
from dfloc.ledger import Ledger
from dfloc.models import decoders
from dfloc.record import SweepRecord
from dfloc.registry import MapSpec
from dfloc.storage import Workspace
from dfloc.sweep import component_specs, work
from tests.command import DFLOC, Study, fresh
from tests.contracts.backbone import BackboneContract
from tests.contracts.decoder import DecoderContract
from tests.contracts.protocol import ProtocolContract
from tests.engine.fakes import MAPS, FakeSource, make_member, make_spec, numbers
from tests.engine.test_image_tasks import Labelled
from tests.engine.test_image_tasks import spec_of as images_spec
from tests.models.test_heads import HeadContract

DOC = (Path(__file__).parent.parent / "docs/PLUGINS.md").read_text()
EXAMPLES = {block.split('"""')[1].partition(":")[0]: block for block in re.findall(r"```python\n(.*?)```", DOC, re.S)}
CELL = (
    *("trial.maps=[edges/sobel]", "trial.decoder.name=mlp", "trial.loss=tversky", "trial.decoder.out_size=256"),
    *("trial.optimizer={name: nesterov, lr: 0.01}", "trial.schedule=halving"),
)
FILES = ("edges.py", "mlp.py", "tversky.py", "nesterov.py", "halving.py")


def written(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_text(EXAMPLES[name])
    return [str(folder / name) for name in names]


@pytest.fixture(scope="class")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    plugin.use(plugin.read(written(tmp_path_factory.mktemp("plugins"), *EXAMPLES)))
    yield
    plugin.use(())


@pytest.fixture(autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.cls is None:
        plugin.use(())


@pytest.mark.usefixtures("examples")
class TestEdges(BackboneContract):
    name = "edges"
    rtol = 1e-5

    def make(self):
        return registry.find("backbone", "edges", registry.plugin_of("backbone", "edges"))("edges", "none", "cpu")

    @pytest.fixture(scope="class")
    def backbone(self, request):
        return request.cls().make()

    test_unknown_weights_are_named = None  # it has no weights
    test_a_device_that_is_not_there_is_named = None  # it leaves that to PyTorch

    def test_a_step_between_two_greys_has_the_energy_of_sobel(self) -> None:
        image = np.zeros((256, 256, 3), np.uint8)
        image[:, 128:] = 255
        backbone = self.make()
        sobel = backbone(backbone.preprocess(image)[None], ["sobel"])["sobel"][0]
        grey = cv2.Sobel(image[..., 0].astype(np.float32) / 255, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_CONSTANT)
        expected = torch.nn.functional.avg_pool2d(torch.from_numpy(grey**2)[None], 4)
        torch.testing.assert_close(sobel[:1, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])


@pytest.mark.usefixtures("examples")
class TestMlp(DecoderContract):
    maps = (MapSpec(2, 64, 64),)

    @property
    def spec(self) -> DecoderSpec:
        return DecoderSpec(name="mlp", channels=(8,), plugin=registry.plugin_of("decoder", "mlp"))


@pytest.mark.usefixtures("examples")
class TestTwoLayer(HeadContract):
    maps = (MapSpec(2, 64, 64),)

    @property
    def spec(self) -> DecoderSpec:
        return DecoderSpec(name="two-layer", channels=(8,), plugin=registry.plugin_of("decoder", "two-layer"))

    def test_a_localizer_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"decoder two-layer gives one answer an image; set task: detect"):
            component_specs.refuse_misfit(self.spec, LossSpec(name="bce"))

    def test_it_learns(self) -> None:
        spec = images_spec("attribute", classes=("real", "a", "b"), epochs=12, batch=8)
        member = Member.create(spec.model_copy(update={"decoder": self.spec}), MAPS)
        records = [result.record for (result,) in fit([member], Labelled(3), Labelled(3, seed=1))]
        assert records[-1].valid["loss"] < records[0].valid["loss"]
        assert records[-1].valid["ap"] > 0.6  # chance: a third


@pytest.fixture(scope="class")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    plugin.use(plugin.read(written(tmp_path_factory.mktemp("plugins"), "balanced.py")))
    yield
    plugin.use(())


@pytest.mark.usefixtures("balanced")
class TestBalanced(ProtocolContract):
    name = "balanced"


def test_the_loss_is_that_of_two_counted_masks(examples: None) -> None:
    tversky = registry.find("loss", "tversky", registry.plugin_of("loss", "tversky"))
    logit = torch.full((1, 1, 2, 2), -100.0)
    logit[..., 0, :] = 100.0
    target = torch.tensor([[[1, 0], [1, 1]]], dtype=torch.uint8)
    assert tversky(logit, target).item() == pytest.approx(1 - (1 + 1) / (1 + 1 + 0.3 * 1 + 0.7 * 2))


def own(**changes: object) -> TrialSpec:
    """Return a small trial whose optimiser and schedule are the examples'."""
    optimizer = component_specs.optimizer(OptimizerSpec(name="nesterov", lr=0.5, weight_decay=0.1))
    return make_spec(optimizer=optimizer, schedule=component_specs.schedule(ScheduleSpec(name="halving")), **changes)


def test_the_optimiser_is_nesterovs_at_the_rates_of_the_schedule(examples: None) -> None:
    """v = 0.9 v + g, w = w - lr (g + 0.9 v), where g has the decay's part; the rate rises over a tenth of 60 steps."""
    member = make_member(own(epochs=20))
    weight = member.decoder.layers.head.weight
    expected, speed = weight.detach().clone(), torch.zeros_like(weight)
    for rate in (0.5 / 6, 0.5 * 2 / 6, 0.5 * 3 / 6):
        batch = FakeSource(4).batch(range(4), 1)
        member.step(batch.x, batch.target_BHW)
        gradient = weight.grad + 0.1 * expected
        speed = 0.9 * speed + gradient
        expected = expected - rate * (gradient + 0.9 * speed)
        torch.testing.assert_close(weight.detach(), expected)


def test_the_schedule_halves_and_a_stopped_trial_goes_on_from_its_state(examples: None) -> None:
    made = schedule.make(own(epochs=20))
    rates = []
    for iou in (0.3, 0.2, 0.3, 0.4):
        assert made.end_epoch(iou)
        rates.append(made.lr(50))
    assert rates == [0.5, 0.25, 0.125, 0.125]

    spec, valid = own(epochs=6, select="last"), FakeSource(4, seed=1)
    whole = make_member(spec)
    expected = [numbers(result[0].record) for result in fit([whole], FakeSource(), valid)]
    assert len({record["lr"] for record in expected}) > 1, "the rate changes"
    first, second = make_member(spec), make_member(spec)
    head = [numbers(result[0].record) for _, result in zip(range(3), fit([first], FakeSource(), valid), strict=False)]
    second.restore(first.state())
    tail = [numbers(result[0].record) for result in fit([second], FakeSource(), valid)]
    assert head + tail == expected
    assert second.weights("last") == whole.weights("last")


def test_the_digest_of_an_optimiser_and_of_a_schedule_is_in_the_key(examples: None) -> None:
    spec, plain = own(), make_spec()
    for part in ("optimizer", "schedule"):
        named = getattr(spec, part)
        other = spec.model_copy(update={part: named.model_copy(update={"plugin": "0" * 64})})
        assert other.fingerprint != spec.fingerprint
        assert "plugin" not in plain.key[part], "of a built-in one nothing is said, as before"
        with pytest.raises(ConfigError, match=f'{part} "{named.name}" is of a plug-in with digest 000000000000'):
            make_member(other)
    for make, name, near in (
        (lambda name: component_specs.optimizer(OptimizerSpec(name=name)), "nestrov", "nesterov"),
        (lambda name: component_specs.schedule(ScheduleSpec(name=name)), "halvin", "halving"),
        (lambda name: component_specs.schedule(ScheduleSpec(name=name)), "one_cycle", "one-cycle"),
    ):
        with pytest.raises(ConfigError, match=f'"{name}"; did you mean "{near}"'):
            make(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "OPTIMIZERS = {'own': lambda parameters, spec: 3}",
            'optimizer "own" made int, expected a torch.optim.Optimizer',
        ),
        ("SCHEDULES = {'own': lambda spec: 3}", 'schedule "own" has no method lr; docs/PLUGINS.md has an example'),
    ],
)
def test_what_makes_no_optimiser_and_no_schedule_is_named(text: str, said: str) -> None:
    plugin.use([plugin.Plugin("own.py", text)])
    changes = (
        {"optimizer": component_specs.optimizer(OptimizerSpec(name="own"))}
        if "OPTIM" in text
        else {"schedule": component_specs.schedule(ScheduleSpec(name="own"))}
    )
    with pytest.raises(ConfigError, match=said):
        make_member(make_spec(**changes))


SCHEDULE = """
class Own:
    def __init__(self, spec):
        pass
    def lr(self, step):
        return 0.1
    def end_epoch(self, valid_iou):
        return True
    def state(self):
        return {"a": 1}
    def restore(self, state):
        self.a = state["a"]
SCHEDULES = {"own": Own}
"""
UNFIT = {
    "no return": ("return True", "pass", r'schedule "own": end_epoch returned None, expected True \(go on\) or False'),
    "a word": ("return True", "return 'on'", "end_epoch returned 'on', expected True"),
    "no rate": ("return 0.1", "pass", r'schedule "own": TypeError: lr\(0\) gave None, expected a finite number'),
    "no number": ("return 0.1", "return float('nan')", r"lr\(0\) gave nan"),
    "a tensor": ("return 0.1", "import torch; return torch.tensor(0.1)", r"lr\(0\) gave tensor\(0\.1"),
    "two arguments": ("(self, spec)", "(self, spec, maps)", 'schedule "own": TypeError: .* missing 1 required'),
    "no state": ('{"a": 1}', "None", 'schedule "own": TypeError'),
    "an object": ('{"a": 1}', "{'a': Own(1)}", 'schedule "own": UnpicklingError: '),
    "another key": ('{"a": 1}', "{}", "schedule \"own\": KeyError: 'a'"),
}
UNFIT_OPTIMIZERS = {
    "lambda p, s: 1 / 0": 'optimizer "own": ZeroDivisionError: division by zero',
    "lambda p: torch.optim.SGD(p)": 'optimizer "own": TypeError: .*takes 1 positional argument but 2',
    "lambda p, s: 3": 'optimizer "own" made int, expected',
    "lambda p, s: torch.optim.LBFGS(p)": r'optimizer "own": TypeError: .*closure',
    "lambda p, s: Odd(p)": 'optimizer "own": UnpicklingError: ',
}
ODD = """import torch
class Odd(torch.optim.SGD):
    def state_dict(self):
        return super().state_dict() | {"own": self}
OPTIMIZERS = {"own": """


@pytest.mark.parametrize("case", UNFIT)
def test_a_schedule_that_cannot_work_is_refused_before_anything_is_trained(case: str) -> None:
    old, new, said = UNFIT[case]
    assert SCHEDULE.count(old) == 1
    plugin.use([plugin.Plugin("mine.py", SCHEDULE)])
    check(make_spec(schedule=component_specs.schedule(ScheduleSpec(name="own"))))
    plugin.use([plugin.Plugin("mine.py", SCHEDULE.replace(old, new))])
    spec = make_spec(schedule=component_specs.schedule(ScheduleSpec(name="own")))
    with pytest.raises(ConfigError, match=rf"^plug-in mine\.py: .*{said}") as told:
        check(spec)
    assert "\n" not in str(told.value)
    if case == "no return":
        with pytest.raises(ConfigError, match="end_epoch returned None"):
            make_member(spec).end_epoch({"loss": 1, "iou": 0.5}, 1)


@pytest.mark.parametrize("text", UNFIT_OPTIMIZERS)
def test_an_optimiser_that_cannot_work_is_refused_before_anything_is_trained(text: str) -> None:
    plugin.use([plugin.Plugin("mine.py", f"{ODD}{text}}}")])
    with pytest.raises(ConfigError, match=rf"^plug-in mine\.py: {UNFIT_OPTIMIZERS[text]}") as told:
        check(make_spec(optimizer=component_specs.optimizer(OptimizerSpec(name="own"))))
    assert "\n" not in str(told.value)


def test_the_examples_and_what_is_built_in_pass_and_draw_nothing(examples: None) -> None:
    before = torch.get_rng_state()
    check(own())
    check(make_spec())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [AttributeError, AssertionError, NameError, ImportError, pickle.UnpicklingError])
def test_whatever_a_plug_in_raises_is_its_trials_own_failure(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("so")

    monkeypatch.setattr(work, "_train", fail)
    workspace, spec = Workspace(tmp_path / "workspace"), make_spec()
    [told] = work.run(work.Work(spec, True, (), workspace, UPath(tmp_path)))
    assert told["failed"] == f"{error.__name__}: so"
    failure = Ledger(workspace).failure(spec.fingerprint)
    assert failure is not None
    assert (failure.kind, failure.message) == ("error", told["failed"])


def test_a_generator_adds_its_domain_to_the_mini_data(examples: None, tmp_path: Path) -> None:
    mini.make(tmp_path / "own", train=4, valid=4, test=4, more=registry.added("generator"))
    mini.make(tmp_path / "plain", train=4, valid=4, test=4)
    own, plain = (sorted(p.name for p in (tmp_path / name / "mini/fake").iterdir()) for name in ("own", "plain"))
    assert sorted([*plain, "mosaic"]) == own
    fakes = tmp_path / "own/mini/fake"
    name = next((fakes / "mosaic/images/test").iterdir()).name
    telea, mosaic, mask, masks = (
        decode_image((fakes / place / "test" / name).read_bytes())
        for place in ("telea/images", "mosaic/images", "mosaic/masks", "telea/masks")
    )
    assert np.array_equal(mask, masks)
    real = mask[..., 0] == 255
    assert np.array_equal(mosaic[real], telea[real])
    blocks = mosaic.reshape(32, 8, 32, 8, 3)
    inside = (~real).reshape(32, 8, 32, 8).all(axis=(1, 3))
    assert inside.any()
    assert np.ptp(blocks.transpose(0, 2, 1, 3, 4)[inside].reshape(inside.sum(), 64, 3), axis=1).max() == 0


@pytest.mark.parametrize(
    ("result", "said"),
    [("None", "gave NoneType"), ("image_HWC[:8]", r"gave uint8 \[8"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_generator_that_makes_no_image_is_named(result: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(f"GENERATORS = {{'bad': lambda image_HWC, mask_HW, rng: {result}}}")
    plugin.use(plugin.read([str(tmp_path / "bad.py")]))
    with pytest.raises(DataError, match=f"generator bad .*{said}"):
        mini.make(tmp_path / "out", train=1, valid=1, test=1, more=registry.added("generator"))


@pytest.mark.ray
def test_a_study_runs_on_plug_ins_in_workers_that_have_no_such_file(
    tmp_path: Path, tiny_shards: UPath, ray_local: None
) -> None:
    study = Study(tmp_path / "workspace", Path(tiny_shards.path))
    paths = written(tmp_path, *FILES)
    plugin.use(plugin.read(paths))
    for path in paths:
        Path(path).unlink()
    done = study.sweep(*CELL, only=("base",))
    assert done.code == 0, done
    [spec, *_] = [trial.spec for trial in record_of(study).trials if trial.stage == "base"]
    digests = [plugin.Plugin(name, EXAMPLES[name]).digest for name in FILES]
    named = (spec.maps[0], spec.decoder, spec.loss, spec.optimizer, spec.schedule)
    assert [part.plugin for part in named] == digests
    assert "0 to run" in study.sweep(*CELL, only=("base",)).out

    changed = EXAMPLES["tversky.py"].replace("+ 1", "+ 2")
    plugin.use(
        [plugin.Plugin("tversky.py", changed) if one.name == "tversky.py" else one for one in registry.plugins()]
    )
    again = study.sweep(*CELL, only=("base",))
    assert "0 done, 2 to run" in again.out, again.out
    assert "backbones" not in again.out, "the features are those of the same backbone"
    first, second = (study.ledger.epochs(name)[-1].train_loss for name in _both(study, spec.fingerprint))
    assert first != second

    plugin.use(())
    with pytest.raises(DflocError, match='unknown backbone "edges"'):
        study.sweep(*CELL, only=("base",))
    with pytest.raises(ConfigError, match=r'decoder "mlp" is of a plug-in with digest .* give the file of then'):
        decoders.build(spec.decoder, [MapSpec(2, 64, 64)], torch.Generator())


def record_of(study: Study) -> SweepRecord:
    [folder] = (study.root / "sweeps").iterdir()
    return study.record(folder.name)


def _both(study: Study, first: str) -> list[str]:
    """Return a trial, and the one that differs from it by the plug-in of its loss alone."""
    spec = study.ledger.spec(first)
    for trial in record_of(study).trials:
        if trial.fingerprint != first and trial.spec.train == spec.train and trial.stage == "base":
            return [first, trial.fingerprint]
    raise AssertionError(first)


def test_the_lists_name_what_a_plug_in_adds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges, mlp = written(tmp_path, "edges.py", "mlp.py")
    cli(["list", "--plugin", edges, "--plugin", mlp], standalone_mode=False)
    said = capsys.readouterr().out
    assert "sobel 2x64x64" in said
    assert "  mlp\n" in said


def test_a_plug_in_that_is_the_first_to_import_torch_runs_from_the_console(tmp_path: Path) -> None:
    """`import torch` calls the script that was started `__mp_main__`, which lies in no folder of modules."""
    given = [word for path in written(tmp_path, *EXAMPLES) for word in ("--plugin", path)]
    words = [DFLOC, "list", "losses", *given]
    done = subprocess.run(words, cwd=tmp_path, env=fresh(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tversky" in done.stdout.split()


WRONG = {
    "x = (": r"plug-in own.py, line 1: SyntaxError",
    "\nimport no_such_module": r"line 2: ModuleNotFoundError: No module named 'no_such_module'",
    "def f():\n    raise ValueError('so')\nf()": r"line 2: ValueError: so",
    "": "defines none of BACKBONES, DECODERS, LOSSES, OPTIMIZERS, SCHEDULES, PROTOCOLS, GENERATORS",
    "LOSSES = ['dice']": r"losss? should be a mapping from names",
    "LOSSES = {'bce': print}": r'loss "bce" is a built-in name',
    "LOSSES = {'a/b': print}": "no slash, colon, comma, equals sign or space",
    "LOSSES = {'a\\nb': print}": r"a\\nb.* cannot be used",
    "\nraise SystemExit(0)": r"line 2: SystemExit: 0",
    "raise ValueError('one\\ntwo')": r"ValueError: one two",
    "DECODERS = {'mlp': 3}": r'decoder "mlp" should be a function, but it is 3',
    "BACKBONES = {'b': print}": "should be a dfloc.registry.BackboneRow",
    "from dfloc.registry import BackboneRow\n"
    "BACKBONES = {'b': BackboneRow('gone', {}, 8, 'pil-bilinear', 'none')}": 'no function "gone", its factory',
    "from dfloc.registry import BackboneRow\nmake = 3\n"
    "BACKBONES = {'b': BackboneRow('make', {}, 8, 'pil-bilinear', 'none')}": 'no function "make", its factory',
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ConfigError, match=WRONG[text]) as raised:
        plugin.use(plugin.read([str(tmp_path / "own.py")]))
    assert "\n" not in str(raised.value)
    assert registry.plugins() == ()


def test_a_file_that_is_no_text_too_large_or_missing(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.py").write_bytes(b"#" * (plugin.MAX_BYTES + 1))
    for name, said in {"binary": "cannot be read", "large": "more than", "missing": "cannot be read"}.items():
        with pytest.raises(ConfigError, match=said):
            plugin.read([str(tmp_path / f"{name}.py")])


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    said = {
        "fifo.py": "is no regular file",
        "/dev/zero": "is no regular file",
        "": "an empty name",
        " ": "an empty name",
    }
    for word, words in (said | {"~nobody_here/a.py": "cannot be read as a Python file"}).items():
        with pytest.raises(ConfigError, match=words):
            plugin.read([str(tmp_path / word) if word == "fifo.py" else word])


def test_text_is_read_as_python_reads_it(tmp_path: Path) -> None:
    text = "# coding: latin-1\nLOSSES = {'\u00e4': print}\n"
    kinds = {"plain": text.encode(), "marked": b"\xef\xbb\xbf" + text.encode(), "old": text.encode("latin-1")}
    for kind, content in kinds.items():
        (tmp_path / kind).mkdir()
        for path in (tmp_path / f"{kind}.py", tmp_path / kind / "my.py"):
            path.write_bytes(content)
            plugin.use(plugin.read([str(path)]))
            assert registry.plugins()[0].digest == hashlib.sha256(text.encode()).hexdigest()
            assert "\u00e4" in registry.names("loss")
        plugin.use(plugin.read([str(tmp_path / kind)]))
        assert "\u00e4" in registry.names("loss")
    (tmp_path / "old.py").write_bytes(text.encode("latin-1").replace(b"latin-1", b"utf-8"))
    with pytest.raises(ConfigError, match=r"cannot be read as a Python file: .*(decode|encoding)"):
        plugin.read([str(tmp_path / "old.py")])


def test_two_files_that_define_one_name_are_refused(tmp_path: Path) -> None:
    first, second = plugin.Plugin("a.py", EXAMPLES["tversky.py"]), plugin.Plugin("b.py", EXAMPLES["tversky.py"] + "\n")
    with pytest.raises(ConfigError, match=r'plug-in b.py defines the loss "tversky" that another one has'):
        plugin.use((first, second))
