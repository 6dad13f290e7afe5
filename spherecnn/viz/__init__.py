"""Pictures of data and results; matplotlib is imported when the first one is drawn."""

from spherecnn.viz.confusion import confusion
from spherecnn.viz.cubemap import cubemap
from spherecnn.viz.curves import curves, curves_png
from spherecnn.viz.equirect import panel, panorama
from spherecnn.viz.figure import save
from spherecnn.viz.globe import globe, render_globe
from spherecnn.viz.labels import colour_labels, error_map, label_map, overlay, palette, value_map
from spherecnn.viz.latitude import latitude_curves
from spherecnn.viz.mesh import draw_mesh, render_mesh, unroll_mesh
from spherecnn.viz.mesh_panels import draw_fields, draw_quality

__all__ = [
    "colour_labels",
    "confusion",
    "cubemap",
    "curves",
    "curves_png",
    "draw_fields",
    "draw_mesh",
    "draw_quality",
    "error_map",
    "globe",
    "label_map",
    "latitude_curves",
    "overlay",
    "palette",
    "panel",
    "panorama",
    "render_globe",
    "render_mesh",
    "save",
    "unroll_mesh",
    "value_map",
]
