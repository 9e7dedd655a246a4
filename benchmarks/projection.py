"""How long very many synapses take on several machines, by the rate of one.

    python benchmarks/projection.py [--synapses 100000000] [--trained_per_second 0.71]
        [--extracted_per_second 5.29] [--tflops 50] [--machines 1 8 64]
        [--planning 3] [--finishing 18]

Crops of 80³ and the default network, by hours = synapses / (synapses per second of one machine ×
machines) / 3600: an epoch of training, and the extraction of layer 20. The rates of one machine are
by default those that ``benchmarks/speed`` measured on two cores of an AMD EPYC processor in
bfloat16; for a GPU, give what it measures there.

A GPU that was not measured is reckoned by the operations of the convolutions, which are counted
here, and by how many of them it gets done each second, which is assumed: ``--tflops``.

An extraction in shards is planned and finished by one process alone, which takes so many
microseconds of a CPU for each synapse as ``benchmarks/shards.py alone`` tells: its hours are those
of the extraction and (planning + finishing) · synapses, on however many machines.
"""

import argparse
from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D

FEATURES = 96
"""Channels of layer 20, in a table."""
SIZE = 80


def operations(network: nn.Sequential, *, with_gradients: bool) -> int:
    """Return how many additions and multiplications a crop takes, on the meta device."""
    with torch.device("meta"):
        crop = torch.empty(1, 1, SIZE, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(with_gradients):
        result = network(crop)
        if with_gradients:
            result.sum().backward()
    return int(counter.get_total_flops())


def show(job: str, rate: float, hours: list[float]) -> None:
    print(f"| {job} | {rate:,.2f} | {' | '.join(f'{h:,.1f}' for h in hours)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synapses", type=int, default=10**8)
    parser.add_argument("--trained_per_second", type=float, default=0.71)
    parser.add_argument("--extracted_per_second", type=float, default=5.29)
    parser.add_argument("--tflops", type=float, default=50, help="of a GPU, in the convolutions")
    parser.add_argument("--planning", type=float, default=3, help="in microseconds a synapse")
    parser.add_argument("--finishing", type=float, default=18, help="in microseconds a synapse")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()
    config = Config.from_values({"crop_size": SIZE})
    with torch.device("meta"):
        network = Vgg3D.from_architecture(Architecture.from_config(config))
    trained = 2 * operations(network.features, with_gradients=True)
    extracted = operations(network.features[: max(config.layer_num) + 1], with_gradients=False)
    gpu = options.tflops * 1e12
    rates = {
        "training, an epoch; two cores": options.trained_per_second,
        "extraction; two cores": options.extracted_per_second,
        f"training, an epoch; GPU, {options.tflops:g} TFLOP/s assumed": gpu / trained,
        f"extraction; GPU, {options.tflops:g} TFLOP/s assumed": gpu / extracted,
    }
    n, machines = options.synapses, options.machines
    print(f"### {n:,} synapses, crops of {SIZE}³, {config.fmaps} maps\n")
    print(f"| | synapses/s of one | {' | '.join(f'hours on {m:,}' for m in machines)} |")
    print("| --- | ---: |" + " ---: |" * len(machines))
    alone = (options.planning + options.finishing) * 1e-6 * n / 3600
    for job, rate in rates.items():
        hours = [n / rate / m / 3600 for m in machines]
        show(job, rate, hours)
        if job.startswith("extraction; GPU"):
            show("extraction in shards; the same GPU", rate, [h + alone for h in hours])
    needed = [f"{n / m / 24 / 3600:,.0f}" for m in machines]
    print(f"| synapses/s that each needs for a pass in a day | | {' | '.join(needed)} |")
    table = n * (FEATURES * 4 + 3 * 8) / 1e9
    context = context_shape(config.crop_size, config, (1.0, 1.0, 1.0))
    read = n * prod(context) / 1e12, n * SIZE**3 / 1e12
    print(
        f"\nConvolutions of a synapse: {trained / 1e9:,.0f} GFLOP in training, "
        f"{extracted / 1e9:,.0f} GFLOP in extraction. A table of {FEATURES} features in float32 "
        f"and positions: {table:,.0f} GB. Voxels of one byte in all crops: {read[0]:,.0f} TB in "
        f"training, with what rotations turn in, {read[1]:,.0f} TB in extraction."
    )


if __name__ == "__main__":
    main()
