"""What several test files use."""

import time


def eventually(check, *, seconds: float = 20, every: float = 0.1):
    """Calls `check` until it returns something true; returns that. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {seconds} s")
        time.sleep(every)
