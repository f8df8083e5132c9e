"""What the measuring scripts share: histograms, quantiles with their intervals, and the files they leave."""

import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

from hdrh.histogram import HdrHistogram

# One microsecond to one hour, three significant digits.
LOWEST_US, HIGHEST_US, DIGITS = 1, 3_600_000_000, 3

# Fewest samples for a quantile to mean something.
SUPPORT = {50.0: 20, 95.0: 200, 99.0: 1_000}


class Clock:
    """Latencies of one clock: a histogram, and the samples themselves for the intervals."""

    def __init__(self, name: str, meaning: str):
        self.name, self.meaning = name, meaning
        self.samples_ns: list[int] = []
        self.histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)

    def add(self, ns: int) -> None:
        self.samples_ns.append(ns)
        self.histogram.record_value(max(LOWEST_US, ns // 1_000))

    def quantile_ms(self, percent: float) -> float:
        return self.histogram.get_value_at_percentile(percent) / 1_000

    def interval_ms(self, percent: float) -> tuple[float, float]:
        """95 % interval of a quantile from order statistics (normal approximation of the binomial)."""
        ordered, n, p = sorted(self.samples_ns), len(self.samples_ns), percent / 100
        spread = 1.96 * math.sqrt(n * p * (1 - p))
        low = max(0, math.floor(n * p - spread) - 1)
        high = min(n - 1, math.ceil(n * p + spread))
        return ordered[low] / 1e6, ordered[high] / 1e6

    def line(self) -> str:
        n = len(self.samples_ns)
        if n == 0:
            return f"{self.name:<11} no samples"
        parts = []
        for percent, least in SUPPORT.items():
            low, high = self.interval_ms(percent)
            mark = "" if n >= least else f" (not supported by n = {n})"
            parts.append(f"P{percent:g} {self.quantile_ms(percent):.1f} [{low:.1f}, {high:.1f}]{mark}")
        mean = statistics.fmean(self.samples_ns) / 1e6
        return f"{self.name:<11} {' · '.join(parts)} · mean {mean:.1f} · max {max(self.samples_ns) / 1e6:.1f} ms"

    def save(self, folder: pathlib.Path) -> None:
        with open(folder / f"{self.name}.hgrm", "wb") as file:
            self.histogram.output_percentile_distribution(file, 1_000)


class Samples:
    """Raw samples, a line of JSON each, written as they come."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = open(folder / "samples.jsonl", "w", encoding="utf-8", buffering=1)

    def add(self, **sample) -> None:
        print(json.dumps(sample), file=self.file)


class Progress:
    """A line that tells how far it is, now and then where nobody watches."""

    def __init__(self, total: int):
        self.total, self.shown = total, 0.0

    def tell(self, done: int, text: str) -> None:
        watched = sys.stdout.isatty()
        now = time.monotonic()
        if now - self.shown < (0.2 if watched else 15) and done < self.total:
            return
        self.shown = now
        end = "\r" if watched and done < self.total else "\n"
        print(f"{done}/{self.total} {text}", end=end, flush=True)


def on_host(prefix: list[str], script: str, *arguments: str) -> str:
    """Runs a Python program on the daemon's host and gives what it prints."""
    command = [*prefix, "/usr/bin/python3", "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
