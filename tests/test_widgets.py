"""The explorer: its Python half without a browser, and its drawing in a real one."""
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kglearn.data import ASSETS, BadInput, Document
from kglearn.graph import Evidence, KnowledgeGraph, clinic_graph
from kglearn.widgets import GraphExplorer, about_entity, about_fact

HOSTILE = ["<img src=x onerror=window.hacked=1>", "\"><script>window.hacked=1</script>", "'; DROP TABLE entity; --",
           "__proto__", "头痛", "a\0b", "x" * 500, "&lt;", "url(#x)", "</svg>", " ", "constructor"]


def ring(names, relation="joins"):
    "Entities in a ring of facts, each stated by one document that names both ends."
    kg = KnowledgeGraph()
    for name in names:
        kg.add_entity(f"key {name}", name, "disease")
    for head, tail in zip(names, [*names[1:], names[0]]):
        text = f"{head} joins {tail}."
        kg.add_document(Document(f"about {head}", text, "<i>source</i>"))
        kg.add_mention(f"about {head}", 0, len(head), "disease", f"key {head}")
        kg.add_fact(f"key {head}", relation, f"key {tail}", Evidence(f"about {head}", 0, len(text), "gold", 0.75))
    return kg


# Python

def test_a_hub_is_shown_in_steps_and_nothing_is_dropped_in_silence():
    kg = KnowledgeGraph()
    for number in range(31):
        kg.add_entity(str(number), f"n{number}", "thing")
    for number in range(1, 31):
        kg.add_fact("0", "joins", str(number), Evidence("", 0, 0, "dictionary", number / 31))
    explorer = GraphExplorer(kg, "0", step=12)
    assert "18 more facts" in explorer.message and len(explorer.view()["edges"]) == 12
    shown = {edge["tail"] for edge in explorer.view()["edges"]}
    assert shown == {str(number) for number in range(19, 31)}, "the most believed"
    assert next(node["hidden"] for node in explorer.view()["nodes"] if node["key"] == "0") == 18
    explorer.expand("0")
    explorer.expand("0")
    assert len(explorer.view()["edges"]) == 30 and explorer.message == ""


def test_what_is_shown_follows_the_graph():
    kg = ring(["a", "b", "c"])
    explorer = GraphExplorer(kg, "a")
    triple = ("key a", "joins", "key b")
    before = next(edge["belief"] for edge in explorer.view()["edges"] if edge["tail"] == "key b")
    kg.add_fact(*triple, Evidence("", 0, 0, "answer"))
    assert next(edge["belief"] for edge in explorer.view()["edges"] if edge["tail"] == "key b") > before
    kg.forget("about a")
    assert len(explorer.view()["nodes"]) == 3, "an answer still speaks for it"
    kg.forget("about c")
    assert {node["key"] for node in explorer.view()["nodes"]} == {"key a", "key b"}


def test_an_empty_graph_and_an_unknown_start():
    explorer = GraphExplorer(KnowledgeGraph())
    assert explorer.view()["nodes"] == [] and "no facts" in explorer.message and "<svg" in explorer._repr_html_()
    assert explorer.search("x") == []
    with pytest.raises(BadInput, match="search"):
        GraphExplorer(KnowledgeGraph(), "x")


def test_without_a_start_it_begins_with_the_busiest():
    kg = clinic_graph()
    explorer = GraphExplorer(kg)
    assert len(kg.neighbors(explorer.origin)) == max(len(kg.neighbors(entity.key)) for entity in kg.entities())


def test_search_finds_exact_names_first_and_new_names_at_once():
    kg = clinic_graph()
    explorer = GraphExplorer(kg, "asthma")
    assert explorer.search("asthma")[0].key == "disease:asthma"
    assert {"hypertension"} <= {entity.name for entity in explorer.search("high blood")}
    assert "high blood pressure" in [match["by"] for match in explorer.matches]
    assert len(explorer.search("a", limit=5)) == 5
    kg.add_entity("disease:zebra stripes", "zebra stripes", "disease")
    assert [entity.name for entity in explorer.search("zebra")] == ["zebra stripes"]


@pytest.mark.parametrize("message", [
    {}, {"do": "dance"}, {"do": "expand"}, {"do": "expand", "key": 3}, {"do": "expand", "key": "nobody"},
    {"do": ["expand"]}, {"do": "fact", "head": "x", "relation": "y", "tail": "z"}, {"do": None},
    {"do": "start", "key": "nobody"}, {"do": "find", "text": "nobody"}, "expand", [], None, {"do": "search", "text": "\ud800"}])
def test_messages_that_make_no_sense_become_a_line_of_text(message):
    explorer = GraphExplorer(ring(["a", "b"]), "a")
    before = explorer.view()
    explorer.handle(message)
    assert explorer.message and explorer.view() == before


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_data_and_escaped_text(name):
    kg = ring([name, "flu", "cold"], relation=name)
    explorer = GraphExplorer(kg, f"key {name}")
    assert json.loads(json.dumps([explorer.view(), explorer.panel])), "plain data"
    for _ in range(2):
        page = explorer._repr_html_()
        assert "<img" not in page and "<script" not in page and "<i>source" not in page
        explorer.handle({"do": "fact", "head": f"key {name}", "relation": name, "tail": "key flu"})
    assert about_fact(kg, f"key {name}", name, "key flu")["pieces"][0]["segments"][0] == (name, "head")
    assert about_entity(kg, f"key {name}")["title"] == name


def test_the_widget_is_ipywidgets_and_follows_both_halves():
    import ipywidgets
    explorer = GraphExplorer(clinic_graph(), "asthma")
    assert isinstance(explorer.widget, ipywidgets.VBox) and explorer.canvas is explorer.canvas
    (slider, again), canvas = explorer.widget.children[0].children, explorer.widget.children[1]
    explorer.canvas._handle_custom_msg({"do": "expand", "key": "medicine:salbutamol"}, [])
    assert canvas.view == explorer.view() and canvas.panel["title"] == "salbutamol"
    slider.value = 0.99
    assert explorer.min_belief == 0.99 and len(canvas.view["edges"]) < len(explorer._triples)
    slider.value = 0.0
    again.click()
    assert canvas.view["focus"] == "disease:asthma"


def test_messages_may_come_from_another_thread():
    explorer = GraphExplorer(clinic_graph(), "asthma")
    message = {"do": "fact", "head": "medicine:propranolol", "relation": "contraindicated_in", "tail": "disease:asthma"}
    thread = threading.Thread(target=explorer.canvas._handle_custom_msg, args=(message, []))
    thread.start()
    thread.join()
    assert explorer.canvas.panel["title"] == "propranolol contraindicated in asthma", "as JupyterLab's subshells do"


def test_a_still_picture_is_shown_where_nobody_sits(monkeypatch):
    explorer = GraphExplorer(ring(["a", "b"]), "a")
    assert set(explorer._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setattr("kglearn.widgets._somebody_is_there", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_without_the_widget_packages_there_is_a_picture_and_a_cure():
    program = ("import sys; sys.modules['anywidget'] = None\n"
               "import kglearn.widgets as widgets\n"
               "from kglearn.graph import clinic_graph\n"
               "widgets._somebody_is_there = lambda: True\n"
               "explorer = widgets.GraphExplorer(clinic_graph(), 'asthma')\n"
               "page = explorer._repr_mimebundle_()['text/html']\n"
               "assert '<svg' in page and 'pip install kglearn[notebook]' in page\n"
               "try: explorer.widget\n"
               "except ImportError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install kglearn[notebook]" in done.stdout


def test_importing_it_brings_no_widgets():
    program = "import sys, kglearn.widgets; print({'ipywidgets', 'anywidget', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_module_is_self_contained():
    source = (ASSETS / "graph_explorer.js").read_text(encoding="utf-8")
    assert "import" not in source.split() and "import(" not in source
    unsafe = ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write", "Function(")
    assert not any(word in source for word in unsafe)
    style = (ASSETS / "graph_explorer.css").read_text(encoding="utf-8")
    addresses = {word for text in (source, style) for word in text.split('"') if word.startswith("http")}
    assert addresses == {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"} and "@import" not in style


# A browser. The model on the page is a stand-in: what it sends goes to the Python half, and what that half shows comes back.

PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="graph_explorer.css">
<body style="margin: 0; padding: 16px; background: Canvas; color-scheme: light dark"><div id="here"></div>
<script type="module">
import explorer from "./graph_explorer.js";
let state = await tell({"do": "look"}), listeners = {};
const model = {
  get: (name) => state[name],
  on: (name, act) => (listeners[name] ??= []).push(act),
  off: (name, act) => { listeners[name] = listeners[name].filter((other) => other !== act); },
  send: async (content) => {
    const before = state;
    state = await tell(content);
    const changed = Object.keys(state).filter((name) => JSON.stringify(state[name]) !== JSON.stringify(before[name]));
    for (const name of changed) (listeners[`change:${name}`] ?? []).forEach((act) => act());
  },
};
window.stop = explorer.render({ model, el: document.getElementById("here") });
window.listening = () => Object.values(listeners).flat().length;
</script>"""
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_explorer(explorer, **options):
        context = browser.new_context(viewport={"width": 1000, "height": 620}, **options)
        contexts.append(context)
        page, page.errors, page.strangers = (new := context.new_page()), [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)

        def serve(route):
            name = route.request.url.rpartition("/")[2]
            if not route.request.url.startswith("http://127.0.0.1/"):
                page.strangers.append(route.request.url)
                return route.abort()
            if name == "page.html":
                return route.fulfill(body=PAGE, content_type="text/html; charset=utf-8")
            if name in ("graph_explorer.js", "graph_explorer.css"):
                return route.fulfill(path=ASSETS / name)
            return route.fulfill(status=204)

        def tell(message):
            if message != {"do": "look"}:
                explorer.handle(message)
            state = {name: getattr(explorer, name) for name in ("panel", "matches", "message")}
            return state | {"view": explorer.view()}

        context.route("**/*", serve)
        page.expose_function("tell", tell)
        page.goto("http://127.0.0.1/page.html")
        page.wait_for_selector(".kge-entity")
        return new

    yield open_explorer
    for context in contexts:
        context.close()


def test_pressing_shows_facts_and_their_evidence(open_page):
    explorer = GraphExplorer(clinic_graph(), "migraine")
    page = open_page(explorer)
    before = page.locator(".kge-entity").count()
    assert before == len(explorer.view()["nodes"])
    assert page.locator(".kge-fact").count() == len(explorer.view()["edges"])
    page.get_by_role("button", name="propranolol, medicine").click()
    page.wait_for_function(f"document.querySelectorAll('.kge-entity').length > {before}")
    assert page.locator(".kge-panel h3").inner_text() == "propranolol"
    page.locator(".kge-fact", has_text="contraindicated in").locator("text").click()
    page.wait_for_selector(".kge-piece")
    assert page.locator(".kge-panel h3").inner_text() == "propranolol contraindicated in asthma"
    assert "people with asthma" in page.locator(".kge-piece blockquote").inner_text()
    assert page.locator(".kge-piece mark.kge-head").first.inner_text() == "propranolol"
    assert page.errors == [] and page.strangers == []


def test_search_and_walk_with_the_keyboard_alone(open_page):
    page = open_page(GraphExplorer(clinic_graph(), "migraine"))
    page.keyboard.press("Tab")
    page.keyboard.type("asth")
    page.wait_for_selector(".kge-matches button")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.kge-matches') !== null")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.kge-panel h3').textContent === 'asthma'")
    assert page.locator(".kge-matches button").count() == 0
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('class') ?? ''").startswith("kge-fact"):
            break
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".kge-piece")
    assert name.startswith(page.locator(".kge-panel h3").inner_text())
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name, "drawing anew keeps the focus"
    page.keyboard.press("Space")
    assert page.errors == []


def test_everything_pressable_has_a_name(open_page):
    page = open_page(GraphExplorer(clinic_graph(), "migraine"))
    for kind in ("[role=button]", "input", "svg[role=group]"):
        names = page.locator(kind).evaluate_all("nodes => nodes.map(node => node.getAttribute('aria-label'))")
        assert names and all(names)


def test_hostile_names_do_not_run(open_page):
    names = [name for name in HOSTILE if name.strip()]
    explorer = GraphExplorer(ring(names, relation=HOSTILE[0]), f"key {names[0]}")
    for name in names:
        explorer.expand(f"key {name}")
    page = open_page(explorer)
    assert page.locator(".kge-entity").count() == len(names)
    page.get_by_label("Search").fill("<img")
    page.wait_for_selector(".kge-matches button")
    page.keyboard.press("Escape")
    page.locator(".kge-fact").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".kge-piece")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None and page.locator("#here img, #here script").count() == 0
    assert names[0] in page.locator(".kge-panel").inner_text() and page.errors == [] and page.strangers == []


def test_no_name_lies_upon_another(open_page):
    explorer = GraphExplorer(clinic_graph(), "migraine")
    explorer.expand("symptom:nausea")
    explorer.expand("medicine:propranolol")
    page = open_page(explorer)
    boxes = page.locator(".kge-entity > text:not(.kge-more)").evaluate_all(
        "nodes => nodes.map(n => n.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])")
    covered = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]
               if min(a[2], b[2]) - max(a[0], b[0]) > 3 and min(a[3], b[3]) - max(a[1], b[1]) > 3]
    assert len(boxes) > 15 and covered == []


def test_an_entity_can_be_dragged_without_being_pressed(open_page):
    page = open_page(GraphExplorer(clinic_graph(), "migraine"))
    entity, panel = page.locator(".kge-entity").nth(1), page.locator(".kge-panel h3").inner_text()
    before, box = entity.get_attribute("transform"), entity.locator(".kge-ring").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 40, steps=4)
    page.mouse.up()
    assert entity.get_attribute("transform") != before and page.locator(".kge-panel h3").inner_text() == panel
    assert page.errors == []


def test_taking_it_away_stops_it_listening(open_page):
    page = open_page(GraphExplorer(clinic_graph(), "migraine"))
    assert page.evaluate("window.listening()") == 4
    page.evaluate("window.stop()")
    assert page.evaluate("window.listening()") == 0
