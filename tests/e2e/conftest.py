"""Sandboxes for the tests, from a running daemon named by the environment.

E2B_API_URL, E2B_API_KEY and E2B_SANDBOX_URL are what `cargo xtask up` prints. A sandbox that
a test made is killed after it, whatever happened.
"""

import os

import httpx
import pytest
from e2b import Sandbox
from e2b_code_interpreter import Sandbox as CodeSandbox

BASE = "base"


def pytest_configure(config: pytest.Config) -> None:
    missing = [name for name in ("E2B_API_URL", "E2B_API_KEY", "E2B_SANDBOX_URL") if not os.environ.get(name)]
    if missing:
        pytest.exit(f"set {', '.join(missing)}: `cargo xtask up` prints them", returncode=2)


@pytest.fixture
def make():
    """Makes sandboxes that are killed at the end of the test."""
    made = []

    def create(template: str = BASE, *, cls=Sandbox, timeout: int = 300, **options):
        sandbox = cls.create(template, timeout=timeout, **options)
        made.append(sandbox)
        return sandbox

    yield create
    for sandbox in made:
        sandbox.kill()


@pytest.fixture(scope="module")
def sandbox():
    """One `base` sandbox for a module's tests that leave each other alone."""
    sandbox = Sandbox.create(BASE, timeout=1200)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="module")
def code():
    """One `code-interpreter-v1` sandbox for a module."""
    sandbox = CodeSandbox.create(timeout=1200)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="session")
def api():
    """The control API, without the SDK."""
    with httpx.Client(
        base_url=os.environ["E2B_API_URL"],
        headers={"X-API-Key": os.environ["E2B_API_KEY"]},
        timeout=60,
    ) as client:
        yield client


@pytest.fixture(scope="session")
def edge():
    """The sandbox side of the daemon: `edge(sandbox, port)` is a client for one port."""
    clients = []

    def client(sandbox: Sandbox, port: int) -> httpx.Client:
        clients.append(
            httpx.Client(
                base_url=os.environ["E2B_SANDBOX_URL"],
                headers={"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)},
                timeout=60,
            )
        )
        return clients[-1]

    yield client
    for each in clients:
        each.close()
