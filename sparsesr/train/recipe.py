"""Training recipes: what a training is made of, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from sparsesr.models import is_model

STAGES = ("dnet", "allnet", "e2e", "mask")  # of an MGA form
HEADED = ("dnet", "head", "allnet", "e2e", "mask")  # of one with a light coarse head
ROUTED = ("heavy", "light")  # of a PCSR form
WHOLE = "whole"  # of any other network: all of it, in one step
_FAMILY_SUFFIX = "-mga"
_LIGHT_SUFFIX = "-light"
_ROUTED_SUFFIX = "-pcsr"


class RecipeError(ValueError):
    """A recipe that cannot be used: unknown key, wrong type, impossible value."""


def step_of(stage: str) -> str:
    """The step that a stage of this name is a round of: "allnet" of "allnet-2"."""
    return stage.partition("-")[0]


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise RecipeError(text)


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how samples are cut.

    `train`: folder of HR images, or several. `val`: test set with HR/ (and LRx{s}/), or None.
    `lr_crop`: side of the LR crop. `batch`: samples per step, over all devices together. `cache`:
    folder for decoded images (None: the user's cache). `workers`: processes that cut the batches of
    one device, 0 for none. `name`, `terms`: what the training data is and how it may be used,
    copied to the card.
    `lr`: "image" cuts the 8-bit LR of the photograph, "crop" makes a float LR of each HR crop.
    `scales`: draw each sample's scale from this range (PCSR forms, with `lr: crop`).
    """

    train: tuple[str, ...]
    val: str | None = None
    lr_crop: int = 24
    batch: int = 16
    cache: str | None = None
    name: str | None = None
    terms: str | None = None
    lr: str = "image"
    scales: tuple[float, float] | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        _require(self.lr in ("image", "crop"), f"lr: expected 'image' or 'crop', got {self.lr!r}")
        if self.scales is not None:
            low, high = self.scales
            _require(
                1 <= low <= high, f"scales: expected 1 <= low <= high, got {list(self.scales)}"
            )
            _require(self.lr == "crop", "scales: other scales than the photographs' need lr: crop")
        _require(bool(self.train), "train: expected at least one folder")
        _require(self.workers >= 0, f"workers: expected >= 0, got {self.workers}")
        _require(self.lr_crop >= 1, f"lr_crop: expected >= 1, got {self.lr_crop}")
        _require(self.batch >= 1, f"batch: expected >= 1, got {self.batch}")


@dataclass(frozen=True)
class InitConfig:
    """How the first stage's weights start.

    `conv`: "torch" (PyTorch's defaults), "kaiming" (normal, fan in, times `gain`, zero biases) or
    "identity" (the untrained network is bilinear upscaling, see `sparsesr.models.identity_init_`).
    `upsampler_std`: standard deviation of the transposed convolutions, None leaves PyTorch's.
    `weights`: a weights file to start from instead; parts it lacks start at random.
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
    """Weights of the l1 terms: `sr`, `coarse` (dnet, allnet, e2e, alone in head), `mask` (mask).

    A mask stage has either `mask`, or, with `mask: 0` and `sr`, the SR loss in its place: the
    paper's "w/o S". As in e2e, what the loss sees is then coarse + m (refined - coarse) on the
    patches with the largest scores m, see `StageConfig.budget`.
    `active` (whole): of the share of values that sparse masks let be computed, see `MaskConfig`.
    `balance` (light): of how unevenly the pixels are spread over the samplers.
    """

    sr: float = 10.0
    coarse: float = 1.0
    mask: float = 10.0
    active: float = 0.0
    balance: float = 0.0


@dataclass(frozen=True)
class MaskConfig:
    """How sparse masks (SMSR) are trained, in steps from the stage's start.

    The weight of `loss.active` grows from 0 to its value in `ramp` steps, 0 for at once. The
    temperature of the Gumbel-softmax is max(1 - step / `cooling`, `temperature`), or 1 throughout
    where `cooling` is None.
    """

    ramp: int = 0
    cooling: int | None = None
    temperature: float = 0.4

    def __post_init__(self) -> None:
        _require(self.ramp >= 0, f"ramp: expected >= 0, got {self.ramp}")
        _require(
            self.cooling is None or self.cooling >= 1, f"cooling: expected >= 1, got {self.cooling}"
        )
        _require(
            0 < self.temperature <= 1, f"temperature: expected in (0, 1], got {self.temperature}"
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its schedule: `periods` times (linear warm-up, then cosine).

    Each period warms up for `warmup` steps from `warmup_lr` to `lr`, then falls to `min_lr`; with
    `decay_every` it is multiplied by `decay` every so many steps instead.
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
    decay_every: int | None = None
    decay: float = 0.5

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr: expected > 0, got {self.lr}")
        _require(self.min_lr >= 0, f"min_lr: expected >= 0, got {self.min_lr}")
        _require(self.warmup_lr >= 0, f"warmup_lr: expected >= 0, got {self.warmup_lr}")
        _require(self.warmup >= 0, f"warmup: expected >= 0, got {self.warmup}")
        _require(self.periods >= 1, f"periods: expected >= 1, got {self.periods}")
        _require(self.clip is None or self.clip > 0, f"clip: expected > 0, got {self.clip}")
        _require(
            self.decay_every is None or self.decay_every >= 1,
            f"decay_every: expected >= 1, got {self.decay_every}",
        )
        _require(0 < self.decay < 1, f"decay: expected in (0, 1), got {self.decay}")
        for beta in self.betas:
            _require(0 <= beta < 1, f"betas: expected numbers in [0, 1), got {beta}")


@dataclass(frozen=True)
class StageConfig:
    """One step of the training.

    `name`: dnet, allnet or mask (or e2e, all parts of an MGA form at once; head, the light coarse
    head alone of a form that has one; heavy or light for a PCSR form, whole for any other network),
    or one of these with a suffix for another round of the same step (allnet-2). `ema`: decay of the
    weight average that is evaluated and handed on, 0 for none. `val_every`, `checkpoint_every`,
    `log_every`: in steps, 0 for never (a stage is always evaluated and saved at its end). `batch`,
    `lr_crop`: override those of `data`. `accumulate`: parts that a device does its share of a batch
    in, to save memory. `budget`: share of the patches refined where the SR loss is to reach the
    mask. `freeze`: sub-modules that keep their weights (mask always freezes base and refine, head
    all but the head). `masks`: of networks with sparse masks. `samplers`: of a PCSR form, how many
    of its heaviest samplers a light stage uses; it trains the lightest of them and the classifier.
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
    masks: MaskConfig = field(default_factory=MaskConfig)
    samplers: int = 2
    accumulate: int = 1
    budget: float = 0.25

    def __post_init__(self) -> None:
        known = (*HEADED, *ROUTED, WHOLE)
        _require(
            self.step in known and not self.name.endswith("-"),
            f"name: expected one of {', '.join(known)}, or one of them with a suffix (allnet-2), "
            f"got {self.name!r}",
        )
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
        _require(self.accumulate >= 1, f"accumulate: expected >= 1, got {self.accumulate}")
        _require(
            self.accumulate == 1 or not (self.step == "light" or self.supervised_mask),
            f"accumulate: the loss of {self.name} is one of the whole batch; leave it at 1",
        )
        _require(0 < self.budget <= 1, f"budget: expected in (0, 1], got {self.budget}")
        _require(self.samplers >= 2, f"samplers: expected >= 2, got {self.samplers}")
        period = self.iterations // self.optimizer.periods
        _require(
            self.optimizer.warmup < period,
            f"optimizer.warmup: expected less than a period ({period} steps), "
            f"got {self.optimizer.warmup}",
        )

    @property
    def step(self) -> str:
        """Which step the stage is a round of: one of `HEADED`, `ROUTED` or whole."""
        return step_of(self.name)

    @property
    def supervised_mask(self) -> bool:
        """Whether this is a mask stage that learns from the ground-truth mask."""
        return self.step == "mask" and self.loss.mask > 0


@dataclass(frozen=True)
class Recipe:
    """A whole training: data, model and the stages in their order.

    `model`: name without scale: an MGA form (fsrcnn-mga) in the stages dnet, allnet and mask (or
    e2e alone), one with a light coarse head (fsrcnn-mga-light) in the same and head, a PCSR form
    (fsrcnn-pcsr) in heavy and light, any other network (smsr) in stages named whole;
    `model_options`: passed to `create_model`.
    `threads`: CPU threads of torch, 0 leaves torch's choice. `device`: "cpu", "cuda" or "auto".
    `precision`: "float32", "bfloat16" or "float16" (autocast; float16 on a GPU only), or "auto":
    bfloat16 on GPUs that have it (Ampere and later), else float32.
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
            self.model not in ("", _FAMILY_SUFFIX),
            f"model: expected a name such as fsrcnn-mga or smsr, got {self.model!r}",
        )
        _require(self.scale >= 1, f"scale: expected >= 1, got {self.scale}")
        _require(self.seed >= 0, f"seed: expected >= 0, got {self.seed}")
        _require(self.threads >= 0, f"threads: expected >= 0, got {self.threads}")
        for key, known in (
            ("device", ("cpu", "cuda", "auto")),
            ("precision", ("float32", "bfloat16", "float16", "auto")),
        ):
            value = getattr(self, key)
            _require(value in known, f"{key}: expected one of {', '.join(known)}, got {value!r}")
        names = [stage.name for stage in self.stages]
        _require(bool(names), "stages: expected at least one stage")
        order = self.steps
        strange = [stage.name for stage in self.stages if stage.step not in order]
        _require(
            not strange,
            f"stages: {self.model} is trained in {', '.join(order)}; got {', '.join(strange)} "
            "(an MGA form such as fsrcnn-mga has dnet, allnet and mask, a PCSR form such as "
            "fsrcnn-pcsr heavy and light, any other network whole)",
        )
        _require(
            self.data.scales is None or order == ROUTED,
            f"data.scales: {self.model} has one scale; only PCSR forms are trained on several",
        )
        steps = [order.index(stage.step) for stage in self.stages]
        _require(
            len(set(names)) == len(names) and steps == sorted(steps),
            f"stages: expected each name once, in the order {', '.join(order)}; "
            f"got {', '.join(names)}",
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that train a model of this kind, in their order."""
        if self.model.removesuffix(_LIGHT_SUFFIX).endswith(_FAMILY_SUFFIX):
            return HEADED if self.model.endswith(_LIGHT_SUFFIX) else STAGES
        return ROUTED if self.model.endswith(_ROUTED_SUFFIX) else (WHOLE,)

    @property
    def family(self) -> str:
        """Model name without its form: "fsrcnn" of "fsrcnn-mga" and of "fsrcnn-mga-light"."""
        return self.model.removesuffix(_LIGHT_SUFFIX).removesuffix(_FAMILY_SUFFIX)

    def stage_model(self, stage: str) -> str:
        """Name of the model that `stage` trains.

        Where a family has no -dnet and -allnet forms, these stages train the -mga form. A D-Net
        shows no coarse image: it has no light form.
        """
        step = step_of(stage)
        light = _LIGHT_SUFFIX if self.model.endswith(_LIGHT_SUFFIX) and step == "allnet" else ""
        form = f"{self.family}-{step}{light}"
        return form if step in ("dnet", "allnet") and is_model(form) else self.model

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
        return plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        """The resolved recipe as YAML text that `parse_recipe` reads back to an equal recipe."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """A tree of new dicts and lists; tuples become lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
