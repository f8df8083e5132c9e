"""Directory watches: the polling kind of the synchronous SDK and the streaming kind of the other."""

import asyncio
import uuid

import pytest
from support import eventually
from e2b import AsyncSandbox, FilesystemEventType as Event, InvalidArgumentException, NotFoundException


@pytest.fixture
def folder(sandbox):
    path = f"/home/user/{uuid.uuid4().hex}"
    sandbox.files.make_dir(path)
    return path


def test_a_new_file_is_three_events(sandbox, folder):
    watch = sandbox.files.watch_dir(folder)
    sandbox.files.write(f"{folder}/new", "content")
    # Straight after the write, in one call: the agent drains the kernel's queue when asked.
    events = [(event.name, event.type) for event in watch.get_new_events()]
    assert events == [("new", Event.CREATE), ("new", Event.CHMOD), ("new", Event.WRITE)]
    assert watch.get_new_events() == [], "each call empties the queue"
    watch.stop()


def test_every_kind_of_event(sandbox, folder):
    sandbox.files.write(f"{folder}/file", "1")
    watch = sandbox.files.watch_dir(folder)
    sandbox.commands.run(f"cd {folder} && echo 2 >> file && chmod 600 file && mv file other && rm other")
    seen = []

    def all_seen():
        seen.extend((event.name, event.type) for event in watch.get_new_events())
        wanted = {("file", Event.WRITE), ("file", Event.CHMOD), ("file", Event.RENAME), ("other", Event.REMOVE)}
        return wanted <= set(seen)

    eventually(all_seen)
    watch.stop()


def test_recursive(sandbox, folder):
    sandbox.files.make_dir(f"{folder}/old")
    watch = sandbox.files.watch_dir(folder, recursive=True)
    sandbox.files.write(f"{folder}/old/file", "")
    sandbox.files.write(f"{folder}/new/deeper/file", "")
    seen = set()

    def both_seen():
        seen.update(event.name for event in watch.get_new_events())
        return {"old/file", "new/deeper/file"} <= seen

    eventually(both_seen)
    watch.stop()


def test_not_recursive(sandbox, folder):
    sandbox.files.make_dir(f"{folder}/sub")
    watch = sandbox.files.watch_dir(folder)
    sandbox.files.write(f"{folder}/sub/file", "")
    sandbox.files.write(f"{folder}/file", "")
    names = {event.name for event in watch.get_new_events()}
    assert "file" in names and not any("/" in name for name in names)
    watch.stop()


def test_entries_come_along(sandbox, folder):
    watch = sandbox.files.watch_dir(folder, include_entry=True)
    sandbox.files.write(f"{folder}/file", "12345")
    written = [event for event in watch.get_new_events() if event.type == Event.WRITE]
    assert written[-1].entry.path == f"{folder}/file"
    assert written[-1].entry.size == 5
    watch.stop()


def test_refusals(sandbox, folder):
    with pytest.raises(NotFoundException):
        sandbox.files.watch_dir(f"{folder}/nothing")
    sandbox.files.write(f"{folder}/file", "")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.watch_dir(f"{folder}/file")
    watch = sandbox.files.watch_dir(folder)
    watch.stop()


def test_streaming_watch(sandbox, folder):
    async def scenario():
        other = await AsyncSandbox.connect(sandbox.sandbox_id)
        events: asyncio.Queue = asyncio.Queue()
        ended = asyncio.Event()
        watch = await other.files.watch_dir(folder, on_event=events.put, on_exit=lambda _: ended.set())
        await other.files.write(f"{folder}/streamed", "x")
        first = await asyncio.wait_for(events.get(), 20)
        assert (first.name, first.type) == ("streamed", Event.CREATE)
        await watch.stop()
        await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(scenario())
