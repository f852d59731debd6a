"""Released checkpoints of the papers as weights files of this package.

The network is recognised from the names and shapes of its tensors. Files are read with
``weights_only=True``: no code in them is ever run. Another released file is one more entry of
``RELEASED``.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .registry import create_model

# What torch.load raises on refused, cut or foreign files.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)

State = Mapping[str, Tensor]
Recognise = Callable[[State, Mapping[str, Any]], dict[str, Any] | None]
_ROUTED = "classifier.imnet.layers.0.weight"


class UnknownCheckpointError(ValueError):
    """A file that cannot be read as weights, or holds those of no network known here."""


@dataclass(frozen=True)
class Released:
    """A network whose released checkpoints can be read.

    Attributes:
        model: its name here.
        recognise: (state dict, arguments saved beside it) -> what ``create_model`` needs beside
            the name, ``{"scale": 2}``; None for a checkpoint of another network. It looks at names
            and shapes; that everything fits is checked afterwards by a strict load.
        training_data: what the authors trained on, for the card.
    """

    model: str
    recognise: Recognise
    training_data: str


def _smsr(state: State, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    if not {"body.0.body.ch_mask", "body.0.spa_mask.5.weight", "tail.0.weight"} <= state.keys():
        return None
    # The last convolution makes three colours of s*s pixels.
    return {"scale": math.isqrt(state["tail.0.weight"].shape[0] // 3)}


def _by_names(*names: str) -> Recognise:
    """Recognises a network by some of its tensors, which do not tell the scale."""

    def recognise(state: State, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"scale": arguments.get("upscale", 4)} if set(names) <= state.keys() else None

    return recognise


def _carn(state: State, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The upsampler's layers tell the scale: two of x2, or one of s*s times the channels."""
    wide = state.get("upsample.up.body.0.weight")
    if wide is None or "entry.weight" not in state or "c1.1.running_mean" not in state:
        return None
    if "upsample.up.body.3.weight" in state:
        return {"scale": 4}
    return {"scale": math.isqrt(wide.shape[0] // state["entry.weight"].shape[0])}


_DIV2K = "DIV2K, 800 training images"
RELEASED = (
    Released("smsr", _smsr, _DIV2K),
    Released("fsrcnn", _by_names("head_conv.0.weight", "tail_conv.weight"), _DIV2K),
    Released("carn", _carn, _DIV2K),
    Released("fsrcnn-pcsr", _by_names("encoder.head_conv.0.weight", _ROUTED), _DIV2K),
    Released("carn-pcsr", _by_names("encoder.b1.b1.body.0.weight", _ROUTED), _DIV2K),
    Released("msrresnet-pcsr", _by_names("encoder.recon_trunk.0.conv1.weight", _ROUTED), _DIV2K),
)


def convert(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a released checkpoint, with its weights, and a card that says where from.

    ``save_weights(net, out, card)`` then writes what ``from_pretrained`` reads.

    Args:
        path: ``.pt`` or ``.pth``; the state dict itself, or a training checkpoint around it.

    Returns:
        ``(net, card)``, net in eval mode.

    Raises:
        FileNotFoundError: no such file.
        UnknownCheckpointError: not a checkpoint, one that holds more than data, one of a network
            not known here, or one whose tensors do not fit the network.

    Example:
        >>> net, card = convert("smsr_x2.pt")    # doctest: +SKIP
    """
    path = Path(path)
    state, arguments = _find_state(read_checkpoint(path), path)
    for released in RELEASED:
        options = released.recognise(state, arguments)
        if options is not None:
            break
    else:
        raise UnknownCheckpointError(_unknown(path, state))
    try:
        net = create_model(released.model, **options)
        net.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise UnknownCheckpointError(
            f"{path}: looks like {released.model}, but does not fit it: {error}"
        ) from None
    card = {
        "training_data": {"name": released.training_data, "terms": None},
        "converted_from": {"file": path.name, "sha256": _sha256(path)},
        "note": "Weights released by the paper's authors; their terms apply.",
    }
    return net.eval(), card


def read_checkpoint(path: Path) -> Any:
    """What a ``torch.save`` file holds, on the CPU, without running code from it.

    Raises:
        FileNotFoundError: no such file.
        UnknownCheckpointError: not such a file, or one that holds more than data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE:  # torch's own text advises to run the code after all
        raise UnknownCheckpointError(
            f"{path}: expected a torch checkpoint of tensors and plain values; this file is "
            "damaged, of another kind, or could only be read by running code from it"
        ) from None


def _find_state(document: Any, path: Path) -> tuple[State, Mapping[str, Any]]:
    """The state dict in a checkpoint and the arguments that lie beside it."""
    arguments: Mapping[str, Any] = {}
    while isinstance(document, Mapping):
        if document and all(isinstance(value, Tensor) for value in document.values()):
            return document, arguments
        arguments = document.get("args", arguments)
        inner = [k for k in ("model", "sd", "state_dict", "params_ema", "params") if k in document]
        document = document[inner[0]] if inner else None
    raise UnknownCheckpointError(
        f"{path}: expected a state dict (names -> tensors), alone or under model, state_dict or "
        "params; found none"
    )


def _unknown(path: Path, state: State) -> str:
    known = ", ".join(released.model for released in RELEASED)
    shown = ", ".join(list(state)[:3])
    return (
        f"{path}: no network known here has these {len(state)} tensors ({shown}, ...); "
        f"expected a released checkpoint of {known}"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
