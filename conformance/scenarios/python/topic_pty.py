"""Terminals."""

from e2b import CommandExitException, PtySize

from harness import expect, limit, raises, same, step


def terminal(box):
    return box.pty.create(PtySize(rows=25, cols=81), timeout=limit(15))


def until(handle, wanted):
    seen = ""
    for _, _, data in handle:
        seen += (data or b"").decode(errors="replace")
        if wanted in seen:
            return
    expect(False, f"{wanted!r} on the terminal", repr(seen[-300:]))


@step("output")
def output(topic):
    box = topic.shared()
    handle = terminal(box)
    box.pty.send_stdin(handle.pid, b"stty size\n")
    until(handle, "25 81")
    same("kill", box.pty.kill(handle.pid), True)


@step("resize")
def resize(topic):
    box = topic.shared()
    handle = terminal(box)
    box.pty.resize(handle.pid, PtySize(rows=41, cols=133))
    box.pty.send_stdin(handle.pid, b"stty size\n")
    until(handle, "41 133")
    box.pty.kill(handle.pid)


@step("exit")
def exit_code(topic):
    box = topic.shared()
    handle = terminal(box)
    box.pty.send_stdin(handle.pid, b"exit 5\n")
    same("exit_code", raises(CommandExitException, handle.wait).exit_code, 5)
