"""The flat lists of ``route_mlp``'s schema, taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor


def per_class(
    weights: Sequence[Tensor], biases: Sequence[Tensor], layers: Sequence[int]
) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
    """Of every class its weights, and its biases: those of all its layers but the first.

    Args:
        weights: of class 0, then of class 1, ...
        biases: likewise, one fewer in each class.
        layers: how many weights each class has.
    """
    first = 0
    for j, count in enumerate(layers):
        yield weights[first : first + count], biases[first - j : first - j + count - 1]
        first += count
