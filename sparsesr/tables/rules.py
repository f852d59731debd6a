"""Which of our networks a row of a paper's table is, and on what images it was counted.

A rule reads the names of a whole family of rows; no figure of ours stands here. What no rule can
compute gets the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .published import Row


@dataclass(frozen=True)
class Recipe:
    """How to compute a row.

    Attributes:
        model: name without scale. options: for ``create_model``. run: for ``complexity``.
        protocol: whose mean LR sizes apply, or "720p" for one 1280x720 HR image.
        crop: multiple that the sides of the LR images are cropped to, where the protocol asks.
        flops_reason: why the FLOPs cannot be computed, where only the parameters can.
        params_reason: the same for the parameters.
        uncounted: parameters that the paper leaves out of its count, as a pattern of names.
        caveat: what is known of a figure that comes out different.
    """

    model: str
    protocol: str
    options: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    crop: int | None = None
    flops_reason: str | None = None
    params_reason: str | None = None
    uncounted: str | None = None
    caveat: str | None = None


def recipe(row: Row) -> Recipe | str:
    """The recipe of a row, or the reason why there is none."""
    found = _RULES[row.paper](row)
    return f"no rule for {row.variant}" if found is None else found


# MGA: <family>-<form>, in brackets a patch size, a mask of one channel, block counts or a training.

_FORMS = {"B": "base", "D": "dnet", "A": "allnet", "M": "mga"}
_PATCH_PIXELS = 16_000  # K * p * p of every -M row
_DEFAULT_PATCH = 4
_FOREIGN = "another paper's network; there is no model of it here"


def _mga(row: Row) -> Recipe | str | None:
    found = re.fullmatch(r"(\w+)-([BDAMC])(?:\((.*)\))?(?: .*)?", row.variant)
    if found is None:
        return None
    family, form, detail = found[1].lower(), found[2], found[3] or ""
    if form == "C":
        return f"ClassSR: {_FOREIGN}"
    options: dict[str, Any] = {}
    patch = _DEFAULT_PATCH
    if detail.isdigit():
        options["patch_size"] = patch = int(detail)
    elif detail == "1C":
        options["mask_channels"] = 1
    elif blocks := re.fullmatch(r"(\d+)\+(\d+)", detail):
        options |= {"base_blocks": int(blocks[1]), "refine_blocks": int(blocks[2])}
    run = {"k": _PATCH_PIXELS // patch**2} if form == "M" else {}
    return Recipe(f"{family}-{_FORMS[form]}", "MGA", options, run, crop=patch)


# PCSR: <original>, <original>-PCSR, and the methods it is compared with.

_ORIGINALS = {"FSRCNN": "fsrcnn", "CARN": "carn", "SRResNet": "msrresnet", "BSRN": "bsrn"}
_ROUTED = "depends on how many pixels a trained network calls heavy"
_NO_CONFIGURATION = {
    ("2", "SRResNet-PCSR"),
    ("4", "CARN-PCSR-3class"),
    ("appendix 5", "BSRN-PCSR"),
}


def _pcsr(row: Row) -> Recipe | str | None:
    found = re.fullmatch(r"([A-Za-z]+)(-original|-[A-Za-z]+)?(.*)", row.variant)
    if found is None or found[1] not in _ORIGINALS:
        return None
    original, method, detail = found[1], (found[2] or "").removeprefix("-"), found[3]
    if method in ("ClassSR", "ARM"):
        return f"{method}: {_FOREIGN}"
    if method == "MGA":
        return Recipe(f"{original.lower()}-mga", "MGA", run={"k": 1000}, crop=_DEFAULT_PATCH)
    if (row.table, row.variant) in _NO_CONFIGURATION:
        return "the configuration of this network is not published"
    if row.table == "3":
        return "the images of this table, cut into patches, are not known"
    if method != "PCSR":
        return Recipe(_ORIGINALS[original], "PCSR")
    everything_heavy = detail == "(MAX)"
    return Recipe(
        f"{_ORIGINALS[original]}-pcsr",
        "PCSR",
        run={"budget": 1.0} if everything_heavy else {},
        flops_reason=None if everything_heavy else _ROUTED,
    )


# DRSAN: sizes by name, and the ablations of a 48s with two groups at x2.

_ABLATED = "drsan-48s"
_COMPARED = {"Baseline": "Res+Concat", "DRSA": "DRA+RSA+Concat"} | {
    name: f"Res+{name}+Concat" for name in ("CA", "SA", "PA")
}
_ATTENTIONS: dict[str, bool | str] = {
    "RSA": True,
    "CA": "channel",
    "SA": "spatial",
    "PA": "pixel",
}
_RESIDUALS = {"Res": "last", "AllRes": "all", "DRA": "dynamic"}


def _drsan(row: Row) -> Recipe | str | None:
    if row.variant.startswith("DRSAN-"):
        return Recipe(row.variant.lower(), "720p")
    parts = set(_COMPARED.get(row.variant, row.variant).split("+"))
    residual, attention = parts & set(_RESIDUALS), parts & set(_ATTENTIONS)
    if len(residual) != 1 or len(attention) > 1 or parts - residual - attention - {"Concat"}:
        return None
    options = {
        "groups": 2,
        "residual": _RESIDUALS[residual.pop()],
        "attention": _ATTENTIONS[attention.pop()] if attention else False,
        "concat": "Concat" in parts,
    }
    return Recipe(_ABLATED, "720p", options)


# SMSR: supplement, Table I (variants of the channel mask) and Table II (on other backbones).

_CHANNEL_MASKS = {
    "SMSR w/o channel mask": "none",
    "SMSR dynamic channel mask": "dynamic",
    "SMSR static channel mask": "static",
}
_LOGITS = "*ch_mask"  # 985K is the network without its 2,560 logits of static channel masks
_MASKED = "depends on the masks of a trained network"
_TWO_NETWORKS = (
    "1.54M and 112.11G are of two networks: 9x9 head with batch norm; 3x3 head without, nor a "
    "convolution behind the blocks"
)


def _smsr(row: Row) -> Recipe | str | None:
    if row.variant in _CHANNEL_MASKS:
        options = {"channel_masks": _CHANNEL_MASKS[row.variant]}
        return Recipe("smsr", "720p", options, uncounted=_LOGITS)
    backbone, method, *mark = row.variant.split()
    if method in ("DHP", "Basis"):
        return f"{method}: {_FOREIGN}"
    if method == "Ours":
        contradicts = backbone == "SRResNet" and mark == ["(b)"]
        return Recipe(
            f"{backbone.lower()}-smsr",
            "720p",
            flops_reason=_MASKED,
            uncounted=_LOGITS,
            caveat="Ours (a) and (b) are one network, yet print 1.58M and 1.54M"
            if contradicts
            else None,
        )
    if backbone == "SRResNet":
        return Recipe("srresnet-smsr", "720p", {"masked_groups": 0}, caveat=_TWO_NETWORKS)
    return Recipe("imdn", "720p", caveat="0.2 to 0.3 G of the published count is not identified")


_RULES = {"MGA": _mga, "PCSR": _pcsr, "DRSAN": _drsan, "SMSR": _smsr}
