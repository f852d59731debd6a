"""The ablations of DRSAN (Tables V to VII) and of SMSR's channel masks (supplement, Table I)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsesr.train.recipe import MaskConfig

from .plan import SHORT_DATA, SHORT_SETTINGS, SHORT_STAGE, Ablation, Training, Variant

_DRSAN, _SMSR = "drsan-48s-x2", "smsr-x2"
# The short profile of each recipe: steps of a variant, rate, crops. In so few steps SMSR's masked
# layers gain next to nothing, and masks close under any weight of the active share.
_SHORT: dict[str, tuple[int, dict[str, Any], dict[str, int]]] = {
    _DRSAN: (800, {"optimizer": {"lr": 5e-4}}, {"lr_crop": 24, "batch": 8}),
    _SMSR: (
        600,
        {"loss": {"sr": 255.0, "active": 10.0}, "masks": MaskConfig(ramp=200, cooling=1000)},
        {"lr_crop": 24, "batch": 4},
    ),
}

_RESIDUALS = {"Res": "last", "AllRes": "all", "DRA": "dynamic"}
_ATTENTIONS: dict[str, bool | str] = {
    "RSA": True,
    "CA": "channel",
    "SA": "spatial",
    "PA": "pixel",
}
_TABLE_V = (
    "Res",
    "Res+RSA",
    "Res+RSA+Concat",
    "DRA+RSA",
    "AllRes+RSA+Concat",
    "DRA+Concat",
    "DRA+RSA+Concat",
)
_TABLE_VII = {
    "Baseline": "Res+Concat",
    "CA": "Res+CA+Concat",
    "SA": "Res+SA+Concat",
    "PA": "Res+PA+Concat",
    "DRSA": "DRA+RSA+Concat",
}
_CHANNEL_MASKS = {
    "SMSR w/o channel mask": "none",
    "SMSR dynamic channel mask": "dynamic",
    "SMSR static channel mask": "static",
}


def drsan_options(parts: str) -> dict[str, Any]:
    """Model options of a network named by its parts, "Res+CA+Concat".

    Example:
        >>> drsan_options("DRA+RSA")
        {'groups': 2, 'residual': 'dynamic', 'attention': True, 'concat': False}
    """
    named = parts.split("+")
    return {
        "groups": 2,
        "residual": next(_RESIDUALS[part] for part in named if part in _RESIDUALS),
        "attention": next((_ATTENTIONS[part] for part in named if part in _ATTENTIONS), False),
        "concat": "Concat" in named,
    }


def _whole(recipe: str, profile: str, name: str, options: Mapping[str, Any]) -> Training:
    if profile != "short":
        return Training(f"{recipe}-{name}", recipe, "whole", options=options)
    steps, stage, data = _SHORT[recipe]
    return Training(
        f"{recipe}-{name}",
        recipe,
        "whole",
        steps,
        options=options,
        stage={**SHORT_STAGE, **stage},
        data={**SHORT_DATA, **data},
        settings=SHORT_SETTINGS,
    )


def _drsan(profile: str, rows: Mapping[str, str]) -> list[Variant]:
    variants = []
    for row, parts in rows.items():
        source = _whole(_DRSAN, profile, parts.lower(), drsan_options(parts))
        variants.append(Variant(row, source, row))
    return variants


def _table5(profile: str, models: Sequence[str]) -> list[Variant]:
    return _drsan(profile, {row: row for row in _TABLE_V})


def _table6(profile: str, models: Sequence[str]) -> list[Variant]:
    whole = "DRA+RSA+Concat"
    rows = []
    for activation in ("sigmoid", "tanh", "none"):
        options = drsan_options(whole)
        name = whole.lower()
        if activation != "none":
            options["activation"] = activation
            name += f"-{activation}"
        row = f"DRM activation {activation.title()}"
        rows.append(Variant(row, _whole(_DRSAN, profile, name, options), row))
    return rows


def _table7(profile: str, models: Sequence[str]) -> list[Variant]:
    return _drsan(profile, _TABLE_VII)


def _smsr(profile: str, models: Sequence[str]) -> list[Variant]:
    return [
        Variant(row, _whole(_SMSR, profile, masks, {"channel_masks": masks}), row)
        for row, masks in _CHANNEL_MASKS.items()
    ]


_FROM_SCRATCH = "Every row is trained from scratch with the same steps."
_ABLATED = f"A 48s with 2 groups at x2. {_FROM_SCRATCH}"

TABLES = (
    Ablation(
        "drsan-table5",
        "DRSAN",
        "V",
        "residual paths, residual attention and the 1x1 over all features",
        _table5,
        _ABLATED,
        _DRSAN,
        ("params",),
    ),
    Ablation(
        "drsan-table6",
        "DRSAN",
        "VI",
        "activation on the residual coefficients",
        _table6,
        _ABLATED,
        _DRSAN,
        ("params",),
    ),
    Ablation(
        "drsan-table7",
        "DRSAN",
        "VII",
        "channel, spatial and pixel attention in the place of dynamic residual self-attention",
        _table7,
        _ABLATED
        + " The paper does not say where its CA, SA and PA lie: here on every residual, in "
        "the usual forms that have its numbers of parameters.",
        _DRSAN,
        ("params",),
    ),
    Ablation(
        "smsr-table1",
        "SMSR",
        "supp I",
        "no, dynamic and static channel masks",
        _smsr,
        _FROM_SCRATCH + " Parameters hold the logits of static masks, which the paper leaves out.",
        _SMSR,
        ("params", "sparsity"),
    ),
)
