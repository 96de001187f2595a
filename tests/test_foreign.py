"""No file from outside is executed: the calls that could do so stand nowhere in dfloc, or in a named place."""

import ast
from collections.abc import Iterator

import pytest

from tests.test_house import TREES

# What runs what it reads, and what reads it so when it is not told otherwise.
RUNS = {
    *(f"torch.{name}" for name in ("jit.load", "hub.load", "hub.load_state_dict_from_url", "package.PackageImporter")),
    *(f"{library}.{name}" for library in ("pickle", "dill", "cloudpickle", "joblib") for name in ("load", "Unpickler")),
    *("dill.loads", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle"),
    *("yaml.unsafe_load", "yaml.full_load", "runpy.run_path", "open_clip.create_model", "open_clip.load_checkpoint"),
    *("pickle.loads", "exec", "eval"),
}
# Where one of them may stand: what dfloc's own workers sent comes back through Ray, and a plug-in is meant to be run.
ALLOWED = {
    ("dfloc.data.importer", "pickle.loads"),
    ("dfloc.features.extract", "pickle.loads"),
    ("dfloc.plugin_modules", "exec"),
}
SAFE = {"torch.load": ("weights_only", True), "yaml.load": ("Loader", "CSafeLoader")}


def dotted(tree: ast.AST) -> Iterator[tuple[str, ast.AST, ast.Call | None]]:
    """Yield every name that stands for a library's, in full, where it stands, and the call if it is called."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                each.asname or each.name.partition(".")[0]: each.name if each.asname else "" for each in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            yield from ((f"{node.module}.{each.name}", node, None) for each in node.names)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, tail = ast.unparse(node).partition(".")
            yield (known.get(head) or head) + dot + tail, node, calls.get(id(node))


def forbidden(tree: ast.AST) -> set[str]:
    found = set()
    for name, node, call in dotted(tree):
        given = {each.arg: each.value for each in call.keywords} if call else {}
        unsafe = (
            name in SAFE and not isinstance(node, ast.ImportFrom) and not _is(given.get(SAFE[name][0]), SAFE[name][1])
        )
        if name in RUNS or unsafe or ("allow_pickle" in given and not _is(given["allow_pickle"], False)):
            found.add(name)
    return found


def _is(node: ast.AST | None, value: object) -> bool:
    return (
        getattr(node, "value", None) is value
        if isinstance(node, ast.Constant)
        else getattr(node, "attr", None) == value
    )


def test_no_call_runs_a_file() -> None:
    found = {(module, name) for module, tree in TREES.items() for name in forbidden(tree)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import torch\ntorch.jit.load(path)", "torch.jit.load"),
        ("from torch import jit\njit.load(path)", "torch.jit.load"),
        ("from torch.jit import load as read\nread(path)", "torch.jit.load"),
        ("import torch.jit as j\nread = j.load", "torch.jit.load"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=safe)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("from torch import load\nload(path)", "torch.load"),
        ("import pickle\npickle.load(file)", "pickle.load"),
        ("from pickle import Unpickler\nclass U(Unpickler): pass", "pickle.Unpickler"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=yes)", "numpy.load"),
        ("import yaml\nyaml.load(text, yaml.Loader)", "yaml.load"),
        ("eval(text)", "eval"),
    ],
)
def test_what_is_forbidden_is_seen(code: str, name: str) -> None:
    assert forbidden(ast.parse(code)) == {name}


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(path, weights_only=True, mmap=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)",
        "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import safetensors.torch\nsafetensors.torch.load(data)\nmodel.eval()",
    ],
)
def test_what_runs_nothing_is_not_forbidden(code: str) -> None:
    assert forbidden(ast.parse(code)) == set()
