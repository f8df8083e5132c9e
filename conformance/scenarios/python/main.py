"""Runs scenarios against one server after another, in one process: importing an SDK takes longer than using it.

In:  {"jobs": [{"env": {...}, "topic": "commands", "steps": null or [...]}, ...]} on standard input.
Out: one JSON object a line: {"job", "step", "ok", "expected", "actual", "detail", "ms"} or {"secret"}.
"""

import importlib
import json
import os
import sys

import resolve

resolve.install()

import harness  # noqa: E402  (it imports the SDK)


def main():
    plan = json.load(sys.stdin)
    for index, job in enumerate(plan["jobs"]):
        # Names of an earlier job must not stay: an SDK reads them at each call.
        for name in [name for name in os.environ if name.startswith("E2B_") and name != "E2B_CONFORMANCE_PROJECT"]:
            del os.environ[name]
        os.environ.update(job["env"])
        topic = importlib.import_module("topic_" + job["topic"])
        harness.run(index, topic.__name__, job["steps"])


main()
