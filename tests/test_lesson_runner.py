"""The lesson tests themselves are tested here: they must fail where a lesson, or the package, is wrong."""
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from lessons import Lesson, LessonRunner, directives, lesson_namespace, read_notebook

FIXTURES = Path(__file__).parent / "fixtures"


def run_pytest(package: str, *arguments: str) -> str:
    "What pytest prints about the lessons of a fixture."
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--package", package, "--notebook",
               FIXTURES / package / "10_spread.ipynb", *arguments, Path(__file__).parent / "test_lessons.py"]
    environment = os.environ | {"PYTHONPATH": str(FIXTURES), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8").stdout


def test_a_module_that_misses_an_import_fails():
    printed = run_pytest("broken")
    assert "NameError: name 'statistics' is not defined" in printed
    assert "FAILED" in printed and "10_spread-05-assert-spread-1-3" in printed
    assert "1 failed, 2 passed, 1 skipped" in printed


def test_its_sound_twin_passes():
    assert "3 passed" in run_pytest("sound")


def test_a_lesson_can_be_selected_and_those_before_it_run():
    assert "1 passed, 2 deselected" in run_pytest("sound", "-k", "10_spread-06")
    printed = run_pytest("broken", "-k", "10_spread-06")
    assert "1 failed, 3 deselected" in printed and "cell 5" in printed


def test_the_original_namespace_would_hide_the_fault(monkeypatch):
    monkeypatch.syspath_prepend(FIXTURES)
    lessons, module = read_notebook(FIXTURES / "broken" / "10_spread.ipynb")
    namespace = vars(import_module(f"broken.{module}"))
    for lesson in lessons:
        exec(lesson.source, namespace)  # the lesson's import mends the module, and all is well


def test_the_namespace_is_a_copy_and_main():
    namespace = lesson_namespace("kglearn.course")
    assert namespace["check"] is import_module("kglearn.course").check
    assert namespace["__name__"] == "__main__" and "__package__" not in namespace
    assert namespace is not vars(import_module("kglearn.course"))


STUB = "from kglearn.course import check\ndef fahrenheit(celsius):\n    ...\ncheck('course.fahrenheit', fahrenheit)"
SOLUTION = STUB.replace("...", "return celsius * 9 / 5 + 32")


@pytest.fixture(scope="module")
def runner():
    runner = LessonRunner()
    yield runner
    runner.stop()


@pytest.mark.parametrize("sources, passed, message", [
    ([STUB, SOLUTION], [True, True], ""),
    (["#| exercise\n" + STUB, "#| solution\n" + SOLUTION], [True, True], ""),
    (["#| exercise\n" + SOLUTION, "1"], [False, False], "must not pass"),
    (["#| solution\n" + STUB], [False], "must pass"),
    (["#| exercise\n1"], [False], "must end in check"),
    (["#| solution\n" + SOLUTION, "fahrenheit(0)"], [True, False], "NameError"),
    (["1 / 0", "1"], [False, False], "ZeroDivisionError"),
    (["1 +"], [False], "SyntaxError"),
    (["class Shy:\n    def _repr_html_(self): raise ValueError('no')\nShy()"], [False], "ValueError: no"),
    (["import os; os._exit(3)", "1"], [False, False], "exit code 3"),
    (["%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);", "assert not plt.get_fignums()"],
     [True, True], ""),
    (["import kglearn.course, sys\nassert 'kglearn.course' in sys.modules", "open('here', 'w', encoding='utf-8').close()"],
     [True, True], ""),
])
def test_what_a_lesson_must_do(runner, sources, passed, message):
    lessons = [Lesson(number, source, frozenset(directives(source))) for number, source in enumerate(sources, 1)]
    outcomes = [future.result() for future in runner.start(None, lessons).values()]
    assert [outcome.passed for outcome in outcomes] == passed
    assert message in next((outcome.message for outcome in outcomes if not outcome.passed), "")


