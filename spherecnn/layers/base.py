"""What a layer is: named parameters, and a forward pass that returns its own backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.kernels.arrays import accumulate, adopt, assign, contiguous, full, to_device, to_host
from spherecnn.kernels.op import device_of

Array = np.ndarray
Shape = tuple[int, ...]
Backward = Callable[..., Any]
DEVICES = ("cpu", "cuda")


class Param:
    """A trained array `value` and the gradient `grad` that backward passes have summed so far."""

    def __init__(self, value: Array):
        self.value = value
        self._grad: Array | None = None

    @property
    def grad(self) -> Array:
        """The summed gradient; zeros before the first backward pass."""
        if self._grad is None:
            self._grad = full(self.value.shape, 0.0, self.value)
        return self._grad

    @property
    def has_grad(self) -> bool:
        """True once a backward pass has reached this parameter; optimizers skip those that none reached."""
        return self._grad is not None

    def add_grad(self, grad: Array) -> None:
        """Add a fresh array to the gradient; the parameter may keep it."""
        if self._grad is None:
            self._grad = contiguous(grad.reshape(self.value.shape))
        else:
            accumulate(self._grad, grad.reshape(self.value.shape))

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._grad = None

    def __repr__(self) -> str:
        return f"Param(shape={self.value.shape}, dtype={self.value.dtype})"


class Layer:
    """One step of a network.

    A subclass implements `forward` and `out_shape`. A leaf computes; a composite (`layers.Composite`) calls
    other layers. Assigning a `Param` or a `Layer` to an attribute enters it under that name; arrays that are
    saved but not trained go to `self.buffers`.

    Attributes
    ----------
    params : dict of str to Param
    buffers : dict of str to ndarray
    children : dict of str to Layer
    """

    params: dict[str, Param]
    buffers: dict[str, Array]
    children: dict[str, Layer]
    # True where forward(..., rectified=True) gives the ReLU of the output, in one pass where the kernel can.
    rectifies = False

    def __init__(self) -> None:
        object.__setattr__(self, "params", {})
        object.__setattr__(self, "buffers", {})
        object.__setattr__(self, "children", {})

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, Param):
            self.params[name] = value
        elif isinstance(value, Layer):
            self.children[name] = value
        object.__setattr__(self, name, value)

    def forward(self, *xs: Any, **mode: Any) -> tuple[Any, Backward]:
        """Return the output and `backward`, which maps dy to dx (a tuple for several inputs).

        A subclass declares ``forward(self, x, *, train)``, with as many inputs as it has. Of several outputs it
        returns a tuple, as `out_shape` does of shapes; `backward` then takes a gradient for each floating one.
        Integers carry no gradient: for such an input `backward` returns None.

        `backward` adds to the gradients of the parameters. A layer with parameters also takes
        ``backward(dy, inputs=False)``, which skips dx and returns None.
        """
        raise NotImplementedError

    def out_shape(self, *shapes: Any) -> Any:
        """Return the output shape for input shapes, without computing; refuse shapes that do not fit.

        Of several outputs it is a tuple of shapes.
        """
        raise NotImplementedError

    def __call__(self, *xs: Array) -> Any:
        """Compute the output for inference; arrays of PyTorch or CuPy on the GPU are read in place."""
        return self.forward(*(adopt(x) for x in xs), train=False)[0]

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) for this layer and all below, parents first; names are joined by dots."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def named_params(self) -> dict[str, Param]:
        """Return every parameter by its full name, as "enc1.conv.weight"; a shared one stands once."""
        found: dict[str, Param] = {}
        seen: set[int] = set()
        for path, layer in self.walk():
            for name, param in layer.params.items():
                if id(param) not in seen:
                    seen.add(id(param))
                    found[f"{path}.{name}" if path else name] = param
        return found

    @property
    def parameter_count(self) -> int:
        """Number of trained numbers."""
        return sum(p.value.size for p in self.named_params().values())

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the parameters; None for a layer without any."""
        for p in self.named_params().values():
            return p.value.dtype
        return None

    @property
    def device(self) -> str | None:
        """Where the parameters are, "cpu" or "cuda"; None for a layer without any, which works where its input is."""
        for p in self.named_params().values():
            return device_of(p.value)
        return None

    def to(self, device: str) -> Layer:
        """Move parameters and buffers to "cpu" or "cuda" (the GPU), in place, and forget gradients; return the layer.

        Nothing moves unless everything can. Inputs must be there too: ``sc.to_device(x)``.

        Raises
        ------
        InputError
            If the device is another, there is no GPU, or the layer is float64 and shall go to the GPU.

        Examples
        --------
        >>> import spherecnn as sc
        >>> sc.layers.Linear(2, 1).to("cpu").device
        'cpu'
        """
        check_choice("device", device, DEVICES)
        move = to_host if device == "cpu" else to_device
        params = {id(p): p for _, layer in self.walk() for p in layer.params.values()}
        values = [(p, move(p.value)) for p in params.values()]
        buffers = [(layer.buffers, name, move(b)) for _, layer in self.walk() for name, b in layer.buffers.items()]
        for p, value in values:
            p.value = value
            p.zero_grad()
        for kept, name, value in buffers:
            kept[name] = value
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.named_params().values():
            p.zero_grad()

    def astype(self, dtype: Any) -> Layer:
        """Convert parameters and buffers in place to float32 or float64; return the layer.

        Raises
        ------
        InputError
            If the layer is on the GPU, where all numbers are float32.
        """
        if self.device == "cuda":
            raise InputError(
                f"astype({np.dtype(dtype)}) was asked of a layer on the GPU, where numbers are float32; expected one "
                "on the host: move it with layer.to('cpu') first."
            )
        for _, layer in self.walk():
            for p in layer.params.values():
                p.value = p.value.astype(dtype)
                p.zero_grad()
            for name, value in layer.buffers.items():
                if value.dtype.kind == "f":
                    layer.buffers[name] = value.astype(dtype)
        return self

    def set_exact(self, exact: bool = True) -> Layer:
        """Set `exact` of every convolution of this layer, see `layers.Conv2d`; return the layer.

        Examples
        --------
        >>> import spherecnn as sc
        >>> net = sc.models.classifier("circular", 1, 10, sc.grids.Equirect(16)).set_exact()
        >>> net.features[0].exact
        True
        """
        for _, layer in self.walk():
            if hasattr(layer, "exact"):
                layer.exact = exact
        return self

    def state(self) -> dict[str, Array]:
        """Return all parameters and buffers by full name: what a checkpoint holds."""
        arrays = {name: p.value for name, p in self.named_params().items()}
        for path, layer in self.walk():
            arrays.update({f"{path}.{name}" if path else name: b for name, b in layer.buffers.items()})
        return arrays

    def load_state(self, arrays: dict[str, Array]) -> None:
        """Copy `arrays` into the parameters and buffers, on any device; nothing changes unless all of them fit.

        Raises
        ------
        InputError
            If a name is missing or unknown, a shape differs, or a value is not finite.
        """
        own = self.state()
        missing, unknown = sorted(own.keys() - arrays.keys()), sorted(arrays.keys() - own.keys())
        if missing or unknown:
            raise InputError(
                f"the weights are of another model: missing {missing[:3]}, not in this model {unknown[:3]}; "
                f"expected exactly the {len(own)} names of this model: load them into the model that saved them."
            )
        for name, value in own.items():
            if arrays[name].shape != value.shape:
                raise InputError(
                    f"the weights are of another model: {name} has shape {arrays[name].shape}; "
                    f"expected {value.shape}: load them into the model that saved them."
                )
            if not np.isfinite(to_host(arrays[name])).all():
                raise InputError(
                    f"{name} holds NaN or infinite values; expected finite weights: use an earlier checkpoint."
                )
        for name, value in own.items():
            assign(value, arrays[name])

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr."""
        return ""

    def __repr__(self) -> str:
        if not self.children:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children.items()]
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"
