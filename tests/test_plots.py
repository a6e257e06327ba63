"""What no lesson of 03_plots carries: hostile labels in every place of every picture, and sound SVG."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import networkx
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, Mention
from kglearn.plots import (
    color_of,
    figure_svg,
    graph_layout,
    plot_graph,
    plot_intervals,
    plot_lines,
    plot_scatter,
    safe_label,
    show_mentions,
)

HOSTILE = r"$\frac{$</text><script>alert(1)</script>&]]> --> \x00" + "\x00\x1b\ud800$"
LABEL = st.text(max_size=30) | st.just(HOSTILE)
SLOW = settings(deadline=None, max_examples=15)


def strange_graph(label: str) -> networkx.MultiDiGraph:
    graph = networkx.MultiDiGraph()
    graph.add_node("a", name=label, type=label)
    graph.add_node(label + "b")
    graph.add_edge("a", label + "b", relation=label)
    graph.add_edge("a", "a", relation="itself")
    return graph


@pytest.mark.parametrize("draw", [
    lambda label: plot_intervals([(label, 0.5, 0.4, 0.6)], label, label, 0.5),
    lambda label: plot_lines({label: [1.0, float("nan")]}, [label, "b"], label, label),
    lambda label: plot_graph(strange_graph(label), label, ["a"]),
], ids=["intervals", "lines", "graph"])
@given(label=LABEL)
@SLOW
def test_any_label_gives_sound_svg(draw, label):
    svg = figure_svg(draw(label))
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg.encode("utf-8")).iter()}
    assert names <= {"svg", "g", "path", "defs", "use", "text", "tspan", "clipPath", "rect", "title", "image"}


def test_the_text_is_drawn_as_it_was_written():
    svg = figure_svg(plot_intervals([("costs $5 or $6", 0.5, 0.4, 0.6)], "a <b> & c", "share"))
    assert "costs $5 or $6</text>" in svg and "a &lt;b&gt; &amp; c</text>" in svg
    assert 'aria-label="a &lt;b&gt; &amp; c"' in svg


@given(st.text(max_size=60), st.integers(0, 20))
def test_safe_label_has_no_formula_no_break_and_keeps_its_length(text, longest):
    label = safe_label(text, longest)
    label.encode("utf-8")
    assert label.isprintable() or not any(ord(letter) < 32 for letter in label)
    assert label.count("$") == label.count(r"\$") and (not longest or len(label.replace(r"\$", "$")) <= longest)


def test_colours_do_not_change_from_run_to_run():
    command = "from kglearn.plots import color_of; print(color_of('gene'), color_of('ship'), color_of('星'))"
    runs = {subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True,
                           env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}).stdout for seed in "12"}
    assert runs == {f"{color_of('gene')} {color_of('ship')} {color_of('星')}\n"}


def test_importing_the_room_imports_no_matplotlib():
    command = (
        "import sys, kglearn.plots; print(sorted({'matplotlib', 'networkx', 'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "[]\n"


@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=25), st.randoms())
@SLOW
def test_layout_does_not_depend_on_order_and_keeps_names_apart(edges, random):
    graph, shuffled = networkx.MultiDiGraph(), networkx.MultiDiGraph()
    graph.add_edges_from(edges)
    shuffled.add_edges_from(random.sample(edges, len(edges)))
    places = graph_layout(graph)
    assert places == graph_layout(shuffled)
    spots = numpy.array([places[node] for node in sorted(places)]).reshape(-1, 2)
    for number, spot in enumerate(spots):
        apart = abs(spots[number + 1:] - spot)
        assert not ((apart[:, 0] < 0.15) & (apart[:, 1] < 0.3)).any()


def test_a_figure_keeps_the_callers_style():
    import matplotlib
    before = dict(matplotlib.rcParams)
    figure_svg(plot_lines({"a": [1.0, 2.0]}, ["x", "y"], "title", "unit"))
    assert dict(matplotlib.rcParams) == before


def test_pyplot_holds_no_figure():
    from matplotlib import pyplot
    before = pyplot.get_fignums()
    plot_graph(strange_graph("x"), "title")
    assert pyplot.get_fignums() == before


@given(
    st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.text(max_size=8)), max_size=6)
)
def test_marked_text_loses_no_letter_and_lets_no_tag_through(text, mentions):
    inside = [
        Mention(start, start + length, type, type) for start, length, type in mentions if start + length <= len(text)
    ]
    page = show_mentions(Document("a", text), inside)._repr_html_()
    assert page.count("<") == page.count(">")
    assert page.count("<span") == page.count("</span") == 2 * len(inside)


def test_mentions_of_another_document_are_refused():
    with pytest.raises(BadInput, match="another document"):
        show_mentions(Document("a", "short"), [Mention(3, 9, "disease")])


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.sampled_from("gene ship disease $x$".split())), max_size=12))
@SLOW
def test_a_cloud_loses_no_point(rows):
    figure = plot_scatter([row[:2] for row in rows], [row[2] for row in rows], {0: "$first"} if rows else {}, "title", "x", "y")
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == len(rows)
    assert figure_svg(figure) == figure_svg(figure)


def test_a_cloud_of_unequal_lists_is_refused():
    with pytest.raises(BadInput, match="1 points and 2 types"):
        plot_scatter([(0, 0)], ["a", "b"], {}, "title", "x", "y")
    with pytest.raises(BadInput, match="no point -1"):
        plot_scatter([(0, 0)], ["a"], {-1: "last"}, "title", "x", "y")
