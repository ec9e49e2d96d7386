"""`fnet train`: train a model, show the progress, and write the results to a folder.

The folder gets config.json, history.csv, metrics.json, report.txt, predictions.csv, model.npz, checkpoints and, with
matplotlib, pictures. With --tensorboard DIR, each epoch is also written to a subfolder of DIR with the name of the
folder. The same command with the same seed writes the same model, byte for byte. An interrupted run saves a checkpoint,
from which --resume continues to the same bits.
"""

import argparse
import contextlib
import shlex
import signal
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import TrainState, checkpoint
from fnet.cli import folder, options, threads
from fnet.cli.job import Job, OtherJobError, check_same_job, circumstances, make_job, member_data
from fnet.cli.main import report
from fnet.cli.output import say, visible
from fnet.cli.parser import Parser
from fnet.cli.progress import display, end_of_lbfgs, tensorboard_run
from fnet.cli.results import Trained, write_results
from fnet.data.cells import counted
from fnet.engine import ALONE, Processes
from fnet.interop import missing
from fnet.lbfgs import LBFGSState
from fnet.training import EpochRecord, is_finished, train_state_shapes

__all__ = ["interruptible", "main", "parse_args"]


class World(NamedTuple):
    """The processes that share each batch, and their communication other than sums."""

    processes: Processes
    any: Callable[[bool], bool]  # whether the argument is True in any process
    abort: Callable[[int], object]  # end all processes, which would wait for this one


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = Parser("train", "[OPTION…]", "Train a model and write the results to a folder.")
    group = parser.add_argument_group("run")
    add = group.add_argument
    add("--out", type=Path, metavar="DIR", help="folder for the results (runs/TIME-DATA)")
    add("--overwrite", action="store_true", help="replace a run in --out")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--checkpoint-every", type=checkpoint_interval, metavar="N", help="steps, or epoch")
    add("--ensemble", type=threads.number, default=1, metavar="N", help="average N networks")
    folds = "train K networks, each validated on the fold that it does not see"
    add("--folds", type=threads.number, metavar="K", help=folds)
    add("--calibrate", action="store_true", help="on validation rows")
    add("--no-calibrate", dest="calibrate", action="store_false", help="keep probabilities")
    add("--mpi", action="store_true", help="under mpiexec")
    add("--no-pictures", dest="pictures", action="store_false", help="write no .png")
    options.add_run_options(group)
    options.add_data_options(parser)
    options.add_model_options(parser)
    options.add_training_options(parser)
    args = options.parse(parser, argv)
    if args.resume and args.out is None:
        parser.error("--resume needs --out DIR, the folder of the run to continue")
    if args.resume and args.overwrite:
        parser.error("--resume continues the run in --out, and --overwrite replaces it: use one of them")
    if args.folds:
        if args.ensemble > 1 and options.given(argv, "--ensemble"):  # a preset may have one too
            parser.error(f"--folds {args.folds} already trains and averages {args.folds} networks: omit --ensemble")
        args.ensemble = 1
        args.valid_size = 0  # each row is validated once
    elif args.calibrate is True and not args.valid_size:
        parser.error("--calibrate needs validation data: --valid-size must not be 0")
    return args


def main(argv: list[str]) -> None:
    """Train as the command line says."""
    args = parse_args(argv)
    threads.limit(args.threads)
    world = mpi_world() if args.mpi else World(ALONE, bool, int)
    try:
        options.prepare_tensorboard(args.tensorboard)
        job = make_job(args)
        if world.processes.rank == 0:
            with folder.owned(args.out, job.data.name) as out:
                lead(args, argv, job, out, world)
        else:  # this rank only computes
            args.quiet, args.tensorboard = True, None
            train_members(args, argv, job, args.out, world)
    except (KeyboardInterrupt, fnet.NonFiniteLossError):  # raised in all processes, and the first may be saving
        raise
    except Exception as error:
        if world.processes.size == 1:
            raise
        try:
            code = report(error)
        except Exception:
            code = 1
            traceback.print_exception(error)
        time.sleep(0.5)  # mpiexec loses recent output when it ends the processes
        world.abort(code)
        raise SystemExit(code) from None


def lead(args: argparse.Namespace, argv: list[str], job: Job, out: Path, world: World) -> None:
    """Train and write the results, in the process that owns the folder."""
    if not args.overwrite:
        folder.check_free(out, resume=args.resume)
    if not args.quiet:
        print("\n".join(map(visible, [headline(job), *job.data.remarks])))
        chen_wu = (job.config.sizes[0], job.config.num_outputs) == (128, 10)
        if job.train_config.optimizer == "lbfgs":
            print("L-BFGS sees all rows in each step: without batch norm, dropout, noise and a learning rate")
        if args.preset in ("chen-wu-best", "chen-wu-large") and not chen_wu:
            print(f"the preset {args.preset} was tuned on Chen & Wu's data; it suits features that have the same unit")
        if args.calibrate and not job.calibrate and job.config.loss in ("cross_entropy", "pinball"):
            what = "the temperature is" if job.data.scale is None else "the quantiles are"
            print(f"{what} not calibrated: there are no validation data")
    trained = train_members(args, argv, job, out, world)
    text = write_results(job, out, trained, pictures=args.pictures, tensorboard_to=args.tensorboard)
    if not args.quiet:
        print(f"\n{text}\nResults are in {visible(out)}")


def headline(job: Job) -> str:
    """The data, the network and the engine, in one line."""
    data = job.data
    splits = {"training": data.train, "validation": data.valid, "test": data.test}
    rows = ", ".join(f"{len(dataset.y):,} {split}" for split, dataset in splits.items() if dataset is not None)
    networks = f"{job.networks} networks of " if job.networks > 1 else ""
    return (
        f"{data.name}: {rows} rows; {counted(job.config.sizes[0], 'feature')}, {data.predicts}; "
        f"{networks}{fnet.num_params(job.config):,} parameters; engine {job.engine}"
    )


def mpi_world() -> World:
    """The processes that mpiexec started."""
    try:
        from mpi4py import MPI
    except ImportError:
        raise missing("--mpi", "mpi4py", "mpi") from None
    world = MPI.COMM_WORLD

    def sum_over(array: fnet.nn.Array) -> fnet.nn.Array:
        total = np.empty_like(array)
        world.Allreduce(np.ascontiguousarray(array), total)
        return total

    def any_of(flag: bool) -> bool:
        return bool(world.allreduce(flag, MPI.LOR))

    return World(Processes(world.rank, world.size, sum_over), any_of, world.Abort)


# Training -------------------------------------------------------------------------------------------------------------


def train_members(args: argparse.Namespace, argv: list[str], job: Job, out: Path, world: World) -> list[Trained]:
    """Train all networks, each from its newest checkpoint if there is one."""
    key, n = fnet.random.key(job.seed), job.networks
    keys = [key] if n == 1 else [fnet.random.fold_in(key, member) for member in range(n)]
    resumed = [load(folder.checkpoints(out, i), job, keys[i]) if args.resume else None for i in range(n)]
    if world.processes.rank == 0:
        folder.begin(out, {**job.description, **circumstances(job, argv)}, resume=args.resume)
    with interruptible() as caught:

        def stop() -> bool:
            return world.any(caught())

        return [train_member(args, argv, job, i, keys[i], resumed[i], out, world, stop) for i in range(n)]


def train_member(
    args: argparse.Namespace,
    argv: list[str],
    job: Job,
    member: int,
    key: fnet.random.Key,
    resumed: Trained | None,
    out: Path,
    world: World,
    stop: Callable[[], bool],
) -> Trained:
    """Train one network."""
    train_state, records = resumed or (None, list[EpochRecord]())
    epochs = fnet.fit(
        job.config,
        job.train_config,
        *member_data(job, member),
        key=key,
        train_state=train_state,
        engine=job.engine,
        transform=job.data.transform,
        yield_every=args.checkpoint_every or None,
        stop=stop,
        processes=world.processes,
    )

    def save(train_state: TrainState | None) -> None:
        if world.processes.rank == 0 and train_state is not None:
            metadata = {"job": job.description, "records": [list(record) for record in records]}
            path = folder.checkpoints(out, member)
            checkpoint.save_step(path, int(train_state.step), (train_state, key), metadata=metadata)

    try:
        with tensorboard_run(args, job, member, out, records) as add_to_tensorboard:
            show = display(args, job, f"network {member + 1} of {job.networks}" if job.networks > 1 else "")
            for train_state, record in epochs:
                if record.finished:
                    record = job.in_unit(record)
                    records.append(record)
                    show(record)
                    add_to_tensorboard(record)
                if args.checkpoint_every is not None:
                    save(train_state)
    except fnet.NonFiniteLossError as error:
        save(error.train_state)
        raise
    except OSError:  # for example a full disk under --tensorboard; --resume can then continue
        save(train_state)
        raise
    assert train_state is not None
    if isinstance(train_state.opt_state, LBFGSState) and not args.quiet:
        print(end_of_lbfgs(records[-1], job.train_config, failed=bool(train_state.opt_state.failed)), flush=True)
    save(train_state)  # even if finished, so that it can be trained for more epochs
    if not is_finished(train_state, job.train_config):
        arguments = [argument for argument in argv if argument not in ("--resume", "--overwrite")]
        if args.out is None:
            arguments += ["--out", str(out)]
        command = shlex.join(["fnet", "train", *arguments, "--resume"])
        raise KeyboardInterrupt(f"interrupted at step {int(train_state.step)}; to continue: {command}")
    return Trained(train_state, records)


def load(path: Path, job: Job, key: fnet.random.Key) -> Trained | None:
    """Load the state and the records from the newest undamaged checkpoint, if there is one.

    Raises:
        ValueError: it belongs to another job, or has more epochs than the job.
    """
    like = (train_state_shapes(job.config, job.train_config), key)

    def read(path: Path) -> Trained:
        metadata = checkpoint.load_metadata(path)
        check_same_job(metadata["job"], job)
        train_state, _ = checkpoint.load(path, like)
        return Trained(train_state, [EpochRecord(*record) for record in metadata["records"]])

    try:
        loaded = checkpoint.load_newest(path, read)
    except OtherJobError as error:
        raise ValueError(str(error)) from None
    if loaded is not None:
        done, wanted = len(loaded.records), job.train_config.epochs
        if done > wanted:
            raise ValueError(f"the run in {path.parents[1]} has {done} epochs; --epochs must be at least {done}")
        if done < wanted and is_finished(loaded.train_state, job.train_config):
            why = "L-BFGS" if isinstance(loaded.train_state.opt_state, LBFGSState) else "--patience"
            say("note", f"training stopped early after {done} epochs ({why}) and stops there again")
    return loaded


def checkpoint_interval(text: str) -> int:
    """A number of steps; 0 means every epoch."""
    if text == "epoch":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of steps or "epoch", but got {text!r}')
    return int(text)


@contextlib.contextmanager
def interruptible() -> Generator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, so that the step is finished and saved; a second ends at once."""
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
