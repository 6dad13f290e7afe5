"""The controls of the stub of libcuda, whose source is stub_libcuda.c."""

import ctypes


class Stub:
    """The controls of the stub."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.library.stub_log.restype = ctypes.c_char_p
        self.library.stub_used.restype = self.library.stub_allocations.restype = ctypes.c_long
        self.clear, self.allocations, self.used = (
            getattr(self.library, f"stub_{name}") for name in ("clear", "allocations", "used")
        )

    def set(self, **settings):
        for name, value in settings.items():
            self.library.stub_set(name.encode(), ctypes.c_long(value))

    def fail(self, name, code, after=0):
        self.library.stub_fail(name.encode(), code, after)

    @property
    def log(self):
        return self.library.stub_log().decode().splitlines()

    def kernel(self, arguments, name="kernel"):
        """A kernel that the stub can load; an argument of a pointer has eight bytes."""
        from spherecnn.kernels.gpu.launch import KERNELS, GpuKernel

        def function():
            pass

        function.__name__ = name
        made = GpuKernel(function, arguments, 128)
        sizes = "".join("8" if kind.endswith("*") else "4" for kind in made.arguments)
        made.cubin = lambda cc: f"stub{sizes}\0.text.{name}\0".encode()
        del KERNELS[made.name]
        return made
