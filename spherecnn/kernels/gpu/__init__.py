"""Arrays and kernels on the GPU. The kernels (`gpu.bodies` imports them all) need the extra ``cuda``."""
