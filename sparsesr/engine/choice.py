"""Where a program is taken, of the places where it could be.

EVIDENCE names the files of bench/results/ whose rows decided it, on a CPU without AVX-512.
Refine-Nets on patches were faster as programs than in torch at every coverage. Over maps, networks
of few multiply-adds a pixel were, and large ones of grouped convolutions, which torch is slow at. A
wide convolution alone was not, and neither were large networks of plain ones: torch's own are a
little faster, and what lies between fits no cache. No GPU has been measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ops._program import Program, Shape, step_macs, value_shapes

EVIDENCE = ("epyc-avx2-1thread-programs.json", "epyc-avx2-1thread-families.json")
_WIDE = 20_000  # multiply-adds a pixel: 48 channels from 48, 3x3
_LARGE = 100_000


@dataclass(frozen=True)
class Facts:
    """What a choice may look at.

    Attributes:
        macs: multiply-adds of a patch with its halo, or of a pixel of a map.
        numbers_in, numbers_out: values read and written for it.
        parameters: values of all parameters.
        steps: of the program.
        kinds: of its steps.
        grouped: whether it has convolutions of several groups.
    """

    macs: float
    numbers_in: float
    numbers_out: float
    parameters: int
    steps: int
    kinds: frozenset[str]
    grouped: bool


def facts_of(
    program: Program, weights: tuple[tuple[int, ...], ...], shape: Shape, pixels: int = 1
) -> Facts:
    """The facts of a program for an input of ``shape``, divided by ``pixels``."""
    shapes = value_shapes(program, weights, shape)
    pairs = zip(program.steps, shapes[1:], strict=True)
    macs = sum(step_macs(step, weights, shapes, made) for step, made in pairs)
    return Facts(
        macs / pixels,
        _numel(shape) / pixels,
        _numel(shapes[program.result]) / pixels,
        sum(_numel(w) for w in weights),
        len(program.steps),
        frozenset(step.kind for step in program.steps),
        any(step.kind == "conv" and step["groups"] > 1 for step in program.steps),
    )


def fused_patches(facts: Facts, device: str) -> bool:
    """Whether a Refine-Net runs as one fused op rather than gather, module, scatter.

    Args:
        device: the type of device that the feature map is on.
    """
    return True


def stream_map(facts: Facts, device: str) -> bool:
    """Whether a network over a map runs as a program rather than module by module."""
    if device != "cpu":
        return True
    alone = facts.steps == 1 and facts.kinds == {"conv"}
    return facts.macs < (_WIDE if alone else _LARGE) or facts.grouped


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
