"""``PixelRouter``: sizes, knobs, training form, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparsesr import ops, use_backend
from sparsesr.nn import MixedOutput, PixelRouter, RoutedOutput, check_routing
from sparsesr.nn.pixel_places import pixel_places


def _net(classes: int = 2, scale: int = 4, **options: object) -> PixelRouter:
    torch.manual_seed(0)
    hidden = [[4, 4], [9], [6, 6, 6], [12, 12]][-classes:]
    net = PixelRouter(nn.Conv2d(3, 6, 3, padding=1), 6, hidden, [5], scale=scale, **options)
    with torch.no_grad():  # a fresh classifier says nearly the same of every pixel
        net.classifier.linears[-1].weight.mul_(20)
        net.classifier.linears[-1].bias.zero_()
    return net.eval()


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 3, 5, 7), (2, 3, 2, 9), (1, 3, 1, 4)])
@pytest.mark.parametrize("scale", [2, 3, 4, 8, 2.7, 1.5, 1])
def test_every_size(shape: tuple[int, ...], scale: float) -> None:
    net, lr = _net(), torch.rand(shape)
    size = (round(shape[2] * scale), round(shape[3] * scale))
    out = net(lr, scale=scale, return_details=True)
    assert out.sr.shape == (shape[0], 3, *size)
    assert out.class_map.shape == (shape[0], *size)
    assert torch.equal(out.sr, net(lr, size=size))
    for b in range(shape[0]):
        alone = net(lr[b : b + 1], scale=scale)
        # Another batch may be summed in another order.
        torch.testing.assert_close(out.sr[b : b + 1], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_extremes_are_one_sampler_everywhere() -> None:
    net, lr = _net(), torch.rand(2, 3, 6, 5)
    places = pixel_places((6, 5), (24, 20), lr.device)
    for k, sampler in ((50, net.all_samplers[0]), (-50, net.all_samplers[1])):
        mlp, sources = sampler.mlp(places), (places.rows.source, places.cols.source)
        expected = ops.route_mlp(net.encoder(lr), None, [mlp], *sources, lr)
        out = net(lr, k=k, return_details=True)
        torch.testing.assert_close(out.sr, expected, rtol=1e-5, atol=1e-5)
        assert out.heavy_fraction().tolist() == [float(k < 0)] * 2
        counts = [[0, 480]] * 2 if k < 0 else [[480, 0]] * 2
        assert out.class_counts().tolist() == counts


@torch.no_grad()
def test_a_larger_k_makes_fewer_pixels_heavy() -> None:
    net, lr = _net(), torch.rand(1, 3, 9, 9)
    shares = [float(net(lr, k=k, return_details=True).heavy_fraction()) for k in (-1, 0, 1, 3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


@torch.no_grad()
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_every_rule_with_any_number_of_classes(classes: int) -> None:
    net, lr = _net(classes), torch.rand(2, 3, 7, 6)
    assert sum(net.costs((7, 6), (28, 24))) == pytest.approx(1)
    for options in ({"k": 0.3}, {"adaptive": True}, {"budget": 0.25}):
        out = net(lr, **options, return_details=True)
        assert isinstance(out, RoutedOutput)
        assert int(out.class_map.max()) < classes
    assert out.heavy_fraction().tolist() == [0.25, 0.25]


@torch.no_grad()
def test_refinement_is_the_op_on_the_unrefined_image() -> None:
    net, lr = _net(3), torch.rand(1, 3, 7, 6)
    plain = net(lr, refine=False, return_details=True)
    for min_heavy in (1, 4):
        expected = ops.average_neighbors(plain.sr, plain.class_map, min_heavy, 1)
        assert torch.equal(net(lr, min_heavy=min_heavy), expected)
    assert not torch.equal(net(lr), plain.sr)


@torch.no_grad()
def test_flat_images() -> None:
    net = _net()
    for value in (0.0, 0.5, 1.0):
        lr = torch.full((1, 3, 6, 6), value)
        for options in ({"k": 0}, {"adaptive": True}, {"budget": 0.1}):
            assert net(lr, **options).isfinite().all()


@torch.no_grad()
def test_the_mean_is_the_encoders_alone() -> None:
    net, lr = _net(mean=(0.4, 0.3, 0.2)), torch.rand(1, 3, 5, 5)
    shifted = _net()
    expected = shifted.encoder(lr - torch.tensor([0.4, 0.3, 0.2]).view(1, 3, 1, 1))
    seen = {}
    net.encoder.register_forward_hook(lambda m, x, y: seen.update(feature=y))
    net(lr)
    torch.testing.assert_close(seen["feature"], expected)
    assert "mean" not in net.state_dict()


def test_costs_are_those_of_eq_9() -> None:
    net = _net()
    encoder = 16 * 16 * 2 * 3 * 6 * 9
    light = 2 * (10 * 6 + 6 * 6 + 6 * 6 + 6 * 3)
    heavy = 2 * (10 * 12 + 12 * 12 + 12 * 3)
    totals = [encoder + 64 * 64 * each for each in (light, heavy)]
    assert net.costs((5, 7), (20, 28)) == pytest.approx([t / sum(totals) for t in totals])
    totals = [encoder + 43 * 43 * each for each in (light, heavy)]
    assert net.costs((10, 10), (27, 27)) == pytest.approx([t / sum(totals) for t in totals])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(dtype: torch.dtype) -> None:
    net, lr = _net(), torch.rand(1, 3, 6, 7)
    expected = net(lr, budget=1.0)
    got = net.to(dtype)(lr.to(dtype), budget=1.0)
    assert got.dtype == dtype
    # Weights of about 3 decimal digits (bfloat16: 2) through three layers.
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=0.05)


@torch.no_grad()
def test_channels_last_stays() -> None:
    net, lr = _net(), torch.rand(1, 3, 6, 7)
    layout = torch.channels_last
    got = net.to(memory_format=layout)(lr.contiguous(memory_format=layout))
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, _net()(lr), rtol=1e-5, atol=1e-5)


def _by_hand(net: PixelRouter, lr: Tensor, used: int) -> Tensor:
    places = pixel_places(tuple(lr.shape[-2:]), (lr.shape[-2] * 4, lr.shape[-1] * 4), lr.device)
    feature = net.encoder(lr)
    near = feature.repeat_interleave(4, 2).repeat_interleave(4, 3).permute(0, 2, 3, 1)
    phase = places.rows.offset
    batch, height, width, _ = near.shape
    rows = phase.repeat(lr.shape[-2]).view(1, -1, 1, 1).expand(batch, height, width, 1)
    cols = phase.repeat(lr.shape[-1]).view(1, 1, -1, 1).expand(batch, height, width, 1)
    cell = torch.full((batch, height, width, 2), 0.5)
    x = torch.cat([near, rows, cols, cell], dim=-1)
    images = torch.stack([sampler(x) for sampler in net.all_samplers[-used:]])
    p = net.classifier(x)[..., -used:].softmax(-1).movedim(-1, 0)[..., None]
    up = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
    return (p * images).sum(0).permute(0, 3, 1, 2) + up


@pytest.mark.parametrize("used", [1, 2, 3])
def test_training_mixes_the_samplers_in_use(used: int) -> None:
    net, lr = _net(3).train(), torch.rand(2, 3, 4, 5)
    net.samplers_in_use = used
    out = net(lr, return_details=True)
    assert isinstance(out, MixedOutput)
    assert out.probabilities.shape == (2, used, 16, 20)
    expected = _by_hand(net, lr, used)
    torch.testing.assert_close(out.sr, expected, rtol=1e-4, atol=1e-5)
    grad = torch.randn_like(expected)
    mine = torch.autograd.grad(out.sr, list(net.parameters()), grad, allow_unused=True)
    theirs = torch.autograd.grad(expected, list(net.parameters()), grad, allow_unused=True)
    for (name, _), a, b in zip(net.named_parameters(), mine, theirs, strict=True):
        unused = used == 1 and name.startswith("classifier")
        skipped = name.startswith("samplers.") and int(name[9]) < 3 - used
        assert (a is None) == (unused or skipped), name
        if a is not None and b is not None:
            # Sums over 640 pixels in another order.
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_compiles_whole() -> None:
    net, lr = _net(), torch.rand(1, 3, 5, 6)
    with use_backend("reference"):
        for options in ({"k": 0.5}, {"adaptive": True}, {"budget": 0.3}, {"scale": 2.7}):
            compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
            with torch.no_grad():
                torch.testing.assert_close(compiled(lr, **options), net(lr, **options))
        net.train()
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        compiled(lr).sum().backward()
        assert all(p.grad is not None for p in net.heavy_sampler.parameters())


@torch.no_grad()
def test_exports() -> None:
    net, lr = _net(), torch.rand(1, 3, 5, 6)
    with use_backend("reference"):
        program = torch.export.export(net, (lr,), {"k": 0.5})
        torch.testing.assert_close(program.module()(lr, k=0.5), net(lr, k=0.5))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scale": 2, "size": (8, 8)}, ValueError, "scale or size, got both"),
        ({"scale": 0.5}, ValueError, "a scale >= 1, got 0.5"),
        ({"scale": "2"}, TypeError, "scale as a number"),
        ({"size": (3, 8)}, ValueError, "at least 4x5, the LR image"),
        ({"size": (8.0, 8)}, TypeError, r"size \(H, W\) as two ints"),
        ({"k": 1, "budget": 0.5}, ValueError, r"one of k, adaptive and budget, got k=1 and budget"),
        ({"k": float("nan")}, ValueError, "a finite k"),
        ({"k": "0"}, TypeError, "k as a number"),
        ({"adaptive": 1}, TypeError, "adaptive as a bool"),
        ({"budget": 1.1}, ValueError, r"budget in \[0, 1\]"),
        ({"min_heavy": 0}, ValueError, "min_heavy >= 1"),
    ],
)
def test_bad_options(options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        _net()(torch.rand(1, 3, 4, 5), **options)


def test_bad_construction_and_mode() -> None:
    with pytest.raises(ValueError, match="2 to 255 samplers, got 1"):
        PixelRouter(nn.Identity(), 3, [[4]], scale=2)
    with pytest.raises(ValueError, match="in training mode every pixel goes through every"):
        _net().train()(torch.rand(1, 3, 4, 5), k=0)
    with pytest.raises(ValueError, match="3,H,W"):
        _net()(torch.rand(1, 1, 4, 5))
    check_routing(None, False, None)
