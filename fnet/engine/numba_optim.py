# pyright: basic, reportAttributeAccessIssue=false
"""Compiled loops for the optimizers: one pass over all parameters."""

import numpy as np

from fnet.engine.numba_layers import jit

__all__ = ["adam", "sgd"]


@jit
def adam(p, g, mu, nu, eta, b1, b2, c1, c2, eps, alpha):
    """Adam in one pass, with the bias corrections c1 and c2 in step size and eps: Kingma & Ba (2015), section 2."""
    root = np.sqrt(c2)
    step, eps, decay = p.dtype.type(eta * c1 / root), p.dtype.type(eps / root), p.dtype.type(eta * alpha)
    b1, new1, b2, new2 = p.dtype.type(b1), p.dtype.type(1 - b1), p.dtype.type(b2), p.dtype.type(1 - b2)
    for i in range(p.size):
        mu[i] = b1 * mu[i] + new1 * g[i]
        nu[i] = b2 * nu[i] + new2 * g[i] * g[i]
        p[i] -= step * mu[i] / (np.sqrt(nu[i]) + eps) + decay * p[i]


@jit
def sgd(p, g, velocity, eta, momentum, nesterov, alpha):
    eta, momentum, decay = p.dtype.type(eta), p.dtype.type(momentum), p.dtype.type(eta * alpha)
    for i in range(p.size):
        v = momentum * velocity[i] + eta * g[i]
        velocity[i] = v
        step = momentum * v + eta * g[i] if nesterov else v
        p[i] -= step + decay * p[i]
