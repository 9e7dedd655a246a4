"""See to the system libraries that Qt needs on Linux, and to a virtual display for tests.

As root on Debian or Ubuntu they are installed; elsewhere it is said exactly what to install.
"""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys

DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-shape.so.0": "libxcb-shape0",
}
DISPLAY_PROGRAMS = {"Xvfb": "xvfb", "xauth": "xauth"}


def missing_packages(*, virtual_display: bool) -> list[str]:
    """Return the Debian packages whose library or program is not there."""
    missing = []
    for library, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    if virtual_display:
        missing += [p for program, p in DISPLAY_PROGRAMS.items() if not shutil.which(program)]
    return missing


def main() -> int:
    """Install what is missing, or say what is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--virtual-display", action="store_true", help="also Xvfb, for tests")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages(virtual_display=options.virtual_display)
    if not missing:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        print("Installing system libraries:", *missing, flush=True)
        if (
            subprocess.run(["apt-get", "update", "-qq"], env=environment).returncode == 0
            and subprocess.run([*install, "-qq"], env=environment).returncode == 0
            and not missing_packages(virtual_display=options.virtual_display)
        ):
            return 0
    print(
        "System libraries are missing that napari's window needs. On Debian or Ubuntu run\n"
        f"    sudo apt-get update && sudo {' '.join(install)}\n"
        "and then this command again. Elsewhere, install the packages that provide: "
        + ", ".join(library for library, package in DEBIAN_PACKAGES.items() if package in missing),
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
