"""Configurations: ``PATH.py[:ARGUMENT]`` plus ``--config.KEY=VALUE`` overrides, strictly checked.

A configuration file is plain Python with ``get_config(argument) -> ConfigDict``. The dictionary
lists every knob; nothing in the package falls back on a hidden default.
"""

import argparse
import ast
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from msa_jax.errors import ConfigError, MsaJaxError, nearest
from msa_jax.synonyms import meant

#: Settings that later versions added, with the value by which a run that lacks them behaves as then, or a
#: function of its {key: value} that gives it. A run's ``config.json`` is completed by them when it is read.
ADDED: dict[str, Any] = {
    "preset": "",
    "model.classes": 0,
    "data.class_names": (),
    "data.split": "stored",
    "data.group": "video",
    "data.split_shares": (0.7, 0.1, 0.2),
    "data.split_seed": 0,
    "data.folds": 0,
    "data.fold": 0,
    "data.context": 0,
    "train.trackers": "",
    "train.watch_test": False,
    "model.fg_scale": 1.0,
    "model.fg_residual": False,
    "model.fg_norm": False,
    "train.fg_decay": True,
    "train.corrupt": "none",
    "train.corrupt_rates": (0.0, 0.5),
    "train.placeholder": "zero",
    "train.corrupt_modalities": ("text", "audio", "vision"),
}

#: A ConfigDict. Declared Any, because the library's own annotations say that a value may be
#: text or None wherever a number is read.
Config = Any


def block(values: Mapping[str, Any] | None = None) -> Config:
    """A new ConfigDict, empty or with ``values``."""
    return ml_collections.ConfigDict(values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` to a command; its overrides are what the parser does not know."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="PATH.py[:ARGUMENT]",
        help="configuration file with a model and words, for example configs/sims.py:ufen_mtfn,fg=both; "
        "any value in it is changed with --config.KEY=VALUE, for example --config.train.seed=3",
    )


def parse_command(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, Config]:
    """Parses a command line that has ``--config`` and overrides.

    Returns:
      The command's own arguments, and the loaded, locked ConfigDict.

    Raises:
      ConfigError: for an unknown flag, key, or value.
    """
    arguments, rest = parser.parse_known_args(argv)
    return arguments, load(arguments.config, read_overrides(parser, rest))


def read_overrides(parser: argparse.ArgumentParser, rest: list[str]) -> list[str]:
    """What ``--config.KEY=VALUE`` or ``--config.KEY VALUE`` says, as ``"KEY=VALUE"``.

    Args:
      parser: of the command, whose own arguments are suggested for an unknown one.
      rest: what the parser does not know.

    Raises:
      ConfigError: for anything else.
    """
    found, rest = [], list(rest)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--config."):
            known = [o for action in parser._actions for o in action.option_strings]
            raise ConfigError(f"unknown argument {flag!r}.{nearest(flag, known)}")
        if "=" not in flag:
            if not rest:
                raise ConfigError(f"{flag} has no value; write {flag}=VALUE.")
            flag = f"{flag}={rest.pop(0)}"
        found.append(flag.removeprefix("--config."))
    return found


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Loads ``PATH.py[:ARGUMENT]`` and applies overrides of the form ``"train.seed=3"``.

    Raises:
      ConfigError: if the file is missing or no configuration, or an override names an unknown
        key (the nearest right one is given) or holds a value of another type.
    """
    match = re.fullmatch(r"(.*?\.py)(?::(.*))?", path)
    if not match:
        raise ConfigError(f"--config={path} is not a configuration file; give one such as configs/mosi.py.")
    return changed(_get_config(pathlib.Path(match[1]), match[2] or ""), overrides)


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """A copy with overrides of the form ``"train.seed=3"``.

    Raises:
      ConfigError: as :func:`load`.
    """
    copy = config.copy_and_resolve_references()
    with copy.unlocked():
        for override in overrides:
            key, _, text = override.partition("=")
            _set(copy, key, text)
    return copy.lock()


def from_python(data: str, model: str, overrides: Mapping[str, Any]) -> Config:
    """What :func:`msa_jax.config` gives; see there.

    Raises:
      ConfigError: as :func:`load`.
    """
    path = data if data.endswith(".py") else f"configs/{data}.py"
    words, settings = [model] if model else [], {}
    for name, value in overrides.items():
        if name in _WORDS:
            words += [name] if value is True else [] if value is False else [f"{name}={value}"]
        else:
            settings[name.replace("__", ".")] = value
    config = _get_config(pathlib.Path(path), ",".join(words))
    for key, value in settings.items():
        _check_key(config, key, value)
        _put(config, key, _as_kind(key, value, flatten(config)[key]))
    return config.lock()


#: What may stand after the colon beside the model's name.
_WORDS = ("tiny", "fg", "task", "preset")


def _as_kind(key: str, value: Any, old: Any) -> Any:
    """A value from Python as what the setting holds."""
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(old, str) and isinstance(value, pathlib.Path):
        return str(value)
    whole = type(value) is int
    if type(value) is not type(old) and not (whole and type(old) is float):
        raise ConfigError(f"{key}={value!r} is not {_KIND_NAMES.get(type(old), 'text')} (it is {old!r} now).")
    return float(value) if type(old) is float else value


#: Folders that hold the configurations that come with the package: in a wheel, and in a checkout.
_SHIPPED = (pathlib.Path(__file__).parent / "shipped", pathlib.Path(__file__).resolve().parents[1])


def shipped(kind: str = "") -> list[pathlib.Path]:
    """The configurations that come with the package; kind: "studies" or "spaces" for those."""
    folder = next(place / "configs" / kind for place in _SHIPPED if (place / "configs").is_dir())
    return [path for path in sorted(folder.glob("[a-z]*.py")) if path.name != "common.py"]


def _found(file: pathlib.Path) -> pathlib.Path:
    """The file in the current folder, or else among those shipped.

    Raises:
      ConfigError: if it is nowhere.
    """
    places = [file, *(folder / file for folder in _SHIPPED if not file.is_absolute())]
    for place in places:
        if place.is_file():
            return place
    kind = next((kind for kind in ("studies", "spaces") if kind in file.parts), "")
    known = [str(pathlib.Path("configs", kind, path.name)) for path in shipped(kind)]
    raise ConfigError(
        f"there is no configuration file {file}, neither here nor among those shipped "
        f"({', '.join(known)}).{nearest(str(file), known)}"
    )


def _get_config(file: pathlib.Path, argument: str) -> Config:
    return call(file, "get_config", argument, "a ConfigDict")


def call(file: pathlib.Path, name: str, argument: str, gives: str) -> Any:
    """Calls ``name(argument)`` of a configuration file, a study's or a space's.

    Args:
      file: in the current folder, or among those shipped.
      name: of the function that the file must define.
      argument: what stands after the colon.
      gives: what the function returns, for the message.

    Raises:
      ConfigError: if there is no such file, or it does not work.
    """
    file = _found(file)
    for root in (*file.resolve().parents[1:3], *_SHIPPED):
        # So that a configuration finds configs/common.py, its own or the shipped one, from any folder.
        if str(root) not in sys.path and (root / "configs").is_dir():
            sys.path.append(str(root))
    module_spec = importlib.util.spec_from_file_location(f"msa_jax_config_{file.stem}", file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return getattr(module, name)(argument)
    except MsaJaxError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{file} is not a usable configuration: {type(error).__name__}: {error}; "
            f"it must define {name}(argument) returning {gives}."
        ) from error


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested configuration to ``{"train.seed": 1111, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ml_collections.ConfigDict)):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


#: Keys from which others follow, and what stands before their value after the colon.
_AFTER_THE_COLON = {"preset": "preset=", "model.name": ""}


def _set(config: Config, key: str, text: str) -> None:
    _check_key(config, key, text)
    _put(config, key, _parse(key, text, flatten(config)[key]))


def _check_key(config: Config, key: str, value: Any) -> None:
    flat = flatten(config)
    if key not in flat:
        inside = [k for k in flat if k.startswith(key + ".")]
        if inside:
            raise ConfigError(f"--config.{key} is a block; set one of its keys: {', '.join(inside[:8])}.")
        raise ConfigError(f"--config.{key}: there is no such key.{meant(key, flat)}")
    if key in _AFTER_THE_COLON:
        raise ConfigError(
            f"--config.{key}={value} comes too late, since other values follow from it; give it after the "
            f"configuration's colon, as in --config=configs/mosi.py:{_AFTER_THE_COLON[key]}{value}."
        )


def _put(config: Config, key: str, value: Any) -> None:
    *blocks, last = key.split(".")
    inner = config
    for name in blocks:
        inner = inner[name]
    with inner.ignore_type():
        inner[last] = value


def _parse(key: str, text: str, old: Any) -> Any:
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if kind is str:
            return text
        value = ast.literal_eval(text)
        if isinstance(value, (tuple, list)):
            return tuple(value)
    except (KeyError, ValueError, SyntaxError):
        pass
    raise ConfigError(f"--config.{key}={text} is not {_KIND_NAMES[kind]} (it is {old!r} now).")


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list such as (1,2)"}


def to_json(config: Config) -> str:
    """The configuration as indented JSON, keys sorted."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True)


def from_json(text: str) -> Config:
    """Reads what :func:`to_json` wrote, here or in an earlier version; lists come back as tuples."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    config = ml_collections.ConfigDict(tuples(json.loads(text)))
    flat = flatten(config)
    for key, value in ADDED.items():
        *blocks, last = key.split(".")
        inner: Any = config
        for name in blocks:
            inner = inner.get(name, {})
        if key not in flat and (inner or not blocks):
            inner[last] = value(flat) if callable(value) else value
    return config.lock()


def difference(old: Config, new: Config) -> list[str]:
    """What changed between two configurations, one ``key: old -> new`` line each."""
    before, after = flatten(old), flatten(new)
    missing = "(absent)"
    return [
        f"{key}: {before.get(key, missing)!r} -> {after.get(key, missing)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, missing) != after.get(key, missing)
    ]


def require_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError unless ``value`` is one of ``known``."""
    if value not in known:
        raise ConfigError(f"{key}={value!r} is not one of {', '.join(known)}.{nearest(str(value), known)}")
