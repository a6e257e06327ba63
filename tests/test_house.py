"""The rules of the house: what is stated twice agrees, imports go down, notebooks are fit to be shown."""
import ast
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import kglearn
from kglearn.bench import Figure
from lessons import directives

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
ROOMS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
MODULES = sorted(path for path in (ROOT / "kglearn").glob("*.py") if not path.name.startswith("_"))
SETTINGS = ConfigParser()
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]

named = pytest.mark.parametrize
each_notebook = named("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
each_room = named("path", ROOMS, ids=[path.stem for path in ROOMS])
each_module = named("path", MODULES, ids=[path.stem for path in MODULES])


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def in_new_python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


# The package

def test_version_stands_once():
    assert kglearn.__version__ == SETTINGS["version"]
    assert f"## {kglearn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_python_version_is_the_one_stated():
    assert sys.version_info >= tuple(map(int, SETTINGS["min_python"].split(".")))
    assert SETTINGS["min_python"] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_import_is_lazy():
    loaded = in_new_python("import sys, kglearn; dir(kglearn); print(*sys.modules)").split()
    assert "kglearn" in loaded
    heavy = {"torch", "transformers", "numpy", "matplotlib", "shap", "torch_geometric", "networkx", "kglearn.data"}
    assert not heavy & set(loaded)


@named("module", ["data", "course", "cli"])
def test_light_rooms_bring_no_torch(module):
    assert in_new_python(f"import sys, kglearn.{module}; print('torch' in sys.modules)") == "False"


@named("name", kglearn.__all__)
def test_each_lazy_name_is_there(name):
    assert getattr(kglearn, name) is getattr(getattr(kglearn, kglearn._HOME[name]), name)
    assert name in dir(kglearn)
    assert not (ROOT / "kglearn" / f"{name}.py").exists(), "a module would replace the name once it is imported"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'knowledge'"):
        kglearn.knowledge
    assert not hasattr(kglearn, "_repr_html_")


def requirement_names(text: str) -> list[str]:
    return [re.match(r"[A-Za-z0-9._-]+", part)[0] for part in text.split()]


owners_of_modules = cache(packages_distributions)  # reads the metadata of all that is installed


def modules_of(distribution: str) -> set[str]:
    "The names under which a distribution is imported; its own name if it is not installed."
    def plain(name):
        return re.sub(r"[-_.]+", "-", name).lower()
    found = {module for module, owners in owners_of_modules().items() if plain(distribution) in map(plain, owners)}
    return found or {distribution.replace("-", "_")}


def imports(source: str) -> set[str]:
    "Top-level names that a source imports, also inside functions; lines of IPython are passed over."
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "pass", source, flags=re.M))
    found = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    found += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in found}


@cache
def imported_names() -> set[str]:
    "What the package and its notebooks import, lessons too."
    sources = [path.read_text(encoding="utf-8") for path in MODULES]
    sources += ["".join(cell["source"]) for path in NOTEBOOKS for cell in cells(path) if cell["cell_type"] == "code"]
    return set().union(*map(imports, sources))


# jupyterlab is a program that notebooks are opened in, and nothing to import.
@named("requirement", requirement_names(SETTINGS["requirements"] + " " + SETTINGS["notebook_requirements"]))
def test_each_requirement_is_imported(requirement):
    assert requirement == "jupyterlab" or imported_names() & modules_of(requirement)


@named("requirement", sum((requirement_names(SETTINGS[key]) for key in SETTINGS if key.endswith("requirements")), []))
def test_each_requirement_is_pinned_for_tests(requirement):
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    assert re.search(rf"^{re.escape(requirement.lower())}==", pins, re.M)


@each_module
def test_no_pickle(path):
    source = path.read_text(encoding="utf-8")
    assert not imports(source) & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
    assert not re.search(r"torch\.load\(|allow_pickle=True|read_pickle", source)


@each_module
def test_files_are_opened_as_utf8(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and _called(node) in {"open", "read_text", "write_text"}:
            assert _is_binary(node) or any(word.arg == "encoding" for word in node.keywords), f"line {node.lineno}"


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    owner = getattr(call.func, "value", None)
    opens_a_file = not (isinstance(owner, ast.Name) and owner.id in {"LearningSystem", "cls", "webbrowser", "os"})
    return call.func.attr if isinstance(call.func, ast.Attribute) and opens_a_file else ""


def _is_binary(call: ast.Call) -> bool:
    texts = [part.value for part in ast.walk(call) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return any(re.fullmatch(r"[rwax]\+?b|b?[rwax]b", text) for text in texts)


# Floors

def exporting(paths: list[Path]) -> dict[str, int]:
    "The number of the notebook that exports each module."
    found = {}
    for path in paths:
        marks = [mark for cell in cells(path) for mark in directives("".join(cell["source"]))]
        for module in (mark.split()[1] for mark in marks if mark.startswith("default_exp ")):
            found[module] = int(path.name[:2])
    return found


def imports_upwards(module: str, source: str, number: dict[str, int], package: str = "kglearn") -> list[str]:
    "Modules of the package that are imported, anywhere in the source, from a notebook not below the module's own."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith(f"{package}.")}
        elif isinstance(node, ast.ImportFrom):
            where = (f"{package}.{node.module or ''}" if node.level else node.module or "").strip(".").split(".")
            if where[0] == package:
                found |= {where[1]} if len(where) > 1 else {name.name for name in node.names}
    return sorted(name for name in found - {module} if number.get(name, 100) >= number[module])


@each_module
def test_imports_go_down(path):
    number = exporting(ROOMS)
    assert path.stem in number, f"no notebook exports kglearn/{path.name}"
    assert not imports_upwards(path.stem, path.read_text(encoding="utf-8"), number)


@named("line", ["from kglearn.skill import SkillModel", "from .skill import SkillModel", "from . import skill",
                "import kglearn.skill", "from kglearn import skill", "from kglearn import SkillModel",
                "def late():\n    from kglearn.skill import SkillModel"])
def test_an_import_upwards_is_found(line):
    assert imports_upwards("graph", line, {"data": 1, "graph": 10, "skill": 31})


@named("line", ["from kglearn.data import Document", "from . import data", "import sqlite3", "from kglearn.graph import Fact"])
def test_an_import_downwards_is_fine(line):
    assert not imports_upwards("graph", line, {"data": 1, "graph": 10, "skill": 31})


# Notebooks

@each_notebook
def test_outputs_name_no_place_and_no_time(path):
    shown = {number: json.dumps([output.get("data", output.get("text", output)) for output in cell.get("outputs", [])])
             for number, cell in enumerate(cells(path)) if cell["cell_type"] == "code"}
    place = re.compile(r"/tmp/|/home/|/root/|/Users/|/work/|site-packages|\bat 0x[0-9a-f]{6}|\bit/s\b|\bs/it\b|\bWall time\b")
    for number, text in shown.items():
        text = re.sub(r'"image/png": "[^"]*"', "", text)
        assert not (found := place.search(text)), f"cell {number}: {text[max(0, found.start() - 80):found.end() + 40]}"


@each_notebook
def test_no_error_is_saved(path):
    outputs = [output for cell in cells(path) for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "no warnings in what a reader sees"


@each_notebook
def test_size(path):
    assert path.stat().st_size <= 500_000


@each_room
def test_head(path):
    first = "".join(cells(path)[0]["source"])
    assert re.match(r"# .+\n\n> .+", first), "a notebook starts with # Title and > one line"


@each_room
def test_outputs_are_saved(path):
    if any("outputs" in cell and "".join(cell["source"]).strip() for cell in cells(path)):
        assert any(cell.get("outputs") for cell in cells(path))


@each_room
def test_a_picture_stands_at_the_start(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    code = [cell for cell in code if not all(line.startswith("#|") for line in "".join(cell["source"]).splitlines())]
    assert any(cell["outputs"] for cell in code[:3])


@named("path", [path for path in ROOMS if not path.name.startswith("00_")], ids=lambda path: path.stem)
def test_three_exercises_each_with_a_solution(path):
    from kglearn.course import exercises
    marks = [(directives("".join(cell["source"])) or [""])[0] for cell in cells(path) if cell["cell_type"] == "code"]
    kinds = [mark for mark in marks if mark in ("exercise", "solution")]
    assert kinds == ["exercise", "solution"] * 3
    room = path.stem[3:]
    assert len([name for name in exercises() if name.startswith(f"{room}.")]) == 3
    assert f"## {room}" in "".join("".join(cell["source"]) for cell in cells(ROOT / "nbs" / "72_course.ipynb"))


@each_room
def test_readme_lists_the_room(path):
    assert f"(nbs/{path.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_lists_no_other_room():
    listed = re.findall(r"\(nbs/(\w+\.ipynb)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(listed) <= {path.name for path in ROOMS}


@each_notebook
def test_few_cells_are_hidden(path):
    code = ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]
    hidden = [source for source in code if {"hide", "hide_input"} & set(directives(source))]
    assert len(hidden) <= .1 * len(code)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "benchmarks").glob("*.json")), ids=lambda path: path.stem)
def test_recorded_figures_carry_what_they_need(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["name"] == path.stem and (ROOT / "nbs" / "benchmarks" / f"{path.stem}.ipynb").exists() and result["command"] and result["date"]
    for fields in result["figures"]:
        reached = fields.pop("reached")
        figure = Figure(**fields)
        assert figure.reached == reached and figure.control and figure.control_value is not None and figure.spread >= 0
