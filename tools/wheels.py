"""Look whether the versions of constraints.txt have wheels for each system and version of Python.

    python tools/wheels.py

Nothing is installed: uv reads what the package index says of each wheel. Told is a line for each
system and version, and the exit code is 1 where something is missing.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEMS = {
    "Linux": "x86_64-manylinux_2_34",
    "Windows": "x86_64-pc-windows-msvc",
    "macOS": "aarch64-apple-darwin",
}
MACOS = "14.0"
"""The first for which PyTorch has wheels."""
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def missing(system: str, version: str) -> str:
    """Return what cannot be installed, in uv's words; nothing if all can."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--extra", "dev"]
    command += ["--constraint", "constraints.txt", "--only-binary", ":all:"]
    command += ["--python-platform", SYSTEMS[system], "--python-version", version]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    return done.stderr.strip() if done.returncode else ""


def main() -> int:
    """Look, and tell."""
    found = {(s, v): missing(s, v) for s in SYSTEMS for v in VERSIONS}
    for (system, version), problem in found.items():
        print(f"{system}, Python {version}: {problem or 'all there'}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
