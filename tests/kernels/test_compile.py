"""Every kernel compiled for sm_80 and sm_90 without a GPU, as its launch function would launch it.

Held here: it compiles, spills nothing, fits the shared memory of every GPU since sm_80 (99 KB) and
reads and writes channels_last maps 16 bytes at a time.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)
triton = pytest.importorskip("triton", reason="triton is not installed: pip install -e .[test]")
GPUTarget = importlib.import_module("triton.backends.compiler").GPUTarget
ASTSource = importlib.import_module("triton.compiler").ASTSource
JIT = importlib.import_module("triton.runtime.jit")

ARCHS = pytest.mark.parametrize("arch", [80, 90], ids="sm_{}".format)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
SHARED_LIMIT = 99 * 1024
SHARED = ("_boxes", "_pixel_lists")  # modules with kernels of several ops
VECTORS = r"\.global\S*\.(v4\.b32|v2\.b64|b128)"
Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """What launch functions launch, caught on the way."""
    caught: list[Launch] = []

    def run(self: Any, *args: Any, grid: object, warmup: bool, **kwargs: Any) -> None:
        caught.append((self, args, kwargs))

    monkeypatch.setattr(JIT.JITFunction, "run", run)
    return caught


def _compile(launch: Launch, arch: int) -> Any:
    """The launch's kernel for an architecture; pointers are aligned, as those of torch are."""
    kernel, args, kwargs = launch
    options = {n: v for n, v in kwargs.items() if n not in kernel.signature.parameters}
    named = {n: v for n, v in kwargs.items() if n not in options}
    values = kernel.signature.bind(*args, **named).arguments
    types, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if parameter.is_constexpr:
            types[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        types[parameter.name] = JIT.mangle_type(value)
        if isinstance(value, Tensor):
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, types, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def _check(compiled: Any, folder: Path, most_registers: int = 128) -> None:
    assert compiled.metadata.shared <= SHARED_LIMIT
    binary = folder / f"{compiled.metadata.hash}.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = triton.knobs.nvidia.cuobjdump.path
    usage = subprocess.run(
        [tool, "-res-usage", str(binary)], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", usage)
    assert found is not None, usage
    registers, stack, local = (int(n) for n in found.groups())
    assert stack == local == 0, f"{compiled.metadata.name} spills: {usage}"
    assert registers <= most_registers  # 128: four blocks of 128 threads on a multiprocessor


def _tensors(dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Tensor]:
    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, memory_format=layout)

    return {
        "x": empty(1, 64, 64, 64),
        "windows": empty(16, 64, 6, 6),
        "canvas": empty(1, 3, 256, 256),
        "out": empty(1, 3, 256, 256),
        "patches": empty(16, 3, 16, 16),
        "index": torch.zeros(1, 16, dtype=torch.int32),
        "mask": torch.empty(2, 90, 90, dtype=dtype),
        "selected": torch.empty(2, 100, dtype=torch.int32),
        "kernel": empty(64, 64, 3, 3),
        "share": torch.empty(64, 128, 1, 1, dtype=dtype),
        "bias": torch.empty(64, dtype=dtype),
        "dense": torch.zeros(2, 64, dtype=torch.uint8),
        "pixels": torch.zeros(1, 1, 64, 64, dtype=torch.uint8),
        "pixelwise": torch.empty(1, 64, 64, 64, dtype=dtype),
        "features": torch.empty(2, 1, 64, 64, 64, dtype=dtype),
        "classes": torch.zeros(1, 256, 256, dtype=torch.uint8),
        "places": torch.zeros(256),
        "small": empty(1, 3, 64, 64),
        "up": torch.empty(48, 64, 3, 3, dtype=dtype),
    }


def _gather(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    k["gather_patches"].gather_patches(t["x"], t["index"], t["windows"], 1, 4, (16, 16))


def _gather_backward(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    launch = k["gather_patches"].gather_patches_backward
    launch(t["windows"], t["index"], t["x"], 1, 4, (16, 16))


def _scatter(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    launch = k["scatter_patches"].scatter_patches
    for mean in (False, True):
        for out in (t["out"], t["canvas"]):
            launch(t["canvas"], t["patches"], t["index"], out, 16, (16, 16), mean)


def _scatter_overlapping(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    launch = k["scatter_patches"].scatter_patches
    for out in (t["out"], t["canvas"]):
        launch(t["canvas"], t["patches"], t["index"], out, 8, (31, 31), True)


def _scatter_backward(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    launch = k["scatter_patches"].scatter_patches_backward
    for mean in (False, True):
        launch(t["canvas"], t["index"], t["out"], t["patches"], 16, (16, 16), mean)


def _select(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    k["select_patches"].select_patches(t["mask"], t["selected"], True)


def _masked_conv(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    filters = k["masked_conv2d"].pack(t["kernel"])
    k["masked_conv2d"].masked_conv2d(t["x"], filters, t["bias"], t["pixels"], t["pixelwise"], 3)


def _masked_block(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    packed = k["masked_block"].pack([t["kernel"]] * 2, t["share"], t["dense"])
    k["masked_block"].masked_block(
        *(t["x"], packed, t["dense"], t["bias"], t["pixels"], t["features"], t["pixelwise"])
    )


def _route(k: dict[str, ModuleType], t: dict[str, Tensor], width: int = 58) -> None:
    """Four hidden layers and one class of one layer; with a class map and without."""
    route, x = k["route_mlp"], t["x"]
    mlps = []
    for widths in ([width] * 4 + [3], [3]):
        inputs = [64, *widths[:-1]]
        weights = [x.new_empty(n, m) for n, m in zip(widths, inputs, strict=True)]
        packed = route.pack(weights, [x.new_empty(n) for n in widths[1:]])
        tables = [x.new_empty(4, widths[0]) for _ in range(2)]
        mlps.append(route.Mlp(packed, widths, *tables))
    for classes in (t["classes"], None):
        route.route_mlp(x, classes, mlps, t["places"], t["places"], t["small"], t["out"])


def _average(k: dict[str, ModuleType], t: dict[str, Tensor]) -> None:
    k["average_neighbors"].average_neighbors(t["canvas"], t["classes"], 1, 1, t["out"])


def _refine(k: dict[str, ModuleType], t: dict[str, Tensor], width: int = 64) -> None:
    """The first convolution, one with all that may follow, a strided 1x1, both last ones."""
    launch, windows = k["refine_patches"], t["windows"]
    places = launch.Places(t["index"], (16, 16), 4, 1)
    whole = launch.Geometry((6, 6), (6, 6), 3, 1, 1, 1)
    narrow = t["kernel"][:width, :width]
    own = t["x"].new_empty(16, width, 6, 6).contiguous(memory_format=torch.channels_last)
    bias = t["bias"][:width]
    every = launch.Epilogue(bias, own, "prelu", 0.0, bias, own)
    shuffled = launch.Geometry((6, 6), (4, 4), 3, 1, 0, 1, 4)
    enlarged = launch.Geometry((4, 4), (4, 4), 3, 1, 1, 1, 4, transposed=True)
    tanh, sigmoid = launch.Epilogue(bias, act="tanh"), launch.Epilogue(t["bias"], act="sigmoid")
    pack = launch.pack
    for source, filters, out, geometry, epilogue, gathers, scatters in (
        (t["x"], t["kernel"][:width], own, whole, tanh, True, False),
        (own, narrow, own, whole, every, False, False),
        (windows, t["up"], t["canvas"], shuffled, launch.Epilogue(t["bias"]), False, True),
        (windows[..., :4, :4], t["up"], t["canvas"], enlarged, sigmoid, False, True),
    ):
        launch.refine_patches_conv(
            source, pack(filters), out, geometry, epilogue, places, gathers, scatters
        )


MAPS = [_gather, _gather_backward, _scatter, _scatter_overlapping, _scatter_backward]
MASKED = [_masked_conv, _masked_block]
Call = Callable[[dict[str, ModuleType], dict[str, Tensor]], None]


@ARCHS
@DTYPES
@pytest.mark.parametrize("call", MAPS, ids=lambda f: f.__name__.strip("_"))
def test_channels_last(
    kernels: dict[str, ModuleType],
    launches: list[Launch],
    tmp_path: Path,
    call: Call,
    dtype: torch.dtype,
    arch: int,
) -> None:
    call(kernels, _tensors(dtype, torch.channels_last))
    for launch in launches:
        if launch[0].__name__ == "slot_maps_kernel":
            continue
        compiled = _compile(launch, arch)
        _check(compiled, tmp_path)
        for access in ("ld", "st"):
            assert re.search(access + VECTORS, compiled.asm["ptx"]), f"{launch[0].__name__}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_contiguous(
    kernels: dict[str, ModuleType], launches: list[Launch], tmp_path: Path, dtype: torch.dtype
) -> None:
    """NCHW: 16-px patches move in vectors, the windows with their halo lie across them."""
    tensors = _tensors(dtype, torch.contiguous_format)
    _gather(kernels, tensors)
    _gather_backward(kernels, tensors)
    windows = len(launches)
    _scatter(kernels, tensors)
    for i, launch in enumerate(launches):
        if launch[0].__name__ == "slot_maps_kernel":
            continue
        compiled = _compile(launch, 90)
        _check(compiled, tmp_path)
        assert (re.search(VECTORS, compiled.asm["ptx"]) is not None) == (i >= windows)


@pytest.mark.parametrize(
    ("dtype", "arch"),
    [(torch.float32, 90), (torch.float16, 80), (torch.bfloat16, 80), (torch.bfloat16, 90)],
    ids=str,
)
@pytest.mark.parametrize("call", MASKED, ids=lambda f: f.__name__.strip("_"))
def test_masked(
    kernels: dict[str, ModuleType],
    launches: list[Launch],
    tmp_path: Path,
    call: Call,
    dtype: torch.dtype,
    arch: int,
) -> None:
    """16-bit types go through tensor cores, float32 does not: that would be TensorFloat-32."""
    call(kernels, _tensors(dtype, torch.channels_last))
    programs = {(launch[0].__name__, launch[2].get("FIRST")): launch for launch in launches}
    for launch in programs.values():
        compiled = _compile(launch, arch)
        _check(compiled, tmp_path, 255)
        ptx = compiled.asm["ptx"]
        assert ("mma" in ptx) == (dtype != torch.float32)
        assert "tf32" not in ptx
        # cp.async.cg copies 16 bytes.
        assert re.search(r"cp\.async\.cg\.shared\.global|ld" + VECTORS, ptx)


@pytest.mark.parametrize(
    ("dtype", "arch", "width"),
    [
        *((torch.float32, 90, 58), (torch.float32, 80, 170), (torch.float16, 80, 10)),
        *((torch.bfloat16, 90, 58), (torch.bfloat16, 80, 170)),
    ],
    ids=str,
)
def test_routing(
    kernels: dict[str, ModuleType],
    launches: list[Launch],
    tmp_path: Path,
    dtype: torch.dtype,
    arch: int,
    width: int,
) -> None:
    """16-bit types go through tensor cores, float32 does not: that would be TensorFloat-32."""
    _route(kernels, _tensors(dtype, torch.channels_last), width)
    programs = {(launch[0].__name__, *launch[2].values()): launch for launch in launches}
    for launch in programs.values():
        compiled = _compile(launch, arch)
        _check(compiled, tmp_path, 255)
        ptx = compiled.asm["ptx"]
        multiplies = "mlp" in launch[0].__name__ and launch[2].get("ROUTED", True)
        multiplies = multiplies and not launch[2].get("SINGLE", False)
        assert ("mma" in ptx) == (multiplies and dtype != torch.float32)
        assert "tf32" not in ptx


@pytest.mark.parametrize(
    ("dtype", "arch", "width"),
    [
        (torch.float32, 80, 64),
        (torch.float16, 80, 64),
        (torch.bfloat16, 90, 64),
        (torch.float32, 90, 12),
        (torch.bfloat16, 90, 12),
    ],
    ids=str,
)
def test_refine(
    kernels: dict[str, ModuleType],
    launches: list[Launch],
    tmp_path: Path,
    dtype: torch.dtype,
    arch: int,
    width: int,
) -> None:
    """16-bit types go through tensor cores, float32 does not: that would be TensorFloat-32."""
    _refine(kernels, _tensors(dtype, torch.channels_last), width)
    assert len(launches) == 4
    for launch in launches[: 4 if width == 64 else 2]:
        compiled = _compile(launch, arch)
        _check(compiled, tmp_path, 255)
        ptx = compiled.asm["ptx"]
        assert ("mma" in ptx) == (dtype != torch.float32)
        assert "tf32" not in ptx
        assert re.search(r"(ld\.global|cp\.async)", ptx)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_average(
    kernels: dict[str, ModuleType], launches: list[Launch], tmp_path: Path, dtype: torch.dtype
) -> None:
    _average(kernels, _tensors(dtype, torch.channels_last))
    _check(_compile(launches[0], 90), tmp_path)


@ARCHS
@DTYPES
def test_select(
    kernels: dict[str, ModuleType],
    launches: list[Launch],
    tmp_path: Path,
    dtype: torch.dtype,
    arch: int,
) -> None:
    _select(kernels, _tensors(dtype, torch.contiguous_format))
    _check(_compile(launches[0], arch), tmp_path)


@ARCHS
@pytest.mark.parametrize("first", [False, True])
def test_slot_maps(launches: list[Launch], tmp_path: Path, arch: int, first: bool) -> None:
    boxes = importlib.import_module("sparsesr.kernels._boxes")
    boxes.slot_maps(torch.zeros(2, 700, dtype=torch.int32), 8100, first)
    _check(_compile(launches[0], arch), tmp_path)


def test_every_kernel_is_compiled_here(
    kernels: dict[str, ModuleType], launches: list[Launch]
) -> None:
    tensors = _tensors(torch.float32, torch.channels_last)
    for call in (*MAPS, _select, *MASKED, _route, _average, _refine):
        call(kernels, tensors)
    modules = [importlib.import_module(f"sparsesr.kernels.{m}") for m in (*kernels, *SHARED)]
    written = {n for m in modules for n in vars(m) if n.endswith("_kernel")}
    assert {launch[0].__name__ for launch in launches} == written


def test_one_kernel_serves_images_of_every_size(
    kernels: dict[str, ModuleType], launches: list[Launch]
) -> None:
    """Sizes, strides, k and batch are plain arguments: a new image size compiles nothing anew."""
    constants = []
    for height, width, batch, k in ((64, 64, 1, 16), (65, 91, 3, 7), (480, 272, 1, 1)):
        x = torch.empty(batch, 12, height, width, memory_format=torch.channels_last)
        windows = torch.empty(batch * k, 12, 6, 6, memory_format=torch.channels_last)
        index = torch.zeros(batch, k, dtype=torch.int32)
        kernels["gather_patches"].gather_patches(x, index, windows, 1, 4, (16, 16))
        kernel, _, kwargs = launches[-1]
        constants.append({n: v for n, v in kwargs.items() if n != "BLOCK_BOXES"})
        named = {p.name for p in kernel.params if not p.is_constexpr}
        assert named - set(kernel.do_not_specialize) == {"x", "index", "patches"}
    assert constants[0] == constants[1] == constants[2]
