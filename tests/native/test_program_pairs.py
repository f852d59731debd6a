"""bfloat16 programs in pairs of channels, the instruction emulated: on any x86-64 CPU."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import sysconfig
from array import array
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _cpu_programs, _native, patch_grid, reference
from sparsesr.ops._program import map_obstacle, parse_program
from tests.native import simt_build
from tests.native.simt_build import CSRC
from tests.native.test_programs import FORMATS, deep, open_pixels

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
from masked_cases import assert_close
from program_cases import INPUTS, NETS, SINGLES, WHOLE, Net, Single

SOURCES = (
    *("cpu/conv_rows.cpp", "cpu/run_program.cpp", "cpu/refine_patches.cpp"),
    *("cpu/program_layout.cpp", "cpu/program_ops.cpp", "cpu/program_tables.cpp"),
    *("common/checks.cpp", "common/patch_plan.cpp", "testing/program_pairs.cpp"),
)
FLAGS = ("-O1", "-fPIC", "-fvisibility=hidden", "-DSPARSESR_EMULATED_PAIRS")
PAIR_CONV = (0, 2)  # kind and depth of a step
STEP = 15  # numbers of a step in its table
STREAMED = [
    s
    for s in SINGLES
    if map_obstacle(parse_program(s.text), [tuple(w.shape) for w in s.weights()]) is None
]


@pytest.fixture(scope="module")
def emulating(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module of programs alone, compiled with the emulation."""
    pybind11 = pytest.importorskip("pybind11", reason="no pybind11 to build a module with")
    folder = tmp_path_factory.mktemp("program_pairs")
    headers = [f"-I{pybind11.get_include()}", f"-I{_python_headers()}"]
    objects = [folder / f"{Path(source).stem}.o" for source in SOURCES]
    simt_build.in_parallel(
        [
            simt_build.compile_command(CSRC / source, output, *FLAGS, *headers)
            for source, output in zip(SOURCES, objects, strict=True)
        ]
    )
    library = folder / "program_pairs.so"
    simt_build.in_parallel([simt_build.link_command(objects, library, "-shared")])
    spec = importlib.util.spec_from_file_location("program_pairs", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _python_headers() -> str:
    folder = sysconfig.get_paths()["include"]
    if not (Path(folder) / "Python.h").is_file():
        pytest.skip(f"no Python.h in {folder}")
    return folder


@pytest.fixture(autouse=True)
def pairs(emulating: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run in that module."""
    monkeypatch.setattr(_cpu_programs, "_loaded", lambda: SimpleNamespace(cpu=emulating))


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()


def _pair_steps(net: Net | Single, weights: list[Tensor], channels: int) -> int:
    """Convolutions of pairs of the program."""
    whole = _cpu_programs._assembled(
        weights, net.text, torch.bfloat16, (channels, 6, 6), is_map=False
    )
    steps = array("q")
    steps.frombytes(whole.tables[3])
    rows = [steps[i : i + STEP] for i in range(0, len(steps), STEP)]
    return sum((row[0], row[-1]) == PAIR_CONV for row in rows)


def test_only_whole_pairs_are_multiplied() -> None:
    """Odd counts, slices from an odd channel on and other types stay float32."""
    assert _pair_steps(deep(3, 6), deep(3, 6).cast(torch.bfloat16), 6) == 3
    assert _pair_steps(deep(3, 5), deep(3, 5).cast(torch.bfloat16), 5) == 0
    found = {s.name: _pair_steps(s, s.weights(torch.bfloat16), INPUTS) for s in SINGLES}
    assert found["conv grouped"] == found["deconv 9x9 s3 p4"] == found["conv strided"] == 1
    assert found["depthwise"] == found["conv of a slice"] == 0
    net = deep(1, 6)
    whole = _cpu_programs._assembled(net.weights, net.text, torch.float32, (6, 1, 1), is_map=True)
    assert array("q", whole.tables[3])[STEP - 1] == 1


@pytest.mark.parametrize("single", STREAMED, ids=str)
def test_a_step_of_a_map(single: Single) -> None:
    weights = single.weights(torch.bfloat16)
    for size in ((5, 7), (2, 37)):
        x = _x(2, INPUTS, *size)
        exact = single.expected(x.double(), *(w.double() for w in weights))
        plain = reference.run_program(x, weights, single.text)
        for memory_format in FORMATS:
            laid = x.contiguous(memory_format=memory_format)
            assert_close(_native.run_program(laid, weights, single.text), exact, plain, single.name)


@pytest.mark.parametrize("net", [*WHOLE, deep(2, 6), deep(3, 40)], ids=str)
def test_maps(net: Net) -> None:
    weights = net.cast(torch.bfloat16)
    assert _pair_steps(net, weights, net.channels) > 0
    for size in ((1, 1), (9, 14), (2, 35), (13, 1), (4, 130)):
        x = _x(2, net.channels, *size)
        exact = reference.run_program(x.double(), [w.double() for w in weights], net.text)
        plain = reference.run_program(x, weights, net.text)
        for memory_format in FORMATS:
            laid = x.contiguous(memory_format=memory_format)
            assert_close(_native.run_program(laid, weights, net.text), exact, plain, f"{size}")


@pytest.mark.parametrize("net", NETS, ids=str)
def test_patches(net: Net) -> None:
    weights = net.cast(torch.bfloat16)
    made = reference.run_program(torch.zeros(1, net.channels, 6, 6), net.weights, net.text)
    scale = made.shape[2] // 4
    for batch, height, width, count in ((2, 9, 14, 7), (1, 3, 2, 1), (3, 8, 8, 4)):
        feature = _x(batch, net.channels, height, width)
        cells = math.prod(patch_grid(height, width, 4))
        rng = torch.Generator().manual_seed(2)
        chosen = [torch.randperm(cells, generator=rng)[:count].sort()[0] for _ in range(batch)]
        arguments = (torch.stack(chosen).int(), weights, net.text, 4, 1)
        canvas = torch.zeros(batch, made.shape[1], scale * height, scale * width).bfloat16()
        exact, plain = canvas.double(), canvas.clone()
        doubles = [w.double() for w in weights]
        reference.refine_patches_(exact, feature.double(), arguments[0], doubles, *arguments[2:])
        reference.refine_patches_(plain, feature, *arguments)
        for memory_format in FORMATS:
            got = canvas.clone(memory_format=memory_format)
            laid = feature.contiguous(memory_format=memory_format)
            _native.refine_patches_(got, laid, *arguments)
            assert_close(got, exact, plain, f"{height}x{width}")


def test_values_are_rounded_to_nearest() -> None:
    """What a convolution reads, not what a step computes: x + 0.1 x is made of float32 numbers."""
    net = Net("rounded", 4)
    weight, bias = net.parameter(4, 4, 1, 1), net.parameter(4)
    scaled = net.step("act v0 act=leaky:0.1")
    net.step(f"conv {scaled} weight={weight} bias={bias} pad=0")
    weights = [torch.eye(4)[:, :, None, None].bfloat16(), torch.zeros(4).bfloat16()]
    x = _x(1, 4, 3, 50)
    got = _native.run_program(x, weights, net.text)
    assert torch.equal(got, torch.where(x > 0, x.float(), x.float() * 0.1).bfloat16())
    x[0, 2, 1, 7], x[0, 0, 2, 9] = math.nan, math.inf
    got = _native.run_program(x, weights, net.text)
    assert got[0, :, 1, 7].isnan().all()
    assert got[0, 0, 2, 9] == math.inf
    assert got.isnan().sum() == 4 + 3  # inf * 0


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_what_is_not_covered_keeps_its_bits(share: float) -> None:
    rng = torch.Generator().manual_seed(4)
    for net in (deep(2, 6), WHOLE[0]):
        weights = net.cast(torch.bfloat16)
        for batch, height, width in ((1, 9, 230), (2, 5, 21)):
            x = _x(batch, net.channels, height, width)
            cells = math.prod(patch_grid(height, width, 4))
            count = math.ceil(share * cells)
            index = torch.stack(
                [torch.randperm(cells, generator=rng)[:count] for _ in range(batch)]
            )
            want = _native.run_program(x, weights, net.text)
            got = _native.run_program(x, weights, net.text, index.int(), 4)
            seen = open_pixels(index, want, (height, width), 4)
            assert torch.equal(got[seen], want[seen])


@pytest.mark.usefixtures("threads")
def test_strips_and_bands_change_no_bit() -> None:
    """Rings of a map this wide are cut in strips; several threads cut bands as well."""
    net = deep(16, 16)
    weights = net.cast(torch.bfloat16)
    x = _x(1, 16, 40, 2200)
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(_native.run_program(x, weights, net.text))
    assert torch.equal(found[0], found[1])
    part = _native.run_program(x[:, :, :, :300].contiguous(), weights, net.text)
    assert torch.equal(part[:, :, :, :280], found[0][:, :, :, :280])


@pytest.mark.parametrize(
    ("table", "broken"),
    [(1, {1: 1, 2: 4}), (1, {2: 5}), (2, {2: 1}), (2, {3: 3}), (3, {-1: 3}), (3, {-1: 0})],
    ids=["first", "count", "block's first", "block's count", "depth 3", "depth 0"],
)
def test_a_broken_table_is_refused(
    emulating: ModuleType, table: int, broken: dict[int, int]
) -> None:
    net = deep(1, 6)
    x, out = torch.zeros(1, 6, 4, 5).bfloat16(), torch.zeros(1, 6, 4, 5).bfloat16()
    weights = net.cast(torch.bfloat16)
    whole = _cpu_programs._assembled(weights, net.text, x.dtype, (6, 1, 1), is_map=True)
    tables = list(whole.tables_of_map(4, 5))
    view, made, constants = (_native._view("test", "x", t) for t in (x, out, whole.constants))
    emulating.run_program(view, tables, constants, None, 1, made, 1)
    numbers = array("q", tables[table][: 8 * STEP])  # of the convolution
    for place, value in broken.items():
        numbers[place] = value
    tables[table] = numbers.tobytes() + tables[table][8 * STEP :]
    with pytest.raises(ValueError, match=r"run_program: .*(pair|units)"):
        emulating.run_program(view, tables, constants, None, 1, made, 1)


def test_no_pairs_where_the_cpu_has_none() -> None:
    """Tables are made for one instruction set; another one refuses them."""
    native = importlib.import_module("sparsesr._native")
    if native.cpu.program_rule()[2] == 2:
        pytest.skip("this CPU multiplies pairs")
    net, x, out = deep(1, 6), _x(1, 6, 4, 5), _x(1, 6, 4, 5)
    weights = net.cast(torch.bfloat16)
    whole = _cpu_programs._assembled(weights, net.text, x.dtype, (6, 1, 1), is_map=True)
    view, made, constants = (_native._view("test", "x", t) for t in (x, out, whole.constants))
    with pytest.raises(ValueError, match="does not multiply pairs"):
        native.cpu.run_program(view, whole.tables_of_map(4, 5), constants, None, 1, made, 1)
