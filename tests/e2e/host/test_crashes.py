"""The daemon is killed in the middle of what it does; the next one finds one of the allowed states, and nothing else.

When the kill comes is left to chance, within the time that the operation takes; what must hold afterwards does not depend on
it.
"""

import os
import threading
import time

import httpx
import pytest
from e2b import Sandbox, SandboxState
from support import eventually

SNAPSHOTS = f"find {os.environ.get('SANDBOXD_STATE_DIR', '')}/snapshots -mindepth 1 -maxdepth 1"


def interrupted(host, answering, operation, delay: float) -> None:
    """Begins an operation, kills the daemon after a while, and waits for the next daemon."""
    daemon = host.daemon()

    def attempt() -> None:
        try:
            operation()
        except Exception:  # noqa: BLE001 - how it fails depends on when it is cut
            pass

    thread = threading.Thread(target=attempt)
    thread.start()
    time.sleep(delay)
    host.run(f"kill -9 {daemon}")
    answering()
    thread.join(120)
    assert not thread.is_alive()


def snapshots(host) -> set[str]:
    return set(host.run(SNAPSHOTS, check=False).split())


def serves(sandbox: Sandbox, content: str) -> None:
    """The sandbox runs, or can be made to, with what it held."""
    again = Sandbox.connect(sandbox.sandbox_id, timeout=300)
    assert again.get_info().state == SandboxState.RUNNING
    assert again.files.read("/home/user/file") == content


@pytest.fixture
def fresh(api):
    """The control API, each call on a connection of its own: that of the daemon before is gone."""

    def call(method: str, path: str, **options) -> httpx.Response:
        url = str(api.base_url).rstrip("/") + path
        return httpx.request(method, url, headers=api.headers, timeout=60, **options)

    return call


def nothing_else_runs(host, fresh) -> None:
    listed = fresh("GET", "/v2/sandboxes?state=running").json()
    eventually(lambda: len(host.serving()) == len(listed), seconds=30)


@pytest.mark.parametrize("delay", [0.05, 0.4, 1.0])
def test_a_pause_that_is_cut_off_leaves_it_running_or_paused(make, host, answering, fresh, delay):
    sandbox = make()
    sandbox.files.write("/home/user/file", "kept")
    before = snapshots(host)
    interrupted(host, answering, sandbox.pause, delay)
    state = Sandbox.get_info(sandbox.sandbox_id).state
    left = len(snapshots(host) - before)
    assert left == (1 if state == SandboxState.PAUSED else 0)
    serves(sandbox, "kept")
    assert snapshots(host) == before, "nothing is left of a pause that is over"
    nothing_else_runs(host, fresh)


def test_a_resume_that_is_cut_off_leaves_it_running_or_paused(make, host, answering, fresh):
    sandbox = make()
    sandbox.files.write("/home/user/file", "kept")
    before = snapshots(host)
    sandbox.pause()
    interrupted(host, answering, sandbox.connect, 0.1)
    serves(sandbox, "kept")
    assert snapshots(host) == before
    nothing_else_runs(host, fresh)


def test_a_snapshot_and_a_fork_that_are_cut_off_leave_their_source(make, host, answering, fresh):
    sandbox = make(metadata={"cut": "off"})
    sandbox.files.write("/home/user/file", "kept")
    before = snapshots(host)
    for operation in (sandbox.create_snapshot, lambda: sandbox.fork(count=2, timeout=60)):
        interrupted(host, answering, operation, 0.2)
        # What was whole in time is listed, whether or not its client was told about it.
        for each in fresh("GET", f"/snapshots?sandboxID={sandbox.sandbox_id}").json():
            Sandbox.delete_snapshot(each["snapshotID"])
        for each in fresh("GET", "/v2/sandboxes?metadata=cut%3Doff").json():
            if each["sandboxID"] != sandbox.sandbox_id:
                Sandbox.kill(each["sandboxID"])
        serves(sandbox, "kept")
        assert snapshots(host) == before
        nothing_else_runs(host, fresh)


def test_a_rollback_that_is_cut_off_is_brought_to_its_end_or_was_never_begun(make, host, answering, fresh):
    sandbox = make()
    path = f"/sandboxes/{sandbox.sandbox_id}"
    sandbox.files.write("/home/user/file", "first")
    fresh("POST", f"{path}/checkpoints", json={"name": "first"}).raise_for_status()
    sandbox.files.write("/home/user/file", "second")
    interrupted(host, answering, lambda: fresh("POST", f"{path}/rollback", json={"checkpoint": "first"}), 0.05)
    again = Sandbox.connect(sandbox.sandbox_id)
    assert again.files.read("/home/user/file") in ("first", "second")
    # The checkpoint is still there to go back to.
    assert fresh("POST", f"{path}/rollback", json={"checkpoint": "first"}).status_code == 204
    assert again.files.read("/home/user/file") == "first"
    assert again.kill() is True


def test_a_vmm_that_dies_during_a_pause_takes_its_sandbox_along_and_nothing_is_left(make, host):
    sandbox = make()
    before = snapshots(host)
    vmm = host.microvm(sandbox)
    failed = []

    def pause() -> None:
        try:
            sandbox.pause()
        except Exception as error:  # noqa: BLE001 - how it fails depends on when it is cut
            failed.append(error)

    thread = threading.Thread(target=pause)
    thread.start()
    time.sleep(0.2)
    host.run(f"kill -9 {vmm}", check=False)
    thread.join(60)
    assert not thread.is_alive()
    if failed:
        assert sandbox.is_running() is False
    else:
        assert sandbox.get_info().state == SandboxState.PAUSED
    sandbox.kill()
    eventually(lambda: host.traces(sandbox) == "" and snapshots(host) == before, seconds=30)
