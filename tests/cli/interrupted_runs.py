"""Runs of `sparsesr upscale` that a signal stops; a process of its own, because it forks.

Usage: python interrupted_runs.py SIGNAL TRIALS SEED OUT COMMAND...

The command is run TRIALS times with ``-o OUT/N``, each time until SIGNAL at a random moment of the
time that the first, whole run into ``OUT/whole`` takes. Prints the exit codes as a JSON list.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import torch


def main() -> None:
    name, trials, seed, out, *command = sys.argv[1:]
    import sparsesr.inference  # noqa: F401  (so that the trials begin with the work)
    from sparsesr.cli import build_app

    def begin(folder: str) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            torch.set_num_threads(1)
            build_app()([*command, "-o", f"{out}/{folder}"], standalone_mode=True)
        except SystemExit as stop:
            code = int(stop.code or 0)
        os._exit(code)

    begun = time.perf_counter()
    codes = [wait(begin("whole"))]
    taken = time.perf_counter() - begun
    rng = random.Random(int(seed))
    for trial in range(int(trials)):
        child = begin(str(trial))
        # Spread over the run: the first is early enough to find it at work.
        time.sleep(taken * (trial + rng.random()) / int(trials))
        os.kill(child, getattr(signal, name))
        codes.append(wait(child))
    print(json.dumps(codes))


def wait(child: int) -> int:
    """The exit code of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


main()
