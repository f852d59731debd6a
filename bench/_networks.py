"""Networks as contenders: the dense forms in every layout and upsampler, ours, the paper's path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import paper_style
import torch
from _executor import executor, run_by
from _macs import call_macs
from _maps import LAYOUTS
from torch import Tensor, nn

import sparsesr
from sparsesr.complexity import complexity
from sparsesr.models import shipped_weights
from sparsesr.nn import SubPixelConvTranspose2d, effective_k
from sparsesr.ops import patch_grid

UPSAMPLERS = ("deconv", "sub-pixel")


@dataclass(frozen=True)
class Contender:
    """One way to compute an SR image.

    Attributes:
        form: "dnet lean", "dnet published", "mga", "mga paper-style", ...
        engine: "torch", "compile", "OpenVINO", ...; "sparsesr" and an executor for ours.
        upsampler: transposed convolution as published ("deconv") or its exact sub-pixel form.
        layout: memory format of image and weights.
        run: () -> SR image.
        macs: true multiply-adds of that image.
        useful: those of them that are not on padding.
        k: refined patches, None for a dense network.
        exact: fp32, and so a baseline for fp32.
    """

    form: str
    engine: str
    upsampler: str
    layout: str
    run: Callable[[], Tensor]
    macs: int
    useful: int
    k: int | None = None
    exact: bool = True

    @property
    def name(self) -> str:
        """Unique among the contenders of a run."""
        parts = [self.form, self.engine, self.upsampler, self.layout]
        return " ".join(parts + ([] if self.k is None else [f"K={self.k}"]))

    @property
    def ours(self) -> bool:
        """Whether this is what the package offers, and not a baseline."""
        return self.engine.startswith("sparsesr")


@dataclass(frozen=True)
class Forms:
    """An -mga network and the dense network with the same weights; one with a light coarse head."""

    mga: nn.Module
    dnet: nn.Module
    light: nn.Module
    trained: bool


def forms(family: str, scale: int) -> Forms:
    """Shipped weights where there are any, else random ones: time does not depend on them."""
    trained = f"{family}-mga-x{scale}" in shipped_weights()
    torch.manual_seed(0)
    if trained:
        mga = sparsesr.from_pretrained(f"{family}-mga", scale=scale)
    else:
        mga = sparsesr.create_model(f"{family}-mga", scale=scale).eval()
    dnet = sparsesr.create_model(f"{family}-dnet", scale=scale).eval()
    dnet.load_state_dict(mga.state_dict(), strict=False)
    light = sparsesr.create_model(f"{family}-mga-light", scale=scale).eval()
    return Forms(mga, dnet, light, trained)


def with_upsampler(net: nn.Module, upsampler: str) -> nn.Module:
    """A copy of `net` with plain transposed convolutions, or sub-pixel ones made beforehand."""
    net = copy.deepcopy(net)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SubPixelConvTranspose2d):
                setattr(parent, name, _as_deconv(child) if upsampler == "deconv" else _baked(child))
    return net


def _as_deconv(module: SubPixelConvTranspose2d) -> nn.Module:
    plain = nn.ConvTranspose2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        module.stride,
        module.padding,
        module.output_padding,
        bias=module.bias is not None,
    )
    plain.load_state_dict(module.state_dict())
    return plain.eval()


def _baked(module: SubPixelConvTranspose2d) -> nn.Module:
    weight, bias = module.subpixel_parameters()
    taps = weight.shape[-1]
    if taps % 2 == 0:
        return module  # needs uneven padding: the layer itself does it
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], taps, padding=taps // 2)
    zero = weight.new_zeros(weight.shape[0])
    conv.load_state_dict({"weight": weight, "bias": zero if bias is None else bias})
    return nn.Sequential(conv, nn.PixelShuffle(module.stride[0])).eval()


def dense_contenders(dnet: nn.Module, lr: Tensor) -> list[Contender]:
    """The D-Net lean and as published (coarse image too), each layout, each upsampler, in torch."""
    macs = {"dnet lean": _macs(dnet, lr), "dnet published": _published_macs(dnet, lr)}
    useful = {
        "dnet lean": call_macs(dnet, lr),
        "dnet published": call_macs(_Published(dnet), lr),
    }
    found = []
    deconvolves = any(isinstance(m, SubPixelConvTranspose2d) for m in dnet.modules())
    for upsampler in UPSAMPLERS if deconvolves else ("sub-pixel",):
        for layout, memory_format in LAYOUTS.items():
            net = with_upsampler(dnet, upsampler).to(memory_format=memory_format)
            x = lr.contiguous(memory_format=memory_format)
            for form, call in (("dnet lean", net), ("dnet published", _Published(net))):
                run = run_by("off", _call(call, x))
                found.append(
                    Contender(form, "torch", upsampler, layout, run, macs[form], useful[form])
                )
    return found


def own_dense_contenders(dnet: nn.Module, lean: Contender, lr: Tensor) -> list[Contender]:
    """The lean D-Net as the package runs it, each layout."""
    found = []
    for layout, memory_format in LAYOUTS.items():
        net = copy.deepcopy(dnet).to(memory_format=memory_format)
        run = run_by("auto", _call(net, lr.contiguous(memory_format=memory_format)))
        found.append(
            replace(lean, engine="sparsesr", upsampler="sub-pixel", layout=layout, run=run)
        )
    return found


def sparse_contenders(
    mga: nn.Module,
    lr: Tensor,
    ks: tuple[int | None, ...],
    executors: tuple[str, ...] = ("auto",),
    form: str = "mga",
) -> list[Contender]:
    """Ours in each layout by each executor, for every K (None: all patches)."""
    found = []
    for count in _counts(mga, lr, ks):
        macs = _macs(mga, lr, count)
        useful = call_macs(mga, lr, k=count)
        for name in executors:
            engine = "sparsesr" if name == "auto" else f"sparsesr {name}"
            for layout, memory_format in LAYOUTS.items():
                net = copy.deepcopy(mga).to(memory_format=memory_format)
                x = lr.contiguous(memory_format=memory_format)
                run = run_by(name, _call(net, x, count))
                found.append(Contender(form, engine, "sub-pixel", layout, run, macs, useful, count))
    return found


def paper_contenders(mga: nn.Module, lr: Tensor, ks: tuple[int | None, ...]) -> list[Contender]:
    """The released code's sparse path, for every K (None: all patches)."""
    found = []
    plain = with_upsampler(mga, "deconv")
    for count in _counts(mga, lr, ks):
        macs = _macs(mga, lr, count)
        useful = call_macs(mga, lr, k=count)
        run = run_by("off", _paper(plain, lr, count))
        found.append(
            Contender("mga paper-style", "torch", "deconv", "NCHW", run, macs, useful, count)
        )
    return found


def _counts(mga: nn.Module, lr: Tensor, ks: tuple[int | None, ...]) -> list[int]:
    rows, cols = patch_grid(lr.shape[2], lr.shape[3], mga.patch_size)
    return [effective_k(k, None, rows, cols, rows * cols) for k in ks]


def _macs(net: nn.Module, lr: Tensor, k: int | None = None) -> int:
    size = (lr.shape[2], lr.shape[3])
    with executor("off"):
        return complexity(net, size).macs if k is None else complexity(net, size, k=k).macs


def _published_macs(dnet: nn.Module, lr: Tensor) -> int:
    coarse = sparsesr.create_model(_sibling(dnet, "base"), dnet.scale)
    return _macs(dnet, lr) + _macs(coarse, lr) - _macs(_Trunk(dnet.base), lr)


class _Published(nn.Module):
    """A D-Net that computes its coarse image too, as its released code does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, lr: Tensor) -> Tensor:
        return self.net(lr, return_details=True).sr


class _Trunk(nn.Module):
    """The Base-Net up to its feature map."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, lr: Tensor) -> Tensor:
        return self.base.features(lr)


def _sibling(net: nn.Module, form: str) -> str:
    return f"{str(net.model_name).rpartition('-')[0]}-{form}"


def _call(net: nn.Module, x: Tensor, k: int | None = None) -> Callable[[], Tensor]:
    return (lambda: net(x)) if k is None else (lambda: net(x, k=k))


def _paper(net: nn.Module, x: Tensor, k: int) -> Callable[[], Tensor]:
    return lambda: paper_style.forward(net, x, k)
