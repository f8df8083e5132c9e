"""Pause, resume, and what a sandbox is afterwards."""

import time

import httpx
import pytest
from e2b import NotFoundException, Sandbox, SandboxQuery, SandboxState
from support import eventually

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def boot_id(sandbox: Sandbox) -> str:
    return sandbox.commands.run(BOOT_ID).stdout.strip()


def alive(sandbox: Sandbox, pid: int) -> bool:
    return pid in [process.pid for process in sandbox.commands.list()]


def test_a_full_pause_keeps_everything(make, edge):
    sandbox = make(envs={"WHO": "me"}, metadata={"pause": "full"})
    token = sandbox._envd_access_token
    before = sandbox.get_info()
    boot = boot_id(sandbox)
    sandbox.files.write("/home/user/file", "kept")
    sandbox.commands.run("echo kept > /dev/shm/memory")
    server = sandbox.commands.run("python3 -m http.server 8000", background=True)
    eventually(lambda: ":8000" in sandbox.commands.run("ss -Hltn").stdout, seconds=60)

    assert sandbox.pause() is True
    assert sandbox.pause() is False, "it was paused already"
    assert sandbox.is_running() is False
    info = sandbox.get_info()
    assert info.state == SandboxState.PAUSED
    listed = Sandbox.list(query=SandboxQuery(metadata={"pause": "full"}, state=[SandboxState.PAUSED])).next_items()
    assert [each.sandbox_id for each in listed] == [sandbox.sandbox_id]

    again = Sandbox.connect(sandbox.sandbox_id)
    assert again.sandbox_id == sandbox.sandbox_id
    assert again._envd_access_token == token, "handles from before go on"
    assert sandbox.is_running()
    assert boot_id(sandbox) == boot
    assert alive(sandbox, server.pid)
    assert edge(sandbox, 8000).get("/").status_code == 200, "an open socket goes on"
    assert sandbox.files.read("/home/user/file") == "kept"
    assert sandbox.commands.run("cat /dev/shm/memory; echo $WHO").stdout == "kept\nme\n"
    assert abs(float(sandbox.commands.run("date +%s.%N").stdout) - time.time()) < 5
    after = sandbox.get_info()
    assert (after.state, after.started_at) == (SandboxState.RUNNING, before.started_at)


@pytest.mark.parametrize(("pause", "resume"), [({"mode": "filesystem"}, {}), ({}, {"on_resume": "reboot"})])
def test_without_memory_it_boots_from_its_disk(make, pause, resume):
    sandbox = make(envs={"WHO": "me"})
    boot = boot_id(sandbox)
    sandbox.files.write("/home/user/file", "kept")
    process = sandbox.commands.run("sleep 3600", background=True)
    assert sandbox.pause(**pause) is True
    sandbox.connect(**resume)
    assert boot_id(sandbox) != boot
    assert not alive(sandbox, process.pid)
    assert sandbox.files.read("/home/user/file") == "kept"
    assert sandbox.commands.run("echo $WHO").stdout == "me\n"


def test_a_stream_ends_with_the_pause(make):
    sandbox = make()
    handle = sandbox.commands.run("echo begun; sleep 3600", background=True, timeout=0)
    sandbox.pause()
    with pytest.raises(Exception):  # noqa: B017 - the connection ends in one of several ways
        handle.wait()
    sandbox.kill()


def test_the_end_of_its_time_pauses_and_traffic_wakes(make):
    sandbox = make(lifecycle={"on_timeout": "pause", "auto_resume": True}, timeout=60)
    boot = boot_id(sandbox)
    sandbox.set_timeout(0)
    eventually(lambda: sandbox.get_info().state == SandboxState.PAUSED, seconds=60)
    assert boot_id(sandbox) == boot, "the command woke it"
    info = sandbox.get_info()
    assert info.state == SandboxState.RUNNING
    assert (info.end_at.timestamp() - time.time()) > 200, "five minutes at least"


def test_without_the_token_nothing_is_woken(make, edge):
    sandbox = make(lifecycle={"on_timeout": "pause", "auto_resume": True})
    sandbox.pause()
    assert edge(sandbox, 49983).get("/health").status_code == 403
    assert sandbox.get_info().state == SandboxState.PAUSED


def test_a_paused_sandbox_can_be_killed(make, api):
    sandbox = make()
    sandbox.pause()
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    with pytest.raises(NotFoundException):
        Sandbox.connect(sandbox.sandbox_id)
    answer: httpx.Response = api.post(f"/sandboxes/{sandbox.sandbox_id}/pause", json={})
    assert answer.status_code == 404
