"""The threads of a block: each a greenlet that runs until it waits for others."""

from __future__ import annotations

import contextvars
import random
import sys
import traceback
from collections.abc import Callable
from types import CodeType, SimpleNamespace
from typing import Any

from greenlet import getcurrent, greenlet
from simulated_memory import NOW, Races, poisoned
from simulated_values import SimulationError

WARP = 32
FULL = 0xFFFFFFFF

thread_index = SimpleNamespace(x=0, y=0, z=0)
"""``cuda.threadIdx``: of the thread that runs."""

COLLECTIVES: dict[str, Callable[[dict[int, Any]], dict[int, Any]]] = {}
"""What the lanes of a warp do together, by name: operands by lane to results by lane."""

_BARRIERS: dict[str, Callable[[list[Any]], Any]] = {
    "syncthreads": lambda _: None,
    "syncthreads_count": lambda values: sum(map(bool, values)),
    "syncthreads_and": lambda values: all(values),
    "syncthreads_or": lambda values: any(values),
}

WAITING = {"syncwarp", *_BARRIERS}
"""Names at which a thread may wait: a kernel that has none of them runs without greenlets."""


class Thread:
    """A thread: where it is, what it waits for, and its asynchronous copies."""

    __slots__ = ("copies", "greenlet", "groups", "index", "lane", "request", "result", "stamp", "warp", "warp_barriers")

    def __init__(self, index: int, block: Block):
        self.index, self.lane, self.warp = index, index % WARP, index // WARP
        self.greenlet: Any = None
        self.stamp = (block.serial, 0, self.warp, 0, index)
        self.warp_barriers = 0
        self.request: tuple[str, Any, Any] | None = None
        self.result = None
        self.copies: list[Any] = []
        self.groups: list[list[Any]] = []


class Block:
    """A block: its place in the grid and its shared memory."""

    def __init__(self, serial: int, place: tuple[int, int, int], shared: int):
        self.serial, self.place = serial, place
        self.dynamic, self.written = poisoned(shared), memoryview(bytearray(shared))
        self.static: dict[Any, Any] = {}
        self.races = Races()
        self.fenced = False


class Order:
    """The order of threads, warps and blocks: as they are (seed 0), backwards (1), or shuffled."""

    def __init__(self, seed: int):
        self.seed, self.random = seed, random.Random(seed)

    def __call__(self, things: list[Any]) -> list[Any]:
        if self.seed == 0:
            return things
        if self.seed == 1:
            return things[::-1]
        return self.random.sample(things, len(things))


def wait(kind: str, key: Any, operands: Any = None) -> Any:
    """Wait for the other threads of a barrier (key: the place in the code) or of a collective (key: the mask)."""
    NOW.thread.request = (kind, key, operands)
    return NOW.hub.switch()


def barrier(kind: str, value: Any = None) -> Any:
    """``cuda.syncthreads...``, called by a kernel's line."""
    frame = sys._getframe(2)
    return wait(kind, (frame.f_code, frame.f_lasti), value)


def collective(kind: str, mask: int, operands: Any = None) -> Any:
    """What the lanes of a mask do together."""
    mask = int(mask) & FULL
    if not mask >> NOW.thread.lane & 1:
        raise SimulationError(f"lane {NOW.thread.lane} calls {kind} with a mask that leaves it out: {mask:#010x}")
    return wait(kind, mask, operands)


def _start(thread: Thread) -> None:
    NOW.thread, NOW.stamp, thread_index.x = thread, thread.stamp, thread.index


def run_block(function: Any, arguments: tuple[Any, ...], block: Block, threads: int, order: Order) -> None:
    """Run the threads of a block to their ends."""
    NOW.block = block
    team = [Thread(index, block) for index in range(threads)]
    try:
        if function.waits:
            _run_together(function.call, arguments, team, order)
        else:
            for thread in order(team):
                _start(thread)
                function.call(*arguments)
    except Exception as error:
        raise _located(error, function, block) from error


def _located(error: Exception, function: Any, block: Block) -> SimulationError:
    places = list(traceback.walk_tb(error.__traceback__))
    waiting = getattr(NOW.thread.greenlet, "gr_frame", None)
    places += reversed(list(traceback.walk_stack(waiting))) if waiting else []
    lines = [f"{frame.f_code.co_filename}:{line}" for frame, line in places if frame.f_code in function.codes]
    line = f", {lines[-1]}" if lines else ""
    kind = "" if isinstance(error, SimulationError) else f"{type(error).__name__}: "
    where = f"{function.name}, block {block.place}, thread {NOW.thread.index}{line}"
    return SimulationError(f"{kind}{error} ({where})")


def _run_together(call: Any, arguments: tuple[Any, ...], team: list[Thread], order: Order) -> None:
    hub = NOW.hub = getcurrent()
    context = contextvars.copy_context()
    for thread in team:
        thread.greenlet = greenlet(call, hub)
        thread.greenlet.gr_context = context.copy()
    warps = [team[start : start + WARP] for start in range(0, len(team), WARP)]
    for warp in order(warps):
        for thread in order(warp):
            _start(thread)
            thread.greenlet.switch(*arguments)
        _run_warp(warp, order, _ready(warp))
    while _pass_barrier(team):
        for warp in order(warps):
            _run_warp(warp, order, warp)


def _run_warp(warp: list[Thread], order: Order, ready: list[Thread]) -> None:
    """Let the lanes of a warp run until all have returned or wait at a barrier of the block."""
    while ready:
        for thread in order(ready):
            _start(thread)
            thread.request = None
            thread.greenlet.switch(thread.result)
        ready = _ready(warp)


def _ready(warp: list[Thread]) -> list[Thread]:
    """Those whose collective is complete, with its results."""
    groups: dict[tuple[str, int], dict[int, Thread]] = {}
    for thread in warp:
        if not thread.greenlet.dead and thread.request[0] not in _BARRIERS:
            groups.setdefault(thread.request[:2], {})[thread.lane] = thread
    ready = []
    for (kind, mask), lanes in groups.items():
        if all(thread.lane in lanes for thread in warp if mask >> thread.lane & 1 and not thread.greenlet.dead):
            _collect(kind, lanes)
            ready += lanes.values()
    if groups and not ready:
        raise SimulationError(f"lanes of a warp wait for each other: {_waiting(warp)}")
    return ready


def _collect(kind: str, lanes: dict[int, Thread]) -> None:
    if kind == "syncwarp":
        for thread in lanes.values():
            thread.result = None
            thread.warp_barriers += 1
            thread.stamp = (*thread.stamp[:3], thread.warp_barriers, thread.index)
        return
    results = COLLECTIVES[kind]({lane: thread.request[2] for lane, thread in lanes.items()})
    for lane, thread in lanes.items():
        thread.result = results[lane]


def _pass_barrier(team: list[Thread]) -> bool:
    """Let all threads pass the barrier at which they wait; whether there was one."""
    waiting = [thread for thread in team if not thread.greenlet.dead]
    if not waiting:
        return False
    kind, place, _ = waiting[0].request
    if len(waiting) < len(team) or any(thread.request[:2] != (kind, place) for thread in waiting):
        raise SimulationError(f"divergent barrier: {_waiting(team)}")
    result = _BARRIERS[kind]([thread.request[2] for thread in waiting])
    epoch = team[0].stamp[1] + 1
    for thread in team:
        thread.result = result
        thread.warp_barriers = 0
        thread.stamp = (thread.stamp[0], epoch, thread.warp, 0, thread.index)
    return True


def _waiting(threads: list[Thread]) -> str:
    """Who waits where, for a message."""
    places: dict[str, list[int]] = {}
    for thread in threads:
        places.setdefault(_place(thread), []).append(thread.index)
    return "; ".join(f"{len(those)} {place} (first: thread {those[0]})" for place, those in places.items())


def _place(thread: Thread) -> str:
    if thread.greenlet.dead:
        return "have returned"
    kind, key, _ = thread.request
    if isinstance(key, tuple) and isinstance(key[0], CodeType):
        lines = [line for start, end, line in key[0].co_lines() if start <= key[1] < end]
        return f"wait at {kind} in line {lines[0] if lines else '?'}"
    return f"wait at {kind}, mask {key:#010x}"
