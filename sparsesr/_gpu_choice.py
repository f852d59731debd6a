"""Which backend ``auto`` takes on a GPU, per op and size class.

EVIDENCE names the file of bench/results/ whose rows decided it. There is none yet: no run on a GPU
has been committed, so every op prefers the CUDA kernels and takes Triton's where those are absent.
"""

from __future__ import annotations

import math

EVIDENCE: str | None = None

# op -> size classes in ascending order: (elements of the op's first tensor, up to and including;
# the backend to take). An op without an entry takes DEFAULT.
DEFAULT = "cuda"
CHOICE: dict[str, tuple[tuple[float, str], ...]] = {
    "select_patches": ((math.inf, "cuda"),),
    "gather_patches": ((math.inf, "cuda"),),
    "gather_patches_backward": ((math.inf, "cuda"),),
    "select_gather_patches": ((math.inf, "cuda"),),
    "scatter_patches": ((math.inf, "cuda"),),
    "scatter_patches_": ((math.inf, "cuda"),),
    "scatter_patches_backward": ((math.inf, "cuda"),),
}


def preference(op: str, elements: int) -> tuple[str, ...]:
    """Backends for an op on a GPU tensor, the first choice first.

    Example:
        >>> preference("gather_patches", 1000)
        ('cuda', 'triton', 'reference')
    """
    classes = CHOICE.get(op, ((math.inf, DEFAULT),))
    first = next(backend for limit, backend in classes if elements <= limit)
    return (first, "triton" if first == "cuda" else "cuda", "reference")
