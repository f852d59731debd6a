"""Programs written by hand, steps told by loops, and the maps they are tried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sparsesr.ops._program import map_obstacle, parse_program, value_shapes

INPUTS = 8  # channels of the map that a single step is tried on


@dataclass
class Net:
    """A program and its parameters, written step by step."""

    name: str
    channels: int  # of its input
    lines: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = torch.Generator().manual_seed(0)

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, f"return v{len(self.lines)}"])

    def parameter(self, *shape: int, gain: float = 1.0) -> int:
        self.weights.append(torch.randn(shape, generator=self._rng) * gain)
        return len(self.weights) - 1

    def step(self, text: str) -> str:
        self.lines.append(f"v{len(self.lines) + 1} = {text}")
        return f"v{len(self.lines)}"

    def conv(self, x: str, inputs: int, outputs: int, side: int, rest: str = "") -> str:
        """... with a bias, padded unless ``rest`` says otherwise."""
        gain = math.sqrt(2 / (inputs * side**2))
        weight = self.parameter(outputs, inputs, side, side, gain=gain)
        bias = self.parameter(outputs, gain=0.3)
        pad = "" if "pad=" in rest else f"pad={side // 2} "
        return self.step(f"conv {x} weight={weight} bias={bias} {pad}{rest}".rstrip())

    def deconv(self, x: str, inputs: int, outputs: int, side: int, stride: int, pad: int) -> str:
        gain = math.sqrt(stride**2 / (inputs * side**2))
        weight = self.parameter(inputs, outputs, side, side, gain=gain)
        bias = self.parameter(outputs, gain=0.3)
        return self.step(f"deconv {x} weight={weight} bias={bias} stride={stride} pad={pad}")

    def prelu(self, channels: int) -> str:
        return f"act=prelu:{self.parameter(channels, gain=0.3)}"

    def cast(self, *target: object) -> list[Tensor]:
        return [w.to(*target) for w in self.weights]


def fsrcnn(c: int, scale: int, whole: bool = False) -> Net:
    net, x = Net(f"fsrcnn-{c}-x{scale}", c), "v0"
    for pad in ("pad=1", "pad=1", "pad=1" if whole else "pad=0"):
        x = net.conv(x, c, c, 3, f"{pad} {net.prelu(c)}")
    x = net.conv(x, c, 4 * c + 8, 1, net.prelu(1))
    net.deconv(x, 4 * c + 8, 3, 9, scale, 4)
    return net


def srresnet(c: int, whole: bool = False) -> Net:
    """Two blocks, the long skip, two shuffles in the middle (or one at the end)."""
    net = Net(f"srresnet-{c}", c)
    first = x = net.conv("v0", c, c, 3, "act=leaky:0.1")
    for _ in range(2):
        y = net.conv(x, c, c, 3, "act=relu")
        x = net.conv(y, c, c, 3, f"add={x}")
    x = net.conv(x, c, c, 3, f"add={first}")
    if whole:
        x = net.conv(x, c, 12, 3)
        net.step(f"shuffle {x} factor=2")
        return net
    x = net.conv(x, c, c, 3, "pad=0 act=leaky:0.1")
    for _ in range(2):
        x = net.step(f"shuffle {net.conv(x, c, 4 * c, 3)} factor=2")
        x = net.step(f"act {x} act=leaky:0.1")
    net.conv(x, c, 3, 3)
    return net


def rcan(c: int) -> Net:
    """Channel attention; the shuffle in TensorFlow's order."""
    net, x = Net(f"rcan-{c}", c), "v0"
    for _ in range(2):
        y = net.conv(net.conv(x, c, c, 3, "act=relu"), c, c, 3)
        z = net.conv(net.step(f"mean {y}"), c, max(1, c // 4), 1, "act=relu")
        z = net.conv(z, max(1, c // 4), c, 1, "act=sigmoid")
        x = net.step(f"add {net.step(f'mul {y} {z}')} {x}")
    x = net.conv(net.conv(x, c, c, 3, "pad=0"), c, 27, 3)
    net.step(f"shuffle {x} factor=3 order=tf")
    return net


def pan(c: int) -> Net:
    """Pixel attention, two enlargements, the input enlarged and added."""
    net, half = Net(f"pan-{c}", c), c // 2
    a = net.conv("v0", c, half, 1, "act=leaky:0.2")
    b = net.conv("v0", c, half, 1, "act=leaky:0.2")
    gate = net.conv(a, half, half, 1, "act=sigmoid")
    a = net.conv(net.conv(a, half, half, 3, f"mul={gate}"), half, half, 3, "act=leaky:0.2")
    both = net.step(f"concat {a} {net.conv(b, half, half, 3, 'act=leaky:0.2')}")
    x = net.conv(net.conv(both, c, c, 1, "add=v0"), c, c, 3, "pad=0")
    small = net.step(f"crop {net.step('slice v0 first=1 count=3')} height=4 width=4")
    for _ in range(2):
        x = net.conv(net.step(f"nearest {x} factor=2"), c, c, 3)
        gate = net.conv(x, c, c, 1, "act=sigmoid")
        x = net.conv(net.step(f"mul {x} {gate}"), c, c, 3, "act=leaky:0.2")
    net.conv(x, c, 3, 3, f"add={net.step(f'resize {small} height=16 width=16')}")
    return net


def rfdn(c: int) -> Net:
    """Distilled features and ESA: strided convolution, bilinear enlargement, a gate."""
    net, half = Net(f"rfdn-{c}", c), c // 2
    kept = [net.conv("v0", c, half, 1, "act=leaky:0.05")]
    x = net.conv("v0", c, c, 3, "add=v0 act=leaky:0.05")
    kept.append(net.conv(x, c, half, 1, "act=leaky:0.05"))
    x = net.conv(x, c, c, 3, f"add={x} act=leaky:0.05")
    kept.append(net.conv(x, c, half, 3, "act=leaky:0.05"))
    x = net.conv(net.step(f"concat {' '.join(kept)}"), 3 * half, c, 1)
    few = max(1, c // 4)
    a = net.conv(x, c, few, 1)
    b = net.conv(net.conv(a, few, few, 3, "stride=2 pad=0"), few, few, 3, "act=relu")
    b = net.step(f"resize {b} height=6 width=6")
    gate = net.conv(net.conv(a, few, few, 1, f"add={b}"), few, c, 1, "act=sigmoid")
    x = net.conv(net.step(f"mul {x} {gate}"), c, c, 3, "pad=0")
    net.step(f"shuffle {net.conv(x, c, 48, 3)} factor=4")
    return net


def drsan(c: int) -> Net:
    """Residual paths weighted by what the input is: one softmax, a scalar for every path."""
    net = Net(f"drsan-{c}", c)
    paths = ["v0"]
    gates = net.conv(net.step("mean v0"), c, 4, 1, "act=tanh")
    gates = net.step(f"softmax {gates}")
    for i in range(3):
        x = net.conv(paths[-1], c, c, 3, net.prelu(c))
        x = net.conv(x, c, c, 3)
        for j, old in enumerate(paths):
            gate = net.step(f"slice {gates} first={(i + j) % 4} count=1")
            x = net.step(f"add {x} {net.step(f'mul {old} {gate}')}")
        paths.append(x)
    x = net.conv(paths[-1], c, c, 3, "pad=0 act=relu")
    net.step(f"shuffle {net.conv(x, c, 12, 3)} factor=2")
    return net


def detour() -> Net:
    """Sizes that come back to where they were: padded, halved, enlarged, cut."""
    net = Net("detour", 5)
    x = net.step("pad v0 rows=1 cols=1")
    x = net.conv(x, 5, 6, 3, "stride=2 pad=1 act=tanh")
    x = net.step(f"crop {net.step(f'nearest {x} factor=2')} height=4 width=4")
    net.step(f"act {x} {net.prelu(6)}")
    return net


# Of windows of 6x6 that become patches of 4x4 px, in the published widths and odd ones.
NETS = [
    fsrcnn(12, 2), fsrcnn(12, 3), fsrcnn(12, 4), fsrcnn(5, 4), srresnet(4), srresnet(64), rcan(6),
    rcan(64), pan(6), pan(40), rfdn(6), rfdn(50), drsan(5), drsan(48), detour(),
]  # fmt: skip
SMALL = [net for net in NETS if net.channels <= 12]
# Of maps of any size.
WHOLE = [fsrcnn(12, 2, whole=True), fsrcnn(6, 3, whole=True), srresnet(12, whole=True)]


def require_streamable(backend: str, text: str, weights: Sequence[Tensor]) -> None:
    """The native CPU form runs over a map row by row, or not at all."""
    why = map_obstacle(parse_program(text), [tuple(w.shape) for w in weights])
    if backend == "cpu" and why is not None:
        pytest.skip(f"backend cpu does not stream this program: {why}")


@dataclass(frozen=True)
class Single:
    """A step or two, and the loop that tells what they make of x [N, INPUTS, H, W]."""

    name: str
    text: str
    shapes: tuple[tuple[int, ...], ...]
    expected: Callable[..., Tensor]  # x and the parameters

    def __str__(self) -> str:
        return self.name

    def weights(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        rng = torch.Generator().manual_seed(3)
        fan = [math.prod(s[1:]) if len(s) > 1 else 4 for s in self.shapes]
        pairs = zip(self.shapes, fan, strict=True)
        return [(torch.randn(s, generator=rng) / math.sqrt(n)).to(dtype) for s, n in pairs]


def conv(
    x: Tensor, w: Tensor, b: Tensor | None = None, stride: int = 1, pad: int = 0, groups: int = 1
) -> Tensor:
    batch, _, height, width = x.shape
    outputs, inputs, side = w.shape[:3]
    wide = x.new_zeros(batch, x.shape[1], height + 2 * pad, width + 2 * pad)
    wide[:, :, pad : pad + height, pad : pad + width] = x
    made = [(n + 2 * pad - side) // stride + 1 for n in (height, width)]
    out = x.new_zeros(batch, outputs, *made)
    each = outputs // groups
    for o in range(outputs):
        first = o // each * inputs
        for i in range(made[0]):
            for j in range(made[1]):
                y, z = stride * i, stride * j
                window = wide[:, first : first + inputs, y : y + side, z : z + side]
                out[:, o, i, j] = (window * w[o]).sum((1, 2, 3))
    return out if b is None else out + b[:, None, None]


def deconv(x: Tensor, w: Tensor, b: Tensor | None, stride: int, pad: int) -> Tensor:
    batch, _, height, width = x.shape
    side = w.shape[2]
    room = side + pad
    out = x.new_zeros(batch, w.shape[1], stride * height + room, stride * width + room)
    for i in range(height):
        for j in range(width):
            y, z = stride * i, stride * j
            spread = torch.einsum("nc,couv->nouv", x[:, :, i, j], w)
            out[:, :, y : y + side, z : z + side] += spread
    out = out[:, :, pad : pad + stride * height, pad : pad + stride * width]
    return out if b is None else out + b[:, None, None]


def shuffle(x: Tensor, factor: int, tf: bool = False) -> Tensor:
    batch, channels, height, width = x.shape
    count = channels // factor**2
    out = x.new_zeros(batch, count, factor * height, factor * width)
    for c in range(count):
        for dy in range(factor):
            for dx in range(factor):
                cell = dy * factor + dx
                source = cell * count + c if tf else c * factor**2 + cell
                out[:, c, dy::factor, dx::factor] = x[:, source]
    return out


def resize(x: Tensor, height: int, width: int) -> Tensor:
    out = x.new_zeros(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            value: Tensor | float = 0.0
            for y, a in _between(i, height, x.shape[2]):
                for z, b in _between(j, width, x.shape[3]):
                    value = value + a * b * x[:, :, y, z]
            out[:, :, i, j] = value
    return out


def _between(i: int, out: int, length: int) -> list[tuple[int, float]]:
    place = max((i + 0.5) * length / out - 0.5, 0.0)
    low = min(int(place), length - 1)
    return [(low, 1 - (place - low)), (min(low + 1, length - 1), place - low)]


def _prelu(x: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slopes[:, None, None])


def _leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _wide(x: Tensor, factor: int) -> Tensor:
    rows = torch.arange(factor * x.shape[2]) // factor
    cols = torch.arange(factor * x.shape[3]) // factor
    return x[:, :, rows][:, :, :, cols]


def _spread(x: Tensor, rows: int, cols: int) -> Tensor:
    y = torch.arange(x.shape[2] + rows).clamp(max=x.shape[2] - 1)
    z = torch.arange(x.shape[3] + cols).clamp(max=x.shape[3] - 1)
    return x[:, :, y][:, :, :, z]


def _mean(x: Tensor) -> Tensor:
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def _softmax(x: Tensor) -> Tensor:
    e = x.exp()
    return e / e.sum(1, keepdim=True)


_C, _K = INPUTS, (INPUTS, INPUTS, 3, 3)
_B = (INPUTS,)
_CONV = "v1 = conv v0 weight=0 bias=1 pad=1"

SINGLES = [
    Single("conv", f"{_CONV}\nreturn v1", (_K, _B), lambda x, w, b: conv(x, w, b, 1, 1)),
    Single("conv plain", "v1 = conv v0 weight=0 pad=1\nreturn v1", (_K,),
           lambda x, w: conv(x, w, None, 1, 1)),
    Single("conv 1x1", "v1 = conv v0 weight=0 bias=1\nreturn v1", ((19, _C, 1, 1), (19,)), conv),
    Single("conv valid", "v1 = conv v0 weight=0\nreturn v1", ((3, _C, 3, 3),), conv),
    Single("conv 5x5", "v1 = conv v0 weight=0 pad=2\nreturn v1", ((5, _C, 5, 5),),
           lambda x, w: conv(x, w, None, 1, 2)),
    Single("conv strided", "v1 = conv v0 weight=0 bias=1 stride=2 pad=1\nreturn v1", (_K, _B),
           lambda x, w, b: conv(x, w, b, 2, 1)),
    Single("conv grouped", "v1 = conv v0 weight=0 bias=1 pad=1 groups=4\nreturn v1",
           ((12, 2, 3, 3), (12,)), lambda x, w, b: conv(x, w, b, 1, 1, 4)),
    Single("depthwise", "v1 = conv v0 weight=0 pad=1 groups=8\nreturn v1", ((_C, 1, 3, 3),),
           lambda x, w: conv(x, w, None, 1, 1, 8)),
    *(
        Single(f"deconv {side}x{side} s{s} p{pad}",
               f"v1 = deconv v0 weight=0 bias=1 stride={s} pad={pad}\nreturn v1",
               ((_C, 3, side, side), (3,)),
               lambda x, w, b, s=s, pad=pad: deconv(x, w, b, s, pad))
        for side, s, pad in ((9, 2, 4), (9, 3, 4), (9, 4, 4), (9, 4, 3), (4, 2, 1), (3, 3, 0))
    ),
    Single("deconv plain", "v1 = deconv v0 weight=0 stride=2 pad=0\nreturn v1", ((_C, 3, 2, 2),),
           lambda x, w: deconv(x, w, None, 2, 0)),
    Single("relu", "v1 = act v0 act=relu\nreturn v1", (), lambda x: x.clamp(min=0)),
    Single("leaky", "v1 = act v0 act=leaky:0.2\nreturn v1", (), lambda x: _leaky(x, 0.2)),
    Single("prelu", "v1 = act v0 act=prelu:0\nreturn v1", (_B,), _prelu),
    Single("prelu of one", "v1 = act v0 act=prelu:0\nreturn v1", ((1,),), _prelu),
    Single("sigmoid", "v1 = act v0 act=sigmoid\nreturn v1", (), lambda x: 1 / (1 + (-x).exp())),
    Single("tanh", "v1 = act v0 act=tanh\nreturn v1", (), lambda x: 1 - 2 / (1 + (2 * x).exp())),
    Single("add", "v1 = act v0 act=relu\nv2 = add v0 v1\nreturn v2", (),
           lambda x: x + x.clamp(min=0)),
    Single("add of channels", "v1 = mean v0\nv2 = add v0 v1\nreturn v2", (),
           lambda x: x + _mean(x)),
    Single("mul", "v1 = mul v0 v0\nreturn v1", (), lambda x: x * x),
    Single("mul by channels", "v1 = mean v0\nv2 = mul v0 v1\nreturn v2", (),
           lambda x: x * _mean(x)),
    Single("mul by one", "v1 = mean v0\nv2 = slice v1 first=2 count=1\nv3 = mul v0 v2\nreturn v3",
           (), lambda x: x * _mean(x)[:, 2:3]),
    Single("concat", "v1 = act v0 act=relu\nv2 = concat v1 v0 v1\nreturn v2", (),
           lambda x: torch.cat([x.clamp(min=0), x, x.clamp(min=0)], 1)),
    Single("slice", "v1 = slice v0 first=3 count=2\nreturn v1", (), lambda x: x[:, 3:5]),
    Single("mean", "v1 = mean v0\nreturn v1", (), _mean),
    Single("softmax", "v1 = softmax v0\nreturn v1", (), _softmax),
    Single("nearest", "v1 = nearest v0 factor=3\nreturn v1", (), lambda x: _wide(x, 3)),
    Single("resize up", "v1 = resize v0 height=12 width=12\nreturn v1", (),
           lambda x: resize(x, 12, 12)),
    Single("resize down", "v1 = resize v0 height=3 width=2\nreturn v1", (),
           lambda x: resize(x, 3, 2)),
    Single("pad", "v1 = pad v0 rows=2 cols=3\nreturn v1", (), lambda x: _spread(x, 2, 3)),
    Single("crop", "v1 = crop v0 height=3 width=2\nreturn v1", (), lambda x: x[:, :, :3, :2]),
    Single("shuffle", "v1 = shuffle v0 factor=2\nreturn v1", (), lambda x: shuffle(x, 2)),
    Single("shuffle tf", "v1 = shuffle v0 factor=2 order=tf\nreturn v1", (),
           lambda x: shuffle(x, 2, True)),
    *(
        Single(f"conv and shuffle {order}",
               f"{_CONV} act=prelu:2\nv2 = shuffle v1 factor=2 order={order}\nreturn v2",
               ((12, _C, 3, 3), (12,), (12,)),
               lambda x, w, b, a, tf=order == "tf": shuffle(_prelu(conv(x, w, b, 1, 1), a), 2, tf))
        for order in ("torch", "tf")
    ),
    Single("epilogue add", f"{_CONV} add=v0\nreturn v1", (_K, _B),
           lambda x, w, b: conv(x, w, b, 1, 1) + x),
    Single("epilogue mul", f"{_CONV} mul=v0\nreturn v1", (_K, _B),
           lambda x, w, b: conv(x, w, b, 1, 1) * x),
    Single("epilogue relu", f"{_CONV} act=relu add=v0\nreturn v1", (_K, _B),
           lambda x, w, b: (conv(x, w, b, 1, 1) + x).clamp(min=0)),
    Single("epilogue leaky", f"{_CONV} act=leaky:0.1 mul=v0\nreturn v1", (_K, _B),
           lambda x, w, b: _leaky(conv(x, w, b, 1, 1), 0.1) * x),
    Single("epilogue prelu", f"{_CONV} add=v0 act=prelu:2 mul=v0\nreturn v1", (_K, _B, _B),
           lambda x, w, b, a: _prelu(conv(x, w, b, 1, 1) + x, a) * x),
    Single("epilogue prelu of one", f"{_CONV} act=prelu:2\nreturn v1", (_K, _B, (1,)),
           lambda x, w, b, a: _prelu(conv(x, w, b, 1, 1), a)),
    Single("epilogue sigmoid", f"{_CONV} act=sigmoid mul=v0\nreturn v1", (_K, _B),
           lambda x, w, b: x / (1 + (-conv(x, w, b, 1, 1)).exp())),
    Single("epilogue tanh", f"{_CONV} act=tanh\nreturn v1", (_K, _B),
           lambda x, w, b: 1 - 2 / (1 + (2 * conv(x, w, b, 1, 1)).exp())),
    Single("epilogue of a slice", "v1 = slice v0 first=2 count=3\n"
           "v2 = conv v0 weight=0 pad=1 add=v1 act=relu mul=v1\nreturn v2", ((3, _C, 3, 3),),
           lambda x, w: (conv(x, w, None, 1, 1) + x[:, 2:5]).clamp(min=0) * x[:, 2:5]),
    Single("conv of a slice", "v1 = slice v0 first=1 count=4\nv2 = conv v1 weight=0 pad=1\n"
           "return v2", ((3, 4, 3, 3),), lambda x, w: conv(x[:, 1:5], w, None, 1, 1)),
    Single("epilogue of a deconv", "v1 = nearest v0 factor=2\n"
           "v2 = deconv v0 weight=0 bias=1 stride=2 pad=1 add=v1 act=prelu:2 mul=v1\nreturn v2",
           ((_C, _C, 4, 4), _B, _B),
           lambda x, w, b, a: _prelu(deconv(x, w, b, 2, 1) + _wide(x, 2), a) * _wide(x, 2)),
    Single("the input", "return v0", (), lambda x: x),
    Single("a step too many", f"{_CONV}\nv2 = act v1 act=relu\nreturn v1", (_K, _B),
           lambda x, w, b: conv(x, w, b, 1, 1)),
]  # fmt: skip


def growth(single: Single, patch: int) -> int:
    """How many times a patch of ``patch`` px grows, or 0 where no square comes of it."""
    weights = [tuple(w.shape) for w in single.weights()]
    program = parse_program(single.text)
    _, height, width = value_shapes(program, weights, (INPUTS, patch, patch))[program.result]
    return height // patch if height == width and height % patch == 0 else 0
