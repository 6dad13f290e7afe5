"""How Sphinx builds these pages: MyST Markdown, NumPy docstrings, the furo theme."""

from importlib.metadata import version as installed_version

project = "spherecnn"
author = "the spherecnn developers"
copyright = "the spherecnn developers, BSD-3-Clause"
version = release = installed_version("spherecnn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"spherecnn {version}"
