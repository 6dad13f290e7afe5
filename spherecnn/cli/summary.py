"""`spherecnn summary`: the layers of a network, with shapes and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.layers.base import Layer, Shape


@click.command(
    "summary",
    epilog="""\b
Examples:
  spherecnn summary --method coord --height 60
  spherecnn summary --model unet --height 64 --classes 3
  spherecnn summary --method spherephd --level 3
  spherecnn summary --method mesh --level 4
  spherecnn summary runs/circular""",
)
@click.argument("run", type=o.FOLDER, required=False)
@click.option(
    "--model",
    "name",
    type=click.Choice(list(sc.models.MODELS)),
    default="classifier",
    show_default=True,
    help="Which network.",
)
@o.method_option
@o.grid_options
@o.width_option
@click.option("--in-channels", type=o.AT_LEAST_1, default=3, show_default=True, help="Channels of the pictures.")
@click.option(
    "--classes", type=click.IntRange(2), default=10, show_default=True, help="Number of classes, or of output channels."
)
@o.weights_option
def command(
    run: Path | None, name: str, method: str, width: int, in_channels: int, classes: int, weights: str, **size: Any
) -> None:
    """Show the layers of a network of a method, or of the network of a RUN."""
    if run is not None:
        model, _ = o.load_run(run, weights)
    else:
        grid = o.grid_of({"method": method} | size)
        model = sc.models.MODELS[name](method, in_channels, classes, grid, width=width, rng=0)
    config = model.config
    shape = (1, *model.grid.shape, config["in_channels"])
    what = ", ".join(config[name] for name in ("model", "method") if name in config)
    click.echo(f"{what} on {model.grid!r}, input {shape[1:]}\n")
    click.echo(o.table(["layer", "type", "output", "parameters"], layer_rows(model, shape)))
    click.echo(f"\n{model.parameter_count:,} parameters, {model.parameter_count * 4 / 2**20:.2f} MiB in float32.")


def layer_rows(model: Layer, shape: Shape) -> list[list[Any]]:
    """Name, type, output shape without the batch, and parameters of every layer that computes, in order.

    Of several outputs the first is shown: of a pooling with indices both have its shape.
    """
    names = {id(layer): name for name, layer in model.walk()}
    rows: list[list[Any]] = []
    counted: set[int] = set()

    def call(layer: Any, *shapes: Shape) -> Shape:
        if isinstance(layer, sc.layers.Composite):
            return layer.trace(call, *shapes)
        out = layer.out_shape(*shapes)
        first = out[0] if isinstance(out[0], tuple) else out
        count = 0 if id(layer) in counted else layer.parameter_count
        counted.add(id(layer))
        rows.append([names.get(id(layer), ""), type(layer).__name__, str(first[1:]), count])
        return out

    call(model, shape)
    return rows
