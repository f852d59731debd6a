"""Weights files: safetensors beside a JSON card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsesr.io import atomic_output

from .registry import create_model, resolve

_KEY = "sparsesr"
# Forms that share all their weights with a shipped one: the wanted form -> the file it reads.
_SUBSETS = {"allnet": "mga", "allnet-light": "mga-light"}
_MASK_OPTIONS = ("mask_channels", "k")


class WeightsNotFoundError(FileNotFoundError):
    """No weights ship under that name; the text says which do."""


def weights_dir() -> Path:
    """The folder of the weights that ship with the package."""
    return Path(__file__).resolve().parent.parent / "weights"


def shipped_weights() -> dict[str, Path]:
    """Shipped files by model name with scale, e.g. ``"fsrcnn-mga-x4"``."""
    return {path.stem: path for path in sorted(weights_dir().glob("*.safetensors"))}


def save_weights(net: nn.Module, path: str | os.PathLike[str], card: dict[str, Any]) -> None:
    """Write the weights of a model made by ``create_model`` and its card.

    Both files are written under a temporary name and renamed, so that an interrupted call leaves
    no half-written file.

    Args:
        net: the model; its name, scale and arguments go into both files.
        path: ``<stem>.safetensors``; the card is ``<stem>.json`` beside it.
        card: training data and its terms, steps, metrics, command; JSON values.

    Raises:
        ValueError: a path of another kind, or a net not made by ``create_model``.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"save_weights: expected a .safetensors path, got {path}")
    identity = _identity(net)
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_output(path.with_suffix(".json"), overwrite=True) as card_part,
        atomic_output(path, overwrite=True) as part,
    ):
        save_file(tensors, part, metadata={_KEY: json.dumps(identity)})
        part.chmod(0o644)  # safetensors writes for the owner alone
        card_part.write_text(json.dumps({**identity, **card}, indent=2) + "\n")


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``(identity, state dict)`` of a weights file; identity has model, scale and arguments.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weights file of this package.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: expected a .safetensors file written by sparsesr")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    if _KEY not in metadata:
        raise ValueError(f"{path}: does not say which sparsesr model it belongs to")
    return json.loads(metadata[_KEY]), state


def from_pretrained(name_or_path: str | os.PathLike[str], scale: int | None = None) -> nn.Module:
    """A trained model, in eval mode.

    Args:
        name_or_path: a shipped model (``"fsrcnn-mga-x4"``) or a weights file. An -allnet is read
            from the -mga file, of which it is a part.
        scale: must not contradict the name or the file.

    Raises:
        UnknownModelError: no model of that name.
        WeightsNotFoundError: the model exists, but no weights ship for it.
        FileNotFoundError, ValueError: the file is missing, unreadable, or for another scale.

    Example:
        >>> net = from_pretrained("fsrcnn-mga-x4")    # doctest: +SKIP
    """
    text = os.fspath(name_or_path)
    if os.sep in text or text.endswith((".safetensors", ".pt", ".pth")):
        identity, state = load_weights(text)
    else:
        identity, state = _load_shipped(text, scale)
    if scale is not None and scale != identity["scale"]:
        raise ValueError(f"{text} is for scale {identity['scale']}, got scale={scale}")
    net = create_model(identity["model"], identity["scale"], **identity["arguments"])
    net.load_state_dict(state)
    return net.eval()


def has_weights(name: str, scale: int | None = None) -> bool:
    """Whether ``from_pretrained(name, scale)`` finds a shipped file.

    Raises:
        UnknownModelError: no model of that name. ValueError: not for that scale.

    Example:
        >>> has_weights("fsrcnn-allnet", 4), has_weights("fsrcnn-base", 4)
        (True, False)
    """
    stem, scale = resolve(name, scale)
    return not {f"{stem}-x{scale}", f"{_whole(stem)}-x{scale}"}.isdisjoint(shipped_weights())


def _load_shipped(name: str, scale: int | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    stem, scale = resolve(name, scale)
    shipped = shipped_weights()
    if (path := shipped.get(f"{stem}-x{scale}")) is not None:
        return load_weights(path)
    whole = shipped.get(f"{_whole(stem)}-x{scale}")
    if whole is None:
        names = ", ".join(shipped) or "none yet"
        raise WeightsNotFoundError(
            f"no weights ship for {stem}-x{scale} (shipped: {names}); "
            "create_model makes it untrained, `sparsesr train` trains it"
        )
    identity, state = load_weights(whole)
    state = {key: value for key, value in state.items() if not key.startswith("mask.")}
    arguments = {k: v for k, v in identity["arguments"].items() if k not in _MASK_OPTIONS}
    return {"model": stem, "scale": scale, "arguments": arguments}, state


def _whole(stem: str) -> str:
    """The model whose file holds the weights of ``stem`` and more; itself where there is none."""
    for form, larger in _SUBSETS.items():
        if stem.endswith(f"-{form}"):
            return f"{stem.removesuffix(form)}{larger}"
    return stem


def _identity(net: nn.Module) -> dict[str, Any]:
    try:
        return {"model": net.model_name, "scale": net.scale, "arguments": net.arguments}
    except AttributeError as error:
        raise ValueError("save_weights: expected a net made by sparsesr.create_model") from error
