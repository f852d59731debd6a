"""PCSR forms: an original network's encoder under a pixel router (Jeong et al., ECCV 2024).

The encoder is the original without its upsampler, somewhat narrower, so that with every pixel heavy
the network costs about what the original does. Parameters: fsrcnn-pcsr 24,502, carn-pcsr 168,970,
msrresnet-pcsr 1,078,390; bsrn-pcsr, whose configuration is not published, 198,248 in the one that
fits the printed size. The state-dict keys are those of the released checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..nn import PixelRouter
from . import bsrn, carn, fsrcnn_original, msrresnet
from .registry import register

SCALES = (2, 3, 4)  # of a name; a call may ask for any


@dataclass(frozen=True)
class Configuration:
    """A published network.

    Attributes:
        encoder: channels -> encoder. channels: C. heavy, light, classifier: hidden widths.
        mean: colour that is subtracted.
        context: LR pixels around one that its feature depends on; None where that has no bound.
    """

    encoder: Callable[[int], nn.Module]
    channels: int
    heavy: tuple[int, ...]
    light: tuple[int, ...]
    classifier: tuple[int, ...]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    context: int | None = None


CONFIGURATIONS = {
    "fsrcnn": Configuration(
        fsrcnn_original.FSRCNNEncoder, 48, (58,) * 4, (10,) * 3, (), context=fsrcnn_original.CONTEXT
    ),
    "carn": Configuration(
        carn.CARNEncoder, 52, (74,) * 4, (20,) * 3, (10, 10), carn.MEAN, carn.CONTEXT
    ),
    "msrresnet": Configuration(
        msrresnet.MSRResNetEncoder, 58, (170,) * 4, (40,) * 3, (20, 20), context=msrresnet.CONTEXT
    ),
    "bsrn": Configuration(bsrn.BSRNEncoder, 48, (46,) * 4, (10,) * 3, (10,)),
}


def build_pcsr(family: str, scale: int, middle: Sequence[Sequence[int]] = ()) -> PixelRouter:
    """A published network, or one with more classes.

    Args:
        family: key of ``CONFIGURATIONS``. scale: of a call that does not say.
        middle: hidden widths of further samplers between the light and the heavy one, cheapest
            first: ``[[64, 64, 64]]`` makes three classes of CARN.
    """
    made = CONFIGURATIONS[family]
    hidden = [made.light, *middle, made.heavy]
    net = PixelRouter(
        made.encoder(made.channels),
        made.channels,
        hidden,
        made.classifier,
        scale=scale,
        mean=made.mean,
    )
    # Averaging takes neighbours whose nearest feature is the next one.
    reach = None if made.context is None else made.context + 1
    net.receptive_field = None if reach is None else 2 * reach + 1
    return net


for _family in CONFIGURATIONS:
    register(
        f"{_family}-pcsr",
        SCALES,
        f"{_family} with a light or a heavy sampler for every pixel, any scale",
        partial(build_pcsr, _family),
        ("middle",),
    )
