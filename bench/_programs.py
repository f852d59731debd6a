"""Programs of the networks that the benches time, and the modules that they are checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _macs import program_macs
from torch import Tensor, nn

import sparsesr
from sparsesr.models.blocks import Residual, Tail
from sparsesr.models.carn import CARNEncoder, Cascade
from sparsesr.ops import parse_program
from sparsesr.ops._program import Shape


@dataclass(frozen=True)
class NetProgram:
    """A program, its parameters, and the module that it computes.

    Attributes:
        text, weights: as `sparsesr.ops.run_program` takes them.
        module: map -> result, in plain torch.
    """

    text: str
    weights: list[Tensor]
    module: Callable[[Tensor], Tensor]

    def macs(self, shape: Shape) -> int:
        """Useful multiply-adds for one map [C,H,W]."""
        return program_macs(parse_program(self.text), self.weights, shape)


class ProgramWriter:
    """Turns modules into steps of a program, one after another; values are numbers, 0 the input."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.weights: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def parameter(self, tensor: Tensor) -> int:
        """Its number, the same for one that was given before."""
        if id(tensor) not in self._numbers:
            self._numbers[id(tensor)] = len(self.weights)
            self.weights.append(tensor)
        return self._numbers[id(tensor)]

    def step(self, words: str) -> int:
        """One more step; the value it makes."""
        self.lines.append(f"v{len(self.lines) + 1} = {words}")
        return len(self.lines)

    def conv(self, x: int, conv: Any, act: nn.Module | None = None, add: int | None = None) -> int:
        """A convolution or transposed convolution, a value added to it, an activation."""
        transposed = isinstance(conv, nn.ConvTranspose2d)
        words = [f"{'deconv' if transposed else 'conv'} v{x}"]
        words.append(f"weight={self.parameter(conv.weight)}")
        if conv.bias is not None:
            words.append(f"bias={self.parameter(conv.bias)}")
        words.append(f"stride={conv.stride[0]} pad={conv.padding[0]}")
        if not transposed:
            words.append(f"groups={conv.groups}")
        words += [] if add is None else [f"add=v{add}"]
        words += [] if act is None else [f"act={self._activation(act)}"]
        return self.step(" ".join(words))

    def layers(self, x: int, layers: Iterable[nn.Module], add: int | None = None) -> int:
        """Layers in a row; `add` is added to what the last one, a convolution, makes."""
        flat = list(_flat(layers))
        while flat:
            layer = flat.pop(0)
            if isinstance(layer, Residual):
                x = self.layers(x, layer.children(), add=x)
            elif isinstance(layer, nn.PixelShuffle):
                x = self.step(f"shuffle v{x} factor={layer.upscale_factor}")
            elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                act = flat.pop(0) if flat and isinstance(flat[0], _ACTIVATIONS) else None
                x = self.conv(x, layer, act, None if flat else add)
            else:
                raise TypeError(f"no step for {type(layer).__name__}")
        return x

    def finish(self, result: int, module: Callable[[Tensor], Tensor]) -> NetProgram:
        """The program whose result is a value."""
        return NetProgram("\n".join([*self.lines, f"return v{result}"]), self.weights, module)

    def _activation(self, act: nn.Module) -> str:
        if isinstance(act, nn.PReLU):
            return f"prelu:{self.parameter(act.weight)}"
        return f"leaky:{act.negative_slope}" if isinstance(act, nn.LeakyReLU) else "relu"


_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)


def _flat(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        inside = isinstance(layer, (nn.Sequential, Tail)) and not isinstance(layer, Residual)
        yield from _flat(layer.children()) if inside else (layer,)


def in_a_row(*layers: nn.Module) -> NetProgram:
    """A program of layers in a row: convolutions, activations, residual blocks, a shuffle."""
    writer = ProgramWriter()
    return writer.finish(writer.layers(0, layers), nn.Sequential(*layers).eval())


def fsrcnn_base(scale: int = 4) -> NetProgram:
    """FSRCNN's Base-Net up to its coarse image."""
    base = sparsesr.create_model("fsrcnn-base", scale=scale).base
    return in_a_row(base.extract, base.shrink, base.mapping, base.upsampler)


def fsrcnn_features() -> NetProgram:
    """FSRCNN's Base-Net up to its feature map."""
    base = sparsesr.create_model("fsrcnn-base", scale=4).base
    return in_a_row(base.extract, base.shrink, base.mapping)


def fsrcnn_refine(scale: int = 4) -> NetProgram:
    """FSRCNN's Refine-Net, for patches of 12 channels with a halo of 1."""
    refine = sparsesr.create_model("fsrcnn-mga", scale=scale).refine
    return in_a_row(refine.mapping, refine.tail, refine.upsampler)


def fsrcnn_dnet(scale: int = 4) -> NetProgram:
    """The lean D-Net: features, and the Refine-Net over the whole map."""
    net = sparsesr.create_model("fsrcnn-dnet", scale=scale)
    base, refine = net.base, net.refine
    trunk = (base.extract, base.shrink, base.mapping)
    return in_a_row(*trunk, refine.mapping, refine.tail, refine.upsampler)


def conv_chain(convs: int = 4, channels: int = 64, scale: int = 4) -> NetProgram:
    """A Refine-Net of 3x3 convolutions, the last one valid, and a 3x3 to the shuffled image."""
    layers: list[nn.Module] = []
    for i in range(convs):
        layers += [nn.Conv2d(channels, channels, 3, padding=int(i + 1 < convs)), nn.LeakyReLU(0.1)]
    return in_a_row(*layers, *_shuffled(channels, scale))


def residual_chain(blocks: int = 4, channels: int = 64, scale: int = 4) -> NetProgram:
    """The trunk of SRResNet's Refine-Net under an upsampler of one 3x3."""
    refine = sparsesr.create_model("srresnet-mga", scale=scale, refine_blocks=blocks).refine
    return in_a_row(refine.body, refine.tail, *_shuffled(channels, scale))


def _shuffled(channels: int, scale: int) -> Sequence[nn.Module]:
    return nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)


def mask_convs(channels: int) -> NetProgram:
    """The mask predictor up to the probability of every pixel: its convolutions and softmax."""
    mask = sparsesr.nn.MaskPredictor(channels)
    convs = nn.Sequential(mask.conv1, mask.act, mask.conv2)
    writer = ProgramWriter()
    scores = writer.step(f"softmax v{writer.layers(0, convs)}")
    result = writer.step(f"slice v{scores} first=1 count=1")
    return writer.finish(result, lambda x: convs(x).softmax(1)[:, 1:])


@torch.no_grad()
def carn_encoder(channels: int = 52) -> NetProgram:
    """CARN's encoder as PCSR has it: cascades of grouped convolutions, joined by 1x1 ones."""
    encoder = CARNEncoder(channels).eval()
    writer = ProgramWriter()
    result = _cascade(writer, writer.conv(0, encoder.entry), encoder)
    return writer.finish(result, encoder)


def _cascade(writer: ProgramWriter, x: int, cascade: Cascade) -> int:
    kept = [x]
    for i in (1, 2, 3):
        step: Any = getattr(cascade, f"b{i}", None) or cascade.get_submodule("b1")
        if isinstance(step, Cascade):
            kept.append(_cascade(writer, x, step))
        else:
            first, act, second, again, last = step.body
            made = writer.conv(writer.conv(x, first, act), second, again)
            kept.append(writer.conv(made, last, nn.ReLU(), add=x))
        joined = writer.step("concat " + " ".join(f"v{v}" for v in kept))
        x = writer.conv(joined, _without_norm(*cascade.get_submodule(f"c{i}")[:2]), nn.ReLU())
    return x


def _without_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """The same 1x1 convolution with the batch norm behind it, in eval mode, in its parameters."""
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 1)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
    folded.weight.copy_(conv.weight * factor[:, None, None, None])
    folded.bias.copy_(norm.bias - norm.running_mean * factor)  # type: ignore[union-attr,operator]
    return folded
