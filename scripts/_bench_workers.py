"""One contender of scripts/bench.py in a process of its own, driven by lines of JSON.

    python scripts/_bench_workers.py NAME --threads N

Every contender trains the same network: per hidden layer linear without bias, batch norm, ReLU, dropout 0.3; then
linear and softmax cross entropy; Adam with learning rate 5e-4; on the same float32 batches in the same order. Each is
written as its users would for speed; where a library has several ways, the fastest that was found.
"""

import _threads  # noqa: I001  # before NumPy

import contextlib
import importlib
import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import fnet
from fnet import MLPConfig, TrainConfig, losses, mlp, nn, optim
from fnet.nn import Array

LEARNING_RATE, DROPOUT = 5e-4, 0.3
PREDICT_ROWS, PREDICT_CALLS = 10_000, 5
THREADS = int(os.environ[_threads.VARIABLES[0]])


class Task(NamedTuple):
    """What all contenders do: the network, and the data of an epoch of whole batches."""

    sizes: tuple[int, ...]
    batch_size: int
    x: Array
    y: Array
    order: Array  # the rows of x and y, [steps, batch_size]
    test: fnet.Dataset


class Contender(NamedTuple):
    epoch: Callable[[], None]
    predict: Callable[[], Array]  # logits, or logarithms of probabilities, of the test rows
    updates: Callable[[], int]  # of the parameters so far, as the library counts them
    versions: dict[str, str]


def make_task(sizes: list[int], batch_size: int, examples: int) -> Task:
    rows = examples // batch_size * batch_size
    key = fnet.random.key(0)
    data = fnet.data.synthetic(key, rows + PREDICT_ROWS, sizes[0], sizes[-1])
    order = fnet.random.permutation(key, rows).reshape(-1, batch_size)
    train, test = (fnet.Dataset(data.x[part].copy(), data.y[part].copy()) for part in (slice(rows), slice(rows, None)))
    return Task(tuple(sizes), batch_size, train.x, train.y, order, test)


# The contenders -------------------------------------------------------------------------------------------------------


def make_fnet(task: Task) -> Contender:
    config = MLPConfig(sizes=task.sizes, dropout=DROPOUT)
    train_config = TrainConfig(batch_size=task.batch_size, learning_rate=LEARNING_RATE)
    key = fnet.random.key(0)
    train_state = fnet.init_train_state(key, config, train_config)
    memory = fnet.workspace(config, task.batch_size)

    def epoch() -> None:
        nonlocal train_state
        for rows in task.order:
            train_state, _ = fnet.train_step(
                config,
                train_config,
                train_state,
                fnet.data.gather(task.x, rows),
                task.y.take(rows),
                key=fnet.random.fold_in(key, int(train_state.step)),
                donate=memory,
            )

    def predict() -> Array:
        return fnet.predict_logits(config, train_state.params, train_state.state, task.test.x)

    return Contender(epoch, predict, lambda: int(train_state.step), {"fnet": fnet.__version__, "numpy": np.__version__})


def make_torch(task: Task, *, fused: bool = False, compiled: bool = False) -> Contender:
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # else helper processes are left running
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    layers: list[Any] = []
    for fan_in, width in zip(task.sizes[:-2], task.sizes[1:-1], strict=True):
        layers += [torch.nn.Linear(fan_in, width, bias=False), torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
        layers.append(torch.nn.Dropout(DROPOUT))
    model = torch.nn.Sequential(*layers, torch.nn.Linear(*task.sizes[-2:]))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    x, y, test_x = (torch.tensor(array) for array in (task.x, task.y, task.test.x))
    batches = list(torch.tensor(task.order))

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    forward = model
    if compiled:
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.fallback_random = True  # faster than the dropout it compiles
        loss_of, forward = (torch.compile(f, dynamic=False) for f in (loss_of, model))

    def epoch() -> None:
        for rows in batches:
            optimizer.zero_grad(set_to_none=True)
            loss_of(x.index_select(0, rows), y.index_select(0, rows)).backward()
            optimizer.step()

    def predict() -> Array:
        model.eval()
        with torch.inference_mode():
            logits = forward(test_x).numpy()
        model.train()
        return logits

    first = next(model.parameters())
    return Contender(epoch, predict, lambda: int(optimizer.state[first]["step"]), {"torch": torch.__version__})


def make_jax(task: Task, *, scan: bool = False) -> Contender:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if THREADS == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false " + os.environ.get("XLA_FLAGS", "")
    jax: Any = importlib.import_module("jax")
    optax: Any = importlib.import_module("optax")
    jnp, random = jax.numpy, jax.random
    adam = optax.adam(LEARNING_RATE)

    def init(key: Any) -> Any:
        params: list[Any] = []
        for fan_in, width in zip(task.sizes[:-1], task.sizes[1:], strict=True):
            key, w_key = random.split(key)
            w = random.uniform(w_key, (fan_in, width), minval=-1, maxval=1) / fan_in**0.5
            params.append({"w": w, "scale": jnp.ones(width), "bias": jnp.zeros(width)})
        del params[-1]["scale"]
        stats = [(jnp.zeros(width), jnp.ones(width)) for width in task.sizes[1:-1]]
        return params, stats, adam.init(params), key

    def normalize(layer: Any, mean: Any, var: Any, z: Any) -> Any:
        return (z - mean) * (layer["scale"] / jnp.sqrt(var + 1e-5)) + layer["bias"]

    def loss_of(params: Any, stats: Any, x: Any, y: Any, key: Any) -> Any:
        new_stats: list[Any] = []
        for layer, (mean, var), k in zip(params, stats, random.split(key, len(stats)), strict=False):
            z = x @ layer["w"]
            batch_mean, batch_var, n = z.mean(0), z.var(0), len(z)
            new_stats.append((0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * n / (n - 1) * batch_var))
            h = jax.nn.relu(normalize(layer, batch_mean, batch_var, z))
            x = jnp.where(random.bernoulli(k, 1 - DROPOUT, h.shape), h / (1 - DROPOUT), 0)
        logits = x @ params[-1]["w"] + params[-1]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new_stats

    def step(carry: Any, batch: Any) -> Any:
        params, stats, opt_state, key = carry
        key, dropout_key = random.split(key)
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params, stats, *batch, dropout_key)
        updates, opt_state = adam.update(grads, opt_state)
        return (optax.apply_updates(params, updates), stats, opt_state, key), loss

    def forward(params: Any, stats: Any, x: Any) -> Any:
        for layer, (mean, var) in zip(params, stats, strict=False):
            x = jax.nn.relu(normalize(layer, mean, var, x @ layer["w"]))
        return x @ params[-1]["w"] + params[-1]["bias"]

    x, y, test_x = jnp.asarray(task.x[task.order]), jnp.asarray(task.y[task.order], jnp.int32), jnp.asarray(task.test.x)
    carry = jax.jit(init)(random.key(0))
    jit_step = jax.jit(step, donate_argnums=0)
    jit_scan = jax.jit(lambda carry, x, y: jax.lax.scan(step, carry, (x, y)), donate_argnums=0)
    jit_forward = jax.jit(forward)
    batches = list(zip(x, y, strict=True))

    def epoch() -> None:
        nonlocal carry
        if scan:
            carry, _ = jit_scan(carry, x, y)
        else:
            for batch in batches:
                carry, _ = jit_step(carry, batch)
        jax.block_until_ready(carry)

    def predict() -> Array:
        return np.asarray(jit_forward(carry[0], carry[1], test_x))

    versions = {"jax": jax.__version__, "optax": optax.__version__}
    return Contender(epoch, predict, lambda: int(carry[2][0].count), versions)


def make_sklearn(task: Task) -> Contender:
    sklearn: Any = importlib.import_module("sklearn")
    model: Any = importlib.import_module("sklearn.neural_network").MLPClassifier(
        task.sizes[1:-1], batch_size=task.batch_size, learning_rate_init=LEARNING_RATE, alpha=0.0, shuffle=False
    )
    rows = task.order.ravel()
    x, y, classes = task.x[rows], task.y[rows], np.arange(task.sizes[-1])

    def epoch() -> None:
        model.partial_fit(x, y, classes=classes)

    def predict() -> Array:
        return np.log(np.maximum(model.predict_proba(task.test.x), 1e-30))

    return Contender(epoch, predict, lambda: model._optimizer.t, {"scikit-learn": sklearn.__version__})


def make_floor(task: Task) -> Contender:
    """Nothing but the matrix products of a step, into memory that is there."""
    rng = np.random.default_rng(0)
    n, test_x, updates = task.batch_size, task.test.x, 0
    shapes = list(zip(task.sizes[:-1], task.sizes[1:], strict=True))

    def random(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    layers = [(random(n, a), random(a, b) / np.float32(a**0.5), random(n, b)) for a, b in shapes]
    outs = [
        (np.empty((n, b), np.float32), np.empty((a, b), np.float32), np.empty((n, a), np.float32)) for a, b in shapes
    ]
    whole = [np.empty((len(test_x), b), np.float32) for _, b in shapes]

    def epoch() -> None:
        nonlocal updates
        for _ in task.order:
            for (x, w, _), (y, _, _) in zip(layers, outs, strict=True):
                np.dot(x, w, out=y)
            for i in reversed(range(len(layers))):
                (x, w, dy), (_, dw, dx) = layers[i], outs[i]
                np.dot(x.T, dy, out=dw)
                if i:
                    np.dot(dy, w.T, out=dx)
            updates += 1

    def chunked(chunk: int) -> Array:
        for start in range(0, len(test_x), chunk):
            h = test_x[start : start + chunk]
            for (_, w, _), out in zip(layers, whole, strict=True):
                h = np.dot(h, w, out=out[: len(h)])
        return whole[-1]

    ways = [partial(chunked, chunk) for chunk in (len(test_x), 1024, 512, 256)]
    predict = min(ways, key=lambda way: min(timed(way)[0] for _ in range(PREDICT_CALLS)))
    return Contender(epoch, predict, lambda: updates, {})


MAKE: dict[str, Callable[[Task], Contender]] = {
    "fnet": make_fnet,
    "torch": make_torch,
    "torch-fused": partial(make_torch, fused=True),
    "torch-compile": partial(make_torch, fused=True, compiled=True),
    "jax": make_jax,
    "jax-scan": partial(make_jax, scan=True),
    "sklearn": make_sklearn,
    "floor": make_floor,
}


# Where a step's time goes ---------------------------------------------------------------------------------------------

PHASES: dict[str, tuple[tuple[Any, str], ...]] = {
    "products": ((nn, "linear_fwd"), (nn, "linear_bwd")),
    "batch norm": ((nn, "batch_norm_fwd"), (nn, "batch_norm_bwd")),
    "activation": ((nn, "activation_fwd"), (nn, "activation_bwd")),
    "dropout": ((nn, "dropout_fwd"), (nn, "dropout_bwd")),
    "random bits": ((fnet.random, "bits"), (fnet.random, "fold_in")),
    "loss": (
        (losses, "label_targets"),
        (losses, "softmax_cross_entropy_fwd"),
        (losses, "softmax_cross_entropy_bwd"),
    ),
    "optimizer": ((optim, "adam_update"),),
    "batch": ((fnet.data, "gather"),),
    "checks": ((mlp, "check_params"), (mlp, "check_features")),
}


@contextlib.contextmanager
def phases_timed() -> Iterator[dict[str, float]]:
    """Seconds in each phase, by a stopwatch around the functions that a step calls; none of them calls another."""
    spent = dict.fromkeys(PHASES, 0.0)

    def watched(phase: str, f: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = f(*args, **options)
            spent[phase] += time.perf_counter() - start
            return result

        return call

    with contextlib.ExitStack() as stack:
        for phase, functions in PHASES.items():
            for module, name in functions:
                stack.enter_context(mock.patch.object(module, name, watched(phase, getattr(module, name))))
        yield spent


def profile(task: Task, repeats: int) -> dict[str, list[float]]:
    """Seconds a step: of each phase, of the whole with and without stopwatches, and of the products' floor."""
    contender, floor = make_fnet(task), make_floor(task)
    samples: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):  # the first is warm-up
        turn = {"whole": timed(contender.epoch)[0], "floor": timed(floor.epoch)[0]}
        with phases_timed() as spent:
            turn["whole with stopwatches"] = timed(contender.epoch)[0]
        if unseen := [phase for phase in spent if not spent[phase]]:
            raise RuntimeError(f"a step no longer calls the functions of {', '.join(unseen)} by these names")
        turn |= spent
        turn["rest"] = turn["whole with stopwatches"] - sum(spent.values())
        for name, seconds in turn.items():
            if repeat:
                samples.setdefault(name, []).append(seconds / len(task.order))
    return samples


# Data larger than memory ----------------------------------------------------------------------------------------------


def memory(task: Task, rows: int) -> dict[str, Any]:
    """An epoch of `fnet.fit` on a memory-mapped file, in turn with epochs on the task's rows in memory: seconds a row
    of both, and the peak of the anonymous memory (all but file pages) of this process."""
    config = MLPConfig(sizes=task.sizes, dropout=DROPOUT)
    train_config = TrainConfig(batch_size=task.batch_size, learning_rate=LEARNING_RATE, epochs=sys.maxsize)
    key, every = fnet.random.key(0), len(task.order)
    on_disk, in_memory = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), rows, task.sizes[0], task.sizes[-1])
        before = anonymous_memory()
        small = fnet.fit(config, train_config, fnet.Dataset(task.x, task.y), key=key)
        next(small)  # warm-up
        with peak_of(anonymous_memory) as peak:
            large, _ = fnet.data.load(folder)
            steps, seconds = 0, 0.0
            for _, record in fnet.fit(config, train_config, large, key=key, every=every):
                on_disk.append((record.seconds - seconds) / (record.step - steps) / task.batch_size)
                in_memory.append(next(small)[1].seconds / len(task.y))
                steps, seconds = record.step, record.seconds
                if record.finished:
                    break
    return {"peak bytes": max(peak), "bytes before": before, "on disk": on_disk, "in memory": in_memory}


def write_data(folder: Path, rows: int, features: int, classes: int) -> None:
    """Noise a chunk at a time, and which of some random directions it lies most along."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((features, classes), np.float32)
    labels = np.empty(rows, np.int64)
    with (folder / "train_data.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, features)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, 8192):
            x = rng.standard_normal((min(8192, rows - start), features), np.float32)
            labels[start : start + len(x)] = (x @ directions).argmax(axis=1)
            file.write(x.data)
    np.save(folder / "train_label.npy", labels)


def anonymous_memory() -> int:
    """Bytes of this process that are not pages of files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


@contextlib.contextmanager
def peak_of(measure: Callable[[], int]) -> Iterator[list[int]]:
    """The values of a measure, taken every few milliseconds."""
    values, done = [measure()], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            values.append(measure())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield values
    finally:
        done.set()
        thread.join()


# The process ----------------------------------------------------------------------------------------------------------


def timed(f: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    f()
    return time.perf_counter() - wall, time.process_time() - cpu


def train(task: Task, contender: Contender, epochs: int) -> dict[str, float]:
    """Seconds an epoch; an error if the parameters were not updated as often as they should be."""
    before, expected = contender.updates(), epochs * len(task.order)
    wall, cpu = timed(lambda: [contender.epoch() for _ in range(epochs)])
    made = contender.updates() - before
    if made != expected:
        raise RuntimeError(f"made {made} updates instead of {expected}")
    return {"wall": wall / epochs, "processor": cpu / epochs}


def predict(contender: Contender) -> dict[str, float]:
    contender.predict()  # after the others' turn, the caches are cold
    walls, cpus = zip(*(timed(contender.predict) for _ in range(PREDICT_CALLS)), strict=True)
    return {"wall": statistics.median(walls), "processor": statistics.median(cpus)}


def score(task: Task, contender: Contender) -> dict[str, float]:
    logits = contender.predict()
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, task.test.y).mean()
    return {"loss": float(loss), "accuracy": fnet.metrics.accuracy(logits, task.test.y)}


def serve(name: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The answer to each request. To set up compiles what is to be compiled, by training and predicting."""
    task: Any = None
    contender: Any = None
    first_loss = math.inf
    for request in map(json.loads, lines):
        match request["do"]:
            case "setup":
                task = make_task(request["sizes"], request["batch_size"], request["examples"])
                contender = MAKE[name](task)
                for _ in range(request["warm_up"]):
                    contender.epoch()
                first_loss = score(task, contender)["loss"]
                yield {"versions": contender.versions, "steps": len(task.order)}
            case "train":
                yield train(task, contender, request["epochs"])
            case "predict":
                yield predict(contender)
            case "score":
                yield {**score(task, contender), "first loss": first_loss}
            case "profile":
                yield profile(task, request["repeats"])
            case "memory":
                yield memory(task, request["rows"])
            case unknown:
                raise ValueError(f"no such request: {unknown}")


def pin() -> None:
    """Keep this process on as many cores as it may have threads, where the system can: no library can then use more."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-THREADS:])


def main(argv: list[str]) -> None:
    pin()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        for reply in serve(argv[0], sys.stdin):
            print(json.dumps(reply), file=answers, flush=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        print(json.dumps({"error": f"{type(error).__name__}: {reason}"}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
