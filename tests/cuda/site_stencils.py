"""Small stencils of every kind, for the tests of kernels that go over sites."""

import numpy as np
from scipy import sparse

from spherecnn.grids import Equirect, Icosphere, Polyhedron
from spherecnn.stencils import latitude, mesh, spherephd, tangent, window
from spherecnn.stencils.sparse import SparseStencil
from spherecnn.stencils.spherephd import face_pooling

AROUND = ((1, 1), (1, 1))

# Taps that read one site.
PLAIN = {
    "circular": lambda: window((5, 18), (3, 3), padding=AROUND, padding_mode="circular"),
    "sphere": lambda: window((4, 8), (3, 3), padding=AROUND, padding_mode="sphere"),
    "reflect": lambda: window((6, 7), (3, 3), padding=AROUND, padding_mode="reflect"),
    "strided": lambda: window((6, 10), (2, 3), (2, 2), ((0, 0), (1, 1))),
    "latitude": lambda: latitude((6, 8), ((3, 5), (3, 3)), (0, 1, 1, 1, 1, 0)),
    "faces": lambda: spherephd(Polyhedron(1)),
    "children": lambda: face_pooling(Polyhedron(1)),
}
# Taps that blend, by shares of slots.
SHARED = {
    "tangent": lambda: tangent(Equirect(4)),
    "tangent_strided": lambda: tangent(Equirect(6), (3, 3), (2, 2)),
}
MEAN = {"tangent_mean": lambda: tangent(Equirect(4), (3, 3), (2, 2), average=True)}
# Matrices: a row for each tap, or numbers for four taps together.
MATRICES = {
    "mesh": lambda: mesh(Icosphere(1)),
    "two_operators": lambda: mesh(Icosphere(1), operators=("laplacian", "east")),
    "north": lambda: spherephd(Polyhedron(1), orientation="north"),
}


def one_tap() -> SparseStencil:
    """Return a random matrix of one tap, in an order of its own, with an empty row."""
    rng = np.random.default_rng(3)
    matrix = sparse.random_array((21, 13), density=0.4, format="csr", rng=rng)
    matrix.data[matrix.indptr[4] : matrix.indptr[5]] = 0
    matrix.eliminate_zeros()
    return SparseStencil(matrix, (13,), (21,), rng.permutation(21), rng.permutation(13))


def both(table):
    """Names and makers of the stencils of a table, and of their adjoints."""
    made = [(name, make) for name, make in table.items()]
    return made + [(f"{name}_adjoint", lambda make=make: make().transposed) for name, make in table.items()]


def numbers(seed, *shape):
    """Return random float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
