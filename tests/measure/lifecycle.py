#!/usr/bin/env python3
"""Pauses, resumes, snapshots, forks and rolls back sandboxes one after the other (closed loop, one worker), and checks each.

A round is one sandbox: it writes a mark, is checkpointed, overwrites the mark, goes back (the mark must be the first again),
is snapshotted, forked once (the child must hold the mark), paused and resumed (the mark and the running process must be
there). Each clock runs from the send of the request to its answer read in full; `resume_exec` to the exit of the first command
after a resume.
"""

import argparse
import os
import pathlib
import time

import httpx
from e2b import Sandbox
from report import Clock, Progress, Samples

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--number", type=int, required=True)
parser.add_argument("--template", required=True)
parser.add_argument("--out", type=pathlib.Path, required=True)

MEANINGS = {
    "checkpoint": "memory and disk under a name, the sandbox goes on",
    "rollback": "back to the checkpoint, in place",
    "snapshot": "a snapshot that outlives the sandbox",
    "fork": "one child of the running sandbox",
    "pause": "memory and disk kept, nothing runs",
    "resume": "connect to the paused sandbox",
    "resume_exec": "the same, and its first command",
}


def expect(wanted, got, what: str) -> None:
    if wanted != got:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}")


def round_of(template: str, api: httpx.Client, timed) -> None:
    sandbox = Sandbox.create(template, timeout=600)
    made = []
    try:
        run = lambda text, on=sandbox: on.commands.run(text).stdout.strip()
        pid = sandbox.commands.run("sleep 3600", background=True).pid
        run("echo first > mark")
        path = f"/sandboxes/{sandbox.sandbox_id}"
        timed("checkpoint", lambda: api.post(f"{path}/checkpoints", json={"name": "here"}).raise_for_status())
        run("echo second > mark")
        timed("rollback", lambda: api.post(f"{path}/rollback", json={"checkpoint": "here"}).raise_for_status())
        expect("first", run("cat mark"), "the mark after the rollback")
        snapshot = timed("snapshot", sandbox.create_snapshot)
        made.append(snapshot.snapshot_id)
        [child] = timed("fork", lambda: sandbox.fork(timeout=60))
        if isinstance(child, Exception):
            raise child
        expect("first", run("cat mark", child), "the mark in the child")
        child.kill()
        timed("pause", sandbox.pause)
        began = time.perf_counter_ns()
        timed("resume", sandbox.connect)
        expect("first", run("cat mark"), "the mark after the resume")
        timed("resume_exec", None, began)
        expect("sleep", run(f"cat /proc/{pid}/comm"), "the process after the resume")
    finally:
        sandbox.kill()
        for snapshot_id in made:
            Sandbox.delete_snapshot(snapshot_id)


def main() -> int:
    options = parser.parse_args()
    clocks = {name: Clock(name, meaning) for name, meaning in MEANINGS.items()}
    samples, progress = Samples(options.out), Progress(options.number)
    api = httpx.Client(base_url=os.environ["E2B_API_URL"], headers={"X-API-KEY": os.environ["E2B_API_KEY"]}, timeout=120)
    failures = []
    for index in range(options.number):
        taken: dict[str, int] = {}

        def timed(name: str, call, began: int | None = None):
            start = time.perf_counter_ns() if began is None else began
            result = call() if call else None
            taken[name] = time.perf_counter_ns() - start
            return result

        try:
            round_of(options.template, api, timed)
        except Exception as error:  # whatever a client meets is a failure of the service
            failures.append(error)
            samples.add(index=index, ok=False, error=f"{type(error).__name__}: {error}", **taken)
        else:
            for name, ns in taken.items():
                clocks[name].add(ns)
            samples.add(index=index, ok=True, **taken)
        progress.tell(index + 1, f"rounds, {len(failures)} failed")
    print(f"\n{options.number} rounds on sandboxes of {options.template}, one at a time (closed loop) · {len(failures)} failures")
    for clock in clocks.values():
        print(clock.line())
        clock.save(options.out)
    for error in failures[:5]:
        print(f"failed: {type(error).__name__}: {error}")
    return 1 if failures else 0


raise SystemExit(main())
