"""The model of each stage, and the weights it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsesr.models import create_model, identity_init_, load_weights
from sparsesr.nn import has_sparse_masks, routes_pixels, selects_patches
from sparsesr.train.recipe import (
    ROUTED,
    WHOLE,
    InitConfig,
    Recipe,
    RecipeError,
    StageConfig,
    step_of,
)

PARTS = ("base", "refine", "mask")
HEAD = "upsampler"  # the part of a Base-Net that makes its feature map the coarse image

# Options of the -mga form that the forms of the earlier stages do not have.
_LATER_OPTIONS = {"dnet": ("patch_size", "k", "mask_channels"), "allnet": ("k", "mask_channels")}


def make_net(recipe: Recipe, stage: str) -> Any:
    """The model that `stage` trains, with those of the recipe's options that it has."""
    later = _LATER_OPTIONS.get(step_of(stage), ())
    options = {key: value for key, value in recipe.model_options.items() if key not in later}
    try:
        return create_model(recipe.stage_model(stage), scale=recipe.scale, **options)
    except TypeError as error:
        raise RecipeError(f"model_options: {error}") from None


def check_models(recipe: Recipe) -> None:
    """Build every stage's model once, so that a mistake shows now and not after hours.

    Raises RecipeError for options a model does not have, parts to freeze that it lacks, a crop
    that the mask stage's patches do not fill, an identity start or a loss that the model does not
    know; UnknownModelError for the model itself.
    """
    for stage in recipe.stages:
        net = make_net(recipe, stage.name)
        if stage.step == "dnet" and selects_patches(net):
            raise RecipeError(
                f"stages.{stage.name}: {recipe.model} has no -dnet form; leave it out"
            )
        for part in frozen_parts(stage):
            if not isinstance(getattr(net, part, None), nn.Module):
                raise RecipeError(
                    f"stages.{stage.name}.freeze: {recipe.stage_model(stage.name)} has no {part!r}"
                )
        _check_losses(recipe, stage, net)
        crop = stage.lr_crop or recipe.data.lr_crop
        if stage.step == "mask" and crop % net.patch_size:
            raise RecipeError(
                f"stages.mask: lr_crop {crop} is no multiple of the patch size {net.patch_size}"
            )


def _check_losses(recipe: Recipe, stage: StageConfig, net: nn.Module) -> None:
    if stage.loss.active and not has_sparse_masks(net):
        raise RecipeError(
            f"stages.{stage.name}.loss.active: {recipe.stage_model(stage.name)} has no sparse masks"
        )
    if stage.loss.balance and stage.step != "light":
        raise RecipeError(
            f"stages.{stage.name}.loss.balance: only light stages have several samplers"
        )
    if stage.step == "light" and stage.samplers > net.classes:  # type: ignore[operator]
        raise RecipeError(
            f"stages.{stage.name}.samplers: {recipe.model} has {net.classes}, got {stage.samplers}"
        )
    if stage.step in (*ROUTED, WHOLE) and recipe.init.conv == "identity":
        raise RecipeError(
            f"init.conv: 'identity' is for networks that end in a transposed convolution; "
            f"{recipe.model} is none, use 'torch' or 'kaiming'"
        )


def frozen_modules(stage: StageConfig, net: Any) -> list[nn.Module]:
    """The sub-modules of `net` that `stage` leaves untouched.

    A head stage trains the Base-Net's coarse head, a heavy one encoder and heaviest sampler, a
    light one the lightest sampler in use and the classifier.
    """
    if stage.step == "head":
        trunk = [part for name, part in net.base.named_children() if name != HEAD]
        return [*trunk, *(getattr(net, name) for name in PARTS[1:])]
    if not routes_pixels(net):
        names = frozen_parts(stage)
        if stage.step == "allnet" and selects_patches(net):  # an -mga form, all patches refined
            names = (*names, "mask")
        return [getattr(net, name) for name in names]
    if stage.step == "heavy":
        return [*net.all_samplers[:-1], net.classifier]
    lightest = net.classes - stage.samplers
    others = [sampler for j, sampler in enumerate(net.all_samplers) if j != lightest]
    return [net.encoder, *others]


def frozen_parts(stage: StageConfig) -> tuple[str, ...]:
    """Names of the sub-modules that `stage` leaves untouched."""
    always = ("base", "refine") if stage.step == "mask" else ()
    return tuple(dict.fromkeys((*always, *stage.freeze)))


@torch.no_grad()
def initialise(net: nn.Module, config: InitConfig) -> None:
    """Give `net` the recipe's random start (in place, from torch's global generator)."""
    if config.conv == "kaiming":
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                layer.weight.mul_(config.gain)
                if layer.bias is not None:
                    layer.bias.zero_()
    if config.conv == "identity":
        identity_init_(net, 1e-3 if config.upsampler_std is None else config.upsampler_std)
    elif config.upsampler_std is not None:
        for layer in net.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=config.upsampler_std)
                if layer.bias is not None:
                    layer.bias.zero_()


def load_parts(net: nn.Module, state: dict[str, Any], source: str, head: bool = True) -> None:
    """Copy the parts (base, refine, mask) that `state` and `net` share; all of a net without parts.

    A part must be complete: missing, additional or differently shaped tensors raise RecipeError.
    Parts that `state` does not have keep their weights, and without `head` the coarse head does.
    """
    if not any(isinstance(getattr(net, name, None), nn.Module) for name in PARTS):
        _load_strictly(net, state, source)
        return
    loaded = []
    for name in PARTS:
        part = getattr(net, name, None)
        own = {
            key.removeprefix(f"{name}."): value
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }
        if not isinstance(part, nn.Module) or not own:
            continue
        if name == "base" and not head:
            own = {key: value for key, value in own.items() if not _of_head(key)}
            own |= {key: value for key, value in part.state_dict().items() if _of_head(key)}
        _load_strictly(part, own, source)
        loaded.append(name)
    if "base" not in loaded:
        raise RecipeError(f"{source}: expected weights of base (keys base.*), found none")


def _of_head(key: str) -> bool:
    return key.startswith(f"{HEAD}.")


def same_head(net: Any, model: str | None) -> bool:
    """Whether the coarse head of `net` is the kind that weights of `model` hold (None: unknown)."""
    return model is None or model.endswith("-light") == net.model_name.endswith("-light")


def start_light_head(net: Any) -> None:
    """Let the coarse image of a light form be the bilinearly enlarged input, in place.

    The head adds to that image: with its only convolution at zero nothing is added, and its
    gradient is not zero. Other forms keep their start.
    """
    if net.model_name.endswith("-light"):
        for value in net.base.get_submodule(HEAD).parameters():
            nn.init.zeros_(value)


def model_of(path: str | Path) -> str | None:
    """Name of the model that a weights file says it is of; None where it says nothing."""
    try:
        return str(load_weights(path)[0]["model"])
    except ValueError:
        return None


def _load_strictly(net: nn.Module, state: dict[str, Any], source: str) -> None:
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise RecipeError(f"{source}: {error}") from None


def read_weights(path: str | Path) -> dict[str, Any]:
    """State dict of a .safetensors file, or of a .pt/.pth file (read with weights_only)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"init.weights: no such file: {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
