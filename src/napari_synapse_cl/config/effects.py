"""Which settings have an effect under which others.

Each setting's conditions stand here once; a setting that is named nowhere below has the conditions
of its section. The command line and the window tell from them what was set in vain.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from napari_synapse_cl.config.data_sections import (
    IN_GREY_UNITS,
    AugmentationConfig,
    CropConfig,
    DataConfig,
)
from napari_synapse_cl.config.fields import Section
from napari_synapse_cl.config.flat import SECTIONS, Config
from napari_synapse_cl.config.sections import (
    ExploreConfig,
    ExtractionConfig,
    ModelConfig,
    RunConfig,
    ShardsConfig,
)
from napari_synapse_cl.config.training_sections import DeviceConfig, TrainingConfig
from napari_synapse_cl.system.words import listing


@dataclass(frozen=True)
class Condition:
    """What a setting needs to have an effect."""

    holds: Callable[[Config], bool]
    """Whether settings fulfil it."""
    reason: Callable[[Config], str]
    """What stands against it where they do not, as in "with objective nt_xent"."""


def settings_without_effect(
    config: Config, told: Collection[str] = (), *, left_out: Collection[str] = ()
) -> list[str]:
    """Return, in clauses, which settings were given that change nothing.

    Parameters
    ----------
    config
        The settings. One counts as given where it differs from its default.
    told
        Names of settings that count as given whatever their values are.
    left_out
        Names of settings that are not looked at.
    """
    names: dict[str, list[str]] = {}
    for name, field in Config.model_fields.items():
        is_given = name in told or getattr(config, name) != field.default
        if name in left_out or not is_given:
            continue
        unmet = next((c for c in conditions_of(name) if not c.holds(config)), None)
        if unmet is not None:
            names.setdefault(unmet.reason(config), []).append(name)
    return [
        f"{listing(several)} {'has' if len(several) == 1 else 'have'} no effect {reason}"
        for reason, several in names.items()
    ]


def has_effect(name: str, config: Config) -> bool:
    """Return whether a setting changes anything of a job with these settings."""
    return all(condition.holds(config) for condition in conditions_of(name))


def conditions_of(name: str) -> tuple[Condition, ...]:
    """Return what a setting needs to have an effect, in the order in which it is looked at."""
    section = next(section for section in SECTIONS if name in section.model_fields)
    return _OF_SETTINGS.get(name, _OF_SECTIONS[section])


def _job(config: Config) -> str:
    for name in ("report", "explore", "export_only", "dense", "compare_layers", "extract_only"):
        if getattr(config, name):
            return name
    return "training"


def _jobs(*names: str) -> Condition:
    def reason(config: Config) -> str:
        job = _job(config)
        return "in a training" if job == "training" else f"with {job}"

    return Condition(lambda config: _job(config) in names, reason)


def _is_open(config: Config, name: str) -> bool:
    """Whether the checkpoint that is read decides a setting: crops are made as in its training."""
    is_of_crops = name in CropConfig.model_fields and name not in config.model_fields_set
    return config.checkpoint is not None and is_of_crops


def _where(name: str, fits: Callable[[Any], bool]) -> Condition:
    def reason(config: Config) -> str:
        value = getattr(config, name)
        if isinstance(value, bool):
            return f"{'with' if value else 'without'} {name}"
        return f"with {name} {value}"

    return Condition(
        lambda config: _is_open(config, name) or fits(getattr(config, name)),
        reason,
    )


def _only(name: str, *values: Any) -> Condition:
    return _where(name, lambda value: value in values)


def _positive(name: str) -> Condition:
    return _where(name, lambda value: value > 0)


def _unless(name: str) -> Condition:
    """Return the condition that a setting is not given."""
    return Condition(lambda config: not getattr(config, name), lambda _: f"with {name}")


def _with(*names: str) -> Condition:
    """Return the condition that one of several settings is given."""
    return Condition(
        lambda config: any(getattr(config, name) for name in names),
        lambda _: f"without {listing(names, 'or')}",
    )


def _any_of(*conditions: Condition) -> Condition:
    """Return the condition that one of several holds; the last says what stands against it."""
    return Condition(
        lambda config: any(condition.holds(config) for condition in conditions),
        conditions[-1].reason,
    )


def _all_of(*conditions: Condition) -> Condition:
    def reason(config: Config) -> str:
        return next(c.reason(config) for c in conditions if not c.holds(config))

    return Condition(lambda config: all(c.holds(config) for c in conditions), reason)


_TRAINS = _jobs("training")
_REPORTS = _jobs("report")
_EXPLORES = _jobs("explore", "report")
_DRAWS = _jobs("training", "compare_layers")
_READS = _jobs("training", "extract_only", "compare_layers", "dense")
_CUTS = _jobs("training", "extract_only", "compare_layers")
_SHOWS = _jobs("training", "extract_only", "compare_layers", "dense", "report")
_EXTRACTS = _all_of(_jobs("training", "extract_only"), _unless("train_only"))
_READS_LAYERS = _with("layer_num")
_POOLS = _where("pooling", lambda value: value != "none")
_TABULATES = _any_of(_all_of(_with("descriptors"), _unless("layer_num")), _POOLS)
_MASKS = _where("keep", lambda value: value.strip().lower() != "everything")
_USES_LABELS = _any_of(_positive("presynaptic_shift"), _MASKS)
_NAMED = _with("image", "dataset", "crops")
_HAS_TABLE = _with("synapses", "dataset")
_VALIDATES = _positive("validation_fraction")
_SHARDS = _with("workers", "scheduler", "shard")
_AT_ONCE = _all_of(*(_unless(name) for name in ("workers", "scheduler", "shard")))
_CLUSTERS = _any_of(_REPORTS, _only("explore", "cluster"))

_OF_SECTIONS: dict[type[Section], tuple[Condition, ...]] = {
    DataConfig: (_READS,),
    CropConfig: (_CUTS,),
    AugmentationConfig: (_DRAWS,),
    ModelConfig: (_TRAINS,),
    TrainingConfig: (_TRAINS,),
    DeviceConfig: (_READS,),
    ExtractionConfig: (_any_of(_jobs("compare_layers"), _EXTRACTS),),
    ShardsConfig: (_jobs("extract_only"), _SHARDS),
    ExploreConfig: (_EXPLORES,),
    # What cannot be together here is refused.
    RunConfig: (),
}

_OF_SETTINGS: dict[str, tuple[Condition, ...]] = {
    "image": (_SHOWS,),
    "dataset": (_SHOWS,),
    "voxel_size": (_SHOWS, _NAMED),
    "crop_size": (_jobs("training", "extract_only", "compare_layers", "report"),),
    "position_columns": (_CUTS, _HAS_TABLE),
    "position_unit": (_CUTS, _HAS_TABLE),
    "position_voxel_size": (_CUTS, _HAS_TABLE, _only("position_unit", "auto", "voxels")),
    "labels": (_CUTS, _unless("crops"), _NAMED, _USES_LABELS),
    "segmentation": (
        _CUTS,
        _unless("crops"),
        _NAMED,
        _any_of(_only("cell_column", "segmentation"), _USES_LABELS),
    ),
    "roles": (_CUTS, _with("labels", "dataset", "crops"), _USES_LABELS),
    "cache_dir": (_TRAINS,),
    "cache_limit": (_TRAINS,),
    "network_voxel_size": (_SHOWS,),
    "intensity": (_SHOWS,),
    "percentiles": (_SHOWS, _only("intensity", "percentiles")),
    "invert": (_SHOWS,),
    "keep_nearest": (_CUTS, _USES_LABELS),
    "keep_margin": (_CUTS, _MASKS),
    "background": (_CUTS, _any_of(_only("borders", "constant"), _MASKS)),
    "background_alpha": (_CUTS, _MASKS),
    "fmaps": (_TRAINS, _unless("pretrained")),
    "n_convolutions": (_TRAINS, _unless("pretrained")),
    "downsampling": (_TRAINS, _unless("pretrained")),
    "num_epochs": (_TRAINS, _unless("num_steps")),
    "temperature": (_TRAINS, _only("objective", "nt_xent", "dcl", "moco")),
    "momentum": (_TRAINS, _only("objective", "moco", "byol")),
    "queue_size": (_TRAINS, _only("objective", "moco")),
    "positive_share": (_TRAINS, _with("positive_distance", "cell_column")),
    "backbone_lr_factor": (_TRAINS, _unless("freeze_backbone")),
    "best_metric": (_TRAINS, _any_of(_only("best_metric", "training_loss"), _VALIDATES)),
    "seed": (_jobs("training", "compare_layers", "explore", "report"),),
    "rotation_range": (_DRAWS, _unless("uniform_rotation")),
    "cutout_size": (_DRAWS, _positive("cutout_prob")),
    "cutout_kinds": (_DRAWS, _positive("cutout_prob")),
    "section_blur_sigma": (_DRAWS, _positive("section_blur_prob")),
    "slip_range": (_DRAWS, _positive("slip_prob")),
    "grey_unit": (_DRAWS, _with(*IN_GREY_UNITS)),
    "grey_spread": (_DRAWS, _only("grey_unit", "spread")),
    "activation_checkpointing": (_TRAINS,),
    "micro_batch_size": (_TRAINS,),
    "layer_num": (
        _any_of(
            _jobs("compare_layers", "dense"),
            _where("export", lambda formats: bool({"onnx", "bioimageio"} & {*formats})),
            _EXTRACTS,
        ),
    ),
    "descriptors": (_EXTRACTS,),
    "pooling": (_any_of(_jobs("compare_layers"), _EXTRACTS), _READS_LAYERS),
    "averaging": (_any_of(_jobs("compare_layers"), _EXTRACTS), _READS_LAYERS),
    "n_components": (_EXTRACTS, _TABULATES),
    "feature_format": (
        _jobs("training", "extract_only", "explore"),
        _any_of(_jobs("explore"), _unless("train_only")),
        _any_of(_jobs("explore"), _TABULATES),
        _any_of(_AT_ONCE, _with("one_file")),
    ),
    "label_column": (
        _any_of(
            _all_of(_EXPLORES, _unless("classifier")),
            _jobs("compare_layers"),
            _all_of(_TRAINS, _VALIDATES),
            _all_of(_EXTRACTS, _with("figures"), _TABULATES, _AT_ONCE),
        ),
    ),
    "keep_partial": (_any_of(_jobs("dense"), _EXTRACTS), _AT_ONCE),
    "centre_jitter": (_jobs("compare_layers"),),
    "n_compared": (_jobs("compare_layers"),),
    "vectors": (_EXPLORES, _unless("classifier")),
    "distance": (_EXPLORES, _any_of(_REPORTS, _only("explore", "cluster", "similar", "outliers"))),
    "like": (_only("explore", "similar"),),
    "unlike": (_only("explore", "similar"),),
    "n_similar": (_only("explore", "similar"),),
    "clustering": (_CLUSTERS,),
    "n_clusters": (_CLUSTERS, _only("clustering", "kmeans", "mixture")),
    "most_clusters": (
        _CLUSTERS,
        _only("clustering", "kmeans", "mixture"),
        _unless("n_clusters"),
    ),
    "min_cluster_size": (_CLUSTERS, _only("clustering", "hdbscan")),
    "n_neighbors": (
        _EXPLORES,
        _any_of(_REPORTS, _only("explore", "cluster", "similar", "outliers")),
    ),
    "probe": (_any_of(_REPORTS, _only("explore", "predict")), _unless("classifier")),
    "reject_below": (_only("explore", "predict"),),
    "classifier": (_only("explore", "predict"),),
    "umap": (_REPORTS,),
    # Each of these is a job, or refused.
    "explore": (),
    "report": (),
    "features": (),
    "compare_layers": (),
    "dense": (),
    "region": (),
    "overwrite": (
        _any_of(
            _jobs("report", "explore", "extract_only", "export_only", "compare_layers", "dense"),
            _with("export"),
        ),
    ),
    "export": (_jobs("training", "export_only"),),
    "tensorboard": (_TRAINS,),
    "figures": (_CUTS, _any_of(_TRAINS, _jobs("compare_layers"), _AT_ONCE)),
    "workers": (_jobs("extract_only", "compare_layers", "dense"),),
    "scheduler": (_jobs("extract_only", "compare_layers", "dense"),),
    "shard": (_jobs("extract_only", "compare_layers", "dense"),),
    "shard_size": (_jobs("extract_only", "compare_layers"), _SHARDS),
    "shard_minutes": (_jobs("extract_only", "compare_layers", "dense"), _SHARDS),
}
