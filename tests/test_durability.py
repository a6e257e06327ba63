"""Processes that are killed at random instants, and two that write at once: the benchmark `durability`, with few kills.

KGLEARN_KILLS=200 does it in full; tests/test_graph.py, tests/test_system.py and tests/test_purge.py have kills at chosen instants.
"""
import os
from unittest import mock

import pytest

from kglearn.bench import run_benchmark

WORK = ["graph.db, killed while writing", "feedback.db, killed while writing", "workspace, killed between answer, K-step, new version and live.json",
        "workspace, killed in a purge and purged again", "graph.db and feedback.db, two processes writing at once"]


@pytest.fixture(scope="module")
def figures():
    with mock.patch.dict(os.environ, {"KGLEARN_KILLS": os.environ.get("KGLEARN_KILLS", "10")}):
        return {figure["on"].rpartition(", ")[0]: figure for figure in run_benchmark("durability")["figures"]}


@pytest.mark.parametrize("work", WORK)
def test_nothing_that_was_acknowledged_is_lost(figures, work):
    assert set(figures) == set(WORK) and figures[work]["value"] == 0, figures[work]["metric"]


def test_the_kills_do_kill(figures):
    assert figures[WORK[0]]["control_value"] > 0, "a file that is written over in its place does not survive them"
