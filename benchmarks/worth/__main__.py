"""What features are worth on real tissue that no network was trained on.

    python benchmarks/worth prepare WORK --data FOLDER
    python benchmarks/worth baselines WORK [flags of synapse-cl …]
    python benchmarks/worth train WORK RUN [--random N] [flags of synapse-cl …]
    python benchmarks/worth supervised WORK CHECKPOINT [--steps 420]
    python benchmarks/worth measure WORK NAME RUN [--seed 0] [flags of synapse-cl …]
    python benchmarks/worth study WORK [--only ROW …] [--seeds 0 1 2]
    python benchmarks/worth table WORK [--against ROW] [--details] [--json FILE]
    python benchmarks/worth epochs WORK NAME [--at 1 2 4 …] [flags of synapse-cl …]
    python benchmarks/worth monitors WORK

FOLDER holds the FIB-SEM volumes of the *Drosophila* medulla, their sites and a segmentation (see
:mod:`positions`). ``prepare`` draws positions and finds what is true there, once. ``baselines``
measures histograms, texture, all hand-made descriptors, principal components of voxels and three
untrained networks. ``measure`` adds a network, of a run's folder or a file, whatever trained it;
NAME is that of its recipe, and seeds of one name are averaged. ``study`` trains and measures the
rows of :mod:`study` that are not there yet, and goes on after a stop. ``table`` compares all that
was measured, and ``monitors`` says which measures without labels go with it, over all networks.
``epochs`` trains once, measures the network as it was after some epochs, and says what the training
itself told of each: which of its curves goes with what features are worth within one training.
All but the principal components and the network that is trained with labels comes from the command
line.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import reading
import summary
from measures import measure as predictions_of
from positions import LARGE, VOXEL_NM, Plan, prepare, with_more_random
from study import STUDY
from summary import MONITORED
from unlabelled import correlations, unlabelled

NETWORK = {"crop_size": 32, "fmaps": 12, "batch_size": 32}
"""Of trainings, unless their flags say otherwise."""
UNTRAINED_SEEDS = 3
TAKE_FLAGS = {"baselines", "train", "measure", "epochs"}
"""Commands that hand what they do not know on to ``synapse-cl``."""


@contextmanager
def timed(what: str, times: dict[str, float]) -> Iterator[None]:
    """Say how long the block took."""
    start = time.perf_counter()
    yield
    times[what] = round(time.perf_counter() - start, 2)
    print(f"{what}: {times[what]:.1f} s", flush=True)


def prepare_command(options: argparse.Namespace, flags: list[str]) -> None:
    with timed("positions and what is true there", {}):
        prepare(options.data, options.work, Plan())


def baselines_command(options: argparse.Namespace, flags: list[str]) -> None:
    work, plan = options.work, plan_of(options.work)
    times: dict[str, float] = {}
    with timed("descriptors", times):
        sets = reading.hand_made(work, plan.crop)
    with timed("principal components of voxels", times):
        sets |= reading.voxels(work, plan.crop)
    with timed("gradient along axes", times):
        sets |= reading.along_axes(work)
    keep(work, "baselines", 0, sets, times, {})
    for seed in range(UNTRAINED_SEEDS):
        run = work / "untrained" / str(seed)
        if not run.exists():
            train(work, run, "--seed", seed, "--num_epochs", 1, "--no-figures", *flags)
        add_network(work, "untrained", seed, run, ["--network", "start", *flags])


def train_command(options: argparse.Namespace, flags: list[str]) -> None:
    work, more = options.work, options.random
    file = with_more_random(data_of(work), work, plan_of(work), more) if more else None
    train(work, options.run, *(("--synapses", file) if file else ()), *flags)


def study_command(options: argparse.Namespace, flags: list[str]) -> None:
    unknown = set(options.only or ()) - set(STUDY)
    if unknown:
        raise SystemExit(f"No rows of the study: {', '.join(sorted(unknown))}")
    for seed in options.seeds:
        for name in options.only or STUDY:
            if summary.results_file(options.work, name, seed).exists():
                continue
            run = options.work / "study" / f"{summary.stem(name)}-{seed}"
            if (run / "checkpoints" / "last.pt").exists():
                reading.run("--train_only", "--resume", "--output", run)
            else:
                flags = [*STUDY[name], "--seed", str(seed), "--no-figures"]
                main(["train", str(options.work), str(run), *flags])
            add_network(options.work, name, seed, run, [])


def supervised_command(options: argparse.Namespace, flags: list[str]) -> None:
    # PyTorch takes seconds to import, which the table need not wait for.
    from supervised import train_with_labels

    with timed("training with labels", {}):
        train_with_labels(
            data_of(options.work),
            options.work,
            options.run,
            plan_of(options.work),
            fmaps=options.fmaps,
            batch=NETWORK["batch_size"],
            steps=options.steps,
            precision=options.precision,
            seed=options.seed,
        )


def measure_command(options: argparse.Namespace, flags: list[str]) -> None:
    add_network(options.work, options.name, options.seed, options.run, flags)


def table_command(options: argparse.Namespace, flags: list[str]) -> None:
    found = summary.rows(options.work)
    measures = (*summary.MEASURES, *summary.DETAILS) if options.details else summary.MEASURES
    print("\n".join(summary.lines(found, measures, options.against)))
    if options.json is not None:
        options.json.write_text(json.dumps(summary.as_json(found), indent=2) + "\n")


def epochs_command(options: argparse.Namespace, flags: list[str]) -> None:
    work, name = options.work, options.name
    run = work / "epochs" / summary.stem(name)
    if not (run / "epochs.csv").exists():
        command = train_flags(work, run, *flags, "--no-figures")
        reading.run_and_keep(run, options.at, *command)
    for epoch in options.at:
        row = f"{name}, epoch {epoch}"
        if not summary.results_file(work, row, 0).exists():
            add_network(work, row, 0, reading.kept_epoch(run, epoch), [])
    told = pd.read_csv(run / "epochs.csv", index_col="epoch").loc[options.at]
    worth = summary.networks(work)
    for layer in map("L{}".format, reading.LAYERS):
        rows = [f"{name}, epoch {epoch} 0 {layer}" for epoch in options.at]
        table = told.assign(**{m: worth.loc[rows, m].to_numpy() for m in MONITORED})
        table = table.select_dtypes("number").dropna(axis="columns")
        print(layer, table.round(3).to_string(), sep="\n")
        print(correlations(table, [*MONITORED]).round(2).to_string())


def monitors_command(options: argparse.Namespace, flags: list[str]) -> None:
    table = summary.networks(options.work)
    for words in options.without:
        table = table[~table.index.str.contains(words, regex=False)]
    print(table.round(3).to_string())
    print(correlations(table, [*MONITORED]).round(2).to_string())


def train(work: Path, run: Path, *flags: object) -> None:
    """Train on the seen part of the large volume; no features are extracted."""
    reading.run(*train_flags(work, run, *flags))


def train_flags(work: Path, run: Path, *flags: object) -> list[object]:
    """Return the command line of such a training: what flags do not say is as for all networks."""
    given = {str(flag).removeprefix("--") for flag in flags}
    named = {
        "image": data_of(work) / f"{LARGE}.tif",
        "synapses": work / "training.csv",
        "output": run,
    }
    settings = {**named, "voxel_size": VOXEL_NM, **NETWORK}
    own = [part for name, v in settings.items() if name not in given for part in (f"--{name}", v)]
    return ["--train_only", *own, *flags]


def add_network(work: Path, name: str, seed: int, network: Path, flags: list[str]) -> None:
    """Measure the layers of a network, alone and joined with each other and what is hand-made."""
    crop = plan_of(work).crop
    times: dict[str, float] = {}
    hand = reading.hand_made(work, crop)[summary.BASELINE]
    with timed("layers", times):
        layers = reading.layers(work, network, crop, *flags)
    several = pd.concat(map(pd.DataFrame, layers.values()), axis=1).to_numpy()
    sets = {**layers, "+".join(layers): several} if len(layers) > 1 else dict(layers)
    joined = {f"{title} + hand": _beside(values, hand) for title, values in sets.items()}
    keep(work, name, seed, sets | joined, times, {"flags": flags, **about_run(network)})


def keep(
    work: Path, name: str, seed: int, sets: reading.Sets, times: dict[str, float], about: Any
) -> None:
    """Measure sets of features and keep what they predict."""
    plan = plan_of(work)
    positions = summary.read_positions(work)
    pairs = pd.read_csv(work / "pairs.csv")
    predictions = {}
    with timed(f"probes on {len(sets)} sets of features", times):
        for title, features in sets.items():
            predictions[title] = predictions_of(features, positions, pairs, plan.crop, plan.jitter)
    sizes = {title: features.shape[1] for title, features in sets.items()}
    histogram = reading.hand_made(work, plan.crop)["histogram"]
    with timed("what needs no label", times):
        told = {
            title: unlabelled(features, positions, histogram)
            for title, features in sets.items()
            if re.fullmatch(r"L\d+", title)
        }
    about = {**about, "unlabelled": told, "plan": asdict(plan), "features": sizes, "seconds": times}
    summary.save(work, name, seed, predictions, about)


def about_run(network: Path) -> dict[str, Any]:
    """Return what a run says of itself: its settings, and its last epoch with the retrieval."""
    folder = network if network.is_dir() else network.parent.parent
    if not (folder / "config.json").exists():
        return {"network": str(network)}
    epochs = pd.read_csv(folder / "epochs.csv")
    if network.parent.name == reading.KEPT:
        epochs = epochs[epochs["epoch"] <= int(network.stem)]
    return {
        "network": str(network),
        "settings": json.loads((folder / "config.json").read_text()),
        "last_epoch": epochs.iloc[-1].dropna().to_dict(),
    }


def plan_of(work: Path) -> Plan:
    """Return what was drawn."""
    return Plan(**json.loads((work / "plan.json").read_text())["plan"])


def data_of(work: Path) -> Path:
    """Return the folder of the volumes."""
    return Path(json.loads((work / "plan.json").read_text())["data"])


def _beside(first: Any, second: Any) -> Any:
    return pd.concat([pd.DataFrame(first), pd.DataFrame(second)], axis=1).to_numpy()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = made.add_subparsers(required=True)

    def command(name: str, run: Callable[[argparse.Namespace, list[str]], None]) -> Any:
        added = commands.add_parser(name, allow_abbrev=False)
        added.add_argument("work", type=Path)
        added.set_defaults(command=run, takes_flags=name in TAKE_FLAGS)
        return added

    command("prepare", prepare_command).add_argument("--data", type=Path, required=True)
    command("baselines", baselines_command)
    training = command("train", train_command)
    training.add_argument("run", type=Path)
    training.add_argument(
        "--random", type=int, metavar="N", help="random positions, in place of 300"
    )
    labels = command("supervised", supervised_command)
    labels.add_argument("run", type=Path, metavar="CHECKPOINT")
    labels.add_argument("--precision", default="auto")
    labels.add_argument("--steps", type=int, default=420)
    labels.add_argument("--fmaps", type=int, default=NETWORK["fmaps"])
    labels.add_argument("--seed", type=int, default=0)
    network = command("measure", measure_command)
    network.add_argument("name")
    network.add_argument("run", type=Path)
    network.add_argument("--seed", type=int, default=0)
    epochs = command("epochs", epochs_command)
    epochs.add_argument("name")
    epochs.add_argument("--at", type=int, nargs="+", default=[1, 2, 3, 5, 8, 12, 18, 25])
    monitors = command("monitors", monitors_command)
    monitors.add_argument("--without", nargs="+", default=[], help="words in names of rows")
    study = command("study", study_command)
    study.add_argument("--only", nargs="+", metavar="ROW")
    study.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    table = command("table", table_command)
    table.add_argument("--against", default=summary.BASELINE, metavar="ROW")
    table.add_argument("--details", action="store_true")
    table.add_argument("--json", type=Path, default=None)
    return made


def main(arguments: list[str] | None = None) -> None:
    made = parser()
    options, flags = made.parse_known_args(arguments)
    if flags and not options.takes_flags:
        made.error(f"unrecognized arguments: {' '.join(flags)}")
    options.command(options, flags)


if __name__ == "__main__":
    main()
