"""Sections of settings: model, extraction and run."""

from pathlib import Path
from typing import Literal

from napari_synapse_cl.config.fields import (
    ExportFormats,
    LayerIndices,
    Location,
    Network,
    Region,
    Section,
    Several,
    Words,
    setting,
)


class ModelConfig(Section):
    """Model."""

    pretrained: Network | None = setting(
        None,
        "VGG3D checkpoint to start from: a path, a URL (with #sha256=… behind it, it is checked), "
        "or fibsem-10nm, which comes with the program. Its architecture is read from the file and "
        "replaces fmaps, n_convolutions and downsampling. Without it training starts from random "
        "weights.",
    )
    fmaps: int = setting(
        24,
        "Feature maps in the first stage; each stage doubles them.",
        title="Feature maps",
        ge=1,
        le=256,
    )
    n_convolutions: tuple[int, ...] = setting(
        (4, 2, 2, 2),
        "Convolutions in each stage.",
        title="Convolutions",
        min_length=1,
        max_length=6,
    )
    downsampling: Literal["isotropic", "anisotropic"] = setting(
        "isotropic",
        "Pooling after each stage: isotropic is 2×2×2 throughout; anisotropic is 1×2×2, and "
        "2×2×2 after the last, for sections thicker than pixels are wide.",
    )
    proj_dim: int = setting(
        128, "Output dimension of the projection head.", title="Projection size", ge=2, le=8192
    )
    proj_hidden_dim: int = setting(
        2048,
        "Hidden dimension of the projection head.",
        title="Projection hidden",
        ge=2,
        le=65_536,
    )
    freeze_backbone: bool = setting(
        False,
        "Train the projection head alone; weights and batch-norm statistics stay as they are.",
    )
    stage_to_finetune: int = setting(
        -1,
        "Train this stage alone, counted from 1 at the input; -1 trains all stages.",
        ge=-1,
        le=6,
    )


class ExtractionConfig(Section):
    """Extraction."""

    layer_num: LayerIndices = setting(
        (20,),
        "Layers whose outputs become the features, read in one pass: indices into VGG3D's "
        "features, 0 to 33 by default. 20 is the first convolution of stage 3; none is for "
        "descriptors alone.",
        title="Layers",
    )
    descriptors: bool = setting(
        False,
        "Describe each crop without a network too, in columns hand_…: histograms of grey values, "
        "and texture (gradient, Laplacian, structure tensor) at three scales, of the whole crop "
        "and of its central half. With layer_num none they are alone and need no checkpoint.",
    )
    pooling: Literal["mean", "max", "mean+max", "std", "centre", "none"] = setting(
        "mean",
        "How a layer's map becomes one vector per synapse; centre takes what lies nearest the "
        "synapse, and none keeps the whole map of each synapse, as NumPy arrays.",
    )
    averaging: Literal["none", "flips", "flips+rotations"] = setting(
        "none",
        "Average the features of a crop over its 8 mirror images (flips), or over these and its "
        "quarter turns too, 48 for a cube, as far as they keep its shape and voxel size.",
    )
    n_components: int = setting(
        3,
        "Leading principal components of the features of each layer, as further columns.",
        title="Components",
        ge=0,
        le=50,
    )
    feature_format: Literal["csv", "parquet", "npz", "h5ad"] = setting(
        "csv",
        "File format of the feature table; h5ad is for AnnData and needs the package anndata.",
    )
    label_column: str | None = setting(
        None,
        "Column of the synapse table that colours the map of the features, that layers are "
        "compared by, and by which nearest neighbours are judged in each epoch of a training; of a "
        "feature table that is explored, the column that holds what is known. Empty for none. "
        "Without it all but a training use the column class where there is one.",
    )
    keep_partial: bool = setting(
        False, "Keep the features so far when an extraction is ended early."
    )
    compare_layers: bool = setting(
        False,
        "In place of features, report how well each layer tells synapses apart (with "
        "extract_only). Without layer_num all convolutions are compared.",
    )
    centre_jitter: float = setting(
        60.0,
        "Where layers are compared, labels are told from crops whose centres lie up to so far from "
        "the synapse, drawn evenly from a ball: what looks at the very centre alone gains nothing. "
        "0 is off.",
        unit="nm",
        ge=0,
        le=10_000,
        slider_end=200,
    )
    n_compared: int = setting(
        5000,
        "Synapses that layers are compared on: where there are more, so many are drawn at random, "
        "those with a label before all others. 0 takes all.",
        ge=0,
    )
    dense: bool = setting(
        False,
        "In place of one vector per synapse, extract the map of each layer over a region of the "
        "volume (with extract_only); no synapses are needed.",
    )
    region: Region | None = setting(
        None,
        "First voxel of the region along z, y, x, and the voxel behind its last (with dense); of a "
        "multiscale volume in voxels of its finest level. Without it the whole volume is taken.",
        unit="voxels",
    )


class ShardsConfig(Section):
    """Many workers."""

    workers: int = setting(
        0,
        "Extract in shards that go on where an extraction was ended, by this many processes of "
        "this computer (with extract_only); 1 needs nothing else, more need the extra cluster. "
        "0 extracts all at once.",
        ge=0,
        le=1024,
    )
    scheduler: Location | None = setting(
        None,
        "Extract in shards by the workers of a Dask cluster that is running, whose scheduler has "
        "this address, as in tcp://node1:8786 (with extract_only).",
    )
    shard: str | None = setting(
        None,
        "Extract in shards as job I of N, written I/N, which need no scheduler and take over from "
        "one another (with extract_only); array takes both from torchrun, SLURM, LSF, PBS or SGE.",
        pattern=r"^([1-9]\d*/[1-9]\d*|array)$",
    )
    shard_size: int = setting(
        2000,
        "Synapses in a shard; they lie together in space. Where layers are compared they are an "
        "eighth of it, since each is read up to eight times. A shard of maps (dense) is a block.",
        ge=1,
        le=1_000_000,
    )
    shard_minutes: float = setting(
        0,
        "After how long the worker of a shard is taken for hung and ended, and another does it. 0 "
        "is ten times the median of the shards, and a minute at least.",
        unit="min",
        ge=0,
        le=100_000,
    )
    one_file: bool = setting(
        False,
        "Write what shards have left as one file of feature_format too, in the order of the table.",
    )


class ExploreConfig(Section):
    """Exploring."""

    explore: Literal["cluster", "similar", "predict", "outliers"] | None = setting(
        None,
        "In place of a training, look into a feature table: cluster its rows, find those similar "
        "to some, predict labels from those of a few, or find outliers.",
    )
    report: bool = setting(
        False,
        "In place of a training, report on a feature table in one HTML file for any browser: the "
        "run, a map with crops, clusters, outliers, and how well labels are predicted.",
    )
    features: Path | None = setting(
        None,
        "Feature table (CSV, Parquet, npz or h5ad) that is explored or reported on, as an "
        "extraction writes it.",
    )
    vectors: Words = setting(
        (),
        "Vectors in it that are looked at, such as L20_mean or hand; several are joined. Without "
        "any the only one.",
    )
    distance: Literal["cosine", "euclidean"] = setting(
        "cosine",
        "What is near: cosine compares the directions of vectors, euclidean their places. All "
        "channels are standardised before.",
    )
    like: Several = setting(
        (),
        "Rows to find similar ones of (with explore similar): row numbers from 0, or a column and "
        "a value in it, as in id=17.",
    )
    unlike: Several = setting(
        (), "Rows that what is found should not be similar to, written as those of like."
    )
    n_similar: int = setting(
        100, "How many similar rows are kept.", title="Similar rows", ge=1, le=10_000_000
    )
    clustering: Literal["kmeans", "mixture", "hdbscan"] = setting(
        "kmeans",
        "How clusters are found: k-means, a mixture of Gaussians, or HDBSCAN, which finds how many "
        "there are and leaves rows out that lie in no dense part.",
    )
    n_clusters: int = setting(
        0,
        "Number of clusters; 0 chooses the one with the best silhouette, up to most_clusters.",
        title="Clusters",
        ge=0,
        le=1000,
    )
    most_clusters: int = setting(
        12, "Largest number of clusters that is tried.", title="Most clusters", ge=2, le=100
    )
    min_cluster_size: int = setting(
        15, "Fewest rows of a cluster (with clustering hdbscan).", title="Least size", ge=2
    )
    n_neighbors: int = setting(
        15,
        "Neighbours by which outliers are told, and by which it is told whether they reflect "
        "brightness alone.",
        title="Neighbours",
        ge=1,
        le=1000,
    )
    probe: Literal["auto", "logistic", "gaussian_process"] = setting(
        "auto",
        "What learns labels (with explore predict): a logistic regression with calibrated "
        "probabilities, or a Gaussian process, which auto takes below 50 labels.",
    )
    reject_below: float = setting(
        0.0,
        "Probability below which no label is predicted (with explore predict).",
        ge=0,
        le=1,
    )
    classifier: Path | None = setting(
        None,
        "Classifier that an earlier prediction has left behind, to predict with (with explore "
        "predict) in place of labels.",
    )
    umap: bool = setting(
        False, "Show a map by UMAP in the report too (with the extra umap).", title="UMAP"
    )


class RunConfig(Section):
    """Run."""

    output: Path | None = setting(
        None, "Folder for the results. Without it a new folder is made in synapse_cl_runs."
    )
    train_only: bool = setting(False, "Train, and extract no features.")
    extract_only: bool = setting(False, "Extract features with --checkpoint, without training.")
    checkpoint: Network | None = setting(
        None,
        "Checkpoint whose network extracts the features (with extract_only) or is exported (with "
        "export_only), a path or a URL, or the folder of a run.",
    )
    network: Literal["trained", "best", "start"] = setting(
        "trained",
        "Which network of a run extracts the features or is exported (with export_only): the "
        "trained one as the checkpoint holds it, that of the best epoch, or the one that "
        "the training started from.",
    )
    resume: bool = setting(
        False, "Go on with the run in the output folder from its last checkpoint."
    )
    overwrite: bool = setting(False, "Replace results that are already there.")
    export: ExportFormats = setting(
        (),
        "Formats in which the trained network is written too, for other programs: pt is a state "
        "dict of VGG3D for PyTorch, safetensors the same in that format, onnx the network with "
        "the layers of layer_num as outputs (with the extra onnx), bioimageio both in a package of "
        "the BioImage Model Zoo (with the extra bioimageio).",
    )
    export_only: bool = setting(
        False, "Export the network of --checkpoint, without training or extraction."
    )
    tensorboard: bool = setting(
        False,
        "Write the metrics for TensorBoard too (with the extra tensorboard).",
        title="TensorBoard",
    )
    figures: bool = setting(True, "Draw pictures of the loss and of the features.")
