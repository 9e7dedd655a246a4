"""Tell a person at a terminal what a job does: progress bars, messages, where the results are."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

from napari_synapse_cl.events import (
    Discarded,
    EpochDone,
    Event,
    Finished,
    Message,
    Progress,
    Started,
    StepDone,
    Wrote,
)


def report(events: Iterable[Event]) -> None:
    """Show events on the terminal until they end; the last line says where the results are."""
    bar: tqdm | None = None
    task = ""
    results: list[str] = []

    def begin(new_task: str, total: int, done: int, unit: str) -> None:
        nonlocal bar, task
        end()
        task = new_task
        bar = tqdm(total=total, initial=done, desc=new_task, unit=unit, dynamic_ncols=True)

    def end() -> None:
        nonlocal bar, task
        if bar is not None:
            bar.close()
        bar, task = None, ""

    def say(text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    try:
        for event in events:
            match event:
                case Message(text, level):
                    say(f"Warning: {text}" if level == "warning" else text)
                case Started():
                    say(_about(event))
                    begin("training", event.total_steps, event.step, "step")
                case StepDone() if bar is not None:
                    bar.set_postfix(
                        loss=f"{event.loss:.3f}", crops_s=f"{event.crops_per_second:.1f}"
                    )
                    bar.update()
                case EpochDone():
                    say(_epoch(event))
                case Finished(outcome, _, checkpoint):
                    end()
                    results.append(f"checkpoint {checkpoint}")
                    if outcome == "stopped":
                        say("Stopped. Go on with --resume and the same --output.")
                case Progress(name, done, total, unit):
                    if name != task:
                        begin(name, total, 0, unit)
                    if bar is not None:
                        # Tiles become more when memory runs short.
                        bar.total = total
                        bar.update(done - bar.n)
                case Wrote(what, path) if what != "settings":
                    end()
                    results.append(f"{what} {path}")
                case Discarded(run):
                    say(f"Discarded the run in {run}.")
                    results.clear()
    finally:
        end()
    sys.stdout.write(f"Results: {', '.join(results)}\n" if results else "No results were kept.\n")


def _about(event: Started) -> str:
    done = f", from step {event.step}" if event.step else ""
    return (
        f"Training on {event.n_training} synapses, validating on {event.n_validation}; "
        f"{event.steps_per_epoch} steps of {event.batch_size} pairs an epoch, on {event.device} "
        f"in {event.precision}{done}. Run folder: {event.run}"
    )


def _epoch(event: EpochDone) -> str:
    parts = [f"training loss {event.training_loss:.3f}"]
    if event.validation_loss is not None:
        parts.append(f"validation {event.validation_loss:.3f}")
    if event.retrieval is not None:
        parts.append(f"retrieval {event.retrieval:.0%}")
    if event.effective_rank is not None:
        parts.append(f"effective rank {event.effective_rank:.1f}")
    if event.knn_accuracy is not None:
        parts.append(f"kNN accuracy {event.knn_accuracy:.2f}")
    best = " (best so far)" if event.best else ""
    return f"Epoch {event.epoch}: {', '.join(parts)}{best}"
