"""The page of settings, `docs/settings.md`, from the tree: `make docs` writes it again, a test holds it to the tree."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from jobs.config import ROOT, Config, load
from models.settings import Settings

PAGE = ROOT / "docs" / "settings.md"
OPENING = """# Settings

Every setting, its default and what it means, generated from the code (`make docs`). Values come from
`infra/env/<env>.toml` (`TIDEGATE_ENV` names it, `local` by default) and are overridden by environment variables:
`gate.risk_days` is `TIDEGATE__GATE__RISK_DAYS`. An override of a group (`TIDEGATE__GATE='{"risk_days": 7}'`) changes
only the keys it names. Lists and maps are given whole, as JSON; `null` means none if a setting may be none. An unknown
key is an error. `python -m jobs config` prints the resolved settings. The column *prod* shows what `prod.toml` sets
instead of the default.
"""


def written() -> str:
    """The page: a section a group, a row a setting."""
    prod = to_jsonable_python(load({"TIDEGATE_ENV": "prod"}))
    lines = [OPENING]
    for path, group in groups(Config, ()):
        name = ".".join(path)
        lines += [
            f"## {name or 'General'}",
            "",
            _told(group),
            "",
            "| setting | default | prod | |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            _row(path, key, field, _at(prod, path)) for key, field in group.model_fields.items() if below(field) is None
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def groups(group: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every group that has a setting of its own, with its path, in the order of the tree."""
    if any(below(field) is None for field in group.model_fields.values()):
        yield path, group
    for key, field in group.model_fields.items():
        if (found := below(field)) is not None:
            yield from groups(found, (*path, key))


def below(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a field that is a group itself; None of a map of groups, which has names of its own."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)


def _row(path: tuple[str, ...], key: str, field: FieldInfo, prod: Any) -> str:
    default = _default(field)
    said = prod.get(key) if isinstance(prod, dict) else None
    told = "" if isinstance(default, str) and default == "" else _word(default)
    other = "" if said == default or not isinstance(prod, dict) or not _fixed(field) else _word(said)
    text = "; ".join(part for part in (field.description or "", allowed(field)) if part)
    return f"| `{key}` | {told} | {other} | {text.replace('|', chr(92) + '|')} |"


def _fixed(field: FieldInfo) -> bool:
    """Whether its default is a value, not something reckoned from others."""
    return not (field.default_factory is not None and field.default_factory_takes_validated_data)


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return "needed"
    if not _fixed(field):
        return ""
    return to_jsonable_python(field.get_default(call_default_factory=True))


def _word(value: Any) -> str:
    """As JSON, a path from the checkout's root."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.replace(f"{ROOT}/", "").replace("|", "\\|")
    return f"`{text}`" if text else ""


def allowed(field: FieldInfo) -> str:
    """The values of a choice."""
    kinds = [field.annotation]
    while kinds and get_origin(kinds[0]) is Annotated:
        kinds = [get_args(kinds[0])[0]]
    kind = kinds[0]
    if get_origin(kind) in (Union, UnionType):
        kind = next((one for one in get_args(kind) if one is not NoneType), kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(kind))
    return ""


def _told(group: type[BaseModel]) -> str:
    """The group's docstring, as lines of the page."""
    return " ".join((group.__doc__ or "").split())


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


if __name__ == "__main__":
    PAGE.write_text(written())
    print(Path(PAGE).relative_to(ROOT))
