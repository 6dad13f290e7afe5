"""Guards: every op has a kernel for the GPU, every instruction an emulator, every kernel a run in the simulator."""

import ast
from pathlib import Path

import pytest

from spherecnn.kernels.op import OPS, Op

PACKAGE = Path(__file__).resolve().parent.parent / "spherecnn"
TESTS = Path(__file__).resolve().parent / "cuda"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What only one module may import: `kernels.cuda` compiles, `kernels.gpu.calls` calls the driver.
ONE_IMPORTER = {
    "numba.cuda": "kernels/cuda.py",
    "cuda.bindings.nvjitlink": "kernels/cuda.py",
    "cuda.bindings.driver": "kernels/gpu/calls.py",
    "cuda.bindings.runtime": None,
    "cuda.bindings.nvrtc": None,
    "numba_cuda": None,
    "llvmlite.ir": {"kernels/gpu/intrinsics.py"},
}
# Launches are made by `GpuKernel`, which asks the device, which asks the driver.
ONE_CALLER = {
    "cuLaunchKernel": "kernels/gpu/driver.py",
    "cuModuleLoadData": "kernels/gpu/driver.py",
    "cuMemAllocAsync": "kernels/gpu/driver.py",
    "compile_kernel": {"kernels/cuda.py", "kernels/gpu/launch.py"},
}


def imported(tree):
    """Full names of all that a module imports, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(tree):
    """Attributes and names that a module uses or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def allowed(rule):
    return rule if isinstance(rule, set) else {rule}


def offenders(tree, own):
    """What a module imports or calls that is another one's."""
    found = []
    for name in imported(tree):
        for module, rule in ONE_IMPORTER.items():
            if (name == module or name.startswith(f"{module}.")) and own not in allowed(rule):
                if module == "llvmlite.ir" and not own.startswith("kernels/gpu/"):
                    continue  # the CPU's tiles are written in it too
                found.append(f"{own} imports {name}")
    used = set(named(tree))
    found += [f"{own} calls {name}" for name, rule in ONE_CALLER.items() if name in used and own not in allowed(rule)]
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_compiler_and_driver_are_imported_in_one_place_each(file):
    own = file.relative_to(PACKAGE).as_posix()
    assert offenders(ast.parse(file.read_text()), own) == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("from numba import cuda", "m.py imports numba.cuda"),
        ("def f():\n    import numba.cuda.types", "m.py imports numba.cuda.types"),
        ("from numba.cuda import jit", "m.py imports numba.cuda.jit"),
        ("from cuda.bindings import driver", "m.py imports cuda.bindings.driver"),
        ("def f(cu):\n    cu.cuLaunchKernel(1)", "m.py calls cuLaunchKernel"),
    ],
)
def test_the_guard_finds_them(code, fault):
    assert fault in offenders(ast.parse(code), "m.py")
    assert offenders(ast.parse("import numba\nfrom numba import prange"), "m.py") == []


# --- with the extra --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bodies():
    pytest.importorskip("numba_cuda", reason="the kernels need the extra cuda", exc_type=ImportError)
    from spherecnn.kernels.gpu import bodies

    return bodies


def own_ops():
    return {name: op for name, op in OPS.items() if op.definition.__module__.startswith("spherecnn.")}


def without_a_twin(ops):
    return sorted(name for name, op in ops.items() if "cuda" not in op.bodies)


def test_every_op_has_a_kernel_for_the_gpu(bodies):
    import spherecnn.layers
    import spherecnn.training  # noqa: F401

    missing = without_a_twin(own_ops())
    assert not missing, f"register a body with @{missing[0]}.on('cuda') in kernels/gpu, and import it in bodies.py"


def test_the_guard_finds_an_op_without_one():
    lonely = Op(lambda x: x)
    lonely.on("cpu")(lambda x: x)
    assert without_a_twin({"lonely": lonely}) == ["lonely"]


def intrinsics():
    """Names of the functions that are machine instructions."""
    tree = ast.parse((PACKAGE / "kernels" / "gpu" / "intrinsics.py").read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "intrinsic" for d in node.decorator_list)
    }


def test_every_instruction_has_an_emulator(bodies, monkeypatch):
    pytest.importorskip("greenlet", reason="the simulator needs the extra cuda-test")
    monkeypatch.syspath_prepend(TESTS)
    from emulators import EMULATORS

    assert len(intrinsics()) > 20
    assert intrinsics() - EMULATORS.keys() == set(), "add what it does to tests/cuda/emulators.py"


def test_instructions_stand_in_one_file(bodies):
    for file in (PACKAGE / "kernels" / "gpu").glob("*.py"):
        if file.name != "intrinsics.py":
            tree = ast.parse(file.read_text())
            assert not any(name.endswith(".intrinsic") for name in imported(tree)), f"{file.name} makes an intrinsic"
