"""Sandboxes: create, look at, list, prolong, connect to, kill."""

import datetime
import time

from e2b import AuthenticationException, NotFoundException, Sandbox, SandboxException

from harness import Blocked, exception, expect, generation, limit, raises, same, step, word


@step("create")
def create(topic):
    box = topic.create()
    expect(box.sandbox_id, "a sandbox id", repr(box.sandbox_id))
    same("is_running", box.is_running(), True)


@step("envs")
def envs(topic):
    box = topic.needed(envs={"FROM_CREATE": "here"})
    same("stdout", box.commands.run("printenv FROM_CREATE").stdout, "here\n")


@step("info")
def info(topic):
    name = word()
    box = topic.needed(metadata={"name": name})
    got = box.get_info()
    same("sandbox_id", got.sandbox_id.split("-")[0], box.sandbox_id.split("-")[0])
    same("metadata", got.metadata.get("name"), name)
    expect(got.template_id, "a template id", repr(got.template_id))
    age = datetime.datetime.now(datetime.timezone.utc) - got.started_at
    expect(abs(age.total_seconds()) < 3600, "started_at near now", got.started_at)


@step("timeout")
def timeout(topic):
    box = topic.needed()
    seconds = int(limit(60))
    box.set_timeout(seconds)
    left = box.get_info().end_at - datetime.datetime.now(datetime.timezone.utc)
    expect(
        abs(left.total_seconds() - seconds) < limit(20),
        f"an end in {seconds} s",
        f"{left.total_seconds():.0f} s",
    )


def listed(metadata):
    """Ids of all sandboxes with this metadata; the oldest version cannot filter."""
    if generation() >= 3:
        from e2b import SandboxQuery

        pages = Sandbox.list(query=SandboxQuery(metadata=metadata))
        found = []
        while pages.has_next:
            found += pages.next_items()
    elif generation() == 2:
        from e2b.sandbox.sandbox_api import SandboxQuery

        found = Sandbox.list(query=SandboxQuery(metadata=metadata))
    else:
        found = Sandbox.list()
    return [one.sandbox_id.split("-")[0] for one in found]


@step("list")
def listing(topic):
    name = word()
    box, other = topic.needed(metadata={"name": name}), topic.needed(metadata={"name": word()})
    found = listed({"name": name})
    expect(box.sandbox_id.split("-")[0] in found, "the sandbox in the list", found)
    if generation() >= 2:
        expect(other.sandbox_id.split("-")[0] not in found, "no other sandbox in it", found)


@step("pages")
def pages(topic):
    from e2b import SandboxQuery

    name = word()
    wanted = sorted(topic.needed(metadata={"name": name}).sandbox_id for _ in range(2))
    paging = Sandbox.list(query=SandboxQuery(metadata={"name": name}), limit=1)
    found = []
    while paging.has_next and len(found) < 5:
        page = paging.next_items()
        expect(len(page) <= 1, "pages of one", f"{len(page)} items")
        found += [one.sandbox_id for one in page]
    same("ids of all pages", sorted(found), wanted)


@step("connect")
def connect(topic):
    box = topic.needed()
    again = Sandbox.connect(box.sandbox_id)
    same("sandbox_id", again.sandbox_id.split("-")[0], box.sandbox_id.split("-")[0])
    same("stdout", again.commands.run("echo again").stdout, "again\n")


@step("kill")
def kill(topic):
    box = topic.needed()
    same("kill", Sandbox.kill(box.sandbox_id), True)
    until = time.monotonic() + limit(10)
    while box.is_running():
        expect(time.monotonic() < until, "is_running is False after kill", "True")
        time.sleep(0.2)


@step("kill-false")
def kill_false(topic):
    box = topic.needed()
    try:
        box.kill()
    except Exception as error:
        raise Blocked(f"kill: {error}") from error
    same("a second kill", Sandbox.kill(box.sandbox_id), False)


@step("gone")
def gone(topic):
    box = topic.needed()
    box.kill()
    raises((NotFoundException, exception("SandboxNotFoundException")), Sandbox.connect, box.sandbox_id)


@step("wrong-key")
def wrong_key(topic):
    key = "e2b_" + "0" * 40
    # Versions before the current one have no exception of its own for it.
    kind = AuthenticationException if generation() >= 4 else SandboxException
    error = raises(kind, topic.create, api_key=key)
    if generation() < 4:
        expect("401" in str(error), "a message with 401", error)


@step("unknown-template")
def unknown_template(topic):
    error = raises(SandboxException, topic.create, template="no-such-" + word())
    expect("40" in str(error) or "not" in str(error).lower(), "a message that says why", error)
