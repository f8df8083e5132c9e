"""Many sandboxes, one after the other and at once."""

import concurrent.futures
import statistics
import time

import pytest
from e2b import Sandbox


@pytest.mark.timeout(1500)
def test_fifty_in_a_row(api):
    before = {each["sandboxID"] for each in api.get("/v2/sandboxes").json()}
    times = []
    for number in range(50):
        begun = time.monotonic()
        sandbox = Sandbox.create("base", timeout=120)
        try:
            assert sandbox.commands.run(f"echo {number}").stdout == f"{number}\n"
        finally:
            assert sandbox.kill() is True
        times.append(time.monotonic() - begun)
    print(f"create, run, kill: median {statistics.median(times):.2f} s, worst {max(times):.2f} s")
    assert {each["sandboxID"] for each in api.get("/v2/sandboxes").json()} == before


def one(number: int) -> str:
    sandbox = Sandbox.create("base", timeout=300)
    try:
        sandbox.files.write("/home/user/n", str(number))
        return sandbox.commands.run("cat n; echo; hostname; cat /proc/sys/kernel/random/boot_id").stdout
    finally:
        sandbox.kill()


def test_eight_at_once():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(one, range(8)))
    assert [output.split("\n")[0] for output in outputs] == [str(n) for n in range(8)]
    assert len({output.strip().split("\n")[-1] for output in outputs}) == 8, "eight machines"
