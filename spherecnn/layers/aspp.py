"""Atrous spatial pyramid pooling: one picture seen at several scales at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids import Grid
from spherecnn.layers.activation import Dropout, ReLU
from spherecnn.layers.combine import Composite, Parallel, Sequential
from spherecnn.layers.linear import Linear
from spherecnn.layers.norm import BatchNorm
from spherecnn.layers.pool import GlobalAvgPool
from spherecnn.layers.registry import Method, generator, method
from spherecnn.layers.shape import Broadcast


class ASPP(Composite):
    r"""Atrous spatial pyramid pooling (DeepLabv3).

    .. math:: y = P\,[\,A_1 x,\ B_{r_1} x,\ \dots,\ B_{r_m} x,\ \mathrm{spread}(G\,\bar x)\,]

    :math:`A_1` is a 1x1 convolution, :math:`B_r` a 3x3 convolution with dilation r, and :math:`\bar x` the mean over
    the sphere, by solid angle, which goes through a linear map G and back to every site. Each branch makes
    `out_channels`, with batch normalisation and ReLU; P, a 1x1 convolution, batch normalisation, ReLU and dropout,
    mixes them side by side. Convolutions have no bias. Names are torchvision's: "convs.0.0.weight",
    "project.0.weight".

    With a method whose columns wrap, the widest branch reads around the seam however large its dilation is, a full
    turn or more too.

    Source: Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017, section 3.3.

    Parameters
    ----------
    in_channels : int
    atrous_rates : sequence of int
        Dilations: (6, 12, 18) at an output stride of 16, (12, 24, 36) at 8.
    out_channels : int
    grid : Grid, keyword only
        Of the input.
    method : str or Method
        Any method that has dilated convolutions.
    weighted : bool
        False gives every site the same weight in the mean, as in a planar network.
    dropout : float
        Probability of zero at the end.
    rng : numpy.random.Generator or int

    Raises
    ------
    InputError
        If rates, grid or method do not fit; in training, a batch of one sample, whose mean cannot be normalised.

    Examples
    --------
    >>> import spherecnn as sc
    >>> aspp = ASPP(64, (6, 12, 18), 32, grid=sc.grids.Equirect(8), method="circular", rng=0)
    >>> aspp.out_shape((2, 8, 16, 64))
    (2, 8, 16, 32)
    """

    def __init__(
        self,
        in_channels: int,
        atrous_rates: Sequence[int],
        out_channels: int = 256,
        *,
        grid: Grid,
        method: str | Method = "planar",
        weighted: bool = True,
        dropout: float = 0.5,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        rates = [check_at_least("an atrous rate", rate, 1) for rate in atrous_rates]
        if not rates:
            raise InputError("atrous_rates is empty; expected one dilation or more: give (6, 12, 18), for example.")
        kind, rng = _method(method), generator(rng)

        def branch(channels: int, kernel_size: int, dilation: int, *more: Any) -> Sequential:
            options: dict[str, Any] = {"kernel_size": kernel_size, "dilation": dilation, "bias": False, "rng": rng}
            conv = kind.conv(channels, out_channels, grid, **options)
            return Sequential(conv, BatchNorm(out_channels), ReLU(), *more)

        mean = Sequential(
            GlobalAvgPool(grid, weighted),
            Linear(in_channels, out_channels, bias=False, rng=rng),
            BatchNorm(out_channels),
            ReLU(),
            Broadcast(grid.shape),
        )
        self.convs = Parallel(branch(in_channels, 1, 1), *(branch(in_channels, 3, rate) for rate in rates), mean)
        self.project = branch((len(rates) + 2) * out_channels, 1, 1, Dropout(dropout, rng=rng))

    def trace(self, r: Any, *xs: Any) -> Any:
        return r(self.project, r(self.convs, *xs))


def _method(chosen: str | Method) -> Method:
    return chosen if isinstance(chosen, Method) else method(chosen)
