"""scikit-learn's bundled handwritten digits on the sphere."""

from __future__ import annotations

from spherecnn.datasets.planar import PlanarDataset
from spherecnn.datasets.split import stratified_split
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid

TEST_SHARE = 0.2


def digits(
    grid: Grid, *, rotate: str = "none", fov_deg: float = 120.0, split: str = "train", seed: int = 0
) -> PlanarDataset:
    """The 1 797 handwritten digits, 8 x 8 pixels, that come with scikit-learn, on the sphere.

    Parameters
    ----------
    grid : Grid
        Where the digits are put.
    rotate : {"none", "yaw", "so3"}
        Orientation of each digit: upright at lat 0, lon 0, or drawn once from these rotations.
    fov_deg : float
        Field of view of a digit in degrees.
    split : {"train", "test"}
        A fifth of every class is for testing.
    seed : int
        Seeds the split and the orientations.

    Returns
    -------
    PlanarDataset

    Raises
    ------
    InputError
        If scikit-learn is missing or an option is unknown.

    Notes
    -----
    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> train, test = (digits(Equirect(16), split=s) for s in ("train", "test"))
    >>> len(train), len(test), train.classes[7]
    (1438, 359, '7')
    """
    check_choice("split", split, ("train", "test"))
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the handwritten digits come with scikit-learn, which is not installed: run pip install 'spherecnn[demo]'."
        ) from error
    pictures, labels = load_digits(return_X_y=True)
    pick = stratified_split(labels, TEST_SHARE, seed)[split == "test"]
    return PlanarDataset(
        pictures[pick].reshape(-1, 8, 8),
        labels[pick],
        [str(d) for d in range(10)],
        grid,
        white=16,
        rotate=rotate,
        fov_deg=fov_deg,
        seed=(seed, int(split == "test")),
    )
