"""Weights as the native masked convolutions read them, packed once and kept.

The kernels multiply one input with a few vectors of outputs at a time, so the weights of those
outputs lie side by side: ``[groups][k*k][inputs][outputs of the group]``. bfloat16 inputs go in
pairs, ``[groups][k*k][inputs / 2][outputs of the group][2]``. A block's features lie in
memory with the dense channels of their layer in front; its weights are permuted to match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook

Packed = TypeVar("Packed")

_PART = 16  # elements: every part begins on a cache line


class PackingRule(NamedTuple):
    """What an instruction set wants; csrc/cpu/kernels.h.

    Attributes:
        lanes: outputs of a vector.
        narrow: outputs of the narrower vector that serves where no more are dense.
        vectors: vectors of a group.
        depth: inputs of a unit: 1 float32, or 2 bfloat16 side by side.
    """

    lanes: int
    narrow: int
    vectors: int
    depth: int


class PackedMLP(NamedTuple):
    """One class's layers, float32, and their outputs."""

    first: Tensor
    later: Tensor
    widths: list[int]


class PackedBlock(NamedTuple):
    """One block's weights, 32-bit units seen as float32, and how many channels are dense."""

    weights: Tensor
    dense: list[int]


def pack_conv(weight: Tensor, rule: PackingRule) -> Tensor:
    """weight [O,I,k,k] of any floating dtype -> the packed form, flat, seen as float32."""
    return _pack(weight, rule, rule.lanes)


def pack_block(
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    dense: Tensor,  # [L, C] bool
    rule: PackingRule,
) -> PackedBlock:
    """Per layer: all outputs from all inputs, the share of the 1x1, dense from dense."""
    channels = dense.shape[1]
    inputs, count = torch.arange(channels), channels  # x keeps its order and is dense everywhere
    parts, counts = [], []
    for i, weight in enumerate(weights):
        outputs = torch.argsort(dense[i].logical_not().to(torch.uint8), stable=True)
        permuted = weight.detach()[outputs][:, inputs]
        share = collect_weight.detach()[:, i * channels : (i + 1) * channels][:, outputs]
        kept = int(dense[i].sum())
        lanes = rule.narrow if kept <= rule.narrow else rule.lanes
        parts += [
            _pack(permuted, rule, rule.lanes),
            _pack(share, rule, rule.lanes),
            _pack(permuted[:kept, :count], rule, lanes),
        ]
        counts.append(kept)
        inputs, count = outputs, kept
    return PackedBlock(torch.cat(parts), counts)


_MLP_OUTPUTS = 6  # of a register block; csrc/cpu/kernels.h


def pack_mlp(weights: Sequence[Tensor], biases: Sequence[Tensor], rule: PackingRule) -> PackedMLP:
    """Linear layers [N1,C], [N2,N1], ... and the biases of all but the first."""
    first = pack_conv(weights[0].detach()[:, :, None, None], rule)
    parts = [first.new_empty(0)]
    for weight, bias in zip(weights[1:], biases, strict=True):
        groups = weight.detach().float().split(_MLP_OUTPUTS)
        parts += [group.t().reshape(-1) for group in groups]
        parts.append(bias.detach().float())
    return PackedMLP(first, torch.cat(parts), [weight.shape[0] for weight in weights])


def _pack(weight: Tensor, rule: PackingRule, lanes: int) -> Tensor:
    outputs, inputs = weight.shape[:2]
    padded = F.pad(weight.detach(), (0, 0, 0, 0, 0, -inputs % rule.depth, 0, -outputs % lanes))
    units = padded.to(torch.float32 if rule.depth == 1 else torch.bfloat16)
    units = units.unflatten(1, (-1, rule.depth)).permute(3, 4, 1, 0, 2)  # k, k, I, O, depth
    groups = units.split(lanes * rule.vectors, dim=3)
    flat = torch.cat([group.reshape(-1) for group in groups]).view(torch.float32)
    return F.pad(flat, (0, -flat.numel() % _PART))


class _Steps:
    """Steps of all optimizers so far: torch's count of changes in place misses fused ones."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._after_step)

    def _after_step(self, *_: object) -> None:
        self.count += 1


_steps = _Steps()


class _Seen(NamedTuple):
    """What tensors were when they were packed: values on the CPU, counts of changes elsewhere."""

    values: list[Tensor | tuple[int, int]]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Seen:
        return cls(
            [t.detach().clone() if t.is_cpu else (t._version, _steps.count) for t in tensors]
        )

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        pairs = zip(self.values, tensors, strict=True)
        return all(
            torch.equal(seen, t) if isinstance(seen, Tensor) else seen == (t._version, _steps.count)
            for seen, t in pairs
        )


class Cache:
    """Packed weights by the tensors they come from.

    A hit wants every tensor in the same place, its memory never freed in between, and unchanged. On
    the CPU the values themselves are compared: reading the weights once more is little beside using
    them. On a GPU, where that would make the host wait, torch's count of changes in place has to
    do, and that of optimizer steps; a write through ``.data`` is not seen there.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[object, ...], tuple[_Seen, list[StorageWeakRef], Any]] = {}

    def get(
        self,
        key: tuple[object, ...],
        tensors: Sequence[Tensor],
        pack: Callable[[], Packed],
    ) -> Packed:
        """The packed form of ``tensors``; ``key`` holds what else it depends on."""
        if any(t.is_inference() and not t.is_cpu for t in tensors):
            return pack()  # such tensors count no changes
        key += tuple((t.data_ptr(), tuple(t.shape), t.stride(), t.dtype) for t in tensors)
        entry = self._entries.get(key)
        if entry is not None and not any(r.expired() for r in entry[1]) and entry[0].holds(tensors):
            kept: Packed = entry[2]
            return kept
        stale = [k for k, (_, refs, _) in self._entries.items() if any(r.expired() for r in refs)]
        for k in stale:
            self._entries.pop(k, None)
        packed = pack()
        refs = [StorageWeakRef(t.untyped_storage()) for t in tensors]
        self._entries[key] = (_Seen.of(tensors), refs, packed)
        return packed
