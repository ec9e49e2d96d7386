# pyright: basic, reportAttributeAccessIssue=false
"""Compiled loops for the losses: they replace the outputs in z by their cotangents, and return loss and scores."""

import numpy as np

from fnet.engine.numba_layers import jit

__all__ = ["cross_entropy", "huber", "pinball", "squared_error"]


@jit
def cross_entropy(z, v, labels, weights, smoothing, dv):
    n, k = z.shape
    zero, smooth = z.dtype.type(0), z.dtype.type(smoothing / k)
    sure = z.dtype.type(1 - smoothing)
    loss, correct = 0.0, 0
    dv[:] = 0
    for i in range(n):
        label, best = labels[i], 0
        for j in range(k):
            z[i, j] += v[0, j]
            if z[i, j] > z[i, best]:
                best = j
        correct += best == label
        top, total, linear = z[i, best], zero, zero
        for j in range(k):
            shifted = z[i, j] - top
            linear += shifted
            exp = np.exp(shifted)
            total += exp
            if j == label:
                at_label = shifted
            z[i, j] = exp
        log_total = np.log(total)
        each = sure * (log_total - at_label)
        if smoothing > 0:
            each += smooth * (k * log_total - linear)
        loss += weights[i] * each
        for j in range(k):
            d = (z[i, j] / total - smooth - (sure if j == label else zero)) * weights[i]
            z[i, j] = d
            dv[0, j] += d
    return loss, float(correct)


@jit
def squared_error(z, v, targets, weights, dv):
    n, k = z.shape
    scale = z.dtype.type(2 / k)
    loss, squares = 0.0, 0.0
    dv[:] = 0
    for i in range(n):
        each = 0.0
        for j in range(k):
            error = z[i, j] + v[0, j] - targets[i, j]
            each += error * error
            d = error * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
        squares += each / k
    return loss, squares


@jit
def huber(z, v, targets, weights, delta, dv):
    n, k = z.shape
    delta, half, scale = z.dtype.type(delta), z.dtype.type(0.5), z.dtype.type(1 / k)
    loss, squares = 0.0, 0.0
    dv[:] = 0
    for i in range(n):
        each = 0.0
        for j in range(k):
            error = z[i, j] + v[0, j] - targets[i, j]
            clipped = -delta if error < -delta else (delta if error > delta else error)
            each += clipped * (error - half * clipped)
            squares += error * error / k
            d = clipped * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
    return loss, squares


@jit
def pinball(z, v, targets, weights, quantiles, dv):
    n, k = z.shape
    zero, one, scale = z.dtype.type(0), z.dtype.type(1), z.dtype.type(1 / k)
    loss, covered = 0.0, 0
    dv[:] = 0
    for i in range(n):
        each, target = 0.0, targets[i, 0]
        covered += (k == 1 or z[i, 0] + v[0, 0] <= target) and target <= z[i, k - 1] + v[0, k - 1]
        for j in range(k):
            error = target - (z[i, j] + v[0, j])
            slope = -quantiles[j] if error > zero else one - quantiles[j]
            each -= slope * error
            d = slope * scale * weights[i]
            z[i, j] = d
            dv[0, j] += d
        loss += weights[i] * each / k
    return loss, float(covered)
