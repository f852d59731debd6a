"""Programs with less in them: dead steps dropped, epilogues put into their convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ..ops._program import CONVOLUTIONS, Program, Shape, Step


def simplified(
    steps: Sequence[Step],
    result: int,
    shapes: Sequence[Shape],  # of all values
    weights: Sequence[Sequence[int]],  # shapes of the parameters
) -> tuple[Program, list[int]]:
    """The same function in fewer steps, and which of the parameters are left, in their new order.

    ``conv`` and ``deconv`` take an addition, an activation and a product that follow them and
    nobody else reads before; an activation with one slope moves in front of a shuffle.
    """
    graph = _Graph(steps, result, shapes, weights)
    graph.fuse()
    graph.move_activations()
    return graph.program()


class _Graph:
    """Steps by the value they make; a fused step takes the place of the last one it holds."""

    def __init__(
        self,
        steps: Sequence[Step],
        result: int,
        shapes: Sequence[Shape],
        weights: Sequence[Sequence[int]],
    ) -> None:
        self.shapes, self.weights, self.result = shapes, weights, result
        self.steps = dict(enumerate(steps, start=1))
        self.readers: dict[int, list[int]] = {v: [] for v in range(len(steps) + 1)}
        self._drop_dead()
        for v, step in self.steps.items():
            for read in step.reads:
                self.readers[read].append(v)
        self.readers[result].append(-1)

    def fuse(self) -> None:
        """Let convolutions absorb what follows them."""
        for v in list(self.steps):  # in order: what has absorbed is met again at its new place
            if v in self.steps and self.steps[v].kind in CONVOLUTIONS:
                self._absorb(v)

    def move_activations(self) -> None:
        """``act(shuffle(conv))`` -> ``shuffle(conv act)``."""
        for v, step in list(self.steps.items()):
            if step.kind != "act" or not self._one_slope(step):
                continue
            shuffle = self.steps.get(step.inputs[0])
            if shuffle is None or shuffle.kind != "shuffle" or not self._only(step.inputs[0], v):
                continue
            source = shuffle.inputs[0]
            conv = self.steps.get(source)
            if conv is None or conv.kind not in CONVOLUTIONS or conv.act or conv.mul is not None:
                continue
            if self._only(source, step.inputs[0]):
                self.steps[source] = replace(conv, act=step.act)
                self._take_place(step.inputs[0], v, shuffle)

    def program(self) -> tuple[Program, list[int]]:
        """Values and parameters numbered anew."""
        values, kept = {0: 0}, dict[int, int]()
        made: list[Step] = []
        for v, step in self.steps.items():
            made.append(_renumbered(step, values, kept))
            values[v] = len(made)
        return Program(tuple(made), values[self.result]), list(kept)

    def _drop_dead(self) -> None:
        alive = {self.result}
        for v in reversed(list(self.steps)):
            if v in alive:
                alive.update(self.steps[v].reads)
            else:
                del self.steps[v]

    def _absorb(self, v: int) -> None:
        step, readers = self.steps[v], self.readers[v]
        if len(readers) != 1 or readers[0] not in self.steps:
            return
        after = self.steps[readers[0]]
        other = [i for i in after.inputs if i != v]
        if after.kind == "act" and step.act is None and step.mul is None:
            merged = replace(step, act=after.act)
        elif after.kind not in ("add", "mul") or self._differs(other, v) or step.mul is not None:
            return
        elif after.kind == "mul":
            merged = replace(step, mul=other[0])
        elif step.add is None and step.act is None:
            merged = replace(step, add=other[0])
        else:
            return
        self._take_place(v, readers[0], merged)

    def _differs(self, other: list[int], v: int) -> bool:
        return len(other) != 1 or self.shapes[other[0]] != self.shapes[v]

    def _take_place(self, v: int, at: int, step: Step) -> None:
        """``step``, which made ``v``, makes the value ``at`` instead."""
        for read in self.steps[v].reads:
            self.readers[read] = [at if r == v else r for r in self.readers[read]]
        del self.steps[v]
        self.steps[at] = step
        self.readers[v] = []

    def _only(self, v: int, reader: int) -> bool:
        return self.readers[v] == [reader]

    def _one_slope(self, step: Step) -> bool:
        assert step.act is not None
        return step.act.kind != "prelu" or prod(self.weights[step.act.parameter]) == 1


def _renumbered(step: Step, values: dict[int, int], kept: dict[int, int]) -> Step:
    numbers = dict(step.numbers)
    for option in ("weight", "bias"):
        if option in numbers:
            numbers[option] = kept.setdefault(numbers[option], len(kept))
    act = step.act
    if act is not None and act.parameter >= 0:
        act = replace(act, parameter=kept.setdefault(act.parameter, len(kept)))
    return replace(
        step,
        inputs=tuple(values[v] for v in step.inputs),
        numbers=numbers,
        act=act,
        add=None if step.add is None else values[step.add],
        mul=None if step.mul is None else values[step.mul],
    )
