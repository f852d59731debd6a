"""``Steps``: the program that a lowering writes, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ..ops import _program
from ..ops._program import CONVOLUTIONS, Activation, Shape, Step
from .parameters import Fold, Place, Source


class UnlowerableError(ValueError):
    """A module, or something it does, cannot be written as a program; the message says what."""


@dataclass(eq=False)
class _Memory:
    """What values share that are views of one another; ``gone`` says why it may not be read."""

    gone: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the program being written.

    Attributes:
        number: in the program.
        shape: channels, height, width.
        flat: stands for a matrix [N, C], of which the program holds [N, C, 1, 1].
        memory: shared by values that are views of one another.
    """

    number: int
    shape: Shape
    flat: bool = False
    memory: _Memory = field(default_factory=_Memory, repr=False)

    @property
    def sizes(self) -> tuple[object, ...]:
        """As ``Tensor.shape``, but that the batch is no number: programs serve any."""
        return (BATCH, self.shape[0]) if self.flat else (BATCH, *self.shape)


class _Batch:
    """Stands for the number of images; arithmetic on it ends the lowering."""

    def __repr__(self) -> str:
        return "batch"


BATCH = _Batch()


class Steps:
    """Steps so far, and one method for each kind (``sparsesr.ops.PROGRAMS`` describes them).

    Args:
        places: where parameters and buffers of the module live, by the identity of the tensor.
        shape: of the input.
        any_size: the program is to serve maps of any size, so nothing in it may depend on one.

    Attributes:
        input: the value 0.
        steps, shapes: of all values made; ``shapes`` has that of the input in front.
        sources, weights: the parameters by number, and their shapes.
    """

    def __init__(
        self, places: Mapping[int, Place | None], shape: Shape, any_size: bool = False
    ) -> None:
        self._places = places
        self.any_size = any_size
        self.steps: list[Step] = []
        self.shapes: list[Shape] = [shape]
        self.sources: list[Source] = []
        self._numbers: dict[Source, int] = {}
        self.weights: list[Sequence[int]] = []
        self.input = Value(0, shape)

    # Kinds of steps.

    def conv(
        self,
        x: Value,
        weight: Tensor,  # [O, I/groups, k, k]
        bias: Tensor | None = None,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
    ) -> Value:
        """A convolution; ``weight`` and ``bias`` are parameters of the module."""
        numbers = self._parameters(weight, bias)
        for name, number, usual in (("stride", stride, 1), ("pad", pad, 0), ("groups", groups, 1)):
            if number != usual:
                numbers[name] = number
        return self.emit("conv", [x], numbers)

    def deconv(
        self,
        x: Value,
        weight: Tensor,  # [I, O, k, k]
        bias: Tensor | None,
        stride: int,
        pad: int,
    ) -> Value:
        """A transposed convolution to exactly ``stride`` times the size."""
        return self.emit(
            "deconv", [x], {**self._parameters(weight, bias), "stride": stride, "pad": pad}
        )

    def act(
        self, x: Value, kind: str, slope: float = 0.0, parameter: Tensor | None = None
    ) -> Value:
        """An activation: relu, leaky with ``slope``, prelu with ``parameter``, sigmoid, tanh."""
        number = -1 if parameter is None else self._number(parameter)
        if parameter is not None and parameter.numel() not in (1, x.shape[0]):
            raise UnlowerableError(f"{parameter.numel()} slopes for {x.shape[0]} channels")
        return self.emit("act", [x], {}, act=Activation(kind, slope, number))

    def add(self, x: Value, y: Value) -> Value:
        """Elementwise, or one number of y for each channel or image."""
        return self._pair("add", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """As ``add``."""
        return self._pair("mul", x, y)

    def concat(self, values: Sequence[Value]) -> Value:
        """Along the channels."""
        return values[0] if len(values) == 1 else self.emit("concat", list(values))

    def slice(self, x: Value, first: int, count: int) -> Value:
        """Channels ``first`` to ``first + count - 1``: a view."""
        if (first, count) == (0, x.shape[0]):
            return x
        return replace(self.emit("slice", [x], {"first": first, "count": count}), memory=x.memory)

    def mean(self, x: Value) -> Value:
        """Over the pixels: [N, C, 1, 1]."""
        return self.emit("mean", [x])

    def softmax(self, x: Value) -> Value:
        """Over the channels."""
        return self.emit("softmax", [x])

    def nearest(self, x: Value, factor: int) -> Value:
        """Enlarged by repetition."""
        return x if factor == 1 else self.emit("nearest", [x], {"factor": factor})

    def resize(self, x: Value, height: int, width: int) -> Value:
        """Bilinear, corners not aligned."""
        self.sized("a bilinear resize")
        return self.emit("resize", [x], {"height": height, "width": width})

    def pad(self, x: Value, rows: int, cols: int) -> Value:
        """The last row and column repeated."""
        self.sized("padding by repetition")
        return x if rows == cols == 0 else self.emit("pad", [x], {"rows": rows, "cols": cols})

    def crop(self, x: Value, height: int, width: int) -> Value:
        """The upper left part: a view."""
        self.sized("cropping")
        if (height, width) == x.shape[1:]:
            return x
        made = self.emit("crop", [x], {"height": height, "width": width})
        return replace(made, memory=x.memory)

    def shuffle(self, x: Value, factor: int, order: str = "torch") -> Value:
        """Channels to pixels."""
        return x if factor == 1 else self.emit("shuffle", [x], {"factor": factor}, order=order)

    # What the rules of a lowering need beside these.

    def sized(self, what: str) -> None:
        """End the lowering where the program must serve maps of any size."""
        if self.any_size:
            raise UnlowerableError(f"{what} depends on the size of the map")

    def written(self, x: Value) -> None:
        """``x`` has been overwritten in place by the value made last, and may not be read again."""
        if x.memory is self.input.memory:
            raise UnlowerableError("it writes into its input")
        x.memory.gone = "is read after something was written into it in place"

    def fold_norm(self, x: Value, norm: nn.BatchNorm2d) -> Value:
        """Batch normalisation put into the convolution that made ``x``."""
        step = self.steps[x.number - 1] if x.number > 0 else None
        if step is None or step.kind not in CONVOLUTIONS:
            raise UnlowerableError("BatchNorm2d that does not follow a convolution")
        weight = self.sources[step["weight"]]
        bias = self.sources[step["bias"]] if "bias" in step.numbers else None
        if not isinstance(weight, Place) or isinstance(bias, Fold):
            raise UnlowerableError("BatchNorm2d after BatchNorm2d")
        if x.memory.gone or any(x.number in other.reads for other in self.steps):
            raise UnlowerableError("BatchNorm2d after a convolution whose result has other readers")
        owner = self._place(norm.running_mean)
        fold = [
            Fold(weight, bias, owner.module, step.kind == "deconv", part)
            for part in ("weight", "bias")
        ]
        numbers = dict(step.numbers)
        numbers["weight"] = self._source(fold[0], self.weights[step["weight"]])
        numbers["bias"] = self._source(fold[1], (x.shape[0],))
        order = ["weight", "bias", "stride", "pad", "groups"]
        self.steps[x.number - 1] = replace(
            step, numbers={name: numbers[name] for name in order if name in numbers}
        )
        x.memory.gone = "is read before its BatchNorm2d"
        return Value(x.number, x.shape)

    def emit(
        self,
        kind: str,
        inputs: Sequence[Value],
        numbers: dict[str, int] | None = None,
        act: Activation | None = None,
        order: str = "torch",
    ) -> Value:
        """A step of any kind.

        Raises:
            UnlowerableError: it does not fit what it reads.
        """
        for x in inputs:
            if x.memory.gone:
                raise UnlowerableError(f"a value {x.memory.gone}")
        step = Step(kind, tuple(x.number for x in inputs), numbers or {}, act, order)
        made = _program._shape_of(step, self.weights, self.shapes)
        if made is None or min(made) < 1 or any(n < 0 for n in step.numbers.values()):
            read = ", ".join(str(list(x.shape)) for x in inputs)
            raise UnlowerableError(f"the language has no '{step.text()}' of {read}")
        self.steps.append(step)
        self.shapes.append(made)
        return Value(len(self.steps), made, flat=inputs[0].flat)

    def _pair(self, kind: str, x: Value, y: Value) -> Value:
        if x.flat != y.flat:
            raise UnlowerableError(f"{kind} of a matrix and a map")
        wide = x.shape[1] * x.shape[2] < y.shape[1] * y.shape[2]
        return self.emit(kind, [y, x] if wide else [x, y])

    def _parameters(self, weight: Tensor, bias: Tensor | None) -> dict[str, int]:
        if weight.dim() != 4 or weight.shape[2] != weight.shape[3]:
            raise UnlowerableError(f"a kernel of shape {list(weight.shape)}; they are square")
        numbers = {"weight": self._number(weight)}
        return numbers if bias is None else {**numbers, "bias": self._number(bias)}

    def _place(self, tensor: Tensor | None) -> Place:
        place = self._places.get(id(tensor))
        if place is None:
            shared = id(tensor) in self._places
            what = "a parameter that several modules share" if shared else "computed weights"
            raise UnlowerableError(what)
        return place

    def _number(self, tensor: Tensor) -> int:
        return self._source(self._place(tensor), tuple(tensor.shape))

    def _source(self, source: Source, shape: Sequence[int]) -> int:
        if source not in self._numbers:
            self._numbers[source] = len(self.sources)
            self.sources.append(source)
            self.weights.append(shape)
        return self._numbers[source]
