"""Code in a kernel, with e2b_code_interpreter."""

import os

from e2b_code_interpreter import Sandbox

from harness import Blocked, expect, same, step


def box(topic):
    if not hasattr(topic, "code"):
        try:
            topic.code = topic.create(Sandbox, template=os.environ["E2B_CONFORMANCE_CODE_TEMPLATE"])
        except Exception as error:
            raise Blocked(f"Sandbox.create: {type(error).__name__}: {error}") from error
    return topic.code


@step("result")
def result(topic):
    execution = box(topic).run_code("1 + 1")
    same("error", execution.error, None)
    same("text", execution.text, "2")


@step("logs")
def logs(topic):
    execution = box(topic).run_code('import sys\nprint("out")\nprint("err", file=sys.stderr)')
    same("stdout", "".join(execution.logs.stdout), "out\n")
    same("stderr", "".join(execution.logs.stderr), "err\n")


@step("error")
def error(topic):
    execution = box(topic).run_code('raise ValueError("wrong")')
    expect(execution.error is not None, "an error", "none")
    same("error's name and value", (execution.error.name, execution.error.value), ("ValueError", "wrong"))
    expect("ValueError" in str(execution.error.traceback), "a traceback", execution.error.traceback)
    expect(isinstance(execution.error.traceback, str), "the traceback as text", type(execution.error.traceback))


@step("state")
def state(topic):
    box(topic).run_code("x = 41")
    same("text", box(topic).run_code("x + 1").text, "42")


@step("context")
def context(topic):
    own = box(topic).create_code_context()
    box(topic).run_code("y = 1", context=own)
    execution = box(topic).run_code("y")
    expect(execution.error is not None, "contexts apart: NameError", execution.text)
    same("error's name", execution.error.name, "NameError")


@step("callback")
def callback(topic):
    seen = []
    box(topic).run_code('print("out")', on_stdout=lambda message: seen.append(message.line))
    same("stdout by callback", "".join(seen), "out\n")
