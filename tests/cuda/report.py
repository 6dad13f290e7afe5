"""What a kernel became: its registers, memory and machine instructions, read from the compiled code."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REGISTERS = 65536
"""Of a multiprocessor."""

INSTRUCTION = 16
"""Bytes."""

_OPCODE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ +)?([A-Z][A-Z0-9_.]*)")
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
        kinds["CALL"] = "CALL"  # a subroutine: a division of run-time numbers, as a rule
        counts = " ".join(f"{short} {self.count(opcode)}" for opcode, short in kinds.items() if self.count(opcode))
        numbers = f"{self.registers:4d} {self.spills:6d} {self.shared:7d} {self.instructions:6d}"
        return f"{self.name:44} {self.cc[0]}.{self.cc[1]} {numbers}  {counts}"


HEADER = f"{'kernel':44} cc   reg spills  shared instr."


def tool(name: str) -> str | None:
    """The path of a program of the CUDA toolkit: from a wheel, or on the path."""
    wheels = find_spec("nvidia")
    folders = [Path(root) / "cu13" / "bin" for root in (wheels.submodule_search_locations or [] if wheels else [])]
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))


def code_of(cubin: bytes) -> bytes:
    """The machine code of the one kernel of a cubin: the section of an ELF file whose name begins with .text."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + i * size) for i in range(count)]
    for name, _, _, _, start, length in sections:
        if cubin.startswith(b".text.", sections[names][4] + name):
            return cubin[start : start + length]
    raise ValueError("a cubin without a kernel")


def _run(name: str, *arguments: str) -> str:
    program = tool(name)
    if program is None:
        raise FileNotFoundError(f"{name} is not installed: pip install 'spherecnn[cuda-test]'")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout


def disassembled(codes: list[bytes], cc: tuple[int, int]) -> list[dict[str, int]]:
    """How often each instruction occurs in each of several codes, by one call of the disassembler."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "code"
        file.write_bytes(b"".join(codes))
        found = _OPCODE.findall(_run("nvdisasm", "--binary", f"SM{cc[0]}{cc[1]}", str(file)))
    opcodes = [opcode for _, opcode in sorted((int(address, 16), opcode) for address, opcode in found)]
    counts = []
    for code in codes:
        own, opcodes = opcodes[: len(code) // INSTRUCTION], opcodes[len(code) // INSTRUCTION :]
        counts.append({opcode: n for opcode, n in Counter(own).items() if opcode != "NOP"})
    if opcodes or not all(counts):
        raise RuntimeError("the disassembler's instructions are not of 16 bytes")
    return counts


def _usage(cubin: bytes) -> tuple[int, ...]:
    """Registers, and bytes of stack, of static shared memory and of local memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        told = _USAGE.search(_run("cuobjdump", "-res-usage", str(file)))
    if told is None:
        raise RuntimeError("cuobjdump says nothing of a kernel's registers")
    return tuple(map(int, told.groups()))


def reports(cubins: dict[tuple[str, tuple[int, int]], bytes]) -> dict[tuple[str, tuple[int, int]], Report]:
    """What kernels were compiled to, by name and compute capability."""
    found = {}
    for cc in sorted({cc for _, cc in cubins}):
        names = [name for name, own in cubins if own == cc]
        counts = disassembled([code_of(cubins[name, cc]) for name in names], cc)
        reserved = 1024 if cc >= (9, 0) else 0  # shared memory of the system's own
        for name, opcodes in zip(names, counts, strict=True):
            registers, stack, shared, local = _usage(cubins[name, cc])
            found[name, cc] = Report(name, cc, registers, stack, local, max(0, shared - reserved), opcodes)
    return found


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
    if found.instructions > kernel.budget:
        said.append(f"{found.instructions} instructions, more than {kernel.budget}")
    return said
