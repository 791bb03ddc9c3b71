"""Settings of the documentation: ``python -m sphinx -W --keep-going docs docs/_build/html``."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import skdistill


def escape_shapes(app, what, name, obj, options, lines):
    """Have stars and final underscores in a shape mean what they mean in Python."""
    lines[:] = [
        re.sub(
            r"(?<=shape \().*$",
            lambda shapes: re.sub(r"(?<=[ (])\*(?=\w)|(?<=\w)_(?=[,)])", r"\\\g<0>", shapes[0]),
            line,
        )
        for line in lines
    ]


def setup(app):
    """Connect what is defined here."""
    app.connect("autodoc-process-docstring", escape_shapes)


project = "skdistill"
author = "the skdistill developers"
copyright = "the skdistill developers"
version = release = skdistill.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "matplotlib.sphinxext.figmpl_directive",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_options",
    "elsewhere",
    "mathml",
]
# What scripts write of the measurements is Markdown; what people write is reStructuredText, the
# examples of which pytest runs as it runs those of docstrings.
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "skdistill"
html_static_path = ["_static"]
html_css_files = ["skdistill.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Wide tables have the room of the section's navigation.
html_sidebars = {"index": [], "start": [], "changelog": [], "results": [], "benchmarks/*": []}
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Not asked of everything: an extended summary, See Also and examples. Results have names, as
# scikit-learn gives them, which RT02 would have only where there are several.
numpydoc_validation_checks = {"all", "ES01", "EX01", "SA01", "RT02"}
# Made by the package and read by its users: their fields are described as attributes.
numpydoc_validation_exclude = {
    r"\.CopyingCheck$",
    r"\.DivisiveTree$",
    r"\.GuidedRun$",
    r"\.RecordedStep$",
}

plot_include_source = False
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 110)]
plot_srcset = ["2x"]
plot_rcparams = {
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The others need weights or hours, and are shown without being run.
    "filename_pattern": r"/plot_",
    "reference_url": {"skdistill": None},
    "download_all_examples": False,
    "remove_config_comments": True,
}

# Prompts and what programs print are left out of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
