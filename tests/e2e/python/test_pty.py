"""Terminals."""

import threading

import pytest
from support import eventually
from e2b import CommandExitException, PtySize


class Screen:
    """Collects what a terminal prints, in the background."""

    def __init__(self, handle) -> None:
        self.handle = handle
        self.seen = b""
        self.ended = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        def keep(data: bytes) -> None:
            self.seen += data

        try:
            self.ended = self.handle.wait(on_pty=keep).exit_code
        except CommandExitException as error:
            self.ended = error.exit_code
        except Exception as error:  # noqa: BLE001 - shown by the test that waits for the end
            self.ended = error

    def shows(self, text: bytes) -> None:
        eventually(lambda: text in self.seen, seconds=30)


@pytest.fixture
def terminal(sandbox):
    handle = sandbox.pty.create(PtySize(rows=24, cols=80), timeout=120)
    screen = Screen(handle)
    yield screen
    sandbox.pty.kill(handle.pid)


def test_a_session(sandbox, terminal):
    pid = terminal.handle.pid
    sandbox.pty.send_stdin(pid, b"stty size; tty; echo $TERM; echo $((6*7))\n")
    terminal.shows(b"24 80")
    terminal.shows(b"/dev/pts/")
    terminal.shows(b"xterm-256color")
    terminal.shows(b"\r\n42")

    sandbox.pty.resize(pid, PtySize(rows=40, cols=132))
    sandbox.pty.send_stdin(pid, b"stty size\n")
    terminal.shows(b"40 132")

    sandbox.pty.send_stdin(pid, b"exit 3\n")
    terminal.thread.join(30)
    assert terminal.ended == 3


def test_interrupt_reaches_the_foreground_job(sandbox, terminal):
    pid = terminal.handle.pid
    sandbox.pty.send_stdin(pid, b"sleep 600; echo status:$?\n")
    eventually(lambda: sandbox.commands.run("pgrep -f 'sleep [6]00' || true").stdout, seconds=20)
    sandbox.pty.send_stdin(pid, b"\x03")
    sandbox.pty.send_stdin(pid, b"echo still-$((1+1))-here\n")
    terminal.shows(b"still-2-here")


def test_kill(sandbox, terminal):
    pid = terminal.handle.pid
    assert sandbox.pty.kill(pid) is True
    terminal.thread.join(30)
    assert terminal.ended == -1
    assert sandbox.pty.kill(pid) is False


def test_cwd_envs_and_user(sandbox):
    handle = sandbox.pty.create(
        PtySize(rows=24, cols=80), user="root", cwd="/tmp", envs={"COLOUR": "green"}, timeout=120
    )
    screen = Screen(handle)
    sandbox.pty.send_stdin(handle.pid, b'echo "[$(id -un)|$(pwd)|$COLOUR]"\n')
    screen.shows(b"[root|/tmp|green]")
    assert sandbox.pty.kill(handle.pid) is True


def test_connect_to_a_terminal(sandbox, terminal):
    pid = terminal.handle.pid
    other = Screen(sandbox.pty.connect(pid))
    sandbox.pty.send_stdin(pid, b"echo both-$((3*3))\n")
    terminal.shows(b"both-9")
    other.shows(b"both-9")
