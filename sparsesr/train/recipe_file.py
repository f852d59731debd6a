"""Reading recipes: YAML text to `Recipe`, with every mistake named and placed.

Two keys of a file are not part of the recipe it makes: `extends: other.yaml` (beside it) names the
recipe that it changes, and `profiles` holds changes by name, of which `profile=` chooses one. A
change says only what differs: sections are merged key by key; a list of stages replaces the list,
and each of its stages keeps what it does not say from the stage of that name.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsesr.train.recipe import Recipe, RecipeError, plain


def load_recipe(
    path: str | Path, overrides: Iterable[str] = (), profile: str | None = None
) -> Recipe:
    """Read a recipe file.

    Args:
        path: YAML. overrides: "a.b=value" texts applied before the checks; stages are addressed by
            name: "stages.dnet.iterations=100".
        profile: name of one of the file's profiles ("short"), None for the recipe as it stands.
    Raises:
        RecipeError: anything wrong in the file or an override. FileNotFoundError.
    """
    path = Path(path)
    return _make(_read_tree(path), overrides, profile, str(path))


def parse_recipe(
    text: str, overrides: Iterable[str] = (), source: str = "recipe", profile: str | None = None
) -> Recipe:
    """As `load_recipe`, from YAML text; `source` names it in error messages."""
    tree = _parse_tree(text, source)
    if "extends" in tree:
        raise RecipeError(
            f"{source}: extends: a text has no folder to look for it; use load_recipe"
        )
    return _make(tree, overrides, profile, source)


def _make(
    tree: dict[str, Any], overrides: Iterable[str], profile: str | None, source: str
) -> Recipe:
    profiles = tree.pop("profiles", {})
    if not isinstance(profiles, dict):
        raise RecipeError(f"{source}: profiles: expected sections by name, got {_kind(profiles)}")
    if profile is not None:
        if profile not in profiles:
            known = ", ".join(profiles) or "none"
            raise RecipeError(f"{source}: no profile {profile!r}, there are: {known}")
        tree = _merge(tree, profiles[profile])
    for override in overrides:
        _apply_override(tree, override)
    try:
        return _build(Recipe, tree, "")
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None


def _read_tree(path: Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of a file and of those it extends, profiles still in them."""
    if not path.is_file():
        raise FileNotFoundError(f"recipe not found: {path}")
    if path in readers:
        raise RecipeError(f"{path}: extends itself, by way of {', '.join(map(str, readers))}")
    tree = _parse_tree(path.read_text(encoding="utf-8"), str(path))
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends: expected the name of a file, got {_kind(base)}")
    return _merge(_read_tree(path.parent / base, (*readers, path)), tree)


def _parse_tree(text: str, source: str) -> dict[str, Any]:
    tree = _load_yaml(text, source)
    if not isinstance(tree, dict):
        raise RecipeError(f"{source}: expected a mapping of keys, got {_kind(tree)}")
    # YAML aliases share one object; an override is meant for one place.
    return plain(tree)


def _merge(base: Any, change: Any) -> Any:
    """`base` with what `change` says: key by key, named items of a list by their name."""
    if isinstance(base, dict) and isinstance(change, dict):
        merged = {key: _merge(base[key], change[key]) for key in base if key in change}
        return base | change | merged
    named = _by_name(base)
    if isinstance(named, dict) and isinstance(_by_name(change), dict):
        return [_merge(named.get(item["name"], {}), item) for item in change]
    return change


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Dotted keys whose values differ between two plain trees, stages addressed by name."""
    old, new = _by_name(old), _by_name(new)
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in dict.fromkeys([*old, *new]):
            at = f"{place}.{key}" if place else str(key)
            if key in old and key in new:
                found += differences(old[key], new[key], at)
            else:
                found.append(at)
        return found
    return [] if old == new else [place]


def _by_name(tree: Any) -> Any:
    """A list of mappings with names becomes a mapping; anything else stays."""
    if isinstance(tree, list) and tree and all(isinstance(t, dict) and "name" in t for t in tree):
        return {item["name"]: item for item in tree}
    return tree


def _load_yaml(text: str, source: str) -> Any:
    """YAML 1.1 plus two corrections: `1e-3` is a number, a key given twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if str(key.value) in seen:
                    line = key.start_mark.line + 1
                    raise RecipeError(f"{source}, line {line}: key {key.value!r} is given twice")
                seen.add(str(key.value))
            return node

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {error}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: expected KEY=VALUE, e.g. data.batch=8")
    node: Any = tree
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(node, dict):
            # A section the file leaves out; an unknown name is reported by the checks.
            node = node.setdefault(part, {})
        elif isinstance(node, list):
            node = _list_item(node, part, override)
        else:
            raise RecipeError(f"--set {override}: nothing can be set below {part!r}")
    if isinstance(node, list):
        raise RecipeError(f"--set {override}: expected a key after {parents[-1]}.{last}")
    if not isinstance(node, dict):
        raise RecipeError(f"--set {override}: {'.'.join(parents)} is {_kind(node)}, not a section")
    node[last] = _load_yaml(text, f"--set {override}")


def _list_item(items: list[Any], name: str, override: str) -> Any:
    for item in items:
        if isinstance(item, dict) and item.get("name") == name:
            return item
    names = ", ".join(str(item.get("name")) for item in items if isinstance(item, dict))
    raise RecipeError(f"--set {override}: no entry named {name!r}, there are: {names}")


def _build(cls: Any, tree: Any, place: str) -> Any:
    """An instance of dataclass `cls` from a mapping, refusing unknown keys and wrong types."""
    where = place or "top level"
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: expected a section with keys, got {_kind(tree)}")
    hints = typing.get_type_hints(cls)
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    for key in tree:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            raise RecipeError(f"unknown key {key!r} at {where}; did you mean {near[0]!r}?")
    values = {}
    for name, entry in fields.items():
        at = f"{place}.{name}" if place else name
        if name in tree:
            values[name] = _convert(hints[name], tree[name], at)
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{where}: key {name!r} is missing")
    try:
        return cls(**values)
    except RecipeError as error:
        raise RecipeError(f"{place}.{error}" if place else str(error)) from None


def _convert(hint: Any, value: Any, place: str) -> Any:
    """`value` as the annotated type `hint`, or RecipeError naming the place."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, place)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, place)
    if origin is tuple:
        return _convert_tuple(args, value, place)
    if origin is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{place}: expected a section with keys, got {_kind(value)}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RecipeError(f"{place}: expected {hint.__name__}, got {_kind(value)} {value!r}")
    return value


def _convert_tuple(args: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if args == (str, ...) and isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise RecipeError(f"{place}: expected a list, got {_kind(value)}")
    if args[-1] is Ellipsis:
        named = [
            item.get("name", i) if isinstance(item, dict) else i for i, item in enumerate(value)
        ]
        pairs = zip(named, value, strict=True)
        return tuple(_convert(args[0], item, f"{place}.{name}") for name, item in pairs)
    if len(value) != len(args):
        raise RecipeError(f"{place}: expected {len(args)} values, got {len(value)}")
    numbered = enumerate(zip(args, value, strict=True))
    return tuple(_convert(arg, item, f"{place}.{i}") for i, (arg, item) in numbered)


def _kind(value: Any) -> str:
    names = {dict: "a section", list: "a list", type(None): "nothing", str: "the text"}
    return names.get(type(value), type(value).__name__)
