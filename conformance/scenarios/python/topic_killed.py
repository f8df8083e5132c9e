"""A sandbox that is killed while it is used."""

import threading
import time

from e2b import Sandbox, TimeoutException

from harness import expect, generation, limit, raises, step


def killed_soon(box):
    thread = threading.Timer(limit(0.5), Sandbox.kill, args=[box.sandbox_id])
    thread.start()
    return thread


@step("during-run")
def during_run(topic):
    box = topic.needed()
    box.commands.run("true")
    thread = killed_soon(box)
    since = time.monotonic()
    kinds = TimeoutException if generation() >= 4 else Exception
    error = raises(kinds, box.commands.run, "sleep 30", timeout=limit(60))
    thread.join()
    took = time.monotonic() - since
    expect(took < limit(20), "an end with the sandbox, not with the command", f"{took:.0f} s: {error}")
    if generation() >= 4:
        expect("killed" in str(error), "a message that names the kill", error)


@step("run-after")
def run_after(topic):
    box = topic.needed()
    box.commands.run("true")
    box.kill()
    raises(TimeoutException, box.commands.run, "echo dead")


@step("files-after")
def files_after(topic):
    box = topic.needed()
    box.files.write("a", "x")
    box.kill()
    raises(TimeoutException, box.files.read, "a")
