"""The SIMT shim finds planted faults and nothing else (csrc/testing/simt_selftest.cpp)."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.native import simt_build

SOURCE = simt_build.TESTING / "simt_selftest.cpp"
PLAIN_RUNS = [
    {"SIMT_ORDER": order, "SIMT_POISON": poison, "SIMT_CP_ASYNC": copies}
    for order, poison, copies in itertools.product(
        ("ascending", "descending", "1"), ("negative", "positive"), ("eager", "wait")
    )
]
Options = dict[str, str]


def always(options: Options) -> bool:
    return True


def never(options: Options) -> bool:
    return False


def unless_ascending(options: Options) -> bool:
    return options["SIMT_ORDER"] != "ascending"


def when_copies_wait(options: Options) -> bool:
    return options["SIMT_CP_ASYNC"] == "wait"


def when_copies_are_eager(options: Options) -> bool:
    return options["SIMT_CP_ASYNC"] == "eager"


@dataclass(frozen=True)
class Fault:
    """What reports a fault: plain runs with these options; sanitizer runs by this text, or not."""

    plain: Callable[[Options], bool]
    address: str | None
    thread: str | None


def race_at(line: str) -> str:
    return rf"data race(?s:.*)<{line}>"


def read_beyond(line: str) -> str:
    return rf"heap-buffer-overflow(?s:.*)<{line}>"


def both(text: str) -> dict[str, str]:
    return {"address": text, "thread": text}


# <name> stands for the source line that is marked "fault: name". None: the run ends well, which is
# a limit of that build, not a wish.
FAULTS = {
    "missing_barrier_before_read": Fault(always, "wrong", race_at("missing_barrier_before_read")),
    "missing_barrier_before_write": Fault(
        unless_ascending, None, race_at("missing_barrier_before_write")
    ),
    "missing_syncwarp": Fault(unless_ascending, None, race_at("missing_syncwarp")),
    "uninitialised_shared": Fault(always, "wrong", "wrong"),
    "uninitialised_harmless": Fault(never, None, None),
    "out_of_bounds_global": Fault(never, read_beyond("out_of_bounds_global"), None),
    "out_of_bounds_static_shared": Fault(never, "index 128 out of bounds|overflow", None),
    "out_of_bounds_dynamic_shared": Fault(never, read_beyond("out_of_bounds_shared"), None),
    "two_threads_one_global": Fault(never, None, race_at("two_threads_one_global")),
    "two_blocks_one_global": Fault(never, None, race_at("two_blocks_one_global")),
    "missing_threadfence": Fault(never, None, race_at("missing_threadfence")),
    "divergent_shuffle": Fault(
        always,
        **both(
            "thread 0 waits at __shfl_xor_sync <divergent_shuffle_of_others> mask ffffffff; "
            "thread 7 waits at __syncthreads <divergent_barrier_of_one>"
        ),
    ),
    "divergent_ballot": Fault(
        always,
        **both(
            "thread 0 waits at __ballot_sync <divergent_ballot_even> mask ffffffff; "
            "thread 1 waits at __ballot_sync <divergent_ballot_odd> mask ffffffff"
        ),
    ),
    "early_exit": Fault(
        always, **both("thread 0 waits at __syncthreads <early_exit>; thread 5 has exited")
    ),
    "trap": Fault(always, **both(r"<trap>: __trap\(\)")),
    "copy_used_before_wait": Fault(when_copies_wait, None, None),
    "copy_in_flight": Fault(
        always, **both("<copy_in_flight>: thread 0 exits with this cp.async in flight")
    ),
    "missing_barrier_in_ring": Fault(when_copies_are_eager, "wrong", "data race"),
    "matrix_not_transposed": Fault(always, **both("wrong")),
}


def marks() -> dict[str, str]:
    """Where each "fault: name" stands, as a pattern: simt_selftest\\.cpp:45."""
    return {
        mark[1]: rf"{re.escape(path.name)}:{number}\b"
        for path in simt_build.TESTING.glob("simt_selftest*")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (mark := re.search(r"// fault: (\w+)$", line))
    }


def pattern_of(text: str) -> str:
    """`text` with the place of that mark for every <name>."""
    places = marks()
    return re.sub(r"<(\w+)>", lambda name: places[name[1]], text)


@pytest.fixture(autouse=True)
def _built() -> None:
    """These tests need no native module."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("simt")
    sources = (SOURCE, *simt_build.SIMT)
    outputs = {
        name: {s: folder / f"{name}_{s.stem}.o" for s in sources} for name in simt_build.BUILDS
    }
    simt_build.in_parallel(
        [
            simt_build.compile_command(source, output, *simt_build.BUILDS[name])
            for name, objects in outputs.items()
            for source, output in objects.items()
        ]
    )
    programs = {name: folder / name for name in simt_build.BUILDS}
    simt_build.in_parallel(
        [
            simt_build.link_command([*outputs[name].values()], program, *simt_build.BUILDS[name])
            for name, program in programs.items()
        ]
    )
    return programs


# Sanitizers take longer, and orders mean little to them.
CLEAN_RUNS = [("plain", options) for options in PLAIN_RUNS]
CLEAN_RUNS += [(build, options) for build in ("address", "thread") for options in PLAIN_RUNS[:2]]


@pytest.mark.parametrize(("build", "options"), CLEAN_RUNS)
def test_sound_kernels_pass(programs: dict[str, Path], build: str, options: Options) -> None:
    result = simt_build.run(programs[build], "clean", **options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(r"\d+ cases\n", result.stdout)


@pytest.mark.parametrize("fault", FAULTS)
def test_plain_runs_report(programs: dict[str, Path], fault: str) -> None:
    """Results that are wrong and meetings that diverge, in the orders and modes that show them."""
    for options in PLAIN_RUNS:
        result = simt_build.run(programs["plain"], fault, **options)
        assert result.returncode == (1 if FAULTS[fault].plain(options) else 0), (options, result)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("build", ["address", "thread"])
def test_sanitizers_report(programs: dict[str, Path], build: str, fault: str) -> None:
    expected = getattr(FAULTS[fault], build)
    result = simt_build.run(programs[build], fault)
    if expected is None:
        # What is read out of bounds may race with whatever lies there.
        if (build, fault) != ("thread", "out_of_bounds_global"):
            assert result.returncode == 0, result.stdout + result.stderr
        return
    assert result.returncode != 0
    assert re.search(pattern_of(expected), result.stdout + result.stderr), result


def test_valgrind_sees_harmless_uninitialised_reads(programs: dict[str, Path]) -> None:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("no valgrind")
    command = ("--error-exitcode=9", str(programs["plain"]), "uninitialised_harmless")
    result = simt_build.run(Path(valgrind), *command, SIMT_POISON="none")
    assert result.returncode == 9
    assert "uninitialised value" in result.stderr


def test_unknown_option_is_refused(programs: dict[str, Path]) -> None:
    result = simt_build.run(programs["plain"], "clean", SIMT_POISON="zero")
    assert result.returncode == 1
    assert "SIMT_POISON: expected one of negative, positive, none, got 'zero'" in result.stdout


def test_every_case_has_its_expectation() -> None:
    cases = re.findall(r'^    \{"(\w+)", [^\n]*\},$', SOURCE.read_text(), flags=re.MULTILINE)
    assert set(cases) - {"intrinsics", "atomics"} == set(FAULTS)
