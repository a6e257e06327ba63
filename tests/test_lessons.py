"""The lessons of all notebooks: one test for each code cell that is not exported, run against the installed package.

    pytest tests/test_lessons.py --notebook nbs/10_graph.ipynb     one notebook
    pytest tests/test_lessons.py -k "10_graph-07"                  one cell, and silently all before it
    pytest tests/test_lessons.py --slow                            the cells marked #| slow too
"""
from pathlib import Path

import pytest

from lessons import read_notebook

NOTEBOOKS = Path(__file__).parent.parent / "nbs"


def pytest_generate_tests(metafunc):
    if "lesson" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    paths = option("--notebook") or [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("apps/*.ipynb"))]
    lessons = [(path, lesson) for path in paths for lesson in read_notebook(path)[0]
               if option("--slow") or "slow" not in lesson.directives]
    metafunc.parametrize("path, lesson", lessons, ids=[f"{path.stem}-{lesson.label}" for path, lesson in lessons])


@pytest.fixture(scope="session")
def told():
    "The notebooks whose failure a test has already reported."
    return set()


def test_lesson(path, lesson, outcomes, told):
    if path in told:
        pytest.skip("a lesson before this one failed")
    for number, outcome in outcomes[path].items():
        if number <= lesson.number and not (done := outcome.result()).passed:
            told.add(path)
            pytest.fail(f"{path.name}, cell {number}:\n{done.message}", pytrace=False)
