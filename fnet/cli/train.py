"""Train a classifier, show how it goes, and write all that there is to know about the run to a folder.

    python scripts/train.py                             the report's best model on the embedded digits
    python scripts/train.py --data PATH --valid-size 0.1

Writes config.json, history.csv, metrics.json, report.txt, predictions.csv, model.npz and, with matplotlib,
accuracy.png, loss.png and confusion_matrix.png. With --tensorboard DIR it writes also to the subfolder of DIR that has
the name of the folder, from epoch to epoch. The same command with the same seed writes the same model, byte for
byte. Interrupted, it saves a checkpoint, and --resume goes on from there to the same bits.
"""

import argparse
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import EpochRecord, TrainState, checkpoint
from fnet.cli import options, threads
from fnet.cli.results import Job, Trained, make_job, prepare_folder, run_name, write_results
from fnet.interop import tensorboard


class Processes(NamedTuple):
    """The processes that share each batch, and how they speak to each other."""

    rank: int
    size: int
    sum: fnet.nn.Reduce  # of an array over all processes
    any: Callable[[bool], bool]  # whether it is True in one of them
    abort: Callable[[int], None]  # end the others, which would wait for this one


ALONE = Processes(0, 1, fnet.nn.identity, bool, lambda code: None)


class InterruptedRunError(Exception):
    """A signal came; the state has been saved."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--preset", choices=tuple(options.PRESETS), default="report")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/<time>-<data>")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--ensemble", type=int, default=1, metavar="N", help="train N networks, average probabilities")
    parser.add_argument(
        "--checkpoint-every", type=checkpoint_interval, metavar="STEPS|epoch", help="save to go on from"
    )
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="write no .png")
    parser.add_argument("--calibrate", action="store_true", help="fit a temperature on the validation data")
    parser.add_argument(
        "--mpi", action="store_true", help="share each batch: mpiexec -n N python scripts/train.py --mpi"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if any")
    options.add_tensorboard_option(parser)
    options.add_data_options(parser)
    options.add_model_options(parser)
    options.add_training_options(parser)
    args = options.parse(parser, argv)
    if args.resume and args.out is None:
        parser.error("--resume needs --out DIR, the folder of the run to go on with")
    if args.calibrate is True and not args.valid_size:
        parser.error("--calibrate needs validation data to fit a temperature on: --valid-size must not be 0")
    if args.ensemble < 1:
        parser.error(f"--ensemble must be at least 1, but got {args.ensemble}")
    return args


def main(argv: list[str] | None = None) -> int:
    args, processes = parse_args(argv), ALONE
    threads.limit(args.threads)
    try:
        if args.mpi:
            processes = mpi_processes()
        options.prepare_tensorboard(args.tensorboard)
        job = make_job(args)
        out = args.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{job.data.name}"
        if processes.rank == 0:
            prepare_folder(out, job, resume=args.resume)
            if args.calibrate and job.data.valid is None and not args.quiet:
                print("no temperature is fitted, since there are no validation data")
        else:
            args.quiet, args.tensorboard = True, None
        with interruptible() as caught:
            trained = [train_member(args, job, i, out, processes, caught) for i in range(job.ensemble)]
        if processes.rank == 0:
            calibrate = bool(args.calibrate)
            text = write_results(
                job, out, trained, calibrate=calibrate, pictures=args.pictures, tensorboard_to=args.tensorboard
            )
            if not args.quiet:
                print(f"\n{text}\nResults are in {out}")
    except InterruptedRunError as interruption:
        print(interruption, file=sys.stderr)
        return 130
    except KeyboardInterrupt:  # while it loads or writes, or a second one while it trains
        print("interrupted", file=sys.stderr)
        return 130
    except fnet.NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (OSError, ValueError, TypeError, ImportError, OtherJobError) as error:
        print(f"error: {error}", file=sys.stderr)
        processes.abort(2)
        return 2
    return 0


def mpi_processes() -> Processes:
    """The processes that mpiexec has started."""
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError('--mpi needs mpi4py: python -m pip install "fnet[mpi]"') from None
    world = MPI.COMM_WORLD

    def sum_over(array: fnet.nn.Array) -> fnet.nn.Array:
        total = np.empty_like(array)
        world.Allreduce(np.ascontiguousarray(array), total)
        return total

    def abort(code: int) -> None:
        if world.size > 1:
            world.Abort(code)

    return Processes(world.rank, world.size, sum_over, lambda flag: world.allreduce(flag, MPI.LOR), abort)


# Training -------------------------------------------------------------------------------------------------------------


def train_member(
    args: argparse.Namespace, job: Job, member: int, out: Path, processes: Processes, caught: Callable[[], bool]
) -> Trained:
    """Train one network of the ensemble, from its newest checkpoint if it has one."""
    config, train_config, data = job.config, job.train_config, job.data
    key = fnet.random.key(job.seed)
    if job.ensemble > 1:
        key = fnet.random.fold_in(key, member)
    folder = out / "checkpoints" / f"member-{member}"
    train_state, records = fnet.init_train_state(key, config, train_config), list[EpochRecord]()
    resumed = resume(folder, job, train_state, key) if args.resume else None
    if resumed is not None:
        train_state, records = resumed
    epochs = fnet.fit(
        config,
        train_config,
        data.train,
        data.valid,
        key=key,
        train_state=None if resumed is None else train_state,
        transform=data.transform,
        every=args.checkpoint_every or None,
        stop=lambda: processes.any(caught()),
        reduce=processes.sum,
        shard=(processes.rank, processes.size),
    )

    def save() -> None:
        if processes.rank:
            return
        metadata = {"job": job.description, "records": [list(record) for record in records]}
        checkpoint.save_step(folder, int(train_state.step), (train_state, key), metadata=metadata)

    title = f"network {member + 1} of {job.ensemble}" if job.ensemble > 1 else ""
    try:
        with (
            display(args, title, train_config.epochs, len(records)) as show,
            tensorboard_run(args, job, member, out, records) as add_to_tensorboard,
        ):
            for train_state, record in epochs:  # noqa: B007
                if record.finished:
                    records.append(record)
                    show(record)
                    add_to_tensorboard(record)
                if args.checkpoint_every is not None:
                    save()
    except fnet.NonFiniteLossError as error:
        train_state = error.train_state
        save()
        raise
    except OSError:  # such as a full disk under --tensorboard, which is to cost no more than a --resume
        save()
        raise
    if not fnet.is_finished(train_state, train_config):
        save()
        raise InterruptedRunError(f"interrupted at step {int(train_state.step)}; to go on: {resume_command(out)}")
    if job.ensemble > 1:
        save()  # a finished network is not trained again if a later one is interrupted
    return Trained(train_state, records)


def resume(
    folder: Path, job: Job, like: TrainState, key: fnet.random.Key
) -> tuple[TrainState, list[EpochRecord]] | None:
    """The state and the records in the newest good checkpoint, if there is one and it is of this job."""

    def read(path: Path) -> tuple[dict[str, Any], tuple[TrainState, fnet.random.Key]]:
        metadata = checkpoint.load_metadata(path)
        check_same_job(metadata["job"], job.description)
        return metadata, checkpoint.load(path, (like, key))

    found = checkpoint.load_newest(folder, read)
    if found is None:
        return None
    metadata, (train_state, _) = found
    return train_state, [EpochRecord(*record) for record in metadata["records"]]


class OtherJobError(Exception):
    """A checkpoint is of another job."""


def checkpoint_interval(text: str) -> int:
    """A number of steps; 0 stands for every epoch."""
    if text == "epoch":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of steps or "epoch", but got {text!r}')
    return int(text)


def check_same_job(stored: Any, current: Any) -> None:
    differences = [f"  {path}: {old!r} in the checkpoint, {new!r} now" for path, old, new in differing(stored, current)]
    if differences:
        raise OtherJobError("cannot resume, since the run was another one:\n" + "\n".join(differences))


def differing(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The paths at which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({**old, **new}):
            yield from differing(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
    elif old != new:
        yield path, old, new


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, so that a step is finished and saved; a second one ends at once."""
    caught: list[int] = []

    def catch(number: int, frame: Any) -> None:
        caught.append(number)
        for name, handler in old.items():
            signal.signal(name, handler)

    old = {name: signal.signal(name, catch) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)


def resume_command(out: Path) -> str:
    arguments = [argument for argument in sys.argv if argument != "--resume"]
    if "--out" not in arguments and not any(a.startswith("--out=") for a in arguments):
        arguments += ["--out", str(out)]
    return shlex.join(["python", *arguments, "--resume"])


# What is shown while it trains ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def display(args: argparse.Namespace, title: str, epochs: int, done: int) -> Iterator[Callable[[EpochRecord], None]]:
    """A function that shows a finished epoch: a line, and in a terminal a progress bar below the lines."""
    if args.quiet:
        yield lambda record: None
        return
    if title:
        print(title, flush=True)
    print(" epoch  train loss  accuracy  valid loss  accuracy  learning rate  seconds", flush=True)
    if not sys.stdout.isatty():
        yield lambda record: print(epoch_line(record), flush=True)
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('the progress bar needs tqdm: python -m pip install "fnet[train]", or use --quiet') from None
    with tqdm(total=epochs, initial=done, unit="epoch", file=sys.stdout) as bar:

        def show(record: EpochRecord) -> None:
            bar.write(epoch_line(record), file=sys.stdout)
            bar.update()

        yield show


@contextlib.contextmanager
def tensorboard_run(
    args: argparse.Namespace, job: Job, member: int, out: Path, records: list[EpochRecord]
) -> Iterator[Callable[[EpochRecord], None]]:
    """A function that adds a finished epoch to what TensorBoard shows of this network."""
    if args.tensorboard is None:
        yield lambda record: None
        return
    name = run_name(out)
    hparams = {
        **job.description["network"],
        **job.description["training"],
        "data": job.data.name,
        "power": args.power,
        "preset": args.preset,
        "seed": job.seed,
    }
    if job.ensemble > 1:
        if member == 0:  # the run of the ensemble, with its confusion matrix; the networks are runs in its folder
            tensorboard.write_run(args.tensorboard, name, [], hparams={})
        name = f"{name}/network-{member + 1}"
        hparams["network"] = member + 1
    with tensorboard.open_run(args.tensorboard, name, records, hparams=hparams) as add:
        yield add


def epoch_line(record: EpochRecord) -> str:
    def number(value: float | None, places: int) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    return (
        f"{record.epoch:>6}{record.train_loss:>12.4f}{record.train_accuracy:>10.4f}"
        f"{number(record.valid_loss, 4):>12}{number(record.valid_accuracy, 4):>10}"
        f"{record.learning_rate:>15.3g}{record.seconds:>9.2f}"
    )
