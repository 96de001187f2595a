"""Sweep files and settings that are wrong in shape: one sentence with the place; what is printed is the same plan."""

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from dfloc.errors import ConfigError
from dfloc.sweep import json_schema, yaml_text
from dfloc.sweep.prepare import merged
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_data import SweepRequest
from dfloc.sweep.sweep_file import SweepFile, find, shipped
from tests.fuzz import sweeps
from tests.sweep.test_study import SMALL, small

ODD = ("\x85", "\u2028", "\u2029", "\n", "\n\n", "\t", "\xa0", "\ufeff", "\x07", " \n ")
PRESETS = ("paper", "mini", "smoke")


def refused(tmp_path: Path, *settings: str, text: str | bytes = SMALL, **how: int | tuple[str, ...]) -> str:
    """Return the message by which a file or setting is refused; it is one line."""
    path = tmp_path / "small.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as told:
        expand(SweepFile(path).choose("own", settings), **how)  # type: ignore[arg-type]
    message = str(told.value)
    assert len(message.splitlines()) == 1
    return message.replace(str(path), path.name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  own: {}", "  own: 3", "small.yaml line 24: presets.own should be a mapping"),
        ("  own: {}", "  own: [a]", "small.yaml line 24: presets.own should be a mapping"),
        ("presets:\n  own: {}", "presets: 3", "small.yaml line 23: presets should be a mapping"),
        ("  own: {}", "  own: {}\n  a/b: {}", 'small.yaml line 25: preset "a/b" should be named by letters'),
        ("stages:\n", "stages: [a]\nx:\n", "small.yaml line 14: stages should be a mapping"),
        ("evaluate:", "  b: 3\nevaluate:", "small.yaml line 22: stages.b: should be a mapping"),
        ("evaluate:", "  b: [1]\nevaluate:", "small.yaml line 22: stages.b: should be a mapping"),
        ("evaluate:", "  b:\nevaluate:", "small.yaml line 22: stage b is empty"),
        ("    from: base", "    cases: {a: }", "small.yaml line 19: case a of stage finetune is empty"),
        ("    from: base", "    cases: {a: 3}", "small.yaml line 19: stages.finetune.cases.a: should be a mapping"),
        ("    from: base", "    cases: {a/b: {}}", "line 19: stages.finetune.cases.a/b: should be named by letters"),
        ("    from: base", "    from: [base]", "small.yaml line 19: stages.finetune.from: should be the name of a"),
        ("    from: base", "    from: ''", "small.yaml line 19: stages.finetune.from: should be the name of a"),
        ("    from: base", "    from: {}", "small.yaml line 19: stages.finetune.from: should be the name of a"),
        ("  batch: 4", "  batch: 4\n  weights: ''", "line 14: trial.weights: should be a word, or be left out"),
        (
            "  batch: 4",
            "  batch: 4\n  select: auc",
            "trial.select: should be 'iou', 'loss', 'ap', 'accuracy' or 'last', but it is 'auc'",
        ),
        (
            "  schedule: constant",
            "  schedule: {name: plateau, watch: auc}",
            "trial.schedule.watch: should be 'iou', 'loss', 'ap' or 'accuracy', but it is 'auc'",
        ),
        ("  schedule: constant", "  schedule: {name: plateau, delta: -1}", "trial.schedule.delta: should be"),
        ("  schedule: constant", "  schedule: {name: plateau, delta: small}", "trial.schedule.delta: should be"),
        ("  finetune:", "  a/b:", "small.yaml line 18: stages.a/b: should be named by letters"),
        ("  finetune:", "  a b:", "small.yaml line 18: stages.a b: should be named by letters"),
        ("  finetune:", '  "":', "small.yaml line 18: stages.: should be named by letters"),
        ("  finetune:", '  "..":', "small.yaml line 18: stages...: should be named by letters"),
        ("  finetune:", "  -x:", "small.yaml line 18: stages.-x: should be named by letters"),
        ("  finetune:", f"  {'x' * 101}:", "should be named by letters"),
        ("  finetune:", "  1:", 'small.yaml line 18: key 1 is no word; put it in quotes: "1"'),
        ("  finetune:", "  null:", "small.yaml line 18: key null is no word"),
        ("  finetune:", "  true:", "small.yaml line 18: key true is no word"),
        ("name: small", "name: a/b", "small.yaml line 2: name: should be named by letters"),
        ("name: small", "name: 3", "small.yaml line 2: name: should be a text; put it in quotes, but it is 3"),
        ("  epochs: 2", "  epochs: 2\n  epochs: 3", 'line 13: key "epochs" stands twice in lines 12 and 13'),
        ("epochs: 2", "[a]: 2", "small.yaml line 12: a list or a mapping stands where a key should be"),
        ("epochs: 2", "epochs: ???", 'small.yaml line 12: "???" stands for no value'),
        ("A small study", "${oc.env:HOME}", "small.yaml line 3: ${oc.env:HOME} does not name a key of this file"),
        ("A small study", "${oc.${name}:HOME}", "small.yaml line 3: ${oc.${name}:HOME} does not name a key"),
        ("A small study", "${oc.decode:3}", "small.yaml line 3: ${oc.decode:3} does not name a key"),
        ("A small study", "\\${name}", "small.yaml line 3: \\${name} has a backslash before ${"),
        ("A small study", "${a", "small.yaml line 3: ${a does not name a key"),
        ("A small study", "${a.b}", "small.yaml line 3: title: ${a.b} names no key of the sweep"),
        ("A small study", "${title}", "small.yaml line 3: title: it stands for itself"),
        ("  epochs: 2", "  epochs: &a [*a]", "small.yaml line 12: an anchor stands inside of what it names"),
        ("  epochs: 2", "\tepochs: 2", "small.yaml line 12: no YAML: found character '\\t'"),
        ("trial:\n", "trial:\n  <<: 3\n", "small.yaml line 7: no YAML: expected a mapping"),
        ("A small study", "!!python/object:os.system {}", "line 3: tag !!python/object:os.system: only plain values"),
        ("A small study", "!!binary aGk=", "small.yaml line 3: tag !!binary: only plain values"),
        ("A small study", "[" * 60 + "]" * 60, "small.yaml line 3: lists or mappings are nested deeper than 50"),
        ("A small", "A \0 small", "small.yaml line 3: no YAML: character"),
        ("[2, 4, 8]", f"[{'1,' * 30_000}]", "small.yaml line 20: it stands for more than 20,000 values"),
        ("evaluate:", "seeds: 9999\nevaluate:", "stage base asks for 29,997 trials by its axes held_out"),
    ],
)
def test_a_shape_that_is_none_is_one_sentence_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in refused(tmp_path, text=SMALL.replace(old, new, 1))


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    assert "small.yaml line 3: no YAML: byte 0xe4 is no UTF-8" in refused(
        tmp_path, text=SMALL.replace("A small", "A sm\xe4ll").encode("latin-1")
    )
    assert "small.yaml line 1: no YAML: byte 0xff is no UTF-8" in refused(tmp_path, text=SMALL.encode("utf-16"))
    assert "line 25: no YAML: but found another document" in refused(tmp_path, text=f"{SMALL}---\nname: b\n")


def test_aliases_that_stand_for_too_much_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "it stands for more than 20,000 values" in refused(tmp_path, text=SMALL + laughs)


def test_a_byte_order_mark_and_a_megabyte_of_text_are_read(tmp_path: Path) -> None:
    plain = small(tmp_path)
    for odd in ("\ufeff" + SMALL, SMALL + "#" * 900_000, SMALL.replace("A small study", "x" * 900_000)):
        assert [cell.axes for cell in small(tmp_path, text=odd).cells] == [cell.axes for cell in plain.cells]


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(ConfigError, match=rf"{name}\.yaml is no file"):
            SweepFile(find(str(tmp_path / f"{name}.yaml")))


def test_all_that_is_missing_and_what_is_unknown_is_said_at_once(tmp_path: Path) -> None:
    typo = SMALL.replace("  epochs: 2", "  epohcs: 2").replace("  batch: 4\n", "")
    assert refused(tmp_path, text=typo) == (
        'small.yaml line 12: unknown key "epohcs" in trial; did you mean "epochs"? known: augment, batch, decoder, '
        "epoch_steps, epochs, input, loss, maps, optimizer, precision, schedule, seed, select, targets, task, weights; "
        "small.yaml line 6: trial.epochs and trial.batch are missing"
    )
    bare = refused(tmp_path, text="stages: {a: {trian: {}}}\n")
    assert bare.startswith('small.yaml line 1: unknown key "trian" in stages.a; did you mean "trial"?')
    assert bare.endswith("small.yaml: name, title, domains and evaluate are missing")


def test_of_many_mistakes_the_first_few_and_the_number_are_said(tmp_path: Path) -> None:
    odd = SMALL + "".join(f"odd{number}: 1\n" for number in range(7))
    message = refused(tmp_path, text=odd)
    assert [f'"odd{number}"' in message for number in range(7)] == [True] * 4 + [False] * 3
    assert message.endswith("and 3 mistakes more")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("a=b=c", '--set a: unknown key "a"; known: checks, device'),
        ("=1", '--set "=1" should be key=value'),
        ("a..b=1", '--set "a..b=1" has nothing between two dots'),
        ("stages..grid=1", '--set "stages..grid=1" has nothing between two dots'),
        ("trial.=1", '--set "trial.=1" has nothing between two dots'),
        ("trial.maps.0=x", "--set trial.maps.0: trial.maps is a list, which is given whole: --set trial.maps=[...]"),
        ("trial.maps[0]=x", '--set "trial.maps[0]=x" should have words and dots before the ='),
        ("stages.finetun.train.count=3", 'unknown stage "finetun"; did you mean "finetune"'),
        ("stages.base.cases.x.train.count=3", '--set stages.base.cases.x.train.count: unknown case "x"; known: none'),
        ("presets.own=3", '--set presets.own: unknown key "presets"'),
        ("trial.epochs.x=1", "--set trial.epochs.x=1: trial.epochs: should be a whole number"),
        ("trial.epochs=${oc.env:X}", "--set trial.epochs=${oc.env:X}: ${oc.env:X} does not name a key"),
        ("title=${nope}", "--set title=${nope}: title: ${nope} names no key of the sweep"),
        ("title={a: 1, a: 2}", '--set title={a: 1, a: 2}: key "a" stands twice'),
        ("title=${........epochs}", "title: ${........epochs} names no key of the sweep"),
        ("stages={}", "--set stages: the stages are those of the file; change a key of one, as in --set stages.base."),
        ("evaluate.domains=[]", "evaluate.domains: should have one entry at least, but it is []"),
        ("stages.base.train.count={}", "or should be 'all', or should have one entry at least, but it is {}"),
        ("stages.base.grid.held_out=[null]", "axis held_out should have names of domains, but one value is empty"),
        ("trial=[1]", "--set trial=[1]: a list stands where the sweep has a mapping"),
        ("trial.epochs=!!python/x", "--set trial.epochs=!!python/x: tag !!python/x: only plain values"),
        ('stages.base={cases: {"a/b": {}}}', "stages.base.cases.a/b: should be named by letters"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, setting: str, message: str) -> None:
    told = refused(tmp_path, setting)
    assert message in told
    assert told.startswith("--set ")


LONG = "x" * 5000


@pytest.mark.parametrize(
    "setting",
    [
        *(f"{LONG}=1", f"trial.{LONG}=1", f"stages.{LONG}=1", f"trial={{{LONG}: 1}}", f"trial={{{LONG[:90]}: 1}}"),
        *(f"trial.epochs={LONG}", LONG, f"{LONG}.=1", f"{LONG}=[", f"title=${{{LONG}}}"),
    ],
)
def test_a_long_word_is_said_by_its_beginning(tmp_path: Path, setting: str) -> None:
    assert LONG[:201] not in refused(tmp_path, setting)


@pytest.mark.parametrize(
    ("settings", "blamed"),
    [
        (("trial.epoch_steps=5", "trial.epochs=two"), "--set trial.epochs=two: trial.epochs"),
        (("trial.epochs=two", "trial.epoch_steps=5"), "--set trial.epochs=two: trial.epochs"),
        (("trial.batch=3", "trial.epochs=null"), "--set trial.epochs=null: trial.epochs is missing"),
        (("trial.epochs=two", "trial.epochs=three"), "--set trial.epochs=three: trial.epochs"),
        (("trial={epochs: two}", "trial.batch=3"), "--set trial={epochs: two}: trial.epochs"),
        (("stages.base.trial.epochs=two", "trial.epochs=3"), "--set stages.base.trial.epochs=two: trial.epochs"),
        (("stages.base.trial.loss=bce", "stages.base.trial.loss.gama=1"), "--set stages.base.trial.loss.gama=1: "),
    ],
)
def test_the_setting_at_fault_is_blamed_and_not_one_that_begins_alike(
    tmp_path: Path, settings: tuple[str, ...], blamed: str
) -> None:
    assert refused(tmp_path, *settings).startswith(blamed)


@pytest.mark.parametrize("setting", ["trial.epoch_steps=5", "trial={batch: 5}", "trial.optimizer=adam", "seeds=2"])
def test_a_mistake_of_the_file_is_not_blamed_on_a_setting(tmp_path: Path, setting: str) -> None:
    wrong = SMALL.replace("  epochs: 2", "  epochs: two")
    assert refused(tmp_path, setting, text=wrong).startswith("small.yaml line 12: trial.epochs")
    lacking = SMALL.replace("  epochs: 2\n", "")
    assert refused(tmp_path, setting, text=lacking).startswith("small.yaml line 6: trial.epochs is missing")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("seeds=20000", "seeds: should be at most 10,000, but it is 20000"),
        ("draws=20000", "draws: should be at most 10,000, but it is 20000"),
        ("trial.decoder.channels=[9000000000000000000]", "trial.decoder.channels.0: should be at most 65,536"),
        (f"trial.decoder.channels=[{'8,' * 33}]", "trial.decoder.channels: should have at most 32 entries"),
        ("trial.decoder.depth=4000000000000", "trial.decoder.depth: should be at most 1,000"),
        ("trial.decoder.out_size=9000000000", "trial.decoder.out_size: should be at most 4,096"),
        ("trial.decoder.grid=9000000000", "trial.decoder.grid: should be at most 4,096"),
        ("trial.epochs=20000000", "trial.epochs: should be at most 100,000"),
        ("trial.epoch_steps=20000000", "trial.epoch_steps: should be at most 1,000,000"),
        ("trial.batch=4611686018427387904", "trial.batch: should be at most 1,000,000"),
    ],
)
def test_a_number_that_no_machine_could_carry_out_is_refused_before_it_is_tried(
    tmp_path: Path, setting: str, why: str
) -> None:
    assert refused(tmp_path, setting).startswith(f"--set {setting}: {why}")


def test_only_says_which_word_is_wrong(tmp_path: Path) -> None:
    for word in ("", "/", "bse", "base/x", "base/"):
        assert refused(tmp_path, only=(word,)).startswith(f"--only {word}: unknown ")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_printed_file_gives_the_same_plan(tmp_path: Path, name: str, preset: str) -> None:
    asked = sweeps.Asked(preset)
    expected = sweeps.trials(sweeps.plan(Path(name), asked))
    path = tmp_path / "merged.yaml"
    path.write_text(merged(sweeps.options(Path(name), asked)))
    assert "${" not in path.read_text()
    assert sweeps.trials(sweeps.plan(path, asked)) == expected
    assert len(expected) >= 3


def test_what_is_printed_has_what_was_asked(tmp_path: Path) -> None:
    options = SweepRequest(
        "exposure", str(tmp_path), preset="smoke", seeds=3, settings=("trial.loss=dice", "title='010'")
    )
    printed = merged(options)
    found = yaml.safe_load(printed)
    assert (found["seeds"], found["trial"]["loss"], found["title"]) == (3, {"name": "dice"}, "010")
    assert found["evaluate"]["domains"] == found["domains"]
    assert "presets" not in found
    with pytest.raises(ConfigError, match=r"trial\.epochs"):
        merged(SweepRequest("exposure", str(tmp_path), preset="smoke", settings=("trial.epochs=no",)))


@pytest.mark.parametrize(
    "word",
    [
        "010",
        "on",
        "1e-3",
        "true",
        "null",
        "~",
        "1:30",
        "",
        " a",
        "#",
        "a: b",
        "- a",
        "ü",
        "1",
        *(f"a{odd}b" for odd in ODD),
    ],
)
def test_a_text_is_written_as_one(word: str) -> None:
    values = {"a": word, "b": [word], "c": 0.001, "d": 3, "e": True, word: 1e-07}
    assert yaml_text.Text(yaml_text.written(values), "here").values == values


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    found = json_schema.schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_sweep_is_valid_by_the_schema(validator: jsonschema.Draft202012Validator, name: str) -> None:
    assert list(validator.iter_errors(yaml_text.read(shipped()[name]).values)) == []


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"seeds": 3}, True),
        ({"seeds": 0}, False),
        ({"titel": "a"}, False),
        ({"trial": {"epochs": "n", "loss": "bce", "optimizer": {"lr": "${x}"}}}, True),
        ({"trial": {"epohcs": 3}}, False),
        ({"trial": {"epochs": [3]}}, False),
        ({"trial": {"loss": {"name": "focal", "gama": 1}}}, False),
        ({"stages": {"a": {"train": {"count": "n", "domains": "all"}, "cases": {"b": {"trian": {}}}}}}, False),
        ({"stages": {"a": {"train": {"count": {"first": 3, "rest": "n"}}}}}, True),
        ({"presets": {"mini": {"trial": {"epochs": None}, "stages": {"a": None}}}}, True),
        ({"presets": {"mini": {"trail": {}}}}, False),
        ({"presets": {"mini": 3}}, False),
        ({"search": {"space": {"lr": {"low": 1, "high": 2}, "loss": ["bce"], "trial": {"batch": [1]}}}}, True),
        ({"search": {"space": {"lr": 3}}}, False),
        ({"stages": 3}, False),
    ],
)
def test_the_schema_refuses_what_the_models_refuse(
    validator: jsonschema.Draft202012Validator, change: dict[str, object], valid: bool
) -> None:
    assert validator.is_valid({"stages": {}} | change) == valid
