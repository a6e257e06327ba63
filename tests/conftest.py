"""Options of the test run (`pytest --help` shows them under "kglearn"), the workspace that several rooms are tried on, and texts that mean harm."""
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lessons import LessonRunner, read_notebook

collect_ignore = ["fixtures"]

# Two notebooks run beside the tests. Where there are more threads than cores, torch's wait for each other at full speed; also in what the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Names, cues and signs, and among them what breaks HTML, SQL, offsets and splitters.
PIECES = ["Codeine", "ibuprofen", "NSAIDs", "fever", "nausea", "cough", "asthma", "chronic kidney disease", "CKD", "(CKD)", "(MS)", "mitral stenosis",
          "MS", "causes", "treats", "for", "with", "no", "and", ",", ".", ";", "\n", "(", ")", "<script>", "'; DROP TABLE fact; --", "糖尿病", "cafe\u0301",
          "\u202e", "👩‍⚕️", "\0", "is", "a", "such as", "&", "%", "12", "_", "ﬁ", "ALL"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=120))


def pytest_addoption(parser):
    group = parser.getgroup("kglearn")
    group.addoption("--slow", action="store_true", help="also run the cells marked #| slow")
    group.addoption("--notebook", action="append", type=Path, metavar="FILE",
                    help="run the lessons of this notebook only (may be given more than once)")
    group.addoption("--package", default="kglearn", help="the package that the notebooks export to")


def pytest_collection_modifyitems(items):
    "Lessons last: the notebooks run beside all other tests, and are waited for at the end."
    items.sort(key=lambda item: "lesson" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def outcomes(request):
    "For each notebook, the outcomes of its cells up to the last one selected; the notebooks run from the first test on."
    runner = LessonRunner(request.config.getoption("--package"))
    last = {}
    for item in request.session.items:
        if "lesson" in getattr(item, "fixturenames", ()):
            path, lesson = item.callspec.params["path"], item.callspec.params["lesson"]
            last[path] = max(lesson.number, last.get(path, 0))
    started = {}
    for path, number in last.items():
        lessons, module = read_notebook(path)
        if not request.config.getoption("--slow"):
            lessons = [lesson for lesson in lessons if "slow" not in lesson.directives]
        started[path] = runner.start(module, [lesson for lesson in lessons if lesson.number <= number])
    yield started
    runner.stop()


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """A workspace that has learnt a little, answered questions about three documents, and not evolved yet. Closed: `opened_copy` opens one.

    Read: graph[:3]; labelled: train[:4]; golden[:3]; asked about: stream[:3].
    """
    from kglearn.data import clinic_lexicon, load_clinic
    from kglearn.graph import CLINIC_SCHEMA
    from kglearn.policy import SimulatedPerson
    from kglearn.system import LearningSystem
    stream = load_clinic("stream")[:3]
    system = LearningSystem.create(tmp_path_factory.mktemp("workspace") / "learnt", CLINIC_SCHEMA.types, CLINIC_SCHEMA, clinic_lexicon())
    system.read(load_clinic("graph")[:3])
    system.learn(load_clinic("train")[:4], load_clinic("golden")[:3], epochs=3)
    person = SimulatedPerson({document.id: document for document in stream})
    for decision in system.act(stream, per_document=6):
        system.reward(decision.id, person.answer(decision), "simulated")
    system.close()
    return system.folder


@pytest.fixture
def opened_copy(tmp_path):
    "A function that copies a workspace and opens the copy; all are closed at the end."
    from kglearn.system import LearningSystem
    opened = []

    def open_copy(folder: Path) -> LearningSystem:
        shutil.copytree(folder, tmp_path / f"copy{len(opened)}")
        opened.append(LearningSystem.open(tmp_path / f"copy{len(opened)}"))
        return opened[-1]
    yield open_copy
    for system in opened:
        system.close()


@pytest.fixture
def system(learnt, opened_copy):
    "A copy of the workspace `learnt`, open."
    return opened_copy(learnt)
