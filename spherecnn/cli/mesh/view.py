"""`spherecnn mesh view`: a mesh, or a signal on it, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from spherecnn.cli.mesh import sources as s
from spherecnn.errors import InputError


@click.command(
    "view",
    epilog="""\b
Examples:
  spherecnn mesh view sphere.ply --out sphere.png
  spherecnn mesh view weather.npz --channel 3 --unit K --out temperature.png
  spherecnn mesh view room.npz --azimuth 60 --elevation 20 --size 800 --out room.png""",
)
@click.argument("source", metavar="IN", type=s.FILE)
@click.option("--out", type=s.PATH, required=True, help="PNG, JPEG, SVG or PDF file to write.")
@click.option("--mesh", type=s.FILE, help="Mesh of the values, where IN does not say it.")
@s.channel_option
@s.cmap_option
@s.limits_option
@click.option("--unit", default="", help="Unit of the values, beside the colour bar.")
@click.option(
    "--elevation", type=click.FloatRange(-90, 90), help="Degrees north of the one view.  [default: four views]"
)
@click.option("--azimuth", type=float, help="Degrees east of the one view.  [default: four views]")
@click.option("--size", type=click.IntRange(16, 4096), help="Pixels across a view.  [default: 320, or 480 of one view]")
@click.option(
    "--edges/--no-edges", default=None, help="Draw the edges of the triangles.  [default: where they are large]"
)
@click.option(
    "--unrolled/--no-unrolled",
    default=True,
    show_default=True,
    help="Draw the panorama below, if there is anything in it.",
)
@click.option("--title", help="Above the picture.  [default: the name of the file, and the channel]")
def command(
    source: Path,
    out: Path,
    mesh: Path | None,
    channel: str | None,
    cmap: str | None,
    limits: tuple[float, float] | None,
    unit: str,
    elevation: float | None,
    azimuth: float | None,
    size: int | None,
    edges: bool | None,
    unrolled: bool,
    title: str | None,
) -> None:
    """Draw a mesh IN, or a signal on one, from several sides and unrolled as a panorama.

    IN is a mesh (.ply, .off, .obj, .stl, .glb), with the colours of its vertices if it has some, or values on one
    (.npz, .npy). One channel is shown by a colour map, with a bar.
    """
    from spherecnn.viz import draw_mesh
    from spherecnn.viz.globe import VIEWS

    s.check_picture(out)
    s.check_cmap(cmap)
    s.check_limits(limits)
    grid, signal = s.open_source(source, mesh)
    if not hasattr(grid, "faces"):
        raise InputError(
            f"{source} is a picture on {grid!r}; expected a mesh or values on one: make them with "
            f"`spherecnn mesh convert {source} --out {source.stem}.npz`."
        )
    values, name = (None, "") if signal is None else s.shown(signal, channel, cmap)
    if values is not None and values.ndim > 1 and (limits or cmap):
        raise InputError(
            "--cmap or --limits were given for colours; expected them for one channel: name it by --channel."
        )
    alone = elevation is not None or azimuth is not None
    views = [(elevation or 0.0, azimuth or 0.0)] if alone else VIEWS
    draw_mesh(
        grid,
        values,
        out,
        views,
        size=size or (480 if alone else 320),
        unrolled=unrolled,
        edges=edges,
        cmap=cmap,
        limits=limits,
        unit=unit,
        title=f"{source.name}{name and ', ' + name}" if title is None else title,
    )
    click.echo(f"Drew {source}, {grid!r}, {s.describe(signal)}, in {out}.")
    more = signal is not None and signal.channels > 1 and values is not None and values.ndim == 1
    click.echo(
        f"Next: look at {out}; {'--channel shows another channel, ' if more else ''}--elevation and --azimuth one side."
    )
