"""Data that is made up, in the published layouts of the mesh experiments: to try a script, and for tests."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from spherecnn.datasets.mesh_files import AREAS, FIELDS, WEATHER_MEAN, WEATHER_STD
from spherecnn.datasets.mesh_mnist import MEAN, STD, MeshMnist
from spherecnn.errors import check_choice
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids import Grid

SHAPES = ("box", "capsule", "cone", "cylinder", "pyramid", "torus")
# Lit segments of the digits 0 to 9: top, upper left, upper right, middle, lower left, lower right, bottom.
_SEGMENTS = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)
_BARS = (
    (4, 9, 6, 19),
    (4, 9, 14, 11),
    (4, 17, 14, 19),
    (13, 9, 15, 19),
    (14, 9, 24, 11),
    (14, 17, 24, 19),
    (22, 9, 24, 19),
)


def make_digits(folder: str | os.PathLike[str], *, samples: tuple[int, int] = (2000, 500), seed: int = 0) -> None:
    """Write the four files of MNIST, with seven-segment digits that are moved, slanted and turned a little.

    Parameters
    ----------
    folder : path
        Made where it does not exist.
    samples : tuple of int
        Of training and of test.
    seed : int
        Equal seeds give equal files.
    """
    root = make_folder(folder)
    rng = np.random.default_rng(seed)
    for prefix, count in zip(("train", "t10k"), samples, strict=True):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = np.stack([_digit(int(k), rng) for k in labels])
        for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            write_atomic(root / f"{prefix}-{stem}-ubyte.gz", gzip.compress(header + array.tobytes(), mtime=0))


def _digit(k: int, rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((28, 28))
    for lit, (top, left, bottom, right) in zip(_SEGMENTS[k], _BARS, strict=True):
        if lit == "1":
            image[top:bottom, left:right] = 1
    turn, slant = rng.normal(0, 0.12), rng.normal(0, 0.15)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + slant, np.cos(turn)]]) / rng.uniform(0.85, 1.1)
    offset = 13.5 - matrix @ (13.5 + rng.uniform(-2, 2, 2))
    moved = gaussian_filter(affine_transform(image, matrix, offset, order=1), 0.6)
    return np.clip(moved / moved.max() * 255, 0, 255).astype(np.uint8)


def make_mnist_archive(path: str | os.PathLike[str], train: MeshMnist, test: MeshMnist) -> None:
    """Write digits on vertices as the published archive: a pickle of four arrays, compressed by gzip.

    Values go back to 0..255, float32, for the reader to standardise.
    """
    arrays = {}
    for name, part in (("train", train), ("test", test)):
        x, y = part.batch(np.arange(len(part)))
        arrays[f"{name}_inputs"] = ((x[..., 0] * STD + MEAN) * 255).astype(np.float32)
        arrays[f"{name}_labels"] = y
    write_atomic(Path(path), gzip.compress(pickle.dumps(arrays, protocol=4), mtime=0))


def make_2d3ds(
    folder: str | os.PathLike[str], grid: Grid, *, samples: int = 4, areas: Sequence[str] = AREAS, seed: int = 0
) -> None:
    """Write rooms in the layout of `mesh_2d3ds`: boxes with a door, a window and furniture, seen from inside.

    Parameters
    ----------
    folder : path
    grid : Grid
        The icosphere of the files; published files have the vertices of level 7 or fewer.
    samples : int
        Of each area.
    areas : sequence of str
    seed : int
    """
    for number, area in enumerate(areas):
        root = make_folder(Path(folder) / f"area_{area}")
        for i in range(samples):
            data, labels = _room(grid.xyz, np.random.default_rng((seed, number, i)))
            write_atomic(root / f"room_{i:04d}.npz", _npz(data, labels))


def _room(xyz: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours and depth (P, 4) and classes (P,) as seen from 1.5 m above the floor of a box."""
    half, height, eye = rng.uniform(1.5, 4.5, 2), rng.uniform(2.5, 3.5), 1.5
    away = np.abs(xyz) + 1e-9
    walls = (half / away[:, :2]).min(axis=1)
    flat = np.where(xyz[:, 2] > 0, height - eye, eye) / away[:, 2]
    depth, on_wall = np.minimum(walls, flat), walls < flat
    labels = np.where(on_wall, 12, np.where(xyz[:, 2] > 0, 4, 9))
    place = xyz * depth[:, None]
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    level = place[:, 2] + eye
    for kind, low, high, width in ((8, 0.0, 2.1, 0.2), (13, 0.9, 2.2, 0.4), (2, 0.8, 1.8, 0.3), (3, 0.0, 2.0, 0.3)):
        near = np.abs(_turned(azimuth - rng.uniform(-np.pi, np.pi))) < width
        labels[near & on_wall & (level > low) & (level < high)] = kind
    for kind, size in ((11, 0.5), (5, 0.3), (6, 0.25), (10, 0.45)):
        towards = rng.uniform(-np.pi, np.pi)
        at = rng.uniform(0.4, 0.8) * np.array([half[0] * np.cos(towards), half[1] * np.sin(towards), 0])
        centre = at - np.array([0, 0, eye - size / 2])
        distance = float(np.linalg.norm(centre))
        seen = (xyz @ centre / distance > np.cos(np.arctan(size / distance))) & (depth > distance - size)
        labels[seen], depth[seen] = kind, distance
    labels[xyz[:, 2] > 0.99] = 0
    labels[xyz[:, 2] < -0.985] = 14
    colours = np.random.default_rng(7).uniform(0.1, 0.9, (15, 3))[labels] * rng.uniform(0.8, 1.2)
    colours = np.clip(colours + rng.normal(0, 0.05, colours.shape), 0, 1)
    colours[labels == 14] = 0
    return np.column_stack([colours, np.clip(depth, 0, 5)]).astype(np.float32), labels.astype(np.uint8)


def make_climate(
    folder: str | os.PathLike[str], grid: Grid, *, samples: tuple[int, int, int] = (16, 4, 4), seed: int = 0
) -> None:
    """Write fields in the layout of `mesh_climate`, with cyclones in the tropics and rivers beyond, and its lists.

    Parameters
    ----------
    folder : path
    grid : Grid
        The icosphere of the files; published: level 5.
    samples : tuple of int
        Of training, validation and test.
    seed : int
    """
    root = make_folder(folder)
    number = 0
    for split, count in zip(("train", "val", "test"), samples, strict=True):
        names = []
        for _ in range(count):
            names.append(f"data-2106-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d}-01-{number // 336 + 1}-mesh.npz")
            data, labels = _weather(grid.xyz, np.random.default_rng((seed, number)))
            write_atomic(root / names[-1], _npz(data, labels))
            number += 1
        write_atomic(root / f"{split}_split.txt", "".join(f"{name}\n" for name in names).encode())


def _weather(xyz: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fields (16, P) and one-hot classes (3, P)."""
    fields = {name: _smooth(xyz, rng) for name in FIELDS}
    kind = np.zeros(len(xyz), np.int64)
    lat, lon = np.arcsin(np.clip(xyz[:, 2], -1, 1)), np.arctan2(xyz[:, 1], xyz[:, 0])
    for _ in range(2):
        start, side = rng.uniform(-np.pi, np.pi), rng.choice([-1, 1])
        along = _turned(lon - start) / rng.uniform(0.5, 0.8)
        river = np.exp(-(((lat - side * (0.6 + 0.15 * along)) / 0.08) ** 2) - along**4)
        fields["TMQ"] += 3 * river
        fields["V850"] += 2 * side * river
        kind[river > 0.5] = 2
    for _ in range(3):
        side = rng.choice([-1, 1])
        eye_lat, eye_lon = side * rng.uniform(0.15, 0.45), rng.uniform(-np.pi, np.pi)
        east, north = _turned(lon - eye_lon) * np.cos(lat), lat - eye_lat
        storm = np.exp(-(east**2 + north**2) / 0.1**2)
        fields["PSL"] -= 5 * storm
        fields["TMQ"] += 2 * storm
        fields["U850"] -= side * 40 * north * storm
        fields["V850"] += side * 40 * east * storm
        kind[storm > 0.5] = 1
    data = np.stack([fields[name] for name in FIELDS]) * np.array(WEATHER_STD)[:, None]
    return (data + np.array(WEATHER_MEAN)[:, None]).astype(np.float32), np.eye(3, dtype=np.uint8)[:, kind]


def _smooth(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth field of mean 0 and standard deviation about 0.7."""
    waves, phases = rng.normal(0, 3, (8, 3)), rng.uniform(0, 2 * np.pi, 8)
    return np.cos(xyz @ waves.T + phases).sum(axis=1) / 8**0.5


def _turned(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _npz(data: np.ndarray, labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, data=data, labels=labels)
    return file.getvalue()


def make_shapes(
    folder: str | os.PathLike[str], *, samples: tuple[int, int] = (8, 3), seed: int = 0, classes: Sequence[str] = SHAPES
) -> None:
    """Write triangle meshes in the layout of ModelNet, ``CLASS/train/CLASS_0001.off``: stretched, and turned about z.

    Parameters
    ----------
    folder : path
    samples : tuple of int
        Of training and of test, of each class.
    seed : int
    classes : sequence of str
        Of "box", "capsule", "cone", "cylinder", "pyramid" and "torus".
    """
    for number, name in enumerate(classes):
        check_choice("a class of shapes", name, SHAPES)
        for i in range(sum(samples)):
            vertices, faces = _shape(name, np.random.default_rng((seed, number, i)))
            root = make_folder(Path(folder) / name / ("train" if i < samples[0] else "test"))
            lines = ["OFF", f"{len(vertices)} {len(faces)} 0", *("{:.6f} {:.6f} {:.6f}".format(*v) for v in vertices)]
            lines += [f"3 {a} {b} {c}" for a, b, c in faces]
            write_atomic(root / f"{name}_{i + 1:04d}.off", ("\n".join(lines) + "\n").encode())


def _shape(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a shape, about upright."""
    from trimesh import creation

    mesh = {
        "box": lambda: creation.box((1.0, 1.0, 1.0)),
        "capsule": lambda: creation.capsule(height=1.5, radius=0.5, count=[16, 16]),
        "cone": lambda: creation.cone(radius=0.7, height=1.5, sections=24),
        "cylinder": lambda: creation.cylinder(radius=0.6, height=1.5, sections=24),
        "pyramid": lambda: creation.cone(radius=0.9, height=1.2, sections=4),
        "torus": lambda: creation.torus(major_radius=0.8, minor_radius=0.3, major_sections=24, minor_sections=12),
    }[name]()
    turn = rng.uniform(0, 2 * np.pi)
    about = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return np.asarray(mesh.vertices) * rng.uniform(0.7, 1.3, 3) @ about.T, np.asarray(mesh.faces)
