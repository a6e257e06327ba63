"""What no lesson of the system should carry: folders that are damaged, processes that are killed, labels that must not leak."""
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import pytest
import torch

import kglearn.system
from kglearn.belief import answer_fact
from kglearn.data import BadInput, DictionaryEntry, Document, clinic_lexicon, load_clinic
from kglearn.gnn import snapshot
from kglearn.graph import CLINIC_SCHEMA, Evidence
from kglearn.policy import NONE
from kglearn.system import Evolution, Gaps, LearningSystem, SkillTagger, Why, write_json

TRAIN, GOLDEN, STREAM = load_clinic("train")[:4], load_clinic("golden")[:3], load_clinic("stream")[:3]


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
    with pytest.raises(BadInput, match="1 labelled documents: at least 2 are needed"):
        empty.learn(TRAIN[:1])
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


def a_new_fact(system):
    "The last medicine treats the last disease."
    medicine, disease = ([entity.key for entity in system.kg.entities() if entity.type == type][-1] for type in ("medicine", "disease"))
    return medicine, "treats", disease


def test_the_snapshot_is_moved_and_is_the_one_from_scratch(system):
    "After answers, new facts, a forgotten document, a round, a rollback and other labels."
    encoder, first = system.live.graph_encoder, system.live.processor.snapshot
    system.k_step(system.log.rewarded())
    system.kg.add_fact(*a_new_fact(system), Evidence("", 0, 0, "dictionary", 0.9))
    for change in (lambda: None, lambda: system.forget(TRAIN[1].id), lambda: system.evolve(epochs=1), lambda: system.rollback(),
                   lambda: system._take_labels(TRAIN[2:3] + STREAM[1:2], [], "both")):
        change()
        assert system.live.graph_encoder.hash == encoder.hash
        for without in ((), [STREAM[0].id]):
            moved = system.processor_for(encoder, without).snapshot
            shown = system.kg.copy()
            shown.forget_facts([*system.labelled, *without])
            whole = snapshot(shown, encoder, system.encoder)
            assert moved == replace(whole, revision=system.kg.revision) and moved.computed < whole.computed
    assert moved.edges.shape[1] > first.edges.shape[1] and moved.revision > first.revision


def test_an_edge_of_a_document_labelled_later_is_not_moved_along(system):
    "The live version saw the document's fact; now its labels are learnt from, and the moved snapshot must not bring that edge along."
    head, relation, tail = a_new_fact(system)
    system.read([STREAM[0].unlabelled()])
    system.kg.add_fact(head, relation, tail, Evidence(STREAM[0].id, 0, 3, "pattern", 0.9))
    system.evolve(epochs=1)
    seen, encoder = system.live.processor.snapshot, system.live.graph_encoder
    edge = [seen.rows[head], seen.relations.index(relation), seen.rows[tail]]
    assert edge in seen.edges.T.tolist()
    system._take_labels([STREAM[0], TRAIN[0]], [], "both")
    moved = system.processor_for(encoder).snapshot
    assert [moved.rows[head], edge[1], moved.rows[tail]] not in moved.edges.T.tolist()


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


# Relaters

def facts_of(relater, documents):
    return [[fact[:3] for fact in found] for found in relater.relate(documents, [document.mentions for document in documents])]


def test_a_version_keeps_its_relater_and_a_rollback_brings_it_back(system):
    read, other = STREAM, LearningSystem.open(system.folder)
    assert [type(part).__name__ for part in system.relater.relaters] == ["PatternRelater", "TrainedRelater"]
    assert facts_of(other.live.relater, read) == facts_of(system.live.relater, read)
    first = system.live.relater
    system.evolve(epochs=1)
    assert torch.equal(next(system.live.relater.networks[0].parameters()), next(first.networks[0].parameters())), "the labels are the same: so is the relater"
    assert system.live.card["relater"] == "both" and system.live.card["lessons"]["relater"] == system.version("v0").card["lessons"]["relater"]
    system.forget(TRAIN[0].id)
    system.evolve(epochs=1)
    assert not torch.equal(next(system.live.relater.networks[0].parameters()), next(first.networks[0].parameters())), "a forgotten label teaches no more"
    assert len(system.live.card["lessons"]["relater"]) == 3
    system.rollback("v0")
    assert facts_of(system.live.relater, read) == facts_of(first, read)
    other.close()


def test_why_says_what_the_dictionary_says_and_escapes_it(tmp_path):
    entry = DictionaryEntry("d:1", "disease", ("gout", "podagra"), description="a hot <b>joint</b>")
    system = LearningSystem.create(tmp_path / "described", ("disease",), dictionary=[entry])
    assert system.why("gout").lines == ("in the dictionary as gout, podagra: a hot <b>joint</b>",)
    assert "a hot &lt;b&gt;joint" in system.why("d:1")._repr_html_()
    system.close()


@pytest.fixture
def untaught(tmp_path):
    "A workspace with a schema, that has learnt nothing."
    system = LearningSystem.create(tmp_path / "untaught", CLINIC_SCHEMA.types, CLINIC_SCHEMA)
    yield system
    system.close()


@pytest.mark.parametrize("relater, kind", [("patterns", "PatternRelater"), ("trained", "TrainedRelater"), ("both", "JoinedRelater")])
def test_what_finds_facts_is_what_was_asked_for(untaught, relater, kind):
    untaught.learn(TRAIN, epochs=1, relater=relater)
    assert type(untaught.relater).__name__ == kind and bool(untaught.live.relater) == (relater != "patterns")
    assert bool([*untaught.folder.glob("skills/v0/relater.*")]) == (relater != "patterns")
    untaught.read(STREAM)
    assert {piece.extractor for _, pieces in untaught.kg.facts_with_evidence() for piece in pieces} - {"gold"} <= {
        "patterns": {"pattern"}, "trained": {"classifier"}, "both": {"pattern", "classifier"}}[relater]


def test_too_few_marked_relations_are_told_and_cues_do(untaught):
    untaught.learn([replace(document, relations=None) for document in TRAIN], epochs=1)
    assert untaught.live.relater is None and type(untaught.relater).__name__ == "PatternRelater"
    events = [json.loads(line) for line in (untaught.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(event["event"] == "no trained relater" and "mark some" in event["why"] for event in events)
    with pytest.raises(BadInput, match="no relater 'guesses': choose one of both, patterns, trained"):
        untaught.learn(TRAIN, relater="guesses")


@pytest.mark.parametrize("half", ["relater.json", "relater.safetensors"])
def test_half_a_relater_is_an_error_and_not_silence(system, half):
    (system.folder / "skills" / "v0" / half).unlink()
    with pytest.raises(BadInput, match="relater is two files"):
        system.version("v0")


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
    calls = ["save_skill", "write_json", "event", *(f"replace-{number}" for number in range(30))]

    def kill(*arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)

    for number, call in enumerate(calls):
        if not (child := os.fork()):
            system = home.LearningSystem.open(sys.argv[1])
            if call.startswith("replace"):
                left, real = [int(call.partition("-")[2])], os.replace
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
        if not status:
            break  # there were fewer files to replace
""")


def test_a_kill_anywhere_in_keep_leaves_the_old_version_or_the_new(system):
    system.close()
    run = subprocess.run([sys.executable, "-c", KILLER, system.folder], capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    old, whole, new = (["9", "v0", "True", "v0"], ["9", "v0", "True", "v0", "v1"], ["9", "v1", "True", "v0", "v1"])
    assert [said.pop(call, run.stderr) for call in ("save_skill", "write_json", "event")] == [old, old, new]
    *replaced, unharmed = said.values()
    assert unharmed == ["0", *new[1:]] and len(replaced) > 5, "a file each, the folder of the version, and the name of the live one"
    assert replaced == [old] * (len(replaced) - 1) + [whole], "at the last the new one is whole, and not named yet"


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
    answer_fact(system.kg, fact, False)
    assert "- answer (0.95)" in system.why(query).lines, "an answer about a fact stands in no document"


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
    assert system.former == [TRAIN[0], GOLDEN[0]], "as the graph's past has its text"


def test_labels_that_are_replaced_become_former_ones_once(system):
    changed = replace(GOLDEN[0], mentions=())
    system._keep_labels("golden", [changed, *GOLDEN[1:]])
    system._keep_labels("golden", [GOLDEN[0], *GOLDEN[1:]])
    system._keep_labels("golden", [changed])
    assert system.former == [changed, GOLDEN[0], *GOLDEN[1:]] and list(system.golden.values()) == [changed]


def test_status_counts(system):
    status = system.status()
    assert status["documents"] == 3 + 4 + 3 and status["answers"] == 18 and status["waiting"] == 0
    assert status["versions"] == ["v0"] and status["live"]["version"] == "v0" and json.dumps(status)
