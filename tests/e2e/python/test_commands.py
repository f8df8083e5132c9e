"""Commands: output, exit, environment, users, input, background, kill."""

import hashlib
import time

import pytest
from support import eventually
from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    TimeoutException,
)


def test_output_is_split_and_streamed(sandbox):
    heard = []
    started = time.monotonic()
    result = sandbox.commands.run(
        "echo one; echo two >&2; sleep 3; echo three",
        on_stdout=lambda text: heard.append(("out", text, time.monotonic() - started)),
        on_stderr=lambda text: heard.append(("err", text, time.monotonic() - started)),
    )
    assert (result.stdout, result.stderr, result.exit_code) == ("one\nthree\n", "two\n", 0)
    assert sorted((kind, text) for kind, text, _ in heard) == [("err", "two\n"), ("out", "one\n"), ("out", "three\n")]
    first, last = heard[0][2], heard[-1][2]
    assert last - first > 2, "the first line came only with the last"


def test_exit_code_and_output_of_a_failure(sandbox):
    with pytest.raises(CommandExitException) as failure:
        sandbox.commands.run("echo partly; echo broken >&2; exit 42")
    assert failure.value.exit_code == 42
    assert (failure.value.stdout, failure.value.stderr) == ("partly\n", "broken\n")


def test_a_command_that_is_not_there(sandbox):
    with pytest.raises(CommandExitException) as failure:
        sandbox.commands.run("no-such-command")
    assert failure.value.exit_code == 127


def test_large_output_arrives_whole(sandbox):
    result = sandbox.commands.run("seq 1 200000")
    assert result.stdout == "".join(f"{i}\n" for i in range(1, 200001))


def test_characters_split_between_chunks(sandbox):
    result = sandbox.commands.run(r"printf '\xe2\x82'; sleep 0.5; printf '\xac\n'")
    assert result.stdout == "€\n"


def test_cwd(sandbox):
    assert sandbox.commands.run("pwd").stdout == "/home/user\n"
    assert sandbox.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"
    sandbox.files.make_dir("/home/user/here")
    assert sandbox.commands.run("pwd", cwd="here").stdout == "/home/user/here\n"
    with pytest.raises(InvalidArgumentException, match="nowhere"):
        sandbox.commands.run("pwd", cwd="/nowhere")


def test_envs_are_the_commands_own(sandbox):
    assert sandbox.commands.run("echo $X", envs={"X": "a b"}).stdout == "a b\n"
    assert sandbox.commands.run('echo "${X-unset}"').stdout == "unset\n"


def test_users(sandbox):
    who = "id -un; echo $HOME; echo $USER"
    assert sandbox.commands.run(who).stdout == "user\n/home/user\nuser\n"
    assert sandbox.commands.run(who, user="root").stdout == "root\n/root\nroot\n"
    assert sandbox.commands.run("sudo id -u").stdout == "0\n"
    with pytest.raises(AuthenticationException, match="nobody-here"):
        sandbox.commands.run("true", user="nobody-here")


def test_supplementary_groups(sandbox):
    assert "sudo" in sandbox.commands.run("id -Gn").stdout.split()


def test_stdin(sandbox):
    handle = sandbox.commands.run("cat; echo end", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "first\n")
    sandbox.commands.send_stdin(handle.pid, "second\n")
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().stdout == "first\nsecond\nend\n"


def test_streamed_stdin(sandbox):
    handle = sandbox.commands.run("sha256sum", background=True, stdin=True)
    block = b"0123456789abcdef" * 4096
    sandbox.commands.stream_input(handle.pid, (block for _ in range(64)))
    handle.close_stdin()
    assert handle.wait().stdout.split()[0] == hashlib.sha256(block * 64).hexdigest()


def test_without_stdin_a_reader_sees_the_end(sandbox):
    assert sandbox.commands.run("cat; echo done", timeout=20).stdout == "done\n"


def test_background_list_connect_and_kill(sandbox):
    handle = sandbox.commands.run("while sleep 0.2; do echo tick; done", background=True)
    listed = {process.pid: process for process in sandbox.commands.list()}
    assert handle.pid in listed
    assert listed[handle.pid].cmd == "/bin/bash"
    assert listed[handle.pid].args[:2] == ["-l", "-c"]

    again = sandbox.commands.connect(handle.pid)
    assert again.pid == handle.pid
    ticks = []
    for stdout, _, _ in again:
        ticks.append(stdout)
        if len(ticks) == 2:
            break
    assert ticks == ["tick\n", "tick\n"]
    again.disconnect()

    assert handle.kill() is True
    with pytest.raises(CommandExitException) as ended:
        handle.wait()
    assert ended.value.exit_code == -1 and "kill" in ended.value.error
    assert handle.pid not in [process.pid for process in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid) is False


def test_connect_to_nothing(sandbox):
    with pytest.raises(NotFoundException):
        sandbox.commands.connect(4_000_000)


def test_disconnecting_leaves_it_running(sandbox):
    handle = sandbox.commands.run("sleep 600", background=True)
    handle.disconnect()
    time.sleep(1)
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid) is True


def test_a_timeout_kills_the_command_and_its_children(sandbox):
    begun = time.monotonic()
    with pytest.raises(TimeoutException):
        sandbox.commands.run("sleep 987 & sleep 987", timeout=3)
    assert time.monotonic() - begun < 30
    # The [] keeps the search from finding itself.
    count = "pgrep -fc 'sleep [9]87' || true"
    eventually(lambda: sandbox.commands.run(count).stdout.strip() == "0", seconds=15)


def test_a_background_grandchild_does_not_hold_the_command(sandbox):
    begun = time.monotonic()
    result = sandbox.commands.run("sleep 300 & echo gone", timeout=60)
    assert result.stdout == "gone\n"
    assert time.monotonic() - begun < 30
    sandbox.commands.run("pkill -f 'sleep [3]00' || true")


def test_zombies_are_reaped(sandbox):
    sandbox.commands.run("for i in $(seq 20); do (sleep 0.1 &) ; done")
    eventually(lambda: sandbox.commands.run("ps -eo stat= | grep -c ^Z || true").stdout.strip() == "0")


def test_many_commands_at_once(sandbox):
    handles = [sandbox.commands.run(f"sleep 1; echo {i}", background=True) for i in range(16)]
    assert [handle.wait().stdout for handle in handles] == [f"{i}\n" for i in range(16)]
