"""Programs: a network of one input and one output as a list of steps, without its parameters.

A program says little of sizes, so one text can serve patches and whole maps; parameters are tensors
beside it, and steps name them by number. Every step makes one value; value 0 is the input, a map
[N,C,H,W]:

    v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2
    v2 = conv v1 weight=3 bias=4 pad=1 add=v0
    v3 = shuffle v2 factor=2
    return v3

- ``conv x weight= [bias=] [stride=1] [pad=0] [groups=1]``: convolution, zero padding, square kernel
- ``deconv x weight= [bias=] stride= pad=``: transposed, with exactly ``stride`` times the size
- ``act x act=``: an activation alone
- ``add x y``, ``mul x y``: elementwise; y may be [N,C or 1,1,1]
- ``concat x y ...``, ``slice x first= count=``: of channels
- ``mean x``: over the pixels, [N,C,1,1]; ``softmax x``: over the channels
- ``nearest x factor=``: enlarged by repetition
- ``resize x height= width=``: bilinear, corners not aligned
- ``pad x rows= cols=``: the last row and column repeated
- ``crop x height= width=``: the upper left part
- ``shuffle x factor= [order=torch|tf]``: channels to pixels

``conv`` and ``deconv`` may go on: ``add=v`` adds a value of the result's shape, then ``act=``, then
``mul=v`` multiplies by one. Activations: ``relu``, ``leaky:SLOPE``, ``prelu:PARAMETER`` (one slope
or one for each channel), ``sigmoid``, ``tanh``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Shape = tuple[int, int, int]  # channels, height, width

# Kind -> (least and most inputs, options it must have, options it may have)
_NUMBERS = {
    "conv": (1, 1, ("weight",), ("bias", "stride", "pad", "groups")),
    "deconv": (1, 1, ("weight", "stride", "pad"), ("bias",)),
    "act": (1, 1, (), ()),
    "add": (2, 2, (), ()),
    "mul": (2, 2, (), ()),
    "concat": (2, 1 << 16, (), ()),
    "slice": (1, 1, ("first", "count"), ()),
    "mean": (1, 1, (), ()),
    "softmax": (1, 1, (), ()),
    "nearest": (1, 1, ("factor",), ()),
    "resize": (1, 1, ("height", "width"), ()),
    "pad": (1, 1, ("rows", "cols"), ()),
    "crop": (1, 1, ("height", "width"), ()),
    "shuffle": (1, 1, ("factor",), ()),
}
_DEFAULTS = {"stride": 1, "pad": 0, "groups": 1}
_ACTIVATIONS = {"relu": None, "leaky": float, "prelu": int, "sigmoid": None, "tanh": None}
CONVOLUTIONS = ("conv", "deconv")


@dataclass(frozen=True)
class Activation:
    """What happens to every element.

    Attributes:
        kind: relu, leaky, prelu, sigmoid or tanh.
        slope: below zero, of leaky. parameter: number of the slopes, of prelu.
    """

    kind: str
    slope: float = 0.0
    parameter: int = -1

    def text(self) -> str:
        """As in a program."""
        if self.kind == "leaky":
            return f"leaky:{self.slope!r}"
        return f"prelu:{self.parameter}" if self.kind == "prelu" else self.kind


@dataclass(frozen=True)
class Step:
    """One step; the table above names kinds and numbers.

    Attributes:
        kind: what it does.
        inputs: values it reads.
        numbers: its options that are integers (parameters, sizes).
        act: its activation. order: of a shuffle.
        add: value added before the activation. mul: value that multiplies what comes of it.
    """

    kind: str
    inputs: tuple[int, ...]
    numbers: dict[str, int] = field(default_factory=dict)
    act: Activation | None = None
    order: str = "torch"
    add: int | None = None
    mul: int | None = None

    def __getitem__(self, option: str) -> int:
        """An option, or what it is by default."""
        return self.numbers.get(option, _DEFAULTS.get(option, -1))

    @property
    def reads(self) -> tuple[int, ...]:
        """All values it reads."""
        return (*self.inputs, *(v for v in (self.add, self.mul) if v is not None))

    def text(self) -> str:
        """As in a program, without its value."""
        words = [self.kind, *(f"v{v}" for v in self.inputs)]
        words += [f"{name}={value}" for name, value in self.numbers.items()]
        if self.order != "torch":
            words.append(f"order={self.order}")
        if self.add is not None:
            words.append(f"add=v{self.add}")
        if self.act is not None:
            words.append(f"act={self.act.text()}")
        if self.mul is not None:
            words.append(f"mul=v{self.mul}")
        return " ".join(words)


@dataclass(frozen=True)
class Program:
    """Steps in order, step i making value i + 1, and the value that is the result.

    Example:
        >>> program = parse_program("v1 = conv v0 weight=0 pad=1 act=relu\\nreturn v1")
        >>> program.steps[0]["pad"], program.steps[0].act.kind, program.result
        (1, 'relu', 1)
        >>> parse_program(program.text()) == program
        True
    """

    steps: tuple[Step, ...]
    result: int

    def text(self) -> str:
        """One line for each step, and the result."""
        lines = [f"v{i} = {step.text()}" for i, step in enumerate(self.steps, start=1)]
        return "\n".join([*lines, f"return v{self.result}"])

    def parameters(self) -> int:
        """How many parameters it names: the largest number and one."""
        named = [step[o] for step in self.steps for o in ("weight", "bias")]
        named += [step.act.parameter for step in self.steps if step.act is not None]
        return max(named, default=-1) + 1

    def last_uses(self) -> list[int]:
        """Of every value the last step that reads it; beyond all steps for the result."""
        last = [-1] * (len(self.steps) + 1)
        for i, step in enumerate(self.steps):
            for value in step.reads:
                last[value] = i
        last[self.result] = len(self.steps)
        return last


@lru_cache(maxsize=256)
def parse_program(text: str) -> Program:
    """The program of a text.

    Raises:
        ValueError: not a program; the message has the line.
    """
    steps: list[Step] = []
    lines = [line.strip() for line in text.strip().splitlines()]
    for line in lines[:-1]:
        steps.append(_parse_step(line, len(steps) + 1))
    words = lines[-1].split() if lines else []
    if len(words) != 2 or words[0] != "return":
        raise ValueError(f"program: expected a last line 'return v<number>', got {lines[-1:]}")
    return Program(tuple(steps), _value(words[1], len(steps) + 1, lines[-1]))


def _parse_step(line: str, made: int) -> Step:
    head, _, rest = line.partition(" = ")
    words = rest.split()
    if head != f"v{made}" or not words or words[0] not in _NUMBERS:
        raise ValueError(f"program: expected 'v{made} = <kind> ...', got {line!r}")
    kind = words[0]
    least, most, needed, optional = _NUMBERS[kind]
    inputs = tuple(_value(w, made, line) for w in words[1:] if "=" not in w)
    numbers: dict[str, int] = {}
    act, order, values = None, "torch", dict[str, int]()
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            continue
        if name in (*needed, *optional):
            numbers[name] = _integer(value, line)
        elif name == "act" and kind in (*CONVOLUTIONS, "act"):
            act = _activation(value, line)
        elif name in ("add", "mul") and kind in CONVOLUTIONS:
            values[name] = _value(value, made, line)
        elif name == "order" and kind == "shuffle" and value in ("torch", "tf"):
            order = value
        else:
            raise ValueError(f"program: {kind} takes no {word!r}, in {line!r}")
    missing = [n for n in needed if n not in numbers]
    if not least <= len(inputs) <= most or missing or (kind == "act" and act is None):
        raise ValueError(f"program: incomplete step {line!r}; {kind} needs {list(needed)}")
    return Step(kind, inputs, numbers, act, order, values.get("add"), values.get("mul"))


def _value(word: str, made: int, line: str) -> int:
    if not (word[:1] == "v" and word[1:].isdecimal() and int(word[1:]) < made):
        raise ValueError(f"program: expected a value v0 to v{made - 1}, got {word!r} in {line!r}")
    return int(word[1:])


def _integer(text: str, line: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"program: expected a number >= 0, got {text!r} in {line!r}")
    return int(text)


def _activation(text: str, line: str) -> Activation:
    kind, _, argument = text.partition(":")
    convert = _ACTIVATIONS.get(kind, str)
    try:
        if kind not in _ACTIVATIONS or (convert is None) != (argument == ""):
            raise ValueError
        if convert is float:
            return Activation(kind, slope=float(argument))
        return Activation(kind) if convert is None else Activation(kind, parameter=int(argument))
    except ValueError:
        raise ValueError(f"program: no activation {text!r}, in {line!r}") from None


def value_shapes(
    program: Program,
    weights: Sequence[Sequence[int]],  # shapes of the parameters
    shape: Shape,
) -> list[Shape]:
    """Channels, height and width of every value, for an input of ``shape``.

    Raises:
        ValueError: a step that does not fit what it reads, or whose result would be empty.
    """
    shapes = [shape]
    for i, step in enumerate(program.steps, start=1):
        made = _shape_of(step, weights, shapes)
        bad = made is None or min(made) < 1
        if not bad and step.add is not None:
            bad = shapes[step.add] != made
        if not bad and step.mul is not None:
            bad = shapes[step.mul] != made
        if bad:
            reads = ", ".join(f"v{v} {list(shapes[v])}" for v in step.reads)
            raise ValueError(f"program: 'v{i} = {step.text()}' does not fit {reads}")
        shapes.append(made)  # type: ignore[arg-type]
    return shapes


def _shape_of(
    step: Step, weights: Sequence[Sequence[int]], shapes: Sequence[Shape]
) -> Shape | None:
    c, h, w = shapes[step.inputs[0]]
    match step.kind:
        case "conv":
            outputs, inputs, side = weights[step["weight"]][:3]
            if inputs * step["groups"] != c:
                return None
            reach = 2 * step["pad"] - side
            return outputs, (h + reach) // step["stride"] + 1, (w + reach) // step["stride"] + 1
        case "deconv":
            return (
                None
                if weights[step["weight"]][0] != c
                else (weights[step["weight"]][1], step["stride"] * h, step["stride"] * w)
            )
        case "add" | "mul":
            other = shapes[step.inputs[1]]
            fits = other == (c, h, w) or (other[1:] == (1, 1) and other[0] in (1, c))
            return (c, h, w) if fits else None
        case "concat":
            all_shapes = [shapes[v] for v in step.inputs]
            same = all(s[1:] == (h, w) for s in all_shapes)
            return (sum(s[0] for s in all_shapes), h, w) if same else None
        case "slice":
            return (step["count"], h, w) if step["first"] + step["count"] <= c else None
        case "mean":
            return c, 1, 1
        case "nearest":
            return c, h * step["factor"], w * step["factor"]
        case "resize":
            return c, step["height"], step["width"]
        case "pad":
            return c, h + step["rows"], w + step["cols"]
        case "crop":
            fits = step["height"] <= h and step["width"] <= w
            return (c, step["height"], step["width"]) if fits else None
        case "shuffle":
            square = step["factor"] ** 2
            if square == 0 or c % square != 0:
                return None
            return c // square, h * step["factor"], w * step["factor"]
    return c, h, w  # act, softmax


def map_obstacle(program: Program, weights: Sequence[Sequence[int]]) -> str | None:
    """Why the program cannot be streamed over a map row by row, or None.

    It can where all its values have the size of the input but for what the last step makes.
    """
    for i, step in enumerate(program.steps, start=1):
        same = step.kind in ("act", "add", "mul", "concat", "slice", "softmax")
        if step.kind == "conv":
            side = weights[step["weight"]][2]
            same = step["stride"] == 1 and 2 * step["pad"] == side - 1
        if not same and not (step.kind in ("shuffle", "deconv") and i == program.result):
            return f"'{step.text()}' changes the size"
    return None if program.result == len(program.steps) else "its last step is not its result"


def step_macs(
    step: Step, weights: Sequence[Sequence[int]], shapes: Sequence[Shape], made: Shape
) -> int:
    """Multiply-adds of a step; taps on padding count, a deconv counts at its input."""
    if step.kind not in CONVOLUTIONS:
        return 0
    sizes = weights[step["weight"]]
    pixels = made if step.kind == "conv" else shapes[step.inputs[0]]
    count = pixels[1] * pixels[2]
    for size in sizes:
        count *= size
    return count
