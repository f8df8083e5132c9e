#!/usr/bin/env python3
"""Creates sandboxes one after the other, runs a command in each, kills each: closed loop, one worker.

Two clocks (both from the send of the create request): `accepted`, to its answer read in full, and `first_exec`, to the exit
of the first command. A sandbox whose command does not answer is a failure, and stands beside the latencies, not in them.
"""

import argparse
import pathlib
import time

from e2b import Sandbox
from report import Clock, Progress, Samples

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--number", type=int, required=True)
parser.add_argument("--template", required=True)
parser.add_argument("--out", type=pathlib.Path, required=True)
WARM_UP = 5


def one(template: str) -> tuple[int, int]:
    began = time.perf_counter_ns()
    sandbox = Sandbox.create(template, timeout=120)
    accepted = time.perf_counter_ns() - began
    try:
        result = sandbox.commands.run("echo $((6 * 7))")
        first_exec = time.perf_counter_ns() - began
        if result.stdout != "42\n":
            raise AssertionError(f"the command printed {result.stdout!r}")
    finally:
        sandbox.kill()
    return accepted, first_exec


def main() -> int:
    options = parser.parse_args()
    accepted = Clock("accepted", "send of create → answer read")
    first_exec = Clock("first_exec", "send of create → exit of the first command")
    samples, progress = Samples(options.out), Progress(options.number)
    for _ in range(WARM_UP):
        one(options.template)
    failures = []
    began = time.monotonic()
    for index in range(options.number):
        try:
            first, second = one(options.template)
        except Exception as error:  # whatever a client meets is a failure of the service
            failures.append(error)
            samples.add(index=index, ok=False, error=f"{type(error).__name__}: {error}")
        else:
            accepted.add(first)
            first_exec.add(second)
            samples.add(index=index, ok=True, accepted_ns=first, first_exec_ns=second)
        progress.tell(index + 1, f"created and used, {len(failures)} failed")
    took = time.monotonic() - began
    print(f"\n{options.number} sandboxes of {options.template}, one at a time (closed loop), {WARM_UP} more before as warm-up")
    print(f"{len(failures)} failures · {took:.0f} s · percentiles by HDR value-at-quantile, 95 % intervals by order statistics")
    for clock in (accepted, first_exec):
        print(clock.line())
        clock.save(options.out)
    for error in failures[:5]:
        print(f"failed: {type(error).__name__}: {error}")
    print(f"samples and histograms: {options.out}")
    return 1 if failures else 0


raise SystemExit(main())
