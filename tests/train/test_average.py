"""The average of weights."""

from __future__ import annotations

import torch
from torch import nn

from sparsesr.train.average import WeightAverage


def test_follows_the_formula() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(4.0)
    average = WeightAverage(net, 0.5)
    expected = 4.0
    for step, value in enumerate((1.0, 2.0, 8.0, 3.0, 5.0, 1.0, 7.0, 2.0, 6.0, 9.0), start=1):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update(net)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.net.weight.item(), expected)


def test_no_decay_copies_and_keeps_apart() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(net, 0.0)
    with torch.no_grad():
        net[0].weight.add_(1)
    net(torch.rand(4, 3))
    assert not torch.equal(average.net[0].weight, net[0].weight)
    average.update(net)
    for mine, theirs in zip(
        average.net.state_dict().values(), net.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert not any(p.requires_grad for p in average.net.parameters())


def test_frozen_parameters_stay_bit_identical() -> None:
    net = nn.Linear(50, 50)
    net.bias.requires_grad_(False)
    average = WeightAverage(net, 0.9)
    for _ in range(5):
        average.update(net)
    assert torch.equal(average.net.bias, net.bias)
