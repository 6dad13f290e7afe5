"""Gated activation: features times the sigmoid of their gates, in one pass over memory."""

from __future__ import annotations

import numpy as np
from numba import prange
from scipy import special

from spherecnn.kernels import elementary
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op

Array = np.ndarray
ACTIVATIONS = ("elu", "relu", "leaky_relu", "tanh", "none")
ELU, RELU, LEAKY, TANH, NONE = range(len(ACTIVATIONS))
SLOPE = 0.01  # of leaky_relu below zero
leak = elementary.constant(SLOPE)
BLOCK = 64  # sites of one task


@op
def gate(z: Array, activation: str) -> Array:
    r"""Features times gates: the first half of the channels, activated, times the sigmoid of the second half.

    .. math:: y_k = \phi(z_k)\; \sigma(z_{K+k})

    Source: Yu et al., "Free-form image inpainting with gated convolution", ICCV 2019, eq. 3.

    Parameters
    ----------
    z : ndarray (..., 2 K)
    activation : {"elu", "relu", "leaky_relu", "tanh", "none"}
        phi; "leaky_relu" has slope 0.01 below zero.

    Returns
    -------
    ndarray (..., K)

    Examples
    --------
    >>> gate(np.array([[3.0, 0.0]]), "relu")
    array([[1.5]])
    """
    feature, closing = np.split(z, 2, axis=-1)
    return _activated(feature, activation)[0] * special.expit(closing)


@op
def gate_grad(dy: Array, z: Array, activation: str) -> Array:
    r"""Gradient of `gate`.

    .. math::
        dz_k = dy_k\, \phi'(z_k)\, \sigma(z_{K+k}),\qquad
        dz_{K+k} = dy_k\, \phi(z_k)\, \sigma(z_{K+k})\,(1 - \sigma(z_{K+k}))

    Returns
    -------
    ndarray (..., 2 K)
    """
    feature, closing = np.split(z, 2, axis=-1)
    (value, slope), opened = _activated(feature, activation), special.expit(closing)
    return np.concatenate([dy * slope * opened, dy * value * opened * (1 - opened)], axis=-1)


def _activated(x: Array, activation: str) -> tuple[Array, Array]:
    """phi and its derivative."""
    if activation == "elu":
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0))), np.exp(np.minimum(x, 0))
    if activation == "tanh":
        return np.tanh(x), 1 - np.tanh(x) ** 2
    slope = x.dtype.type({"relu": 0.0, "leaky_relu": SLOPE, "none": 1.0}[activation])
    below = np.zeros_like(x) if activation == "relu" else x * slope
    return np.where(x <= 0, below, x), np.where(x <= 0, slope, x.dtype.type(1))


@gate.on("cpu")
def _gate_cpu(z: Array, activation: str) -> Array:
    z = np.ascontiguousarray(z)
    channels = z.shape[-1] // 2
    y = empty((*z.shape[:-1], channels), z.dtype)
    gate_tasks(ACTIVATIONS.index(activation), z.reshape(-1), y.reshape(-1), channels)
    return y


@gate_grad.on("cpu")
def _gate_grad_cpu(dy: Array, z: Array, activation: str) -> Array:
    dy, z = np.ascontiguousarray(dy), np.ascontiguousarray(z)
    dz = empty(z.shape, z.dtype)
    gate_grad_tasks(ACTIVATIONS.index(activation), dy.reshape(-1), z.reshape(-1), dz.reshape(-1), z.shape[-1] // 2)
    return dz


@kernel()
def gate_tasks(code, z, y, channels):
    sites = y.size // channels
    for i in prange((sites + BLOCK - 1) // BLOCK):
        p = i * BLOCK
        gate_sites(code, z, 2 * p * channels, y, p * channels, min(BLOCK, sites - p), channels)


@kernel()
def gate_grad_tasks(code, dy, z, dz, channels):
    sites = dy.size // channels
    for i in prange((sites + BLOCK - 1) // BLOCK):
        for p in range(i * BLOCK, min(sites, (i + 1) * BLOCK)):
            flow = dy[p * channels : (p + 1) * channels]
            feature = z[2 * p * channels : (2 * p + 1) * channels]
            closing = z[(2 * p + 1) * channels : (2 * p + 2) * channels]
            df = dz[2 * p * channels : (2 * p + 1) * channels]
            dg = dz[(2 * p + 1) * channels : (2 * p + 2) * channels]
            gate_grad_row(code, flow, feature, closing, df, dg)


@kernel(inline=True)
def gate_sites(code, z, z0, y, y0, sites, channels):
    """Gate `sites` rows of z, which begin at z[z0], to rows of y, which begin at y[y0]."""
    for p in range(sites):
        feature = z[z0 + 2 * p * channels : z0 + (2 * p + 1) * channels]
        closing = z[z0 + (2 * p + 1) * channels : z0 + (2 * p + 2) * channels]
        out = y[y0 + p * channels : y0 + (p + 1) * channels]
        gate_row(code, feature, closing, out)


@elementary.inlined
def gate_row(code, feature, closing, out):
    """One row; a loop for each activation, so that each is vector code."""
    if code == ELU:
        for k in range(out.size):
            x = feature[k]
            out[k] = (x if x > 0 else elementary.expm1(x)) * elementary.sigmoid(closing[k])
    elif code == TANH:
        for k in range(out.size):
            out[k] = elementary.tanh(feature[k]) * elementary.sigmoid(closing[k])
    elif code == NONE:
        for k in range(out.size):
            out[k] = feature[k] * elementary.sigmoid(closing[k])
    elif code == RELU:
        zero = elementary.ZERO(out[0])
        for k in range(out.size):
            x = feature[k]
            out[k] = (zero if x <= zero else x) * elementary.sigmoid(closing[k])
    elif code == LEAKY:
        for k in range(out.size):
            x = feature[k]
            out[k] = (x * leak(x) if x <= 0 else x) * elementary.sigmoid(closing[k])


@elementary.inlined
def gate_grad_row(code, flow, feature, closing, df, dg):
    """The gradient of one row."""
    one = elementary.ONE(flow[0])
    if code == ELU:
        for k in range(flow.size):
            x, opened = feature[k], elementary.sigmoid(closing[k])
            grown = elementary.expm1(x)
            through = flow[k] * opened
            df[k] = through if x > 0 else through * (grown + one)
            dg[k] = through * (x if x > 0 else grown) * (one - opened)
    elif code == TANH:
        for k in range(flow.size):
            value, opened = elementary.tanh(feature[k]), elementary.sigmoid(closing[k])
            through = flow[k] * opened
            df[k] = through * (one - value * value)
            dg[k] = through * value * (one - opened)
    elif code == NONE:
        for k in range(flow.size):
            opened = elementary.sigmoid(closing[k])
            through = flow[k] * opened
            df[k] = through
            dg[k] = through * feature[k] * (one - opened)
    elif code == RELU:
        zero = elementary.ZERO(one)
        for k in range(flow.size):
            x, opened = feature[k], elementary.sigmoid(closing[k])
            through = flow[k] * opened
            df[k] = zero if x <= zero else through
            dg[k] = through * (zero if x <= zero else x) * (one - opened)
    elif code == LEAKY:
        for k in range(flow.size):
            x, opened = feature[k], elementary.sigmoid(closing[k])
            through, slope = flow[k] * opened, leak(one) if x <= 0 else one
            df[k] = through * slope
            dg[k] = through * (x * slope) * (one - opened)
