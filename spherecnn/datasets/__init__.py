"""Data on the sphere.

A data set has ``len(data)``, ``data.batch(indices) -> (x, y)`` with x ``(n, *grid.shape, C)`` float32, the names
``data.classes`` and ``data.grid``. y is a class (n,) int64 for each picture, or for each pixel a class
``(n, *grid.shape)`` int64 or values ``(n, *grid.shape, C)`` float32, NaN where missing.
"""

from spherecnn.datasets.digits import digits
from spherecnn.datasets.folder import PanoramaFolder, panoramas, read_panorama
from spherecnn.datasets.idx import mnist, read_idx
from spherecnn.datasets.inpainting import Holes, Inpainting, NewHoles, hide, inpainting
from spherecnn.datasets.mesh_files import VertexFiles, mesh_2d3ds, mesh_climate, rooms_weight
from spherecnn.datasets.mesh_made import make_2d3ds, make_climate, make_digits, make_mnist_archive, make_shapes
from spherecnn.datasets.mesh_mnist import DigitProjection, MeshMnist, mesh_mnist
from spherecnn.datasets.notsoclevr import NotSoClevr, not_so_clevr
from spherecnn.datasets.omnimnist import omni_mnist
from spherecnn.datasets.paired import PairedFolder, paired, read_labels
from spherecnn.datasets.pickled import DigitArchive, read_mesh_mnist, read_pickled_arrays
from spherecnn.datasets.planar import FlatPictures, Place, PlanarDataset
from spherecnn.datasets.project import project_planar
from spherecnn.datasets.shape_files import holds_shapes
from spherecnn.datasets.shape_folder import ProjectedShapes, holds_projections, shapes
from spherecnn.datasets.shape_projection import project_shapes
from spherecnn.datasets.shapes import CHANNELS as SHAPE_CHANNELS
from spherecnn.datasets.shapes import project_shape, read_shape
from spherecnn.datasets.split import stratified_split
from spherecnn.datasets.transforms import (
    Compose,
    Photometric,
    RotateAugment,
    looking_at,
    random_rotation,
    rotate,
)

__all__ = [
    "SHAPE_CHANNELS",
    "Compose",
    "DigitArchive",
    "DigitProjection",
    "FlatPictures",
    "Holes",
    "Inpainting",
    "MeshMnist",
    "NewHoles",
    "NotSoClevr",
    "PairedFolder",
    "PanoramaFolder",
    "Photometric",
    "Place",
    "PlanarDataset",
    "ProjectedShapes",
    "RotateAugment",
    "VertexFiles",
    "digits",
    "hide",
    "holds_projections",
    "holds_shapes",
    "inpainting",
    "looking_at",
    "make_2d3ds",
    "make_climate",
    "make_digits",
    "make_mnist_archive",
    "make_shapes",
    "mesh_2d3ds",
    "mesh_climate",
    "mesh_mnist",
    "mnist",
    "not_so_clevr",
    "omni_mnist",
    "paired",
    "panoramas",
    "project_planar",
    "project_shape",
    "project_shapes",
    "random_rotation",
    "read_idx",
    "read_labels",
    "read_mesh_mnist",
    "read_panorama",
    "read_pickled_arrays",
    "read_shape",
    "rooms_weight",
    "rotate",
    "shapes",
    "stratified_split",
]
