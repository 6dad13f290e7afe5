"""What a kernel became: its registers, memory and machine instructions, read from the compiled code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGISTERS = 65536
"""Of a multiprocessor."""

_OPCODE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?([A-Z][A-Z0-9_.]*)")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_FLOAT64 = re.compile(r"^D(ADD|MUL|FMA|SETP|MNMX|MMA)|F64")
# In shared memory a sum of floats is a loop that compares and swaps, for which no integer atomic of ours has a use.
_FLOAT_ATOMIC = re.compile(r"^(RED|ATOM).*(\.F(16|32|64)|BF16|\.CAS)")


@dataclass(frozen=True)
class Report:
    """A kernel compiled for a compute capability.

    Attributes
    ----------
    name : str
    cc : (int, int)
    registers : int
        Of a thread.
    stack, local, shared : int
        Bytes: of a thread's stack, of its spilled registers, and of a block's static shared memory.
    opcodes : dict
        How often each machine instruction occurs, padding left out.
    """

    name: str
    cc: tuple[int, int]
    registers: int
    stack: int
    local: int
    shared: int
    opcodes: dict[str, int]

    @property
    def instructions(self) -> int:
        return sum(self.opcodes.values())

    def count(self, *prefixes: str) -> int:
        """How many instructions begin so."""
        return sum(n for opcode, n in self.opcodes.items() if opcode.startswith(prefixes))

    @property
    def spills(self) -> int:
        """Bytes on the stack, and instructions that move them."""
        return self.stack + self.local + self.count("LDL", "STL")

    @property
    def float64(self) -> list[str]:
        """Instructions on float64."""
        return [opcode for opcode in self.opcodes if _FLOAT64.search(opcode)]

    @property
    def float_atomics(self) -> list[str]:
        """Sums whose order is not fixed."""
        return [opcode for opcode in self.opcodes if _FLOAT_ATOMIC.search(opcode)]

    def blocks(self, threads: int) -> int:
        """How many blocks the registers of a multiprocessor hold; a warp takes them by 256."""
        warps = -(-threads // 32)
        return REGISTERS // (warps * -(-self.registers * 32 // 256) * 256)

    def line(self) -> str:
        """A row of the table of all kernels."""
        kinds = {"HMMA": "HMMA", "FFMA": "FFMA", "LDG.E.128": "LDG128", "STG.E.128": "STG128", "LDGSTS": "LDGSTS"}
        counts = " ".join(f"{short} {self.count(opcode)}" for opcode, short in kinds.items() if self.count(opcode))
        numbers = f"{self.registers:4d} {self.spills:6d} {self.shared:7d} {self.instructions:6d}"
        return f"{self.name:44} {self.cc[0]}.{self.cc[1]} {numbers}  {counts}"


HEADER = f"{'kernel':44} cc   reg spills  shared instr."


def tool(name: str) -> str:
    """The path of a program of the CUDA toolkit: from a wheel, or on the path."""
    import nvidia

    folders = [Path(root) / "cu13" / "bin" for root in nvidia.__path__] + [Path(sys.executable).parent]
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install 'spherecnn[cuda-test]'")
    return found


def report(name: str, cc: tuple[int, int], cubin: bytes) -> Report:
    """Read what a kernel was compiled to."""
    path = os.pathsep.join([str(Path(tool("nvdisasm")).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [tool("cuobjdump"), "-res-usage", "-sass", str(file)]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    usage = _USAGE.search(told.stdout)
    opcodes = Counter(_OPCODE.findall(told.stdout))
    if usage is None or not opcodes:
        raise RuntimeError(f"cuobjdump says nothing of {name}: {told.stdout[:200]} {told.stderr[:200]}")
    del opcodes["NOP"]
    registers, stack, shared, local = map(int, usage.groups())
    reserved = 1024 if cc >= (9, 0) else 0  # the system's own
    return Report(name, cc, registers, stack, local, shared - reserved, dict(opcodes))


def faults(kernel: Any, found: Report) -> list[str]:
    """What of a kernel's promises its code does not keep."""
    said = []
    if found.spills:
        said.append(f"spills: {found.stack} bytes of stack, {found.count('LDL', 'STL')} moves")
    if found.float64:
        said.append(f"float64: {', '.join(found.float64)}")
    if found.float_atomics:
        said.append(f"atomics on floats: {', '.join(found.float_atomics)}")
    if found.blocks(kernel.threads) < kernel.blocks:
        said.append(f"{found.registers} registers: {kernel.blocks} blocks of {kernel.threads} threads do not fit")
    if found.shared > 48 << 10:
        said.append(f"{found.shared} bytes of static shared memory")
    claims = set(kernel.claims) | ({"HMMA"} if {"tf32", "bf16"} & set(kernel.name.split("_")) else set())
    said += [f"no {claim}" for claim in sorted(claims) if not found.count(claim)]
    if kernel.budget and found.instructions > kernel.budget:
        said.append(f"{found.instructions} instructions, more than {kernel.budget}")
    return said
