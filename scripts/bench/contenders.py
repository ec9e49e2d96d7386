"""One contender in a separate process: `python contenders.py NAME` answers requests, each a line of JSON.

All contenders train the same network. Each hidden layer is linear without bias, batch norm, ReLU and dropout 0.3; the
last layer is linear with softmax cross entropy. The optimizer is Adam with learning rate 5e-4, and the data are float32
in memory. Each contender uses the fastest method that was found for its library.
"""

import importlib
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet.nn import Array

LEARNING_RATE, DROPOUT = 5e-4, 0.3
PREDICT_ROWS, PREDICT_CALLS = 10_000, 5


class Task(NamedTuple):
    sizes: tuple[int, ...]
    batch_size: int
    train: fnet.Dataset  # full batches, in random order
    test: fnet.Dataset

    @property
    def steps(self) -> int:
        return len(self.train.y) // self.batch_size


class Contender(NamedTuple):
    epoch: Callable[[], object]
    predict: Callable[[], Array]  # probabilities of the classes of the test rows
    updates: Callable[[], int]  # of the parameters so far, as the library counts them


def make_task(sizes: list[int], batch_size: int, examples: int) -> Task:
    data = fnet.data.synthetic(fnet.random.key(0), examples + PREDICT_ROWS, sizes[0], sizes[-1])
    train, test = (fnet.Dataset(data.x[rows], data.y[rows]) for rows in (slice(examples), slice(examples, None)))
    return Task(tuple(sizes), batch_size, train, test)


def make_fnet(task: Task, *, engine: str, activation: str = "relu") -> Contender:
    config = fnet.MLPConfig(sizes=task.sizes, activation=activation, dropout=DROPOUT)
    train_config = fnet.TrainConfig(batch_size=task.batch_size, learning_rate=LEARNING_RATE, epochs=10**6)
    run = fnet.fit(config, train_config, task.train, key=fnet.random.key(0), engine=engine)
    train_state: Any = None

    def epoch() -> None:
        nonlocal train_state
        train_state, _ = next(run)

    def predict() -> Array:
        return fnet.predict_proba(config, train_state.params, train_state.state, task.test.x)

    return Contender(epoch, predict, lambda: int(train_state.step))


def make_torch(task: Task, *, fused: bool = False, compiled: bool = False) -> Contender:
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)
    layers: list[Any] = []
    for fan_in, width in zip(task.sizes[:-2], task.sizes[1:-1], strict=True):
        layers += [torch.nn.Linear(fan_in, width, bias=False), torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
        layers.append(torch.nn.Dropout(DROPOUT))
    model = torch.nn.Sequential(*layers, torch.nn.Linear(*task.sizes[-2:]))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    x, y, test_x = (torch.tensor(array) for array in (task.train.x, task.train.y, task.test.x))

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    def probabilities(x: Any) -> Any:
        return torch.softmax(model(x), dim=1)

    if compiled:
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.fallback_random = True  # faster than the dropout it compiles
        loss_of, probabilities = (torch.compile(f, dynamic=False) for f in (loss_of, probabilities))

    def epoch() -> None:
        for rows in torch.randperm(len(y)).split(task.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss_of(x.index_select(0, rows), y.index_select(0, rows)).backward()
            optimizer.step()

    def predict() -> Array:
        model.eval()
        with torch.inference_mode():
            result = probabilities(test_x).numpy()
        model.train()
        return result

    first = next(model.parameters())
    return Contender(epoch, predict, lambda: int(optimizer.state[first]["step"]))


def make_jax(task: Task, *, scan: bool) -> Contender:
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

    @jax.jit
    def probabilities(params: Any, stats: Any, x: Any) -> Any:
        for layer, (mean, var) in zip(params, stats, strict=False):
            x = jax.nn.relu(normalize(layer, mean, var, x @ layer["w"]))
        return jax.nn.softmax(x @ params[-1]["w"] + params[-1]["bias"])

    x = jnp.asarray(task.train.x).reshape(task.steps, task.batch_size, -1)
    y = jnp.asarray(task.train.y, jnp.int32).reshape(task.steps, task.batch_size)
    carry, batches, test_x = jax.jit(init)(random.key(0)), list(zip(x, y, strict=True)), jnp.asarray(task.test.x)
    jit_step = jax.jit(step, donate_argnums=0)
    jit_scan = jax.jit(lambda carry, x, y: jax.lax.scan(step, carry, (x, y)), donate_argnums=0)

    def epoch() -> None:
        nonlocal carry
        if scan:
            carry, _ = jit_scan(carry, x, y)
        else:
            for batch in batches:
                carry, _ = jit_step(carry, batch)
        jax.block_until_ready(carry)

    def predict() -> Array:
        return np.asarray(probabilities(carry[0], carry[1], test_x))

    return Contender(epoch, predict, lambda: int(carry[2][0].count))


def make_sklearn(task: Task) -> Contender:
    model: Any = importlib.import_module("sklearn.neural_network").MLPClassifier(
        task.sizes[1:-1], batch_size=task.batch_size, learning_rate_init=LEARNING_RATE, alpha=0.0
    )
    classes = np.arange(task.sizes[-1])
    return Contender(
        lambda: model.partial_fit(task.train.x, task.train.y, classes=classes),
        lambda: model.predict_proba(task.test.x),
        lambda: model._optimizer.t,
    )


def make_floor(task: Task) -> Contender:
    """Only the matrix products of a step, with preallocated memory."""
    rng, updates = np.random.default_rng(0), 0
    n, last = task.batch_size, len(task.sizes) - 1

    def random(*shape: int) -> Array:
        """Numbers with variance 1 / rows, in memory aligned to a cache line, which is faster."""
        memory = np.empty(math.prod(shape) + 16, np.float32)
        start = -memory.ctypes.data % 64 // 4
        array = memory[start : start + math.prod(shape)].reshape(shape)
        array[:] = rng.standard_normal(shape, np.float32) / math.sqrt(len(array))
        return array

    h, dh, whole = ([random(rows, width) for width in task.sizes] for rows in (n, n, PREDICT_ROWS))
    w, dw = ([random(*shape) for shape in itertools.pairwise(task.sizes)] for _ in range(2))

    def epoch() -> None:
        nonlocal updates
        for _ in range(task.steps):
            for i in range(last):
                np.dot(h[i], w[i], out=h[i + 1])
            for i in reversed(range(last)):
                np.dot(h[i].T, dh[i + 1], out=dw[i])
                if i:
                    np.dot(dh[i + 1], w[i].T, out=dh[i])
            updates += 1

    def predict(chunk: int) -> Array:
        for start in range(0, PREDICT_ROWS, chunk):
            rows = slice(start, start + chunk)
            for i in range(last):
                np.dot(whole[i][rows], w[i], out=whole[i + 1][rows])
        return whole[-1]

    ways = [partial(predict, chunk) for chunk in (PREDICT_ROWS, 1024, 512, 256)]
    fastest = min(ways, key=lambda way: min(seconds(way) for _ in range(PREDICT_CALLS)))
    return Contender(epoch, fastest, lambda: updates)


MAKE: dict[str, Callable[..., Contender]] = {
    "fnet-numba": partial(make_fnet, engine="numba"),
    "fnet-numpy": partial(make_fnet, engine="numpy"),
    "jax-scan": partial(make_jax, scan=True),
    "jax-step": partial(make_jax, scan=False),
    "torch": make_torch,
    "torch-fused": partial(make_torch, fused=True),
    "torch-compiled": partial(make_torch, fused=True, compiled=True),
    "sklearn": make_sklearn,
    "floor": make_floor,
}


# The process ----------------------------------------------------------------------------------------------------------


def seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def set_up(name: str, **sizes: Any) -> tuple[Task, Contender, float]:
    """Make a contender and train the first epoch, which compiles it; return it with its accuracy."""
    task = make_task(**sizes)
    kind, _, activation = name.partition(":")
    contender = MAKE[kind](task, **({"activation": activation} if activation else {}))
    contender.epoch()
    return task, contender, fnet.metrics.accuracy(contender.predict(), task.test.y)


def train(task: Task, contender: Contender, at_least: float) -> float:
    """Seconds per epoch; raises an error if the number of updates is wrong."""
    before, epochs, spent = contender.updates(), 0, 0.0
    while spent < at_least or not epochs:
        spent += seconds(contender.epoch)
        epochs += 1
    if (made := contender.updates() - before) != epochs * task.steps:
        raise RuntimeError(f"made {made} updates instead of {epochs * task.steps}")
    return spent / epochs


def predict(contender: Contender) -> float:
    contender.predict()  # warms the caches after the turns of the others
    return statistics.median(seconds(contender.predict) for _ in range(PREDICT_CALLS))


def serve(name: str, lines: Iterable[str]) -> Iterator[float]:
    task: Any = None
    contender: Any = None
    for request in map(json.loads, lines):
        match request.pop("do"):
            case "set up":
                task = contender = None  # their memory can go
                task, contender, accuracy = set_up(name, **request)
                yield accuracy
            case "train":
                yield train(task, contender, **request)
            case "predict":
                yield predict(contender)
            case unknown:
                raise ValueError(f"no such request: {unknown}")


def main(name: str) -> None:
    """Answer each request with a number, or the last with why there is none."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    try:
        for number in serve(name, sys.stdin):
            print(json.dumps(number), file=answers, flush=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        print(json.dumps(f"{type(error).__name__}: {reason}"), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
