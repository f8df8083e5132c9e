"""The daemon's host: where its processes, interfaces and files are.

`cargo xtask test` says how to run a command there: SANDBOXD_HOST_EXEC is a JSON list of words to
put before it (empty where the daemon runs on this machine), SANDBOXD_STATE_DIR and
SANDBOXD_RUN_DIR are the daemon's folders there. It also starts the daemon again when it is killed.
"""

import json
import os
import shlex
import subprocess

import httpx
import pytest
from support import eventually

PREFIX = json.loads(os.environ.get("SANDBOXD_HOST_EXEC", "null"))


def pytest_collection_modifyitems(items) -> None:
    if PREFIX is None:
        pytest.exit("set SANDBOXD_HOST_EXEC: run these through `cargo xtask test --e2e`", returncode=2)


class Host:
    """Commands on the daemon's host, as root."""

    def run(self, command: str, *, check: bool = True) -> str:
        done = subprocess.run(
            [*PREFIX, "sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; {command}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"`{command}` on the host ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen:
        """A command that runs until it is terminated."""
        return subprocess.Popen(
            [*PREFIX, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def pids(self, program: str, *words: str) -> list[int]:
        """Processes of the program `program` that have all of `words` among their arguments."""
        # Not pgrep -f: it would find the shell that runs it.
        script = """
for entry in /proc/[0-9]*; do
    read -r name < "$entry/comm" || continue
    [ "$name" = "$1" ] || continue
    tr '\\0' '\\n' < "$entry/cmdline" > /tmp/e2e-words.$$
    all=yes; for word in $2; do grep -qxF -e "$word" /tmp/e2e-words.$$ || all=no; done
    [ $all = yes ] && echo "${entry#/proc/}"
done 2>/dev/null
rm -f /tmp/e2e-words.$$
"""
        printed = self.run(f"set -- {program} {shlex.quote(' '.join(words))}\n{script}")
        return [int(pid) for pid in printed.split()]

    def daemon(self) -> int:
        found = self.pids("sandboxd", "serve", os.environ["SANDBOXD_RUN_DIR"])
        assert len(found) == 1, f"daemons: {found}"
        return found[0]

    def machines(self) -> list[tuple[int, str]]:
        """VMM processes, each with whose it is: the name of the folder that its log is in.

        A command line does not say that: a process may have been started before its sandbox was asked for.
        """
        script = """
for entry in /proc/[0-9]*; do
    read -r name < "$entry/comm" || continue
    [ "$name" = microvm ] || continue
    log=$(readlink "$entry/fd/2") || continue
    folder=${log%/*}
    echo "${entry#/proc/} ${folder##*/}"
done 2>/dev/null
true
"""
        lines = [line.split() for line in self.run(script).splitlines()]
        return [(int(pid), name) for pid, name in lines]

    def serving(self) -> list[int]:
        """VMM processes that are a sandbox's: not those that wait for one."""
        return [pid for pid, name in self.machines() if not name.startswith("p")]

    def microvm(self, sandbox) -> int:
        found = [pid for pid, name in self.machines() if name == sandbox.sandbox_id]
        assert len(found) == 1, f"processes of {sandbox.sandbox_id}: {found}"
        return found[0]

    def traces(self, sandbox) -> str:
        """Processes and files that carry the sandbox's id, one per line."""
        folders = f"{os.environ['SANDBOXD_RUN_DIR']} {os.environ['SANDBOXD_STATE_DIR']}/sandboxes"
        files = self.run(f"find {folders} -name '*{sandbox.sandbox_id}*'", check=False)
        return files + "".join(f"process {pid}\n" for pid, name in self.machines() if name == sandbox.sandbox_id)


@pytest.fixture(scope="session")
def host() -> Host:
    return Host()


@pytest.fixture(scope="session")
def answering():
    """Waits until the daemon answers (again)."""

    def wait() -> None:
        def healthy() -> bool:
            try:
                return httpx.get(os.environ["E2B_API_URL"] + "/health", timeout=5).is_success
            except httpx.HTTPError:
                return False

        eventually(healthy, seconds=90)

    return wait
