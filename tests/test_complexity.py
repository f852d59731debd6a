"""complexity(): the published tables, the true count against torch's own, the net left alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sparsesr.complexity import MGA, TRUE_MACS, Complexity, complexity
from sparsesr.models import create_model
from sparsesr.nn import SparseRefine, SubPixelConvTranspose2d

pytest.importorskip("thop")

FORMS = {"B": "base", "D": "dnet", "A": "allnet", "M": "mga"}
# Mean LR pixels of the sets whose files the tables do not come with (one number per set and scale).
FITTED = {
    "Test2K": {2: 447_456, 3: 198_884, 4: 111_872},
    "Test4K": {2: 1_716_790, 3: 763_034, 4: 429_206},
}
# No pixel count is known for the first; the second is a misprint of 50.31 (Table 1).
UNREACHABLE = {("6", "FSRCNN-M(8)", "Test2K"), ("6", "FSRCNN-D", "Test2K")}
MISPRINT = 20.31


# The published tables


def _rows(shared: Path, table: str) -> list[dict[str, Any]]:
    rows = json.loads((shared / "spec" / "paper_tables.json").read_text())
    return [r for r in rows if r["system"] == "MGA" and r["table"] == table]


def test_published_parameters(shared: Path) -> None:
    """Table 1: 40 values, within half their last digit and 0.1 %."""
    published = {(r["variant"], r["scale"]): r["params"] for r in _rows(shared, "1")}
    assert len(published) == 40
    wrong = []
    for (variant, scale), text in published.items():
        unit = {"K": 1e3, "M": 1e6}[text[-1]]
        half = 0.5 * 10.0 ** -len(text[:-1].partition(".")[2]) * unit
        value = float(text[:-1]) * unit
        name, _ = _model(variant)
        with torch.device("meta"):
            ours = sum(p.numel() for p in create_model(name, scale=scale).parameters())
        if abs(ours - value) > half + 0.001 * value:
            wrong.append(f"{variant} x{scale}: {ours} {text}")
    assert not wrong


@pytest.mark.parametrize(
    ("table", "count"), [("1", 120), ("3", 12), ("4", 15), ("5", 12), ("6", 13)]
)
def test_published_flops(table: str, count: int, shared: Path) -> None:
    """Every row of MGA, within half its last digit and 0.1 %."""
    rows = [
        r
        for r in _rows(shared, table)
        if (r["table"], r["variant"], r["dataset"]) not in UNREACHABLE
    ]
    assert len(rows) == count
    wrong = []
    for row in rows:
        ours, published = _giga(row, shared), row["gflops"]
        if abs(ours - published) > 0.005 + 0.001 * published:
            wrong.append(f"{row['variant']} x{row['scale']} {row['dataset']}: {ours} {published}")
    assert not wrong


def test_the_misprint_of_table_6_is_the_value_of_table_1(shared: Path) -> None:
    """FSRCNN-D, Test2K: 20.31 is nowhere near, 50.31 is ours."""
    (row,) = (
        r for r in _rows(shared, "6") if (r["variant"], r["dataset"]) == ("FSRCNN-D", "Test2K")
    )
    assert row["gflops"] == MISPRINT
    assert abs(_giga(row, shared) - (MISPRINT + 30)) <= 0.005 + 0.001 * 50.31


def _model(variant: str) -> tuple[str, dict[str, int]]:
    """Name and options: ``PAN-M(10+6)``, ``PAN-M(1C)``, ``FSRCNN-M(2)``, ``FSRCNN-M(E2E)``."""
    family, _, rest = variant.partition("-")
    note = rest[1:].strip("()")
    options: dict[str, int] = {}
    if "+" in note:
        options = dict(
            zip(("base_blocks", "refine_blocks"), map(int, note.split("+")), strict=True)
        )
    elif note == "1C":
        options = {"mask_channels": 1}
    elif note.isdigit():
        options = {"patch_size": int(note)}
    return f"{family.lower()}-{FORMS[rest[0]]}", options


def _giga(row: dict[str, Any], shared: Path) -> float:
    name, options = _model(row["variant"])
    slope, offset = _line(name, row["scale"], tuple(options.items()))
    pixels = _mean_pixels(row["dataset"], row["scale"], options.get("patch_size", 4), shared)
    return (slope * pixels + offset) / 1e9


@cache
def _line(name: str, scale: int, options: tuple[tuple[str, int], ...] = ()) -> tuple[float, float]:
    """FLOPs = slope * LR pixels + offset, at the K of the tables: K * p * p = 16000."""
    size = (256, 512)
    with torch.device("meta"):
        net = create_model(name, scale=scale, **dict(options))
    if not name.endswith("-mga"):
        return complexity(net, size).paper_flops / (size[0] * size[1]), 0.0
    k = 16_000 // net.patch_size**2
    none, some = (complexity(net, size, k=n).paper_flops for n in (0, k))
    return none / (size[0] * size[1]), some - none


def _mean_pixels(dataset: str, scale: int, patch_size: int, shared: Path) -> float:
    if dataset != "Urban100":
        return FITTED[dataset][scale]
    sizes = json.loads((shared / "spec" / "urban100_sizes.json").read_text()).values()
    areas = [
        (w // scale // patch_size * patch_size) * (h // scale // patch_size * patch_size)
        for w, h in sizes
    ]
    return sum(areas) / len(areas)


@pytest.mark.parametrize("patch_size", [2, 4, 8])
@pytest.mark.parametrize("form", FORMS.values())
def test_flops_are_a_line_in_the_pixels(form: str, patch_size: int) -> None:
    """What lets a mean pixel count stand for a hundred images."""
    options = {} if form in ("base", "dnet") else {"patch_size": patch_size}
    slope, offset = _line(f"fsrcnn-{form}", 4, tuple(options.items()))
    assert (offset == 0) == (form != "mga")
    net = create_model(f"fsrcnn-{form}", scale=4, **options)
    k = 16_000 // patch_size**2 if form == "mga" else None
    for size in ((320, 272), (512, 512)):
        assert complexity(net, size, k=k).paper_flops == slope * size[0] * size[1] + offset


@pytest.mark.parametrize("family", ["pan", "rfdn", "srresnet", "rcan"])
@pytest.mark.parametrize("form", FORMS.values())
def test_flops_are_nearly_a_line_in_the_pixels(family: str, form: str) -> None:
    """Attention adds a few operations per image and per row: far less than the tables round to."""
    depth = {"group_blocks": 2} if family == "rcan" else {}
    slope, offset = _line(f"{family}-{form}", 3, tuple(depth.items()))
    net = create_model(f"{family}-{form}", scale=3, **depth)
    k = {"k": 1000} if form == "mga" else {}
    found = complexity(net, (480, 272), **k).paper_flops
    assert found == pytest.approx(slope * 480 * 272 + offset, rel=1e-4)


# The true count


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("form", [*FORMS.values(), "base-light", "allnet-light", "mga-light"])
@pytest.mark.parametrize("family", ["fsrcnn", "pan", "rfdn", "srresnet", "rcan"])
def test_true_macs_agree_with_torch(family: str, form: str, scale: int) -> None:
    """torch's counter sees convolutions alone, two FLOPs per multiply-add."""
    depth = {"base_blocks": 1, "refine_blocks": 1} if family != "fsrcnn" else {}
    if family == "rcan":
        depth["group_blocks"] = 2
    if form.startswith("base"):
        depth.pop("refine_blocks", None)
    with torch.device("meta"):
        net = create_model(f"{family}-{form}", scale=scale, **depth).eval()
    patches = 5 * 6
    dynamic = 25 * patches if form.startswith("mga") else 0
    k = {"k": 7} if form.startswith("mga") else {}
    ours = complexity(net, (20, 24), **k).macs
    assert ours == _torch_flops(_plain(net), (20, 24), **k) // 2 + dynamic


def _torch_flops(net: nn.Module, size: tuple[int, int], **options: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, *size, device="meta"), **options)
    return counter.get_total_flops()


def _plain(net: nn.Module) -> nn.Module:
    """A copy with torch's own transposed convolutions."""
    net = copy.deepcopy(net)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SubPixelConvTranspose2d):
                plain = nn.ConvTranspose2d(
                    child.in_channels, child.out_channels, child.kernel_size,
                    child.stride, child.padding, child.output_padding,
                )  # fmt: skip
                setattr(parent, name, plain)
    return net


def test_transposed_conv_counts_at_its_input_or_output() -> None:
    """16 times apart at x4; the paper's way is the larger."""
    up = SubPixelConvTranspose2d(3, 3, 9, stride=4, padding=4, output_padding=3)
    found = complexity(up, (10, 12))
    assert found.macs == 81 * 9 * 120
    assert found.paper_flops == 16 * found.macs


def test_activations_and_norms() -> None:
    """Free in truth; one and two per element in the paper."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1, groups=1), nn.BatchNorm2d(4), nn.PReLU(4), nn.LeakyReLU(), nn.Sigmoid()
    )
    found = complexity(net, (5, 6))
    assert found.macs == 12 * 30
    assert found.paper_flops == found.macs + (2 + 1 + 1) * 4 * 30


def test_published_form_of_the_mask_predictor() -> None:
    """The paper shows the first convolution and its ReLU only; the truth holds all of it."""
    pixels, patches = 256, 16
    base = complexity(create_model("fsrcnn-base", scale=4), (16, 16))
    none = complexity(create_model("fsrcnn-mga", scale=4), (16, 16), k=0)
    assert none.macs == base.macs  # no patch, no mask
    assert none.paper_flops == base.paper_flops + pixels * (9 * 144 + 12)
    every = complexity(create_model("fsrcnn-mga", scale=4), (16, 16), k=patches)
    allnet = complexity(create_model("fsrcnn-allnet", scale=4), (16, 16))
    assert every.macs == allnet.macs + pixels * (9 * 144 + 18 * 12) + patches * (25 + 25)
    assert every.paper_flops == allnet.paper_flops + pixels * (9 * 144 + 12)


@pytest.mark.parametrize(
    ("family", "nf"), [("fsrcnn", 12), ("pan", 40), ("rfdn", 50), ("srresnet", 64)]
)
def test_what_the_paper_omits_is_beside_its_count(family: str, nf: int) -> None:
    """Second convolution per pixel; LeakyReLU and the 1x1 of 25 filters per patch."""
    net = create_model(f"{family}-mga", scale=2)
    assert complexity(net, (16, 24), k=3).paper_omits == 384 * 18 * nf + 24 * (1 + 25)
    assert complexity(create_model(f"{family}-allnet", scale=2), (16, 24)).paper_omits == 0


def test_dnet_is_lean_in_truth_and_whole_in_the_paper() -> None:
    """The coarse image that the D-Net's output does not need is in the published count alone."""
    dnet = complexity(create_model("fsrcnn-dnet", scale=4), (16, 16))
    base = complexity(create_model("fsrcnn-base", scale=4), (16, 16))
    assert dnet.macs == 26_928 * 256
    assert base.macs == 23_040 * 256
    assert dnet.paper_flops > base.paper_flops + 13_608 * 16 * 256


def test_k_and_budget() -> None:
    """Passed to the network as they are; the default is the network's own."""
    net = create_model("fsrcnn-mga", scale=2)
    assert complexity(net, (16, 16), budget=0.5) == complexity(net, (16, 16), k=8)
    assert complexity(net, (16, 16)) == complexity(net, (16, 16), k=16)
    assert complexity(net, (17, 13), k=3).macs > complexity(net, (17, 13), k=2).macs


def test_your_own_networks_in_sparse_refine() -> None:
    """Any nn.Modules; without a mask every patch is refined."""

    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 3, padding=1)

        def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
            feature = self.conv(lr)
            return nn.functional.pixel_shuffle(feature, 2), feature

    refine = nn.Sequential(nn.Conv2d(12, 12, 3), nn.PixelShuffle(2))
    net = SparseRefine(Base(), refine, scale=2)
    assert complexity(net, (8, 8)).macs == 64 * 27 * 12 + 4 * 16 * 9 * 144


# Traps


def test_shared_modules_count_per_call() -> None:
    """One layer under two parents, called twice, is two calls and one set of parameters."""
    conv = nn.Conv2d(3, 3, 1)
    net = nn.Sequential(nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv))
    assert complexity(net, (4, 4)) == Complexity(12, 2 * 9 * 16, 2 * 9 * 16 + 48)


def test_rules_reach_subclasses() -> None:
    """thop looks types up exactly; a layer derived from a convolution is one."""

    class Mine(nn.Conv2d):
        pass

    assert complexity(Mine(3, 2, 1), (4, 4)).macs == 6 * 16
    assert TRUE_MACS.rule(Mine) is TRUE_MACS.rules[nn.Conv2d]
    assert MGA.rule(nn.Sigmoid) is None


def test_weights_without_a_rule_are_named() -> None:
    """Never silently left out."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.zeros(3, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.kernel)

    with pytest.warns(UserWarning, match=r"no rule counts Odd\.kernel"):
        assert complexity(Odd(), (4, 4)).macs == 0


def test_networks_that_look_at_their_data_run_on_the_cpu() -> None:
    """The meta device has no data to look at."""

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.sum().item() == 0 else x

    assert complexity(Looks(), (4, 4)).macs == 9 * 16


def test_big_images_take_no_memory() -> None:
    """48 GB of activations, were they computed."""
    assert complexity(create_model("fsrcnn-dnet", scale=4), (8192, 8192)).macs == 26_928 * 2**26


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_alone(training: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """No buffers, hooks or changes of mode; nothing printed; the caller's hooks stay idle."""
    net = create_model("fsrcnn-mga", scale=4).train(training)
    net.mask.train(not training)
    calls: list[int] = []
    net.base.register_forward_hook(lambda *_: calls.append(1))
    before = _fingerprint(net)
    complexity(net, (16, 16), k=3)
    assert _fingerprint(net) == before
    assert calls == []
    assert capsys.readouterr() == ("", "")


def _fingerprint(net: nn.Module) -> list[Any]:
    state = [(name, t.data_ptr(), t.device, t._version) for name, t in net.state_dict().items()]
    modules = [
        (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(m.__dict__))
        for name, m in net.named_modules()
    ]
    return [state, modules]


def test_text() -> None:
    """What the command line prints."""
    text = str(Complexity(43_270, 3_548_000_000, 33_460_000_000))
    assert text == "43,270 parameters, 3.548 GMACs, 33.460 GFLOPs as its paper counts"


# Bad input


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: complexity("fsrcnn", (8, 8)), TypeError, "expected net as nn.Module, got str"),
        (lambda: complexity(nn.ReLU(), 8), TypeError, r"expected lr_size \(H, W\)"),
        (lambda: complexity(nn.ReLU(), (8, 8.0)), TypeError, r"expected lr_size \(H, W\)"),
        (lambda: complexity(nn.ReLU(), (8, 0)), ValueError, ">= 1 px, got"),
        (lambda: complexity(nn.ReLU(), (8, 8), k=3), TypeError, "ReLU takes no k"),
        (lambda: complexity(nn.ReLU(), (8, 8), budget=0.1), TypeError, "ReLU takes no budget"),
        (lambda: complexity(_mga(), (8, 8), k=3, budget=0.1), ValueError, "got both"),
        (lambda: complexity(_mga(), (8, 8), k=-1), ValueError, "k >= 0"),
    ],
)
def test_bad_input(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    """Each says what was expected and what came."""
    with pytest.raises(kind, match=message):
        call()


def _mga() -> nn.Module:
    return create_model("fsrcnn-mga", scale=4)
