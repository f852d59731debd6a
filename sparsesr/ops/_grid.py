"""The patch grid: where patch ``i`` of an image lies, the same for every op and backend."""

from __future__ import annotations


def patch_grid(
    height: int, width: int, patch_size: int, stride: int | None = None
) -> tuple[int, int]:
    """Rows and columns of the patch grid that covers a ``height`` x ``width`` map.

    ``Gh = max(1, ceil((height - patch_size) / stride) + 1)``, ``Gw`` alike. Patch ``i`` starts at
    row ``(i // Gw) * stride`` and column ``(i % Gw) * stride``.

    Args:
        height: rows of the map, in pixels, >= 1.
        width: columns of the map, in pixels, >= 1.
        patch_size: side of a patch without its halo, in pixels, >= 1.
        stride: distance between neighbouring patches, in pixels; ``patch_size`` by default.

    Returns:
        ``(Gh, Gw)``.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> patch_grid(10, 8, patch_size=4)
        (3, 2)
        >>> patch_grid(3, 9, patch_size=4, stride=2)
        (1, 4)
    """
    stride = patch_size if stride is None else stride
    for name, value in (("patch_size", patch_size), ("stride", stride)):
        if value < 1:
            raise ValueError(f"patch_grid: expected {name} >= 1, got {value}")
    if height < 1 or width < 1:
        raise ValueError(f"patch_grid: expected a map of at least 1x1 px, got {height}x{width}")
    return _cells(height, patch_size, stride), _cells(width, patch_size, stride)


def _cells(length: int, patch_size: int, stride: int) -> int:
    if length <= patch_size:
        return 1
    return (length - patch_size + stride - 1) // stride + 1
