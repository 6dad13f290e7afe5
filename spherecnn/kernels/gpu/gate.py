"""CUDA bodies of `kernels.gate`: one kernel for each activation, four channels of a site to a thread."""

from __future__ import annotations

from typing import Any

from spherecnn.errors import InputError
from spherecnn.kernels import gate as cpu
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import elementary
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_float32, divider, quotient, spans, vectors
from spherecnn.kernels.gpu.intrinsics import ld1, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

Array = DeviceArray
THREADS = 256
MOVES = ("LDG.E.128", "STG.E.128")


# --- the activation and its derivative ---------------------------------------------------------------------------


@device_function
def elu(x):
    grown = elementary.expm1(x)
    above = x > float32(0)
    return x if above else grown, float32(1) if above else grown + float32(1)


@device_function
def relu(x):
    below = x <= float32(0)
    return float32(0) if below else x, float32(0) if below else float32(1)


@device_function
def leaky_relu(x):
    slope = float32(cpu.SLOPE) if x <= float32(0) else float32(1)
    return x * slope, slope


@device_function
def tanh(x):
    value = elementary.tanh(x)
    return value, float32(1) - value * value


@device_function
def none(x):
    return x, float32(1)


FUNCTIONS = {"elu": elu, "relu": relu, "leaky_relu": leaky_relu, "tanh": tanh, "none": none}


# --- kernels -------------------------------------------------------------------------------------------------------


def _kernels(name: str) -> tuple[Any, Any]:
    """`gate` and `gate_grad` of an activation; `fours` is the number of moves of a row, 0 to go one by one."""
    activated = FUNCTIONS[name]

    @device_function
    def opened(x, closing):
        value, _slope = activated(x)
        return value * elementary.sigmoid(closing)

    @device_function
    def flows(dy, x, closing):
        (value, slope), (open_, change) = activated(x), elementary.logistic_pair(closing)
        return dy * slope * open_, dy * value * change

    @gpu_kernel("f4* f4* i4 i4 i4 u4 i4", threads=THREADS, constants=(name,), claims=MOVES, budget=400)
    def gate(z, y, moves, channels, fours, multiplier, shift):
        v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if v >= moves:
            return
        site = quotient(v, multiplier, shift)
        if fours > 0:
            feature = int32(4 * (v + site * fours))
            a, g = load4_nc(z, feature), load4_nc(z, int32(feature + channels))
            f0, f1 = opened(a[0], g[0]), opened(a[1], g[1])
            f2, f3 = opened(a[2], g[2]), opened(a[3], g[3])
            store4(y, int32(4 * v), f0, f1, f2, f3)
        else:
            feature = int32(v + site * channels)
            st1(y, v, opened(ld1(z, feature), ld1(z, int32(feature + channels))))

    @gpu_kernel("f4* f4* f4* i4 i4 i4 u4 i4", threads=THREADS, constants=(name,), claims=MOVES, budget=400)
    def gate_grad(dy, z, dz, moves, channels, fours, multiplier, shift):
        v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if v >= moves:
            return
        site = quotient(v, multiplier, shift)
        if fours > 0:
            feature = int32(4 * (v + site * fours))
            closing = int32(feature + channels)
            d, a, g = load4_nc(dy, int32(4 * v)), load4_nc(z, feature), load4_nc(z, closing)
            (p0, q0), (p1, q1) = flows(d[0], a[0], g[0]), flows(d[1], a[1], g[1])
            (p2, q2), (p3, q3) = flows(d[2], a[2], g[2]), flows(d[3], a[3], g[3])
            store4(dz, feature, p0, p1, p2, p3)
            store4(dz, closing, q0, q1, q2, q3)
        else:
            feature = int32(v + site * channels)
            closing = int32(feature + channels)
            df, dg = flows(ld1(dy, v), ld1(z, feature), ld1(z, closing))
            st1(dz, feature, df)
            st1(dz, closing, dg)

    return gate, gate_grad


KERNELS = {name: _kernels(name) for name in cpu.ACTIVATIONS}


def _run(kernel: Any, channels: int, *arrays: Array) -> None:
    """Launch on arrays of sites, the first or last axis of which may be cut."""
    sites = arrays[0].size // max(1, arrays[0].shape[-1])
    tables = [a.reshape(sites, a.shape[-1]) for a in arrays]
    for span in spans(sites, 2 * channels):
        parts = [table[span] for table in tables]
        each = 4 if channels % 4 == 0 and vectors(4, *parts) else 1
        row = channels // each
        moves = len(parts[0]) * row
        kernel(blocks_for(moves, THREADS), *parts, moves, channels, row if each == 4 else 0, *divider(row))


@cpu.gate.on("cuda")
def _gate(z: Array, activation: str) -> Array:
    check_float32("gate", z)
    channels = z.shape[-1] // 2
    y = empty((*z.shape[:-1], channels), z.dtype)
    if y.size:
        _run(KERNELS[activation][0], channels, z, y)
    return y


@cpu.gate_grad.on("cuda")
def _gate_grad(dy: Array, z: Array, activation: str) -> Array:
    check_float32("gate_grad", z)
    check_float32("gate_grad", dy)
    if 2 * dy.size != z.size:
        raise InputError(f"gate_grad was given dy of shape {dy.shape} for z of shape {z.shape}; expected half of it.")
    dz = empty(z.shape, z.dtype)
    if dy.size:
        _run(KERNELS[activation][1], z.shape[-1] // 2, dy, z, dz)
    return dz
