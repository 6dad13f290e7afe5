"""What a planar network gives on the tangent plane at each pixel of a panorama: the ground truth of transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.errors import InputError, check_array, check_at_least
from spherecnn.grids import Equirect
from spherecnn.kernels.arrays import to_host
from spherecnn.kernels.sample import sample_equirect
from spherecnn.layers import Layer
from spherecnn.stencils import tangent_directions
from spherecnn.training.placement import moved, on
from spherecnn.transfer.chain import Chain, chain_to

# Sites of all patches that go through the network at a time.
SITES = 1 << 17


def exact(
    model: Layer,
    layer: str,
    images: np.ndarray,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    columns: Sequence[int] | np.ndarray | None = None,
    pitch: float | tuple[float, float] | None = None,
    grid: Equirect | None = None,
    progress: bool = False,
    device: str | None = None,
) -> np.ndarray:
    r"""Output of a planar network's layer at pixels of panoramas, by reprojection: the ground truth of transfer.

    The patch that the layer sees around a pixel is read, bilinearly, from the plane that touches the sphere there, and
    the network runs on the patch. Its pixel (i, j), counted from the middle of the patch, lies in the direction

    .. math:: c + j\,\delta_x\,\mathrm{east} - i\,\delta_y\,\mathrm{north},
        \qquad \delta_x = 2\pi / W,\quad \delta_y = \pi / H

    with c the unit vector to the pixel: a plane with uniform pixels, which at the middle are as large as the panorama's
    at the equator. There the result tends to that of the network on the panorama itself. The patch has exactly the
    size of the receptive field, so no padding is ever seen.

    The pixel is the middle of what the output (p, q) of the planar network sees. Behind poolings of 2x2 that is the
    centre of a pixel of the coarser grid.

    Source: Su and Grauman, Learning spherical convolution for fast features from 360 degree imagery, NIPS 2017,
    section 3.1.

    Parameters
    ----------
    model : Layer
        A planar network: convolutions, poolings of windows, batch normalisation and activations up to the layer.
    layer : str
        Name of the layer, such as "features.4"; `Layer.walk` yields the names.
    images : ndarray (N, H, W, C)
        Panoramas, of the dtype of the network.
    rows, columns : sequence of int, optional
        Rows and columns of the layer's output to compute; all by default. Negative ones count from the end.
    pitch : float or (rows, columns), optional
        Pixel of the plane, :math:`\delta_y, \delta_x`, as its tangent. A camera with `w` pixels on a field of view
        `f` has 2 tan(f / 2) / w.
    grid : Equirect, optional
        Of the images; that of the model if it has their shape, or half-pixel rows.
    progress : bool
        Show a bar.
    device : {"cpu", "cuda"}, optional
        Where the model runs; by default where it is, and it stays there. Images and outputs are on the host.

    Returns
    -------
    ndarray (N, rows, columns, K)
        Same dtype as `images`.

    Raises
    ------
    InputError
        If the layer is unknown or sees more than a window, or images, rows, columns or pitch do not fit.

    Examples
    --------
    A kernel of one pixel sees no distortion.

    >>> import spherecnn as sc
    >>> net = sc.layers.Sequential(sc.layers.Conv2d(1, 2, 1, rng=0), sc.layers.ReLU())
    >>> x = np.random.default_rng(0).random((1, 4, 8, 1), np.float32)
    >>> bool(np.allclose(sc.transfer.exact(net, "1", x), net(x)))
    True
    """
    chain = chain_to(model, layer)
    grid = grid_of(model, images, grid)
    check_array("images", images, "N, H, W, C", model.dtype)
    _, height, width, channels = chain.out_shape(images.shape)
    rows, columns = indices("rows", rows, height), indices("columns", columns, width)
    plane = _plane(chain, _pitch(pitch, grid))
    lat, lon = (a.ravel() for a in _middles(chain, grid, rows, columns))
    y = np.empty((len(images), len(lat), channels), images.dtype)
    net, step = chain.valid(), max(1, SITES // (len(plane[0]) * max(1, len(images))))
    where, hidden = device or model.device or "cpu", None if progress else True
    with (
        moved([net], where),
        tqdm(total=len(lat), desc=f"exact {layer}", unit="px", leave=False, disable=hidden) as bar,
    ):
        for first in range(0, len(lat), step):
            some = slice(first, first + step)
            xyz = tangent_directions(lat[some], lon[some], *plane).reshape(1, -1, 3)
            patches = sample_equirect(images, xyz, pole_rows=grid.pole_rows)
            patches = patches.reshape(-1, *chain.extent, images.shape[3])
            y[:, some] = to_host(net(on(where, patches))).reshape(len(images), -1, channels)
            bar.update(len(lat[some]))
    return y.reshape(len(images), len(rows), len(columns), channels)


def grid_of(model: Layer, images: Any, grid: Equirect | None) -> Equirect:
    """Return the grid of panoramas: the one given, the model's if it has their shape, or half-pixel rows."""
    if np.ndim(images) != 4:
        raise InputError(
            f"the images have shape {np.shape(images)}; expected (N, H, W, C): add an axis, for example x[None]."
        )
    shape = tuple(np.shape(images)[1:3])
    own = getattr(model, "grid", None)
    if grid is None:
        return own if isinstance(own, Equirect) and own.shape == shape else Equirect(*shape)
    if not isinstance(grid, Equirect) or grid.shape != shape:
        raise InputError(f"the grid is {grid!r} for images of {shape}; expected Equirect{shape}: give their grid.")
    return grid


def indices(name: str, given: Any, size: int) -> np.ndarray:
    """Return row or column numbers (n,) as an array; all of them for None."""
    if given is None:
        return np.arange(size)
    found = np.atleast_1d(np.asarray(given))
    if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size or (np.abs(found + 0.5) > size).any():
        raise InputError(
            f"{name} is {given!r}; expected integers from {-size} to {size - 1} for an output of {size} {name}: "
            "choose some of them."
        )
    return found % size


def _pitch(given: Any, grid: Equirect) -> tuple[float, float]:
    if given is None:
        return np.pi / (grid.height - grid.pole_rows), 2 * np.pi / grid.width
    pair = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    if len(pair) != 2 or not all(np.isfinite(p) and p > 0 for p in pair):
        raise InputError(
            f"pitch is {given!r}; expected one positive number or two (rows, columns), a pixel of the plane as its "
            "tangent: 2 tan(fov / 2) / pixels of a camera."
        )
    return float(pair[0]), float(pair[1])


def _plane(chain: Chain, pitch: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels (rows * columns,) of a patch lie on the plane that touches the sphere at its middle."""
    check_at_least("the receptive field", min(chain.extent), 1)
    i, j = (np.arange(e) - (e - 1) / 2 for e in chain.extent)
    y, x = np.meshgrid(-i * pitch[0], j * pitch[1], indexing="ij")
    return x.ravel(), y.ravel()


def row_latitudes(chain: Chain, grid: Equirect, rows: np.ndarray) -> np.ndarray:
    """Latitudes (rows,) of the middles of what output rows of a chain see."""
    row = chain.stride[0] * rows + chain.start[0] + (chain.extent[0] - 1) / 2
    return np.pi / 2 - (row + (0 if grid.pole_rows else 0.5)) * np.pi / (grid.height - grid.pole_rows)


def _middles(chain: Chain, grid: Equirect, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Latitudes and longitudes (rows, columns) of the middles of what the outputs see."""
    column = chain.stride[1] * columns + chain.start[1] + (chain.extent[1] - 1) / 2
    lon = -np.pi + (column + 0.5) * 2 * np.pi / grid.width
    return np.meshgrid(row_latitudes(chain, grid, rows), lon, indexing="ij")
