"""Without the CUDA extra, the modules that need it are not collected for their examples."""

from importlib.util import find_spec

NEEDING = ["spherecnn/kernels/gpu/*.py", "spherecnn/kernels/cuda.py", "spherecnn/bench/gpu_clock.py"]
collect_ignore_glob = [] if find_spec("numba_cuda") else NEEDING
