"""Training recipes: YAML text to frozen dataclasses, with every mistake named and placed."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("dnet", "allnet", "mask")
_FAMILY_SUFFIX = "-mga"


class RecipeError(ValueError):
    """A recipe that cannot be used: unknown key, wrong type, impossible value."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise RecipeError(text)


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how samples are cut.

    `train`: folder of HR images. `val`: test set with HR/ (and LRx{s}/), or None. `lr_crop`: side of
    the LR crop. `batch`: samples per step. `cache`: folder for decoded images (None: the user's
    cache). `name`, `terms`: what the training data is and how it may be used, copied to the card.
    """

    train: str
    val: str | None = None
    lr_crop: int = 24
    batch: int = 16
    cache: str | None = None
    name: str | None = None
    terms: str | None = None

    def __post_init__(self) -> None:
        _require(self.lr_crop >= 1, f"lr_crop: expected >= 1, got {self.lr_crop}")
        _require(self.batch >= 1, f"batch: expected >= 1, got {self.batch}")


@dataclass(frozen=True)
class InitConfig:
    """How the first stage's weights start.

    `conv`: "torch" (PyTorch's defaults), "kaiming" (normal, fan in, times `gain`, zero biases) or
    "identity" (the untrained network is bilinear upscaling, see `sparsesr.models.identity_init_`).
    `upsampler_std`: standard deviation of the transposed convolutions, None leaves PyTorch's.
    `weights`: a weights file to start from instead (sub-modules it lacks keep their initialisation).
    """

    conv: str = "torch"
    gain: float = 1.0
    upsampler_std: float | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.conv in ("torch", "kaiming", "identity"),
            f"conv: expected 'torch', 'kaiming' or 'identity', got {self.conv!r}",
        )
        _require(self.gain > 0, f"gain: expected > 0, got {self.gain}")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the l1 terms: `sr` and `coarse` (dnet, allnet), `mask` (mask)."""

    sr: float = 10.0
    coarse: float = 1.0
    mask: float = 10.0


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its schedule: `periods` times (linear warm-up, then cosine).

    Each period warms up for `warmup` steps from `warmup_lr` to `lr`, then falls to `min_lr`.
    `clip`: largest gradient norm, None for no clipping.
    """

    lr: float = 1e-3
    min_lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 500
    warmup_lr: float = 1e-4
    periods: int = 1
    clip: float | None = None

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr: expected > 0, got {self.lr}")
        _require(self.min_lr >= 0, f"min_lr: expected >= 0, got {self.min_lr}")
        _require(self.warmup_lr >= 0, f"warmup_lr: expected >= 0, got {self.warmup_lr}")
        _require(self.warmup >= 0, f"warmup: expected >= 0, got {self.warmup}")
        _require(self.periods >= 1, f"periods: expected >= 1, got {self.periods}")
        _require(self.clip is None or self.clip > 0, f"clip: expected > 0, got {self.clip}")
        for beta in self.betas:
            _require(0 <= beta < 1, f"betas: expected numbers in [0, 1), got {beta}")


@dataclass(frozen=True)
class StageConfig:
    """One step of the training.

    `name`: dnet, allnet or mask. `ema`: decay of the weight average that is evaluated and handed
    on, 0 for none. `val_every`, `checkpoint_every`, `log_every`: in steps, 0 for never (a stage is
    always evaluated and saved at its end). `batch`, `lr_crop`: override those of `data`. `freeze`:
    sub-modules that keep their weights (mask always freezes base and refine).
    """

    name: str
    iterations: int
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: float = 0.999
    val_every: int = 2000
    checkpoint_every: int = 500
    log_every: int = 100
    batch: int | None = None
    lr_crop: int | None = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.name in STAGES, f"name: expected one of {', '.join(STAGES)}, got {self.name!r}")
        _require(self.iterations >= 1, f"iterations: expected >= 1, got {self.iterations}")
        _require(0 <= self.ema < 1, f"ema: expected a decay in [0, 1), got {self.ema}")
        for key in ("val_every", "checkpoint_every", "log_every"):
            _require(getattr(self, key) >= 0, f"{key}: expected >= 0, got {getattr(self, key)}")
        for key in ("batch", "lr_crop"):
            value = getattr(self, key)
            _require(value is None or value >= 1, f"{key}: expected >= 1, got {value}")
        for name in self.freeze:
            _require(
                name in ("base", "refine", "mask"),
                f"freeze: expected names among base, refine, mask, got {name!r}",
            )
        period = self.iterations // self.optimizer.periods
        _require(
            self.optimizer.warmup < period,
            f"optimizer.warmup: expected less than a period ({period} steps), "
            f"got {self.optimizer.warmup}",
        )


@dataclass(frozen=True)
class Recipe:
    """A whole training: data, model and the stages in their order.

    `model`: name without scale, e.g. "fsrcnn-mga"; `model_options`: passed to `create_model`.
    `threads`: CPU threads of torch, 0 leaves torch's choice. `device`: "cpu", "cuda" or "auto".
    `precision`: "float32" or "bfloat16" (autocast).
    """

    name: str
    model: str
    scale: int
    data: DataConfig
    stages: tuple[StageConfig, ...]
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    channels_last: bool = True
    model_options: dict[str, Any] = field(default_factory=dict)
    init: InitConfig = field(default_factory=InitConfig)

    def __post_init__(self) -> None:
        _require(
            self.model.endswith(_FAMILY_SUFFIX) and self.model != _FAMILY_SUFFIX,
            f"model: expected an MGA form such as fsrcnn-mga, got {self.model!r}",
        )
        _require(self.scale >= 1, f"scale: expected >= 1, got {self.scale}")
        _require(self.seed >= 0, f"seed: expected >= 0, got {self.seed}")
        _require(self.threads >= 0, f"threads: expected >= 0, got {self.threads}")
        for key, known in (
            ("device", ("cpu", "cuda", "auto")),
            ("precision", ("float32", "bfloat16")),
        ):
            value = getattr(self, key)
            _require(value in known, f"{key}: expected one of {', '.join(known)}, got {value!r}")
        names = [stage.name for stage in self.stages]
        _require(bool(names), "stages: expected at least one stage")
        _require(
            sorted(set(names), key=STAGES.index) == names,
            f"stages: expected each once, in the order {', '.join(STAGES)}; got {', '.join(names)}",
        )

    @property
    def family(self) -> str:
        """Model name without its form: "fsrcnn" of "fsrcnn-mga"."""
        return self.model.removesuffix(_FAMILY_SUFFIX)

    def stage_model(self, stage: str) -> str:
        """Name of the model that `stage` trains."""
        return self.model if stage == "mask" else f"{self.family}-{stage}"

    def first_step(self, stage: str) -> int:
        """Steps of all stages before `stage`: batches continue where those ended."""
        total = 0
        for config in self.stages:
            if config.name == stage:
                return total
            total += config.iterations
        raise RecipeError(
            f"stage: expected one of {', '.join(s.name for s in self.stages)}, got {stage!r}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars, with every default filled in."""
        return _plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        """The resolved recipe as YAML text that `parse_recipe` reads back to an equal recipe."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, overrides: typing.Iterable[str] = ()) -> Recipe:
    """Read a recipe file; `overrides` are "a.b=value" texts applied before the checks.

    Stages are addressed by name: "stages.dnet.iterations=100".
    Raises RecipeError for anything wrong in the file or an override, FileNotFoundError.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"recipe not found: {path}")
    return parse_recipe(path.read_text(encoding="utf-8"), overrides, source=str(path))


def parse_recipe(text: str, overrides: typing.Iterable[str] = (), source: str = "recipe") -> Recipe:
    """As `load_recipe`, from YAML text; `source` names it in error messages."""
    tree = _load_yaml(text, source)
    if not isinstance(tree, dict):
        raise RecipeError(f"{source}: expected a mapping of keys, got {_kind(tree)}")
    for override in overrides:
        _apply_override(tree, override)
    try:
        return _build(Recipe, tree, "")
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None


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
    """A list of mappings with names becomes a mapping."""
    if isinstance(tree, list) and tree and all(isinstance(t, dict) and "name" in t for t in tree):
        return {item["name"]: item for item in tree}
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _load_yaml(text: str, source: str) -> Any:
    """YAML 1.1 plus two corrections: `1e-3` is a number, a key given twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise RecipeError(f"{source}, line {line}: key {key!r} is given twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
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
    if not isinstance(value, list):
        raise RecipeError(f"{place}: expected a list, got {_kind(value)}")
    if args[-1] is Ellipsis:
        named = [
            f"{place}.{item['name']}" if isinstance(item, dict) and "name" in item else f"{place}.{i}"
            for i, item in enumerate(value)
        ]
        return tuple(_convert(args[0], item, at) for item, at in zip(value, named, strict=True))
    if len(value) != len(args):
        raise RecipeError(f"{place}: expected {len(args)} values, got {len(value)}")
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_convert(arg, item, f"{place}.{i}") for i, (arg, item) in pairs)


def _kind(value: Any) -> str:
    names = {dict: "a section", list: "a list", type(None): "nothing", str: "the text"}
    return names.get(type(value), type(value).__name__)
