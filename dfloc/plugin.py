"""A user's own Python files of backbones, decoders, losses and more: `--plugin my.py`."""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dfloc import packages, registry
from dfloc.errors import ConfigError, DflocError
from dfloc.plugin_modules import PREFIX, ROOT, PluginLoader, decoded, elsewhere, is_installed
from dfloc.registry import Added, BackboneRow, ComponentKind

# What a plug-in may define: table -> kind. Each is a mapping from names to what makes them.
TABLES: Mapping[str, ComponentKind] = {
    "BACKBONES": "backbone",
    "DECODERS": "decoder",
    "LOSSES": "loss",
    "OPTIMIZERS": "optimizer",
    "SCHEDULES": "schedule",
    "PROTOCOLS": "protocol",
    "GENERATORS": "generator",
}
MAX_BYTES = 1 << 20
MAX_FOLDER = 1 << 22


class Plugin(NamedTuple):
    """A file or a folder, as it travels to the workers.

    Attributes:
        name: for messages: of the file, with `.py`, or of the folder.
        text: of the file, or of the folder's `__init__.py`.
        files: path and content of all else that it brings.
        packages: name and version of what it imports that is installed, but not with dfloc; "none": it is not.
    """

    name: str
    text: str
    files: tuple[tuple[str, bytes], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """What enters the recipes and specs that name something of it: sha256; of a single file, that of its text."""
        if not self.files and not self.packages:
            return hashlib.sha256(self.text.encode()).hexdigest()
        files = {path: hashlib.sha256(content).hexdigest() for path, content in self.files}
        whole = json.dumps([self.text, files, dict(self.packages)], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


def read(words: Sequence[str]) -> tuple[Plugin, ...]:
    """Read plug-ins. Of several, one may import another: then the other is part of it too.

    Args:
        words: files, folders, or names of installed packages.

    Raises:
        ConfigError: one is missing, too large or no text, two have one name, or one imports what lies elsewhere.
    """
    named: dict[str, Plugin] = {}
    for plugin in map(_read, words):
        name = plugin.name.removesuffix(".py")
        if named.setdefault(name, plugin) != plugin:
            raise ConfigError(f"two plug-ins are called {name}; give one another name, or name their folders")
    joined = {name: _joined(name, named) for name in named}
    used = {path.partition("/")[0].removesuffix(".py") for name in named for path, _ in joined[name].files}
    for plugin in joined.values():
        _check(plugin)
    return tuple(
        plugin._replace(packages=_packages(plugin))
        for name, plugin in joined.items()
        if name not in used or any(_tables(text) for _, text in _texts(named[name]))
    )


def use(plugins: Sequence[Plugin]) -> None:
    """Run plug-ins in this process and put what they define beside the built-in names, instead of what was there.

    They are trusted as any Python file that one runs.

    Raises:
        ConfigError: one does not run, loads what `--plugin` does not name, defines none of the tables, or takes a name
            that is taken; or a package has another version here than where the plug-in was read.
    """
    if tuple(plugins) == registry.plugins():
        return
    added: dict[tuple[ComponentKind, str], Added] = {}
    for plugin in plugins:
        for key, what in _defined(plugin).items():
            if key in added:
                raise ConfigError(f'plug-in {plugin.name} defines the {key[0]} "{key[1]}" that another one has already')
            added[key] = what
    registry.plug(tuple(plugins), added)


def _read(word: str) -> Plugin:
    if not word.strip():
        raise ConfigError("--plugin has an empty name; expected a Python file, a folder or a package")
    try:
        path = Path(word).expanduser()
        if path.is_dir():
            return _folder(path)
        if not path.exists() and word.isidentifier():
            return _package(word)
        if path.exists() and not path.is_file():
            raise ConfigError(f"plug-in {path} is no regular file; expected a Python file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"plug-in {path} has more than {MAX_BYTES:,} bytes; expected a Python file")
        return Plugin(path.name, decoded(content).replace("\r\n", "\n").replace("\r", "\n"))
    except (OSError, ValueError, ImportError, SyntaxError, RuntimeError) as error:
        raise ConfigError(f"plug-in {word} cannot be read as a Python file: {error}") from error


def _folder(path: Path) -> Plugin:
    """Read all files of a folder but hidden and compiled ones."""
    files, size = {}, 0
    for each in path.rglob("*"):
        inside = each.relative_to(path)
        if any(part.startswith(".") or part == "__pycache__" for part in inside.parts) or not each.is_file():
            continue
        size += each.stat().st_size
        if size > MAX_FOLDER:
            raise ConfigError(f"plug-in {path} has more than {MAX_FOLDER:,} bytes; expected a folder of Python files")
        files[inside.as_posix()] = each.read_bytes()
    if not any(name.endswith(".py") for name in files):
        raise ConfigError(f"plug-in {path} has no Python file in it")
    text = decoded(files.pop(ROOT, b""))
    return Plugin(path.resolve().name, text, tuple(sorted(files.items())))


def _package(name: str) -> Plugin:
    """Read a package by its name; one that is installed stays where it is, and its version stands for it."""
    path = _place(name)
    if path is None:
        raise ConfigError(f"plug-in {name} is neither a file, nor a folder, nor an installed package")
    if not is_installed(path):
        return _folder(path.parent) if path.name == ROOT else _read(str(path))
    take = "globals().update({name: value for name, value in vars(own).items() if not name.startswith('__')})"
    return Plugin(f"{name}, installed", f"import {name} as own\n{take}\n")


def _place(name: str) -> Path | None:
    """Return the file of a module that can be imported, or the folder of one that has none."""
    try:
        spec = find_spec(name)
    except ValueError:  # it is loaded, but not from a file
        return None
    if spec is None or (spec.origin and not spec.has_location):
        return None
    return next((Path(place) for place in (spec.origin, *(spec.submodule_search_locations or ())) if place), None)


def _joined(name: str, named: Mapping[str, Plugin]) -> Plugin:
    """Return a plug-in with all of the others that it imports, and that those import."""
    whole = named[name]
    files, waiting = dict(whole.files), [name]
    while waiting:
        inside = {path.partition("/")[0].removesuffix(".py") for path in files} | {name}
        for other in sorted(_imports(named[waiting.pop()]) & named.keys() - inside):
            place = _place(other)
            if other in sys.stdlib_module_names or (place and is_installed(place)):
                continue  # a plug-in timm.py does not stand for timm
            brings = named[other]
            if brings.name.endswith(".py"):
                files[brings.name] = brings.text.encode()
            else:
                files |= {f"{other}/{path}": content for path, content in ((ROOT, brings.text.encode()), *brings.files)}
            waiting.append(other)
    return whole._replace(files=tuple(sorted(files.items())))


def _texts(plugin: Plugin) -> list[tuple[str, str]]:
    more = [(path, content.decode("utf-8-sig", "replace")) for path, content in plugin.files if path.endswith(".py")]
    return [(ROOT, plugin.text), *more]


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):  # which running it will tell
        return ast.Module([], [])


def _imports(plugin: Plugin) -> set[str]:
    """Return the first names of all modules that are imported anywhere in a plug-in's files."""
    found: set[str] = set()
    for _, text in _texts(plugin):
        for node in ast.walk(_parsed(text)):
            if isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                found |= {str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant)}
    return {name.partition(".")[0] for name in found} - {""}


def _tables(text: str) -> set[str]:
    """Return the tables that a file assigns."""
    return {
        target.id
        for node in _parsed(text).body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Name) and target.id in TABLES
    }


def _foreign(plugin: Plugin) -> set[str]:
    """Return the first names of what a plug-in imports that is neither its own, nor Python's, nor dfloc's."""
    inside = {path.partition("/")[0].removesuffix(".py") for path, _ in plugin.files}
    return _imports(plugin) - inside - sys.stdlib_module_names - {"dfloc", plugin.name}


def _check(plugin: Plugin) -> None:
    """Return if what a plug-in imports, be it when it is used, lies where it may: its workers might find another."""
    for head in sorted(_foreign(plugin)):
        if (place := _place(head)) and not is_installed(place):
            raise elsewhere(plugin.name, head, str(place))


def _packages(plugin: Plugin) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({pair for head in _foreign(plugin) for pair in packages.of(head)}))


def _defined(plugin: Plugin) -> dict[tuple[ComponentKind, str], Added]:
    for name, version in plugin.packages:
        if (here := packages.version(name)) != version:
            raise ConfigError(f"plug-in {plugin.name} was read with {name} {version}, but {here} is installed here")
    found: dict[tuple[ComponentKind, str], Added] = {}
    for module in _modules(plugin):
        tables = {kind: getattr(module, table) for table, kind in TABLES.items() if hasattr(module, table)}
        for kind, table in tables.items():
            if not isinstance(table, Mapping):
                raise ConfigError(f"plug-in {plugin.name}: the {kind}s should be a mapping from names, not {table!r}")
            for name, value in table.items():
                if (kind, str(name)) in found:
                    raise ConfigError(f'plug-in {plugin.name} defines the {kind} "{name}" in two files')
                found[kind, str(name)] = Added(_checked(plugin, kind, str(name), value, module), plugin.digest)
    if not found:
        raise ConfigError(f"plug-in {plugin.name} defines none of {', '.join(TABLES)}; docs/PLUGINS.md has an example")
    return found


def _checked(plugin: Plugin, kind: ComponentKind, name: str, value: Any, module: ModuleType) -> Any:
    """Return what a name stands for, with a backbone's factory looked up in its file."""
    where = f'plug-in {plugin.name}: {kind} "{name}"'
    if kind in registry.FACTORIES and name in registry.FACTORIES[kind]:
        raise ConfigError(f"{where} is a built-in name; choose another")
    if not re.fullmatch(r"[^\s/:,=]+", name):
        where = f"plug-in {plugin.name}: {kind} {name!r}"
        raise ConfigError(f"{where} cannot be used: a name has no slash, colon, comma, equals sign or space")
    if kind != "backbone":
        if not callable(value):
            raise ConfigError(f"{where} should be a function, but it is {value!r}")
        return value
    if not isinstance(value, BackboneRow):
        raise ConfigError(f"{where} should be a dfloc.registry.BackboneRow, but it is {value!r}")
    factory: Callable[..., Any] | None = getattr(module, str(value.factory), None)
    if not callable(factory):
        raise ConfigError(f'{where}: the file has no function "{value.factory}", its factory')
    return value, factory


def _modules(plugin: Plugin) -> list[ModuleType]:
    """Return the modules that may define tables: the first one, else those of a folder that assign some."""
    files = {ROOT: plugin.text.encode(), **dict(plugin.files)}
    code = PluginLoader(f"{PREFIX}{plugin.digest[:12]}", plugin.name, files)
    try:
        found = code.load([ROOT])
        if not plugin.name.endswith(".py") and not any(hasattr(found[0], table) for table in TABLES):
            found = code.load([path for path, text in _texts(plugin) if "/" not in path and _tables(text)])
        return found
    except DflocError:
        raise
    except (Exception, SystemExit) as error:
        places = [*_passed(error, {code.shown(path) for path in files}), (code.shown(ROOT), 0)]
        file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else places[0]
        reason = " ".join(str(error).split()).replace(code.root, plugin.name.removesuffix(".py"))
        cure = "; if it is yours, name it by --plugin too" if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(f"plug-in {file}, line {line}: {type(error).__name__}: {reason}{cure}") from error


def _passed(error: BaseException, files: Collection[str]) -> list[tuple[str, int]]:
    """Return the lines of files that an error passed, the last one first."""
    found: list[tuple[str, int]] = []
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename in files:
            found.insert(0, (trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found
