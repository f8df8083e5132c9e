"""Create, list, get, time-out, connect, kill."""

import datetime
import uuid

import pytest
from support import eventually
from e2b import NotFoundException, Sandbox, SandboxQuery, SandboxState


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def all_of(query: SandboxQuery, **options) -> list:
    pages = Sandbox.list(query=query, **options)
    found = []
    while pages.has_next:
        found.extend(pages.next_items())
    return found


def test_info_is_what_was_asked_for(make):
    before = now()
    sandbox = make(metadata={"job": "42"}, timeout=120)
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.template_id == "base"
    assert info.metadata == {"job": "42"}
    assert info.state == SandboxState.RUNNING
    assert info.cpu_count >= 1 and info.memory_mb >= 256
    assert before - datetime.timedelta(seconds=5) <= info.started_at <= now()
    assert abs((info.end_at - info.started_at).total_seconds() - 120) < 30
    assert sandbox.is_running()


def test_the_guest_has_the_size_that_the_api_says(make):
    sandbox = make()
    info = sandbox.get_info()
    assert int(sandbox.commands.run("nproc").stdout) == info.cpu_count
    total_kib = int(sandbox.commands.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").stdout)
    assert 0.8 * info.memory_mb < total_kib / 1024 <= info.memory_mb


def test_each_sandbox_is_its_own_machine(make):
    one, two = make(), make()
    read = "cat /proc/sys/kernel/random/boot_id"
    assert one.commands.run(read).stdout != two.commands.run(read).stdout
    one.files.write("/home/user/mine", "1")
    assert not two.files.exists("/home/user/mine")


def test_envs_of_create_reach_commands(make):
    sandbox = make(envs={"GREETING": "good day", "EMPTY": ""})
    assert sandbox.commands.run('echo "$GREETING|${EMPTY-unset}|"').stdout == "good day||\n"
    wanted = f"true {sandbox.sandbox_id} base\n"
    got = sandbox.commands.run("echo $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID").stdout
    assert got == wanted


def test_list_filters_by_metadata_and_pages(make):
    mark = uuid.uuid4().hex
    made = [make(metadata={"mark": mark, "odd key&=": f"value {i % 2}/&="}) for i in range(3)]
    ids = [sandbox.sandbox_id for sandbox in made]

    found = all_of(SandboxQuery(metadata={"mark": mark}))
    assert [info.sandbox_id for info in found] == ids[::-1], "newest first"
    found = all_of(SandboxQuery(metadata={"mark": mark, "odd key&=": "value 0/&="}))
    assert {info.sandbox_id for info in found} == {ids[0], ids[2]}
    assert all_of(SandboxQuery(metadata={"mark": mark + "x"})) == []

    pages = Sandbox.list(query=SandboxQuery(metadata={"mark": mark}), limit=2)
    first = pages.next_items()
    assert len(first) == 2 and pages.has_next
    second = pages.next_items()
    assert len(second) == 1 and not pages.has_next
    assert {info.sandbox_id for info in first + second} == set(ids)

    oldest_first = all_of(SandboxQuery(metadata={"mark": mark}), order="asc")
    assert [info.sandbox_id for info in oldest_first] == ids


def test_list_filters_by_state(make):
    mark = uuid.uuid4().hex
    sandbox = make(metadata={"mark": mark})
    running = SandboxQuery(metadata={"mark": mark}, state=[SandboxState.RUNNING])
    assert [info.sandbox_id for info in all_of(running)] == [sandbox.sandbox_id]
    paused = SandboxQuery(metadata={"mark": mark}, state=[SandboxState.PAUSED])
    assert all_of(paused) == []


def test_timeout_can_be_shortened_and_extended(make):
    sandbox = make(timeout=300)
    sandbox.set_timeout(60)
    left = (sandbox.get_info().end_at - now()).total_seconds()
    assert 40 < left <= 61
    sandbox.set_timeout(600)
    left = (sandbox.get_info().end_at - now()).total_seconds()
    assert 580 < left <= 601


def test_a_sandbox_expires_on_time(make):
    sandbox = make(timeout=300)
    sandbox.set_timeout(3)
    assert sandbox.is_running()
    begun = now()
    eventually(lambda: not sandbox.is_running(), seconds=30)
    assert 1 < (now() - begun).total_seconds() < 20
    with pytest.raises(NotFoundException):
        sandbox.get_info()


def test_connect_reaches_the_same_machine_and_only_extends(make):
    sandbox = make(timeout=300)
    sandbox.files.write("/home/user/state", "kept")
    end = sandbox.get_info().end_at
    again = Sandbox.connect(sandbox.sandbox_id, timeout=30)
    assert again.sandbox_id == sandbox.sandbox_id
    assert again.files.read("/home/user/state") == "kept"
    assert again.get_info().end_at == end, "a shorter time-out changes nothing"
    Sandbox.connect(sandbox.sandbox_id, timeout=900)
    assert sandbox.get_info().end_at > end


def test_kill_twice(make):
    sandbox = make()
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    assert Sandbox.kill(sandbox.sandbox_id) is False
    assert sandbox.is_running() is False
    with pytest.raises(NotFoundException):
        Sandbox.connect(sandbox.sandbox_id)
    ids = [info.sandbox_id for info in all_of(SandboxQuery())]
    assert sandbox.sandbox_id not in ids


def test_the_wall_clock_is_right(sandbox):
    guest = float(sandbox.commands.run("date +%s.%N").stdout)
    assert abs(guest - now().timestamp()) < 5


def test_entropy_differs(make):
    read = "head -c 32 /dev/urandom | sha256sum"
    assert make().commands.run(read).stdout != make().commands.run(read).stdout
