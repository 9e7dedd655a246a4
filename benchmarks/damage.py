"""Damage the files of a small run in many ways, and count what the program makes of it.

``python benchmarks/damage.py --cases 300 --seed 0`` prints a table of outcomes by file and kind of
damage. "refused" is one line, "told" is a warning beside a result, "equal" the very result of the
undamaged run. "silent" is another result without a word, "traceback" speaks for itself: none of
both should be. Digits of logs, which have no check sums, are counted apart.

``--full-disk FOLDER`` instead fills a small disk: FOLDER is one of few MiB, such as a tmpfs.
"""

import argparse
import gc
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from damages import LOGS, SETTINGS, Campaign, Case, Outcome
from napari_synapse_cl.cli import main as synapse_cl
from napari_synapse_cl.runs.folder import RunFolder

KINDS = ("refused", "told", "equal", "silent log", "silent", "several lines", "traceback")
FILLER = "filler"


def main() -> None:
    """Run the campaign that the flags name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", type=Path, default=None, metavar="FOLDER")
    options = parser.parse_args()
    if options.full_disk is not None:
        fill(options.full_disk)
        return
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder))
        outcomes = []
        for case in campaign.cases(options.cases, options.seed):
            outcome = campaign.outcome(case)
            outcomes.append((case, outcome))
            if outcome.kind in ("silent", "several lines", "traceback"):
                print(f"{outcome.kind}: {case}: {outcome.text:.200}", flush=True)
    for title, key in (("file", "file"), ("kind", "kind")):
        counts: dict[str, Counter[str]] = {}
        for case, outcome in outcomes:
            counts.setdefault(getattr(case, key), Counter())[_counted_as(case, outcome)] += 1
        _print_table(title, counts)


def _counted_as(case: Case, outcome: Outcome) -> str:
    return "silent log" if outcome.kind == "silent" and case.file in LOGS else outcome.kind


def _print_table(title: str, counts: dict[str, Counter[str]]) -> None:
    print(f"\n{title:44}" + "".join(f"{kind:>15}" for kind in KINDS))
    counts["all"] = sum(counts.values(), Counter())
    for name, of_name in counts.items():
        print(f"{name:44}" + "".join(f"{of_name[kind]:15}" for kind in KINDS))


def fill(folder: Path) -> None:
    """Train on a disk with ever more room, and go on once there is enough."""
    data = folder.with_name(folder.name + "-data")
    unlike = ("--no-figures", "--feature_format", "npz")
    settings = [text for text in SETTINGS if text not in unlike] + ["--num_epochs", "3"]
    data.mkdir(exist_ok=True)
    campaign = Campaign(Path(tempfile.mkdtemp(dir=data)))
    for format_ in ("csv", "parquet", "npz", "h5ad"):
        for kib in (4, 16, 32, 64, 128, 256, 384, 512, 768):
            shutil.rmtree(folder / "run", ignore_errors=True)
            # Files that are mapped into memory take room for as long as they are.
            gc.collect()
            room = shutil.disk_usage(folder).free - kib * 1024
            (folder / FILLER).write_bytes(bytes(room))
            flags = [*campaign.data, *settings, "--output", str(folder / "run")]
            flags += ["--feature_format", format_, "--export", "pt", "safetensors"]
            print(f"{format_}, {kib} KiB: ", end="", flush=True)
            first = synapse_cl(flags)
            (folder / FILLER).unlink()
            begun = RunFolder(folder / "run").holds_run
            more = ["--overwrite", *(["--resume"] if begun else [])]
            again = synapse_cl([*flags, *more]) if first else 0
            print(f"exit code {first}, then {again}", flush=True)


if __name__ == "__main__":
    main()
