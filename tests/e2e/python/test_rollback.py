"""Checkpoints, and going back to them in place."""

import threading

import pytest
from e2b_code_interpreter import Sandbox as CodeSandbox


@pytest.fixture
def checkpoints(api):
    """What the SDKs have no words for."""

    class Checkpoints:
        def take(self, sandbox, name: str) -> None:
            api.post(f"/sandboxes/{sandbox.sandbox_id}/checkpoints", json={"name": name}).raise_for_status()

        def names(self, sandbox) -> list[str]:
            listed = api.get(f"/sandboxes/{sandbox.sandbox_id}/checkpoints").raise_for_status().json()
            return [each["name"] for each in listed]

        def back(self, sandbox, name: str):
            return api.post(f"/sandboxes/{sandbox.sandbox_id}/rollback", json={"checkpoint": name})

    return Checkpoints()


def test_files_and_variables_of_the_abandoned_future_are_gone(make, checkpoints):
    sandbox = make("code-interpreter-v1", cls=CodeSandbox)
    info = sandbox.get_info()
    sandbox.run_code("x = 1")
    sandbox.files.write("/home/user/file", "one")
    checkpoints.take(sandbox, "one")
    sandbox.run_code("x = 2; y = 'new'")
    sandbox.files.write("/home/user/file", "two")
    sandbox.files.write("/home/user/new", "new")
    checkpoints.take(sandbox, "two")

    assert checkpoints.back(sandbox, "one").status_code == 204
    assert sandbox.run_code("x").text == "1"
    assert sandbox.run_code("y").error.name == "NameError"
    assert sandbox.files.read("/home/user/file") == "one"
    assert not sandbox.files.exists("/home/user/new")
    assert sandbox.get_info() == info, "id, deadline and all the rest stay"
    assert checkpoints.names(sandbox) == ["one", "two"]

    # The other future is still there to be gone to.
    assert checkpoints.back(sandbox, "two").status_code == 204
    assert sandbox.run_code("x, y").text == "(2, 'new')"
    assert sandbox.files.read("/home/user/file") == "two"
    assert checkpoints.back(sandbox, "three").status_code == 404


def test_an_open_stream_ends_with_its_future(make, checkpoints):
    sandbox = make()
    kept = sandbox.commands.run("sleep 3600", background=True)
    checkpoints.take(sandbox, "before")
    lost = sandbox.commands.run("echo begun; sleep 3600", background=True, timeout=0)
    ended = []

    def wait() -> None:
        try:
            lost.wait()
        except Exception as error:  # noqa: BLE001 - the connection ends in one of several ways
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert checkpoints.back(sandbox, "before").status_code == 204
    thread.join(60)
    assert not thread.is_alive(), "the stream hangs"
    assert len(ended) == 1
    pids = [process.pid for process in sandbox.commands.list()]
    assert kept.pid in pids and lost.pid not in pids
    # What comes after is not what came before.
    draw = "head -c 16 /dev/urandom | sha256sum"
    first = sandbox.commands.run(draw).stdout
    assert checkpoints.back(sandbox, "before").status_code == 204
    assert sandbox.commands.run(draw).stdout != first


def test_checkpoints_before_every_command(api, checkpoints):
    answer = api.post(
        "/v2/sandboxes",
        json={"templateID": "base", "timeout": 300, "autoCheckpoint": {"everyCommands": 1, "keep": 2}},
    )
    assert answer.status_code == 201, answer.text
    from e2b import Sandbox

    sandbox = Sandbox.connect(answer.json()["sandboxID"])
    try:
        for number in range(1, 4):
            sandbox.commands.run(f"echo {number} > /home/user/file")
        assert checkpoints.names(sandbox) == ["auto-2", "auto-3"]
        assert checkpoints.back(sandbox, "auto-3").status_code == 204
        assert sandbox.files.read("/home/user/file") == "2\n", "as it was before the third command"
    finally:
        sandbox.kill()
