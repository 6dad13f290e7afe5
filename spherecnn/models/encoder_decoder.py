"""Encoder-decoder with max unpooling: each value goes back to where its maximum was."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import Composite, method
from spherecnn.layers.registry import generator
from spherecnn.models.blocks import DoubleConv, coarser


class EncoderDecoder(Composite):
    """Convolutions and poolings, then unpoolings by their switches. Build it with `encoder_decoder`."""

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        width: int,
        depth: int,
        norm: str | None,
        activation: str,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        self.config = {
            "model": "encoder_decoder",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "depth": check_at_least("depth", depth, 1),
            "norm": norm,
            "activation": activation,
        }
        options: dict[str, Any] = {"norm": norm, "activation": activation, "rng": rng}
        self.downs, self.ups, channels, fine = [], [], in_channels, grid
        fines = []
        for stage, (pool, coarse) in enumerate(coarser(kind, grid, depth, return_indices=True)):
            convs = DoubleConv(kind, channels, width << stage, fine, **options)
            setattr(self, f"down{stage + 1}", convs)
            setattr(self, f"pool{stage + 1}", pool)
            self.downs.append((convs, pool))
            fines.append(fine)
            channels, fine = width << stage, coarse
        for stage in reversed(range(depth)):
            unpool = kind.unpool(fine, fines[stage])
            fine = fines[stage]
            convs = DoubleConv(kind, channels, width << max(stage - 1, 0), fine, mid_channels=channels, **options)
            setattr(self, f"unpool{stage + 1}", unpool)
            setattr(self, f"up{stage + 1}", convs)
            self.ups.append((unpool, convs))
            channels = width << max(stage - 1, 0)
        self.head = kind.conv(width, out_channels, grid, kernel_size=1, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        switches = []
        for convs, pool in self.downs:
            x, indices = r(pool, r(convs, x))
            switches.append(indices)
        for unpool, convs in self.ups:
            x = r(convs, r(unpool, x, switches.pop()))
        return r(self.head, x)


def encoder_decoder(
    method: str,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    width: int = 16,
    depth: int = 3,
    norm: str | None = "batch",
    activation: str = "relu",
    rng: np.random.Generator | int | None = None,
) -> EncoderDecoder:
    """Build an encoder-decoder with max unpooling for a method; an autoencoder with as many channels out as in.

    There are no skips: only the switches of the poolings, where each maximum was, lead to the decoder. A stage is
    two convolutions; the decoder mirrors the encoder.

    Source: Badrinarayanan, Kendall and Cipolla, SegNet, TPAMI 2017; David and Netanyahu, DeepPainter, ICANN 2016.

    Parameters
    ----------
    method : str
        Any word of `layers.METHODS`.
    in_channels, out_channels : int
    grid : Grid
        Of input and output.
    width : int
        Channels of the first stage; each further stage has twice as many.
    depth : int
        Number of poolings.
    norm : str, optional
        "batch" as in SegNet, "group", "instance", or None.
    activation : str
        "relu", "leaky_relu", "elu", "gelu", "sigmoid" or "tanh".
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    EncoderDecoder
        From ``(N, *grid.shape, in_channels)`` to ``(N, *grid.shape, out_channels)``.

    Raises
    ------
    InputError
        If the grid cannot be pooled `depth` times, or an option is unknown.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = encoder_decoder("circular", 3, 3, sc.grids.Equirect(16), width=4, depth=2, rng=0)
    >>> net.out_shape((1, 16, 32, 3))
    (1, 16, 32, 3)
    """
    return EncoderDecoder(method, in_channels, out_channels, grid, width, depth, norm, activation, rng)
