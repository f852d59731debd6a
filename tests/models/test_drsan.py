"""DRSAN: the paper's sizes, its equations written out again, its ablations, its sparse form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sparsesr
from sparsesr.complexity import complexity
from sparsesr.models.drsan import DRSAN, SCALES, SIZES
from sparsesr.nn import SparseRefine

# ARCHITECTURES 3: parameters of every size at x2, x3, x4.
PARAMS = {
    "32s": (368_427, 414_667, 405_419),
    "32m": (688_851, 735_091, 725_843),
    "32l": (849_063, 895_303, 886_055),
    "48s": (647_195, 751_115, 730_331),
    "48m": (1_187_827, 1_291_747, 1_270_963),
}
# Table V, by the names of its rows: options of a 48s with two groups.
ABLATIONS = {
    "Res": {"residual": "last", "attention": False, "concat": False},
    "Res+RSA": {"residual": "last", "concat": False},
    "Res+RSA+Concat": {"residual": "last"},
    "DRA+RSA": {"concat": False},
    "AllRes+RSA+Concat": {"residual": "all"},
    "DRA+Concat": {"attention": False},
    "DRA+RSA+Concat": {},
}


def _net(name: str = "drsan-32s", scale: int = 2, **options: Any) -> Any:
    """A net whose PReLUs and coefficients are away from their neutral start."""
    torch.manual_seed(0)
    net = sparsesr.create_model(name, scale, **options)
    for layer in net.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, 0.1, 0.4)
    return net


def _params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# The paper's sizes


@pytest.mark.parametrize("size", SIZES)
def test_parameters(size: str) -> None:
    with torch.device("meta"):
        found = tuple(_params(sparsesr.create_model(f"drsan-{size}", s)) for s in SCALES)
    assert found == PARAMS[size]


def test_published_parameters(shared: Path) -> None:
    """Tables II and V: every legible row, within half its last digit."""
    rows = [r for r in _rows(shared, "II") + _rows(shared, "V") if r["params"] is not None]
    assert len(rows) == 4 * 7 + 7  # Table II prints each network once per data set
    for row in rows:
        number, unit = row["params"].split()
        million = {"M": 1e6, "K": 1e3}[unit]
        half_digit = 0.5 * 10.0 ** -len(number.partition(".")[2])
        ours = _params(_published(row)) / million
        assert abs(ours - float(number)) <= half_digit, (row["variant"], row["scale"], ours)


def test_published_flops(shared: Path) -> None:
    """Table II: multiply-adds, biases and PReLUs of one 1280x720 image, within 0.1 %."""
    rows = [r for r in _rows(shared, "II") if r["gflops"] is not None and r["dataset"] == "Set5"]
    assert len(rows) == 7
    for row in rows:
        size = (-(-720 // row["scale"]), -(-1280 // row["scale"]))  # LR 427x240 at x3
        ours = complexity(_published(row), size).paper_flops / 1e9
        assert abs(ours - row["gflops"]) <= 0.05 + 0.001 * row["gflops"], (row["variant"], ours)


def _rows(shared: Path, table: str) -> list[dict[str, Any]]:
    rows = json.loads((shared / "spec" / "paper_tables.json").read_text())
    return [r for r in rows if r["system"] == "DRSAN" and r["table"] == table]


def _published(row: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        if row["table"] == "V":
            return sparsesr.create_model("drsan-48s", 2, groups=2, **ABLATIONS[row["variant"]])
        return sparsesr.create_model(row["variant"].lower(), row["scale"])


def test_flops_hold_biases_and_prelus() -> None:
    """One LR pixel of a 32s at x2, counted by hand; true MACs are the convolutions alone."""
    found = complexity(sparsesr.create_model("drsan-32s", 2), (6, 8))
    weights = 4 * (8 * 9 * 32**2 + 32 * 16 + 160 + 5 * 32**2) + 27 * 32 + 9 * 32**2
    up = 9 * 32 * 128 + 4 * 27 * 32
    biases = 4 * (8 * 32 + 16 + 10 + 32) + 2 * 32 + 128 + 4 * 3
    prelus = 4 * (8 * 32 + 16)
    assert found.macs == 48 * (weights + up)
    assert found.paper_flops == 48 * (weights + up + biases + prelus)


# The equations


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "tanh"},
        {"activation": "sigmoid"},
        {"residual": "last", "attention": "channel"},
        {"residual": "last", "attention": "spatial"},
        {"attention": "pixel"},
        *ABLATIONS.values(),
    ],
    ids=str,
)
def test_equations(options: dict[str, Any], scale: int) -> None:
    """The whole network against its definition, written with functions and explicit indices."""
    net = _net("drsan-48s", scale, groups=2, **options).double()
    lr = torch.rand(2, 3, 5, 6, dtype=torch.double)
    weights = dict(net.named_parameters())
    expected = _definition(weights, lr, scale, groups=2, blocks=3, **options)
    torch.testing.assert_close(net(lr), expected, rtol=1e-9, atol=1e-9)  # sums in another order


def _definition(
    w: dict[str, Tensor],
    lr: Tensor,
    scale: int,
    groups: int,
    blocks: int,
    residual: str = "dynamic",
    attention: bool | str = True,
    concat: bool = True,
    activation: str = "none",
) -> Tensor:
    def conv(x: Tensor, name: str) -> Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    activate: Callable[[Tensor], Tensor] = {
        "none": lambda r: r,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }[activation]
    x = x0 = conv(lr, "head")
    for k in range(groups):
        at = f"body.groups.{k}"
        f = [x]
        if residual == "dynamic":
            hidden = conv(x, f"{at}.coefficients.conv1")
            hidden = F.prelu(hidden, w[f"{at}.coefficients.act.weight"])
            r = activate(conv(hidden, f"{at}.coefficients.conv2").mean((2, 3)))
        packed = 0
        for n in range(1, blocks + 1):
            block = f"{at}.blocks.{n - 1}"
            h = conv(F.prelu(f[-1], w[f"{block}.0.weight"]), f"{block}.1")
            h = conv(F.prelu(h, w[f"{block}.2.weight"]), f"{block}.3")
            if attention == "channel":
                squeezed = conv(h.mean((2, 3), keepdim=True), f"{block}.4.squeeze").relu()
                h = h * conv(squeezed, f"{block}.4.excite").sigmoid()
            elif attention == "spatial":
                pooled = torch.stack([h.mean(1), h.max(1).values], 1)
                h = h * conv(pooled, f"{block}.4.conv").sigmoid()
            elif attention == "pixel":
                h = h * conv(h, f"{block}.4.conv").sigmoid()
            total = h
            for j in range(n):
                one = float(residual == "all" or j == n - 1)
                factor = r[:, packed].view(-1, 1, 1, 1) if residual == "dynamic" else one
                total = total + factor * f[j]
                packed += 1
            f.append(total * torch.sigmoid(h) if attention is True else total)
        x = conv(torch.cat(f, 1), f"{at}.fuse") if concat else f[-1]
    x = conv(x, "body.conv") + x0
    for i, s in enumerate((2, 2) if scale == 4 else (scale,)):
        x = _depth_to_space(conv(x, f"upsampler.{2 * i}"), s)
    return conv(x, "upsampler.4" if scale == 4 else "upsampler.2")


def _depth_to_space(x: Tensor, s: int) -> Tensor:
    channels = x.shape[1] // s**2
    out = x.new_empty(x.shape[0], channels, s * x.shape[2], s * x.shape[3])
    for dy in range(s):
        for dx in range(s):
            first = (dy * s + dx) * channels
            out[:, :, dy::s, dx::s] = x[:, first : first + channels]
    return out


def test_alphas_start_at_zero() -> None:
    alphas = [m.weight for m in sparsesr.create_model("drsan-32s", 2).modules() if _is_prelu(m)]
    assert len(alphas) == 4 * (2 * 4 + 1)
    assert not torch.cat(alphas).any()


def _is_prelu(module: nn.Module) -> bool:
    return isinstance(module, nn.PReLU)


def test_details() -> None:
    """Figures 4-6: the coefficients and maps that the output was made with."""
    net, lr = _net("drsan-32m", 3), torch.rand(2, 3, 6, 5)
    seen: list[Tensor] = []
    for group in net.body.groups:
        group.coefficients.register_forward_hook(lambda m, x, y: seen.append(y))
    out = net(lr, return_details=True)
    assert torch.equal(out.coefficients, torch.stack(seen, 1))
    assert torch.equal(out.sr, net(lr))
    assert len(out.attention) == 8
    h = net.body.groups[0].blocks[0](net.head(lr))
    assert torch.equal(out.attention[0][:, 0], torch.sigmoid(h))
    assert not torch.equal(out.coefficients[0], out.coefficients[1])  # they depend on the image


def test_details_of_an_ablation() -> None:
    for options in ({"residual": "last"}, {"attention": False}):
        with pytest.raises(ValueError, match="details are coefficients and attention maps"):
            _net(**options)(torch.rand(1, 3, 4, 4), return_details=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"residual": "some"}, "expected residual in dynamic, last, all, got 'some'"),
        ({"activation": "relu"}, "expected activation in none, tanh, sigmoid, got 'relu'"),
        ({"attention": "self"}, "expected attention in channel, spatial, pixel, got 'self'"),
        ({"groups": 0}, "expected at least 1 group, got 0"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sparsesr.create_model("drsan-32s", 2, **options)
    with pytest.raises(ValueError, match="at least 1 residual block, got 0"):
        DRSAN(scale=2, channels=4, groups=1, blocks=0)
    with pytest.raises(ValueError, match="refine_groups from 1 to 3, got 4"):
        sparsesr.create_model("drsan-32s-mga", 2, refine_groups=4)


# Running


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["", "-mga"])
def test_forward_and_backward(size: str, form: str, scale: int) -> None:
    net, lr = _net(f"drsan-{size}{form}", scale), torch.rand(2, 3, 7, 9)
    assert net.receptive_field is None
    sr = net(lr)
    assert sr.shape == (2, 3, 7 * scale, 9 * scale)
    sr.square().mean().backward()
    frozen = {n for n, p in net.named_parameters() if p.grad is None}
    # A choice of patches has no gradient, and every pixel of the coarse image was replaced.
    assert all(n.startswith(("mask.", "base.upsampler.")) for n in frozen)
    assert net(lr[:1, :, :1, :1]).shape == (1, 3, scale, scale)


@pytest.mark.parametrize("name", ["drsan-32s", "drsan-32s-mga"])
def test_both_memory_formats(name: str) -> None:
    net, lr = _net(name, 4).eval(), torch.rand(2, 3, 9, 11)
    with torch.no_grad():
        expected = net(lr)
        last = torch.channels_last
        out = net.to(memory_format=last)(lr.contiguous(memory_format=last))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)  # another order of summation


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_k(size: tuple[int, int]) -> None:
    """k = 0 is the Base-Net, k = all refines every patch, k = 1 exactly one of them."""
    net, lr = _net("drsan-32s-mga", 2).eval(), torch.rand(2, 3, *size)
    allnet = SparseRefine(net.base, net.refine, scale=2).eval()
    with torch.no_grad():
        coarse, every = net.base(lr)[0], allnet(lr)
        assert torch.equal(net(lr, k=0), coarse)
        assert torch.equal(net(lr, k=10**6), every)
        out = net(lr, k=1, return_details=True)
    wide = -(-size[1] // 4)
    for image in range(2):
        y, x = (8 * n for n in divmod(int(out.index[image, 0]), wide))
        patch = (image, slice(None), slice(y, y + 8), slice(x, x + 8))
        torch.testing.assert_close(out.sr[patch], every[patch], rtol=0, atol=1e-6)
        changed = (out.sr[image] != coarse[image]).any(0)
        assert changed.sum() == changed[y : y + 8, x : x + 8].sum() > 0


def test_pooling_is_over_the_patch() -> None:
    """A patch's coefficients are those of its own zero-padded window, whatever lies elsewhere."""
    net, lr = _net("drsan-32s-mga", 2).eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        out = net(lr, k=4, return_details=True)
        padded = F.pad(net.base.features(lr), (1, 1, 1, 1))
        for i in range(4):
            y, x = 4 * (i // 2), 4 * (i % 2)
            alone = net.refine(padded[:, :, y : y + 6, x : x + 6])
            place = out.sr[:, :, 2 * y : 2 * y + 8, 2 * x : 2 * x + 8]
            torch.testing.assert_close(place, alone, rtol=0, atol=1e-6)


def test_groups_are_shared_out() -> None:
    """Base and Refine have as many groups together as the dense network."""
    for size, shape in SIZES.items():
        with torch.device("meta"):
            net = sparsesr.create_model(f"drsan-{size}-mga", 2)
        parts = (len(net.base.body.groups), len(net.refine.body.groups))
        assert parts == (shape.groups - shape.refine_groups, shape.refine_groups)
    assert len(_net("drsan-32s-mga", refine_groups=3).refine.body.groups) == 3


def test_full_attribute() -> None:
    refine = _net("drsan-32s-mga").refine
    assert not refine.full
    assert refine(torch.rand(1, 32, 6, 6)).shape == (1, 3, 8, 8)
    refine.full = True
    assert refine(torch.rand(1, 32, 6, 6)).shape == (1, 3, 12, 12)


def test_compile_and_export() -> None:
    torch._dynamo.reset()
    lr = torch.rand(2, 3, 9, 10)
    for name, options in (("drsan-32s", {}), ("drsan-32s-mga", {"k": 3})):
        net = _net(name, 4).eval()
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            expected = net(lr, **options)
            torch.testing.assert_close(compiled(lr, **options), expected)
            program = torch.export.export(net, (lr,), options)
            torch.testing.assert_close(program.module()(lr, **options), expected)
