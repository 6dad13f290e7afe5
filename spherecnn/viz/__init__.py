"""Pictures of data and results; matplotlib is imported when the first one is drawn."""

from spherecnn.viz.confusion import confusion
from spherecnn.viz.curves import curves, curves_png
from spherecnn.viz.equirect import panel
from spherecnn.viz.figure import save
from spherecnn.viz.globe import globe, render_globe

__all__ = ["confusion", "curves", "curves_png", "globe", "panel", "render_globe", "save"]
