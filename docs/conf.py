"""Sphinx settings. The site is read offline: no remote script, style or font, and formulas are MathML."""
import inspect
import re
from configparser import ConfigParser
from functools import cached_property
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

SETTINGS = ConfigParser()
SETTINGS.read(Path(__file__).resolve().parents[3] / "settings.ini", encoding="utf-8")

project = "kglearn"
author = copyright = SETTINGS["DEFAULT"]["author"]
version = release = SETTINGS["DEFAULT"]["version"]
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
nb_execution_mode = "off"  # the outputs are those that the notebooks were saved with
nb_ipywidgets_js = {}  # the default fetches them from the network
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

default_role = "code"  # docstrings use Markdown's single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"kglearn {version}"
html_static_path = ["static"]
html_css_files = ["kglearn.css"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"


def mathml(translator, node, display):
    "LaTeX to MathML, which browsers draw by themselves."
    found = convert(node.astext(), display=display)
    if "<mi>&</mi>" in found or "<mi>\\" in found:
        raise ValueError(f"latex2mathml does not know all of this formula: {node.astext()}")
    return found


def visit_inline(translator, node):
    translator.body.append(mathml(translator, node, "inline"))
    raise SkipNode


def visit_block(translator, node):
    translator.body.append(f'<div class="math">{mathml(translator, node, "block")}</div>\n')
    raise SkipNode


def skip_plain_field(app, what, name, member, skip, options):
    "The fields of a dataclass stand under Args, with what they mean; do not list them twice."
    methods = (property, cached_property, classmethod, staticmethod)
    if what == "class" and not callable(member) and not isinstance(member, methods) and not inspect.isroutine(member):
        return True
    return None


def escape_bars(app, what, name, member, options, lines):
    "In docstrings |x| is an absolute value; reStructuredText would look for a substitution of that name."
    for number, line in enumerate(lines):
        parts = re.split(r"(`+.*?`+)", line)
        lines[number] = "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_plain_field)
