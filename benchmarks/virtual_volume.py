"""How much memory a training and an extraction take of a volume of 20,000³ voxels on a server.

    python benchmarks/virtual_volume.py [--synapses 100 1000] [--side 20000] [--crop_size 32]
        [--fmaps 8] [--num_epochs 1]

A server on this machine, in a process of its own, makes up the chunks of a neuroglancer
*precomputed* volume as they are asked for: 8 TB that are nowhere. The command line trains on N
random positions in it and extracts their features, as a child process, once with a cache of crops
and once reading every crop at every step (``--cache_limit 0``).

For each: how long it took, the most memory that the process held ("RSS" is what ``top`` shows,
"anonymous" its part without mapped files, known on Linux alone), and what came from the server.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from extraction_memory import MIB, Peaks

CHUNK = 64
KEY = "8_8_8"
TEXTURE = np.random.default_rng(0).integers(0, 255, 2 * CHUNK**3, dtype=np.uint8)


class Chunks(BaseHTTPRequestHandler):
    """Makes up what it is asked for; the same each time."""

    protocol_version = "HTTP/1.1"
    side = 0
    sent = 0

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Send the description of the volume, or a chunk."""
        if self.path == "/info":
            self._send(json.dumps(info(self.side)).encode())
        elif self.path == "/sent":
            self._send(str(Chunks.sent).encode())
        elif found := re.fullmatch(rf"/{KEY}/(\d+)-(\d+)_(\d+)-(\d+)_(\d+)-(\d+)", self.path):
            x0, x1, y0, y1, z0, z1 = map(int, found.groups())
            start = hash((x0, y0, z0)) % CHUNK**3
            content = TEXTURE[start : start + (x1 - x0) * (y1 - y0) * (z1 - z0)].tobytes()
            Chunks.sent += len(content)
            self._send(content)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def info(side: int) -> dict[str, object]:
    scale = {
        "key": KEY,
        "size": [side] * 3,
        "resolution": [8, 8, 8],
        "voxel_offset": [0, 0, 0],
        "chunk_sizes": [[CHUNK] * 3],
        "encoding": "raw",
    }
    return {"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [scale]}


def serve(side: int) -> None:
    Chunks.side = side
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chunks)
    print(server.server_port, flush=True)
    server.serve_forever()


def run(*flags: str) -> tuple[Peaks, float]:
    """Run a job; return its peaks, and how long it took."""
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "napari_synapse_cl", "--events", "jsonl", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
        )
        peaks = Peaks()
        follower = threading.Thread(target=peaks.follow, args=(psutil.Process(child.pid),))
        follower.start()
        follower.join()
        if child.wait():
            errors.seek(0)
            raise RuntimeError(errors.read())
        return peaks, time.perf_counter() - start


def measure(options: argparse.Namespace, port: int, folder: Path) -> None:
    import urllib.request

    url = f"http://127.0.0.1:{port}"
    print(
        f"{'crops':10} {'synapses':>8} {'seconds':>8} {'RSS MiB':>8} {'anonymous MiB':>14} "
        f"{'from the server, MiB':>21}"
    )
    for kind, limit in (("cached", 16), ("streamed", 0)):
        for n in options.synapses:
            table = folder / f"{n}.csv"
            inner = np.random.default_rng(1).integers(200, options.side - 200, (n, 3))
            pd.DataFrame(inner, columns=["z", "y", "x"]).to_csv(table, index=False)
            settings = {
                "image": f"precomputed://{url}",
                "synapses": table,
                "output": folder / f"{kind}_{n}",
                "cache_limit": limit,
                "batch_size": 16,
                "device": "cpu",
                "precision": "float32",
                **{name: getattr(options, name) for name in ("crop_size", "fmaps", "num_epochs")},
            }
            flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
            before = int(urllib.request.urlopen(f"{url}/sent").read())
            peaks, seconds = run(*flags, "--no-figures")
            sent = int(urllib.request.urlopen(f"{url}/sent").read()) - before
            anonymous = "?" if peaks.anonymous is None else round(peaks.anonymous / MIB)
            print(
                f"{kind:10} {n:8} {seconds:8.1f} {peaks.rss / MIB:8.0f} {anonymous:>14} "
                f"{sent / MIB:21.0f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synapses", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--crop_size", type=int, default=32)
    parser.add_argument("--fmaps", type=int, default=8)
    parser.add_argument("--num_epochs", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.side)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, __file__, "--serve", "--side", str(options.side)],
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            measure(options, int(server.stdout.readline()), Path(folder))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
