"""The same network trained with the classes: about what there is to be had from it here.

The one part of this benchmark that is not the command line, which trains without labels alone.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import torch
import torch.nn.functional as F
from positions import AXES, CLASSES, LARGE, Plan
from torch import nn

from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range
from napari_synapse_cl.system.devices import choose_device, choose_precision, to_device

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
PROGRESS = 20
"""Steps between two lines."""


def train_with_labels(
    data: Path,
    work: Path,
    target: Path,
    plan: Plan,
    *,
    fmaps: int,
    batch: int,
    steps: int,
    seed: int,
    precision: str = "auto",
) -> None:
    """Train on the sites of the seen part, moved, mirrored and turned at random.

    All classes are drawn alike often. The classifier sees the means of the last layer.

    Parameters
    ----------
    data, work
        Folders of the volumes and of what was prepared.
    target
        File for the network, as the command line reads it.
    plan
        Says how large crops are, and how far centres are moved.
    fmaps
        Channels of the first stage.
    batch
        Crops in a batch.
    steps
        Batches.
    seed
        Of the weights and of what is drawn.
    precision
        As in the settings.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    image = tifffile.imread(data / f"{LARGE}.tif")
    table = pd.read_csv(work / "training.csv")
    table = table[table["class"].isin(CLASSES)]
    of_class = [table.loc[table["class"] == name, AXES].to_numpy() for name in CLASSES]
    architecture = Architecture.from_config(Config(fmaps=fmaps))
    network = Vgg3D.from_architecture(architecture)
    head = nn.Linear(architecture.layers[-1].channels, len(CLASSES))
    device = choose_device("auto")
    bf16 = choose_precision(precision, device) == "bfloat16"
    to_device(network, device)
    head.to(device)
    weights = [*network.features.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    network.train()
    for step in range(1, steps + 1):
        labels = generator.integers(len(CLASSES), size=batch)
        crops = np.stack([_crop(image, of_class[label], plan, generator) for label in labels])
        views = to_network_range(torch.from_numpy(crops).to(device) / 255)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            maps = network.features(views)
        scores = head(maps.float().mean(dim=(2, 3, 4)))
        loss = F.cross_entropy(scores, torch.from_numpy(labels).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % PROGRESS == 0 or step == steps:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, network.cpu(), architecture)


def _crop(
    image: np.ndarray, sites: np.ndarray, plan: Plan, generator: np.random.Generator
) -> np.ndarray:
    """Return ``(1, D, D, D)`` float32 grey values around one of the sites."""
    half = plan.crop // 2
    moved = generator.choice(sites) + generator.integers(-plan.jitter, plan.jitter + 1, 3)
    z, y, x = np.clip(moved, half, np.array(image.shape) - half).tolist()
    crop = image[z - half : z + half, y - half : y + half, x - half : x + half]
    turned = crop.transpose(generator.permutation(3))
    for axis in np.flatnonzero(generator.integers(2, size=3)):
        turned = np.flip(turned, axis)
    return turned.astype(np.float32)[None]
