"""Sphinx configuration: sphinx-build -W docs docs/_build."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "difana"
author = copyright = "difana developers"
release = version = installed("difana")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "alabaster"
napoleon_use_ivar = True  # the attributes of a class are listed once
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and types stand in the signature as they were written
napoleon_attr_annotations = False
