"""Check what was built, install it into an empty environment, and start each of its entry points.

    python tools/try_package.py FOLDER

FOLDER holds one wheel and one source distribution of one version. Told is what an installation adds
to an environment that has napari and PyTorch: packages, and MB on the disk.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
START = """
import sys
from npe2 import PluginManifest
manifest = PluginManifest.from_distribution("napari-synapse-cl")
manifest.validate_imports()
print(len(manifest.contributions.commands), "commands of the manifest can be imported")
assert "torch" not in sys.modules, "the manifest's modules import PyTorch"
"""


def run(*command: object) -> None:
    """Run a command, and show it and the end of what it prints."""
    parts = [str(part) for part in command]
    print("$", *(part.strip().splitlines()[0] for part in parts), flush=True)
    done = subprocess.run(parts, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    print(*done.stdout.splitlines()[-3:], sep="\n", flush=True)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Check, install and start."""
    folder = Path(sys.argv[1])
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    with tempfile.TemporaryDirectory() as name:
        environment = Path(name)
        venv.create(environment, with_pip=True)
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        python = scripts / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS]

        def installed() -> set[str]:
            listed = subprocess.check_output([python, "-m", "pip", "freeze"], encoding="utf-8")
            return {line.split("==")[0].split(" @ ")[0] for line in listed.splitlines()}

        # The window's modules need some Qt to be imported.
        run(*install, "napari[pyqt6]", "torch")
        before, size = installed(), size_of(environment)
        run(*install, wheel)
        added = sorted(installed() - before)
        megabytes = (size_of(environment) - size) / 1e6
        print(f"beside napari and torch: {megabytes:.0f} MB, {len(added)} packages:", *added)
        run(scripts / "synapse-cl", "--version")
        run(python, "-m", "napari_synapse_cl", "--help")
        run(scripts / "npe2", "validate", "napari-synapse-cl")
        run(python, "-c", START)


if __name__ == "__main__":
    main()
