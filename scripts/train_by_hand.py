"""Train Chen & Wu's best model on the digits with a training loop written from pure functions.

    python scripts/train_by_hand.py [EPOCHS]

Each step takes and returns parameters, batch-norm state and optimizer state. Every key is used once: it is split, or
the number of an epoch or step is folded into it.
"""

import sys
import time

import fnet
from fnet import random
from fnet.cli import threads

BATCH_SIZE = 64
LEARNING_RATE = 5e-4


def load() -> tuple[fnet.Dataset, fnet.Dataset]:
    """The training and test digits, standardized with the statistics of the training rows: Eq. (1)."""
    train, test = fnet.data.digits()
    standardizer = fnet.fit_standardizer(train.x)
    train, test = (rows._replace(x=fnet.standardize(standardizer, rows.x)) for rows in (train, test))
    return train, test


def main(epochs: int = 25) -> float:
    """Train, and return the accuracy on the test rows."""
    train, test = load()
    config = fnet.MLPConfig(sizes=(64, 256, 256, 256, 10), activation="relu", batch_norm=True, dropout=0.3)

    init_key, order_key, dropout_key = random.split(random.key(0), 3)
    params, state = fnet.init(init_key, config)
    opt_state = fnet.adam_init(params)
    print(f"{fnet.num_params(config):,} parameters\nepoch  train loss  seconds")

    step = 0
    for epoch in range(epochs):
        started, total = time.perf_counter(), 0.0
        for x, y in fnet.data.batches(random.fold_in(order_key, epoch), train, BATCH_SIZE):
            key = random.fold_in(dropout_key, step)
            (loss, aux), grads = fnet.loss_and_grads(config, params, state, x, y, key=key)
            params, opt_state = fnet.adam_update(params, grads, opt_state, learning_rate=LEARNING_RATE)
            state = aux.state
            total += loss * len(x)
            step += 1
        print(f"{epoch + 1:5}{total / len(train.x):12.4f}{time.perf_counter() - started:9.2f}")

    evaluation = fnet.evaluate(config, params, state, test)
    print(f"test loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.4f}")
    print("labels     ", test.y[:10])
    print("predictions", fnet.predict(config, params, state, test.x[:10]))
    return evaluation.accuracy


if __name__ == "__main__":
    threads.limit()  # more threads gain little for a network of this size
    main(*map(int, sys.argv[1:]))
