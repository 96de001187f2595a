"""Plug-ins of several files: all of them are in the digest and travel, and what lies elsewhere is refused by name."""

import hashlib
import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfloc import packages, plugin, plugin_modules, registry
from dfloc.errors import ConfigError
from tests.test_plugin import EXAMPLES

MY = "from helper import power\nLOSSES = {'mine': lambda logit, target: power()}\n"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(sys.modules)
    yield
    plugin.use(())
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("helper", "utils", "extra", "ext") or name.startswith(plugin_modules.PREFIX):
            del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def used(*words: object) -> tuple[plugin.Plugin, ...]:
    read = plugin.read([str(word) for word in words])
    plugin.use(pickle.loads(pickle.dumps([tuple(one) for one in read])) and read)
    return read


def value(name: str = "mine") -> Any:
    return registry.find("loss", name, registry.plugin_of("loss", name))(None, None)


WAYS = {
    "at the top": "import helper\nLOSSES = {'mine': lambda *_: helper.power()}",
    "by name": "from importlib import import_module\nhelper = import_module('helper')\nLOSSES = {'mine': print}",
    "quietly": "try:\n    import helper\nexcept Exception:\n    pass\nLOSSES = {'mine': print}",
    "through the path": "import sys\nsys.path.insert(0, PLACE)\nimport helper\nLOSSES = {'mine': print}",
    "from a file": "import sys\nfrom importlib.util import *\n"
    "helper = spec_from_file_location('helper', PLACE + '/helper.py')\n"
    "sys.modules['helper'] = module_from_spec(helper)\nhelper.loader.exec_module(sys.modules['helper'])\n"
    "LOSSES = {'mine': print}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_that_lies_elsewhere_is_refused_by_name(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, my=WAYS[way].replace("PLACE", repr(str(tmp_path))), helper="def power():\n    return 2\n")
    monkeypatch.setattr(sys, "path", list(sys.path) if way == "through the path" else [str(tmp_path), *sys.path])
    with pytest.raises(ConfigError, match=rf'plug-in my\.py loads the module "helper" from {tmp_path}/helper') as told:
        used(tmp_path / "my.py")
    assert "\n" not in str(told.value)
    assert registry.plugins() == ()
    if way == "at the top":
        used(tmp_path / "my.py", tmp_path / "helper.py")
        assert value() == 2


def test_a_module_that_is_loaded_already_or_when_it_is_needed_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, helper="def power():\n    return 2\n")
    write(tmp_path, late="def mine(*_):\n    import helper\n    return helper.power()\nLOSSES = {'mine': mine}", my=MY)
    used(tmp_path / "late.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r'plug-in late\.py loads the module "helper"'):
        value()
    with pytest.raises(ConfigError, match=rf'plug-in late\.py loads the module "helper" from {tmp_path}/helper\.py'):
        plugin.read([str(tmp_path / "late.py")])
    assert importlib.import_module("helper").power() == 2
    with pytest.raises(ConfigError, match=r'plug-in my\.py loads the module "helper"'):
        used(tmp_path / "my.py")


def test_a_module_that_is_not_found_is_named_with_the_cure(tmp_path: Path) -> None:
    write(tmp_path, my=MY, helper="")
    with pytest.raises(
        ConfigError, match=r"my\.py, line 1: .*No module named 'helper'; if it is yours, name it by --pl"
    ):
        used(tmp_path / "my.py")


COMPUTED = {
    "importlib": "import importlib\n    return importlib.import_module(name).power()",
    "import_module": "from importlib import import_module as get\n    return get(name).power()",
    "util": "import importlib.util\n    return importlib.__import__(name).power()",
    "__import__": "return __import__(name).power()",
}


@pytest.mark.parametrize("way", COMPUTED)
def test_a_module_by_a_computed_name_is_refused_when_it_is_needed(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(tmp_path / "lib", helper="def power():\n    return 2\n")
    body = (
        f"import sys\n    sys.path.insert(0, {str(tmp_path / 'lib')!r})\n    name = 'hel' + 'per'\n    {COMPUTED[way]}"
    )
    write(tmp_path, my=f"def mine(*_):\n    {body}\nLOSSES = {{'mine': mine}}")
    used(tmp_path / "my.py")
    with pytest.raises(ConfigError, match=rf'my\.py loads the module "helper" from {tmp_path}/lib/helper\.py'):
        value()


def test_a_module_by_its_name_alone_is_that_of_the_plug_in(tmp_path: Path) -> None:
    late = (
        "import importlib\ndef mine(*_):\n    return importlib.import_module('helper').power()\nLOSSES = {'mine': mine}"
    )
    write(
        tmp_path,
        late=late,
        helper="import importlib\nimport importlib.abc\ndef power():\n    return importlib.abc and 2",
    )
    [one] = used(tmp_path / "late.py", tmp_path / "helper.py")
    assert ([path for path, _ in one.files], value()) == (["helper.py"], 2)


FOLDERS = {
    "flat": {"my": MY, "helper": "from deep.more import N\ndef power():\n    return N\n", "deep__in__more": "N = 2"},
    "package": {
        "__init__": "from .my import LOSSES",
        "my": "from .helper import power\nLOSSES = {'mine': lambda *_: power()}",
        "helper": "def power():\n    from own.deep import more\n    return more.N\n",
        "deep__in__more": "N = 2",
    },
    "plain names": {
        "__init__": "import helper, own.deep.more\nLOSSES = {'mine': lambda *_: max(helper.power(), own.deep.more.N)}",
        "helper": "import random\nfrom importlib import import_module\nassert random.Random\n"
        "def power():\n    return import_module('.deep.more', __package__).N\n",
        "random": "",
        "deep__in__more": "N = 2",
    },
}


@pytest.mark.parametrize("form", FOLDERS)
def test_every_file_of_a_folder_is_in_the_digest_and_travels(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "own", **FOLDERS[form])
    [first] = used(folder)
    assert value() == 2
    (folder / "deep/more.py").write_text("N = 3")
    (folder / "deep/__pycache__").mkdir()
    (folder / "deep/__pycache__/more.pyc").write_text("compiled")
    (folder / ".hidden").write_text("hidden")
    [second] = used(folder)
    assert value() == 3
    assert first.digest != second.digest
    (folder / "deep/more.py").write_text("N = 2")
    assert plugin.read([str(folder)]) == (first,)

    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    told = tmp_path / "told"
    told.write_bytes(pickle.dumps([tuple(one) for one in (first, second)]))
    code = (
        "import pickle, sys; from dfloc import plugin, registry\n"
        "for one in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    plugin.use([plugin.Plugin(*one)])\n"
        "    print(registry.plugin_of('loss', 'mine'), registry.find('loss', 'mine', plugin.Plugin(*one).digest)(0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, told], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [first.digest, "2", second.digest, "3"], done.stderr


def test_a_module_of_a_folder_keeps_its_own_of_two_and_shadows_none_of_pythons(tmp_path: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        text = f"import utils, random\nLOSSES = {{'{name}': lambda *_: (utils.N, random.N)}}"
        write(tmp_path / name, my=text, utils=f"N = {number}", random=f"N = {-number}")
    used(tmp_path / "one", tmp_path / "two")
    assert (value("one"), value("two")) == ((1, -1), (2, -2))
    import random

    assert random.Random
    assert "utils" not in sys.modules


def test_of_two_files_that_are_named_one_may_import_the_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        my=MY,
        helper="from lib import base\ndef power():\n    return base.N\n",
        alone="LOSSES = {'alone': print}",
    )
    write(tmp_path / "lib", __init__="", base="N = 2")
    words = [tmp_path / name for name in ("my.py", "helper.py", "alone.py", "lib")]
    mine, alone = used(*words)
    assert (mine.name, alone.name, value()) == ("my.py", "alone.py", 2)
    assert alone.digest == hashlib.sha256((tmp_path / "alone.py").read_bytes()).hexdigest()
    write(tmp_path / "lib", base="N = 3")
    changed, same = used(*words)
    assert value() == 3
    assert (changed.digest != mine.digest, same) == (True, alone)


def test_two_plug_ins_of_one_name_are_refused_unless_they_are_one(tmp_path: Path) -> None:
    for folder, name in (("one", "a"), ("two", "b"), ("same", "a")):
        write(tmp_path / folder, helper=f"LOSSES = {{'{name}': print}}")
    write(tmp_path / "three/helper", my="LOSSES = {'c': print}")
    first, second, third, same = (tmp_path / each / "helper" for each in ("one", "two", "three", "same"))
    for words in ((f"{first}.py", f"{second}.py"), (f"{first}.py", third)):
        with pytest.raises(ConfigError, match=r"^two plug-ins are called helper; give one another name, or name their"):
            used(*words)
    assert len(used(f"{first}.py", f"{same}.py", f"{first}.py")) == 1
    assert registry.names("loss").count("a") == 1


def test_the_digest_of_a_single_file_is_that_of_its_text(tmp_path: Path) -> None:
    more = {"plain": "import os, torch, numpy as np, pandas\nfrom sklearn import metrics\nLOSSES = {'a': print}"}
    for name, text in (EXAMPLES | more).items():
        (tmp_path / name).write_text(text)
        [one] = plugin.read([str(tmp_path / name)])
        assert (one.files, one.packages) == ((), ())
        assert one.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_with_the_name_of_a_library_does_not_stand_for_it(tmp_path: Path) -> None:
    """`timm.py`, which brings models of timm's, and another one that imports timm too."""
    text = "import timm, json\nLOSSES = {NAME: lambda *_: timm.__name__ + json.dumps(1)}"
    write(
        tmp_path,
        timm=text.replace("NAME", "'mine'"),
        other=text.replace("NAME", "'other'"),
        json="LOSSES = {'j': print}",
    )
    for one in used(tmp_path / "timm.py", tmp_path / "other.py", tmp_path / "json.py"):
        assert one.digest == hashlib.sha256((tmp_path / one.name).read_bytes()).hexdigest()
    assert value() == value("other") == "timm1"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where packages are installed: `ext` of the package ext-losses 1.0."""
    place = tmp_path / "site"
    write(place, ext="N = 1\nLOSSES = {'mine': lambda *_: N}\n")
    installed = place / "ext_losses-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: Ext.Losses\nVersion: 1.0\n")
    (installed / "top_level.txt").write_text("ext\n")
    monkeypatch.syspath_prepend(place)
    known = plugin_modules._installed()
    monkeypatch.setattr(plugin_modules, "_installed", lambda: known | {place})
    packages.of.cache_clear()
    return installed


def test_installed_packages_enter_by_name_and_version(installed: Path, tmp_path: Path) -> None:
    write(tmp_path, my="def mine(*_):\n    import ext\n    return ext.N\nLOSSES = {'mine': mine}")
    first = used(tmp_path / "my.py")
    assert (first[0].packages, value()) == ((("ext-losses", "1.0"),), 1)
    by_name = used("ext")
    assert (by_name[0].packages, by_name[0].files, value()) == ((("ext-losses", "1.0"),), (), 1)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: Ext.Losses\nVersion: 1.1\n")
    packages.of.cache_clear()
    plugin.use(())
    for old, word in ((first, tmp_path / "my.py"), (by_name, "ext")):
        with pytest.raises(ConfigError, match=r"was read with ext-losses 1\.0, but 1\.1 is installed here"):
            plugin.use(old)
        assert plugin.read([str(word)])[0].digest != old[0].digest


def test_a_package_from_a_checkout_enters_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "src/extra", __init__="from extra.deep import LOSSES", deep="LOSSES = {'mine': lambda *_: 4}")
    write(tmp_path, my="import extra\nLOSSES = {'other': extra.LOSSES['mine']}")
    monkeypatch.syspath_prepend(tmp_path / "src")
    with pytest.raises(ConfigError, match='loads the module "extra'):
        used(tmp_path / "my.py")
    [one] = used("extra")
    assert ([path for path, _ in one.files], value()) == (["deep.py"], 4)
    mine, _ = used(tmp_path / "my.py", "extra")
    assert ([path for path, _ in mine.files], value("other")) == (["extra/__init__.py", "extra/deep.py"], 4)
    with pytest.raises(ConfigError, match="plug-in nowhere is neither a file, nor a folder, nor an installed package"):
        plugin.read(["nowhere"])


def test_numbers_in_a_file_beside_the_code_travel(tmp_path: Path) -> None:
    text = "import json, pkgutil\nN = json.loads(pkgutil.get_data(__name__, 'n.json'))\nLOSSES = {'mine': lambda *_: N}"
    folder = write(tmp_path / "own", __init__=text)
    (folder / "n.json").write_text(json.dumps([1, 2]))
    [first] = used(folder)
    assert value() == [1, 2]
    (folder / "n.json").write_text(json.dumps([1, 3]))
    assert plugin.read([str(folder)])[0].digest != first.digest


WRONG = {
    "a line of a file inside": (
        {"my": "import helper", "helper": "\n1 / 0"},
        r"plug-in own/helper\.py, line 2: ZeroDiv",
    ),
    "no Python in a file inside": ({"my": MY, "helper": "\n("}, r"plug-in own/helper\.py, line 2: SyntaxError"),
    "no table": ({"my": "import helper", "helper": ""}, "own defines none of BACKBONES"),
    "a name in two files": ({"a": "LOSSES = {'x': print}", "b": "LOSSES = {'x': max}"}, 'the loss "x" in two files'),
    "a module that is missing": (
        {"my": "from . import gone\nLOSSES = {'x': gone}"},
        "cannot import name 'gone' from 'own'",
    ),
    "no file": ({}, "has no Python file in it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder_is_one_error(case: str, tmp_path: Path) -> None:
    files, said = WRONG[case]
    if case in ("a line of a file inside", "no Python in a file inside"):
        files = files | {"my": files["my"] + "\nLOSSES = {'x': print}"}
    folder = write(tmp_path / "own", **files)
    folder.mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match=said) as told:
        used(folder)
    assert "\n" not in str(told.value)
    assert registry.plugins() == ()


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    write(tmp_path, my="LOSSES = {'x': print}")
    (tmp_path / "data").write_bytes(bytes(plugin.MAX_FOLDER))
    with pytest.raises(ConfigError, match="more than 4,194,304 bytes"):
        plugin.read([str(tmp_path)])
