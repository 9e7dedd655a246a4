"""How far features in bfloat16 are from those in float32, and how much faster they come.

    python benchmarks/extraction_precision.py [--crop_size 80] [--checkpoint FILE] [--layers 20 …]

On the sample volume; without a checkpoint with an untrained network whose batch norms have the
statistics of its crops. For each layer: the cosine of the pooled vectors of the two precisions,
lowest and median of all synapses, as they are and less their mean over the synapses, which most of
each vector is; and the relative error of the map, unpooled, as a whole. Times are medians of
interleaved repeats.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range

PRECISIONS = ("float32", "bfloat16")


def settled(architecture: Architecture, crops: torch.Tensor) -> Vgg3D:
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(architecture)
    with torch.no_grad():
        for _ in range(10):
            network.features(to_network_range(crops[torch.randint(len(crops), (4,))]))
    return network


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crop_size", type=int, default=80)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 12, 20, 30])
    parser.add_argument("--synapses", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    shape = (options.crop_size,) * 3
    config = Config(crop_size=shape)
    source = open_dataset(config).streamed(config, shape)
    crops = torch.from_numpy(source.read(range(min(options.synapses, len(source)))))
    if options.checkpoint:
        backbone = load_backbone(options.checkpoint)
        architecture, network = backbone.architecture, backbone.network
    else:
        architecture = Architecture.from_config(Config())
        network = settled(architecture, crops)

    def read(precision: str, pooling: str) -> dict[int, np.ndarray]:
        readout = Readout(
            network,
            architecture,
            options.layers,
            shape,
            pooling=pooling,
            device=torch.device("cpu"),
            precision=precision,
        )
        parts = [readout.read(crop[None]) for crop in crops]
        return {n: np.concatenate([part[n] for part in parts]) for n in options.layers}

    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(options.repeats):
        for precision in PRECISIONS:
            start = time.perf_counter()
            read(precision, "mean")
            seconds[precision].append(time.perf_counter() - start)
    vectors = {precision: read(precision, "mean") for precision in PRECISIONS}
    maps = {precision: read(precision, "none") for precision in PRECISIONS}
    print("layer  cosine: lowest  median  centred: lowest  median  error of the map")
    for n in options.layers:
        exact, fast = (vectors[precision][n] for precision in PRECISIONS)
        plain, centred = cosines(exact, fast), cosines(exact - exact.mean(0), fast - fast.mean(0))
        whole, rough = (maps[precision][n] for precision in PRECISIONS)
        error = np.linalg.norm(whole - rough) / np.linalg.norm(whole)
        print(
            f"{n:5}  {plain.min():14.6f}  {np.median(plain):6.6f}  {centred.min():14.5f}  "
            f"{np.median(centred):6.5f}  {error:15.2%}"
        )
    slow, fast = (median(seconds[precision]) / len(crops) for precision in PRECISIONS)
    print(f"seconds a crop: float32 {slow:.3f}, bfloat16 {fast:.3f}, ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
