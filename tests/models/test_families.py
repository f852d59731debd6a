"""What holds for all five MGA families: sizes, and the relations between their forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_nets import FAMILIES, FORMS, LIGHT_FORMS, SCALES, sharing, small
from torch import nn

import sparsesr

# ARCHITECTURES 1.1-1.5: -base; -dnet and -allnet; -mga. The last three have no published x2 rows.
PARAMS = {
    ("fsrcnn", 2): (23_363, 41_694, 43_270),
    ("fsrcnn", 3): (23_363, 41_694, 43_270),
    ("fsrcnn", 4): (23_363, 41_694, 43_270),
    ("pan", 2): (203_723, 290_966, 306_178),
    ("pan", 3): (203_723, 296_174, 311_386),
    ("pan", 4): (214_739, 312_998, 328_210),
    ("rfdn", 3): (423_977, 697_754, 721_256),
    ("rfdn", 4): (433_448, 716_696, 740_198),
    ("srresnet", 3): (1_102_097, 1_671_577, 1_709_709),
    ("srresnet", 4): (1_249_810, 1_967_003, 2_005_135),
    ("rcan", 3): (11_052_339, 16_074_150, 16_112_282),
    ("rcan", 4): (11_015_411, 16_000_294, 16_038_426),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_scale = pytest.mark.parametrize("scale", SCALES)


@pytest.mark.parametrize(("model", "counts"), PARAMS.items(), ids=str)
def test_parameters(model: tuple[str, int], counts: tuple[int, int, int]) -> None:
    """To the unit."""
    found = []
    for form in FORMS:
        with torch.device("meta"):
            net = sparsesr.create_model(f"{model[0]}-{form}", model[1])
        found.append(sum(p.numel() for p in net.parameters()))
    assert found == [counts[0], counts[1], counts[1], counts[2]]


@every_family
@every_scale
@pytest.mark.parametrize("form", FORMS + LIGHT_FORMS)
def test_any_size(family: str, form: str, scale: int) -> None:
    """Down to a single pixel, in training mode and with gradients."""
    net = small(family, form, scale)
    for size in ((1, 1), (2, 7), (9, 13)):
        sr = net(torch.rand(2, 3, *size))
        assert sr.shape == (2, 3, scale * size[0], scale * size[1])
        assert sr.isfinite().all()


@every_family
@pytest.mark.parametrize("k", [0, 1, 240, 10**6])
def test_backward(family: str, k: int) -> None:
    """Every weight the image depends on gets a gradient; the mask, a choice, gets none."""
    net = small(family, "mga", 3)
    height, width = (61, 63) if k == 240 else (11, 13)  # 256 or 12 patches
    sr = net(torch.rand(2, 3, height, width), k=k)
    assert sr.shape == (2, 3, 3 * height, 3 * width)
    sr.square().mean().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    assert not any(grads[name] is not None for name in grads if name.startswith("mask."))
    refined = [g for name, g in grads.items() if name.startswith("refine.")]
    assert all((g is not None and bool(g.any())) == (k > 0) for g in refined)
    trunk = [g for n, g in grads.items() if n.startswith("base.") and ".upsampler." not in n]
    assert all(g is not None and g.isfinite().all() for g in trunk)


@every_family
@every_scale
@pytest.mark.parametrize("light", ["", "-light"])
def test_k_bounds(family: str, scale: int, light: str) -> None:
    """k = 0 is the Base-Net and k = all the All-Net, bit for bit, in both memory formats."""
    mga = small(family, f"mga{light}", scale).eval()
    base, allnet = (sharing(mga, family, f"{form}{light}") for form in ("base", "allnet"))
    nets = (mga, base, allnet)
    lr = torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        some = mga(lr, k=5)
        for layout in (torch.contiguous_format, torch.channels_last):
            x = lr.contiguous(memory_format=layout)
            mga, base, allnet = (net.to(memory_format=layout) for net in nets)
            assert torch.equal(mga(x, k=0), base(x))
            assert torch.equal(mga(x, k=12), allnet(x))
            assert torch.equal(mga(x, k=999), allnet(x, return_details=True).sr)
            # Same sums in another order: float32 rounding of values of order 0.1.
            torch.testing.assert_close(mga(x, k=5), some, rtol=1e-4, atol=1e-5)


@every_family
@pytest.mark.parametrize("patch_size", [1, 2, 4, 5, 8])
def test_patches_are_islands(family: str, patch_size: int) -> None:
    """Every patch is refined as if nothing but its zero-padded window existed."""
    p, scale = patch_size, 3
    net = small(family, "allnet", scale, patch_size=p).eval()
    lr = torch.rand(1, 3, 2 * p, 2 * p)
    with torch.no_grad():
        sr = net(lr)
        padded = F.pad(net.base.features(lr), (1, 1, 1, 1))
        for y, x in ((0, 0), (0, p), (p, p)):
            alone = net.refine(padded[:, :, y : y + p + 2, x : x + p + 2])
            rows, cols = (slice(scale * o, scale * (o + p)) for o in (y, x))
            # One patch or several in a batch: the same sums, perhaps in another order.
            torch.testing.assert_close(sr[:, :, rows, cols], alone, rtol=1e-4, atol=1e-6)


@every_family
def test_forms_share_their_state(family: str) -> None:
    """They differ in the mask's keys alone, -light in the coarse upsampler's too."""
    keys = {form: set(small(family, form, 3).state_dict()) for form in FORMS + LIGHT_FORMS}
    assert {key.split(".")[0] for key in keys["mga"]} == {"base", "refine", "mask"}
    assert keys["dnet"] == keys["allnet"]
    assert keys["mga"] - keys["allnet"] == {k for k in keys["mga"] if k.startswith("mask.")}
    assert keys["base"] == {k for k in keys["dnet"] if k.startswith("base.")}
    for form in ("base", "allnet", "mga"):
        differing = keys[form] ^ keys[f"{form}-light"]
        assert all(key.startswith("base.upsampler.") for key in differing)


@every_family
@every_scale
def test_state_dicts_move(family: str, scale: int) -> None:
    """From -dnet over -allnet to -mga, and back."""
    dnet = small(family, "dnet", scale)
    allnet, mga = small(family, "allnet", scale), small(family, "mga", scale)
    allnet.load_state_dict(dnet.state_dict())
    missing = mga.load_state_dict(allnet.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("mask.") for key in missing.missing_keys)
    dnet.load_state_dict({k: v for k, v in mga.state_dict().items() if not k.startswith("mask.")})


@every_family
@every_scale
def test_full_is_the_difference_between_dnet_and_allnet(family: str, scale: int) -> None:
    dnet = small(family, "dnet", scale).eval()
    allnet = sharing(dnet, family, "allnet")
    assert dnet.refine.full
    assert not allnet.refine.full
    with torch.no_grad():
        feature = allnet.base.features(torch.rand(1, 3, 6, 6))
        assert allnet.refine(feature).shape[-1] == 4 * scale
        allnet.refine.full = True
        assert torch.equal(allnet.refine(feature), dnet.refine(feature))
        assert allnet.refine(feature).shape[-1] == 6 * scale


@every_family
def test_dnet_computes_its_coarse_image_only_when_asked(family: str) -> None:
    net, lr = small(family, "dnet", 2).eval(), torch.rand(1, 3, 8, 9)
    calls: list[int] = []
    net.base.upsampler.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        sr = net(lr)
        assert not calls
        out = net(lr, return_details=True)
        assert calls
        assert torch.equal(out.sr, sr)
        assert torch.equal(out.coarse, net.base(lr)[0])


@every_family
def test_only_the_mask_trains_when_the_rest_is_frozen(family: str) -> None:
    net, lr = small(family, "mga", 2), torch.rand(2, 3, 17, 19)
    for part in (net.base, net.refine):
        part.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), lr=1.0)
    net(lr, return_details=True).mask.square().mean().backward()
    optimizer.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(key.startswith("mask.") for key in changed)


@every_family
@every_scale
def test_light_forms(family: str, scale: int) -> None:
    """Coarse: bilinear image and one 3x3; the patches keep the family's own upsampler."""
    net, heavy = (small(family, form, scale).eval() for form in ("mga-light", "mga"))
    lr = torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        coarse, feature = net.base(lr)
        (conv,) = (m for m in net.base.upsampler.modules() if isinstance(m, nn.Conv2d))
        assert conv.weight.shape == (3 * scale**2, feature.shape[1], 3, 3)
        bilinear = F.interpolate(lr, scale_factor=float(scale), mode="bilinear")
        expected = F.pixel_shuffle(conv(feature), scale) + bilinear
        torch.testing.assert_close(coarse, expected, rtol=0, atol=1e-6)  # one sum, reassociated
    shapes = {key: value.shape for key, value in net.refine.state_dict().items()}
    assert shapes == {key: value.shape for key, value in heavy.refine.state_dict().items()}


@pytest.mark.parametrize(
    ("family", "options", "error", "text"),
    [
        ("pan", {"base_blocks": 0}, ValueError, "pan: expected base_blocks >= 1, got 0"),
        ("rcan", {"group_blocks": 2.0}, TypeError, "expected group_blocks as an int, got 2.0"),
        ("pan", {"group_blocks": 2}, TypeError, "no option 'group_blocks'; it has: .*base_blocks"),
        ("rfdn", {"light": True}, TypeError, "has no option 'light'"),
    ],
)
def test_bad_options(family: str, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        sparsesr.create_model(f"{family}-mga-x2", **options)


@every_scale
@pytest.mark.parametrize("family", ["fsrcnn", "pan", "srresnet"])
@pytest.mark.parametrize("form", ["base", "base-light", "dnet", "allnet"])
def test_receptive_field(family: str, form: str, scale: int) -> None:
    """Exactly the rows that the gradient of an output row reaches, over all alignments."""
    net = small(family, form, scale)
    lr = torch.rand(1, 3, net.receptive_field + 8, 3, requires_grad=True)
    sr, reach = net(lr), 0
    for row in range(lr.shape[2] // 2, lr.shape[2] // 2 + 4):
        cell = sr[..., scale * row : scale * (row + 1), :]
        (grad,) = torch.autograd.grad((cell * torch.rand_like(cell)).sum(), lr, retain_graph=True)
        rows = grad.abs().sum((0, 1, 3)).nonzero().flatten()
        reach = max(reach, row - int(rows[0]), int(rows[-1]) - row)
    assert net.receptive_field == 2 * reach + 1


@pytest.mark.parametrize("family", ["fsrcnn", "pan", "srresnet"])
def test_receptive_field_of_the_chosen_patches(family: str) -> None:
    """As the All-Net's: what the mask looks at does not count."""
    for light in ("", "-light"):
        mga, allnet = (small(family, f"{form}{light}", 2) for form in ("mga", "allnet"))
        assert mga.receptive_field == allnet.receptive_field


@pytest.mark.parametrize("family", ["rfdn", "rcan"])
def test_no_receptive_field_where_attention_sees_the_image(family: str) -> None:
    assert all(small(family, form, 2).receptive_field is None for form in FORMS + LIGHT_FORMS)
