#!/usr/bin/env python3
"""Holds more and more idle sandboxes at once, each of which must answer a command, and reads what they cost the host.

Memory is read at 1, 10, 50, 100, … sandboxes: MemAvailable of the host against the reading before the first, and of each
`microvm` process its proportional share (PSS), with the mapping of guest memory told apart by its size. Every sandbox counts
only while it answers; the run says why it stopped.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import time

from e2b import Sandbox
from report import Clock, Progress, Samples, on_host

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--number", type=int, required=True)
parser.add_argument("--template", required=True)
parser.add_argument("--memory-mib", type=int, required=True)
parser.add_argument("--bound", type=float, default=20.0, help="seconds within which a command must answer")
parser.add_argument("--out", type=pathlib.Path, required=True)

STEPS = [1, 10, 50, *range(100, 1_000, 100), *range(1_000, 10_001, 250)]

# Runs on the host. Guest memory is one run of neighbouring mappings as long as the guest's memory.
PROBE = r"""
import json, os, re, sys, time
want = int(sys.argv[1]) << 20
def meminfo():
    return {k: int(v.split()[0]) for k, v in (l.split(":") for l in open("/proc/meminfo"))}
def maps(pid):
    out, cur = [], None
    for line in open(f"/proc/{pid}/smaps"):
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if m:
            cur = [int(m[1], 16), int(m[2], 16), 0, 0]
            out.append(cur)
        elif line.startswith("Pss:"):
            cur[2] = int(line.split()[1])
        elif line.startswith("Private_Dirty:"):
            cur[3] = int(line.split()[1])
    return out
def guest(entries):
    runs = []
    for e in entries:
        if runs and runs[-1][-1][1] == e[0]:
            runs[-1].append(e)
        else:
            runs.append([e])
    best = max(runs, key=lambda r: r[-1][1] - r[0][0])
    return best if best[-1][1] - best[0][0] >= want else []
pids = [p for p in os.listdir("/proc") if p.isdigit() and open(f"/proc/{p}/comm").read() == "microvm\n"]
def cpu():
    total = 0
    for p in pids:
        f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
        total += int(f[11]) + int(f[12])
    return total
first, began = cpu(), time.monotonic()
time.sleep(10)
used = (cpu() - first) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
pss = own = dirty = found = 0
for p in pids:
    entries = maps(p)
    inside = guest(entries)
    if not inside:
        continue
    found += 1
    pss += sum(e[2] for e in entries)
    dirty += sum(e[3] for e in entries)
    own += sum(e[2] for e in entries) - sum(e[2] for e in inside)
info = meminfo()
print(json.dumps({"available_kib": info["MemAvailable"], "processes": len(pids), "counted": found, "pss_kib": pss,
    "private_dirty_kib": dirty, "vmm_pss_kib": own, "cores_busy": used, "total_kib": info["MemTotal"]}))
"""


def probe(prefix: list[str], memory_mib: int) -> dict:
    return json.loads(on_host(prefix, PROBE, str(memory_mib)))


def answers(sandbox: Sandbox, bound: float) -> int:
    began = time.perf_counter_ns()
    result = sandbox.commands.run("echo alive", timeout=bound, request_timeout=bound)
    if result.stdout != "alive\n":
        raise AssertionError(f"the command printed {result.stdout!r}")
    return time.perf_counter_ns() - began


def main() -> int:
    options = parser.parse_args()
    prefix = json.loads(os.environ["SANDBOXD_HOST_EXEC"])
    create, first, again = (Clock(*names) for names in [
        ("create", "send → answer"), ("first", "first command"), ("again", "a command when all are there")])
    samples, progress = Samples(options.out), Progress(options.number)
    before = probe(prefix, options.memory_mib)
    alive: list[Sandbox] = []
    rows, stopped = [], "all are there"
    for index in range(options.number):
        try:
            began = time.perf_counter_ns()
            sandbox = Sandbox.create(options.template, timeout=7_200)
            create.add(time.perf_counter_ns() - began)
            alive.append(sandbox)
            first.add(answers(sandbox, options.bound))
        except Exception as error:
            stopped = f"number {index + 1}: {type(error).__name__}: {error}"
            break
        progress.tell(index + 1, "alive")
        if len(alive) in STEPS or len(alive) == options.number:
            rows.append((len(alive), probe(prefix, options.memory_mib)))
            samples.add(alive=len(alive), **rows[-1][1])
    silent = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for answered in [pool.submit(answers, sandbox, options.bound) for sandbox in alive]:
            try:
                again.add(answered.result())
            except Exception as error:
                silent += 1
                print(f"silent: {type(error).__name__}: {error}")
    print(f"\n{len(alive)} sandboxes of {options.memory_mib} MiB at once, idle but for one command each; stopped because: {stopped}")
    print(f"{silent} of them did not answer again within {options.bound:g} s")
    print("alive  MemAvailable each   PSS each   private dirty each   VMM alone, PSS each   processors busy, all (10 s)")
    for count, now in rows:
        delta = (before["available_kib"] - now["available_kib"]) / count / 1_024
        each = [now[name] / max(1, now["counted"]) / 1_024 for name in ("pss_kib", "private_dirty_kib", "vmm_pss_kib")]
        print(f"{count:5}  {delta:13.2f} MiB {each[0]:6.2f} MiB {each[1]:14.2f} MiB {each[2]:15.2f} MiB {now['cores_busy']:14.3f}")
    for clock in (create, first, again):
        print(clock.line())
        clock.save(options.out)
    for sandbox in alive:
        sandbox.kill()
    return 0 if silent == 0 and len(alive) == options.number else 1


raise SystemExit(main())
