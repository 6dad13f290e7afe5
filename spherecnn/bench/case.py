"""One row of the speed table, and the arrays and peers that rows share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.kernels.memory import empty

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row of the table: what is measured, and how to make the two pieces of work."""

    name: str
    shape: str
    which: str  # "forward", "forward+backward" or "step"
    make: Callable[[Any], tuple[Work, Work | None]]


def case(
    name: str, make: Any, size: tuple[int, ...], options: tuple[Any, ...], text: str, which: str, smallest: bool
) -> Case:
    """A row on pictures of this size, or on tiny ones: `make(torch, samples, rows, columns, *options)`."""
    sizes = (1, *(8 << i for i in range(len(size) - 1))) if smallest else size
    return Case(name, "x".join(map(str, size)) + f", {text}", which, lambda torch: make(torch, *sizes, *options))


def images(*shape: int, seed: int = 0) -> np.ndarray:
    """Random images in aligned memory."""
    x = empty(shape, np.float32)
    x[...] = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return x


def sparse_product(torch: Any, matrix: Any) -> Any:
    """A function of torch that multiplies by a sparse matrix; the transpose of its gradient is made before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse tensors are in beta
        forth, back = (
            torch.sparse_csr_tensor(*(torch.from_numpy(a) for a in (m.indptr, m.indices, m.data)), m.shape)
            for m in (matrix.tocsr(), matrix.T.tocsr())
        )

    class Product(torch.autograd.Function):  # torch's own gradient of a sparse product is dense
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return forth @ x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return back @ dy

    return Product.apply


def against(
    torch: Any,
    layer: Any,
    peer: Any,
    shape: tuple[int, ...],
    which: str,
    parameters: tuple[Any, ...] = (),
    layout: str = "channels last",
) -> tuple[Work, Work | None]:
    """Our layer in training or inference, and `peer(x)` of torch on the same images.

    With gradients, those of the input and of the peer's `parameters`. The peer takes arrays whose second axis are
    the channels, and which lie in memory as `layout` says: channels last or first, or, of (N, C, P), sites first.
    """
    x, dy = images(*shape), images(*layer.out_shape(shape), seed=1)

    def ours() -> object:
        if which == "forward":
            return layer(x)
        layer.zero_grad()
        return layer.forward(x, train=True)[1](dy)

    if torch is None:
        return ours, None
    first = (0, len(shape) - 1, *range(1, len(shape) - 1))
    tx, tdy = (torch.from_numpy(a).permute(first) for a in (x, dy))
    if layout == "channels first":
        tx, tdy = tx.contiguous(), tdy.contiguous()
    if layout == "sites first":
        tx, tdy = (t.permute(2, 0, 1).contiguous().permute(1, 2, 0) for t in (tx, tdy))
    tx.requires_grad_()

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return peer(tx)
        return torch.autograd.grad(peer(tx), (tx, *parameters), tdy)

    return ours, theirs


def training_step(
    torch: Any, net: Any, x: np.ndarray, labels: np.ndarray, peer: Any = None, tx: Any = None
) -> tuple[Work, Work | None]:
    """A training step of a network with Adam and cross-entropy, and that of the peer on images `tx`."""
    optimizer, loss = sc.training.Adam(net.named_params(), lr=1e-3), sc.training.CrossEntropyLoss()

    def ours() -> None:
        optimizer.zero_grad()
        scores, backward = net.forward(x, train=True)
        backward(loss(scores, labels)[1], inputs=False)
        optimizer.step()

    if torch is None:
        return ours, None
    tlabels, adam = torch.from_numpy(labels), torch.optim.Adam(peer.parameters(), lr=1e-3)

    def theirs() -> None:
        adam.zero_grad()
        torch.nn.functional.cross_entropy(peer(tx), tlabels).backward()
        adam.step()

    return ours, theirs
