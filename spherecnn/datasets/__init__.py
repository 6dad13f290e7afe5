"""Data on the sphere.

A data set has ``len(data)``, ``data.batch(indices) -> (x, y)`` with x ``(n, *grid.shape, C)`` float32, the names
``data.classes`` and ``data.grid``. y is a class (n,) int64 for each picture, or for each pixel a class
``(n, *grid.shape)`` int64 or values ``(n, *grid.shape, C)`` float32, NaN where missing.
"""

from spherecnn.datasets.digits import digits
from spherecnn.datasets.folder import PanoramaFolder, panoramas, read_panorama
from spherecnn.datasets.idx import mnist, read_idx
from spherecnn.datasets.inpainting import Holes, Inpainting, NewHoles, hide, inpainting
from spherecnn.datasets.notsoclevr import NotSoClevr, not_so_clevr
from spherecnn.datasets.omnimnist import omni_mnist
from spherecnn.datasets.paired import PairedFolder, paired, read_labels
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
    "FlatPictures",
    "Holes",
    "Inpainting",
    "NewHoles",
    "NotSoClevr",
    "PairedFolder",
    "PanoramaFolder",
    "Photometric",
    "Place",
    "PlanarDataset",
    "ProjectedShapes",
    "RotateAugment",
    "digits",
    "hide",
    "holds_projections",
    "holds_shapes",
    "inpainting",
    "looking_at",
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
    "read_panorama",
    "read_shape",
    "rotate",
    "shapes",
    "stratified_split",
]
