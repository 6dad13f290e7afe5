"""Imports run one way, and `import spherecnn` stays light."""

import ast
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spherecnn"

# Each part may import those of a lower rank. Parts of one rank do not import each other.
RANK = {
    "errors": 0,
    "files": 1,
    "grids": 2,
    "stencils": 3,
    "kernels": 4,
    "layers": 5,
    "models": 6,
    "testing": 6,
    "datasets": 7,
    "training": 7,
    "viz": 7,
    "transfer": 8,
    "bench": 8,
    "cli": 9,
    "__init__": 10,
}
# Pictures of a run, drawn by the code that makes them, inside functions only.
LAZY = {("training", "viz")}
# Whoever uses the package as its users do.
FRONT_DOOR = {"bench", "cli", "testing"}


def part(module: str) -> str:
    """The part of the package that a dotted module name belongs to."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imports(file: Path) -> list[tuple[str, bool]]:
    """(module, lazy) of every import of spherecnn in a file; lazy is True inside a function."""
    tree = ast.parse(file.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {id(n) for f in functions for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} line {node.lineno}: relative import; write the full name"
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names] if module == "spherecnn" else [module]
        else:
            continue
        found += [(name, id(node) in inside) for name in names if name.split(".")[0] == "spherecnn"]
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in RANK, f"{own} is new: give it a rank here and a sentence in docs/design.md"
    for module, lazy in imports(file):
        target = part(module)
        if target in (own, "__version__") or (target == "__init__" and own in FRONT_DOOR):
            continue
        if lazy and (own, target) in LAZY:
            continue
        assert RANK[target] < RANK[own], f"{file.name} imports {module}: {own} stands below {target}"


def test_the_reader_of_imports_sees_them(tmp_path):
    file = tmp_path / "m.py"
    file.write_text(
        "import numpy\nfrom spherecnn import grids\nimport spherecnn.viz.globe\n"
        "def f():\n    from spherecnn.training.loop import fit\n"
    )
    assert imports(file) == [
        ("spherecnn.grids", False),
        ("spherecnn.viz.globe", False),
        ("spherecnn.training.loop", True),
    ]


def test_import_is_light():
    heavy = ["numba.cuda", "healpy", "trimesh", "matplotlib", "sklearn", "torch"]
    code = f"import json, sys, spherecnn; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_package_says_that_it_is_typed():
    assert resources.files("spherecnn").joinpath("py.typed").is_file()
