#!/usr/bin/env python3
"""Writes an image's requirements.lock from its requirements.in.

    python3.11 guest/images/lock.py guest/images/code-interpreter-v1

Asks pip which wheels it would install for the image's CPython (bookworm's 3.11.2) on x86_64 with
glibc 2.36, and pins each with its version and SHA-256. Run it to take in newer versions; the builder itself only ever reads the lock.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

HEADER = "# Every wheel of the image, exactly: CPython 3.11.2, x86_64. Made from requirements.in by ../lock.py.\n"
PYTHON = "3.11.2"
GLIBC_MINOR = 36


def main(image: pathlib.Path) -> None:
    if sys.version_info[:2] != (3, 11):
        sys.exit("lock.py: run it with Python 3.11, the image's version: environment markers depend on it")
    with tempfile.TemporaryDirectory() as scratch:
        venv = pathlib.Path(scratch) / "venv"
        report = pathlib.Path(scratch) / "report.json"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(GLIBC_MINOR, 4, -1)]
        subprocess.run(
            [venv / "bin/pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:"]
            + ["--implementation=cp", "--abi=cp311", f"--python-version={PYTHON}", *platforms]
            + ["--platform=manylinux2014_x86_64", "--target", scratch, "--report", report]
            + ["-r", image / "requirements.in"],
            check=True,
        )
        found = json.loads(report.read_text())["install"]
    pins = sorted(
        (item["metadata"]["name"].lower().replace("_", "-"), item["metadata"]["version"],
         item["download_info"]["archive_info"]["hashes"]["sha256"])
        for item in found
    )
    lines = [f"{name}=={version} \\\n    --hash=sha256:{digest}\n" for name, version, digest in pins]
    (image / "requirements.lock").write_text(HEADER + "".join(lines))
    print(f"{image / 'requirements.lock'}: {len(pins)} wheels")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
