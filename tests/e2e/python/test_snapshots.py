"""Snapshots of running sandboxes, and sandboxes from them."""

import uuid

import pytest
from e2b import Sandbox, SandboxException

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture
def snapshot():
    """Takes snapshots that are deleted at the end of the test."""
    taken = []

    def take(sandbox: Sandbox, **options):
        taken.append(sandbox.create_snapshot(**options))
        return taken[-1]

    yield take
    for each in taken:
        Sandbox.delete_snapshot(each.snapshot_id)


def test_many_sandboxes_from_one_snapshot_while_the_source_goes_on(snapshot, make):
    source = make(envs={"WHO": "source", "KEPT": "yes"})
    process = source.commands.run("sleep 3600", background=True)
    source.files.write("/home/user/file", "before")
    boot = source.commands.run(BOOT_ID).stdout
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    taken = snapshot(source, name=name)
    assert taken.snapshot_id == f"{name}:default"
    source.files.write("/home/user/file", "after")

    made = [make(taken.snapshot_id, envs={"WHO": "child"}) for _ in range(2)]
    boots = {boot}
    for child in made:
        assert child.sandbox_id != source.sandbox_id
        assert child.files.read("/home/user/file") == "before"
        assert process.pid in [each.pid for each in child.commands.list()]
        assert child.commands.run("echo $WHO $KEPT $E2B_SANDBOX_ID").stdout == f"child yes {child.sandbox_id}\n"
        boots.add(child.commands.run(BOOT_ID).stdout)
    assert len(boots) == 3, "each has a boot id of its own"
    made[0].files.write("/home/user/file", "mine")
    assert made[1].files.read("/home/user/file") == "before"
    assert source.files.read("/home/user/file") == "after"
    assert source.commands.run(BOOT_ID).stdout == boot

    listed = Sandbox.list_snapshots(sandbox_id=source.sandbox_id).next_items()
    assert [each.snapshot_id for each in listed] == [taken.snapshot_id]
    with pytest.raises(SandboxException):
        Sandbox.delete_snapshot(taken.snapshot_id)
    for child in made:
        child.kill()


def test_a_snapshot_outlives_its_source_and_is_deleted_once(make):
    source = make()
    source.files.write("/home/user/file", "kept")
    taken = source.create_snapshot()
    source.kill()
    child = make(taken.snapshot_id)
    assert child.files.read("/home/user/file") == "kept"
    child.kill()
    assert Sandbox.delete_snapshot(taken.snapshot_id) is True
    assert Sandbox.delete_snapshot(taken.snapshot_id) is False
    with pytest.raises(SandboxException, match="404"):
        make(taken.snapshot_id)


def test_the_newest_build_of_a_name_counts(snapshot, make):
    source = make()
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    for content in ("old", "new"):
        source.files.write("/home/user/file", content)
        taken = snapshot(source, name=name)
    assert make(taken.snapshot_id).files.read("/home/user/file") == "new"
