"""What is particular to a family, and every family under compile, export and fx."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_nets import FAMILIES, SCALES, sharing, small
from torch import Tensor, nn

from sparsesr.models import identity_init_
from sparsesr.models.blocks import ESA, RFDB, ChannelAttention, Residual, sizes
from sparsesr.models.pan import PANRefineUpsampler
from sparsesr.models.srresnet import SRResNetUpsampler

every_family = pytest.mark.parametrize("family", FAMILIES)
every_scale = pytest.mark.parametrize("scale", SCALES)


# Tracing


@every_family
def test_compile(family: str) -> None:
    torch._dynamo.reset()
    net, lr = small(family, "mga", 3).eval(), torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(lr, k=5), net(lr, k=5))


@every_family
def test_export(family: str) -> None:
    net, lr = small(family, "mga", 4).eval(), torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        program = torch.export.export(net, (lr,), {"k": 5})
        torch.testing.assert_close(program.module()(lr, k=5), net(lr, k=5))


@every_family
@every_scale
def test_refine_nets_trace_with_fx(family: str, scale: int) -> None:
    """A graph without branches on sizes, for whoever lowers it."""
    refine = small(family, "mga", scale).refine.eval()
    channels = next(refine.parameters()).shape[1]
    graph = torch.fx.symbolic_trace(refine)
    with torch.no_grad():
        for side in (6, 3):
            x = torch.rand(3, channels, side, side)
            assert torch.equal(graph(x), refine(x))


# PAN


@every_scale
def test_pan_trims_the_halo_in_its_upsampler(scale: int) -> None:
    """Valid on patches, padded on the map; the convolutions of ARCHITECTURES 1.2."""
    up = PANRefineUpsampler(scale, full=True)
    assert {m.padding for m in up.modules() if isinstance(m, nn.Conv2d)} == {(1, 1), (0, 0)}
    padded = {n for n, m in up.named_modules() if getattr(m, "kernel_size", None) == (3, 3)}
    up.full = False
    valid = {n for n in padded if up.get_submodule(n).padding == (0, 0)}
    assert len(padded) == {2: 3, 3: 4, 4: 5}[scale]
    assert valid == set(up.trims)
    assert len(valid) == {2: 2, 3: 3, 4: 3}[scale]
    assert up(torch.rand(1, 40, 6, 6)).shape == (1, 3, 4 * scale, 4 * scale)


@every_scale
def test_pan_away_from_the_halo_is_the_same_on_map_and_patch(scale: int) -> None:
    """Zero padding and trimming differ only in how far the border is felt."""
    up, x = PANRefineUpsampler(scale, full=True), torch.rand(1, 40, 14, 14)
    inner = slice(3 * scale, -3 * scale)
    with torch.no_grad():
        whole = up(x)[..., scale:-scale, scale:-scale][..., inner, inner]
        up.full = False
        torch.testing.assert_close(up(x)[..., inner, inner], whole, rtol=1e-4, atol=1e-6)


def test_pan_adds_the_bilinear_image() -> None:
    net, lr = small("pan", "base", 2).eval(), torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        net.base.upsampler.last.weight.zero_()
        net.base.upsampler.last.bias.zero_()
        torch.testing.assert_close(net(lr), F.interpolate(lr, scale_factor=2.0, mode="bilinear"))


# RFDN


def test_rfdn_pools_in_the_base_alone() -> None:
    net = small("rfdn", "mga", 4)
    for part, pooled in ((net.base, True), (net.refine, False)):
        found = [m.pool is not None for m in part.modules() if isinstance(m, ESA)]
        assert set(found) == {pooled}


@pytest.mark.parametrize("pool", [True, False])
def test_esa_is_its_formula(pool: bool) -> None:
    """At sizes where nothing is continued (ARCHITECTURES 1.3)."""
    esa, x = ESA(50, 12, pool), torch.rand(2, 50, 17, 22)
    with torch.no_grad():
        a = esa.reduce(x)
        y = esa.shrink(a)
        assert y.shape[-2:] == (8, 10)
        y = F.max_pool2d(y, 7, 3) if pool else y
        y = esa.conv4(F.relu(esa.conv3(F.relu(esa.conv_max(y)))))
        y = F.interpolate(y, (17, 22), mode="bilinear", align_corners=False)
        gate = torch.sigmoid(esa.expand(esa.shortcut(a) + y))
        torch.testing.assert_close(esa(x), x * gate, rtol=0, atol=1e-6)


def test_rfdb_has_no_skip_around_it() -> None:
    block = RFDB(50, 12, pool=False)
    with torch.no_grad():
        block.fuse.weight.zero_()
        block.fuse.bias.zero_()
        assert not block(torch.rand(1, 50, 6, 6)).any()


# SRResNet


def test_srresnet_times_three_of_even_maps() -> None:
    """x1.5, one stage of x2, 9x9; nothing cut off."""
    up, x = SRResNetUpsampler(3), torch.rand(1, 64, 4, 6)
    with torch.no_grad():
        enlarged = F.interpolate(x, scale_factor=1.5, mode="bilinear")
        assert enlarged.shape[-2:] == (6, 9)
        torch.testing.assert_close(up(x), up.last(up.stages(enlarged)), rtol=0, atol=1e-6)


def test_srresnet_times_three_does_not_see_that_a_map_is_odd() -> None:
    """Away from the border an odd map gives what its even continuation gives."""
    up, x = SRResNetUpsampler(3), torch.rand(1, 64, 13, 9)
    with torch.no_grad():
        even = up(F.pad(x, (0, 1, 0, 1), mode="replicate"))
        odd = up(x)
    assert odd.shape == (1, 3, 39, 27)
    torch.testing.assert_close(odd[..., :35, :23], even[..., :35, :23], rtol=1e-4, atol=1e-6)


# Small parts


def test_sizes() -> None:
    x: Tensor = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert sizes.at_least(x, 2) is x
    assert sizes.at_least(x, 3).tolist() == [[[[0, 1, 2], [3, 4, 5], [3, 4, 5]]]]
    assert sizes.to_even(x[..., :2]).shape == (1, 1, 2, 2)
    assert sizes.to_even(x).tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5]]]]


def test_channel_attention_averages_over_the_patch_it_is_given() -> None:
    """Its halo included; other patches of the batch do not count."""
    attention, x = ChannelAttention(64), torch.rand(3, 64, 6, 6)
    with torch.no_grad():
        mean = x.sum((2, 3)) / 36
        hidden = F.relu(
            F.linear(mean, attention.squeeze.weight[:, :, 0, 0], attention.squeeze.bias)
        )
        gate = F.linear(hidden, attention.excite.weight[:, :, 0, 0], attention.excite.bias)
        expected = x * torch.sigmoid(gate)[:, :, None, None]
        torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-6)


def test_residual_adds_its_input() -> None:
    x = torch.rand(1, 2, 3, 3)
    assert torch.equal(Residual(nn.Identity(), nn.Identity())(x), 2 * x)


@every_scale
def test_identity_initialisation_of_the_light_form(scale: int) -> None:
    """Coarse and refined image start as (nearly) bilinear, as in the other forms."""
    net = identity_init_(small("fsrcnn", "mga-light", scale), upsampler_std=0.0).eval()
    lr = torch.rand(1, 3, 12, 12)
    bilinear = F.interpolate(lr, scale_factor=float(scale), mode="bilinear")
    dnet = sharing(net, "fsrcnn", "allnet-light")
    dnet.refine.full = True
    inner = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    # At x4 the last of the bilinear kernel's 8 taps falls outside the 9x9 window.
    missing = 0.0 if scale < 4 else 1 - (7 / 8) ** 2
    with torch.no_grad():
        coarse, feature = net.base(lr)
        torch.testing.assert_close(coarse, bilinear, rtol=0, atol=1e-6)
        refined = dnet.refine(feature)
    assert (refined[inner] - bilinear[inner]).abs().max() <= missing + 1e-5


@pytest.mark.parametrize("family", ["rfdn", "pan", "srresnet", "rcan"])
@pytest.mark.parametrize("form", ["base-light", "mga-light", "mga"])
def test_identity_initialisation_is_fsrcnns(family: str, form: str) -> None:
    with pytest.raises(ValueError, match="ends in a transposed convolution"):
        identity_init_(small(family, form, 2))
