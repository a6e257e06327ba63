"""What no lesson of the system should carry: folders that are damaged, processes that are killed, labels that must not leak."""
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import kglearn.system
from kglearn.data import BadInput, Document, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA, Evidence
from kglearn.history import traces
from kglearn.policy import NONE, SimulatedPerson
from kglearn.system import Evolution, Gaps, LearningSystem, Purged, SkillTagger, Why, write_json
from kglearn.text import sentences

TRAIN, GOLDEN, STREAM = load_clinic("train")[:4], load_clinic("golden")[:3], load_clinic("stream")[:3]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    "A workspace that has learnt a little, answered questions about three documents, and not evolved yet. Closed: copy it."
    folder = tmp_path_factory.mktemp("system") / "learnt"
    system = LearningSystem.create(folder, CLINIC_SCHEMA.types, CLINIC_SCHEMA, clinic_lexicon())
    system.read(load_clinic("graph")[:3])
    system.learn(TRAIN, GOLDEN, epochs=3)
    person = SimulatedPerson({document.id: document for document in STREAM})
    for decision in system.act(STREAM, per_document=6):
        system.reward(decision.id, person.answer(decision), "simulated")
    system.close()
    return folder


@pytest.fixture
def system(learnt, tmp_path):
    shutil.copytree(learnt, tmp_path / "copy")
    system = LearningSystem.open(tmp_path / "copy")
    yield system
    system.close()


@pytest.fixture
def empty(tmp_path):
    system = LearningSystem.create(tmp_path / "empty", ("disease",))
    yield system
    system.close()


# Folders

def test_there_is_no_workspace(tmp_path):
    with pytest.raises(BadInput, match="no workspace here"):
        LearningSystem.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text, message", [("{", "damaged"), ("", "damaged"), ('{"format": "2"}', "format 2"), ("{}", "format None")])
def test_a_damaged_or_strange_workspace_is_named(empty, text, message):
    (empty.folder / "workspace.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        LearningSystem.open(empty.folder)
    assert (empty.folder / "workspace.json").read_text(encoding="utf-8") == text


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(BadInput, match="not empty"):
        LearningSystem.create(tmp_path, ("disease",))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_was_created_opens_with_types_schema_dictionary_and_seed(tmp_path):
    LearningSystem.create(tmp_path / "w", CLINIC_SCHEMA.types, CLINIC_SCHEMA, clinic_lexicon()[:5], seed=7).close()
    system = LearningSystem.open(tmp_path / "w")
    assert (system.types, system.kg.schema, system.seed) == (CLINIC_SCHEMA.types, CLINIC_SCHEMA, 7)
    assert {entry.id for entry in system.kg.dictionary()} == {entry.id for entry in clinic_lexicon()[:5]}


@pytest.mark.parametrize("work", [lambda s: s.live, lambda s: s.act(STREAM), lambda s: s.evolve(), lambda s: s.objective(), lambda s: s.rollback()])
def test_without_a_skill_there_is_one_clear_error(empty, work):
    with pytest.raises(BadInput, match="no skill yet"):
        work(empty)
    assert empty.status()["live"] is None and empty.versions() == []


def test_unlabelled_documents_teach_nothing_and_leave_nothing(empty):
    with pytest.raises(BadInput, match="without labels"):
        empty.learn([TRAIN[0], TRAIN[1].unlabelled()])
    with pytest.raises(BadInput, match="without labels"):
        empty.learn(TRAIN, [GOLDEN[0].unlabelled()])
    assert not empty.labelled and not empty.kg.documents() and not (empty.folder / "labelled.jsonl").exists()


def test_no_pickle_and_no_scratch_in_a_workspace(system):
    kinds = {path.suffix for path in system.folder.rglob("*") if path.is_file() and not path.name.startswith(("graph.db", "feedback.db"))}
    assert kinds <= {".json", ".jsonl", ".safetensors"}


# Reading and acting

def test_reading_before_a_skill_without_a_dictionary_finds_terms(empty):
    report = empty.read(TRAIN)
    assert report.documents == 4 and report.mentions > 0
    assert empty.read(TRAIN).unchanged == 4


def test_labels_of_documents_that_are_only_read_stay_outside(system):
    system.read(load_clinic("test")[:2])
    assert not [mention for id in ("test-001", "test-002") if id in system.kg.documents() for mention in system.kg.mentions(document=id) if mention.extractor == "gold"]


def test_golden_labels_never_enter_the_graph(system):
    ids = {document.id for document in GOLDEN}
    system.evolve(epochs=1)
    assert not ids & set(system.kg.documents())
    assert not [piece for pieces in system.live.processor.snapshot.aliases.values() for piece in pieces if piece.document in ids]


def test_no_edge_of_a_labelled_document_is_in_the_snapshot(system):
    head, tail = (next(e.key for e in system.kg.entities() if e.type == type) for type in ("medicine", "disease"))
    encoder = system.live.graph_encoder
    before = system.processor_for(encoder).snapshot
    system.kg.add_fact(head, "treats", tail, Evidence(TRAIN[0].id, 0, 3, "gold", 0.95))
    planted = system.processor_for(encoder).snapshot
    assert torch.equal(before.edges, planted.edges) and planted.revision == system.kg.revision
    system.kg.add_fact(head, "treats", tail, Evidence(STREAM[0].id, 0, 3, "gold", 0.95))
    assert not torch.equal(before.edges, system.processor_for(encoder).snapshot.edges), "another document's edge is"
    assert torch.equal(before.edges, system.processor_for(encoder, [STREAM[0].id]).snapshot.edges) or system.kg.facts_in(STREAM[0].id)


def test_acting_twice_asks_once_and_rewarding_twice_keeps_the_first(system):
    answers, revision = system.log.rewarded(), system.kg.fingerprint()
    again = system.act(STREAM, per_document=6)
    assert {decision.id for decision in again} == {answer.decision.id for answer in answers}
    assert not system.log.pending() and system.kg.fingerprint() == revision
    for answer in answers:
        assert not system.reward(answer.decision.id, 1 - answer.reward)
    assert system.log.rewarded() == answers


def test_acting_after_a_restart_is_the_same(system):
    decisions = system.act(load_clinic("stream")[3:5])
    other = LearningSystem.open(system.folder)
    assert other.act(load_clinic("stream")[3:5]) == decisions
    other.close()


def test_a_question_marks_the_span_and_survives_strange_text(system):
    strange = Document("s", "[x] fever\nand <b>cough</b>; pain $5$")
    for decision in system.act([strange]):
        asked = system.question(decision)
        assert asked.startswith("s: ") and asked.endswith("?") and f"[{strange.text[decision.start:decision.end]}]" in asked


def test_the_skill_as_tagger_ignores_labels(system):
    tagger = SkillTagger(system.live.skill, system.live.processor)
    assert tagger.tag(TRAIN[:2]) == tagger.tag([document.unlabelled() for document in TRAIN[:2]])
    assert tagger.tag([]) == [] and tagger.tag([Document("e", "")]) == [[]]


# Evolving

def test_a_round_keeps_its_promises(system):
    start = system.objective()
    evolution = system.evolve(epochs=2)
    assert isinstance(evolution, Evolution) and list(evolution.gaps) == ["start", "K-step", "S-step"]
    assert evolution.gaps["start"] == start
    assert evolution.gaps["K-step"].knowledge_environment == evolution.gaps["S-step"].knowledge_environment
    assert system.live.name == "v1" and system.versions() == ["v0", "v1"]
    assert system.live.card["gaps"]["S-step"] == asdict(evolution.gaps["S-step"])
    answers = [mention for mention in system.kg.mentions() if mention.extractor == "answer"]
    assert 0 < len(answers) <= len(system.log)


def test_the_k_step_twice_is_the_k_step_once(system):
    system.k_step(system.log.rewarded())
    once = system.kg.fingerprint()
    system.k_step(system.log.rewarded())
    assert system.kg.fingerprint() == once


def test_a_yes_is_evidence_for_and_a_no_against(system):
    system.k_step(system.log.rewarded())
    for answer in system.log.rewarded():
        place = (answer.decision.start, answer.decision.end)
        found = [m for m in system.kg.mentions(document=answer.decision.document) if m.extractor == "answer" and (m.start, m.end) == place]
        assert [m.polarity for m in found] == [1 if answer.reward else -1]
        assert bool(found[0].entity) == bool(answer.reward and answer.decision.action != NONE)


def test_a_saved_version_reads_as_it_did(system):
    live, other = system.live, LearningSystem.open(system.folder)
    rows = live.processor(STREAM)
    assert [m for m in SkillTagger(live.skill, live.processor).tag(STREAM)] == SkillTagger(other.live.skill, other.live.processor).tag(STREAM)
    assert torch.equal(live.skill.table, other.live.skill.table) and rows
    other.close()


def test_gaps_add_up():
    assert Gaps(None, 1.0, 2.0, 4).total == 3.0 and Gaps(0.5, 1.0, 2.0, 0).total == 3.5


# Versions

def test_rollback_goes_back_and_nothing_is_written_over(system):
    with pytest.raises(BadInput, match="oldest version"):
        system.rollback()
    system.keep(replace(system.live, name="v1", card=system.live.card | {"mark": 1}))
    system.keep(replace(system.live, name="v2", card=system.live.card | {"mark": 2}))
    facts = system.kg.fingerprint()
    assert system.rollback() == "v1" and system.rollback() == "v0" and system.rollback("v2") == "v2"
    assert system.kg.fingerprint() == facts and system.live.card["mark"] == 2
    system.rollback("v0")
    assert system.next_name() == "v3"
    system.evolve(epochs=1)
    assert system.live.name == "v3" and system.version("v1").card["mark"] == 1
    with pytest.raises(BadInput, match="there is a version v1 already"):
        system.keep(replace(system.live, name="v1"))
    with pytest.raises(BadInput, match="no version 'v9': choose one of v0, v1, v2, v3"):
        system.rollback("v9")
    with pytest.raises(BadInput, match="no version"):
        system.version("../skills/v0")


KILLER = textwrap.dedent("""
    import os, signal, sys
    from dataclasses import replace
    import kglearn.system as home
    system = home.LearningSystem.open(sys.argv[1])
    version = replace(system.live, name="v1", card={"mark": "new"})
    system.close()
    calls = ["save_skill", "write_json", "replace-0", "replace-1", "replace-2", "event"]

    def kill(*arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)

    for number, call in enumerate(calls):
        if not (child := os.fork()):
            system = home.LearningSystem.open(sys.argv[1])
            if call.startswith("replace"):
                left, real = [int(call[-1])], os.replace
                def sometimes(a, b):
                    kill() if left[0] == 0 else real(a, b)
                    left[0] -= 1
                os.replace = sometimes
            elif call == "event":
                home.LearningSystem.event = kill
            else:
                setattr(home, call, kill)
            system.keep(version)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        system = home.LearningSystem.open(sys.argv[1])
        print(call, os.WTERMSIG(status), system.live.name, len(system.live.skill.state_dict()) > 0, *system.versions(), flush=True)
        system.close()
        if "v1" in system.versions():
            import shutil
            shutil.rmtree(system.folder / "skills" / "v1")
            home.write_json(system.folder / "live.json", {"version": "v0"})
""")


def test_a_kill_anywhere_in_keep_leaves_the_old_version_or_the_new(system):
    system.close()
    run = subprocess.run([sys.executable, "-c", KILLER, system.folder], capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert list(said) == ["save_skill", "write_json", "replace-0", "replace-1", "replace-2", "event"], run.stderr
    for call in ("save_skill", "write_json", "replace-0", "replace-1"):
        assert said[call] == ["9", "v0", "True", "v0"], f"killed at {call}: the old state"
    assert said["replace-2"] == ["9", "v0", "True", "v0", "v1"], "the new one is whole, and not named yet"
    assert said["event"] == ["9", "v1", "True", "v0", "v1"], "the new state"


def test_what_a_kill_left_does_not_stand_in_the_way(system):
    (system.folder / "skills" / ".new-v1").mkdir()
    (system.folder / "skills" / ".new-v1" / "model.safetensors").write_bytes(b"half")
    assert system.versions() == ["v0"]
    system.keep(replace(system.live, name="v1"))
    assert system.live.name == "v1" and not (system.folder / "skills" / ".new-v1").exists()


def test_a_file_is_replaced_whole(tmp_path):
    write_json(tmp_path / "a.json", {"x": "é", "y": [1]})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": "é", "y": [1]}


# Why, and forgetting

def test_why_an_entity_names_answers_sentences_and_facts(system):
    system.k_step(system.log.rewarded())
    yes = next(a.decision for a in system.log.rewarded() if a.reward and a.decision.action != NONE)
    why = system.why(system.kg.document(yes.document).text[yes.start:yes.end])
    assert any("a person said yes" in line and yes.document in line for line in why.lines)
    fact = next(iter(system.kg.facts()))
    assert any(line.startswith("fact: ") for line in system.why(fact.head).lines)


def test_why_says_no_entity_where_none_was_the_answer(system):
    mention = next(m for m in system.kg.mentions() if m.entity)
    system.kg.add_mention(mention.document, mention.start, mention.end, NONE, "", "answer", 0.95, -1)
    why = system.why(mention.entity)
    assert any(line.startswith("- ") and "as no entity, a person said no" in line for line in why.lines)
    assert not any(" as none," in line for line in why.lines)


def test_why_a_fact_shows_its_evidence_and_belief(system):
    fact = next(iter(system.kg.facts()))
    for query in (f"{fact.head} > {fact.relation} > {fact.tail}", f"{system.kg.entity(fact.head).name}>{fact.relation}>{system.kg.entity(fact.tail).name}"):
        why = system.why(query)
        assert f"belief {fact.belief:.2f}" in why.title
        assert len(why.lines) == len(system.kg.evidence(fact.head, fact.relation, fact.tail))


@pytest.mark.parametrize("query, message", [("phlogiston", "nothing in the graph is called"), ("a > b", "nothing in the graph"), ("", "nothing in the graph"),
                                            ("asthma > cures > asthma", "holds no fact"), ("'; DROP TABLE entity; --", "nothing in the graph")])
def test_why_of_nothing_is_bad_input(system, query, message):
    with pytest.raises(BadInput, match=message):
        system.why(query)


def test_why_escapes_what_documents_say():
    shown = Why("<script>alert(1)</script>", ("<img src=x onerror=y>", "a & b"))._repr_html_()
    assert "<script" not in shown and "<img" not in shown and "a &amp; b" in shown


def test_forgetting_drops_text_mentions_decisions_and_answers(system):
    system.k_step(system.log.rewarded())
    gone, before = STREAM[0].id, len(system.log)
    assert system.forget(gone) and not system.forget(gone)
    assert gone not in system.kg.documents() and not system.kg.mentions(document=gone)
    assert len(system.log) == before - 6 and gone not in {answer.decision.document for answer in system.log.rewarded()}
    assert not [p for pieces in system.kg.name_evidence().values() for p in pieces if p.document == gone]
    system.evolve(epochs=1)
    assert not [p for pieces in system.live.processor.snapshot.aliases.values() for p in pieces if p.document == gone]


def test_forgotten_labels_teach_and_measure_no_more(system):
    assert system.forget(TRAIN[0].id) and set(system.labelled) == {document.id for document in TRAIN[1:]}
    assert system.forget(GOLDEN[0].id) and set(system.golden) == {document.id for document in GOLDEN[1:]}
    assert not system.forget("never seen")


def test_status_counts(system):
    status = system.status()
    assert status["documents"] == 3 + 4 + 3 and status["answers"] == 18 and status["waiting"] == 0
    assert status["versions"] == ["v0"] and status["live"]["version"] == "v0" and json.dumps(status)


# Purging

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
        if document is not GOLDEN[0]:  # a golden document that was forgotten has left no text by which to find what quotes it
            write_json(folder / "steps" / f"arm-{len(document.text)}.json", {"counts": {"test": [1]}, "shown": ["other", document.text]})
        (folder / f"{document.id}.html").write_text(document.text, encoding="utf-8")
        (folder / "labelled.jsonl.new").write_text(document.text[:100], encoding="utf-8")
    (folder / "skills" / ".new-v9").mkdir()
    (folder / "skills" / ".new-v9" / "snapshot.json").write_text(STREAM[0].text, encoding="utf-8")
    system.close()
    return folder


@pytest.fixture
def purgeable(evolved, tmp_path):
    shutil.copytree(evolved, tmp_path / "copy")
    system = LearningSystem.open(tmp_path / "copy")
    yield system
    system.close()


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
    purged = purgeable.purge(document.id)
    assert traces(folder, hidden) == {} and purged.left == () and not (folder / "purge.json").exists()
    assert f"{document.id}.html" in purged.deleted
    assert purged.looked_for >= len(sentences(document.text)) - 1 or document is GOLDEN[0], "what was golden and is forgotten has left no text to look for"
    purgeable.close()
    assert traces(folder, hidden) == {}
    assert {path.name for path in folder.rglob("*") if path.suffix in (".new", ".html")} == set()


@pytest.mark.parametrize("document", [TRAIN[0], GOLDEN[0], STREAM[0], READ], ids=lambda document: document.id)
def test_a_purge_leaves_everything_else_and_the_versions_still_read(purgeable, document):
    others = [other for other in OTHERS if other.id != document.id]
    answers = [answer for answer in purgeable.log.rewarded() if answer.decision.document != document.id]
    before = {other.id: (purgeable.kg.document(other.id), purgeable.kg.mentions(document=other.id)) for other in others if other.id in purgeable.kg.documents()}
    facts = {(fact.head, fact.relation, fact.tail) for fact in purgeable.kg.facts()
             if {piece.document for piece in purgeable.kg.evidence(fact.head, fact.relation, fact.tail)} - {document.id}}
    labels = {part: [other for other in getattr(purgeable, part).values() if other.id != document.id] for part in ("labelled", "golden")}
    events = len((purgeable.folder / "events.jsonl").read_text(encoding="utf-8").splitlines())
    purgeable.purge(document.id)
    assert {id: (purgeable.kg.document(id), purgeable.kg.mentions(document=id)) for id in purgeable.kg.documents()} == before
    assert {(fact.head, fact.relation, fact.tail) for fact in purgeable.kg.facts()} == facts
    assert purgeable.log.rewarded() == answers
    assert all(list(getattr(purgeable, part).values()) == kept for part, kept in labels.items())
    lines = (purgeable.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == events + 1 and all(json.loads(line) for line in lines) and sum("look: " in line for line in lines) == 3
    steps = [json.loads(path.read_text(encoding="utf-8")) for path in (purgeable.folder / "steps").iterdir()]
    assert len(steps) == 3 and [step["shown"][1] for step in steps].count("(purged)") == (document is not GOLDEN[0])
    assert all(step["counts"] == {"test": [1]} for step in steps)
    for name in purgeable.versions():
        version = purgeable.version(name)
        assert not [piece for pieces in version.processor.snapshot.aliases.values() for piece in pieces if piece.document == document.id]
        assert len(SkillTagger(version.skill, version.processor).tag(others[:2])) == 2
    purgeable.evolve(epochs=1)
    assert purgeable.live.name == "v2"


def test_versions_say_how_they_learnt_from_it_and_for_good(purgeable):
    promoted = purgeable.live.card["promoted"]
    shaped = {document.id: purgeable.purge(document.id).shaped for document in (TRAIN[0], GOLDEN[0], STREAM[0], READ)}
    assert shaped[TRAIN[0].id] == {name: ["labels", "snapshot"] for name in ("v0", "v1", "candidates/prior")}
    assert shaped[GOLDEN[0].id] == {name: ["golden"] for name in ("v0", "v1", "candidates/prior")}
    assert shaped[STREAM[0].id] == {"v1": ["answers", "snapshot"] if promoted else ["snapshot"]}
    assert shaped[READ.id] == {name: ["links", "snapshot"] for name in ("v0", "v1", "candidates/prior")}
    again = purgeable.purge(TRAIN[0].id)
    assert again.shaped == shaped[TRAIN[0].id] and again.looked_for == 0, "the second call still knows"
    assert not traces(purgeable.folder, [TRAIN[0].id])
    evolution = purgeable.evolve(epochs=1)
    after = purgeable.purge(TRAIN[0].id).shaped.get("v2")
    assert after == (None if evolution.promoted else ["labels"]), "new weights know nothing of it"
    assert purgeable.purge(READ.id).shaped["v2"] == ["links"], "the graph encoder is the old one"


def test_versions_are_dropped_on_demand_and_their_names_never_given_again(purgeable):
    purged = purgeable.purge(STREAM[0].id, drop_versions=True)
    assert purged.dropped == ("v1",) and purged.standing == {} and purgeable.versions() == ["v0"]
    assert purgeable.live.name == "v0" and purgeable.next_name() == "v2" and list((purgeable.folder / "skills" / "v1").iterdir()) == []
    with pytest.raises(BadInput, match="version v1 already"):
        purgeable.keep(replace(purgeable.live, name="v1"))
    assert purgeable.purge(GOLDEN[0].id, drop_versions=True).dropped == (), "it chose, and taught nothing"
    assert set(purgeable.purge(TRAIN[0].id, drop_versions=True).dropped) == {"v0", "candidates/prior"}
    assert purgeable.versions() == [] and not (purgeable.folder / "live.json").exists() and purgeable.status()["live"] is None
    with pytest.raises(BadInput, match="no skill yet"):
        purgeable.live
    purgeable.learn(TRAIN[1:], GOLDEN[1:], epochs=1)
    assert purgeable.live.name == "v2"


def test_a_workspace_from_before_says_that_it_does_not_know(purgeable):
    for name, folder in purgeable._made().items():
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        del card["lessons"]
        write_json(folder / "card.json", card)
    (purgeable.folder / "candidates" / "prior" / "card.json").unlink()
    with pytest.raises(BadInput, match="no document"):
        purgeable.purge("never read")
    purged = purgeable.purge(STREAM[0].id)
    assert {name: "unrecorded" in ways for name, ways in purged.shaped.items()} == {"v0": True, "v1": True, "candidates/prior": True}
    assert purgeable.evolve(epochs=1).promoted in (True, False) and "unrecorded" in purgeable.purge(STREAM[0].id).shaped["v2"]


@pytest.mark.parametrize("document, message", [("graph-0001", "did you mean 'graph-001'"), ("", "no document ''"), ("'; DROP TABLE document; --", "no document"), ("\ud800", "half of a character")])
def test_an_unknown_document_is_refused_and_nothing_is_touched(purgeable, document, message):
    before = {path: path.read_bytes() for path in purgeable.folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}
    for work in (purgeable.purge, purgeable.check_document):
        with pytest.raises(BadInput, match=message):
            work(document)
    assert {path: path.read_bytes() for path in before} == before


def test_what_still_holds_it_is_named_and_what_others_say_is_not_counted(purgeable):
    shared = "A sentence that stands in two documents."
    purgeable.read([Document("one", f"{shared} Only one says Quorrinella."), Document("two", shared)])
    (purgeable.folder / "mine.txt").write_text("Only one says QUORRINELLA.", encoding="utf-8")
    purged = purgeable.purge("one")
    assert purged.left == ("mine.txt",) and "found in mine.txt" in str(purged)
    (purgeable.folder / "mine.txt").unlink()
    assert traces(purgeable.folder, ["quorrinella"]) == {} and list(traces(purgeable.folder, [shared])) == [shared]


def test_a_purge_shows_itself_and_escapes_what_documents_say():
    purged = Purged("<script>", ("disease:<b>",), 2, 3, ("<i>.txt",), ("report.html",), {"v0": ["labels"], "v1": ["golden"]}, ("v0",))
    assert repr(purged) == str(purged) and "v0" not in purged.standing and "--drop-versions" not in str(purged)
    assert "<script" not in purged._repr_html_() and "<i>" not in purged._repr_html_() and "v1 has learnt from it: chosen" in purged._repr_html_()
    assert "--drop-versions" in str(replace(purged, dropped=()))


PURGER = textwrap.dedent("""
    import os, shutil, signal, sys
    from pathlib import Path
    import kglearn.system as home
    whole, document = Path(sys.argv[1]), sys.argv[2]
    steps = ["_purge_work", "_mark_versions", "_drop_labels", "_wipe_files", "_wipe_snapshot", "_drop_versions", "purge_graph", "_left", "event"]
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
            system.purge(document, drop_versions=True)
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
            system.purge(TRAIN[0].id)
        purged = system.purge(document.id, drop_versions=True)
        assert purged.left == () and purged.looked_for > 3
        assert traces(system.folder, its_own(document)) == {} and system.versions() == ["v0"], step
        assert "unfinished purge of" not in system.status() and len(system.log) == 12
        system.close()
