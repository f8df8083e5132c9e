"""Sandboxes begin as clones of one machine: nothing that should be theirs alone may come along."""

import time

from e2b_code_interpreter import Sandbox as CodeSandbox

CLONES = 4

# Whatever a program can take for random or for its own, from a kernel that was started before the clones were.
READ = """
import os, random, ssl, time, uuid
import numpy
read = lambda path: open(path).read().strip()
print("urandom", os.urandom(8).hex())
print("random", random.random())
print("numpy", numpy.random.rand())
print("ssl", ssl.RAND_bytes(8).hex())
print("uuid4", uuid.uuid4())
print("boot_id", read("/proc/sys/kernel/random/boot_id"))
print("machine_id", read("/etc/machine-id"))
print("hostname", os.uname().nodename)
print("sandbox", os.environ["E2B_SANDBOX_ID"])
print("time", time.time())
"""


def facts(sandbox: CodeSandbox) -> dict[str, str]:
    execution = sandbox.run_code(READ)
    assert execution.error is None, execution.error.traceback
    return dict(line.split(" ", 1) for line in "".join(execution.logs.stdout).splitlines())


def test_clones_are_different_from_their_first_read(make):
    clones = []
    for _ in range(CLONES):
        sandbox = make("code-interpreter-v1", cls=CodeSandbox)
        before = time.time()
        clone = facts(sandbox)
        assert before - 5 < float(clone.pop("time")) < time.time() + 5
        assert clone["sandbox"] == clone["hostname"] == sandbox.sandbox_id
        clones.append(clone)
    for name in clones[0]:
        values = [clone[name] for clone in clones]
        assert len(set(values)) == CLONES, f"{name} repeats: {values}"


def test_variables_of_create_reach_the_warm_kernel(make):
    sandbox = make("code-interpreter-v1", cls=CodeSandbox, envs={"GREETING": "good day"})
    assert sandbox.run_code("import os; os.environ['GREETING']").text == "good day"
