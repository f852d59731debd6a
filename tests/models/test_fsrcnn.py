"""The FSRCNN family: the paper's sizes, the relations between its forms, compile and export."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import sparsesr

FORMS = {"base": 23363, "dnet": 41694, "allnet": 41694, "mga": 43270}
SCALES = (2, 3, 4)


def _net(form: str, scale: int, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return sparsesr.create_model(f"fsrcnn-{form}", scale, **options)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("form", "count"), FORMS.items())
def test_parameters_and_shapes(form: str, count: int, scale: int) -> None:
    net = _net(form, scale)
    assert sum(p.numel() for p in net.parameters()) == count
    for size in ((1, 1), (7, 10), (16, 12)):
        sr = net(torch.rand(2, 3, *size))
        assert sr.shape == (2, 3, scale * size[0], scale * size[1])
    sr.sum().backward()


def test_layers_are_the_papers() -> None:
    """Every weight's shape, in order (ARCHITECTURES 1.1)."""
    shapes = [tuple(p.shape) for p in _net("mga", 4).parameters() if p.dim() > 1]
    mapping, up = (12, 12, 3, 3), [(56, 12, 1, 1), (56, 3, 9, 9)]
    base = [(56, 3, 5, 5), (12, 56, 1, 1), *[mapping] * 3, *up]
    refine = [mapping, mapping, mapping, *up]
    mask = [mapping, (2, 12, 3, 3), (25, 1, 1, 1)]
    assert shapes == base + refine + mask


def test_forms_share_their_state() -> None:
    keys = {form: set(_net(form, 3).state_dict()) for form in FORMS}
    assert keys["dnet"] == keys["allnet"]
    assert keys["mga"] - keys["allnet"] == {k for k in keys["mga"] if k.startswith("mask.")}
    assert keys["base"] == {k for k in keys["dnet"] if k.startswith("base.")}


def test_full_attribute_is_the_difference_between_dnet_and_allnet() -> None:
    dnet, allnet = _net("dnet", 2), _net("allnet", 2)
    assert dnet.refine.full
    assert not allnet.refine.full
    allnet.refine.full = True
    allnet.load_state_dict(dnet.state_dict())
    feature = torch.rand(1, 12, 6, 6)
    assert torch.equal(allnet.refine(feature), dnet.refine(feature))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_k_bounds(scale: int, size: tuple[int, int]) -> None:
    mga, allnet, base = (_net(f, scale).eval() for f in ("mga", "allnet", "base"))
    allnet.load_state_dict({k: v for k, v in mga.state_dict().items() if not k.startswith("mask")})
    base.load_state_dict({k: v for k, v in mga.state_dict().items() if k.startswith("base")})
    lr = torch.rand(2, 3, *size)
    with torch.no_grad():
        assert torch.equal(mga(lr, k=0), base(lr))
        assert torch.equal(mga(lr, k=999), allnet(lr))
        assert torch.equal(allnet(lr), allnet(lr, return_details=True).sr)


def test_patches_are_islands() -> None:
    """Every patch is refined as if nothing but its zero-padded window existed."""
    net, lr = _net("allnet", 2).eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        out = net(lr, return_details=True)
        padded = nn.functional.pad(net.base.features(lr), (1, 1, 1, 1))
        for i in range(4):
            y, x = 4 * (i // 2), 4 * (i % 2)
            alone = net.refine(padded[:, :, y : y + 6, x : x + 6])
            torch.testing.assert_close(
                out.sr[:, :, 2 * y : 2 * y + 8, 2 * x : 2 * x + 8], alone, rtol=0, atol=1e-6
            )


def test_dnet_computes_its_coarse_image_only_when_asked() -> None:
    net, lr = _net("dnet", 2), torch.rand(1, 3, 8, 8)
    calls = []
    net.base.upsampler.register_forward_hook(lambda *_: calls.append(1))
    sr = net(lr)
    assert not calls
    out = net(lr, return_details=True)
    assert calls
    assert torch.equal(out.sr, sr)
    assert torch.equal(out.coarse, net.base(lr)[0])


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("mask_channels", [1, 2])
def test_options(patch: int, mask_channels: int) -> None:
    net = _net("mga", 2, patch_size=patch, mask_channels=mask_channels, k=5)
    out = net(torch.rand(1, 3, 20, 23), return_details=True)
    assert out.index.shape == (1, 5)
    assert net.arguments == {"patch_size": patch, "mask_channels": mask_channels, "k": 5}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("form", list(FORMS))
def test_both_memory_formats(form: str, layout: torch.memory_format) -> None:
    net, lr = _net(form, 4).eval(), torch.rand(2, 3, 9, 11)
    with torch.no_grad():
        expected = net(lr)
        out = net.to(memory_format=layout)(lr.contiguous(memory_format=layout))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager"])
@pytest.mark.parametrize(
    "arguments", [{}, {"k": 0}, {"k": 5}, {"budget": 0.3}, {"k": 10**6}], ids=str
)
def test_compile(backend: str, arguments: dict) -> None:
    torch._dynamo.reset()
    net, lr = _net("mga", 4).eval(), torch.rand(2, 3, 17, 22)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(lr, **arguments), net(lr, **arguments))


def test_compile_training_step() -> None:
    torch._dynamo.reset()
    net, lr = _net("allnet", 2), torch.rand(1, 3, 8, 9)
    net(lr).square().sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    torch.compile(net, fullgraph=True, backend="aot_eager")(lr).square().sum().backward()
    for p, want in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, want, rtol=1e-4, atol=1e-4)


def test_compile_with_inductor() -> None:
    torch._dynamo.reset()
    net, lr = _net("mga", 2).eval(), torch.rand(1, 3, 12, 13)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, fullgraph=True)
        torch.testing.assert_close(compiled(lr, k=4), net(lr, k=4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", list(FORMS))
def test_export(form: str) -> None:
    net, lr = _net(form, 4).eval(), torch.rand(2, 3, 17, 22)
    with torch.no_grad():
        program = torch.export.export(net, (lr,))
        torch.testing.assert_close(program.module()(lr), net(lr))


def test_backends_agree() -> None:
    net, lr = _net("mga", 4).eval(), torch.rand(2, 3, 18, 21)
    results = []
    with torch.no_grad():
        for status in sparsesr.backends():
            if status.available and status.name in ("reference", "cpu"):
                with sparsesr.use_backend(status.name):
                    results.append(net(lr, k=7))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)  # sums in another order


@pytest.mark.parametrize("scale", SCALES)
def test_identity_initialisation_is_bilinear(scale: int) -> None:
    from sparsesr.models import identity_init_

    lr = torch.rand(1, 3, 12, 13)
    net = identity_init_(_net("dnet", scale), upsampler_std=0.0)
    bilinear = nn.functional.interpolate(lr, scale_factor=scale, mode="bilinear")
    inner = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    # The 9 taps hold the whole kernel at x2 and x3; at x4 the last of its 8 taps falls outside.
    missing = 0.0 if scale < 4 else 1 - (7 / 8) ** 2
    for image in net(lr, return_details=True)[:2]:
        assert (image[inner] - bilinear[inner]).abs().max() <= missing + 1e-5
