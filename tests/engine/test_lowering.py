"""Programs of the families against the modules they come from, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_nets import FAMILIES, SCALES, small
from torch import Tensor, nn

import sparsesr
from sparsesr import engine, ops
from sparsesr.engine import UnlowerableError, lower, lower_map, lowers
from sparsesr.models.drsan_blocks import DRAG
from sparsesr.nn import MaskPredictor, SubPixelConvTranspose2d


def _rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _shaken(net: nn.Module) -> nn.Module:
    """Float64, in eval mode, no parameter or statistic where it starts."""
    generator = torch.Generator().manual_seed(2)
    net = net.double().eval()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, dtype=tensor.dtype, generator=generator)
            tensor.add_(noise * (1.0 if "running" in name else 0.05))
    return net


@torch.no_grad()
def _same(net: nn.Module, lowered: engine.Lowered, x: Tensor, method: str = "forward") -> None:
    made = ops.run_program(x, lowered.parameters(net), lowered.text)
    torch.testing.assert_close(made, getattr(net, method)(x), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", FAMILIES)
def test_refine_nets_of_mga(family: str, scale: int) -> None:
    net = _shaken(small(family, "mga", scale))
    channels = net.mask.conv1.in_channels
    _same(net.refine, lower(net.refine, (channels, 6, 6)), _rand(3, channels, 6, 6))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", ["32s", "48s"])
def test_refine_nets_of_drsan(size: str, scale: int) -> None:
    net = _shaken(sparsesr.create_model(f"drsan-{size}-mga", scale))
    channels = int(size[:2])
    _same(net.refine, lower(net.refine, (channels, 6, 6)), _rand(2, channels, 6, 6))


@pytest.mark.parametrize("patch", [1, 2, 8])
@pytest.mark.parametrize("family", ["fsrcnn", "rfdn"])
def test_other_patch_sizes(family: str, patch: int) -> None:
    net = _shaken(small(family, "mga", 2, patch_size=patch))
    channels, side = net.mask.conv1.in_channels, patch + 2
    lowered = lower(net.refine, (channels, side, side))
    assert lowered.made == (3, 2 * patch, 2 * patch)
    _same(net.refine, lowered, _rand(2, channels, side, side))


@pytest.mark.parametrize(
    "options",
    [
        {"residual": "last"},
        {"residual": "all"},
        {"attention": False, "activation": "tanh"},
        {"concat": False, "activation": "sigmoid"},
    ],
    ids=str,
)
def test_options_of_drsan(options: dict) -> None:
    group = _shaken(DRAG(8, 3, **options))
    _same(group, lower(group, (8, 6, 5)), _rand(2, 8, 6, 5))


def test_the_published_rcan_is_lowered_whole() -> None:
    net = sparsesr.create_model("rcan-mga", 4).refine.eval()
    lowered = lower(net, (64, 6, 6))
    kinds = [step.kind for step in lowered.program.steps]
    assert (kinds.count("conv"), kinds.count("mean"), kinds[-1]) == (249, 60, "conv")
    assert len(lowered.sources) == sum(1 for _ in net.parameters())


MAPS = [
    *(("fsrcnn", form, part) for form in ("mga", "mga-light") for part in ("features", "up")),
    *((family, "mga", "probability") for family in FAMILIES),
    *((family, "mga", "features") for family in ("pan", "srresnet")),
    *((family, "mga-light", "up") for family in FAMILIES),
]


@pytest.mark.parametrize(("family", "form", "part"), MAPS)
def test_parts_over_maps(family: str, form: str, part: str) -> None:
    net = _shaken(small(family, form, 3))
    channels = net.mask.conv1.in_channels
    module, inputs, method = {
        "features": (net.base, 3, "features"),
        "up": (net.base.upsampler, channels, "forward"),
        "probability": (net.mask, channels, "probability"),
    }[part]
    lowered = lower_map(module, inputs, method)
    for size in ((1, 1), (2, 3), (9, 14)):
        _same(module, lowered, _rand(2, inputs, *size), method)


def test_the_one_channel_mask() -> None:
    mask = _shaken(MaskPredictor(6, channels_out=1))
    lowered = lower_map(mask, 6, "probability")
    assert "act=sigmoid" in lowered.text
    _same(mask, lowered, _rand(2, 6, 5, 7), "probability")


@pytest.mark.parametrize("scale", SCALES)
def test_the_dense_refine_net_of_fsrcnn(scale: int) -> None:
    net = _shaken(small("fsrcnn", "dnet", scale))
    _same(net.refine, lower_map(net.refine, 12), _rand(1, 12, 7, 4))


@pytest.mark.parametrize("family", ["fsrcnn", "carn", "msrresnet"])
def test_encoders_of_pcsr(family: str) -> None:
    encoder = _shaken(sparsesr.create_model(f"{family}-pcsr", 4).encoder)
    lowered = lower_map(encoder, 3)
    assert lowered.text.count("concat") == (12 if family == "carn" else 0)
    _same(encoder, lowered, _rand(2, 3, 6, 9))


@pytest.mark.parametrize(
    ("name", "part", "text"),
    [
        ("rfdn-mga", "base features", "at_least: padding by repetition depends on the size"),
        ("rcan-mga", "base features", "'mean v3' changes the size"),
        ("pan-mga", "base upsampler", "'nearest v0 factor=2' changes the size"),
        ("bsrn-pcsr", "encoder", "repeat is not in the language"),
    ],
)
def test_what_cannot_be_streamed_says_why(name: str, part: str, text: str) -> None:
    blocks = {} if "pcsr" in name else {"base_blocks": 1}
    net = sparsesr.create_model(name, 2, **blocks).eval()
    module, channels, method = {
        "base features": lambda: (net.base, 3, "features"),
        "base upsampler": lambda: (net.base.upsampler, 40, "forward"),
        "encoder": lambda: (net.encoder, 3, "forward"),
    }[part]()
    with pytest.raises(UnlowerableError, match=text):
        lower_map(module, channels, method)


class Net(nn.Module):
    """A function of a few layers as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 1)
        self.slope = nn.Parameter(torch.rand(1))
        self.slopes = nn.Parameter(torch.rand(4))
        self.up = nn.PixelShuffle(2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda n, x: F.relu(n.a(x) + x), "v1 = conv v0 weight=0 bias=1 pad=1 add=v0 act=relu"),
        (lambda n, x: x * n.b(x).sigmoid(), "v1 = conv v0 weight=0 bias=1 act=sigmoid mul=v0"),
        (
            lambda n, x: F.prelu(x + n.a(x), n.slopes) * x,
            "v1 = conv v0 weight=0 bias=1 pad=1 add=v0 act=prelu:2 mul=v0",
        ),
        # The sum of two convolutions: the second takes the first.
        (
            lambda n, x: n.a(x) + n.b(x),
            "v1 = conv v0 weight=0 bias=1\nv2 = conv v0 weight=2 bias=3 pad=1 add=v1",
        ),
        (
            lambda n, x: F.prelu(n.up(n.a(x)), n.slope),
            "v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2\nv2 = shuffle v1 factor=2",
        ),
        (lambda n, x: [n.a(x), n.b(x)][0], "v1 = conv v0 weight=0 bias=1 pad=1"),  # dead: n.b
        # An activation comes between: no addition after it.
        (
            lambda n, x: n.a(x).relu() + x,
            "v1 = conv v0 weight=0 bias=1 pad=1 act=relu\nv2 = add v1 v0",
        ),
        (lambda n, x: n.a(x) * 1 if False else n.a(x).tanh(), "act=tanh"),
    ],
)
def test_epilogues(function: object, text: str) -> None:
    net = Net(function).double().eval()
    lowered = lower(net, (4, 5, 6))
    assert text in lowered.text
    assert len(lowered.program.steps) == text.count("\n") + 1
    _same(net, lowered, _rand(2, 4, 5, 6))


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: F.relu(n.a(x), inplace=True) + x,
        lambda n, x: n.a(x).add_(x).mul_(n.b(x)),
        lambda n, x: torch.cat([n.a(x).chunk(2, 1)[1].tanh(), x.split((1, 3), 1)[1]], dim=1),
        lambda n, x: x * F.adaptive_avg_pool2d(n.b(x), 1),
        lambda n, x: x * n.b(x).mean((2, 3))[:, :, None, None],
        lambda n, x: x * n.b(x).mean((-1, -2))[:, 1, None, None, None],
        lambda n, x: F.interpolate(n.a(x), scale_factor=2) * F.interpolate(x, scale_factor=2.0),
        lambda n, x: F.interpolate(n.a(x), size=(x.shape[2] * 2, 3), mode="bilinear"),
        lambda n, x: n.a(x)[:, 1:3, :3, : x.shape[-1] - 2],
        lambda n, x: F.pad(n.a(x), (0, 1, 0, 2), mode="replicate"),
        lambda n, x: F.conv2d(x, n.a.weight, None, stride=2),
        lambda n, x: torch.stack([x, n.a(x), x.relu()]).sum(0),
        lambda n, x: n.b(x).softmax(1) + F.leaky_relu(x, 0.3),
        lambda n, x: n.a(F.dropout(x, 0.5, n.training)).contiguous(),
    ],
)
def test_functions_and_methods(function: object) -> None:
    net = Net(function).double().eval()
    _same(net, lower(net, (4, 5, 6)), _rand(2, 4, 5, 6))


class Mine(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU()), "1: gelu|gelu"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.Conv2d(4, 4, (1, 3)), "they are square"),
        (nn.Conv2d(4, 4, 3, dilation=2), "dilated"),
        (Mine(4, 4, 1), "constant"),
        (nn.ConvTranspose2d(4, 4, 3, stride=2), "not stride times its input"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).train(), "training mode"),
        (nn.BatchNorm2d(4).eval(), "does not follow a convolution"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5)).train(), "training mode"),
        (nn.Identity(), "does nothing"),
        (Net(lambda n, x: x.relu_()), "writes into its input"),
        (Net(lambda n, x: (y := n.a(x)).relu_() + y), "written into it in place"),
        (Net(lambda n, x: x * 0.1), "constant"),
        (Net(lambda n, x: x * n.slopes), "constant"),
        (Net(lambda n, x: F.conv2d(x, n.a.weight * 2)), "computed weights"),
        (Net(lambda n, x: x * x.mean(1, keepdim=True)), "mean over dimensions"),
        (Net(lambda n, x: n.b(x)[:, :1] * x), r"no 'mul v0 v2' of|no 'mul"),
        (Net(lambda n, x: (x, x)), "something else than one map"),
        (Net(lambda n, x: x if x.sum() > 0 else n.a(x)), "torch.fx cannot trace it"),
        (Net(lambda n, x: n.a(x).view(x.shape[0], -1)), "view is not in the language"),
    ],
)
def test_what_has_no_program(net: nn.Module, text: str) -> None:
    with pytest.raises(UnlowerableError, match=text):
        lower(net, (4, 5, 6))


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: n.a(x)[:, :, :100],  # the whole of any probe, but not of any map
        lambda n, x: F.interpolate(x, size=(20, 20)),
        lambda n, x: n.a(x) if x.shape[2] % 2 == 0 else x,
    ],
)
def test_maps_of_any_size(function: object) -> None:
    with pytest.raises(UnlowerableError):
        lower_map(Net(function), 4)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
        SubPixelConvTranspose2d(4, 6, 9, 3, padding=4, output_padding=2, bias=False),
    ],
    ids=lambda c: type(c).__name__,
)
def test_batch_normalisation_is_folded(conv: nn.Module, affine: bool) -> None:
    net = _shaken(nn.Sequential(conv, nn.BatchNorm2d(6, affine=affine), nn.ReLU()))
    lowered, x = lower(net, (4, 5, 6)), _rand(2, 4, 5, 6)
    assert len(lowered.program.steps) == 1
    _same(net, lowered, x)
    before = lowered.parameters(net)
    assert all(a is b for a, b in zip(before, lowered.parameters(net), strict=True))
    net[1].running_var.mul_(2)
    _same(net, lowered, x)


def test_folding_wants_the_convolution_for_itself() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    with pytest.raises(UnlowerableError, match="read before its BatchNorm2d"):
        lower(Two().eval(), (4, 5, 5))


def test_rules_of_ones_own() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    class Thrice(Twice):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x

    @lowers(Twice)
    def _(steps: engine.Steps, module: Twice, x: engine.Value) -> engine.Value:
        return steps.add(x, x)

    net = Twice().double()
    assert lower(net, (4, 5, 6)).text == "v1 = add v0 v0\nreturn v1"
    _same(net, lower(net, (4, 5, 6)), _rand(1, 4, 5, 6))
    with pytest.raises(UnlowerableError, match="constant"):
        lower(Thrice(), (4, 5, 6))


def test_tracing_leaves_the_module_alone() -> None:
    net = small("fsrcnn", "mga", 2).refine.eval()
    before = dict(net.__dict__)
    lower(net, (12, 6, 6))
    assert before == net.__dict__
    assert isinstance(net(torch.rand(1, 12, 6, 6)), Tensor)
