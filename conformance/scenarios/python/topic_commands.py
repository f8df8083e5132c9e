"""Commands: output, exit codes, streams, input, signals."""

import time

from e2b import CommandExitException, TimeoutException

from harness import expect, generation, limit, raises, same, step


def until_gone(box, pid):
    """A killed process leaves the list at once or soon."""
    until = time.monotonic() + limit(5)
    while any(one.pid == pid for one in box.commands.list()):
        expect(time.monotonic() < until, "the process gone from the list", f"{pid} is there")
        time.sleep(0.2)


@step("run")
def run(topic):
    done = topic.shared().commands.run("echo out; echo err >&2")
    same("stdout", done.stdout, "out\n")
    same("stderr", done.stderr, "err\n")
    same("exit_code", done.exit_code, 0)


@step("exit")
def exit_code(topic):
    error = raises(CommandExitException, topic.shared().commands.run, "echo bad >&2; exit 3")
    same("exit_code", error.exit_code, 3)
    same("stderr", error.stderr, "bad\n")


@step("background")
def background(topic):
    handle = topic.shared().commands.run("echo one; sleep 0.3; echo two", background=True)
    expect(handle.pid > 0, "a pid", handle.pid)
    seen = []
    done = handle.wait(on_stdout=seen.append)
    same("stdout by callback", "".join(seen), "one\ntwo\n")
    same("exit_code", done.exit_code, 0)


@step("timeout")
def timeout(topic):
    box = topic.shared()
    before = {one.pid for one in box.commands.list()}
    raises(TimeoutException, box.commands.run, "sleep 300", timeout=2)
    until = time.monotonic() + limit(5)
    while True:
        left = [one for one in box.commands.list() if one.pid not in before and "sleep 300" in one.args]
        if not left:
            return
        expect(time.monotonic() < until, "the command killed at its time-out", "it runs on")
        time.sleep(0.2)


@step("cwd")
def cwd(topic):
    same("stdout", topic.shared().commands.run("pwd", cwd="/tmp").stdout, "/tmp\n")


@step("envs")
def envs(topic):
    done = topic.shared().commands.run("printenv OF_CALL", envs={"OF_CALL": "here"})
    same("stdout", done.stdout, "here\n")


@step("user")
def user(topic):
    same("default user", topic.shared().commands.run("whoami").stdout, "user\n")
    same("user root", topic.shared().commands.run("whoami", user="root").stdout, "root\n")


def cat(box):
    options = {"stdin": True} if generation() >= 4 else {}
    return box.commands.run("cat", background=True, timeout=limit(10), **options)


@step("stdin")
def stdin(topic):
    box = topic.shared()
    handle = cat(box)
    box.commands.send_stdin(handle.pid, "typed\n")
    seen = ""
    for out, _, _ in handle:
        seen += out or ""
        if "typed" in seen:
            break
    same("what cat gives back", seen, "typed\n")
    handle.kill()


@step("close-stdin")
def close_stdin(topic):
    box = topic.shared()
    handle = cat(box)
    box.commands.send_stdin(handle.pid, "last")
    box.commands.close_stdin(handle.pid)
    same("stdout", handle.wait().stdout, "last")


@step("list")
def listing(topic):
    box = topic.shared()
    handle = box.commands.run("sleep 60", background=True)
    found = [one for one in box.commands.list() if one.pid == handle.pid]
    expect(len(found) == 1, "the process in the list", [one.pid for one in box.commands.list()])
    expect("sleep 60" in found[0].args, "its arguments", found[0].args)
    handle.kill()


@step("kill")
def kill(topic):
    box = topic.shared()
    handle = box.commands.run("sleep 60", background=True)
    same("kill", handle.kill(), True)
    until_gone(box, handle.pid)


@step("kill-false")
def kill_false(topic):
    same("kill of no process", topic.shared().commands.kill(999_999), False)


@step("connect")
def connect(topic):
    box = topic.shared()
    handle = box.commands.run("sleep 1; echo late; exit 4", background=True)
    again = box.commands.connect(handle.pid)
    error = raises(CommandExitException, again.wait)
    same("exit_code", error.exit_code, 4)
    same("stdout", error.stdout, "late\n")
