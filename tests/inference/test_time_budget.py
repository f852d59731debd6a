"""Time budgets, on a clock that goes as the test says."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparsesr
from sparsesr.inference import Upscaler, timings, upscaler
from sparsesr.inference.timings import TimingCurve, TimingStore
from sparsesr.ops import patch_grid


class Clock:
    """Seconds that pass only when a call says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """As ``time.perf_counter``."""
        return self.now


class Machine:
    """Replaces what a network does by the time that it takes.

    Attributes:
        base, jump, each: seconds of an LR pixel of the coarse image, of the mask, of a patch.
        pace: by which all of it is multiplied. calls: the k of every call.
    """

    def __init__(self, net: nn.Module, clock: Clock) -> None:
        self.base, self.jump, self.each, self.pace = 1e-5, 0.02, 1e-3, 1.0
        self.calls: list[int] = []
        self._net: Any = net
        self._clock = clock

    def forward(self, lr: Tensor, k: int | None = None, budget: float | None = None) -> Tensor:
        """As ``SparseRefine.forward``."""
        height, width = lr.shape[2:]
        count = self._net.patch_count((height, width), k, budget)
        self.calls.append(count)
        self._clock.now += self.pace * (
            self.base * height * width + (self.jump if count else 0) + self.each * count
        )
        return lr.new_zeros(lr.shape[0], 3, 2 * height, 2 * width)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    torch.manual_seed(0)
    net = sparsesr.create_model("fsrcnn-mga", scale=2).eval()
    clock = Clock()
    made = Machine(net, clock)
    monkeypatch.setattr(net, "forward", made.forward)
    monkeypatch.setattr(timings, "time", clock)
    monkeypatch.setattr(upscaler, "time", clock)
    monkeypatch.setenv("SPARSESR_CACHE", str(tmp_path / "cache"))
    return made


def image(height: int = 40, width: int = 60) -> Tensor:
    return torch.rand(1, 3, height, width)


def patches(height: int = 40, width: int = 60) -> int:
    rows, cols = patch_grid(height, width, 4)
    return rows * cols


def full(machine: Machine, height: int = 40, width: int = 60) -> float:
    count = patches(height, width)
    return machine.base * height * width + machine.jump + machine.each * count


@pytest.mark.parametrize("share", [0.01, 0.2, 0.37, 0.5, 0.8, 1.0])
def test_as_many_patches_as_the_time_allows(machine: Machine, share: float) -> None:
    lowest = machine.base * 2400 + machine.jump
    asked = lowest + share * (full(machine) - lowest)
    up = Upscaler(machine._net, time_budget=asked)
    up.run(image())
    assert up.picked is not None
    assert up.picked.took == pytest.approx(asked, abs=machine.each)
    assert up.picked.took <= asked * (1 + 1e-9)
    assert up.picked.expected == pytest.approx(up.picked.took)
    assert machine.calls[-1] == up.picked.options["k"] == int(share * patches() + 1e-6)


def test_more_than_all_and_less_than_a_patch(machine: Machine) -> None:
    up = Upscaler(machine._net, time_budget=10 * full(machine))
    up.run(image())
    assert machine.calls[-1] == patches()
    coarse = machine.base * 2400
    up = Upscaler(machine._net, time_budget=coarse + 0.9 * machine.jump)
    up.run(image())
    assert machine.calls[-1] == 0


def test_less_than_the_coarse_image_takes(machine: Machine) -> None:
    coarse = machine.base * 2400
    with pytest.raises(ValueError, match=r"at least 24 ms for an image of 60x40, got 12 ms"):
        Upscaler(machine._net, time_budget=0.5 * coarse).run(image())
    Upscaler(machine._net, time_budget=coarse).run(image())  # the stated minimum is taken
    assert machine.calls[-1] == 0


def test_timed_once_for_a_machine_and_a_size(machine: Machine, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        up = Upscaler(machine._net, time_budget=0.7 * full(machine))
        assert up.clock is not None
        up.clock.announce = said.append
        for _ in range(3):
            up.run(image())
        up.run(image(38, 60))  # near: the same curve, resized
    assert said == ["timing the network on 60x40 pixels, once for this size"]
    up.run(image(20, 30))
    assert said[1:] == ["timing the network on 30x20 pixels, once for this size"]
    (file,) = (tmp_path / "cache" / "timings").iterdir()
    document = json.loads(file.read_text())
    assert [curve["size"] for curve in document["curves"]] == [[1, 40, 60], [1, 20, 30]]
    assert document["key"]["model"] == "fsrcnn-mga"


def test_a_near_size_is_scaled(machine: Machine) -> None:
    machine.jump = 0.0
    Upscaler(machine._net, time_budget=full(machine)).run(image())
    asked = 0.6 * full(machine, 44, 60)
    up = Upscaler(machine._net, time_budget=asked)
    up.run(image(44, 60))
    assert up.picked is not None
    assert up.picked.took == pytest.approx(asked, rel=0.02)


def test_the_pace_of_today(machine: Machine) -> None:
    asked = 0.8 * full(machine)
    Upscaler(machine._net, time_budget=asked).run(image())
    machine.pace = 1.3  # another process, a slower day
    up = Upscaler(machine._net, time_budget=asked)
    up.run(image())
    assert up.picked is not None
    assert up.picked.took == pytest.approx(asked, abs=2 * machine.each)
    machine.pace = 1.0  # it recovers while the files go through
    for _ in range(4):
        up.run(image())
    assert up.picked.took == pytest.approx(asked, abs=2 * machine.each)


def test_a_slow_moment_is_no_error(machine: Machine) -> None:
    """Calls that took longer for a while are looked at again before a budget is refused."""
    asked = 1.05 * machine.base * 2400
    up = Upscaler(machine._net, time_budget=asked)
    up.run(image())
    machine.pace = 2.0
    for _ in range(2):
        up.run(image())  # now what is remembered says that the budget is too small
    machine.pace = 1.0
    up.run(image())
    assert up.picked is not None
    assert up.picked.took == pytest.approx(machine.base * 2400)
    machine.pace = 2.0
    for _ in range(3):
        up.run(image())
    with pytest.raises(ValueError, match="at least 48 ms"):
        up.run(image())


def test_other_settings_have_their_own_times(machine: Machine, tmp_path: Path) -> None:
    for tta in (False, True):
        Upscaler(machine._net, time_budget=20 * full(machine), tta=tta).run(image())
    assert len(list((tmp_path / "cache" / "timings").iterdir())) == 2


@pytest.mark.parametrize("text", ["{", '{"curves": [{"size": [1, 2]}]}', '{"curves": 3}', "[]"])
def test_a_damaged_file_is_measured_again(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    Upscaler(machine._net, time_budget=full(machine)).run(image())
    (file,) = (tmp_path / "cache" / "timings").iterdir()
    before = json.loads(file.read_text())
    file.write_text(text)
    with caplog.at_level(logging.WARNING, "sparsesr"):
        Upscaler(machine._net, time_budget=full(machine)).run(image())
    assert "is damaged" in caplog.text
    assert json.loads(file.read_text())["key"] == before["key"]


def test_a_cache_that_cannot_be_written(
    machine: Machine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SPARSESR_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "sparsesr"):
        Upscaler(machine._net, time_budget=full(machine)).run(image())
    assert "the timings cannot be kept in" in caplog.text
    assert machine.calls[-1] == patches()


def test_progress_is_told_of_the_call_alone(machine: Machine) -> None:
    told: list[tuple[int, int]] = []
    up = Upscaler(machine._net, time_budget=full(machine), progress=lambda *each: told.append(each))
    up.run(image())
    assert told == [(1, 1)]


def test_a_network_that_routes_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARSESR_CACHE", str(tmp_path))
    torch.manual_seed(0)
    net = sparsesr.create_model("fsrcnn-pcsr", scale=2).eval()
    up = Upscaler(net, time_budget=60.0)
    lr = torch.rand(1, 3, 12, 16)
    assert torch.equal(up.run(lr), Upscaler(net, budget=1.0).run(lr))
    assert up.picked is not None
    assert up.picked.options == {"budget": 1.0}


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("fsrcnn", {"time_budget": 1.0}, "selects neither patches nor pixels"),
        ("smsr", {"time_budget": 1.0}, "selects neither patches nor pixels"),
        ("fsrcnn-mga", {"time_budget": 0.0}, "above 0 seconds, got 0.0"),
        ("fsrcnn-mga", {"time_budget": float("nan")}, "above 0 seconds, got nan"),
        ("fsrcnn-mga", {"time_budget": 1.0, "k": 3}, "expected one of k, budget and time_budget"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], text: str) -> None:
    net = sparsesr.create_model(name, scale=2)
    with pytest.raises(ValueError, match=text):
        Upscaler(net, **options)
    with pytest.raises(TypeError, match="expected a time budget in seconds"):
        Upscaler(sparsesr.create_model("fsrcnn-mga", scale=2), time_budget="1s")  # type: ignore


def test_curves_that_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = TimingStore({"model": "net"}, tmp_path)
    curve = TimingCurve((1, 8, 8), (0.0, 0.25, 1.0), (1.0, 2.0, 3.0))
    store.add(curve)
    assert TimingStore({"model": "net"}, tmp_path).find((1, 8, 8)) == curve
    assert TimingStore({"model": "other"}, tmp_path).find((1, 8, 8)) is None
    assert store.find((1, 16, 16)) is None
    beside = TimingStore({"model": "net"}, tmp_path)  # another process
    beside.add(TimingCurve((1, 16, 16), (0.0, 1.0), (1.0, 2.0)))
    store.add(TimingCurve((1, 32, 32), (0.0, 1.0), (4.0, 8.0)))
    assert store.find((1, 16, 16)) is not None
    assert store.path is not None
    document = json.loads(store.path.read_text())
    document["curves"][0]["seconds"] = [3.0, 2.0, 1.0]
    store.path.write_text(json.dumps(document))
    assert TimingStore({"model": "net"}, tmp_path).find((1, 8, 8)) is None
    assert "is damaged" in caplog.text


def test_shares_and_seconds_belong_together() -> None:
    curve = TimingCurve((1, 8, 8), (0.0, 0.01, 0.25, 1.0), (1.0, 1.5, 2.0, 3.0))
    for share in (0.01, 0.1, 0.25, 0.6, 1.0):
        assert curve.share_for(curve.seconds_for(share)) == pytest.approx(share)
    assert curve.seconds_for(0.001) == 1.5  # the mask is needed for a single patch
    assert curve.share_for(1.49) == 0.0
    assert curve.resized((2, 8, 4)).seconds == curve.seconds
    tiny = TimingCurve((1, 1, 1), (0.0, 1.0), (1.0, 2.0))
    assert (tiny.share_for(1.9), tiny.share_for(2.0), tiny.seconds_for(1.0)) == (0.0, 1.0, 2.0)
