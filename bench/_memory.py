"""The allocator: keep freed pages, so that no contender pays for mapping them again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc, malloc.h


def keep_pages() -> bool:
    """Tell glibc to serve every size from a heap that never shrinks; False where it cannot.

    By itself it maps each block of more than 32 MiB anew and returns it when freed. Whether a
    large intermediate costs page faults, up to three times its own work, then hangs on what the
    heap went through before: two runs of the same code differ.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
