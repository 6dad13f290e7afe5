"""Optimizers: they change parameters in place from the gradients that backward passes have summed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import arrays, optim
from spherecnn.kernels.op import device_of
from spherecnn.layers.base import Array, Param


class Optimizer:
    """Steps over named parameters, skipping those without a gradient.

    A subclass names its arrays per parameter in `slots` and implements ``update(param, name)``; or, to change all
    parameters at once, `prepare` and `apply`.

    Attributes
    ----------
    params : dict of str to Param
        As from ``layer.named_params()``.
    lr : float
        Learning rate of the next step; schedules set it.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, params: dict[str, Param], lr: float, **settings: float):
        if not params:
            raise InputError("the optimizer got no parameters; expected those of a layer: pass layer.named_params().")
        for name, value in {"lr": lr, **settings}.items():
            if not value >= 0:
                raise InputError(f"{name} is {value}; expected a number of at least 0: change it.")
        self.params = dict(params)
        self.lr = float(lr)
        self.steps = dict.fromkeys(params, 0)
        self.arrays: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}
        self.reached: list[str] = []

    @property
    def together(self) -> bool:
        """Whether `apply` changes all parameters at once, and not each by an `update` of a subclass."""
        return type(self).apply is not Optimizer.apply

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self.prepare()
        self.apply()

    def prepare(self) -> None:
        """Count a step of every parameter that has a gradient: what of a step is done on the host.

        What is kept of a parameter moves to where that is now. Before each run of a recorded `apply` this is called
        again.
        """
        self.reached = [name for name, param in self.params.items() if param.has_grad]
        for name in self.reached:
            param = self.params[name]
            # The kernels change a contiguous array in place, and a copy of any other.
            param.value = arrays.contiguous(param.value)
            for slot in self.slots:
                kept = self.arrays[slot].get(name)
                if kept is None:
                    self.arrays[slot][name] = arrays.full(param.value.shape, 0, param.value)
                elif device_of(kept) != device_of(param.value):
                    self.arrays[slot][name] = arrays.beside(param.value, arrays.to_host(kept))
            self.steps[name] += 1

    def apply(self) -> None:
        """Change the parameters that `prepare` has counted; this can be recorded."""
        for name in self.reached:
            self.update(self.params[name], name)

    def update(self, param: Param, name: str) -> None:
        """Change one parameter in place; ``self.steps[name]`` counts from 1."""
        raise NotImplementedError

    def clip(self, most: float) -> float:
        """Scale the gradients that `prepare` has counted as `clip_grad_norm`; return their norm before."""
        return optim.clip_gradients([self.params[name].grad for name in self.reached], most)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params.values():
            param.zero_grad()

    def state(self) -> dict[str, Array]:
        """Return what a checkpoint holds: "lr", "steps" (one a parameter, in order), "<slot>.<parameter>".

        Its arrays are on the host, wherever the parameters are.
        """
        found = {"lr": np.array(self.lr), "steps": np.array(list(self.steps.values()), np.int64)}
        for slot, kept in self.arrays.items():
            found |= {f"{slot}.{name}": arrays.to_host(array) for name, array in kept.items()}
        return found

    def load_state(self, state: dict[str, Array]) -> None:
        """Go on from what `state` returned; nothing changes unless all of it fits.

        Raises
        ------
        InputError
            If the state is of another optimizer or of other parameters.
        """
        steps = dict(zip(self.params, state.get("steps", np.zeros(0)).tolist(), strict=False))
        expected = {
            f"{slot}.{name}": self.params[name].value.shape
            for slot in self.slots
            for name, count in steps.items()
            if count
        }
        given = {name: array.shape for name, array in state.items() if name not in ("lr", "steps")}
        if "lr" not in state or len(steps) != len(self.params) or given != expected:
            raise InputError(
                f"the optimizer state has {len(given)} arrays that do not fit the {len(self.params)} "
                f"parameters of this {type(self).__name__}; expected the state of the same optimizer "
                "on the same model: use the one that saved it."
            )
        self.lr, self.steps = float(state["lr"]), steps
        for slot in self.slots:
            self.arrays[slot] = {
                n: arrays.beside(self.params[n].value, state[f"{slot}.{n}"].copy())
                for n, count in steps.items()
                if count
            }


class _Together(Optimizer):
    """An optimizer that changes all parameters at once; a subclass implements ``numbers(name)`` and `change`."""

    table: Any = None

    @property
    def together(self) -> bool:
        return type(self).apply is not _Together.apply or type(self).update is _Together.update

    def prepare(self) -> None:
        super().prepare()
        if not self.together:
            self.table = None
            return
        columns = self.columns()
        before = self.table if device_of(columns[0]) == "cuda" else None  # on the host it is the rows
        self.table = optim.step_table(columns, [self.numbers(name) for name in self.reached], before)

    def apply(self) -> None:
        if self.together:
            self.change(self.columns(), self.table)
        else:
            super().apply()

    def update(self, param: Param, name: str) -> None:
        columns = self.columns([name])
        self.change(columns, optim.step_table(columns, [self.numbers(name)]))

    def change(self, columns: tuple[list[Array], ...], table: Any) -> None:
        """Change parameters in place, whose arrays are the columns, by their rows of the table."""
        raise NotImplementedError

    def numbers(self, name: str) -> tuple[float, ...]:
        """The row of a parameter in the table of its kernel."""
        raise NotImplementedError

    def columns(self, names: list[str] | None = None) -> tuple[list[Array], ...]:
        """The arrays that the kernel takes: values, gradients, and those of each slot; of all that are reached."""
        names = self.reached if names is None else names
        params = [self.params[name] for name in names]
        kept = ([self.arrays[slot][name] for name in names] for slot in self.slots)
        return [p.value for p in params], [p.grad for p in params], *kept

    def clip(self, most: float) -> float:
        return optim.clip_gradients(self.columns()[1], most, self.table)


class SGD(_Together):
    r"""Stochastic gradient descent with momentum, with the arguments and equations of ``torch.optim.SGD``.

    .. math:: g = \nabla + \lambda w,\quad v \leftarrow \mu v + (1 - \tau) g,\quad w \leftarrow w - \eta v

    with learning rate eta, momentum mu, dampening tau and weight decay lambda; v = g at the first step. With
    `nesterov`, w loses :math:`\eta (g + \mu v)`.

    Source: Sutskever et al., ICML 2013, for the momentum.

    Raises
    ------
    InputError
        If a setting is negative, or `nesterov` comes without momentum or with dampening.

    Examples
    --------
    >>> weight = Param(np.array([1.0]))
    >>> weight.add_grad(np.array([0.5]))
    >>> SGD({"weight": weight}, lr=0.1).step()
    >>> weight.value
    array([0.95])
    """

    def __init__(
        self,
        params: dict[str, Param],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InputError(
                f"nesterov got momentum {momentum} and dampening {dampening}; expected a momentum above 0 "
                "and no dampening: change them."
            )
        self.slots = ("momentum",) if momentum else ()
        self.momentum, self.dampening, self.weight_decay, self.nesterov = (
            momentum,
            dampening,
            weight_decay,
            nesterov,
        )
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def numbers(self, name: str) -> tuple[float, ...]:
        first = self.steps[name] == 1
        return optim.sgd_numbers(self.lr, self.momentum, self.dampening, self.nesterov, self.weight_decay, first)

    def change(self, columns: tuple[list[Array], ...], table: Any) -> None:
        values, grads, *velocities = columns
        optim.sgd_steps(values, grads, velocities[0] if velocities else [], table)


class Adam(_Together):
    r"""Adam, with the arguments and equations of ``torch.optim.Adam``; weight decay is added to the gradient.

    .. math::

        m \leftarrow \beta_1 m + (1 - \beta_1) g,\quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2,\quad
        w \leftarrow w - \eta\,\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Source: Kingma and Ba, ICLR 2015, algorithm 1.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    slots = ("exp_avg", "exp_avg_sq")
    decoupled = False

    def __init__(
        self,
        params: dict[str, Param],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"betas are {betas}; expected two numbers from 0 up to, not including, 1: change them.")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(params, lr, eps=eps, weight_decay=weight_decay)

    def numbers(self, name: str) -> tuple[float, ...]:
        return optim.adam_numbers(self.steps[name], self.lr, *self.betas, self.eps, self.weight_decay, self.decoupled)

    def change(self, columns: tuple[list[Array], ...], table: Any) -> None:
        optim.adam_steps(*columns, table)


class AdamW(Adam):
    r"""Adam whose weight decay shrinks the weights directly, with the arguments of ``torch.optim.AdamW``.

    .. math:: w \leftarrow (1 - \eta \lambda) w \quad\text{before each step of Adam}

    Source: Loshchilov and Hutter, ICLR 2019, algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        params: dict[str, Param],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def clip_grad_norm(params: dict[str, Param], max_norm: float) -> float:
    r"""Scale all gradients so that the norm of them together is at most `max_norm`; return the norm before.

    .. math:: g \leftarrow g \min(1,\ c / (\lVert g \rVert + 10^{-6}))

    As ``torch.nn.utils.clip_grad_norm_``. A norm that is NaN or infinite leaves the gradients as they are. On the GPU
    the norm is an array without axes: ``float(norm)`` waits.

    Examples
    --------
    >>> weight = Param(np.zeros(2))
    >>> weight.add_grad(np.array([3.0, 4.0]))
    >>> clip_grad_norm({"weight": weight}, 1.0), weight.grad.round(3)
    (5.0, array([0.6, 0.8]))
    """
    return optim.clip_gradients([param.grad for param in params.values() if param.has_grad], max_norm)
