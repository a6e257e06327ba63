"""Run the lessons of a notebook against the installed package.

A lesson is a code cell that is not exported. Lessons run in order in a *copy* of the namespace of the installed module.
Not in a fresh namespace, where the exported code would have to be run again, and the test would test the notebook
instead of the package. And not in the module's own: there `import json` in a lesson would mend a module that forgot it.
"""
import json
import os
import re
import sys
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

SECONDS_A_CELL = 300


@dataclass(frozen=True)
class Lesson:
    """One code cell: `number` is the one that JupyterLab shows in brackets after a run from top to bottom."""
    number: int
    source: str
    directives: frozenset[str]

    @property
    def label(self) -> str:
        "The number and the first words of the code, for the name of the test."
        code = re.sub(r"^\s*#.*\n?|^\s*\n", "", self.source, flags=re.M)
        return f"{self.number:02d}-" + "-".join(re.findall(r"[A-Za-z0-9_.]+", code)[:4])[:48]


@dataclass(frozen=True)
class Outcome:
    passed: bool
    message: str = ""


def directives(source: str) -> list[str]:
    "What stands behind `#|` at the top of a cell, one a line."
    lines = (re.match(r"\s*#\|\s*(.*?)\s*$", line) for line in source.splitlines())
    return [match[1] for match in lines if match]


def read_notebook(path: Path) -> tuple[list[Lesson], str | None]:
    "The lessons of a notebook, and the name of the module that it exports (`None` for a tour that exports nothing)."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    marks = [directives(source) for source in sources]
    module = next((mark.split()[1] for found in marks for mark in found if mark.startswith("default_exp ")), None)
    lessons = [Lesson(number, source, frozenset(found)) for number, (source, found) in enumerate(zip(sources, marks), 1)]
    return [lesson for lesson in lessons if _is_lesson(lesson)], module


def _is_lesson(lesson: Lesson) -> bool:
    exported = any(re.match(r"export(i|s|d)?\b|default_exp\b", mark) for mark in lesson.directives)
    empty = not re.sub(r"^\s*#.*$", "", lesson.source, flags=re.M).strip()
    return not exported and not empty and "eval: false" not in lesson.directives


class LessonRunner:
    """Runs notebooks, each in a process of its own; at most `processes` at a time.

    The processes are forked from one that has imported torch, so that each starts at once and all start alike.
    """
    def __init__(self, package: str = "kglearn", processes: int = 2):
        self.package = package
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload(["torch", "IPython.core.interactiveshell", "matplotlib"])
        self.threads = max(1, (os.cpu_count() or 1) // processes)
        self.pool = ThreadPoolExecutor(processes)
        self.running = set()

    def start(self, module: str | None, lessons: list[Lesson]) -> dict[int, Future]:
        "Begin to run the lessons of one notebook; gives a future `Outcome` for each cell number."
        outcomes = {lesson.number: Future() for lesson in lessons}
        self.pool.submit(self._run, f"{self.package}.{module}" if module else None, lessons, outcomes)
        return outcomes

    def _run(self, module: str | None, lessons: list[Lesson], outcomes: dict[int, Future]) -> None:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=run_lessons, args=(module, lessons, theirs, self.threads))
        self.running.add(process)
        try:
            process.start()
            theirs.close()
            for lesson in lessons:
                outcomes[lesson.number].set_result(_next_outcome(ours, process))
            process.join(5)
        except Exception as error:
            for outcome in outcomes.values():
                if not outcome.done():
                    outcome.set_result(Outcome(False, f"{type(error).__name__}: {error}"))
        finally:
            process.kill()
            self.running.discard(process)

    def stop(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self.running):
            if process.pid:
                process.kill()


def _next_outcome(connection: Connection, process) -> Outcome:
    if not connection.poll(SECONDS_A_CELL):
        raise TimeoutError(f"no end after {SECONDS_A_CELL} s")
    try:
        return connection.recv()
    except EOFError:
        process.join(5)
        raise ChildProcessError(f"the process ended with exit code {process.exitcode}") from None


def run_lessons(module: str | None, lessons: list[Lesson], connection: Connection, threads: int) -> None:
    "What the process of one notebook does: run each lesson, send its `Outcome`, and stop at the first that fails."
    import torch
    torch.set_num_threads(threads)
    os.environ.update(MPLBACKEND="Agg", HF_HUB_OFFLINE="1")
    failed = False
    with TemporaryDirectory(prefix="lessons-") as folder:
        os.chdir(folder)
        try:
            shell = lesson_shell(module)
        except Exception:
            connection.send(Outcome(False, traceback.format_exc()))
            return
        for lesson in lessons:
            outcome = Outcome(False, "a lesson before this one failed") if failed else run_lesson(shell, lesson)
            failed = failed or not outcome.passed
            connection.send(outcome)
        os.chdir("/")
    connection.close()


def lesson_namespace(module: str | None) -> dict:
    """A copy of the module's namespace, as if all exported cells had just been run in a notebook.

    In a notebook the code is `__main__`, not a part of a package; and IPython enters its namespace in `sys.modules`
    under `__name__`, which must not put the copy in the module's place.
    """
    namespace = dict(vars(import_module(module))) if module else {}
    for name in ("__spec__", "__loader__", "__package__", "__file__", "__cached__", "__path__"):
        namespace.pop(name, None)
    return namespace | {"__name__": "__main__"}


def lesson_shell(module: str | None):
    "An IPython shell without terminal, history or files, in which to run lessons."
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class LessonShell(InteractiveShell):
        "Keeps the errors that IPython only prints: those of a `_repr_html_`, for instance."
        def showtraceback(self, exc_tuple=None, *arguments, **named):
            self.seen.append("".join(traceback.format_exception(*(exc_tuple or self._get_exc_info()))))

        def enable_gui(self, gui=None):
            "There is no event loop to enter."

    quiet = Config(HistoryManager={"enabled": False, "hist_file": ":memory:"})
    shell = LessonShell.instance(user_ns=lesson_namespace(module), config=quiet)
    shell.seen = []
    return shell


def run_lesson(shell, lesson: Lesson) -> Outcome:
    """Run one cell, and close its figures.

    An exercise must end in a check that does not pass, a solution in one that does. The names of both are taken back,
    for no later cell may use them.
    """
    shell.seen.clear()
    kept = dict(shell.user_ns)
    result = shell.run_cell(lesson.source, store_history=True)
    if "matplotlib.pyplot" in sys.modules:
        import_module("matplotlib.pyplot").close("all")
    if error := result.error_before_exec or result.error_in_exec:
        return Outcome(False, "".join(traceback.format_exception(error)))
    if shell.seen:
        return Outcome(False, shell.seen[0])
    return _checked(shell, lesson, result.result, kept)


def _checked(shell, lesson: Lesson, result: object, kept: dict) -> Outcome:
    wanted = {"exercise": False, "solution": True}
    kind = next((mark for mark in wanted if mark in lesson.directives), None)
    if kind is None:
        return Outcome(True)
    shell.user_ns.clear()
    shell.user_ns.update(kept)
    if not hasattr(result, "passed"):
        return Outcome(False, f"#| {kind} must end in check(...), not in {result!r}")
    if result.passed != wanted[kind]:
        return Outcome(False, f"the check of #| {kind} must {'pass' if wanted[kind] else 'not pass'}: {result!r}")
    return Outcome(True)
