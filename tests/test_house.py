"""The house rules that neither ruff nor mypy knows: layers, sole importers, sizes, captions, what is imported when."""

import ast
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Layer of each module, by its longest prefix. Imports point down, or sideways without a cycle.
LAYERS = {
    "dfloc": 0,
    "dfloc.data": 2,
    **dict.fromkeys((f"dfloc.data.{name}" for name in ("dolos", "exif", "generators", "manifest", "masks")), 1),
    **dict.fromkeys((f"dfloc.data.{name}" for name in ("alignment", "folder_pairs", "folders", "leakage", "mini")), 1),
    **dict.fromkeys((f"dfloc.data.{name}" for name in ("mask_matching", "mixture", "originals", "sample_table")), 1),
    **dict.fromkeys((f"dfloc.data.{name}" for name in ("source_images", "split_shares", "table_files")), 1),
    "dfloc.models": 2,
    **dict.fromkeys((f"dfloc.models.{name}" for name in ("answers", "base", "baselines", "decoders", "parts")), 1),
    **dict.fromkeys((f"dfloc.{name}" for name in ("losses", "metrics")), 1),
    "dfloc.features": 2,
    **dict.fromkeys(
        (f"dfloc.{name}" for name in ("engine", "ledger", "summary", "projection", "run_layout", "tracking")), 3
    ),
    **dict.fromkeys((f"dfloc.{name}" for name in ("objective", "parent_run", "tracking_store", "tracking_uri")), 3),
    "dfloc.report": 4,
    "dfloc.doctor": 5,
    "dfloc.sweep": 5,
    "dfloc.cli": 6,
    "dfloc.__main__": 6,
    "dfloc.notebook": 6,
}
GROUND_FLOOR = {
    *("arithmetic", "augmentation", "axis", "backbones", "checks", "components", "config", "database_uri", "digests"),
    "disk",
    *("driver_notes", "epochs", "errors", "frozen"),
    *("identity", "ids", "lock", "logfile", "measures", "memory", "mlflow_names", "outcome", "owner", "packages"),
    *("planned", "plugin", "plugin_modules", "ray_log", "record", "registry", "repro", "rows_file", "screen"),
    *("shutdown", "storage", "supervisor", "temp", "trial_names", "worker_check", "workers"),
}

# Who alone may import a library, or a part of it.
SOLE_IMPORTERS = {
    "ray": ("dfloc.workers", "dfloc.worker_check", "dfloc.data.importer", "dfloc.features.extract", "dfloc.sweep"),
    "ray.init": ("dfloc.workers",),
    "ray.shutdown": ("dfloc.workers",),
    "ray.data": ("dfloc.workers", "dfloc.data.importer", "dfloc.features.extract"),
    "ray.tune": ("dfloc.sweep.tuning",),
    "mlflow": ("dfloc.tracking_store",),
    "click": ("dfloc.cli",),
    "matplotlib": ("dfloc.report.draw", "dfloc.report.sheet", "dfloc.report.svg"),
    "open_clip": ("dfloc.models.clip", "dfloc.models.hub", "dfloc.models.towers"),
    "huggingface_hub": ("dfloc.models.hub",),
    "sam2": ("dfloc.models.sam2",),
    "hydra": ("dfloc.models.sam2",),
    "timm": ("dfloc.models.timm_library",),
    "captum": ("dfloc.models.explain",),
    "segmentation_models_pytorch": ("dfloc.losses", "dfloc.models.encoders"),
    "optuna": ("dfloc.sweep.sampler",),
    "sklearn": ("dfloc.metrics.neighbours",),
    "jinja2": ("dfloc.report.render",),
}
IN_PARTS = {library.partition(".")[0] for library in SOLE_IMPORTERS if "." in library}
HEAVY = ("torch", "ray", "mlflow", "pandas", "pyarrow", "sklearn", "matplotlib")

MAX_FILE, MAX_FUNCTION, MIN_TESTS = 350, 40, 0.6

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "dfloc").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported anywhere in a module, and `library.part` where a part is only reached by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in IN_PARTS:
            yield f"{node.value.id}.{node.attr}"


def _modules_imported(name: str) -> set[str]:
    """Return the modules of dfloc that one imports."""
    found = set()
    for target in _imported(TREES[name]):
        if _under(target, "dfloc"):
            found.add(target if target in MODULES else target.rpartition(".")[0])
    return found - {name}


def _layer(name: str) -> int:
    return LAYERS[max((prefix for prefix in LAYERS if _under(name, prefix)), key=len)]


def _functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def _length(function: Function) -> int:
    """Return a function's lines without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return lines


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other, the first one again at the end; empty where none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_an_import_is_seen_wherever_it_stands() -> None:
    code = "import ray\nfrom a.b import c\ndef f():\n    import dfloc.x as y\n    return ray.data.from_items"
    assert {"ray", "ray.data", "a.b.c", "dfloc.x"} <= set(_imported(ast.parse(code)))


def test_every_module_of_the_ground_floor_is_named() -> None:
    lowest = {name for name in MODULES if _layer(name) == 0} - {"dfloc"}
    assert {name.removeprefix("dfloc.") for name in lowest} <= GROUND_FLOOR


def test_a_metric_is_spelled_where_metrics_are_defined_and_where_tables_are_published() -> None:
    own = {f"dfloc.metrics.{name}" for name in ("metric", "declip", "dolos", "native", "validation")} | {
        "dfloc.measures"
    }
    found = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if name not in own and not _under(name, "dfloc.report.formulas")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"(^|/)iou$", node.value))
        or (isinstance(node, ast.Attribute) and node.attr == "iou")
    ]
    assert found == []


def test_imports_point_down() -> None:
    upward = [
        f"{name} (layer {_layer(name)}) imports {target} (layer {_layer(target)})"
        for name in MODULES
        for target in _modules_imported(name)
        if _layer(target) > _layer(name)
    ]
    assert upward == []


def test_imports_make_no_cycle() -> None:
    assert _cycle({name: _modules_imported(name) for name in MODULES}) == []


def test_a_cycle_is_found() -> None:
    assert {*_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})} == {"b", "c"}


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_sole_importers(library: str) -> None:
    allowed = SOLE_IMPORTERS[library]
    importers = {name for name, tree in TREES.items() if any(_under(target, library) for target in _imported(tree))}
    assert {name for name in importers if not any(_under(name, prefix) for prefix in allowed)} == set()


@pytest.mark.parametrize("line", ["import dfloc.cli", "sys.argv[1:] = ['--help']; import dfloc.cli; dfloc.cli.main()"])
def test_the_command_line_starts_without_heavy_libraries(line: str) -> None:
    code = f"import atexit, sys; atexit.register(lambda: print('LOADED', *(set(sys.modules) & set({HEAVY!r})))); {line}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


@pytest.mark.parametrize("module", ["dfloc", "dfloc.cli"])
def test_the_command_line_starts_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Run studies of deepfake localization" in done.stdout


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_are_short() -> None:
    lengths = {f"{name}.{one.name}": _length(one) for name, tree in TREES.items() for one in _functions(tree)}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}


def test_every_module_has_a_caption() -> None:
    captions = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in TREES.items()}
    assert [name for name, caption in captions.items() if not caption.endswith(".")] == []


def test_contributing_has_every_module() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text().partition("### File by file")[2].partition("## House rules")[0]
    told = set(re.findall(r"\w+", tree))
    own = {name for name in MODULES if not any(_under(name, f"dfloc.{part}") for part in ("cli", "doctor", "report"))}
    assert {name for name in own if not name.endswith("__main__") and name.rpartition(".")[2] not in told} == set()


def test_errands_name_files_that_are_there() -> None:
    errands = (ROOT / "CONTRIBUTING.md").read_text().partition("## Seven errands")[2].partition("\n## ")[0]
    paths = [path for path in re.findall(r"`([\w/]+\.(?:py|css))`", errands) if "/" in path or path != "work.py"]
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / "dfloc" / path).exists() and not (ROOT / path).exists()] == []


def test_a_type_name_has_one_meaning_in_a_package() -> None:
    places = defaultdict(set)
    for name, tree in TREES.items():
        package = name.split(".")[1] if name.count(".") > 1 else ""
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places[package, node.name.lstrip("_")].add(name)
            elif isinstance(node, ast.Assign) and re.fullmatch("([A-Z][a-z]+)+", alias := ast.unparse(node.targets[0])):
                places[package, alias].add(ast.unparse(node.value))  # an alias may be said again, as the same
    assert {key: names for key, names in places.items() if len(names) > 1} == {}


def test_every_function_says_what_it_returns() -> None:
    assert [f"{name}.{one.name}" for name, tree in TREES.items() for one in _functions(tree) if _unsaid(one)] == []


def _unsaid(function: Function) -> bool:
    return function.returns is None and function.name != "__init__"


def test_nothing_is_printed_and_nothing_left_to_do() -> None:
    calls = (
        (name, node.func.id)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    assert [name for name, called in calls if called == "print"] == []
    marker = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    assert [path.name for path in MODULES.values() if marker.search(path.read_text())] == []


def test_tests_are_at_least_three_fifths_of_the_source() -> None:
    source, tests = (
        sum(len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py"))
        for folder in ("dfloc", "tests")
    )
    assert tests >= MIN_TESTS * source


def test_no_file_names_a_place_of_one_machine() -> None:
    places = re.compile(rb"(?<![\w.}])/(" + b"|".join((b"work", b"root", b"tmp")) + rb")/\w")
    tracked = (path for path in _tracked() if path.suffix not in (".png", ".npy", ".safetensors"))
    found = {str(path.relative_to(ROOT)): places.search(path.read_bytes()) for path in tracked}
    assert {name: match.group() for name, match in found.items() if match} == {}


def test_no_file_has_a_merge_left_in_it() -> None:
    marks = re.compile(rb"^(<{7} |={7}$|>{7} |[|]{7} )", re.MULTILINE)
    assert [str(path.relative_to(ROOT)) for path in _tracked() if marks.search(path.read_bytes())] == []


def test_constraints_pin_every_dependency_exactly_and_name_no_host() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    needed = re.findall(r'"([A-Za-z][\w-]*)(?:\[[\w,]+\])?(?:[<>=][^"]*)?"', _dependencies())
    assert len(needed) > 20
    assert {name.lower().replace("_", "-") for name in needed} - pinned == set()


def _dependencies() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    runtime = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    return runtime + text.partition("\ndev = [")[2].partition("]\n")[0]


def test_torch_and_torchvision_are_the_pair_that_fits() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.2")


def test_a_worker_and_a_driver_start_without_the_libraries_of_models() -> None:
    heavy = (
        "open_clip",
        "torchvision",
        "timm",
        "segmentation_models_pytorch",
        "sam2",
        "optuna",
        "mlflow",
        "matplotlib",
    )
    code = f"import sys, dfloc.sweep.run, dfloc.sweep.work; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("spec", ["name='conv', init='declip'", "name='attention', init='declip'"])
def test_the_size_of_a_decoder_is_known_without_pytorch_s_compiler(spec: str) -> None:
    reads = "MapSpec(64, 4, 4, 'tokens' if 'attention' in spec.name else 'grid')"
    code = (
        "import sys; from dfloc.config import DecoderSpec; from dfloc.models.decoders import weight_bytes; "
        f"from dfloc.registry import MapSpec; spec = DecoderSpec({spec}); "
        f"print(weight_bytes(spec, ({reads},)) > 0, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
