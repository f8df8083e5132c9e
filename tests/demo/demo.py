#!/usr/bin/env python3
"""A sandbox's whole life with E2B's own Python SDK, each step timed and checked.

Needs E2B_API_URL, E2B_API_KEY and E2B_SANDBOX_URL as `cargo xtask up` prints them, and writes one
file, the chart, to the path given (default: chart.png in the current folder).
"""

import base64
import pathlib
import statistics
import struct
import sys

from e2b import CommandExitException
from e2b_code_interpreter import Sandbox
from steps import Steps, expect

# Mean temperature of each month, °C: what the sandbox is to average and draw.
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
CELSIUS = [0.6, 1.4, 5.2, 9.8, 14.6, 17.8, 19.9, 19.4, 15.1, 10.1, 4.9, 1.7]
CSV = "month,celsius\n" + "".join(f"{m},{c}\n" for m, c in zip(MONTHS, CELSIUS))

ANALYSIS = """
import pandas as pd
import matplotlib.pyplot as plt

data = pd.read_csv("/home/user/weather/temperature.csv")
mean = data["celsius"].mean()
warmest = data.loc[data["celsius"].idxmax(), "month"]
print(f"{len(data)} months, mean {mean:.2f}, warmest {warmest}")

colours = ["tab:red" if c > mean else "tab:blue" for c in data["celsius"]]
plt.figure(figsize=(8, 4))
plt.bar(data["month"], data["celsius"], color=colours)
plt.axhline(mean, color="black", linewidth=1, linestyle="--")
plt.title("Mean temperature by month, drawn in a microVM")
plt.ylabel("°C")
plt.show()
"""


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise AssertionError(f"no PNG: starts with {data[:16]!r}")
    return struct.unpack(">II", data[16:24])


def main(chart: pathlib.Path) -> None:
    steps = Steps("Python SDK")
    with steps.step("create a sandbox") as note:
        sandbox = Sandbox.create("code-interpreter-v1", timeout=900, allow_internet_access=False)
        note(sandbox.sandbox_id)
    try:
        live(sandbox, steps, chart)
    except BaseException:
        sandbox.kill()
        raise
    with steps.step("kill the sandbox"):
        expect(True, sandbox.kill(), "kill")
        expect(False, sandbox.is_running(), "still running")
    steps.end()
    print(f"\nThe chart: {chart.resolve()}")


def live(sandbox: Sandbox, steps: Steps, chart: pathlib.Path) -> None:
    with steps.step("run a shell command") as note:
        result = sandbox.commands.run("uname -sr; id -un; nproc; sudo id -un")
        kernel, user, _, root = result.stdout.split("\n")[:4]
        expect(("user", "root"), (user, root), "who runs it, and who with sudo")
        note(f"{kernel}, as {user}")

    with steps.step("write, list and read files") as note:
        sandbox.files.write("/home/user/weather/temperature.csv", CSV)
        sandbox.files.write("/home/user/weather/raw.bin", bytes(range(256)))
        entries = sandbox.files.list("/home/user/weather")
        listed = {entry.name: entry.size for entry in entries}
        expect({"temperature.csv": len(CSV), "raw.bin": 256}, listed, "the listing")
        expect(CSV, sandbox.files.read("/home/user/weather/temperature.csv"), "the text read back")
        raw = sandbox.files.read("/home/user/weather/raw.bin", format="bytes")
        expect(bytes(range(256)), bytes(raw), "the bytes read back")
        note(", ".join(f"{name} {size} B" for name, size in sorted(listed.items())))

    with steps.step("load the CSV, compute and draw") as note:
        execution = sandbox.run_code(ANALYSIS)
        if execution.error:
            raise AssertionError(execution.error.traceback)
        wanted = f"12 months, mean {statistics.mean(CELSIUS):.2f}, warmest Jul"
        expect(wanted, "".join(execution.logs.stdout).strip(), "what it printed")
        note(wanted)

    with steps.step("save the chart on this machine") as note:
        pictures = [result.png for result in execution.results if result.png]
        expect(1, len(pictures), "pictures drawn")
        picture = base64.b64decode(pictures[0])
        width, height = png_size(picture)
        if width < 300 or height < 150:
            raise AssertionError(f"the chart is only {width} × {height} pixels")
        chart.write_bytes(picture)
        note(f"PNG, {width} × {height}, {len(picture)} B")

    with steps.step("state is kept between two calls"):
        execution = sandbox.run_code("warmest")
        expect("Jul", execution.text, "the variable of the call before")

    with steps.step("egress is refused") as note:
        # An address that belongs to nobody (RFC 5737): a leak would hang instead of being refused.
        try:
            sandbox.commands.run("curl --silent --show-error --max-time 10 http://192.0.2.1/")
        except CommandExitException as error:
            # curl's 7: could not connect; 28 would be the time-out.
            expect(7, error.exit_code, "curl's exit code")
            note(error.stderr.strip())
        else:
            raise AssertionError("the connection was made")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "chart.png"))
