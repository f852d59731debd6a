"""The MGA families at a depth that runs quickly."""

from __future__ import annotations

from typing import Any

import torch

import sparsesr

SCALES = (2, 3, 4)
FORMS = ("base", "dnet", "allnet", "mga")
LIGHT_FORMS = ("base-light", "allnet-light", "mga-light")
FAMILIES: dict[str, dict[str, int]] = {
    "fsrcnn": {},
    "pan": {"base_blocks": 2, "refine_blocks": 1},
    "rfdn": {"base_blocks": 2, "refine_blocks": 1},
    "srresnet": {"base_blocks": 1, "refine_blocks": 1},
    "rcan": {"base_blocks": 1, "refine_blocks": 1, "group_blocks": 2},
}


def small(family: str, form: str, scale: int, **options: Any) -> Any:
    """A small network of that form, with weights that depend on its name alone."""
    depth = FAMILIES[family]
    if form.startswith("base"):
        depth = {name: value for name, value in depth.items() if name != "refine_blocks"}
    torch.manual_seed(0)
    return sparsesr.create_model(f"{family}-{form}", scale, **depth, **options)


def sharing(net: Any, family: str, form: str) -> Any:
    """The same family in another form, with the weights of ``net``, in eval mode."""
    other = small(family, form, net.scale)
    keys = other.state_dict().keys()
    other.load_state_dict({k: v for k, v in net.state_dict().items() if k in keys})
    return other.eval()
