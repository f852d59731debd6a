"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage(nn.Module):
    """A copy of `net` whose parameters follow: a <- d a + (1 - d) w.

    The decay is warmed up, d_t = min(decay, (1 + t) / (10 + t)), so that the random start is
    forgotten. Buffers are copied. `decay` 0 keeps the copy equal to `net`.
    """

    steps: torch.Tensor

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """One step towards `net`'s present weights."""
        self.steps += 1
        steps = int(self.steps)
        decay = min(self.decay, (1 + steps) / (10 + steps))
        # Frozen parameters stay bit-identical: a lerp between equal numbers could round.
        pairs = [
            (mine, theirs)
            for mine, theirs in zip(self.net.parameters(), net.parameters(), strict=True)
            if theirs.requires_grad
        ]
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)

    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged network's state dict, on the CPU."""
        return {key: value.cpu() for key, value in self.net.state_dict().items()}
