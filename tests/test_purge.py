"""What no lesson of purging should carry: every file of a workspace, kills after each step, workspaces from before."""
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

import kglearn.system
from kglearn.data import BadInput, Document, clinic_lexicon, load_clinic
from kglearn.history import traces
from kglearn.purge import Purged, _made, _wipe_snapshot, purge_document
from kglearn.system import LearningSystem, SkillTagger, write_json
from kglearn.text import sentences

TRAIN, GOLDEN, STREAM = load_clinic("train")[:4], load_clinic("golden")[:3], load_clinic("stream")[:3]  # those of the workspace `learnt`


@pytest.fixture(scope="module")
def evolved(learnt, tmp_path_factory):
    "The same workspace after one round: v0, v1, a page, notes, and a result that names documents. Closed: copy it."
    folder = tmp_path_factory.mktemp("system") / "evolved"
    shutil.copytree(learnt, folder)
    system = LearningSystem.open(folder)
    system.evolve(epochs=1)
    (folder / "steps").mkdir()
    for document in (TRAIN[0], GOLDEN[0], STREAM[0], READ):
        system.event("note", text=f"look: {document.text[slice(*sentences(document.text)[0])]}", about=document.id)
        write_json(folder / "steps" / f"arm-{len(document.text)}.json", {"counts": {"test": [1]}, "shown": ["other", document.text]})
        (folder / f"{document.id}.html").write_text(document.text, encoding="utf-8")
        (folder / "labelled.jsonl.new").write_text(document.text[:100], encoding="utf-8")
    (folder / "skills" / ".new-v9").mkdir()
    (folder / "skills" / ".new-v9" / "snapshot.json").write_text(STREAM[0].text, encoding="utf-8")
    system.close()
    return folder


@pytest.fixture
def purgeable(evolved, opened_copy):
    return opened_copy(evolved)


READ = load_clinic("graph")[0]  # read with the dictionary before anything was learnt
OTHERS = [*TRAIN, *GOLDEN, *STREAM, *load_clinic("graph")[:3]]
WORDS = re.compile(r"[^\W\d_]{6,}")


def its_own(document):
    "Sentences of a document, words that nothing else in the workspace has, and its id."
    rest = " ".join([other.text for other in OTHERS if other.id != document.id] + [name for entry in clinic_lexicon() for name in entry.names] +
                    [path.read_text(encoding="utf-8") for path in Path(kglearn.system.__file__).parent.glob("*.py")]).casefold()
    words = {word.casefold() for word in WORDS.findall(document.text)}
    return [document.id, *(document.text[start:end] for start, end in sentences(document.text)), *(word for word in words if word not in rest)]


@pytest.mark.parametrize("document", [TRAIN[0], GOLDEN[0], STREAM[0], READ], ids=lambda document: document.id)
@pytest.mark.parametrize("first", ["known", "forgotten"])
def test_no_byte_of_a_purged_document_is_in_any_file(purgeable, document, first):
    folder, hidden = purgeable.folder, its_own(document)
    assert len(hidden) > 8 and set(traces(folder, hidden)) == set(hidden)
    if first == "forgotten":
        purgeable.forget(document.id)
    purged = purge_document(purgeable, document.id)
    assert traces(folder, hidden) == {} and purged.left == () and not (folder / "purge.json").exists()
    assert f"{document.id}.html" in purged.deleted
    assert purged.looked_for >= len(sentences(document.text)) - 1
    purgeable.close()
    assert traces(folder, hidden) == {}
    assert {path.name for path in folder.rglob("*") if path.suffix in (".new", ".html")} == set()


def test_what_was_golden_until_others_were_chosen_is_found_too(purgeable):
    purgeable._keep_labels("golden", GOLDEN[1:])
    assert purgeable.former == [GOLDEN[0]] and GOLDEN[0].id not in purgeable.golden
    assert purge_document(purgeable, GOLDEN[0].id).left == () and traces(purgeable.folder, its_own(GOLDEN[0])) == {}
    assert purgeable.former == []


@pytest.mark.parametrize("document", [TRAIN[0], GOLDEN[0], STREAM[0], READ], ids=lambda document: document.id)
def test_a_purge_leaves_everything_else_and_the_versions_still_read(purgeable, document):
    others = [other for other in OTHERS if other.id != document.id]
    answers = [answer for answer in purgeable.log.rewarded() if answer.decision.document != document.id]
    before = {other.id: (purgeable.kg.document(other.id), purgeable.kg.mentions(document=other.id)) for other in others if other.id in purgeable.kg.documents()}
    facts = {(fact.head, fact.relation, fact.tail) for fact in purgeable.kg.facts()
             if {piece.document for piece in purgeable.kg.evidence(fact.head, fact.relation, fact.tail)} - {document.id}}
    labels = {part: [other for other in getattr(purgeable, part).values() if other.id != document.id] for part in ("labelled", "golden")}
    events = len((purgeable.folder / "events.jsonl").read_text(encoding="utf-8").splitlines())
    purge_document(purgeable, document.id)
    assert {id: (purgeable.kg.document(id), purgeable.kg.mentions(document=id)) for id in purgeable.kg.documents()} == before
    assert {(fact.head, fact.relation, fact.tail) for fact in purgeable.kg.facts()} == facts
    assert purgeable.log.rewarded() == answers
    assert all(list(getattr(purgeable, part).values()) == kept for part, kept in labels.items())
    lines = (purgeable.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == events + 1 and all(json.loads(line) for line in lines) and sum("look: " in line for line in lines) == 3
    steps = [json.loads(path.read_text(encoding="utf-8")) for path in (purgeable.folder / "steps").iterdir()]
    assert len(steps) == 4 and [step["shown"][1] for step in steps].count("(purged)") == 1
    assert all(step["counts"] == {"test": [1]} for step in steps)
    for name in purgeable.versions():
        version = purgeable.version(name)
        assert not [piece for pieces in version.processor.snapshot.aliases.values() for piece in pieces if piece.document == document.id]
        assert len(SkillTagger(version.skill, version.processor).tag(others[:2])) == 2
    purgeable.evolve(epochs=1)
    assert purgeable.live.name == "v2"


def test_versions_say_how_they_learnt_from_it_and_for_good(purgeable):
    promoted = purgeable.live.card["promoted"]
    shaped = {document.id: purge_document(purgeable, document.id).shaped for document in (TRAIN[0], GOLDEN[0], STREAM[0], READ)}
    assert shaped[TRAIN[0].id] == {name: ["labels", "relater", "snapshot"] for name in ("v0", "v1", "candidates/prior")}
    assert shaped[GOLDEN[0].id] == {name: ["golden"] for name in ("v0", "v1", "candidates/prior")}
    assert shaped[STREAM[0].id] == {"v1": ["answers", "snapshot"] if promoted else ["snapshot"]}
    assert shaped[READ.id] == {name: ["links", "snapshot"] for name in ("v0", "v1", "candidates/prior")}
    again = purge_document(purgeable, TRAIN[0].id)
    assert again.shaped == shaped[TRAIN[0].id] and again.looked_for == 0, "the second call still knows"
    assert not traces(purgeable.folder, [TRAIN[0].id])
    evolution = purgeable.evolve(epochs=1)
    after = purge_document(purgeable, TRAIN[0].id).shaped.get("v2")
    assert after == (None if evolution.promoted else ["labels"]), "new weights know nothing of it"
    assert purge_document(purgeable, READ.id).shaped["v2"] == ["links"], "the graph encoder is the old one"


def test_versions_are_dropped_on_demand_and_their_names_never_given_again(purgeable):
    purged = purge_document(purgeable, STREAM[0].id, drop_versions=True)
    assert purged.dropped == ("v1",) and purged.standing == {} and purgeable.versions() == ["v0"]
    assert purgeable.live.name == "v0" and purgeable.next_name() == "v2" and list((purgeable.folder / "skills" / "v1").iterdir()) == []
    with pytest.raises(BadInput, match="version v1 already"):
        purgeable.keep(replace(purgeable.live, name="v1"))
    assert purge_document(purgeable, GOLDEN[0].id, drop_versions=True).dropped == (), "it chose, and taught nothing"
    assert set(purge_document(purgeable, TRAIN[0].id, drop_versions=True).dropped) == {"v0", "candidates/prior"}
    assert purgeable.versions() == [] and not (purgeable.folder / "live.json").exists() and purgeable.status()["live"] is None
    with pytest.raises(BadInput, match="no skill yet"):
        purgeable.live
    purgeable.learn(TRAIN[1:], GOLDEN[1:], epochs=1)
    assert purgeable.live.name == "v2"


def test_a_workspace_from_before_says_that_it_does_not_know(purgeable):
    for name, folder in _made(purgeable).items():
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        del card["lessons"]
        write_json(folder / "card.json", card)
    (purgeable.folder / "candidates" / "prior" / "card.json").unlink()
    with pytest.raises(BadInput, match="no document"):
        purge_document(purgeable, "never read")
    purged = purge_document(purgeable, STREAM[0].id)
    assert {name: "unrecorded" in ways for name, ways in purged.shaped.items()} == {"v0": True, "v1": True, "candidates/prior": True}
    assert purgeable.evolve(epochs=1).promoted in (True, False) and "unrecorded" in purge_document(purgeable, STREAM[0].id).shaped["v2"]


@pytest.mark.parametrize("document, message", [("graph-0001", "did you mean 'graph-001'"), ("", "no document ''"), ("'; DROP TABLE document; --", "no document"), ("\ud800", "half of a character")])
def test_an_unknown_document_is_refused_and_nothing_is_touched(purgeable, document, message):
    before = {path: path.read_bytes() for path in purgeable.folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}
    with pytest.raises(BadInput, match=message):
        purge_document(purgeable, document)
    with pytest.raises(BadInput, match="no document"):
        purgeable.check_document(document)
    assert {path: path.read_bytes() for path in before} == before


def test_what_still_holds_it_is_named_and_what_others_say_is_not_counted(purgeable):
    shared = "A sentence that stands in two documents."
    purgeable.read([Document("one", f"{shared} Only one says Quorrinella."), Document("two", shared)])
    (purgeable.folder / "mine.txt").write_text("Only one says QUORRINELLA.", encoding="utf-8")
    purged = purge_document(purgeable, "one")
    assert purged.left == ("mine.txt",) and "found in mine.txt" in str(purged)
    (purgeable.folder / "mine.txt").unlink()
    purgeable.kg.add_entity("x", "x", "disease", description=f"In a dictionary: {shared}")
    assert purge_document(purgeable, "two").left == (), "the dictionary says it, too"
    assert traces(purgeable.folder, ["quorrinella"]) == {} and list(traces(purgeable.folder, [shared])) == [shared]


def test_a_purge_shows_itself_and_escapes_what_documents_say():
    purged = Purged("<script>", ("disease:<b>",), 2, 3, ("<i>.txt",), ("report.html",), {"v0": ["labels"], "v1": ["golden"]}, ("v0",))
    assert repr(purged) == str(purged) and "v0" not in purged.standing and "--drop-versions" not in str(purged)
    assert "<script" not in purged._repr_html_() and "<i>" not in purged._repr_html_() and "v1 has learnt from it: chosen" in purged._repr_html_()
    assert "--drop-versions" in str(replace(purged, dropped=()))


PURGER = textwrap.dedent("""
    import os, shutil, signal, sys
    from pathlib import Path
    import kglearn.purge as home
    whole, document = Path(sys.argv[1]), sys.argv[2]
    steps = ["_purge_work", "_mark_versions", "_wipe_labels", "_wipe_files", "_wipe_snapshot", "_drop_versions", "purge_graph", "_left", "event"]
    for step in steps:
        shutil.rmtree(whole.parent / step, ignore_errors=True)
        shutil.copytree(whole, whole.parent / step)
        if not os.fork():
            system = home.LearningSystem.open(whole.parent / step)
            owner = home.LearningSystem if hasattr(home.LearningSystem, step) else home
            real = getattr(owner, step)
            def killed(*arguments):
                real(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            setattr(owner, step, killed if step != "event" else lambda *a, **b: os.kill(os.getpid(), signal.SIGKILL))
            home.purge_document(system, document, drop_versions=True)
            os._exit(0)
        print(step, os.WTERMSIG(os.wait()[1]), flush=True)
""")


def test_a_purge_that_is_killed_after_any_step_is_finished_by_the_next(evolved, tmp_path):
    shutil.copytree(evolved, tmp_path / "whole")
    document = STREAM[0]
    run = subprocess.run([sys.executable, "-c", PURGER, tmp_path / "whole", document.id], capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})
    steps = [line.split() for line in run.stdout.splitlines()]
    assert len(steps) == 9 and {status for _, status in steps} == {"9"}, run.stderr
    for step, _ in steps:
        system = LearningSystem.open(tmp_path / step)
        for database in (system.kg, system.log):
            assert database._rows("PRAGMA integrity_check") == [("ok",)]
        assert system.live.name in ("v0", "v1") and len(SkillTagger(system.live.skill, system.live.processor).tag(TRAIN[:1])) == 1
        assert system.status()["unfinished purge of"] == document.id
        with pytest.raises(BadInput, match=f"the purge of '{document.id}' was interrupted"):
            purge_document(system, TRAIN[0].id)
        purged = purge_document(system, document.id, drop_versions=True)
        assert purged.left == () and purged.looked_for > 3
        assert traces(system.folder, its_own(document)) == {} and system.versions() == ["v0"], step
        assert "unfinished purge of" not in system.status() and len(system.log) == 12
        system.close()


def test_a_key_that_stood_for_others_leaves_the_snapshots_too(tmp_path):
    kept, gone = ["disease", "disease:asthma", "", "dictionary", 1], ["disease", "disease:zyvornitis", "", "dictionary", 1]
    write_json(tmp_path / "snapshot.json", {"aliases": {"asthma": [kept, gone], "wheeze": [gone]}, "rows": {"disease:zyvornitis": 0, "disease:asthma": 1}})
    _wipe_snapshot(tmp_path / "snapshot.json", "d", ["disease:zyvornitis"])
    assert "zyvornitis" not in (tmp_path / "snapshot.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "snapshot.json").read_text(encoding="utf-8"))["aliases"] == {"asthma": [kept]}
