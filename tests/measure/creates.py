#!/usr/bin/env python3
"""Creates sandboxes one after the other, runs a command in each, kills each: closed loop, one worker.

Two clocks (both from the send of the create request): `accepted`, to its answer read in full, and `first_exec`, to the exit
of the first command. A sandbox whose command does not answer is a failure, and stands beside the latencies, not in them.
Below them the stages that the daemon says its answer took; `client` is what is left of `accepted`. A pause between rounds
lets the daemon fill its pool, as a load that does not come back to back does.
"""

import argparse
import pathlib
import statistics
import time

import httpx
from e2b import Sandbox
from report import Clock, Progress, Samples

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--number", type=int, required=True)
parser.add_argument("--template", required=True)
parser.add_argument("--out", type=pathlib.Path, required=True)
parser.add_argument("--pause-ms", type=int, default=0)
WARM_UP = 5


# What the daemon said about the last create, as the SDK does not pass it on.
said: dict[str, float] = {}
send = httpx.Client.send


def listening_send(client, request, **options):
    response = send(client, request, **options)
    if timing := response.headers.get("server-timing"):
        entries = (entry.split(";dur=") for entry in timing.split(", "))
        said.clear()
        said.update((name, float(ms)) for name, ms in entries)
    return response


httpx.Client.send = listening_send


def one(template: str) -> tuple[int, int]:
    said.clear()
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


def show(stages: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for one in stages for name in one))
    print(f"{'stage':<11} {'share':>6} {'P50':>8} {'P95':>8}  ms, of the creates that had it")
    for name in names:
        times = sorted(one[name] for one in stages if name in one)
        at = lambda p: times[min(len(times) - 1, int(p * len(times)))]
        print(f"{name:<11} {len(times) / len(stages):>6.0%} {statistics.median(times):>8.2f} {at(0.95):>8.2f}")


def main() -> int:
    options = parser.parse_args()
    accepted = Clock("accepted", "send of create → answer read")
    first_exec = Clock("first_exec", "send of create → exit of the first command")
    samples, progress = Samples(options.out), Progress(options.number)
    for _ in range(WARM_UP):
        one(options.template)
    failures = []
    stages: list[dict[str, float]] = []
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
            samples.add(index=index, ok=True, accepted_ns=first, first_exec_ns=second, stages_ms=said)
            if said:
                stages.append(said | {"client": first / 1e6 - said["total"]})
        time.sleep(options.pause_ms / 1_000)
        progress.tell(index + 1, f"created and used, {len(failures)} failed")
    took = time.monotonic() - began
    print(f"\n{options.number} sandboxes of {options.template}, one at a time (closed loop), {WARM_UP} more before as warm-up")
    print(f"{len(failures)} failures · {took:.0f} s · percentiles by HDR value-at-quantile, 95 % intervals by order statistics")
    for clock in (accepted, first_exec):
        print(clock.line())
        clock.save(options.out)
    show(stages)
    for error in failures[:5]:
        print(f"failed: {type(error).__name__}: {error}")
    print(f"samples and histograms: {options.out}")
    return 1 if failures else 0


raise SystemExit(main())
