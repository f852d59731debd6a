"""PCSR and the networks it accelerates: sizes, costs, what they compute, the released weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sparsesr
from sparsesr.complexity import routed_complexity
from sparsesr.models import save_weights
from sparsesr.models.carn import CARN
from sparsesr.models.convert import UnknownCheckpointError, convert

RELEASED = ("fsrcnn", "carn", "fsrcnn-pcsr", "carn-pcsr")
TENSORS = {"fsrcnn": 20, "carn": 98, "fsrcnn-pcsr": 38, "carn-pcsr": 116}


@pytest.mark.parametrize(
    ("name", "parameters", "flops"),
    [
        ("fsrcnn", 24_515, 457_048),
        ("carn", 294_915, 1_129_344),
        ("msrresnet", 1_517_571, 5_072_256),
        ("bsrn", 352_400, None),
        ("fsrcnn-pcsr", 24_502, 19_992 + 425_024 + 3_328),
        ("carn-pcsr", 168_970, 466_440 + 665_408 + 21_760),
        ("msrresnet-pcsr", 1_078_390, 1_940_796 + 3_128_000 + 53_760),
        ("bsrn-pcsr", 198_248, None),
    ],
)
def test_size_and_the_papers_cost(name: str, parameters: int, flops: int | None) -> None:
    """FLOPs a LR pixel at x4 as the paper counts, of PCSR with all pixels heavy."""
    net = sparsesr.create_model(name, 4)
    assert sum(p.numel() for p in net.parameters()) == parameters
    cost = sparsesr.complexity(net, (10, 8))
    assert cost.params == parameters
    if flops is not None:
        assert cost.paper_flops == 80 * flops
    if name in TENSORS:
        assert len(net.state_dict()) == TENSORS[name]


def test_the_cost_of_routed_pixels() -> None:
    net = sparsesr.create_model("carn-pcsr", 4)
    cost = sparsesr.complexity(net, (10, 8), budget=0.25)
    paper = 466_440 + 21_760 + 16 * (0.25 * 41_588 + 0.75 * 3_960)
    assert cost.paper_flops == 80 * paper
    # The feature's part of a first layer once for an LR pixel; places come from tables.
    encoder = (466_440 - 2 * 52 * 12) / 2  # less what batch norm costs
    first = 52 * (74 + 20 + 10)
    heavy, light, classes = 3 * 74 * 74 + 3 * 74, 2 * 20 * 20 + 3 * 20, 10 * 10 + 2 * 10
    assert cost.macs == 80 * (encoder + first + 16 * (0.25 * heavy + 0.75 * light + classes))
    assert routed_complexity(net, (10, 8), [960, 320]) == cost
    all_light = routed_complexity(net, (10, 8), [1280, 0])
    assert all_light.macs == 80 * (encoder + 52 * 30 + 16 * (light + classes))
    with pytest.raises(ValueError, match="depends on the image; give their fraction as budget"):
        sparsesr.complexity(net, (10, 8), k=1)


@pytest.mark.parametrize("family", ["fsrcnn", "carn", "msrresnet", "bsrn"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
@torch.no_grad()
def test_any_size_and_batch(family: str, scale: int, size: tuple[int, int]) -> None:
    options = {"blocks": 1} if family in ("msrresnet", "bsrn") else {}
    for name in (family, f"{family}-pcsr"):
        net = sparsesr.create_model(name, scale, **({} if "pcsr" in name else options)).eval()
        lr = torch.rand(2, 3, *size)
        sr = net(lr)
        assert sr.shape == (2, 3, scale * size[0], scale * size[1])
        torch.testing.assert_close(net(lr[1:]), sr[1:], rtol=1e-4, atol=1e-5)


def test_the_reach_of_carn() -> None:
    """Nothing beyond the stated receptive field reaches a pixel."""
    net = CARN(2).eval().double()
    lr = torch.rand(1, 3, 61, 9, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(net(lr)[0, :, 60].sum(), lr)
    rows = grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 <= net.receptive_field


def test_more_classes() -> None:
    net = sparsesr.create_model("carn-pcsr", 4, middle=[[54] * 4])
    assert sum(p.numel() for p in net.parameters()) == 181_134  # "181K" in the paper
    assert "samplers.1.imnet.layers.0.weight" in net.state_dict()
    net.eval()
    with torch.no_grad():
        out = net(torch.rand(1, 3, 5, 6), adaptive=True, return_details=True)
    assert out.class_counts().sum() == 480


@pytest.fixture(scope="module", params=RELEASED)
def released(request: pytest.FixtureRequest, shared: Path) -> tuple[str, Path]:
    path = shared / "weights" / f"{request.param.replace('-', '_')}_x4.pth"
    if not path.is_file():
        pytest.skip(f"needs the released weights {path}")
    return request.param, path


def test_released_weights_survive_conversion(released: tuple[str, Path], tmp_path: Path) -> None:
    name, path = released
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]["sd"]
    net, card = convert(path)
    assert (net.model_name, net.scale) == (name, 4)
    save_weights(net, tmp_path / "a.safetensors", card)
    again = sparsesr.from_pretrained(tmp_path / "a.safetensors").state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_what_looks_like_pcsr_but_is_not(tmp_path: Path) -> None:
    state = sparsesr.create_model("fsrcnn-pcsr", 4).state_dict()
    state["heavy_sampler.imnet.layers.0.weight"] = torch.zeros(58, 50)
    torch.save({"model": {"name": "pcsr-phase1", "args": {}, "sd": state}}, tmp_path / "a.pth")
    with pytest.raises(UnknownCheckpointError, match=r"(?s)looks like fsrcnn-pcsr.*heavy_sampler"):
        convert(tmp_path / "a.pth")


def _golden(shared: Path, name: str) -> dict[str, torch.Tensor]:
    path = shared / "golden" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs the golden vectors {path}")
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def _weights(shared: Path, name: str) -> torch.nn.Module:
    path = shared / "weights" / name
    if not path.is_file():
        pytest.skip(f"needs the released weights {path}")
    return convert(path)[0]


@torch.no_grad()
def test_fsrcnn_is_the_released_network(shared: Path) -> None:
    golden = _golden(shared, "fsrcnn-x4_butterfly_21x27")
    net = _weights(shared, "fsrcnn_x4.pth")
    torch.testing.assert_close(net(golden["lr"]), golden["sr"], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("k0", {"k": 0}),
        ("k1", {"k": 1}),
        ("adm", {"adaptive": True}),
        ("allheavy", {"k": -50}),
        ("alllight", {"k": 50}),
    ],
)
def test_fsrcnn_pcsr_is_the_released_network(
    shared: Path, backend: str, name: str, options: dict
) -> None:
    """Every flag, and images far below the 1e-4 that float32 needs."""
    if backend in ("cuda", "triton"):
        pytest.skip("the golden vectors are CPU tensors")
    from sparsesr._backend import _find

    if _find(backend, "route_mlp") is None or _find(backend, "average_neighbors") is None:
        pytest.skip(f"backend {backend} does not implement the ops of PCSR")
    golden = _golden(shared, "fsrcnn-pcsr_butterfly_21x27")
    net = _weights(shared, "fsrcnn_pcsr_x4.pth")
    lr = golden["lr"]
    assert net.costs((21, 27), (84, 108)) == pytest.approx(golden["cost"].tolist(), rel=1e-5)
    for refine in (True, False):
        key = f"sr_{name}_{'ref' if refine else 'noref'}"
        if key not in golden:
            continue
        out = net(lr, **options, refine=refine, return_details=True)
        logits = golden["logits"].permute(2, 0, 1)[None]
        torch.testing.assert_close(out.logits, logits, rtol=0, atol=1e-4)
        # A backend may sum in another order and move one pixel across the border.
        assert (out.class_map[0] != golden[f"flag_{name}"]).sum() <= (backend != "reference")
        close = (out.sr - golden[key]).abs() <= 1e-4
        moved = (out.class_map[0] != golden[f"flag_{name}"]).float()[None, None]
        near = torch.nn.functional.max_pool2d(moved, 3, 1, 1) > 0
        assert (close | near).all()
