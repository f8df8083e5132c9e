"""Watches, by polling as the synchronous SDK does."""

import time

from e2b import NotFoundException

from harness import expect, limit, raises, same, step, word


def events(handle, enough):
    """Events until there are enough, by name and kind."""
    seen, until = [], time.monotonic() + limit(5)
    while time.monotonic() < until:
        seen += [(one.name, getattr(one.type, "value", one.type)) for one in handle.get_new_events()]
        if enough(seen):
            return seen
        time.sleep(0.1)
    return seen


@step("dir")
def watch_dir(topic):
    files, name = topic.shared().files, word()
    files.make_dir(name)
    handle = files.watch_dir(name)
    files.write(f"{name}/new", "x")
    seen = events(handle, lambda seen: ("new", "write") in seen)
    same("the first event", seen[:1], [("new", "create")])
    expect(("new", "write") in seen, "a write event", seen)
    files.remove(f"{name}/new")
    seen = events(handle, lambda seen: ("new", "remove") in seen)
    expect(("new", "remove") in seen, "a remove event", seen)
    handle.stop()


@step("recursive")
def recursive(topic):
    files, name = topic.shared().files, word()
    files.make_dir(f"{name}/sub")
    handle = files.watch_dir(name, recursive=True)
    files.write(f"{name}/sub/new", "x")
    seen = events(handle, lambda seen: ("sub/new", "create") in seen)
    expect(("sub/new", "create") in seen, "an event of the directory below", seen)
    handle.stop()


@step("missing")
def missing(topic):
    raises(NotFoundException, topic.shared().files.watch_dir, "no-such-" + word())
