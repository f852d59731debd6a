"""Options, the measuring fixture and the summary of `pytest bench/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from _maps import map_cases
from _memory import keep_pages
from _protocol import pick_clock
from _report import RESULTS, Report, machine_facts
from _session import Bench

from sparsesr.ops import _native

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_report_key = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sparsesr benches")
    group.addoption("--quick", action="store_true", help="tiny sizes and few rounds: a smoke run")
    group.addoption("--rounds", type=int, default=None, help="samples per contender")
    group.addoption("--threads", type=int, default=1, help="threads of torch and of the kernels")
    group.addoption(
        "--clock",
        choices=("auto", "cpu", "wall"),
        default="auto",
        help="auto: CPU time for one thread, wall time for more",
    )
    group.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: time on the GPU, contenders replayed from CUDA graphs with cold caches",
    )
    group.addoption(
        "--dtype",
        choices=tuple(DTYPES),
        default="float32",
        help="of maps, images and weights",
    )
    group.addoption(
        "--malloc",
        choices=("warm", "default"),
        default="warm",
        help="warm: freed pages are kept, no contender pays page faults; default: as the C library",
    )
    group.addoption(
        "--compile",
        action="store_true",
        help="also time torch.compile'd dense networks (20-60 s to compile)",
    )
    group.addoption(
        "--full", action="store_true", help="also the cases that take minutes (RCAN at 256x256)"
    )
    group.addoption(
        "--save-results",
        metavar="NAME",
        default=None,
        help="write bench/results/NAME.json (or NAME itself where it ends in .json): machine, date,"
        " commit, raw rows",
    )


def _results_path(name: str) -> Path:
    return Path(name) if name.endswith(".json") else RESULTS / f"{name}.json"


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--save-results")
    if name is not None and _results_path(name).exists():
        raise pytest.UsageError(f"{_results_path(name)} exists; choose another name or delete it")
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: torch sees no CUDA GPU")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A bench that takes a `case` runs on every case of its file, or on every map."""
    if "case" in metafunc.fixturenames:
        cases = getattr(metafunc.module, "cases", map_cases)
        option = metafunc.config.getoption
        found = cases(option("--quick"), option("--device") == "cuda")
        metafunc.parametrize("case", found, ids=str)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The session's `Bench`; sets threads, default device and dtype, switches gradients off."""
    option = request.config.getoption
    threads, quick = option("--threads"), option("--quick")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    device, dtype = torch.device(option("--device")), DTYPES[option("--dtype")]
    if (missing := _native.load_error()) is not None:
        pytest.exit(f"the benches time the native kernels: {missing}", returncode=4)
    clock = "gpu" if device.type == "cuda" else pick_clock(option("--clock"), threads)
    warm = option("--malloc") == "warm" and keep_pages()
    facts: dict[str, Any] = {
        **machine_facts(device),
        "threads": threads,
        "dtype": option("--dtype"),
        "clock": clock,
        "malloc": "warm" if warm else "default",
        "quick": quick,
    }
    report = Report(facts)
    request.config.stash[_report_key] = report
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    with torch.no_grad():
        yield Bench(
            quick, option("--compile"), threads, option("--rounds"), clock, report, device, dtype
        )
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the cases that take minutes are wanted, too."""
    return bool(request.config.getoption("--full"))


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's own table
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    report = config.stash.get(_report_key, None)
    if report is None or not report.tables:
        return
    terminalreporter.section("sparsesr benches: medians of interleaved runs")
    for line in report.lines():
        terminalreporter.write_line(line)
    name = config.getoption("--save-results")
    if name is not None:
        path = _results_path(name)
        report.save(path)
        terminalreporter.write_line(f"saved {path}")
