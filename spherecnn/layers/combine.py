"""Layers made of layers: a recorder that replays in reverse, chains, skips and concatenation."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.arrays import accumulate, alias, concatenate, full, split
from spherecnn.kernels.pointwise import add
from spherecnn.layers.activation import ReLU
from spherecnn.layers.base import Array, Backward, Layer, Shape


class Step(NamedTuple):
    """One recorded call: whether it trains parameters, the numbers of its inputs and of its outputs, its backward."""

    trained: bool
    sources: tuple[int, ...]
    made: tuple[int, ...]
    like: tuple[tuple[Shape, np.dtype], ...]
    backward: Backward


class Recorder:
    """Calls layers and, when training, keeps the backward pass of each call and between which values it goes.

    Values are known by number, not held: what no backward pass needs is freed on the way forward. Of a layer with
    several outputs, only floating ones carry a gradient: its backward takes one for each of them.
    """

    def __init__(self, train: bool, inputs: tuple[Array, ...]):
        self.train = train
        self.known: dict[int, tuple[weakref.ref[Array], int]] = {}
        self.count = 0
        self.inputs = tuple(self.enter(x) for x in inputs)
        self.steps: list[Step] = []

    def enter(self, x: Array) -> int:
        """Give an array the next number."""
        self.count += 1
        self.known[id(x)] = (weakref.ref(x), self.count)
        return self.count

    def number(self, x: Array) -> int:
        """Return the number of an array; one that no layer made, a constant, gets a new one."""
        reference, number = self.known.get(id(x), (None, 0))
        return number if reference is not None and reference() is x else self.enter(x)

    def __call__(self, layer: Layer, *xs: Array) -> Any:
        y, backward = layer.forward(*xs, train=self.train)
        several = isinstance(y, tuple)
        ys = tuple(alias(v) if any(v is x for x in xs) else v for v in (y if several else (y,)))
        if self.train:
            sources = tuple(self.number(x) for x in xs)
            carriers = floating(ys)
            made, like = tuple(self.enter(v) for v in carriers), tuple((v.shape, v.dtype) for v in carriers)
            self.steps.append(Step(bool(layer.named_params()), sources, made, like, backward))
        return ys if several else ys[0]

    def replay(self, dys: tuple[Array, ...], outputs: tuple[int, ...], inputs: bool) -> tuple[Array | None, ...]:
        """Run the recorded steps in reverse from dys; return the gradients of the inputs (None where there is none)."""
        live = set(self.inputs) if inputs else set()
        wanted = []
        for step in self.steps:
            wanted.append(not live.isdisjoint(step.sources))
            if step.trained or wanted[-1]:
                live.update(step.made)
        grads: dict[int, Array] = {}
        for output, dy in zip(outputs, dys, strict=True):
            grads[output] = add(grads[output], dy) if output in grads else dy
        while self.steps:
            step = self.steps.pop()
            reaches_input, found = wanted.pop(), [grads.pop(v, None) for v in step.made]
            if all(g is None for g in found) or live.isdisjoint(step.made):
                continue
            near = next(g for g in found if g is not None)
            given = [
                full(shape, 0.0, near, dtype) if g is None else g
                for g, (shape, dtype) in zip(found, step.like, strict=True)
            ]
            if not reaches_input:
                step.backward(*given, inputs=False)
                continue
            dxs = step.backward(*given)
            for x, dx in zip(step.sources, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
                if x in live and dx is not None:
                    grads[x] = add(grads[x], dx) if x in grads else dx
        return tuple(grads.get(x) for x in self.inputs)


def floating(y: Any) -> tuple[Array, ...]:
    """Return those outputs of a layer that carry a gradient, as a tuple."""
    return tuple(v for v in (y if isinstance(y, tuple) else (y,)) if v.dtype.kind == "f")


class Composite(Layer):
    """A layer that calls its children. A subclass implements `trace`, where skips read as plain code.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> class Twice(sc.layers.Composite):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.act = sc.layers.ReLU()
    ...     def trace(self, r, x):
    ...         return r(sc.layers.Add(), r(self.act, x), x)
    >>> y, backward = Twice().forward(np.array([[1.0, -2.0]]), train=True)
    >>> y, backward(np.ones((1, 2)))
    (array([[ 2., -2.]]), array([[2., 1.]]))
    """

    def trace(self, r: Any, *xs: Any) -> Any:
        """Compute the output; call child layers as ``r(layer, *values)``.

        A layer with several outputs gives a tuple: ``y, indices = r(self.pool, x)``. So may `trace`.
        """
        raise NotImplementedError

    def forward(self, *xs: Array, train: bool) -> tuple[Any, Backward]:
        xs = tuple(alias(x) for x in xs)
        like = [(x.shape, x.dtype) for x in xs]
        r = Recorder(train, xs)
        y = self.trace(r, *xs)
        outputs = tuple(r.number(v) for v in floating(y))

        def backward(*dys: Array, inputs: bool = True) -> Any:
            found = r.replay(dys, outputs, inputs)
            if not inputs:
                return None
            dxs = tuple(
                full(shape, 0.0, dys[0], dtype) if dx is None and dtype.kind == "f" else dx
                for dx, (shape, dtype) in zip(found, like, strict=True)
            )
            return dxs if len(dxs) > 1 else dxs[0]

        return y, backward

    def out_shape(self, *shapes: Shape) -> Any:
        return self.trace(lambda layer, *s: layer.out_shape(*s), *shapes)


class _Layers(Composite):
    """A list of layers; children are named "0", "1", ..."""

    def __init__(self, *layers: Layer):
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise InputError(
                    f"item {i} of {type(self).__name__} is a {type(layer).__name__}; expected a Layer: "
                    "pass layer objects."
                )
            self.children[str(i)] = layer

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, i: int) -> Layer:
        return list(self.children.values())[i]


class Sequential(_Layers):
    """Layers one after another; children are named "0", "1", ...

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> net = sc.layers.Sequential(sc.layers.ReLU(), sc.layers.Flatten())
    >>> net(np.array([[[1.0], [-1.0]]]))
    array([[1., 0.]])
    """

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        layers = list(self.children.values())
        for layer in fused(layers) if isinstance(r, Recorder) else layers:
            x = r(layer, x)
        return x


class _Rectified(Layer):
    """A layer that rectifies its own outputs, in the place of the layer and the ReLU after it."""

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        return self.layer.forward(*xs, train=train, rectified=True)


def _can_rectify(layer: Layer) -> bool:
    """Whether the forward pass of a layer, which a subclass or an instance may have replaced, takes `rectified`."""
    if "forward" in vars(layer):
        return False
    return next(vars(k).get("rectifies", False) for k in type(layer).__mro__ if {"forward", "rectifies"} & {*vars(k)})


def fused(layers: list[Layer]) -> list[Layer]:
    """Layers one after another, each ReLU joined to the layer before it where that can do both at once."""
    found: list[Layer] = []
    for layer in layers:
        if type(layer) is ReLU and "forward" not in vars(layer) and found and _can_rectify(found[-1]):
            found[-1] = _Rectified(found[-1])
        else:
            found.append(layer)
    return found


class Add(Layer):
    r"""Sum of inputs of equal shape: :math:`y = a + b + \dots`

    Examples
    --------
    >>> import numpy as np
    >>> Add()(np.array([1.0]), np.array([2.0]))
    array([3.])
    """

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        self.out_shape(*(x.shape for x in xs))
        y = add(xs[0], xs[1])
        for x in xs[2:]:
            accumulate(y, x)
        n = len(xs)
        return y, lambda dy: (dy,) * n

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or any(s != shapes[0] for s in shapes):
            raise InputError(
                f"Add got shapes {list(shapes)}; expected two or more equal shapes: match channels and sizes."
            )
        return shapes[0]


class Residual(Composite):
    r"""A body and a way around it: :math:`y = body(x) + shortcut(x)`; the shortcut is x by default.

    Source: He et al., CVPR 2016, eq. 1 and 2.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> sc.layers.Residual(sc.layers.ReLU())(np.array([[1.0, -2.0]]))
    array([[ 2., -2.]])
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None):
        super().__init__()
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut
        self.add = Add()

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        around = r(self.shortcut, x) if "shortcut" in self.children else x
        return r(self.add, r(self.body, x), around)


class Concat(Layer):
    """Inputs side by side along the channel (last) axis.

    Examples
    --------
    >>> import numpy as np
    >>> Concat()(np.zeros((1, 2, 3)), np.ones((1, 2, 1))).shape
    (1, 2, 4)
    """

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        self.out_shape(*(x.shape for x in xs))
        channels = [x.shape[-1] for x in xs]
        return concatenate(xs, -1), lambda dy: split(dy, channels, -1)

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or any(s[:-1] != shapes[0][:-1] for s in shapes):
            raise InputError(
                f"Concat got shapes {list(shapes)}; expected two or more that differ in the last axis only: "
                "match the grids."
            )
        return (*shapes[0][:-1], sum(s[-1] for s in shapes))


class Parallel(_Layers):
    """Layers beside each other: all read the same input, and their outputs are joined along the channels.

    Children are named "0", "1", ...

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> both = sc.layers.Parallel(sc.layers.ReLU(), sc.layers.ELU())
    >>> both(np.array([[1.0, -40.0]]))
    array([[ 1.,  0.,  1., -1.]])
    """

    def __init__(self, *layers: Layer):
        if len(layers) < 2:
            raise InputError(f"Parallel got {len(layers)} layers; expected two or more: pass them one by one.")
        super().__init__(*layers)

    def trace(self, r: Any, *xs: Any) -> Any:
        return r(Concat(), *(r(layer, *xs) for layer in self.children.values()))
