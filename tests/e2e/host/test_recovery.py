"""Processes die: a guest, its VMM, the daemon. Nothing else may die with them, and nothing is left."""

import threading

import httpx
import pytest
from support import eventually
from e2b import NotFoundException, Sandbox

# reboot(2) with LINUX_REBOOT_CMD_RESTART, by root: the machine resets without asking the agent.
RESET = "sudo python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x01234567)'"


def gone(sandbox) -> bool:
    return sandbox.is_running() is False


def forgotten(sandbox) -> bool:
    try:
        sandbox.get_info()
    except NotFoundException:
        return True
    return False


def test_a_guest_that_resets_is_gone_and_its_neighbour_lives(make, host):
    sandbox, neighbour = make(), make()
    with pytest.raises(Exception):  # noqa: B017 - the connection ends in one of several ways
        sandbox.commands.run(RESET, timeout=30)
    eventually(lambda: gone(sandbox), seconds=30)
    # Its connections end with it; the daemon notices a moment later.
    eventually(lambda: forgotten(sandbox), seconds=10)
    assert neighbour.commands.run("echo alive").stdout == "alive\n"
    eventually(lambda: host.traces(sandbox) == "", seconds=30)


def test_a_vmm_that_dies_is_noticed_and_cleaned_up(make, host):
    sandbox, neighbour = make(), make()
    host.run(f"kill -9 {host.microvm(sandbox)}")
    eventually(lambda: gone(sandbox), seconds=30)
    # Its connections end with it; the daemon notices a moment later.
    eventually(lambda: forgotten(sandbox), seconds=10)
    assert sandbox.kill() is False
    assert neighbour.commands.run("echo alive").stdout == "alive\n"
    eventually(lambda: host.traces(sandbox) == "", seconds=30)


def test_kill_leaves_nothing(make, host):
    sandbox = make()
    assert host.traces(sandbox) != ""
    sandbox.kill()
    eventually(lambda: host.traces(sandbox) == "", seconds=30)


def test_a_killed_daemon_finds_its_sandboxes_again(make, host, answering):
    kept, lost = make(metadata={"kept": "yes"}), make()
    kept.files.write("/home/user/state", "from before")
    background = kept.commands.run("sleep 3600", background=True)
    boot = kept.commands.run("cat /proc/sys/kernel/random/boot_id").stdout
    before = kept.get_info()
    vmm, doomed, daemon = host.microvm(kept), host.microvm(lost), host.daemon()

    # One of the two dies while nobody looks.
    host.run(f"kill -9 {daemon} {doomed}")
    answering()
    assert host.daemon() != daemon
    assert host.microvm(kept) == vmm, "the VMM went on"

    after = Sandbox.connect(kept.sandbox_id)
    assert after.commands.run("cat /proc/sys/kernel/random/boot_id").stdout == boot
    assert after.files.read("/home/user/state") == "from before"
    assert background.pid in [process.pid for process in after.commands.list()]
    info = after.get_info()
    assert (info.metadata, info.started_at) == (before.metadata, before.started_at)
    assert info.end_at >= before.end_at

    assert lost.is_running() is False
    with pytest.raises(NotFoundException):
        lost.get_info()
    eventually(lambda: host.traces(lost) == "", seconds=30)

    # Handles from before go on too, and the sandbox can still be killed for good.
    assert kept.commands.run("echo again").stdout == "again\n"
    assert kept.kill() is True
    eventually(lambda: host.traces(kept) == "", seconds=30)


def test_a_sandbox_expires_though_the_daemon_was_killed(make, host, answering):
    sandbox = make(timeout=300)
    sandbox.set_timeout(20)
    host.run(f"kill -9 {host.daemon()}")
    answering()
    eventually(lambda: gone(sandbox), seconds=60)
    eventually(lambda: host.traces(sandbox) == "", seconds=30)


def test_keys_and_counts_survive_the_daemon(make, host, answering, api):
    make()
    before = {each["sandboxID"] for each in api.get("/v2/sandboxes").json()}
    host.run(f"kill -9 {host.daemon()}")
    answering()

    def same() -> bool:
        try:
            return {each["sandboxID"] for each in api.get("/v2/sandboxes").json()} == before
        except httpx.HTTPError:  # a kept-alive connection to the daemon before
            return False

    eventually(same, seconds=30)


def test_a_create_cut_off_by_a_killed_daemon_leaves_nothing(make, host, answering, api):
    before = {each["sandboxID"] for each in api.get("/v2/sandboxes").json()}
    failed = []

    def create() -> None:
        try:
            make()
        except Exception as error:  # noqa: BLE001 - how it fails depends on when it is cut
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    # Some time within the starts, of which there are several at once.
    host.run("sleep 0.1")
    host.run(f"kill -9 {host.daemon()}")
    answering()
    for thread in threads:
        thread.join(120)

    def settled() -> bool:
        with httpx.Client(base_url=api.base_url, headers=api.headers, timeout=30) as fresh:
            listed = {each["sandboxID"] for each in fresh.get("/v2/sandboxes").json()}
        running = len(host.serving())
        # What is listed is running, and what is running is listed.
        return before <= listed and running == len(listed)

    eventually(settled, seconds=60)
