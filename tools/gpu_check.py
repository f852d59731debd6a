"""Everything a GPU can say about this checkout, in one command and ten minutes.

    tools/gpu_check                         # bench/results/gpu-<name of the GPU>.json
    tools/gpu_check --name h200 --minutes 9 --copy-to out/
    tools/gpu_check --steps build,gpu,bench # some of the steps

Steps, most wanted first: build (pip install -e . for this GPU), gpu (tests/gpu: no host sync, CUDA
graphs, small maps), ops (the op tests on the GPU), bench (pytest bench/ --device cuda in bfloat16
and float32; SMSR's data sets apart, for they take longest), sanitizer (compute-sanitizer memcheck
and racecheck over small maps), suite (all tests). The result is rewritten after every step, so a
run that is cut short leaves what it has; a step that would pass the time limit is stopped and says
so. Exit code: 0 all steps passed, 1 some did not, 2 usage, 3 no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
TAIL = 4000  # characters of a step's output that are kept


@dataclass
class Step:
    """One command: what it is, how long it may take, what came of it."""

    name: str
    command: list[str]
    limit: float
    environment: dict[str, str] = field(default_factory=dict)
    status: str = "not run"
    seconds: float = 0.0
    output: str = ""


def planned(bench_files: Path) -> list[Step]:
    """All steps in order; benches leave their rows in `bench_files`."""
    parts = ("small_maps", "small_routing", "patch_programs")
    small = [*PYTEST, *(f"tests/gpu/test_{part}.py" for part in parts)]
    # Blocks of torch's caching allocator would hide accesses just outside of a tensor.
    exact = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "COMPUTE_SANITIZER": "1"}
    install = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "-e"]
    steps = [
        Step("build", [*install, "."], 240),
        Step("gpu", [*PYTEST, "tests/gpu", "tests/test_backend.py"], 120),
        Step("ops", [*PYTEST, "tests/ops", "-k", "cuda or triton"], 150),
    ]
    for dtype in ("bfloat16", "float32"):
        options = ["--device", "cuda", "--dtype", dtype, "--save-results"]
        rows, smsr = (str(bench_files / f"{name}{dtype}.json") for name in ("", "smsr-"))
        others = ["bench/", "--ignore=bench/bench_smsr.py"]
        steps.append(Step(f"bench {dtype}", [*PYTEST, *others, *options, rows], 150))
        masked = ["bench/bench_smsr.py", *options, smsr]
        steps.append(Step(f"bench smsr {dtype}", [*PYTEST, *masked], 150))
    for tool in ("memcheck", "racecheck"):
        sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        steps.append(Step(f"sanitizer {tool}", [*sanitizer, *small, "-k", "cuda"], 100, exact))
    return [*steps, Step("suite", [*PYTEST, "tests"], 400)]


def run(step: Step, seconds: float) -> None:
    """Run a step for at most `seconds`; everything it started is stopped then."""
    if shutil.which(step.command[0]) is None:
        step.status = f"skipped: no {step.command[0]} on PATH"
        return
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **step.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=seconds)
            step.status = "passed" if code == 0 else f"failed: exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            step.status = f"stopped after {seconds:.0f} s"
        output.seek(0)
        step.output = _tail(output.read())
    step.seconds = round(time.monotonic() - begin, 1)


def _tail(text: str) -> str:
    """The end of a step's output, with this machine's folders left out."""
    for folder, name in ((str(ROOT), "."), (sys.prefix, "<python>"), (str(Path.home()), "~")):
        text = text.replace(folder, name)
    return text[-TAIL:]


def facts() -> dict[str, Any]:
    """GPU, driver, versions, commit and date."""
    import torch

    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem"
    smi = _output(["nvidia-smi", query, "--format=csv,noheader"])
    nvcc = re.search(r"release ([\d.]+)", _output(["nvcc", "--version"]))
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no"])
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"]) or "unknown"
    return {
        "gpu": torch.cuda.get_device_name(),
        "nvidia_smi": smi.splitlines()[0] if smi else None,
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nvcc": nvcc.group(1) if nvcc else None,
        "commit": commit + ("-dirty" if changed else ""),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def save(path: Path, about: dict[str, Any], steps: list[Step], bench_files: Path) -> None:
    """Facts, what became of every step, and the rows of the benches so far."""
    benches = {
        found.stem: json.loads(found.read_text(encoding="utf-8"))
        for found in sorted(bench_files.glob("*.json"))
    }
    outcome = [
        {k: v for k, v in asdict(s).items() if k in ("name", "status", "seconds", "output")}
        for s in steps
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    text = json.dumps({**about, "steps": outcome, "benches": benches}, indent=1)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)


def check(path: Path, wanted: set[str], minutes: float, copy_to: Path | None) -> int:
    """Run the steps within `minutes`, saving after each; returns the exit code."""
    end = time.monotonic() + 60 * minutes
    about = facts()
    with tempfile.TemporaryDirectory() as folder:
        steps = [s for s in planned(Path(folder)) if s.name.split()[0] in wanted]
        for step in steps:
            left = end - time.monotonic()
            if left > 5:
                run(step, min(step.limit, left))
            else:
                step.status = "not run: no time left"
            print(f"{step.name:20} {step.status:30} {step.seconds:6.1f} s", flush=True)
            if not step.status.startswith("passed"):
                print(step.output[-2000:], flush=True)
            save(path, about, steps, Path(folder))
            if copy_to is not None:
                copy_to.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy_to)
            if step.name == "build" and step.status != "passed":
                return 1
    return 0 if all(s.status == "passed" for s in steps) else 1


def main() -> int:
    """Command line."""
    names = list(dict.fromkeys(s.name.split()[0] for s in planned(Path())))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", help="of the result: bench/results/gpu-NAME.json")
    parser.add_argument("--minutes", type=float, default=9.5, help="time limit (default 9.5)")
    parser.add_argument("--steps", default=",".join(names), help="some of: " + ",".join(names))
    parser.add_argument("--copy-to", type=Path, help="a folder that gets a copy after every step")
    parser.add_argument("--overwrite", action="store_true", help="replace an older result")
    asked = parser.parse_args()
    wanted = set(asked.steps.split(","))
    if not wanted <= set(names):
        parser.error(f"unknown steps {sorted(wanted - set(names))}; expected some of {names}")
    import torch

    if not torch.cuda.is_available():
        print("gpu_check: torch sees no CUDA GPU on this machine", file=sys.stderr)
        return 3
    name = asked.name or re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())
    path = RESULTS / f"gpu-{name}.json"
    if path.exists() and not asked.overwrite:
        parser.error(f"{path.relative_to(ROOT)} exists; choose another --name or --overwrite")
    return check(path, wanted, asked.minutes, asked.copy_to)


if __name__ == "__main__":
    sys.exit(main())
