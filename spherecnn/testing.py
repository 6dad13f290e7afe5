"""Checks for authors of layers and kernels: the layer contract, gradients, and ops against their definitions.

Each raises AssertionError with a sentence that says what failed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from spherecnn.kernels.jit import get_num_threads, set_num_threads
from spherecnn.kernels.op import Op
from spherecnn.layers.base import Array, Layer
from spherecnn.layers.combine import floating

TOLERANCE = 1e-7  # of a directional derivative, relative
STEPS = (1e-4, 1e-5, 1e-6)  # the shorter ones for a kink that the longer ones step over


def smooth_input(*shape: int, rng: np.random.Generator | int = 0) -> Array:
    """Return shuffled numbers from -2 to 2, no two closer than 4 / n and none closer to 0 than 1 / n.

    A layer with a kink (ReLU, max pooling) has a derivative there.

    Examples
    --------
    >>> x = smooth_input(1, 4)
    >>> np.sort(x)
    array([[-1.25, -0.25,  0.75,  1.75]])
    """
    n = int(np.prod(shape))
    ranks = np.random.default_rng(rng).permutation(n)
    return ((2 * ranks + 1.5 - n) * (2 / n)).reshape(shape)


def check_layer(layer: Layer, *inputs: Array, rng: np.random.Generator | int = 0) -> None:
    """Check that a layer keeps the contract of `Layer`, and its gradients, on these inputs.

    In float64, for each input and each parameter a, along a random direction v and for a random dy:
    <dy, (y(a + h v) - y(a - h v)) / 2h> agrees with <da, v>, to 1e-7 relative (by a fourth-order difference).
    In float32 and float64: dtypes and shapes agree; inputs and dy are not written; gradients are added, also
    by ``backward(dy, inputs=False)``; inference of a sample does not depend on its batch; state makes a round
    trip; bits are equal on 1 and 2 threads. The layer itself is not changed.

    Parameters
    ----------
    layer : Layer
    *inputs : ndarray
        Inputs, batch first; `smooth_input` makes some. Those that are not floats stay as they are.
    rng : numpy.random.Generator or int
        Source of the directions.

    Raises
    ------
    AssertionError
        If anything of it fails.

    Examples
    --------
    >>> from spherecnn.layers.activation import ReLU
    >>> check_layer(ReLU(), smooth_input(2, 3, 4))
    """
    rng = np.random.default_rng(rng)
    for dtype in (np.float32, np.float64):
        run = _Run(copy.deepcopy(layer).astype(dtype), [_as(x, dtype) for x in inputs])
        dys = tuple(_as(rng.standard_normal(y.shape), dtype) for y in floating(run.y))
        _check_shapes(run, dys, dtype)
        _check_gradients_add(run, dys)
        _check_batch(run)
        _check_state(run)
        _check_threads(run, dys)
    _check_derivatives(run, dys, rng)


class _Run:
    """A layer with inputs, run as often as needed with the same random numbers."""

    def __init__(self, layer: Layer, xs: list[Array]):
        self.layer, self.xs, self.given = layer, xs, [x.copy() for x in xs]
        self.name = type(layer).__name__
        self.params = layer.named_params()
        sources = (getattr(part, "rng", None) for _, part in layer.walk())
        self.random = [source for source in sources if isinstance(source, np.random.Generator)]
        self.seeds = [generator.bit_generator.state for generator in self.random]
        self.y = self.forward()[0]

    def forward(self, train: bool = True) -> tuple[Any, Callable[..., Any]]:
        for generator, seed in zip(self.random, self.seeds, strict=True):
            generator.bit_generator.state = seed
        return self.layer.forward(*self.xs, train=train)

    def gradients(self, dys: tuple[Array, ...]) -> tuple[Any, list[Any], dict[str, Array]]:
        """Return y, the gradients of the inputs and copies of those of the parameters."""
        self.layer.zero_grad()
        y, backward = self.forward()
        dxs = backward(*dys)
        grads = {name: p.grad.copy() for name, p in self.params.items()}
        return y, list(dxs) if isinstance(dxs, tuple) else [dxs], grads


def _as(x: Array, dtype: Any) -> Array:
    return np.array(x, dtype if x.dtype.kind == "f" else x.dtype, order="C")


def _require(holds: Any, run: _Run, sentence: str) -> None:
    if not holds:
        raise AssertionError(f"{run.name}: {sentence}")


def _check_shapes(run: _Run, dys: tuple[Array, ...], dtype: Any) -> None:
    """dtypes, shapes, and nothing written."""
    before = [dy.copy() for dy in dys]
    ys, dxs, _ = run.gradients(dys)
    shapes = run.layer.out_shape(*(x.shape for x in run.xs))
    for y, shape in zip(_as_list(ys), shapes if isinstance(ys, tuple) else [shapes], strict=True):
        _require(
            y.dtype == dtype or y.dtype.kind in "iu", run, f"the output has dtype {y.dtype} for inputs of {dtype}."
        )
        _require(y.shape == tuple(shape), run, f"the output has shape {y.shape} but out_shape says {shape}.")
    _require(len(dxs) == len(run.xs), run, f"backward returns {len(dxs)} gradients for {len(run.xs)} inputs.")
    for i, (x, dx) in enumerate(zip(run.xs, dxs, strict=True)):
        if x.dtype.kind != "f":
            continue
        _require(dx.shape == x.shape, run, f"the gradient of input {i} has shape {dx.shape}, the input {x.shape}.")
        _require(dx.dtype == dtype, run, f"the gradient of input {i} has dtype {dx.dtype} for {dtype}.")
    for name, p in run.params.items():
        _require(p.grad.dtype == dtype, run, f"the gradient of {name} has dtype {p.grad.dtype} for {dtype}.")
    run.forward(train=False)
    for i, (x, old) in enumerate(zip(run.xs, run.given, strict=True)):
        _require(np.array_equal(x, old), run, f"input {i} was written.")
    for dy, old in zip(dys, before, strict=True):
        _require(np.array_equal(dy, old), run, "dy was written.")


def _check_gradients_add(run: _Run, dys: tuple[Array, ...]) -> None:
    if not run.params:
        return
    _, _, once = run.gradients(dys)
    run.forward()[1](*dys)
    for name, p in run.params.items():
        _require(
            _close(p.grad, 2 * once[name]),
            run,
            f"a second backward pass does not add to the gradient of {name}.",
        )
    run.layer.zero_grad()
    result = run.forward()[1](*dys, inputs=False)
    _require(result is None, run, "backward(dy, inputs=False) returns something; None is expected.")
    for name, p in run.params.items():
        _require(_close(p.grad, once[name]), run, f"backward(dy, inputs=False) gives another gradient of {name}.")


def _check_batch(run: _Run) -> None:
    whole = _as_list(run.layer(*run.xs))
    for n in range(len(run.xs[0])):
        alone = _as_list(run.layer(*(x[n : n + 1] for x in run.xs)))
        for one, all_of_them in zip(alone, whole, strict=True):
            same = _close(one, all_of_them[n : n + 1])
            _require(same, run, f"inference of sample {n} alone differs from that in its batch.")


def _check_state(run: _Run) -> None:
    ys = _as_list(run.layer(*run.xs))
    saved = {name: value.copy() for name, value in run.layer.state().items()}
    for value in run.layer.state().values():
        value += 1
    run.layer.load_state(saved)
    for name, value in run.layer.state().items():
        _require(np.array_equal(value, saved[name]), run, f"load_state does not restore {name}.")
    for again, y in zip(_as_list(run.layer(*run.xs)), ys, strict=True):
        _require(np.array_equal(again, y), run, "the output differs after load_state of its own state.")


def _check_threads(run: _Run, dys: tuple[Array, ...]) -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        return
    before, results = get_num_threads(), []
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            ys, dxs, grads = run.gradients(dys)
            named = {"the output" + f" {i}" * (i > 0): y for i, y in enumerate(_as_list(ys))}
            named |= {f"the gradient of input {i}": dx for i, dx in enumerate(dxs)}
            results.append(named | {f"the gradient of {name}": grad for name, grad in grads.items()})
    finally:
        set_num_threads(before)
    for what, one in results[0].items():
        same = one is None or np.array_equal(one, results[1][what], equal_nan=True)
        _require(same, run, f"{what} has other bits on 2 threads than on 1.")


def _check_derivatives(run: _Run, dys: tuple[Array, ...], rng: np.random.Generator) -> None:
    ys, dxs, grads = run.gradients(dys)
    wanted = [(f"input {i}", x, dx) for i, (x, dx) in enumerate(zip(run.xs, dxs, strict=True)) if x.dtype.kind == "f"]
    wanted += [(name, p.value, grads[name]) for name, p in run.params.items()]
    size = np.sqrt(sum(np.linalg.norm(dy * y) ** 2 for dy, y in zip(dys, floating(ys), strict=True)))
    rounding = np.finfo(np.float64).eps * size
    for what, array, gradient in wanted:
        v = rng.uniform(-1, 1, array.shape)
        expected = (gradient * v).sum()
        typical = np.linalg.norm(gradient * v)  # of such a sum; the sum itself may be near zero by chance
        for h in STEPS:
            error = abs(_slope(run, dys, array, v, h) - expected)
            if error <= TOLERANCE * typical + 50 * rounding / h:
                break
        else:
            raise AssertionError(
                f"{run.name}: the gradient of {what} is off: along a random direction it is {expected:.9g}, "
                f"and differences of the output differ from it by {error:.2g}."
            )


def _slope(run: _Run, dys: tuple[Array, ...], array: Array, v: Array, h: float) -> float:
    """Derivative of <dys, ys> along v by a central difference of fourth order; `array` is put back."""
    centre, total = array.copy(), 0.0
    for steps, factor in ((1, 8), (2, -1)):
        for sign in (1, -1):
            array[...] = centre + sign * steps * h * v
            ys = floating(run.forward()[0])
            total += sign * factor * sum((dy * y).sum() for dy, y in zip(dys, ys, strict=True))
    array[...] = centre
    return total / (12 * h)


def check_op(op: Op, *args: Any, rtol: float | None = None) -> None:
    """Check that the body of an op on the device of its arrays agrees with its NumPy definition.

    Results and, for ops in place, arguments after the call are compared: dtype, shape, and values to `rtol`
    of the largest, by default 1e-5 where an argument is float32 and 1e-12 elsewhere.

    Parameters
    ----------
    op : Op
    *args : array or other
        Arguments of the op; they are copied.
    rtol : float, optional

    Raises
    ------
    AssertionError
        If they differ.

    Examples
    --------
    >>> from spherecnn.kernels.pointwise import relu
    >>> check_op(relu, np.array([-1.0, 2.0]))
    """
    given, defined = copy.deepcopy(args), copy.deepcopy(args)
    if rtol is None:
        rtol = 1e-5 if any(a.dtype == np.float32 for a in _arrays(args)) else 1e-12
    results = _as_list(op(*given)) + _arrays(given)
    expected = _as_list(op.definition(*defined)) + _arrays(defined)
    if len(results) != len(expected):
        raise AssertionError(f"{op.name} returns {len(results)} values, its definition {len(expected)}.")
    for i, (one, other) in enumerate(zip(results, expected, strict=True)):
        if (one is None) != (other is None):
            raise AssertionError(f"{op.name}: value {i} is {one}, by the definition {other}.")
        if one is None:
            continue
        one, other = np.asarray(one), np.asarray(other)
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise AssertionError(
                f"{op.name}: value {i} has shape {one.shape} and dtype {one.dtype}, "
                f"by the definition {other.shape} and {other.dtype}."
            )
        if not _close(one, other, rtol):
            worst = np.nanmax(np.abs(one.astype(float) - other.astype(float)))
            raise AssertionError(f"{op.name}: value {i} differs from its definition by up to {worst:.3g}.")


def _as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def _arrays(args: tuple[Any, ...]) -> list[Array]:
    return [a for a in args if isinstance(a, np.ndarray)]


def _close(a: Array, b: Array, rtol: float | None = None) -> bool:
    """Whether arrays agree relative to the largest element, NaN and infinities in the same places."""
    if rtol is None:
        rtol = 1e-5 if a.dtype == np.float32 else 1e-12
    finite = np.isfinite(b)
    scale = np.abs(b[finite]).max(initial=0.0)
    return np.allclose(a, b, rtol=0.0, atol=rtol * scale, equal_nan=True)
