"""`spherecnn info`: versions, the processor, threads, the kernel cache, devices."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click
import llvmlite.binding

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.errors import InputError
from spherecnn.kernels.jit import cache_folder
from spherecnn.kernels.vector import HOST

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "safetensors",
    "pillow",
    "matplotlib",
    "scikit-learn",
    "trimesh",
    "torch",
    "numba-cuda",
    "cuda-bindings",
)
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon")


@click.command("info", epilog="\b\nExample:\n  spherecnn info")
def command() -> None:
    """Show what spherecnn runs on: put this into a bug report."""
    present = llvmlite.binding.get_host_cpu_features()
    cached = [f for f in cache_folder().rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in cached) / 2**20
    lines = {
        "spherecnn": sc.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: installed(name) for name in PACKAGES},
        "processor": " ".join([llvmlite.binding.get_host_cpu_name(), *filter(present.get, FEATURES)]),
        "vectors": f"{HOST.name}, {HOST.bytes * 8} bits, {HOST.bytes // 4} float32 numbers",
        "threads": str(sc.get_num_threads()),
        "kernel cache": f"{cache_folder()}: {len(cached)} files, {size:.1f} MiB",
        "GPU": gpu(),
    }
    width = max(map(len, lines))
    click.echo("\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items()))


def gpu() -> str:
    """The GPU and its driver, or why there is none."""
    try:
        return o.gpu().describe()
    except InputError as error:
        return f"none: {error}"


def installed(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
