"""What the planning of an extraction in shards takes, which one process does for all rows.

    python benchmarks/planning.py [--rows 100000 1000000 3000000] [--columns 0 4 22]
        [--kind parquet]

A table of random positions with so many columns more (a text, an id, the rest numbers with a
fraction) is planned in a process of its own: seconds of its CPU, and the most memory that it held
beyond that of a plan of 1,000 rows. The last column is what 10⁸ rows would take by those.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.pipeline.shards.planning import planned
from napari_synapse_cl.runs.shards import Places

SHAPE = (4096, 4096, 4096)
FEW, MANY = 1000, 10**8
MIB = 2**20


def write_table(path: Path, n: int, n_more: int) -> None:
    random = np.random.default_rng(n)
    table = pd.DataFrame(random.integers(8, np.array(SHAPE) - 8, (n, 3)), columns=list("zyx"))
    for number in range(n_more):
        if number == 0:
            values = random.choice(["excitatory", "inhibitory"], n)
        else:
            values = random.integers(2**60, size=n) if number == 1 else random.random(n)
        table[f"more{number}"] = values
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)


def plan(folder: Path, table: Path) -> None:
    """Plan in this process, and print what it took of CPU and memory."""
    settings = {"checkpoint": folder / "n.pt", "image": folder / "v.zarr", "synapses": table}
    small = {"crop_size": 8, "layer_num": 3, "voxel_size": 10, "device": "cpu", "workers": 1}
    output = folder / f"{table.stem}.out"
    output.mkdir()
    config = Config.from_values({**settings, **small, "extract_only": True, "output": output})
    before = time.process_time()
    for _ in planned(Places(output), config):
        pass
    seconds = time.process_time() - before
    # Linux alone tells it; what getrusage tells may be that of the process which started this one.
    told = Path("/proc/self/status").read_text(encoding="utf-8").partition("VmHWM:")[2]
    print(seconds, int(told.split()[0]) * 1024)


def measured(folder: Path, n: int, n_more: int, kind: str) -> tuple[float, int]:
    """Return the seconds of the CPU, and the most memory, of planning in a process of its own."""
    table = folder / f"t{n}-{n_more}.{kind}"
    write_table(table, n, n_more)
    command = [sys.executable, __file__, "--plan", str(folder), str(table)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), int(told[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 3 * 10**6])
    parser.add_argument("--columns", type=int, nargs="+", default=[0, 4, 22])
    parser.add_argument("--kind", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--plan", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan is not None:
        plan(*options.plan)
        return
    print("| Rows | columns beside z, y, x | CPU s | µs a row | MiB | bytes a row | GB of 10⁸ |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Nothing is read of it: no chunk is there.
        zarr.create_array(folder / "v.zarr", shape=SHAPE, dtype="u1", chunks=(64, 64, 64))
        network = make_model(Config.from_values({"fmaps": 2, "n_convolutions": (1, 1)}))
        torch.save(network.backbone.state_dict(), folder / "n.pt")
        for n_more in options.columns:
            _, least = measured(folder, FEW, n_more, options.kind)
            for n in options.rows:
                seconds, most = measured(folder, n, n_more, options.kind)
                a_row = (most - least) / n
                cells = [f"{n:,}", str(n_more), f"{seconds:.2f}", f"{seconds / n * 1e6:.1f}"]
                cells += [
                    f"{(most - least) / MIB:,.0f}",
                    f"{a_row:.0f}",
                    f"{a_row * MANY / 1e9:.0f}",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
