"""Build the site: notebooks and docs/*.md to pages, docstrings to API pages, and check that all can be read offline.

    python docs/build.py

The site is docs/_build/html/index.html. A warning of Sphinx is an error, and so is anything fetched from the network.
"""
import ast
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

from sphinx.cmd.build import main as sphinx_build

from kglearn.bench import figures_table, recorded_results

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE, SITE = DOCS / "_build" / "source", DOCS / "_build" / "html"
CHAPTERS = "00_start 10_graph 15_reader 20_gnn 31_skill 40_policy 50_explain 60_system".split()


def page(notebook: dict) -> dict:
    "A notebook as a reader of the site sees it: no directives, no hidden cells, solutions folded."
    shown = [_shown(cell) for cell in notebook["cells"] if cell["cell_type"] in ("markdown", "code")]
    return notebook | {"cells": [cell for cell in shown if cell]}


def _shown(cell: dict) -> dict | None:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return cell | {"source": source}
    marks = re.findall(r"^\s*#\|\s*(.*?)\s*$", source, re.M)
    code = re.sub(r"^\s*#\|.*\n?", "", source, flags=re.M).strip("\n")
    if not code.strip() or {"hide", "include: false"} & set(marks):
        return None
    tags = [tag for mark in marks if (tag := _tag(mark))]
    return cell | {"source": code, "metadata": {"tags": tags}, "outputs": [_output(o) for o in cell["outputs"]]}


def _tag(mark: str) -> str:
    if mark == "solution":
        return "hide-cell"
    if mark in ("hide_input", "echo: false"):
        return "remove-input"
    return mark.split()[0] if re.match(r"(export|exercise|slow)", mark) else ""


def _output(output: dict) -> dict:
    "Without the view of a live widget, which needs a running kernel: its still picture stands beside it."
    data = {kind: content for kind, content in output.get("data", {}).items() if "widget-view" not in kind}
    return output | {"data": data} if "data" in output else output


def write_notebooks(notebooks: Path, pages: Path) -> list[str]:
    "A page for each notebook of a folder; their names."
    pages.mkdir(exist_ok=True)
    names = []
    for path in sorted(notebooks.glob("*.ipynb")):
        if path.stem == "index":
            continue
        notebook = page(json.loads(path.read_text(encoding="utf-8")))
        (pages / path.name).write_text(json.dumps(notebook), encoding="utf-8")
        names.append(path.stem)
    return names


def write_figures() -> None:
    "Fill the table of docs/results.md from the files in docs/benchmarks."
    table = figures_table(recorded_results(DOCS / "benchmarks"))
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    path = SOURCE / "results.md"
    path.write_text(path.read_text(encoding="utf-8").replace("<!-- figures -->", text), encoding="utf-8")


def write_api(rooms: list[str]) -> list[str]:
    "One page a module, found by itself; the notebook that explains it is linked."
    (SOURCE / "api").mkdir()
    room_of = {room[3:]: room for room in rooms}
    modules = sorted(path.stem for path in (ROOT / "kglearn").glob("*.py") if not path.name.startswith("_"))
    for module in modules:
        tree = ast.parse((ROOT / "kglearn" / f"{module}.py").read_text(encoding="utf-8"))
        notebook = f"\nDeveloped in [the notebook](../course/{room_of[module]}.ipynb).\n" if module in room_of else ""
        members = "   :members:\n   :undoc-members:\n" if _exports(tree) else ""
        (SOURCE / "api" / f"{module}.md").write_text(
            f"# {module}\n{notebook}\n```{{eval-rst}}\n.. automodule:: kglearn.{module}\n{members}```\n", encoding="utf-8")
    return modules


def _exports(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__" and node.value.elts
               for node in tree.body)


def write_index(rooms: list[str], benchmarks: list[str], modules: list[str]) -> None:
    "Fill the lists of docs/index.md."
    lists = {"benchmarks": [f"benchmarks/{name}" for name in benchmarks], "chapters": [f"course/{room}" for room in CHAPTERS if room in rooms],
             "rooms": [f"course/{room}" for room in rooms if room not in CHAPTERS],
             "modules": [f"api/{module}" for module in modules]}
    text = (SOURCE / "index.md").read_text(encoding="utf-8")
    for name, entries in lists.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(entries))
    (SOURCE / "index.md").write_text(text, encoding="utf-8")


class RemoteParts(HTMLParser):
    "Collects what a browser would fetch from the network to show a page."
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        loads = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "image": "href"}
        address = attributes.get(loads.get(tag, ""), "") or ""
        if re.match(r"(https?:)?//", address) and attributes.get("rel") not in ("canonical", "license"):
            self.found.append(f"<{tag}> {address}")


def remote_parts() -> list[str]:
    "All that the built site would fetch from the network."
    found = []
    for path in sorted(SITE.rglob("*.html")):
        parser = RemoteParts()
        parser.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(SITE)}: {part}" for part in parser.found]
    for path in sorted(SITE.rglob("*.css")):
        addresses = re.findall(r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")]+)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(SITE)}: {address}" for address in addresses]
    return found


def main() -> int:
    shutil.rmtree(DOCS / "_build", ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for path in [*DOCS.glob("*.md"), DOCS / "conf.py"]:
        shutil.copy(path, SOURCE)
    shutil.copytree(DOCS / "static", SOURCE / "static")
    rooms = write_notebooks(ROOT / "nbs", SOURCE / "course")
    benchmarks = write_notebooks(ROOT / "nbs" / "benchmarks", SOURCE / "benchmarks")
    write_index(rooms, benchmarks, write_api(rooms))
    write_figures()
    status = sphinx_build(["-W", "--keep-going", "-q", "-b", "html", str(SOURCE), str(SITE)])
    for part in (remote := remote_parts()):
        print("fetched from the network:", part, file=sys.stderr)
    if not status and not remote:
        print(f"{len(rooms)} notebooks: {(SITE / 'index.html').relative_to(ROOT)}")
    return status or bool(remote)


if __name__ == "__main__":
    sys.exit(main())
