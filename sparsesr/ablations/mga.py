"""The ablations of MGA (ECCV 2022), all on FSRCNN: Tables 3 to 7."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from .plan import SHORT_DATA, SHORT_SETTINGS, SHORT_STAGE, Ablation, Given, State, Training, Variant

_X2, _X4 = "fsrcnn-mga-x2", "fsrcnn-mga-x4"
# The short profile: steps from the shipped weights, and from scratch (Table 4); rates and crops.
_FINE = {"base": 1000, "dnet": 1000, "allnet": 1000, "mask": 1500}
_SCRATCH = {"base": 5000, "dnet": 5000, "allnet": 5000, "e2e": 5000, "mask": 2000}
_FINE_RATE, _SCRATCH_RATE, _MASK_RATE = 3e-4, 1e-3, 4e-3
_CROPS = {**SHORT_DATA, "lr_crop": 24, "batch": 16}
_START = {"conv": "identity", "upsampler_std": 1e-3}
_COARSE_ALONE = {"loss": {"sr": 0.0, "coarse": 10.0}, "freeze": ("refine",)}
_WITHOUT_SUPERVISION = {"loss": {"mask": 0.0, "sr": 10.0}}
_BLOCKS = 4  # mapping layers of FSRCNN, in Base- and Refine-Net together
_SEEDS = (0, 1000, 2000)  # image i takes seed + i


class _Steps:
    """The trainings of one recipe in one profile.

    Short and not from scratch, each part starts from the shipped weights, which have it; else as in
    the paper: the All-Net from the D-Net.
    """

    def __init__(self, recipe: str, profile: str, scratch: bool = False) -> None:
        self.recipe = recipe
        self.short = profile == "short"
        self.prefix = f"{recipe}-scratch" if self.short and scratch else recipe
        self.budget = (_SCRATCH if scratch else _FINE) if self.short else {}
        self.shipped = Given(recipe) if self.short and not scratch else None

    def base(self) -> Training:
        """-B: the Base-Net alone, by its coarse image."""
        steps = self.budget.get("base")
        return self._make("base", "dnet", steps, start=self.shipped, stage=_COARSE_ALONE)

    def dnet(self, decomposition: tuple[int, int] | None = None) -> Training:
        """-D."""
        name, options, _ = _decomposed("dnet", decomposition)
        steps = self.budget.get("dnet")
        return self._make(name, "dnet", steps, start=self.shipped, options=options)

    def allnet(self, patch: int = 4, decomposition: tuple[int, int] | None = None) -> Training:
        """-A; with a ``decomposition`` the shipped mapping layers are dealt out anew."""
        name, options, convert = _decomposed(f"allnet-p{patch}", decomposition)
        return self._make(
            name,
            "allnet",
            self.budget.get("allnet"),
            start=self.shipped or self.dnet(decomposition),
            convert=convert if self.shipped else None,
            options={**options, "patch_size": patch},
        )

    def mask(self, allnet: Training, channels: int = 2, supervised: bool = True) -> Training:
        """-M, its mask trained by the ground truth, or by the SR loss."""
        kind = allnet.name.removeprefix(f"{self.prefix}-allnet")
        name = f"mask{kind}-{channels}c" + ("" if supervised else "-sr-loss")
        return self._make(
            name,
            "mask",
            self.budget.get("mask"),
            start=allnet,
            options={**allnet.options, "mask_channels": channels},
            stage={} if supervised else _WITHOUT_SUPERVISION,
        )

    def e2e(self) -> Training:
        """-M(E2E): all parts at once, from scratch."""
        return self._make("e2e", "e2e", self.budget.get("e2e"), like="dnet")

    def _make(
        self,
        name: str,
        step: str,
        steps: int | None,
        stage: Mapping[str, Any] = MappingProxyType({}),
        **rest: Any,
    ) -> Training:
        if self.short:
            rate = _FINE_RATE if self.shipped else _SCRATCH_RATE
            rate = _MASK_RATE if step == "mask" else rate
            optimizer = {"lr": rate, "min_lr": 1e-6, "warmup_lr": 1e-4}
            stage = {**stage, **SHORT_STAGE, "optimizer": optimizer, "ema": 0.999}
            rest |= {"data": _CROPS, "init": _START, "settings": SHORT_SETTINGS}
        return Training(f"{self.prefix}-{name}", self.recipe, step, steps, stage=stage, **rest)


def _decomposed(
    name: str, decomposition: tuple[int, int] | None
) -> tuple[str, dict[str, int], Callable[[State], dict[str, Tensor]] | None]:
    """Name, model options and conversion of shipped weights."""
    if decomposition is None:
        return name, {}, None
    base, refine = decomposition
    options = {"base_blocks": base, "refine_blocks": refine}
    return f"{name}-{base}+{refine}", options, partial(dealt_out, base_blocks=base)


def dealt_out(state: State, base_blocks: int) -> dict[str, Tensor]:
    """FSRCNN's mapping layers in their order, ``base_blocks`` to the Base-Net, the rest behind."""
    moved = {key: value for key, value in state.items() if ".mapping." not in key}
    layer = 0
    for part in ("base", "refine"):
        inside = [key for key in state if key.startswith(f"{part}.mapping.")]
        count = 1 + max(int(key.split(".")[2]) for key in inside)
        for key in inside:
            _, _, index, name = key.split(".")
            # A convolution and a PReLU each.
            place = layer + int(index)
            to, first = ("base", 0) if place < 2 * base_blocks else ("refine", 2 * base_blocks)
            moved[f"{to}.mapping.{place - first}.{name}"] = state[key]
        layer += count
    return moved


def _table3(profile: str, models: Sequence[str]) -> list[Variant]:
    steps = _Steps(_X4, profile)
    allnet = steps.allnet()
    return [
        Variant("FSRCNN-B", steps.base(), "PAN-B", form="fsrcnn-base"),
        Variant("FSRCNN-M(1C)", steps.mask(allnet, channels=1), "PAN-M(1C)"),
        Variant("FSRCNN-M", steps.mask(allnet), "PAN-M"),
        Variant("FSRCNN-D", steps.dnet(), "PAN-D"),
    ]


def _table4(profile: str, models: Sequence[str]) -> list[Variant]:
    steps = _Steps(_X2, profile, scratch=True)
    allnet = steps.allnet()
    rows = {
        "FSRCNN-B": steps.base(),
        "FSRCNN-M(E2E)": steps.e2e(),
        "FSRCNN-M(w/o S)": steps.mask(allnet, supervised=False),
        "FSRCNN-M": steps.mask(allnet),
        "FSRCNN-D": steps.dnet(),
    }
    return [
        Variant(name, source, name, form="fsrcnn-base" if name == "FSRCNN-B" else None)
        for name, source in rows.items()
    ]


def _table5(profile: str, models: Sequence[str]) -> list[Variant]:
    steps = _Steps(_X2, profile)
    published = ("PAN-M(10+6)", "PAN-M(12+4)", "PAN-M(14+2)")
    rows = []
    for base, row in enumerate(published, 1):
        allnet = steps.allnet(decomposition=(base, _BLOCKS - base))
        name = f"FSRCNN-M({base}+{_BLOCKS - base})"
        rows.append(Variant(name, steps.mask(allnet), row))
    return [*rows, Variant("FSRCNN-D", steps.dnet(), "PAN-D")]


def _table6(profile: str, models: Sequence[str]) -> list[Variant]:
    steps = _Steps(_X4, profile)
    rows = []
    for patch in (2, 4, 8):
        name = f"FSRCNN-M({patch})"
        rows.append(Variant(name, steps.mask(steps.allnet(patch)), name))
    base = Variant("FSRCNN-B", steps.base(), "FSRCNN-B", form="fsrcnn-base")
    return [base, *rows, Variant("FSRCNN-D", steps.dnet(), "FSRCNN-D")]


def _table7(profile: str, models: Sequence[str]) -> list[Variant]:
    source = Given(models[0], user=True) if models else Given(_X4)
    net = source.name.rsplit("-x", 1)[0].replace("-mga", "-M").replace("fsrcnn", "FSRCNN")
    rows = [Variant(f"{net} K=0", source, "RFDN-M K=0", runs=({"k": 0},))]
    for label, published, choice in (
        ("paper", "1000", {"k": "paper"}),
        ("all/2", "all/2", {"budget": 0.5}),
    ):
        for order in ("smallest", "random", "largest"):
            letter = order[0].upper()
            seeds = _SEEDS if order == "random" else (0,)
            runs = tuple({**choice, "order": order, "seed": seed} for seed in seeds)
            row = f"RFDN-M K={published},{letter}"
            rows.append(Variant(f"{net} K={label},{letter}", source, row, runs=runs))
    return [*rows, Variant(f"{net} K=all", source, "RFDN-M K=all", runs=({"k": "all"},))]


_FROM_SHIPPED = (
    "Short profile: every part starts from the shipped weights that have it; -B, -D and the "
    "All-Net under -M are then trained for equally many steps, and the masks of -M from scratch. "
)
_OTHER_NET = "The paper's rows are of {}."
_K = "K p^2 is 3840 on Set5, Set14 and B100 and 16000 elsewhere."

TABLES = (
    Ablation(
        "table3",
        "MGA",
        "3",
        "mask predictors of one channel and of two",
        _table3,
        _FROM_SHIPPED + _OTHER_NET.format("PAN") + " " + _K,
        _X4,
        ("flops",),
    ),
    Ablation(
        "table4",
        "MGA",
        "4",
        "end to end, without supervision of the mask, and in three steps",
        _table4,
        "Every row is trained from scratch (from bilinear upscaling, as the recipe does), end to "
        "end with as many steps as each of the three. A short All-Net lies below its coarse "
        "image, so that in the short profile refining more can lose. " + _K,
        _X2,
        ("flops",),
    ),
    Ablation(
        "table5",
        "MGA",
        "5",
        "how many layers in the Base-Net and how many in the Refine-Net",
        _table5,
        _FROM_SHIPPED
        + "The mapping layers are dealt out to the two nets in their order; 3+1 is how the weights "
        "were trained before. The paper's rows are of PAN with its 16 blocks, set beside ours in "
        "their order. " + _K,
        _X2,
        ("flops",),
    ),
    Ablation(
        "table6",
        "MGA",
        "6",
        "patches of 2, 4 and 8 with K p^2 constant",
        _table6,
        _FROM_SHIPPED + "The shipped All-Net was trained with patches of 4. " + _K,
        _X4,
        ("flops",),
    ),
    Ablation(
        "table7",
        "MGA",
        "7",
        "which patches are refined: smallest, random or largest scores",
        _table7,
        "Evaluation alone. K=paper is 240 patches on Set5, Set14 and B100, 1000 elsewhere; S, R "
        "and L take the smallest, random and largest scores, R is the mean over "
        f"{len(_SEEDS)} seeds. " + _OTHER_NET.format("RFDN at x2"),
        _X4,
        optional=("*-mga",),
    ),
)
