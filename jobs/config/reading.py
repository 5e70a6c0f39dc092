"""The tree read from `infra/env/<env>.toml` and the environment."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from jobs.config.base import PREFIX, ROOT
from jobs.config.tree import Config
from jobs.errors import Misconfigured
from models.settings import Settings


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The resolved tree; raises `Misconfigured` naming every key that is unknown or of the wrong kind."""
    variables = dict(os.environ if environ is None else environ)
    env = variables.get("TIDEGATE_ENV", "local")
    path = ROOT / "infra" / "env" / f"{env}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise Misconfigured(f"TIDEGATE_ENV must name one of {known}; found {env!r}")
    tree: dict[str, Any] = {"env": env, **tomllib.loads(path.read_text())}
    for keys, text in _overrides(variables):
        _merge(tree, Config, _nested(keys, text))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A default that is made of a wrong setting is no second mistake.
        errors = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {_shown(e)}" for e in errors)
        raise Misconfigured(f"settings of {path.name} and {PREFIX}* must fit jobs.config.Config; {found}") from error


def _shown(error: Mapping[str, Any]) -> str:
    """What was found where a setting is wrong, but for what may hold a password."""
    path = ".".join(map(str, error["loc"])) + "."
    secret = any(path.startswith(f"{one}.") for one in _secrets(Config))
    return "what is not shown" if secret else repr(error["input"])


def _overrides(variables: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """Path and text of every override, the wider first, so that the more specific of two wins."""
    found: dict[tuple[str, ...], str] = {}
    for name, text in variables.items():
        if name.startswith(PREFIX):
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if keys in found:
                raise Misconfigured(f"{'.'.join(keys)} needs one variable {PREFIX}*; found {name} beside another")
            found[keys] = text
    return sorted(found.items(), key=lambda override: (len(override[0]), override[0]))


def _nested(keys: tuple[str, ...], text: str) -> dict[str, Any]:
    """One override as the piece of the tree it stands for; pydantic turns its text into the field's type.

    JSON is read where it says what a text cannot: an object or a list; and, where the field may be None, `null` and a
    quoted string (`"null"` is then the text). Raises `Misconfigured` for a path through a value, which is given whole.
    """
    group: type[BaseModel] | None = Config
    for key in keys[:-1]:
        if group is not None and key in group.model_fields and _group(group, key) is None:
            name = PREFIX + "__".join(keys).upper()
            raise Misconfigured(f"{name} needs {key!r} to be a group; found a value, which is given whole")
        group = _group(group, key)
    optional = group is not None and type(None) in _kinds(group, keys[-1])
    value: Any = text
    with suppress(ValueError):
        parsed = json.loads(text)
        if isinstance(parsed, list | dict) or (optional and isinstance(parsed, str | None)):
            value = parsed
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _merge(tree: dict[str, Any], group: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Put an override into the tree: a group key by key, so that its other keys stay; anything else whole."""
    for key, value in given.items():
        below = _group(group, key)
        if below is None or not isinstance(value, dict):
            tree[key] = value
            continue
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise Misconfigured(f"{key!r} needs to be a group of settings; found {child!r}")
        _merge(child, below, value)


def _kinds(group: type[BaseModel], key: str) -> tuple[Any, ...]:
    """The types a field may have; none where there is no such field. A mapping or list is one, whatever it holds."""
    field = group.model_fields.get(key)
    if field is None:
        return ()
    return (
        (field.annotation,)
        if get_origin(field.annotation) in (dict, tuple)
        else get_args(field.annotation) or (field.annotation,)
    )


def _group(group: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """The class of a field that is a group of settings itself; None for any other."""
    kinds = () if group is None else _kinds(group, key)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)


def environment(config_overrides: dict[str, str]) -> dict[str, str]:
    """This process's environment with overrides (`{"lake.root": "..."}`), for a child process to load."""
    overrides = {PREFIX + key.replace(".", "__").upper(): value for key, value in config_overrides.items()}
    return {**os.environ, **overrides}


def said(settings: Config) -> dict[str, str]:
    """The variables by which a process elsewhere has these settings, as this one was given them, but for secrets.

    Files of settings are the same there; what the environment says travels.
    """
    found: dict[str, str] = {"TIDEGATE_ENV": settings.env}
    secrets = [tuple(path.split(".")) for path in _secrets(Config)]
    for name, text in os.environ.items():
        if name.startswith(PREFIX):
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            below = [path[len(keys) :] for path in secrets if path[: len(keys)] == keys]
            if () not in below:
                found[name] = json.dumps(_without(json.loads(text), below)) if below else text
    return found


def _without(given: Any, paths: list[tuple[str, ...]]) -> Any:
    """What a variable of a group says, but for what lies at these paths in it."""
    if not isinstance(given, dict):
        return given
    kept = {key: _without(value, [path[1:] for path in paths if path[0] == key]) for key, value in given.items()}
    return {key: value for key, value in kept.items() if (key,) not in paths}


def _secrets(group: type[BaseModel], above: str = "") -> Iterator[str]:
    """Path of every setting that must not be shown."""
    for name, field in group.model_fields.items():
        below = _group(group, name)
        if below is not None:
            yield from _secrets(below, f"{above}{name}.")
        elif SecretStr in (field.annotation, *get_args(field.annotation)):
            yield above + name
