"""Check what was built, install it into an empty environment, and start each of its entry points.

    python tools/try_package.py FOLDER

FOLDER holds one wheel and one source distribution of one version. Told is what an installation adds
to an environment that has napari and PyTorch: packages, and MB on the disk.
"""

import json
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

SIZES = """
import json
from importlib.metadata import distributions
def size(distribution):
    files = [file.locate() for file in distribution.files or []]
    return sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps({one.metadata["Name"]: size(one) for one in distributions()}))
"""


def run(*command: object) -> None:
    """Run a command, and show it and the end of what it prints."""
    parts = [str(part) for part in command]
    print("$", *(part.strip().splitlines()[0] for part in parts), flush=True)
    done = subprocess.run(parts, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    print(*done.stdout.splitlines()[-3:], sep="\n", flush=True)


def installed(python: Path) -> dict[str, int]:
    """Return the bytes of the files of each package of an environment."""
    told = subprocess.check_output([python, "-c", SIZES], encoding="utf-8")
    return dict(json.loads(told))


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

        # The window's modules need some Qt to be imported.
        run(*install, "napari[pyqt6]", "torch")
        before = installed(python)
        run(*install, wheel)
        added = {name: size for name, size in installed(python).items() if name not in before}
        print(
            f"beside napari and torch: {sum(added.values()) / 1e6:.0f} MB in {len(added)} packages"
        )
        for name in sorted(added, key=lambda name: -added[name]):
            print(f"{added[name] / 1e6:8.1f} {name}")
        run(scripts / "synapse-cl", "--version")
        run(python, "-m", "napari_synapse_cl", "--help")
        run(scripts / "npe2", "validate", "napari-synapse-cl")
        run(python, "-c", START)


if __name__ == "__main__":
    main()
