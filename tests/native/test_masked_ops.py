"""The masked convolutions of the native module: every instruction set, threads, packed weights."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _native, reference
from sparsesr.ops._packing import Cache, PackedBlock, PackingRule, pack_block, pack_conv

# batch, channels, outputs, height, width, dense channels of each layer. Vectors hold 4, 8 or 16
# outputs and groups of them up to 64: a little less and a little more than each.
BLOCKS = [
    (1, 1, 1, 1, 1, (0,)),
    (2, 5, 7, 6, 9, (5, 0, 3)),
    (1, 15, 17, 5, 7, (8, 15)),
    (2, 17, 3, 9, 2, (9, 1, 0)),
    (1, 64, 64, 13, 17, (24, 9, 3, 0)),
    (1, 70, 66, 8, 8, (33, 70)),
]
each_block = pytest.mark.parametrize("block", BLOCKS, ids=str)
SHARES = (0.0, 0.05, 0.5, 1.0)  # of active pixels

Block = tuple[int, int, int, int, int, tuple[int, ...]]


@pytest.fixture
def nan_memory() -> Iterator[None]:
    """Memory that torch hands out holds NaN: what nobody wrote must not be read."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def inputs(block: Block) -> tuple[Tensor, list[Tensor], Tensor, Tensor, Tensor]:
    batch, channels, outputs, height, width, counts = block
    rng = torch.Generator().manual_seed(channels)
    layers = len(counts)
    x = torch.randn(batch, channels, height, width, generator=rng)
    scale = (9 * channels) ** -0.5
    weights = [torch.randn(channels, channels, 3, 3, generator=rng) * scale for _ in counts]
    collect = torch.randn(outputs, layers * channels, 1, 1, generator=rng)
    dense = torch.zeros(layers, channels, dtype=torch.bool)
    for row, count in zip(dense, counts, strict=True):
        row[torch.randperm(channels, generator=rng)[:count]] = True
    bias = torch.randn(outputs, generator=rng)
    return x, weights, collect / (layers * channels) ** 0.5, bias, dense


def mask_of(block: Block, share: float) -> Tensor:
    batch, _, _, height, width, _ = block
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(7)) < share


def exact(op: str, *arguments: object) -> Tensor:
    def wide(value: object) -> object:
        if isinstance(value, list):
            return [wide(v) for v in value]
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.double() if floating else value

    return getattr(reference, op)(*map(wide, arguments))


def assert_near(got: Tensor, expected: Tensor) -> None:
    # Features and outputs are about 1 in size and sums of up to 5 * 9 * 70 products.
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-5)


@each_block
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_block(block: Block, layout: torch.memory_format, isa: str, nan_memory: None) -> None:
    x, *others = inputs(block)
    for share in SHARES:
        mask = mask_of(block, share)
        got = _native.masked_block(x.contiguous(memory_format=layout), *others, mask)
        assert_near(got, exact("masked_block", x, *others, mask))
        assert got.is_contiguous(memory_format=layout)


@each_block
@pytest.mark.parametrize("side", [1, 3, 5])
def test_conv(block: Block, side: int, isa: str, nan_memory: None) -> None:
    x, _, collect, bias, _ = inputs(block)
    channels, outputs = x.shape[1], collect.shape[0]
    rng = torch.Generator().manual_seed(side)
    weight = torch.randn(outputs, channels, side, side, generator=rng)
    weight /= (channels * side * side) ** 0.5
    for share in SHARES:
        mask = mask_of(block, share)
        got = _native.masked_conv2d(x, weight, bias, mask)
        assert_near(got, exact("masked_conv2d", x, weight, bias, mask))
        assert got[~mask.expand_as(got)].eq(0).all()


def test_nan_stays_where_the_formula_puts_it(isa: str) -> None:
    """One bad input value spoils what is computed from it and nothing else."""
    block = BLOCKS[4]
    x, *others = inputs(block)
    x[0, 3, 6, 8] = torch.nan
    for share in SHARES:
        mask = mask_of(block, share)
        got = _native.masked_block(x, *others, mask)
        expected = reference.masked_block(x, *others, mask)
        # The reference multiplies by zeros, which spreads NaN to more values than are computed.
        assert not (got.isnan() & ~expected.isnan()).any()
        assert got[0, :, 6, 8].isnan().all()


def test_channels_of_a_wider_map(isa: str) -> None:
    """Pixels that are not adjacent: a slice of a channels_last map is read in place."""
    block = BLOCKS[4]
    x, *others = inputs(block)
    wide = torch.full((1, 80, *x.shape[2:]), torch.nan).contiguous(
        memory_format=torch.channels_last
    )
    wide[:, 8:72] = x
    mask = mask_of(block, 0.5)
    got = _native.masked_block(wide[:, 8:72], *others, mask)
    assert_near(got, exact("masked_block", x, *others, mask))


@pytest.mark.parametrize("layout", ["whole", "slice", "odd start", "odd stride"])
def test_bfloat16_channels_in_any_place(layout: str, isa: str) -> None:
    """Pairs of channels are read as they lie, or copied where they share no aligned 32 bits."""
    room, first = {"whole": (64, 0), "slice": (80, 8), "odd start": (80, 7), "odd stride": (67, 2)}[
        layout
    ]
    block = BLOCKS[4]
    x, weights, collect, bias, dense = inputs(block)
    wide = torch.full((1, room, *x.shape[2:]), torch.nan, dtype=torch.bfloat16)
    wide = wide.contiguous(memory_format=torch.channels_last)
    wide[:, first : first + 64] = x
    narrow = [w.bfloat16() for w in weights]
    mask = mask_of(block, 0.5)
    arguments = (narrow, collect.bfloat16(), bias.bfloat16(), dense, mask)
    got = _native.masked_block(wide[:, first : first + 64], *arguments)
    expected = exact("masked_block", wide[:, first : first + 64], *arguments)
    assert got.dtype == torch.bfloat16
    # Three features and the result are rounded to 8 bits; outputs reach 4.
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=0.05)
    sums = _native.masked_conv2d(wide[:, first : first + 64], narrow[0], None, mask)
    expected = exact("masked_conv2d", wide[:, first : first + 64], narrow[0], None, mask)
    # Only the result is rounded, to 8 bits.
    torch.testing.assert_close(sums.double(), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_block
def test_16_bit(block: Block, dtype: torch.dtype, isa: str, nan_memory: None) -> None:
    given = inputs(block)
    x, weights, collect, bias = (
        [w.to(dtype) for w in t] if isinstance(t, list) else t.to(dtype) for t in given[:4]
    )
    for share in SHARES:
        mask = mask_of(block, share)
        got = _native.masked_block(x, weights, collect, bias, given[4], mask)
        expected = exact("masked_block", x, weights, collect, bias, given[4], mask)
        # Every feature and the result are rounded to 8 (11) bits; outputs reach 4.
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("share", SHARES)
def test_thread_count_changes_nothing(share: float, isa: str, threads: None) -> None:
    block = (2, 64, 64, 29, 31, (24, 9, 3, 0))  # enough work that three threads get some
    x, weights, *others = inputs(block)
    mask = mask_of(block, share)
    blocks, convs = [], []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        blocks.append(_native.masked_block(x, weights, *others, mask))
        convs.append(_native.masked_conv2d(x, weights[0], None, mask))
    for results in (blocks, convs):
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


# --- packed weights

RULE = PackingRule(lanes=4, narrow=2, vectors=2, depth=1)


def test_packed_convolution() -> None:
    """Groups of 8 outputs, then what is left, padded to 4; taps, then inputs, in each."""
    weight = torch.arange(10 * 3 * 9.0).reshape(10, 3, 3, 3)
    flat = pack_conv(weight, RULE)
    first = flat[: 9 * 3 * 8].reshape(9, 3, 8)
    last = flat[9 * 3 * 8 : 9 * 3 * 12].reshape(9, 3, 4)
    for tap in range(9):
        for channel in range(3):
            taken = weight[:, channel, tap // 3, tap % 3]
            assert torch.equal(first[tap, channel], taken[:8])
            assert torch.equal(last[tap, channel, :2], taken[8:])
    assert last[..., 2:].eq(0).all()
    assert flat.numel() % 16 == 0


def test_packed_pairs() -> None:
    """bfloat16 inputs two by two; the third gets a zero beside it."""
    weight = torch.randint(-9, 9, (5, 3, 1, 1)).float()
    flat = pack_conv(weight, RULE._replace(depth=2)).view(torch.bfloat16)
    units = flat[: 2 * 8 * 2].reshape(2, 8, 2).float()  # pairs, outputs, inputs of a pair
    assert torch.equal(units[0, :5], weight[:, :2, 0, 0])
    assert torch.equal(units[1, :5, 0], weight[:, 2, 0, 0])
    assert units[1, :, 1].eq(0).all()
    assert units[:, 5:].eq(0).all()


def test_packed_block_counts_dense_channels() -> None:
    weights = [torch.rand(6, 6, 3, 3) for _ in range(3)]
    dense = torch.tensor([[1, 0, 1, 1, 0, 0], [0] * 6, [1] * 6], dtype=torch.bool)
    assert pack_block(weights, torch.rand(2, 18, 1, 1), dense, RULE).dense == [3, 0, 6]


def _tracked(cache: Cache, tensor: Tensor, packs: list[int]) -> None:
    def pack() -> PackedBlock:
        packs.append(1)
        return PackedBlock(tensor.clone(), [])

    cache.get((), [tensor], pack)


def test_cache_packs_once_until_the_tensor_changes() -> None:
    cache, packs, weight = Cache(), [], torch.rand(4)
    _tracked(cache, weight, packs)
    _tracked(cache, weight, packs)
    _tracked(cache, weight.detach(), packs)  # the same memory, the same count of changes
    assert len(packs) == 1
    weight.mul_(2)
    _tracked(cache, weight, packs)
    assert len(packs) == 2
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.ones(4)
    optimizer.step()  # does not count as a change for torch
    _tracked(cache, weight, packs)
    assert len(packs) == 3
    with torch.inference_mode():
        untracked = torch.rand(4)  # counts no changes at all
        _tracked(cache, untracked, packs)
        _tracked(cache, untracked, packs)
        assert len(packs) == 4
        untracked.mul_(2)
        _tracked(cache, untracked, packs)
        assert len(packs) == 5


def test_cache_counts_optimizer_steps_where_it_cannot_read() -> None:
    """A fused step changes weights and not their version; on a GPU values are not compared."""
    cache, packs, elsewhere = Cache(), [], torch.empty(4, device="meta")
    _tracked(cache, elsewhere, packs)
    _tracked(cache, elsewhere, packs)
    assert len(packs) == 1
    weight = torch.rand(4, requires_grad=True)
    weight.grad = torch.ones(4)
    torch.optim.Adam([weight], fused=True).step()
    _tracked(cache, elsewhere, packs)
    assert len(packs) == 2


def test_cache_forgets_freed_memory() -> None:
    """An entry dies with its weights, even if new ones come to lie at the old address."""
    cache, packs = Cache(), []
    weight = torch.rand(4)
    _tracked(cache, weight, packs)
    del weight
    gc.collect()
    other = torch.rand(4)
    _tracked(cache, other, packs)
    assert len(packs) == 2
    assert len(cache._entries) == 1


# --- what the module refuses


PIXELS = torch.zeros(1, 4, 5, 6).contiguous(memory_format=torch.channels_last)


def _raw(**changes: object) -> None:
    module = importlib.import_module("sparsesr._native")
    rule = PackingRule(*module.cpu.packing_rule(False))
    arguments = {
        "x": PIXELS,
        "weights": pack_conv(torch.zeros(3, 4, 3, 3), rule),
        "side": 3,
        "bias": torch.zeros(3),
        "mask": torch.zeros(1, 1, 5, 6, dtype=torch.bool),
        "out": torch.zeros(1, 3, 5, 6).contiguous(memory_format=torch.channels_last),
        "threads": 1,
        **changes,
    }
    views = [
        _native._view("masked_conv2d", n, v) if isinstance(v, Tensor) else v
        for n, v in arguments.items()
    ]
    module.cpu.masked_conv2d(*views)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": torch.zeros(1, 4, 5, 6)}, ValueError, "x with adjacent channels"),
        ({"x": torch.zeros(1, 4, 5, 6).half()}, TypeError, "x float32, got float16"),
        ({"x": PIXELS[:, :3].bfloat16()}, TypeError, "even number of channels"),
        ({"mask": torch.zeros(1, 1, 5, 6)}, TypeError, "mask bool, got float32"),
        ({"mask": torch.zeros(1, 1, 5, 5, dtype=torch.bool)}, ValueError, "mask"),
        ({"side": 2}, ValueError, "an odd kernel, got 2x2"),
        ({"weights": torch.zeros(16)}, ValueError, "weights packed of"),
        ({"bias": torch.zeros(2)}, ValueError, "bias"),
        ({"out": torch.zeros(1, 3, 4, 6)}, ValueError, "out"),
    ],
)
def test_module_checks(change: dict, error: type, text: str) -> None:
    _raw()
    with pytest.raises(error, match=f"^masked_conv2d: .*{text}"):
        _raw(**change)
