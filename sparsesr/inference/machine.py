"""What the machine is called, for files that hold timings."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def synchronise(device: torch.device | None) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
