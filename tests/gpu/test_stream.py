"""What the GPU backends promise of the stream: no wait for the device, graphs, side streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sparsesr
from sparsesr import ops

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return sparsesr.create_model("fsrcnn-mga", scale=4).eval().to("cuda", dtype)


def _image(dtype: torch.dtype, height: int = 93, width: int = 130) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(1)
    return torch.rand(2, 3, height, width, device="cuda", generator=generator).to(dtype)


def _capture(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph, out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_does_not_wait(dtype: torch.dtype, gpu_backend: str, request) -> None:
    net, lr = _network(dtype), _image(dtype)
    with torch.no_grad():
        net(lr, k=100)  # libraries may wait while they set themselves up
        request.getfixturevalue("strict_sync")
        for arguments in ({"k": 100}, {"budget": 0.5}, {"k": 0}, {"k": 10**6}):
            net(lr, **arguments)


def test_training_step_does_not_wait(gpu_backend: str, request) -> None:
    net, lr = _network(torch.float32).train(), _image(torch.float32, 24, 32)
    net(lr, k=9).square().mean().backward()
    request.getfixturevalue("strict_sync")
    net(lr, k=9).square().mean().backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_replay_equals_eager(dtype: torch.dtype, layout: torch.memory_format, gpu_backend) -> None:
    net = _network(dtype).to(memory_format=layout)
    lr = _image(dtype).contiguous(memory_format=layout)
    with torch.no_grad():
        graph, out = _capture(lambda: net(lr, k=100))
        for seed in (2, 3):
            torch.manual_seed(seed)
            lr.copy_(torch.rand_like(lr))
            graph.replay()
            assert torch.equal(out, net(lr, k=100))


def test_two_runs_are_bit_equal(gpu_backend: str) -> None:
    net, lr = _network(torch.bfloat16), _image(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(net(lr, k=100), net(lr, k=100))


def _masked_network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return sparsesr.create_model("smsr", scale=2).eval().to("cuda", dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_masked_forward_does_not_wait(
    dtype: torch.dtype, layout: torch.memory_format, gpu_backend: str, request
) -> None:
    net, lr = _masked_network(dtype).to(memory_format=layout), _image(dtype, 21, 33)
    with torch.no_grad():
        net(lr)  # libraries may wait while they set themselves up
        request.getfixturevalue("strict_sync")
        net(lr)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_replay_sees_changed_weights(dtype: torch.dtype, gpu_backend: str) -> None:
    """Packed weights are a part of the graph: what is kept for eager calls may be given back."""
    net, lr = _masked_network(dtype), _image(dtype, 21, 33)
    with torch.no_grad():
        graph, out = _capture(lambda: net(lr))
        for seed in (2, 3):
            torch.manual_seed(seed)
            lr.copy_(torch.rand_like(lr))
            for parameter in net.parameters():
                parameter.mul_(0.99)
            wanted = net(lr)
            graph.replay()
            assert torch.equal(out, wanted)


def test_side_stream(gpu_backend: str) -> None:
    """The ops are queued on the caller's stream: work queued there before them is seen."""
    x = torch.zeros(1, 8, 256, 256, device="cuda")
    index = torch.arange(4096, dtype=torch.int32, device="cuda")[None]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        x.fill_(3)
        patches = ops.gather_patches(x, index, 4, 0)
    side.synchronize()
    assert (patches == 3).all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_device(gpu_backend: str) -> None:
    mask = torch.rand(1, 8, 8, device="cuda:1")
    index = ops.select_patches(mask, 5)
    assert index.device == mask.device
    assert torch.equal(index.cpu(), ops.select_patches(mask.cpu(), 5))
