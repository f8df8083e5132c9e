"""The asynchronous SDK: the same service by other transports, and watches that are pushed."""

import asyncio

from e2b import AsyncSandbox, CommandExitException

from harness import Blocked, expect, limit, same, step, word


async def made(topic):
    try:
        return topic.keep(await AsyncSandbox.create(**topic.options()))
    except Exception as error:
        raise Blocked(f"AsyncSandbox.create: {type(error).__name__}: {error}") from error


def asynchronous(function):
    def run(topic):
        async def whole():
            box = await made(topic)
            try:
                await function(box)
            finally:
                await box.kill()

        asyncio.run(asyncio.wait_for(whole(), limit(40)))

    run.__module__ = function.__module__
    return run


@step("run")
@asynchronous
async def run(box):
    same("is_running", await box.is_running(), True)
    done = await box.commands.run("echo out")
    same("stdout", done.stdout, "out\n")
    try:
        await box.commands.run("exit 3")
    except CommandExitException as error:
        same("exit_code", error.exit_code, 3)
    else:
        expect(False, "CommandExitException", "no exception")


@step("background")
@asynchronous
async def background(box):
    seen = []
    handle = await box.commands.run("echo one; sleep 0.3; echo two", background=True, on_stdout=seen.append)
    await handle.wait()
    same("stdout by callback", "".join(seen), "one\ntwo\n")


@step("files")
@asynchronous
async def files(box):
    name = word()
    await box.files.write(name, "text")
    same("read", await box.files.read(name), "text")
    same("exists", await box.files.exists(name), True)
    await box.files.remove(name)
    same("exists after remove", await box.files.exists(name), False)


@step("watch")
@asynchronous
async def watch(box):
    name, seen = word(), []
    await box.files.make_dir(name)
    handle = await box.files.watch_dir(name, on_event=lambda one: seen.append((one.name, getattr(one.type, "value", one.type))))
    await box.files.write(f"{name}/new", "x")
    for _ in range(50):
        if ("new", "create") in seen:
            break
        await asyncio.sleep(limit(0.1))
    await handle.stop()
    same("the first event", seen[:1], [("new", "create")])


@step("kill")
@asynchronous
async def kill(box):
    same("kill", await AsyncSandbox.kill(box.sandbox_id), True)
    same("a second kill", await AsyncSandbox.kill(box.sandbox_id), False)
