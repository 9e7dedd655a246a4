"""The sections of a training and its device: each setting's name, default, bounds and meaning."""

from typing import Literal

from napari_synapse_cl.config.fields import Section, setting

Objective = Literal["nt_xent", "dcl", "moco", "byol", "vicreg"]
"""Each is a class in :mod:`napari_synapse_cl.training.objectives`."""
Metric = Literal[
    "validation_loss",
    "training_loss",
    "alignment",
    "uniformity",
    "retrieval",
    "effective_rank",
    "feature_rank",
    "knn_accuracy",
]
HIGHER_IS_BETTER = {"retrieval", "effective_rank", "feature_rank", "knn_accuracy"}
"""Of the others lower values are better."""


class TrainingConfig(Section):
    """Training."""

    batch_size: int = setting(32, "Synapses in a batch; each gives two views.", ge=2, le=65_536)
    num_epochs: int = setting(100, "Passes over the training synapses.", ge=1, le=1_000_000)
    num_steps: int = setting(
        0,
        "Steps in all: there are as many epochs as they take, in place of num_epochs. 0 for "
        "num_epochs.",
        ge=0,
        le=1_000_000_000,
    )
    epoch_steps: int = setting(
        0,
        "Most steps of an epoch. Of more synapses each epoch draws some, and no more are held out "
        "for the validation than it trains on. 0 for epochs of all synapses.",
        title="Steps an epoch",
        ge=0,
        le=1_000_000,
    )
    learning_rate: float = setting(1e-4, "Peak learning rate of AdamW.", gt=0, le=10)
    weight_decay: float = setting(
        1e-4, "Weight decay of AdamW; none on biases and batch norms.", ge=0, le=10
    )
    objective: Objective = setting(
        "nt_xent",
        "What the two views of a synapse are trained for: nt_xent (SimCLR) tells their pair from "
        "all others in the batch; dcl is nt_xent without the pair itself in the denominator, which "
        "suits small batches; moco tells it from a queue of earlier embeddings of a momentum "
        "encoder; byol predicts one view's embedding from the other's, without negatives; vicreg "
        "brings both together while the embeddings keep their spread along every dimension.",
    )
    temperature: float = setting(
        0.07, "Temperature of the similarities (nt_xent, dcl, moco).", gt=0, le=100
    )
    momentum: float = setting(
        0.99,
        "Share of the momentum encoder's weights that a step keeps (moco, byol); byol raises it "
        "to 1 along a cosine.",
        ge=0,
        le=1,
    )
    queue_size: int = setting(
        4096, "Embeddings in the queue (moco).", title="Queue size", ge=2, le=1_000_000
    )
    texture_weight: float = setting(
        0.0,
        "Weight of a second task beside the objective: to tell grey values and texture of a view "
        "from its features, so that these are kept once pairs are told apart; 0 for none.",
        title="Texture task",
        ge=0,
        le=1000,
        slider_end=4,
    )
    cell_column: str | None = setting(
        None,
        "Column of the table that names the cell of each synapse, or segmentation for the value "
        "of the segmentation at its position. Synapses of one cell are no negatives of each "
        "other, and may be each other's positives.",
        title="Cells",
    )
    positive_distance: float = setting(
        0.0,
        "The second view of a synapse may be of another one within this distance, of the same cell "
        "where cells are known; 0 for any distance, where they are known.",
        unit="nm",
        ge=0,
        le=1_000_000,
        slider_end=2000,
    )
    positive_share: float = setting(
        0.5,
        "Share of the pairs whose second view is of another synapse, of the same cell or near; "
        "where there is none it is of the synapse itself.",
        ge=0,
        le=1,
    )
    warmup_fraction: float = setting(
        0.05,
        "Share of the steps over which the learning rate rises linearly, before it falls along a "
        "cosine.",
        ge=0,
        le=1,
    )
    clip_norm: float = setting(
        0.0,
        "Largest norm of the gradient of all weights together; a longer one is shortened to it. 0 "
        "for none.",
        title="Gradient clipping",
        ge=0,
        le=1_000_000,
    )
    backbone_lr_factor: float = setting(
        1.0,
        "Learning rate of the backbone as a multiple of that of the projection head.",
        title="Backbone rate",
        ge=0,
        le=100,
    )
    unfreezing_fraction: float = setting(
        0.0,
        "Share of the steps over which the backbone joins the training: the projection head "
        "begins alone, then the stages follow one by one, the last first. 0 for all at once.",
        title="Gradual unfreezing",
        ge=0,
        le=1,
    )
    validation_fraction: float = setting(
        0.1,
        "Share of the synapses held out for the validation, from one end of each volume. Synapses "
        "whose crops overlap with theirs are left out of the training.",
        ge=0,
        le=0.5,
    )
    best_metric: Metric = setting(
        "validation_loss",
        "What decides which epoch's network is the best, and when to stop early. Without a "
        "validation it is the training loss.",
    )
    early_stopping: int = setting(
        0,
        "Stop when the best metric has not improved for this many epochs; 0 for never.",
        ge=0,
        le=1_000_000,
    )
    seed: int = setting(
        0, "Seed of the weights, the order of the synapses and the augmentations.", ge=0, lt=2**31
    )


class DeviceConfig(Section):
    """Device."""

    device: str = setting(
        "auto",
        "auto (cuda, then mps, then cpu), cpu, mps, cuda or cuda:N.",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Precision of the convolutions; the loss is always float32. auto takes bfloat16 where a "
        "short measurement finds it faster, and its gradients right.",
    )
    activation_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        "Keep only the input of each convolution block for the backward pass and compute the rest "
        "again: a third to a fifth of the memory, a third more time, the same gradients. auto "
        "does so where the batch would not fit into memory otherwise.",
        title="Checkpointing",
    )
    micro_batch_size: int = setting(
        0,
        "Synapses that go through the backbone at once. The loss is that of the whole batch, by "
        "gradient caching, but batch norms see a micro-batch. 0 takes the whole batch where it "
        "fits into memory, else what fits.",
        title="Micro-batch",
        ge=0,
        le=65_536,
    )
