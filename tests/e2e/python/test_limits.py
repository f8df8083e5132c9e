"""A sandbox that tries to take too much harms only its own programs."""

import pytest
from support import eventually
from e2b import CommandExitException, NotEnoughSpaceException


def test_a_fork_bomb_is_contained(make):
    sandbox = make()
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 3"
    try:
        sandbox.commands.run(bomb, timeout=20)
    except Exception:  # noqa: BLE001 - how it ends does not matter, only that the rest lives
        pass
    assert sandbox.is_running()
    # Root's own commands must still find room, to clear up with: all at once, as a bomb outgrows one kill at a time.
    end = "echo 1 > /sys/fs/cgroup/user/others/cgroup.kill"
    eventually(lambda: run_quietly(sandbox, end), seconds=120, every=1)
    assert eventually(lambda: run_quietly(sandbox, "echo alive"), seconds=120, every=1) == "alive\n"


def run_quietly(sandbox, command: str):
    try:
        return sandbox.commands.run(command, user="root", timeout=20).stdout or "ok"
    except Exception:  # noqa: BLE001 - tried again until the time is over
        return None


def test_a_memory_hog_is_killed_and_the_sandbox_lives(make):
    sandbox = make()
    with pytest.raises(CommandExitException) as ended:
        sandbox.commands.run(
            "python3 -c 'blocks = []\nwhile True: blocks.append(bytearray(b\"x\" * (16 << 20)))'", timeout=120
        )
    assert ended.value.exit_code in (-1, 137), "killed, not failed by itself"
    assert sandbox.is_running()
    assert sandbox.commands.run("echo alive").stdout == "alive\n"
    sandbox.files.write("/home/user/still", "works")
    assert sandbox.files.read("/home/user/still") == "works"


def test_a_full_disk_is_said_so(make):
    sandbox = make()
    free = int(sandbox.commands.run("df --output=avail -B1 /home/user | tail -1").stdout)
    # Reserves room without writing it: the host's disk need not be as large.
    sandbox.commands.run(f"fallocate -l {free - (1 << 20)} /home/user/all", timeout=120)
    with pytest.raises(NotEnoughSpaceException):
        sandbox.files.write("/home/user/more", b"x" * (4 << 20))
    sandbox.files.remove("/home/user/all")
    sandbox.files.write("/home/user/more", "fits again")
    assert sandbox.files.read("/home/user/more") == "fits again"


def test_the_disk_is_as_large_as_the_api_says(make, api):
    sandbox = make()
    told = api.get(f"/sandboxes/{sandbox.sandbox_id}").json()["diskSizeMB"]
    size = int(sandbox.commands.run("df --output=size -BM /home/user | tail -1 | tr -d 'M '").stdout)
    assert 0.9 * told <= size <= told


def test_the_guest_cannot_load_code_into_its_kernel(make):
    sandbox = make()
    with pytest.raises(CommandExitException):
        sandbox.commands.run("sudo insmod /dev/null 2>&1 || sudo python3 -c \"open('/proc/modules').read()\"")
