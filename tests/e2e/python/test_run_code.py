"""The code interpreter."""

import base64
import re
import time

import pytest
from support import eventually
from e2b import NotFoundException, TimeoutException


def test_result_and_state(code):
    assert code.run_code("x = 20").text is None
    execution = code.run_code("x += 1\nx * 2")
    assert execution.text == "42"
    assert execution.error is None
    assert execution.execution_count >= 2


def test_output_is_split_and_streamed(code):
    heard = []
    begun = time.monotonic()
    execution = code.run_code(
        "import sys, time\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\n"
        "time.sleep(3)\nprint('three')",
        on_stdout=lambda message: heard.append((message.line, time.monotonic() - begun)),
    )
    assert "".join(execution.logs.stdout) == "one\nthree\n"
    assert "".join(execution.logs.stderr) == "two\n"
    assert heard[-1][1] - heard[0][1] > 2, "the first line came only with the last"


def test_an_error(code):
    execution = code.run_code("def f():\n    return 1 / 0\nf()")
    assert execution.error.name == "ZeroDivisionError"
    assert execution.error.value == "division by zero"
    # Coloured for terminals, as Jupyter sends it.
    assert "return 1 / 0" in re.sub(r"\x1b\[[0-9;]*m", "", execution.error.traceback)
    assert code.run_code("1 + 1").text == "2", "the kernel goes on"


def test_a_syntax_error(code):
    assert code.run_code("def broken(:").error.name == "SyntaxError"


def test_png_of_a_figure(code):
    execution = code.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
    assert execution.error is None, execution.error.traceback
    pictures = [result.png for result in execution.results if result.png]
    assert len(pictures) == 1
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG\r\n\x1a\n")


def test_chart_data_of_a_figure(code):
    execution = code.run_code(
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n"
        "ax.bar(['a', 'b'], [3, 5])\nax.set_title('Counts')\nplt.show()"
    )
    charts = [result.chart for result in execution.results if result.chart]
    assert len(charts) == 1
    assert charts[0].type.value == "bar" and charts[0].title == "Counts"
    assert [(bar.label, float(bar.value)) for bar in charts[0].elements] == [("a", 3.0), ("b", 5.0)]


def test_html_of_a_table(code):
    execution = code.run_code("import pandas as pd\npd.DataFrame({'n': [1, 2]})")
    assert "<table" in execution.results[0].html
    assert execution.results[0].is_main_result
    assert "n" in execution.text


@pytest.mark.parametrize(
    ("kind", "value"),
    [("HTML", "<b>bold</b>"), ("Markdown", "**bold**"), ("Latex", "$x^2$"), ("SVG", '<svg><g id="g"/></svg>'), ("Javascript", "1;")],
)
def test_display_objects(code, kind, value):
    execution = code.run_code(f"from IPython.display import {kind}\n{kind}({value!r})")
    assert getattr(execution.results[0], kind.lower()) == value


def test_json_result(code):
    execution = code.run_code("from IPython.display import JSON\nJSON({'a': [1, 2]})")
    assert execution.results[0].json == {"a": [1, 2]}


def test_several_results(code):
    execution = code.run_code("display(1)\ndisplay(2)\n3")
    assert [(r.text, r.is_main_result) for r in execution.results] == [("1", False), ("2", False), ("3", True)]


def test_shell_and_top_level_await(code):
    execution = code.run_code("!echo from the shell")
    assert "".join(execution.logs.stdout).strip() == "from the shell"
    assert code.run_code("import asyncio\nawait asyncio.sleep(0.01, 'awaited')").text == "awaited"


def test_cells_in_bash(code):
    execution = code.run_code("answer=$((6 * 7)); echo $answer", language="bash")
    assert execution.error is None
    assert "".join(execution.logs.stdout).strip() == "42"


def test_envs_are_the_calls_own(code):
    read = "import os\nos.environ.get('CALL_ONLY')"
    assert code.run_code(read, envs={"CALL_ONLY": "yes"}).text == "yes"
    assert code.run_code(read).text is None


def test_a_timeout_interrupts_the_cell(code):
    begun = time.monotonic()
    with pytest.raises(TimeoutException):
        code.run_code("import time\ninterrupted = False\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    interrupted = True", timeout=3)
    assert time.monotonic() - begun < 30
    eventually(lambda: code.run_code("interrupted").text == "True", seconds=60)


def test_contexts_are_apart(code):
    context = code.create_code_context(cwd="/tmp")
    assert (context.language, context.cwd) == ("python", "/tmp")
    code.run_code("mine = 'default'")
    code.run_code("mine = 'other'", context=context)
    assert code.run_code("mine").text == "default"
    assert code.run_code("mine", context=context).text == "other"
    assert code.run_code("import os\nos.getcwd()", context=context).text == "/tmp"
    assert context.id in [each.id for each in code.list_code_contexts()]

    code.restart_code_context(context)
    assert code.run_code("mine", context=context).error.name == "NameError"

    code.remove_code_context(context)
    assert context.id not in [each.id for each in code.list_code_contexts()]
    with pytest.raises(NotFoundException):
        code.run_code("1", context=context)


def test_a_kernel_that_dies_is_said_so_and_replaced(make):
    from e2b_code_interpreter import Sandbox

    sandbox = make("code-interpreter-v1", cls=Sandbox)
    context = sandbox.create_code_context()
    try:
        execution = sandbox.run_code("import os\nos._exit(9)", context=context)
        assert execution.error is not None
    except Exception as error:  # noqa: BLE001 - an HTTP error is as good, a hang is not
        assert "context" in str(error).lower() or "kernel" in str(error).lower(), error
    sandbox.restart_code_context(context)
    assert sandbox.run_code("6 * 7", context=context).text == "42"


def test_files_and_commands_see_the_same_disk(code):
    code.run_code("open('/home/user/by-kernel', 'w').write('from python')")
    assert code.files.read("/home/user/by-kernel") == "from python"
    assert code.commands.run("cat by-kernel").stdout == "from python"


def test_large_output(code):
    execution = code.run_code("for i in range(20000): print(i)")
    assert "".join(execution.logs.stdout) == "".join(f"{i}\n" for i in range(20000))


def test_the_data_packages_work(code):
    execution = code.run_code(
        "import numpy as np, pandas as pd, scipy.stats, sklearn.linear_model, sympy, PIL, openpyxl\n"
        "X = np.arange(10).reshape(-1, 1)\n"
        "model = sklearn.linear_model.LinearRegression().fit(X, 3 * X.ravel() + 1)\n"
        "round(float(model.coef_[0]), 6), round(float(model.intercept_), 6)"
    )
    assert execution.error is None, execution.error.traceback
    assert execution.text == "(3.0, 1.0)"
