"""Forks: children go on where a running sandbox is, each as itself."""

import pytest
from e2b import NotFoundException, Sandbox
from e2b_code_interpreter import Sandbox as CodeSandbox

IDENTITY = "cat /proc/sys/kernel/random/boot_id; hostname; head -c 16 /dev/urandom | sha256sum; echo $E2B_SANDBOX_ID"


@pytest.fixture
def forks():
    """Forks sandboxes; the children are killed at the end of the test."""
    made = []

    def fork(sandbox, **options):
        children = sandbox.fork(**options)
        made.extend(child for child in children if not isinstance(child, Exception))
        return children

    yield fork
    for child in made:
        child.kill()


def test_children_continue_the_variables_of_a_python_context(make, forks):
    parent = make("code-interpreter-v1", cls=CodeSandbox, metadata={"who": "parent"})
    parent.run_code("import random\nx = 41\nbig = list(range(1000))")
    children = forks(parent, count=2, timeout=120)
    assert all(isinstance(child, Sandbox) for child in children), children
    draws = set()
    for number, child in enumerate(children):
        assert child.run_code("x + 1 + sum(big)").text == str(42 + sum(range(1000)))
        child.run_code(f"x = {number}")
        draws.add(child.run_code("random.random()").text)
        assert child.get_info().metadata == {"who": "parent"}
    assert [child.run_code("x").text for child in children] == ["0", "1"], "each has memory of its own"
    assert parent.run_code("x").text == "41", "the parent lives"
    draws.add(parent.run_code("random.random()").text)
    assert len(draws) == 3


def test_twenty_children_in_one_call(make, forks):
    parent = make()
    process = parent.commands.run("sleep 3600", background=True)
    parent.files.write("/home/user/file", "inherited")
    children = forks(parent, count=20, timeout=300)
    assert [child for child in children if isinstance(child, Exception)] == []
    seen = {sandbox.commands.run(IDENTITY).stdout for sandbox in [parent, *children]}
    values = [set(column) for column in zip(*(each.split("\n") for each in seen))]
    assert [len(column) for column in values[:4]] == [21] * 4, "identities repeat"
    assert process.pid in [each.pid for each in children[-1].commands.list()]
    children[0].files.write("/home/user/file", "mine")
    assert children[1].files.read("/home/user/file") == "inherited"
    assert parent.files.read("/home/user/file") == "inherited"


def test_what_cannot_be_forked(make, api):
    sandbox = make()
    path = f"/sandboxes/{sandbox.sandbox_id}/fork"
    assert api.post(path, json={"count": 0}).status_code == 400
    assert api.post(path, json={"count": 101}).status_code == 400
    sandbox.pause()
    assert api.post(path, json={}).status_code == 409
    sandbox.kill()
    with pytest.raises(NotFoundException):
        sandbox.fork()
