"""A sweep file: found, merged (file < preset < --set), and the line that is to blame for a mistake."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

import dfloc
from dfloc.errors import ConfigError, did_you_mean, unknown
from dfloc.sweep import scalars
from dfloc.sweep.ask import StudyAsk, field_names

MAX_BYTES = 1_000_000

# Where a field may be of several types, pydantic names the type that it tried inside the path of the field.
UNION_BRANCH = re.compile(r"constrained-\w+|int|str|\w+\[.*")

# Keys whose value may be a bare name: `loss: bce` stands for `loss: {name: bce}`.
BARE = {
    "decoder": "name",
    "loss": "name",
    "optimizer": "name",
    "schedule": "name",
    "augment": "name",
    "from": "stage",
    "sampler": "name",
    "pruner": "name",
}

# What a field wants that takes numbers, by the kind of pydantic's mistake.
NUMBERS = {"int_type": "a whole number", "float_type": "a number", "finite_number": "a finite number"}

# Keys below which values stand for themselves.
AXES = ("grid", "space")


class SweepFile:
    """A sweep file with its preset and settings merged in.

    Args:
        path: the YAML file.

    Attributes:
        values: the merged content, `presets` and removed (null) keys left out; set by `choose`.
        preset: the chosen preset.

    Raises:
        ConfigError: the file is empty, too large, no mapping, or no YAML; names the line.
    """

    def __init__(self, path: Path):
        self.path = path
        self.preset = ""
        self.values: dict[str, Any] = {}
        self._settings: tuple[str, ...] = ()
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes: that is no sweep file")
        try:
            text = path.read_text(encoding="utf-8")
            self._tree = yaml.compose(text, yaml.SafeLoader)
            if self._tree and _written_out(self._tree, {}) > MAX_BYTES:
                raise ValueError("its aliases stand for too much")
            content = scalars.load(text)
            self._content = OmegaConf.create(content if isinstance(content, dict) else {})
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{path} line {line}: no YAML: {error.problem}") from None
        except Exception as error:
            raise ConfigError(f"{path}: no YAML: {_told(error)}") from error
        if not OmegaConf.is_dict(self._content) or not OmegaConf.is_dict(self._content.get("stages")):
            raise ConfigError(f"{path} should be a sweep file with the keys name, title, domains, trial and stages")
        self._content = _spelled_out(self._content)

    def presets(self) -> list[str]:
        """Return the names of the presets."""
        return list(self._content.get("presets") or {})

    @property
    def title(self) -> str:
        """The study in one line."""
        return str(self._content.get("title", ""))

    @property
    def domains(self) -> list[str]:
        """The study's domains as the file itself has them, without a preset."""
        value = self._content.get("domains")
        return [str(name) for name in value] if OmegaConf.is_list(value) else []

    def domains_asked(self, preset: str, settings: Sequence[str] = ()) -> Any:
        """Return `domains` as written: a list of names, "data", or "data:2" (its first two local domains)."""
        value = self._merge(preset, settings).get("domains")
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

    def choose(self, preset: str, settings: Sequence[str] = (), domains: Sequence[str] | None = None) -> "SweepFile":
        """Merge a preset and `--set` settings in, resolve every `${...}`, and return this file.

        Args:
            preset: a name of `presets`.
            settings: `key=value` texts, later ones win.
            domains: full names that replace `domains`.

        Raises:
            ConfigError: an unknown preset, a setting without `=`, a key that no sweep has, an unknown `${...}`.
        """
        merged = self._merge(preset, settings)
        if domains is not None:
            merged["domains"] = list(domains)
        try:
            values = OmegaConf.to_container(merged, resolve=True)
        except Exception as error:
            raise ConfigError(f"{self.path}: {_told(error)}") from error
        assert isinstance(values, dict)
        values.pop("presets", None)
        self.values, self.preset, self._settings = _without_nulls(values), preset, tuple(settings)
        return self

    def mistake(
        self, error: ValidationError, model: type[BaseModel], where: Callable[[tuple[str, ...]], str] | None = None
    ) -> ConfigError:
        """Return the first mistake that pydantic found as one sentence with file, line and what is near.

        Args:
            error: what pydantic says.
            model: what was checked.
            where: says where a field of it was given; none: where the file has it.
        """
        found = [(_field(one["loc"]), one) for one in error.errors()]
        loc, first = min(found, key=lambda one: one[1]["type"] != "extra_forbidden")
        if isinstance(first["input"], Mapping):  # which pydantic took for each type that there may be
            loc, first = next(((at, one) for at, one in found if at[: len(loc)] == loc != at), (loc, first))
        path = ".".join(str(part) for part in loc)
        if first["type"] == "extra_forbidden":
            choices = field_names(model, loc[:-1])
            what = f'unknown key "{loc[-1]}" in {path.rpartition(".")[0] or "the sweep"}; ' + did_you_mean(
                str(loc[-1]), choices
            )
        elif first["type"] == "missing":
            what = f"{path} is missing"
        else:
            words = [one["ctx"]["expected"] for at, one in found if at == loc and one["type"] == "literal_error"]
            word = f", or {words[0]}" if words and first["type"] != "literal_error" else ""
            what = f"{path}: {_wanted(first)}{word}, but it is {_shown(first['input'])}"
        field = tuple(map(str, loc))
        return ConfigError(f"{where(field) if where else self.where(*field)}: {what}")

    def where(self, *path: str) -> str:
        """Return where a key stands: the `--set` that gave it, or file and line."""
        return self.place([".".join(path)])

    def place(self, paths: Sequence[str]) -> str:
        """Return where the first of some keys stands that there is; where there is none, what it should stand in."""
        wanted = [path.split(".") for path in paths]
        for dropped in range(max(map(len, wanted))):
            for parts in wanted:
                kept = parts[: len(parts) - dropped]
                if kept and _holds(self.values, kept):
                    return self._giver(kept)
        return str(self.path)

    def _giver(self, parts: Sequence[str]) -> str:
        """Return the last `--set` that gave a key of the merged file, else its line."""
        for setting in reversed(self._settings):
            key, _, value = setting.partition("=")
            given = key.strip().split(".")
            inside = given == [*parts[: len(given)]] and _holds(scalars.load(value), parts[len(given) :])
            if inside or [*parts] == given[: len(parts)]:
                return f"--set {setting}"
        for kept in range(len(parts), 0, -1):
            for head in (("presets", self.preset), ()):
                if line := _line(self._tree, [*head, *parts[:kept]]):
                    return f"{self.path} line {line}"
        return str(self.path)

    def _merge(self, preset: str, settings: Sequence[str]) -> Any:
        if self.presets() and preset not in self.presets():
            raise unknown("preset", preset, self.presets())
        for setting in settings:
            key, sign, _ = setting.partition("=")
            if not sign or not key.strip():
                raise ConfigError(f'--set "{setting}" should be key=value, as in --set trial.optimizer.lr=3e-4')
            self._known(key.strip())
        try:
            said = _spelled_out(_set(settings))
            chosen = (self._content.get("presets") or {}).get(preset) or {}
            merged = OmegaConf.merge(_yielding(self._content, chosen), chosen)
            return OmegaConf.merge(_yielding(merged, said), said)
        except Exception as error:
            raise ConfigError(f"--set {' '.join(settings)}: {_told(error)}") from error

    def _known(self, key: str) -> None:
        parts = key.split(".")
        roots = set(field_names(StudyAsk, ()))
        if parts[0] not in roots:
            raise ConfigError(f'--set {key}: unknown key "{parts[0]}"; {did_you_mean(parts[0], roots)}')
        stages = set(self._content.stages or {})
        if parts[0] == "stages" and (len(parts) < 2 or parts[1] not in stages):
            word = parts[1] if len(parts) > 1 else ""
            raise ConfigError(f'--set {key}: unknown stage "{word}"; {did_you_mean(word, stages)}')


def find(name: str) -> Path:
    """Return the path of a sweep: a file, or the name of one that dfloc ships.

    Raises:
        ConfigError: there is none; says what is near.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"sweep file {name} does not exist; `dfloc list sweeps` names those that dfloc has")
        return path
    shipped_ones = shipped()
    if name not in shipped_ones:
        raise unknown("sweep", name, shipped_ones)
    return shipped_ones[name]


def shipped() -> dict[str, Path]:
    """Return the sweeps that dfloc ships, by name: beside the package in a checkout, inside it in a wheel."""
    package = Path(dfloc.__file__).parent
    for folder in (package / "sweeps", package.parent / "sweeps"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    return {}


def _spelled_out(content: Any) -> Any:
    """Return a configuration with every bare name as the mapping that it stands for."""

    def walk(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            key: {BARE[key]: item} if key in BARE and isinstance(item, str) else item if key in AXES else walk(item)
            for key, item in value.items()
        }

    return OmegaConf.create(walk(OmegaConf.to_container(content)))


def _set(settings: Sequence[str]) -> Any:
    """Return the configuration that `key=value` texts say, later ones over earlier ones."""
    said = OmegaConf.create({})
    for setting in settings:
        key, _, value = setting.partition("=")
        OmegaConf.update(said, key.strip(), scalars.load(value))
    return said


def _yielding(content: Any, later: Any) -> Any:
    """Return a configuration less the axes of its search that a later one writes in another form: as list or range."""
    new, old = map(_space, (later, content))
    if not (OmegaConf.is_dict(new) and OmegaConf.is_dict(old)):
        return content
    kinds = {name: OmegaConf.is_dict(axis) for name, axis in new.items() if name in old and axis is not None}
    other = [name for name, is_dict in kinds.items() if OmegaConf.is_dict(old[name]) != is_dict]
    if not other:
        return content
    values = OmegaConf.to_container(content)
    assert isinstance(values, dict)
    for name in other:
        del values["search"]["space"][name]
    return OmegaConf.create(values)


def _space(content: Any) -> Any:
    search = content.get("search")
    return search.get("space") if OmegaConf.is_dict(search) else None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _holds(value: Any, parts: Sequence[str]) -> bool:
    """Return whether there is something at the end of a path; what stands for a mapping, as a bare name, has it all."""
    if isinstance(value, Mapping) and parts:
        keys = [key for key in value if _begins(parts, str(key))]
        return any(_holds(value[key], parts[len(str(key).split(".")) :]) for key in keys)
    if isinstance(value, list) and parts:
        return parts[0].isdecimal() and int(parts[0]) < len(value) and _holds(value[int(parts[0])], parts[1:])
    return True


def _written_out(node: Any, sizes: dict[int, int]) -> int:
    """Return the number of nodes of a tree in which every alias is written out; `sizes`: of those seen."""
    if id(node) not in sizes:
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(_written_out(part, sizes) for part in parts)
    return sizes[id(node)]


def _field(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple(part for part in loc if not UNION_BRANCH.fullmatch(str(part)))


def _wanted(found: Any) -> str:
    """Return what a field should be, as pydantic's first mistake has it."""
    kind = NUMBERS.get(found["type"])
    if kind:
        return f"should be {kind} in plain digits, as in {'3' if 'whole' in kind else '3 or 1e-3'}, without quotes"
    return str(found["msg"]).removeprefix("Value error, ")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _told(error: Exception) -> str:
    """Return the first line of what a library says, or what it calls it."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _line(node: Any, path: Sequence[str | int]) -> int | None:
    """Return the line of the key at the end of a path, counted from 1; keys may have dots, and parts too."""
    line = None
    parts = [piece for part in path for piece in str(part).split(".")]
    while parts:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if _begins(parts, pair[0].value)), None)
            if pair is None:
                return None
            line, node = pair[0].start_mark.line + 1, pair[1]
            del parts[: len(pair[0].value.split("."))]
        elif isinstance(node, yaml.SequenceNode) and parts[0].isdecimal() and int(parts[0]) < len(node.value):
            node = node.value[int(parts.pop(0))]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def _begins(parts: Sequence[str], key: str) -> bool:
    words = key.split(".")
    return list(parts[: len(words)]) == words
