"""What all scenarios share: steps, what they expect, the sandbox of a topic, and what differs between versions."""

import json
import os
import sys
import time
import traceback
import uuid

import e2b
from e2b import Sandbox

STEPS = {}
_OUT = sys.stdout
# An SDK or a callback that prints must not break the lines of results.
sys.stdout = sys.stderr


class Mismatch(Exception):
    def __init__(self, expected, actual):
        super().__init__(f"expected {expected}, got {actual}")
        self.expected, self.actual = str(expected), str(actual)


class Blocked(Exception):
    """Something that the step needs first did not work."""


def step(name):
    def kept(function):
        STEPS.setdefault(function.__module__, []).append((name, function))
        return function

    return kept


def expect(holds, expected, actual):
    if not holds:
        raise Mismatch(expected, actual)


def same(what, actual, wanted):
    expect(actual == wanted, f"{what}: {wanted!r}", repr(actual))


def raises(kinds, function, *args, **kwargs):
    """What it raises, which must be of these kinds."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        result = function(*args, **kwargs)
    except kinds as error:
        return error
    except Exception as error:
        raise Mismatch(names, f"{type(error).__name__}: {error}") from error
    raise Mismatch(names, f"no exception, but {result!r}")


def generation():
    return int(os.environ["E2B_CONFORMANCE_GENERATION"])


def limit(seconds):
    return seconds * float(os.environ.get("E2B_CONFORMANCE_PATIENCE", "1"))


def word():
    return uuid.uuid4().hex[:12]


def exception(name):
    """An exception class of newer versions, or the one that older versions raise in its place."""
    return getattr(e2b, name, None) or e2b.SandboxException


class Topic:
    """Sandboxes that the steps of a topic use; killed at its end."""

    def __init__(self):
        self.made = []
        self._shared = None

    def options(self, **extra):
        metadata = {os.environ["E2B_CONFORMANCE_LABEL"]: os.environ["E2B_CONFORMANCE_RUN"]}
        metadata.update(extra.pop("metadata", {}))
        options = {
            "template": os.environ["E2B_CONFORMANCE_TEMPLATE"],
            "timeout": int(limit(120)) + 180,
            "metadata": metadata,
        }
        if limit(1) > 1:
            options["request_timeout"] = limit(30)
        options.update(extra)
        return options

    def create(self, kind=Sandbox, **extra):
        """A sandbox, as a user of this version makes one."""
        options = self.options(**extra)
        box = kind(**options) if generation() < 3 else kind.create(**options)
        return self.keep(box)

    def keep(self, box):
        self.made.append(box)
        for name in ("_envd_access_token", "traffic_access_token"):
            token = getattr(box, name, None)
            if isinstance(token, str):
                say({"secret": token})
        return box

    def needed(self, **extra):
        """A sandbox as a means: without it the step is not tried."""
        try:
            return self.create(**extra)
        except Exception as error:
            raise Blocked(f"Sandbox.create: {type(error).__name__}: {error}") from error

    def shared(self):
        if self._shared is None:
            self._shared = self.needed()
        return self._shared

    def tidy(self, all_of_them=False):
        """Kills what a step made for itself, so that servers with few places are not filled."""
        kept = [] if all_of_them else [self._shared, getattr(self, "code", None)]
        for box in [box for box in self.made if not any(box is one for one in kept)]:
            self.made.remove(box)
            try:
                Sandbox.kill(box.sandbox_id)
            except Exception:
                pass  # the suite kills by label what is left


def say(line):
    _OUT.write(json.dumps(line) + "\n")
    _OUT.flush()


def run(job, module, wanted):
    topic = Topic()
    name = module.removeprefix("topic_")
    for short, function in STEPS.get(module, []):
        step_id = f"{name}-{short}"
        if wanted is not None and step_id not in wanted:
            continue
        line = {"job": job, "step": step_id, "ok": True}
        since = time.monotonic()
        try:
            function(topic)
        except Mismatch as error:
            line.update(ok=False, expected=error.expected, actual=error.actual)
            if error.__cause__ is not None:
                line["detail"] = "".join(traceback.format_exception(error.__cause__))
        except Blocked as error:
            line.update(ok=None, actual=str(error), detail=traceback.format_exc())
        except Exception as error:
            line.update(
                ok=False,
                expected="no exception",
                actual=f"{type(error).__name__}: {error}",
                detail=traceback.format_exc(),
            )
        line["ms"] = (time.monotonic() - since) * 1000
        say(line)
        topic.tidy()
    topic.tidy(all_of_them=True)
