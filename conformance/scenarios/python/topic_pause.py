"""Pause and resume."""

from e2b import Sandbox

from harness import Blocked, generation, same, step, word


def paused(topic):
    box, name = topic.needed(), word()
    box.files.write(name, "kept")
    try:
        box.pause() if generation() >= 4 else box.beta_pause()
    except Exception as error:
        raise Blocked(f"pause: {type(error).__name__}: {error}") from error
    return box, name


@step("pause")
def pause(topic):
    box = topic.needed()
    box.pause() if generation() >= 4 else box.beta_pause()
    same("is_running", box.is_running(), False)
    state = box.get_info().state
    same("state", getattr(state, "value", state), "paused")


@step("resume")
def resume(topic):
    box, name = paused(topic)
    again = Sandbox.connect(box.sandbox_id)
    same("is_running", again.is_running(), True)
    same("a file from before", again.files.read(name), "kept")
    same("stdout", again.commands.run("echo again").stdout, "again\n")


@step("same-handle")
def same_handle(topic):
    box, name = paused(topic)
    box.connect()
    same("a file from before, by the old handle", box.files.read(name), "kept")


@step("twice")
def twice(topic):
    box, _ = paused(topic)
    same("a second pause", box.pause(), False)
