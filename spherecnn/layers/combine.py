"""Layers made of layers: a recorder that replays in reverse, chains, skips and concatenation."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.layers.base import Array, Backward, Layer, Shape


class Recorder:
    """Calls layers and, when training, keeps the backward pass of each call and between which values it goes.

    Values are known by number, not held: what no backward pass needs is freed on the way forward.
    """

    def __init__(self, train: bool, inputs: tuple[Array, ...]):
        self.train = train
        self.known: dict[int, tuple[weakref.ref[Array], int]] = {}
        self.count = 0
        self.inputs = tuple(self.enter(x) for x in inputs)
        self.steps: list[tuple[bool, tuple[int, ...], int, Backward]] = []

    def enter(self, x: Array) -> int:
        """Give an array the next number."""
        self.count += 1
        self.known[id(x)] = (weakref.ref(x), self.count)
        return self.count

    def number(self, x: Array) -> int:
        """Return the number of an array; one that no layer made, a constant, gets a new one."""
        reference, number = self.known.get(id(x), (None, 0))
        return number if reference is not None and reference() is x else self.enter(x)

    def __call__(self, layer: Layer, *xs: Array) -> Array:
        y, backward = layer.forward(*xs, train=self.train)
        if any(y is x for x in xs):
            y = y.view()
        if self.train:
            numbers = tuple(self.number(x) for x in xs)
            self.steps.append((bool(layer.named_params()), numbers, self.enter(y), backward))
        return y

    def replay(self, dy: Array, output: int, inputs: bool) -> tuple[Array | None, ...]:
        """Run the recorded steps in reverse from dy; return the gradients of the inputs (None where there is none)."""
        live = set(self.inputs) if inputs else set()
        wanted = []
        for trained, sources, made, _ in self.steps:
            wanted.append(not live.isdisjoint(sources))
            if trained or wanted[-1]:
                live.add(made)
        grads: dict[int, Array] = {output: dy}
        while self.steps:
            trained, sources, made, backward = self.steps.pop()
            reaches_input, grad = wanted.pop(), grads.pop(made, None)
            if grad is None or made not in live:
                continue
            if not reaches_input:
                backward(grad, inputs=False)
                continue
            dxs = backward(grad)
            for x, dx in zip(sources, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
                if x in live:
                    grads[x] = grads[x] + dx if x in grads else dx
        return tuple(grads.get(x) for x in self.inputs)


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
        """Compute the output; call child layers as ``r(layer, *values)``."""
        raise NotImplementedError

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        xs = tuple(x.view() for x in xs)
        like = [(x.shape, x.dtype) for x in xs]
        r = Recorder(train, xs)
        y = self.trace(r, *xs)
        output = r.number(y)

        def backward(dy: Array, inputs: bool = True) -> Any:
            found = r.replay(dy, output, inputs)
            if not inputs:
                return None
            dxs = tuple(np.zeros(*kind) if dx is None else dx for dx, kind in zip(found, like, strict=True))
            return dxs if len(dxs) > 1 else dxs[0]

        return y, backward

    def out_shape(self, *shapes: Shape) -> Shape:
        return self.trace(lambda layer, *s: layer.out_shape(*s), *shapes)


class Sequential(Composite):
    """Layers one after another; children are named "0", "1", ...

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> net = sc.layers.Sequential(sc.layers.ReLU(), sc.layers.Flatten())
    >>> net(np.array([[[1.0], [-1.0]]]))
    array([[1., 0.]])
    """

    def __init__(self, *layers: Layer):
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise InputError(
                    f"item {i} of Sequential is a {type(layer).__name__}; expected a Layer: pass layer objects."
                )
            self.children[str(i)] = layer

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        for layer in self.children.values():
            x = r(layer, x)
        return x

    def __len__(self) -> int:
        return len(self.children)

    def __getitem__(self, i: int) -> Layer:
        return list(self.children.values())[i]


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
        y = xs[0] + xs[1]
        for x in xs[2:]:
            y += x
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
        edges = np.cumsum([x.shape[-1] for x in xs])[:-1]

        def backward(dy: Array) -> tuple[Array, ...]:
            return tuple(np.ascontiguousarray(part) for part in np.split(dy, edges, axis=-1))

        return np.concatenate(xs, axis=-1), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or any(s[:-1] != shapes[0][:-1] for s in shapes):
            raise InputError(
                f"Concat got shapes {list(shapes)}; expected two or more that differ in the last axis only: "
                "match the grids."
            )
        return (*shapes[0][:-1], sum(s[-1] for s in shapes))
