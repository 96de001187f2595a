"""The modules of a plug-in: served from memory under a name of their own; what they load from elsewhere is checked."""

import builtins
import importlib
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, resolve_name
from pathlib import Path
from types import ModuleType

from dfloc.errors import ConfigError

PREFIX = "dfloc_plugin_"
ROOT = "__init__.py"


class PluginLoader(MetaPathFinder, ExecutionLoader):
    """Files as modules, all below one root: two plug-ins may have a `helper` each, and so may two states of one.

    Args:
        root: name of the module of `__init__.py`, begins with `PREFIX`.
        name: what messages call it: a file or a folder.
        files: content by path; `__init__.py` of a folder that has none is empty.
    """

    def __init__(self, root: str, name: str, files: Mapping[str, bytes]):
        self.root, self.name, self.files = root, name, files
        self._own = name.removesuffix(".py")

    def load(self, paths: Sequence[str]) -> list[ModuleType]:
        """Return modules by their paths; each is run once in a process.

        Raises:
            ConfigError: one loads a module that lies neither here nor where Python's and dfloc's are installed.
            Exception: whatever the code raises.
        """
        if all(getattr(finder, "root", "") != self.root for finder in sys.meta_path):
            sys.meta_path.append(self)
        before = set(sys.modules)
        try:
            found = [importlib.import_module(self._named(path)) for path in paths]
            for name in set(sys.modules) - before:
                self._check(name)
        except BaseException:
            for name in set(sys.modules) - before:  # so that they are seen again
                if _below(name, self.root) or _elsewhere(name):
                    del sys.modules[name]
            raise
        return found

    def shown(self, path: str) -> str:
        """Return what messages call a file."""
        return self.name if self.name.endswith(".py") and path == ROOT else f"{self._own}/{path}"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module of these files is made; None for any other."""
        if not self._path(fullname):
            return None
        return ModuleSpec(fullname, self, origin=self.get_filename(fullname), is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Return whether modules may stand below one."""
        return self._path(fullname).endswith(ROOT) and not (self.name.endswith(".py") and len(self.files) == 1)

    def get_filename(self, fullname: str) -> str:
        """Return what messages call a module's file."""
        return self.shown(self._path(fullname))

    def get_source(self, fullname: str) -> str:
        """Return a module's text."""
        return decoded(self.files.get(self._path(fullname), b""))

    def get_data(self, path: str) -> bytes:
        """Return a file that lies beside the modules, for `pkgutil.get_data`."""
        return self.files[path.removeprefix(f"{self._own}/")]

    def exec_module(self, module: ModuleType) -> None:
        """Run a module, whose `import` knows these files."""
        module.__file__ = self.get_filename(module.__name__)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        exec(compile(self.get_source(module.__name__), module.__file__, "exec"), vars(module))

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        head, _, tail = name.partition(".")
        own = "" if level else self._inside(head)
        if own:
            full = f"{own}.{tail}" if tail else own
            module = builtins.__import__(full, globals, locals, fromlist or ("__name__",))
            return module if fromlist else sys.modules[own]
        module = builtins.__import__(name, globals, locals, fromlist or (), level)
        if not level:
            for each in (head, name, *(f"{name}.{item}" for item in fromlist or ())):
                self._check(each)
        return self._importlib() if module is importlib else module

    def _importlib(self) -> ModuleType:
        """Return importlib as these files see it: it imports as their own `import` does."""
        seen = ModuleType(importlib.__name__, importlib.__doc__)
        vars(seen).update(vars(importlib), import_module=self._import_module, __import__=self._import)
        return seen

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        return self._import(resolve_name(name, package) if name.startswith(".") else name, fromlist=("__name__",))

    def _inside(self, head: str) -> str:
        """Return the full name of what these files call so; "" where it is none of theirs."""
        folder = not self.name.endswith(".py")
        if head == self._own and folder:
            return self.root
        taken = folder and bool(self.files.get(ROOT)) and head in sys.stdlib_module_names
        return f"{self.root}.{head}" if self._path(f"{self.root}.{head}") and not taken else ""

    def _named(self, path: str) -> str:
        return self.root if path == ROOT else f"{self.root}.{path.removesuffix('.py').replace('/', '.')}"

    def _path(self, fullname: str) -> str:
        """Return the file of a module, of a folder its `__init__.py`; "" where there is none."""
        if fullname == self.root:
            return ROOT
        if not _below(fullname, self.root):
            return ""
        stem = fullname.removeprefix(f"{self.root}.").replace(".", "/")
        if f"{stem}.py" in self.files:
            return f"{stem}.py"
        return f"{stem}/{ROOT}" if any(path.startswith(f"{stem}/") for path in self.files) else ""

    def _check(self, name: str) -> None:
        """Return if a module, where it is loaded, lies where it may."""
        if (place := _elsewhere(name)) and not name.startswith(PREFIX):
            raise elsewhere(self.name, name, place)


def elsewhere(plugin: str, module: str, place: str) -> ConfigError:
    """Return the error of a plug-in that imports a module from a place where none may lie."""
    return ConfigError(
        f'plug-in {plugin} loads the module "{module}" from {place}, which is not in what --plugin names; '
        "name both, or a folder with both in it"
    )


def decoded(content: bytes) -> str:
    """Return the text of a Python file: UTF-8, or what its first lines say.

    Raises:
        SyntaxError: it is in neither.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return decode_source(content)


def _elsewhere(name: str) -> str:
    """Return the place of a loaded module that is not installed; "" where it is, has no file, or is what was started.

    Whoever imports multiprocessing, as torch does, calls the latter `__mp_main__` too.
    """
    module = sys.modules.get(name)
    if module is sys.modules.get("__main__"):
        return ""
    known = vars(module) if isinstance(module, ModuleType) else {}
    file = known.get("__file__")
    places = [file] if isinstance(file, str) else list(known.get("__path__") or ())
    return next((place for place in places if Path(place).is_absolute() and not is_installed(Path(place))), "")


def _below(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def is_installed(path: Path) -> bool:
    """Return whether a module lies where Python's, installed ones and dfloc's do."""
    return any(path.is_relative_to(place) for place in _installed())


@cache
def _installed() -> frozenset[Path]:
    """Return the folders of Python's own modules, of installed ones, and of dfloc."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places = {*own, *site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parent)}
    return frozenset(path for place in places for path in (Path(place), Path(place).resolve()))
