"""One row of the speed table, and the arrays and peers that rows share."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.kernels.memory import empty

Work = Callable[[], object]

_where: ContextVar[str] = ContextVar("where", default="cpu")


@contextlib.contextmanager
def on(device: str) -> Iterator[None]:
    """Make our side of the rows on this device, inside a with block."""
    token = _where.set(device)
    try:
        yield
    finally:
        _where.reset(token)


def placed(*arrays: np.ndarray) -> Any:
    """The arrays on the device of our side."""
    return tuple(sc.to_device(a) for a in arrays) if _where.get() == "cuda" else arrays


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


def passes(layer: Any, x: np.ndarray, dy: np.ndarray, which: str, inputs: bool = True) -> Work:
    """Our layer in inference or in training, with or without the gradient of its input.

    It goes to its device when it is first run, when torch has had its weights.
    """
    where = _where.get()

    @functools.cache
    def there() -> tuple[Any, Any]:
        if where == "cuda":
            layer.to("cuda")
            return sc.to_device(x), sc.to_device(dy)
        return x, dy

    def ours() -> object:
        given, flow = there()
        if which == "forward":
            return layer(given)
        layer.zero_grad()
        backward = layer.forward(given, train=True)[1]
        return backward(flow) if inputs else backward(flow, inputs=False)

    return ours


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
    ours = passes(layer, x, dy, which)
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
    """A training step of a network with Adam and cross-entropy, and that of the peer on images `tx`.

    On a GPU ours is the step of `training.fit`: the batch is copied there, then a recorded graph is replayed.
    """
    loss = sc.training.CrossEntropyLoss()
    if _where.get() == "cuda":
        from spherecnn.training.step import DeviceStep
        from spherecnn.training.task import Classify

        made = sc.training.Adam(net.to("cuda").named_params(), lr=1e-3)
        step = DeviceStep(net, Classify(loss), made, None)
        return functools.partial(step, 1, x, labels, _unchecked), _peer_step(torch, peer, tx, labels)
    optimizer = sc.training.Adam(net.named_params(), lr=1e-3)

    def ours() -> None:
        optimizer.zero_grad()
        scores, backward = net.forward(x, train=True)
        backward(loss(scores, labels)[1], inputs=False)
        optimizer.step()

    return ours, _peer_step(torch, peer, tx, labels)


def _unchecked(outcome: Any) -> None:
    """Losses are not looked at."""


def _peer_step(torch: Any, peer: Any, tx: Any, labels: np.ndarray) -> Work | None:
    if torch is None:
        return None
    tlabels, adam = torch.from_numpy(labels), torch.optim.Adam(peer.parameters(), lr=1e-3)

    def theirs() -> None:
        adam.zero_grad()
        torch.nn.functional.cross_entropy(peer(tx), tlabels).backward()
        adam.step()

    return theirs
