"""Options of the test run; `pytest --help` shows them under "kglearn"."""
from pathlib import Path

collect_ignore = ["fixtures"]


def pytest_addoption(parser):
    group = parser.getgroup("kglearn")
    group.addoption("--slow", action="store_true", help="also run the cells marked #| slow")
    group.addoption("--notebook", action="append", type=Path, metavar="FILE",
                    help="run the lessons of this notebook only (may be given more than once)")
    group.addoption("--package", default="kglearn", help="the package that the notebooks export to")
