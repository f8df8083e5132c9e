#!/usr/bin/env python3
"""Reads whatever a clone could share by mistake, in many clones of one warm template, from their first cell on.

Every value of every kind must be different from every other, and every clock right within the bound. Clones are read one after
the other, as many alive at once as `--together` says: what repeats does so whether or not they live at the same time.
"""

import argparse
import collections
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e/python"))

from e2b_code_interpreter import Sandbox
from report import Clock, Progress, Samples
from test_clones import facts

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--number", type=int, required=True)
parser.add_argument("--template", required=True)
parser.add_argument("--together", type=int, default=4)
parser.add_argument("--out", type=pathlib.Path, required=True)


def main() -> int:
    options = parser.parse_args()
    samples, progress = Samples(options.out), Progress(options.number)
    first_code = Clock("first_code", "send of create → result of the first cell")
    seen: dict[str, list[str]] = collections.defaultdict(list)
    alive: collections.deque[Sandbox] = collections.deque()
    skews = []
    for index in range(options.number):
        if len(alive) == options.together:
            alive.popleft().kill()
        began = time.perf_counter_ns()
        alive.append(Sandbox.create(options.template, timeout=600))
        asked = time.time()
        read = facts(alive[-1])
        answered = time.time()
        first_code.add(time.perf_counter_ns() - began)
        clock = float(read.pop("time"))
        # The clock was read somewhere between question and answer; only what lies outside of that is known to be wrong.
        skews.append(max(asked - clock, clock - answered, 0.0))
        for name, value in read.items():
            seen[name].append(value)
        samples.add(index=index, time=clock, asked=asked, answered=answered, **read)
        progress.tell(index + 1, "clones read")
    for sandbox in alive:
        sandbox.kill()
    repeated = {name: len(values) - len(set(values)) for name, values in seen.items()}
    print(f"\n{options.number} clones of {options.template}, {options.together} alive at a time")
    for name, count in repeated.items():
        print(f"{name:<11} {len(set(seen[name]))} different of {len(seen[name])}")
    print(f"clock       at most {max(skews) * 1e3:.1f} ms outside of the time between question and answer")
    print(first_code.line())
    first_code.save(options.out)
    return 1 if any(repeated.values()) or max(skews) > 0.05 else 0


raise SystemExit(main())
