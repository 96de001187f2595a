"""A user's own Python file of backbones, decoders, losses and mini generators: `--plugin my.py`."""

import hashlib
import linecache
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dfloc import registry
from dfloc.errors import ConfigError
from dfloc.registry import Added, BackboneRow, Kind

# What a file may define: table -> kind. Each is a mapping from names to what makes them.
TABLES: Mapping[str, Kind] = {
    "BACKBONES": "backbone",
    "DECODERS": "decoder",
    "LOSSES": "loss",
    "GENERATORS": "generator",
}
MAX_BYTES = 1 << 20


class Plugin(NamedTuple):
    """A file, as it travels to the workers: its name, for messages, and its text."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """What enters the recipes and specs that name something of it: sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read(paths: Sequence[str]) -> tuple[Plugin, ...]:
    """Read files.

    Raises:
        ConfigError: one is missing, too large or no text.
    """
    return tuple(_read(Path(path)) for path in paths)


def use(plugins: Sequence[Plugin]) -> None:
    """Run files in this process and put what they define beside the built-in names, instead of what earlier ones did.

    A file is trusted as any Python file that one runs.

    Raises:
        ConfigError: a file does not run, defines none of the tables, or takes a name that is taken.
    """
    if tuple(plugins) == registry.plugins():
        return
    added: dict[tuple[Kind, str], Added] = {}
    for plugin in plugins:
        for key, what in _defined(plugin).items():
            if key in added:
                raise ConfigError(f'plug-in {plugin.name} defines the {key[0]} "{key[1]}" that another one has already')
            added[key] = what
    registry.plug(tuple(plugins), added)


def _read(path: Path) -> Plugin:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"plug-in {path} has more than {MAX_BYTES:,} bytes; expected a Python file")
        return Plugin(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"plug-in {path} cannot be read as a Python file: {error}") from error


def _defined(plugin: Plugin) -> dict[tuple[Kind, str], Added]:
    module = _run(plugin)
    tables = {kind: getattr(module, table) for table, kind in TABLES.items() if hasattr(module, table)}
    if not any(tables.values()):
        raise ConfigError(f"plug-in {plugin.name} defines none of {', '.join(TABLES)}; docs/PLUGINS.md has an example")
    found = {}
    for kind, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"plug-in {plugin.name}: the {kind}s should be a mapping from names, not {table!r}")
        for name, value in table.items():
            found[kind, str(name)] = Added(_checked(plugin, kind, str(name), value, module), plugin.digest)
    return found


def _checked(plugin: Plugin, kind: Kind, name: str, value: Any, module: ModuleType) -> Any:
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


def _run(plugin: Plugin) -> ModuleType:
    name = f"dfloc_plugin_{plugin.digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = plugin.name
    linecache.cache[plugin.name] = (len(plugin.text), None, plugin.text.splitlines(keepends=True), plugin.name)
    sys.modules[name] = module
    try:
        exec(compile(plugin.text, plugin.name, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = getattr(error, "lineno", None) or _line(error, plugin.name)
        reason = " ".join(str(error).split())
        raise ConfigError(f"plug-in {plugin.name}, line {line}: {type(error).__name__}: {reason}") from error
    return module


def _line(error: BaseException, file: str) -> int:
    """Return the last line of the file that an error passed."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
