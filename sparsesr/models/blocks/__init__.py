"""Blocks shared by the model families: each is defined once and imported from here."""

from __future__ import annotations

from . import sizes
from .attention import ESA, ChannelAttention, PixelAttention
from .parts import BaseNet, HaloTrimming, RefineNet, Tail
from .residual import RCAB, RFDB, SCPA, Residual, ResidualBlock, ResidualGroup
from .upsamplers import PixelShuffleUpsampler, shuffle_stages

__all__ = [
    "ESA",
    "RCAB",
    "RFDB",
    "SCPA",
    "BaseNet",
    "ChannelAttention",
    "HaloTrimming",
    "PixelAttention",
    "PixelShuffleUpsampler",
    "RefineNet",
    "Residual",
    "ResidualBlock",
    "ResidualGroup",
    "Tail",
    "shuffle_stages",
    "sizes",
]
