"""Steps of a demonstration: each printed with its time, each checked."""

import contextlib
import sys
import time


class Steps:
    """Numbers, times and prints steps. Leaving one with an error ends the program with status 1."""

    def __init__(self, title: str) -> None:
        print(f"\n{title}", flush=True)
        self.count = 0
        self.started = time.monotonic()

    @contextlib.contextmanager
    def step(self, what: str):
        self.count += 1
        notes: list[str] = []
        begun = time.monotonic()
        try:
            yield notes.append
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the step has failed
            took = (time.monotonic() - begun) * 1000
            print(f"  ✗ {self.count:2}  {what:<44} {took:8.0f} ms", flush=True)
            print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        took = (time.monotonic() - begun) * 1000
        print(f"  ✓ {self.count:2}  {what:<44} {took:8.0f} ms", flush=True)
        for note in notes:
            for line in note.splitlines():
                print(f"         {line}", flush=True)

    def end(self) -> None:
        print(f"  {self.count} steps in {time.monotonic() - self.started:.1f} s", flush=True)


def expect(wanted, got, what: str) -> None:
    """Fails the step when a result is not the right one."""
    if wanted != got:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}")
