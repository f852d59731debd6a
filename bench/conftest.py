"""Options, the measuring fixture and the summary of `pytest bench/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from _maps import map_cases
from _memory import keep_pages
from _protocol import pick_clock
from _report import RESULTS, Report, machine_facts
from _session import Bench

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
        "--save-results",
        metavar="NAME",
        default=None,
        help="write bench/results/NAME.json: machine, date, commit, raw rows",
    )


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--save-results")
    if name is not None and (RESULTS / f"{name}.json").exists():
        raise pytest.UsageError(
            f"bench/results/{name}.json exists; choose another name or delete it"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A bench that takes a `case` runs on every case of its file, or on every map."""
    if "case" in metafunc.fixturenames:
        cases = getattr(metafunc.module, "cases", map_cases)
        metafunc.parametrize("case", cases(metafunc.config.getoption("--quick")), ids=str)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The session's `Bench`; sets the threads and switches gradients off."""
    option = request.config.getoption
    threads, quick = option("--threads"), option("--quick")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    clock = pick_clock(option("--clock"), threads)
    warm = option("--malloc") == "warm" and keep_pages()
    facts: dict[str, Any] = {
        **machine_facts(),
        "threads": threads,
        "dtype": "float32",
        "clock": clock,
        "malloc": "warm" if warm else "default",
        "quick": quick,
    }
    report = Report(facts)
    request.config.stash[_report_key] = report
    with torch.no_grad():
        yield Bench(quick, option("--compile"), threads, option("--rounds"), clock, report)
    torch.set_num_threads(before)


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
        path = RESULTS / f"{name}.json"
        report.save(path)
        terminalreporter.write_line(f"saved {path}")
