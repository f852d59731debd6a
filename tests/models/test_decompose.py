"""decompose(): what each half is, which networks can be cut, and what the others are told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsesr.models.decompose import decompose
from sparsesr.nn import DenseRefine, SparseRefine

C = 6


def _conv(cin: int = C, cout: int = C, k: int = 3) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, k, padding=k // 2)


class Block(nn.Module):
    """A residual block with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(), _conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class EDSR(nn.Module):
    """Head, four blocks and a convolution with a long skip, upsampler; ways to write the skip."""

    def __init__(self, scale: int = 2, skip: str = "add") -> None:
        super().__init__()
        self.head = _conv(3)
        self.body = nn.Sequential(*(Block() for _ in range(4)), _conv())
        self.tail = nn.Sequential(_conv(C, 3 * scale**2), nn.PixelShuffle(scale))
        self.skip = skip

    def forward(self, lr: Tensor, unused: bool = False) -> Tensor:
        x = self.head(lr)
        if self.skip == "add":
            return self.tail(x + self.body(x))
        if self.skip == "in place":
            res = self.body(x)
            res += x
            return self.tail(res)
        if self.skip == "into the skip":
            x += self.body(x)
            return self.tail(x)
        if self.skip == "method":
            return self.tail(self.body(x).add(x))
        if self.skip == "image":
            return self.tail(self.body(x)) + F.interpolate(lr, scale_factor=2.0)
        if self.skip == "cat":
            return self.tail(torch.cat([x, self.body(x)], 1)[:, :C])
        if self.skip == "data":
            return self.tail(self.body(x) if lr.sum() > 0 else x)
        if self.skip == "tuple":
            return self.tail(self.body(x)), x
        return self.tail(self.body(x))


def _model(**options: Any) -> EDSR:
    torch.manual_seed(0)
    return EDSR(**options).eval()


def _cut(model: nn.Module, at: str = "body.2", **options: Any) -> SparseRefine:
    return decompose(model, at, **{"upsampler": "tail", **options})


# What the halves are


@pytest.mark.parametrize("skip", ["none", "add", "in place", "into the skip", "method"])
@pytest.mark.parametrize("keep", [(), ("body.4",)])
def test_base_is_the_network_without_the_middle(skip: str, keep: tuple[str, ...]) -> None:
    model, lr = _model(skip=skip), torch.rand(2, 3, 9, 10)
    net = _cut(model, keep=keep)
    short = copy.deepcopy(model)
    del short.body[2 : 4 if keep else 5]
    with torch.no_grad():
        assert torch.equal(net(lr, k=0), short(lr))


@pytest.mark.parametrize("skip", ["none", "add", "in place", "into the skip", "method"])
def test_refine_is_the_rest_on_a_patch(skip: str) -> None:
    """By hand: the last modules, the patch as their long skip, the halo off, the upsampler."""
    model, lr = _model(skip=skip), torch.rand(1, 3, 8, 12)
    net = _cut(model)
    with torch.no_grad():
        out = net(lr, k=3, return_details=True)
        padded = F.pad(net.base.features(lr), (1, 1, 1, 1))
        for i in range(6):
            y, x = 4 * (i // 3), 4 * (i % 3)
            place = (..., slice(2 * y, 2 * y + 8), slice(2 * x, 2 * x + 8))
            window = padded[:, :, y : y + 6, x : x + 6]
            refined = model.body[2:](window)
            if skip != "none":
                refined = refined + window
            by_hand = model.tail(refined[:, :, 1:-1, 1:-1])
            expected = by_hand if i in out.index else out.coarse[place]
            torch.testing.assert_close(out.sr[place], expected, rtol=0, atol=1e-6)


def test_full_and_the_dense_form() -> None:
    """On the whole map an untrained cut without skips is the network it came from."""
    model, lr = _model(skip="none"), torch.rand(1, 3, 7, 9)
    net = _cut(model)
    assert not net.refine.full
    net.refine.full = True
    with torch.no_grad():
        dense = DenseRefine(net.base, net.refine, scale=2)(lr)
        torch.testing.assert_close(dense, model(lr), rtol=0, atol=1e-6)


def test_the_model_is_left_alone() -> None:
    model = _model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    net = _cut(model)
    for p in net.parameters():
        nn.init.ones_(p)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    own = {p.data_ptr() for p in net.base.parameters()}
    assert own.isdisjoint({p.data_ptr() for p in net.refine.parameters()})


def test_names_mode_dtype() -> None:
    net = _cut(_model().double().train())
    keys = set(net.state_dict())
    assert {"base.trunk.body.1.conv2.weight", "base.upsampler.tail.0.weight"} <= keys
    assert {"refine.trunk.body.2.conv1.bias", "refine.shrink.weight", "mask.conv1.weight"} <= keys
    assert not any(key.startswith(("base.trunk.body.2", "refine.trunk.head")) for key in keys)
    assert net.training
    assert {p.dtype for p in net.parameters()} == {torch.float64}


@pytest.mark.parametrize(("patch_size", "halo", "k"), [(4, 1, 5), (2, 0, 3), (8, 2, 1)])
def test_options(patch_size: int, halo: int, k: int) -> None:
    net = _cut(_model(scale=3), patch_size=patch_size, halo=halo, k=k, scale=3)
    assert net.refine.shrink.kernel_size == (2 * halo + 1, 2 * halo + 1)
    out = net(torch.rand(2, 3, 11, 13), return_details=True)
    assert out.sr.shape == (2, 3, 33, 39)
    assert out.index.shape == (2, k)
    out.sr.sum().backward()
    assert net.refine.shrink.weight.grad.abs().sum() > 0


def test_own_mask() -> None:
    mask = nn.AvgPool2d(4, ceil_mode=True)
    net = _cut(_model(), mask=nn.Sequential(nn.Conv2d(C, 1, 1), mask))
    assert net(torch.rand(1, 3, 9, 9), k=2).shape == (1, 3, 18, 18)


@pytest.mark.parametrize("container", [nn.Sequential, nn.ModuleList])
def test_other_ways_to_write_it(container: Callable) -> None:
    """A plain Sequential, and blocks called in a loop."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([_conv(3), Block(), Block(), _conv(C, 12)])
            self.gain = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x) * self.gain
            return F.pixel_shuffle(x, 2)

    if container is nn.Sequential:
        model = nn.Sequential(_conv(3), Block(), Block(), _conv(C, 12), nn.PixelShuffle(2))
        net = decompose(model, "2", upsampler="3")
    else:
        net = decompose(Loop(), "blocks.2", upsampler="blocks.3")
    assert net.scale == 2
    assert net(torch.rand(1, 3, 8, 9), k=2).shape == (1, 3, 16, 18)


def test_compile_and_export() -> None:
    torch._dynamo.reset()
    net, lr = _cut(_model()), torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        expected = net(lr, k=3)
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(lr, k=3), expected)
        program = torch.export.export(net, (lr,), {"k": 3})
        torch.testing.assert_close(program.module()(lr, k=3), expected)


# What cannot be cut


class Shrinks(EDSR):
    """Its blocks are valid convolutions, paid for in the head."""

    def __init__(self) -> None:
        super().__init__(skip="none")
        self.head = nn.Conv2d(3, C, 3, padding=2)
        self.body = nn.Sequential(_conv(), nn.Conv2d(C, C, 3), _conv())


class InPlace(EDSR):
    """Its upsampler overwrites the feature."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = nn.Sequential(nn.ReLU(inplace=True), *self.tail)


class Wide(EDSR):
    """The channels change after the cut."""

    def __init__(self) -> None:
        super().__init__(skip="none")
        self.body = nn.Sequential(_conv(), _conv(C, 8))
        self.tail = nn.Sequential(_conv(8, 12), nn.PixelShuffle(2))


class Twice(EDSR):
    """A block that is called twice."""

    def forward(self, lr: Tensor, unused: bool = False) -> Tensor:
        return self.tail(self.body(self.body(self.head(lr))))


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (EDSR, {"at": "body.44"}, r"EDSR has no module 'body\.44'; nearest: body\.4"),
        (EDSR, {"upsampler": "tial"}, "has no module 'tial'; nearest: tail"),
        (
            EDSR,
            {"at": "body.2.conv2"},
            r"not sequential at 'body\.2\.conv2': 'body\.2' is a Block with a forward of its own",
        ),
        (EDSR, {"at": "tail.1"}, r"'tail\.1' lies inside 'tail'"),
        (EDSR, {"at": "body", "upsampler": "body.1"}, r"'body\.1' lies inside 'body'"),
        (EDSR, {"at": "tail", "upsampler": "body.2"}, "does not come after 'tail'"),
        (EDSR, {"keep": ["head"]}, r"keep names head; what lies between 'body\.2' and 'tail' is"),
        (EDSR, {"scale": 3}, r"expected an output of scale times the input.* at scale=3"),
        (EDSR, {"patch_size": 0}, "patch_size >= 1, got 0"),
        (EDSR, {"halo": -1}, "halo >= 0, got -1"),
        (EDSR, {"k": -1}, "k >= 0, got -1"),
        (lambda: EDSR(skip="image"), {}, "not sequential at the end: .* takes interpolate past"),
        (lambda: EDSR(skip="cat"), {}, "joins .* only additions can be cut"),
        (lambda: EDSR(skip="data"), {}, "the forward of EDSR cannot be traced"),
        (lambda: EDSR(skip="tuple"), {}, "not sequential at the end|returns one image"),
        (Twice, {}, r"not sequential at 'body\.2': the network calls it 2 times"),
        (Shrinks, {"at": "body.1"}, r"is \(1, 6, 26, 26\); expected one shape"),
        (Wide, {"at": "body.1"}, r"the feature at the cut is \(1, 6, 24, 24\), but"),
        (InPlace, {}, "the upsampler changes its input in place"),
    ],
)
def test_bad_cuts(model: Callable, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _cut(model(), **options)


def test_patches_must_keep_their_size() -> None:
    """Right on the whole image, but not on a patch."""

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, size=(24, 24))

    model = nn.Sequential(_conv(3), Fixed(), _conv(C, 12), nn.PixelShuffle(2))
    with pytest.raises(
        ValueError, match=r"turns patches of 6x6 into \(44, 44\), expected \(8, 8\)"
    ):
        decompose(model, "1", upsampler="2")


def test_not_a_module() -> None:
    with pytest.raises(TypeError, match=r"expected model as nn\.Module, got str"):
        decompose("edsr", "body.2")
