"""Sphinx: plain reStructuredText, no extension, every warning an error (`make docs`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wire import __version__

project = "Jackline"
author = "The Jackline authors"
copyright = "The Jackline authors"
release = __version__
html_theme = "alabaster"
html_theme_options = {"description": "A link no job can take down", "fixed_sidebar": True}
html_show_copyright = False
exclude_patterns = ["_build", "adr/template.rst"]
nitpicky = True
