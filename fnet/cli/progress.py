"""Progress of training: a line per epoch, and curves in TensorBoard."""

import argparse
import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

from fnet.cli.job import Job
from fnet.cli.results import run_name
from fnet.training import EpochRecord, TrainConfig

__all__ = ["display", "tensorboard_run"]


def display(args: argparse.Namespace, job: Job, title: str) -> Callable[[EpochRecord], None]:
    """A function that shows a finished epoch as a line."""
    if args.quiet:
        return lambda record: None
    score = f"{job.score.partition('_')[0]:>10}"
    length = "learning rate" if job.train_config.optimizer != "lbfgs" else "gradient"
    head = f" epoch  train loss{score}  valid loss{score}{length:>15}  seconds"
    print("\n".join(filter(None, [title, head])), flush=True)
    return lambda record: print(epoch_line(record), flush=True)


def epoch_line(record: EpochRecord) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"

    length = record.gradient if record.learning_rate is None else record.learning_rate
    return (
        f"{record.epoch:>6}{number(record.train_loss):>12}{number(record.train_score):>10}"
        f"{number(record.valid_loss):>12}{number(record.valid_score):>10}"
        f"{length:>15.3g}{record.seconds:>9.2f}"
    )


def end_of_lbfgs(record: EpochRecord, train_config: TrainConfig, *, failed: bool) -> str:
    """Why L-BFGS ended, in a line."""
    if record.converged:
        return f"converged: no element of the gradient is above --tolerance {train_config.tolerance:g}"
    left = f"the largest element of the gradient is {record.gradient:.3g}"
    if failed:
        return f"ended: no step lowers the loss by more than rounding; {left}"
    return f"not converged, {left}" + ("" if record.epoch < train_config.epochs else f"; --epochs was {record.epoch}")


@contextlib.contextmanager
def tensorboard_run(
    args: argparse.Namespace, job: Job, member: int, out: Path, records: list[EpochRecord]
) -> Generator[Callable[[EpochRecord], None]]:
    """Open a run in TensorBoard; yield a function that adds a finished epoch."""
    if args.tensorboard is None:
        yield lambda record: None
        return
    from fnet.interop import tensorboard

    name = run_name(out)
    hparams = {
        **job.description["network"],
        **job.description["training"],
        "data": job.data.name,
        "whitening": args.whitening,
        "preset": args.preset,
        "seed": job.seed,
    }
    if job.networks > 1:
        if member == 0:  # the ensemble is a run with pictures, and its networks are runs in its folder
            tensorboard.write_run(args.tensorboard, name, [], hparams={})
        name = f"{name}/network-{member + 1}"
        hparams["network"] = member + 1
    with tensorboard.open_run(args.tensorboard, name, records, hparams=hparams, score=job.score) as add:
        yield add
