"""Without the CUDA extra, the modules that need it are not collected for their examples."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("numba_cuda") else ["spherecnn/kernels/gpu/*.py", "spherecnn/kernels/cuda.py"]
