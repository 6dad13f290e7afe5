"""One training step: forward, loss, backward and update, on the host or on the GPU."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.arrays import to_device
from spherecnn.kernels.gpu import device
from spherecnn.layers.base import Array, Layer
from spherecnn.training.losses import Loss, for_gpu
from spherecnn.training.meters import Meter
from spherecnn.training.optim import Optimizer, clip_grad_norm
from spherecnn.training.task import Task

Results = tuple[Any, Any, Any, Any]  # output, loss, norm of the gradient, what the meter sees
AHEAD = 8  # steps whose losses may be on their way from the GPU
MOST_GRAPHS = 2  # shapes that are kept recorded
TAKES_OVER = 2  # how many times as often a shape comes that takes the place of another


@dataclass
class Outcome:
    """What a batch gave: numbers and arrays, or copies of them that are on their way from the GPU.

    Attributes
    ----------
    step : int
        Which batch of the epoch, from 1.
    target : ndarray
    count : float
        How much the loss weighs in a mean over batches.
    loss, norm, seen : number, ndarray or Fetched
        The loss, the norm of the gradient before it was clipped, and what the meter sees of the output; None for
        what was not asked for.
    """

    step: int
    target: Array
    count: float
    loss: Any
    norm: Any = None
    seen: Any = None

    @property
    def done(self) -> bool:
        """Whether nothing is under way."""
        return all(getattr(part, "done", True) for part in (self.loss, self.norm, self.seen))

    def wait(self) -> None:
        """Wait for the copies, and put what they bring in their place."""
        loss, norm, seen = (p.read() if hasattr(p, "read") else p for p in (self.loss, self.norm, self.seen))
        self.loss, self.norm, self.seen = float(loss), None if norm is None else float(norm), seen


class Outcomes:
    """The outcomes of batches, each passed on in order when it is there: a context that ends when all are.

    Those on their way from the GPU are waited for, and scored, in a thread of its own where the meter allows it, so
    that the GPU gets its next steps meanwhile; the host is at most `AHEAD` steps ahead.

    Parameters
    ----------
    take : callable
        ``take(outcome)``; what it raises is raised by `add` or at the end.
    meter : Meter or None
        What `take` adds to.
    """

    def __init__(self, take: Callable[[Outcome], None], meter: Meter | None):
        self.take, self.waiting = take, deque[tuple[Callable[[], bool], Callable[[], None]]]()
        self.aside = ThreadPoolExecutor(1) if meter is None or getattr(meter, "aside", False) else None

    def add(self, outcome: Outcome) -> None:
        """Take in one."""
        if self.aside is None or outcome.done:
            self.waiting.append((lambda: outcome.done, lambda: self._take(outcome)))
        else:
            future = self.aside.submit(self._take, outcome)
            self.waiting.append((future.done, future.result))
        while self.waiting and (self.waiting[0][0]() or len(self.waiting) > AHEAD):
            self.waiting.popleft()[1]()

    def _take(self, outcome: Outcome) -> None:
        outcome.wait()
        self.take(outcome)

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            while self.waiting and kind is None:
                self.waiting.popleft()[1]()
        finally:
            if self.aside is not None:
                self.aside.shutdown(cancel_futures=True)


def see(meter: Meter | None, y: Any) -> Any:
    """What a meter sees of an output, where the output is."""
    return None if meter is None else meter.see(y) if hasattr(meter, "see") else y


def expect(meter: Meter | None, y: Any) -> None:
    """Tell a meter the shape of the output that it will see."""
    if meter is not None and hasattr(meter, "expect"):
        meter.expect(y.shape)


def fetched(x: Any) -> Any:
    """A copy of a device array that is on its way to the host; any other thing as it is."""
    if not hasattr(x, "memory"):
        return x
    return device.current().fetch(x)


class Step:
    """Train on one batch at a time.

    Parameters
    ----------
    model : Layer
    task : Task
    optimizer : Optimizer
    clip_norm : float or None

    Attributes
    ----------
    meter : Meter or None
        What measures the outputs: only what it sees of them is copied from the GPU.
    """

    def __init__(self, model: Layer, task: Task, optimizer: Optimizer, clip_norm: float | None):
        self.model, self.task, self.optimizer, self.clip_norm = model, task, optimizer, clip_norm
        self.meter: Meter | None = None

    def __call__(self, step: int, x: Array, target: Array, check: Callable[[Outcome], None]) -> Outcome:
        """Change the model by a batch; `check` raises on a loss or a norm that is not finite, before the update."""
        y, backward = self.model.forward(x, train=True)
        loss, dy = self.task.measure(y, target)
        outcome = Outcome(step, target, self.task.weight(y, target), loss)
        check(outcome)
        self.optimizer.zero_grad()
        backward(dy, inputs=False)
        if self.clip_norm is not None:
            outcome.norm = clip_grad_norm(self.optimizer.params, self.clip_norm)
            check(outcome)
        self.optimizer.step()
        outcome.seen = see(self.meter, y)
        return outcome


class DeviceStep(Step):
    """`Step` of a model on the GPU: nothing waits for it, and what repeats is recorded and replayed as one.

    Batches of a shape run twice as they are; then all launches of a step are recorded in a CUDA graph, which is one
    launch from there on. Inputs and targets are copied into fixed arrays before, and so are the numbers that change:
    rates and corrections of the optimizer, keys of dropout. Batches of another shape, such as the last of an epoch,
    run as they are until they have come as often, with the same bits; so do shapes beyond the `MOST_GRAPHS` that are
    kept. A recording is dropped when parameters are no longer the arrays that it has recorded (`Layer.to`). What
    cannot be recorded, such as a loss that computes on the host, or does not fit into memory a second time, runs as
    it is each time; a warning says why, once.
    """

    def __init__(self, *settings: Any):
        super().__init__(*settings)
        self.recorded: dict[Any, _Recorded] = {}
        self.warmed: dict[Any, Any] = {}  # graphs whose memory is there
        self.shapes: dict[Any, Any] = {}
        self.seen: Counter[Any] = Counter()
        self.too_large: set[Any] = set()
        reason = why_not_recorded(self.task, self.optimizer)
        self.refused = reason is not None
        if reason is not None:
            self._warn(reason)

    def __call__(self, step: int, x: Array, target: Array, check: Callable[[Outcome], None]) -> Outcome:
        x = for_gpu(x)
        if self.refused or x.shape not in self.shapes:
            results = self.run(to_device(x), lambda y: self.task.measure(y, target))
            self.shapes[x.shape] = results[0].shape
            return self._outcome(step, target, results)
        given = [for_gpu(part) for part in self.task.inputs(self.shapes[x.shape], np.dtype(np.float32), target)]
        key = tuple(part.shape for part in (x, *given))
        self.seen[key] += 1
        found = self.recorded.get(key)
        if found is not None and found.state.same():
            return self._outcome(step, target, found.replay(x, given))
        self.recorded.pop(key, None)
        if key in self.warmed:
            return self._outcome(step, target, self._record(key, x, given, target))
        if self._has_room(key):
            self.warmed[key] = device.current().graph()
        with self.warmed[key].warm() if key in self.warmed else contextlib.nullcontext():
            results = self.run(to_device(x), lambda y: self.task.measure(y, target))
        return self._outcome(step, target, results)

    def _has_room(self, key: Any) -> bool:
        """Whether a shape may be recorded, maybe in place of one that comes far less often."""
        if key in self.too_large:
            return False
        kept = [*self.recorded, *self.warmed]
        if len(kept) < MOST_GRAPHS:
            return True
        rarest = min(kept, key=lambda other: self.seen[other])
        if self.seen[key] <= TAKES_OVER * self.seen[rarest]:
            return False
        self.recorded.pop(rarest, None)
        self.warmed.pop(rarest, None)
        return True

    def run(self, x: Any, errors: Callable[[Any], tuple[Any, Any]], pause: Any = contextlib.nullcontext) -> Results:
        """A step on arrays that are on the GPU; what the host does of it stands inside of ``pause()``."""
        self.optimizer.zero_grad()
        y, backward = self.model.forward(x, train=True)
        loss, dy = errors(y)
        backward(dy, inputs=False)
        with pause():
            self.optimizer.prepare()
        norm = None if self.clip_norm is None else self.optimizer.clip(self.clip_norm)
        self.optimizer.apply()
        return y, loss, norm, see(self.meter, y)

    def _record(self, key: Any, x: Array, given: list[Array], target: Array) -> Results:
        """Record a step and run it; or just run it, from here on, where that cannot be."""
        steps, made = dict(self.optimizer.steps), None
        try:
            made = _Recorded(self, self.warmed.pop(key), x, given)
        except (device.CudaError, InputError) as error:
            self._give_up(key, error)
        if made is None:  # here, where nothing holds the memory of the graph any more
            self.optimizer.steps = steps
            return self.run(to_device(x), lambda y: self.task.measure(y, target))
        self.recorded[key] = made
        made.graph.replay()
        return made.results

    def _give_up(self, key: Any, error: Exception) -> None:
        """Record nothing from here on, or no batches of this shape, which do not fit into memory."""
        if isinstance(error, InputError):
            if not self.too_large:
                self._warn(str(error))
            self.too_large.add(key)
        else:
            self._warn(str(error))
            self.refused = True
            self.recorded.clear()
            self.warmed.clear()

    def _outcome(self, step: int, target: Array, results: Results) -> Outcome:
        """What a step gave, on its way to the host."""
        y, *parts = results
        expect(self.meter, y)
        return Outcome(step, target, self.task.weight(y, target), *(fetched(part) for part in parts))

    def _warn(self, reason: str) -> None:
        warnings.warn(f"training steps are not recorded as a CUDA graph: {reason}", stacklevel=4)


def why_not_recorded(task: Task, optimizer: Optimizer) -> str | None:
    """Why steps run as they are each time, if so."""
    if not isinstance(task.loss, Loss):
        return "the loss is a function, not one of training.LOSSES"
    for part, whole in ((task, "measure"), (task.loss, "__call__")):
        if not _is_in_two(part, whole):
            return f"{type(part).__name__} has a {whole} of its own, without inputs and errors"
    if not optimizer.together:
        return f"{type(optimizer).__name__} has an update of its own, which may take other numbers at each step"
    return None


def _is_in_two(part: Any, whole: str) -> bool:
    """Whether whoever says last what a loss is says so in `inputs` or `errors` too."""
    for found in (part, *type(part).__mro__):
        if names := vars(found).keys() & {whole, "inputs", "errors"}:
            return bool(names - {whole})
    return False


class _Recorded:
    """A step of one shape as a graph, with the arrays that it reads and writes."""

    def __init__(self, step: DeviceStep, graph: Any, x: Array, given: list[Array]):
        self.graph, self.optimizer = graph, step.optimizer
        self.inputs = [to_device(part) for part in (x, *given)]
        self.state = _State(step.model)
        try:
            with graph.record():
                self.results = step.run(
                    self.inputs[0], lambda y: step.task.errors(y, *self.inputs[1:]), pause=graph.pause
                )
            if not self.state.same():
                raise device.NotRecordable("a layer or the optimizer replaces arrays instead of changing them in place")
        except BaseException:
            self.state.restore()
            raise
        params = self.optimizer.params.values()
        self.gradients = [(param, param.grad) for param in params if param.has_grad]
        self.table = getattr(self.optimizer, "table", None)

    def replay(self, x: Array, given: list[Array]) -> Results:
        """Run the step on another batch."""
        for to, part in zip(self.inputs, (x, *given), strict=True):
            device.current().upload(to, part)
        if not all(param.has_grad and param.grad is grad for param, grad in self.gradients):
            self.optimizer.zero_grad()
            for param, grad in self.gradients:
                param.add_grad(grad)
            self.gradients = [(param, param.grad) for param, _ in self.gradients]
        if self.table is not None:
            self.optimizer.table = self.table  # type: ignore[attr-defined]
        self.optimizer.prepare()
        self.graph.replay()
        return self.results


class _State:
    """The arrays of a model that a step changes in place."""

    def __init__(self, model: Layer):
        self.params = [(param, param.value) for param in model.named_params().values()]
        self.buffers = [
            (layer.buffers, name, array) for _, layer in model.walk() for name, array in layer.buffers.items()
        ]

    def same(self) -> bool:
        """Whether they are still the model's."""
        return all(param.value is value for param, value in self.params) and all(
            buffers[name] is array for buffers, name, array in self.buffers
        )

    def restore(self) -> None:
        """Make them the model's again."""
        for param, value in self.params:
            param.value = value
        for buffers, name, array in self.buffers:
            buffers[name] = array
