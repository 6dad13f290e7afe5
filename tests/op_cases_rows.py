"""Cases of ops of elements, rows and whole arrays; see `op_cases.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from op_case import Later, OpCase, Random, normal

from spherecnn.kernels import gate, norm, optim, pointwise


def element_cases() -> Iterator[OpCase]:
    """Functions of each element, gates, softmax."""
    edges = np.array([-90, -20, -1e-4, -0.0, 0.0, 1e-4, 20, 90, np.nan], np.float32)
    functions = {
        "relu": (),
        "leaky_relu": (0.1,),
        "elu": (0.7,),
        "gelu": (),
        "gelu_tanh": (),
        "sigmoid": (),
        "tanh": (),
    }

    def unary(shape: tuple[int, ...], *parameter: float) -> Any:
        return lambda rng: (3 * normal(rng, *shape), *parameter)

    def binary(shape: tuple[int, ...], *parameter: float) -> Any:
        return lambda rng: (normal(rng, *shape), 3 * normal(rng, *shape), *parameter)

    for shape, tiny in (((2, 3, 5), True), ((4, 8), True), ((70001,), False), ((8, 64, 128, 16), False)):
        label = "x".join(map(str, shape))
        for name, parameter in functions.items():
            yield OpCase(name, label, unary(shape, *parameter), tiny)
            yield OpCase(f"{name}_grad", label, binary(shape, *parameter), tiny)
        yield OpCase("add", label, binary(shape), tiny)
        yield OpCase("dropout", label, _dropout(shape), tiny)
    for name, parameter in functions.items():
        yield OpCase(name, "edges", lambda rng, p=parameter: (edges.copy(), *p))
    for shape, tiny in (((1, 1), True), ((5, 3), True), ((2, 4, 36), True), ((300, 67), False), ((64, 1000), False)):
        label = "x".join(map(str, shape))
        yield OpCase("softmax", label, unary(shape), tiny)
        yield OpCase("softmax_grad", label, lambda rng, s=shape: (normal(rng, *s), _softmax(normal(rng, *s))), tiny)
    for activation in gate.ACTIVATIONS:
        for shape, tiny in (((2, 3, 6), True), ((2, 3, 16), True), ((4, 32, 64, 64), False)):
            label = f"{activation}-{shape[-1]}"
            half = (*shape[:-1], shape[-1] // 2)
            yield OpCase("gate", label, lambda rng, s=shape, a=activation: (2 * normal(rng, *s), a), tiny)
            yield OpCase(
                "gate_grad",
                label,
                lambda rng, h=half, s=shape, a=activation: (normal(rng, *h), 2 * normal(rng, *s), a),
                tiny,
            )


def _softmax(x: np.ndarray) -> np.ndarray:
    return pointwise.softmax.definition(x.astype(np.float64)).astype(np.float32)


def _dropout(shape: tuple[int, ...]) -> Any:
    return lambda rng: (normal(rng, *shape), rng.random(shape) < 0.7, 1 / 0.7)


def norm_cases() -> Iterator[OpCase]:
    """Normalisation, also of numbers far from zero."""

    def batch(shape: tuple[int, ...], far: float, kind: str, affine: bool = True) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            x, dy = normal(rng, *shape) + np.float32(far), normal(rng, *shape)
            mean, var = (m.astype(np.float32) for m in norm.batch_moments.definition(x))
            w, b = (normal(rng, shape[-1]) if affine else None for _ in range(2))
            if kind == "moments":
                return (x,)
            if kind == "y":
                return x, mean, var, w, b, 1e-5
            return dy, x, mean, var, w, 1e-5, kind != "fixed", kind != "parameters"

        return make

    def group(shape: tuple[int, int, int], groups: int, kind: str, affine: bool = True) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            x, dy = normal(rng, *shape) + np.float32(1), normal(rng, *shape)
            mean, var = (m.astype(np.float32) for m in norm.group_moments.definition(x, groups))
            w, b = (normal(rng, shape[-1]) if affine else None for _ in range(2))
            if kind == "moments":
                return x, groups
            return (x, mean, var, w, b, 1e-5) if kind == "y" else (dy, x, mean, var, w, 1e-5, kind == "grad")

        return make

    def layer(shape: tuple[int, int], kind: str, affine: bool = True) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            x, dy = normal(rng, *shape) + np.float32(1), normal(rng, *shape)
            w, b = (normal(rng, shape[1]) if affine else None for _ in range(2))
            if kind == "y":
                return x, w, b, 1e-5
            _, mean, rstd = (a.astype(np.float32) for a in norm.layer_norm.definition(x, None, None, 1e-5))
            return dy, x, mean, rstd, w

        return make

    for shape, far, tiny in (
        ((3, 4, 5), 0.0, True),
        ((2, 9, 4), 3.0, True),
        ((4, 1), 0.0, True),
        ((8, 64, 128, 64), 1.0, False),
        ((4, 33, 65, 130), 1.0, False),
        ((200000, 3), 30.0, False),
    ):
        label = "x".join(map(str, shape))
        yield OpCase("batch_moments", label, batch(shape, far, "moments"), tiny)
        yield OpCase("batch_norm", label, batch(shape, far, "y"), tiny)
        for kind in ("grad", "fixed", "parameters"):
            yield OpCase("batch_norm_grad", f"{label}-{kind}", batch(shape, far, kind), tiny)
    yield OpCase("batch_norm", "plain", batch((3, 4, 4), 0.0, "y", affine=False))
    yield OpCase("batch_norm_grad", "plain", batch((3, 4, 4), 0.0, "grad", affine=False))
    for shape, groups, tiny in (
        ((2, 7, 6), 2, True),
        ((2, 5, 8), 8, True),
        ((1, 9, 4), 1, True),
        ((8, 8192, 64), 8, False),
        ((8, 2048, 64), 64, False),
        ((3, 2405, 6), 1, False),
    ):
        label = f"{'x'.join(map(str, shape))}-{groups}"
        yield OpCase("group_moments", label, group(shape, groups, "moments"), tiny)
        yield OpCase("group_norm", label, group(shape, groups, "y"), tiny)
        for kind in ("grad", "parameters"):
            yield OpCase("group_norm_grad", f"{label}-{kind}", group(shape, groups, kind), tiny)
    yield OpCase("group_norm", "plain", group((2, 7, 6), 2, "y", affine=False))
    yield OpCase("group_norm_grad", "plain", group((2, 7, 6), 2, "grad", affine=False))
    for shape, tiny in (((3, 6), True), ((5, 12), True), ((4096, 64), False), ((300, 1030), False)):
        label = "x".join(map(str, shape))
        yield OpCase("layer_norm", label, layer(shape, "y"), tiny)
        yield OpCase("layer_norm_grad", label, layer(shape, "grad"), tiny)
    yield OpCase("layer_norm", "plain", layer((3, 6), "y", affine=False))
    yield OpCase("layer_norm_grad", "plain", layer((3, 6), "grad", affine=False))


def loss_cases() -> Iterator[OpCase]:
    """Losses, optimisers, the norm of gradients."""

    def error(shape: tuple[int, ...], weight: str, *parameter: float, binary: bool = False) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            x, target = normal(rng, *shape), normal(rng, *shape)
            target = rng.random(shape, dtype=np.float32) if binary else target
            count = np.float32(1 / x.size)
            each = {"none": None, "one": np.full((), count), "each": rng.random(shape, dtype=np.float32) * count}
            each["sites"] = rng.random(shape[-1:], dtype=np.float32) * count
            return x, target, each[weight], *parameter

        return make

    parameters = {"mse_loss": (), "l1_loss": (), "huber_loss": (0.8,), "berhu_loss": (0.7,)}
    parameters["binary_cross_entropy_with_logits"] = (3.0,)
    for name, parameter in parameters.items():
        binary = name.startswith("binary")
        for weight in ("none", "one", "each", "sites"):
            yield OpCase(name, weight, error((2, 3, 5), weight, *parameter, binary=binary))
        yield OpCase(name, "large", error((4, 128, 256, 3), "each", *parameter, binary=binary), tiny=False)

    def entropy(shape: tuple[int, ...], weight: bool, classes: bool, smoothing: float) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            logits, labels = 3 * normal(rng, *shape), rng.integers(0, shape[-1], shape[:-1], dtype=np.int32)
            labels.ravel()[::3] = -100
            each = rng.random(shape[:-1], dtype=np.float32) if weight else None
            return logits, labels, each, rng.random(shape[-1], dtype=np.float32) if classes else None, -100, smoothing

        return make

    for shape, tiny in (((5, 3), True), ((2, 3, 10), True), ((64, 1000), False), ((4, 64, 128, 13), False)):
        label = "x".join(map(str, shape))
        yield OpCase("cross_entropy", label, entropy(shape, False, False, 0.0), tiny)
        yield OpCase("cross_entropy", f"{label}-weighted", entropy(shape, True, True, 0.1), tiny)

    for shape, tiny in (((7,), True), ((3, 4), True), ((70001,), False)):
        label = "x".join(map(str, shape))
        for momentum, nesterov, first in ((0.0, False, True), (0.9, False, True), (0.9, True, False)):
            options = (0.1, momentum, 0.0, nesterov, 0.01, first)
            yield OpCase(
                "sgd_step",
                f"{label}-{momentum}-{nesterov}",
                lambda rng, s=shape, o=options: (*(normal(rng, *s) for _ in range(2)), *_velocity(rng, s, o), *o),
                tiny,
            )
        for decoupled in (False, True):
            yield OpCase(
                "adam_step",
                f"{label}-{decoupled}",
                lambda rng, s=shape, d=decoupled: (
                    *(normal(rng, *s) for _ in range(3)),
                    rng.random(s, dtype=np.float32),
                    *(3, 0.01, 0.9, 0.999, 1e-8, 0.1, d),
                ),
                tiny,
            )
        yield OpCase("squared_norm", label, lambda rng, s=shape: (normal(rng, *s),), tiny)


def step_cases() -> Iterator[OpCase]:
    """Steps of several parameters at once."""

    def several(rng: Random, *kinds: str) -> list[list[np.ndarray]]:
        shapes = [(7,), (3, 4), (1,), (2, 300)]
        return [[abs(normal(rng, *s)) if kind == "square" else normal(rng, *s) for s in shapes] for kind in kinds]

    def table(count: int, row: tuple[float, ...]) -> Later:
        return Later(lambda args: optim.step_table(args[:count], [row] * len(args[0])))

    for nesterov in (0.0, 1.0):
        row = (0.1, 0.9, 0.7, 0.01, nesterov)
        yield OpCase(
            "sgd_steps", f"{nesterov}", lambda rng, r=row: (*several(rng, "value", "grad", "velocity"), table(3, r))
        )
    yield OpCase(
        "sgd_steps", "still", lambda rng: (*several(rng, "value", "grad"), [], table(2, (0.1, 0.0, 1.0, 0.01, 0.0)))
    )
    row = (0.01, 1.1, 0.9, 0.1, 0.99, 0.01, 1e-3, 0.1, 0.98)
    yield OpCase("adam_steps", "several", lambda rng: (*several(rng, "value", "grad", "mean", "square"), table(4, row)))
    for most in (0.5, 1e6):
        yield OpCase("clip_gradients", f"{most}", lambda rng, m=most: (several(rng, "grad")[0], m))
    for weighted in (False, True):
        yield OpCase(
            "berhu_threshold",
            f"{weighted}",
            lambda rng, w=weighted: (normal(rng, 3, 5), normal(rng, 3, 5), normal(rng, 3, 5) if w else None, 0.2),
        )


def _velocity(rng: Random, shape: tuple[int, ...], options: tuple[Any, ...]) -> tuple[Any]:
    return (normal(rng, *shape) if options[1] else None,)


# --- making, joining and cutting arrays ------------------------------------------------------------------------


def array_cases() -> Iterator[OpCase]:
    def given(*args: Any) -> Any:
        return lambda rng: tuple(a(rng) if callable(a) else a for a in args)

    def x(*shape: int) -> Any:
        return lambda rng: normal(rng, *shape)

    yield OpCase("full", "half", given((3, 5), 0.5, x(2)))
    yield OpCase("full", "zeros", given((2, 4), 0.0, x(2)))
    yield OpCase("full", "integers", given((7,), 3, x(2), np.dtype(np.int32)))
    yield OpCase("concatenate", "channels", given(lambda rng: [normal(rng, 2, 3, c) for c in (2, 1, 4)], 2))
    yield OpCase("concatenate", "fours", given(lambda rng: [normal(rng, 2, 3, c) for c in (4, 8)], -1))
    yield OpCase("concatenate", "rows", given(lambda rng: [normal(rng, 2, n, 3) for n in (1, 5)], 1))
    yield OpCase("split", "channels", given(x(2, 3, 7), (2, 1, 4), 2))
    yield OpCase("split", "fours", given(x(2, 3, 12), (4, 8), -1))
    yield OpCase("split", "samples", given(x(5, 3), (2, 3), 0))
    for axes in ((1, 0, 2), (2, 0, 1), (0, 2, 1)):
        yield OpCase("transpose", "".join(map(str, axes)), given(x(3, 4, 5), axes))
    yield OpCase("transpose", "kernels", given(x(9, 3, 4), (0, 2, 1)))
    yield OpCase("repeat", "last", given(x(2, 3), 4, 1))
    yield OpCase("repeat", "first", given(x(2, 3), 2, 0))
    yield OpCase("sum_over", "first", given(x(7, 5), (0,)))
    yield OpCase("sum_over", "middle", given(x(2, 9, 4), (0, 1)))
    yield OpCase("sum_over", "inner", given(x(3, 4, 5), (1,)))
    yield OpCase("sum_over", "last", given(x(3, 4, 5), (2,)))
    yield OpCase("accumulate", "whole", given(x(3, 8), x(3, 8)))
    yield OpCase("accumulate", "repeated", given(x(3, 5), x(5)))
    yield OpCase("accumulate", "once", given(x(3, 4, 5), x(1, 4, 5)))
    yield OpCase("scale_sites", "odd", given(x(2, 7, 3), x(7)))
    yield OpCase("scale_sites", "fours", given(x(2, 5, 8), x(5)))
    yield OpCase("move_towards", "moments", given(x(5), x(5), 0.1, 1.25))
    yield OpCase("precise", "moments", given(x(5)))
    yield OpCase("argmax", "few", given(x(2, 5, 3)))
    yield OpCase("argmax", "many", given(x(3, 300)))
    yield OpCase("argmax", "large", given(x(4, 64, 128, 13)), tiny=False)
    for label, args in (
        ("transpose-large", given(x(64, 130, 33), (1, 2, 0))),
        ("concatenate-large", given(lambda rng: [normal(rng, 4, 2048, c) for c in (64, 32)], 2)),
        ("sum_over-large", given(x(8, 4096, 37), (0, 1))),
        ("repeat-large", given(x(16, 512), 128, 1)),
    ):
        yield OpCase(label.split("-")[0], "large", args, tiny=False)
