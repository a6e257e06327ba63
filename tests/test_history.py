"""The past, against graphs that were saved when it was the present; and files, against the text that must not be in them."""
import html
import json
import os
import random
import sqlite3
import threading
from dataclasses import replace

import markupsafe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, Mention, Relation, load_clinic
from kglearn.graph import CLINIC_SCHEMA, Evidence, KnowledgeGraph, add_gold, clinic_graph
from kglearn.history import Changes, Diff, Revision, at, diff, purge, revisions, traces

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = [f"thing:{name}" for name in "abcde"]
NAMES = ["flu", "'; DROP TABLE entity; --", "a\0b", "<b>", "头痛"]


def passage(number):
    "A document about some of the five things, always the same for the same number."
    chance, text, mentions = random.Random(number), "", []
    for key in chance.sample(KEYS, 3):
        name = NAMES[KEYS.index(key)]
        mentions.append(Mention(len(text), len(text) + len(name), chance.choice(["disease", "medicine"]), key))
        text += name + ". "
    ends = [mention.entity for mention in mentions]
    relations = tuple(Relation(*chance.sample(ends, 2)[:1], "treats", chance.choice(ends)) for _ in range(2))
    return Document(f"passage {number}", f"{text}{number}", "", "", tuple(mentions), relations)


def act(kg, name, number, other):
    "Do something to a graph; what it has nothing for is left alone."
    known = [entity.key for entity in kg.entities()]
    if name == "read":
        add_gold(kg, passage(number))
    elif name == "forget":
        kg.forget(passage(number).id)
    elif name == "change":
        kg.add_document(Document(passage(number).id, f"Another text, {other}."))
    elif name == "dictionary":
        kg.add_entity(KEYS[number % 5], f"name {other % 2}", "", ["alias"], ("", "a thing", "another thing")[other % 3])
    elif known and name == "answer":
        kg.add_fact(known[number % len(known)], "treats", known[other % len(known)],
                    Evidence("", 0, 0, "answer", polarity=1 if number % 2 else -1))
    elif name == "forget facts":
        kg.forget_facts([passage(number).id])
    elif name == "forget answers":
        kg.forget_answers()
    elif name == "merge" and known[number % len(known or [0]):] and known[other % len(known)] != known[number % len(known)]:
        kg.merge(known[number % len(known)], known[other % len(known)])
    elif name == "unmerge" and kg.merges():
        taken = kg.merges()[number % len(kg.merges())]
        kg.unmerge(taken.kept, taken.gone)


numbers = st.integers(0, 5)
doings = st.tuples(st.sampled_from(["read", "read", "forget", "change", "dictionary", "answer", "forget facts",
                                    "forget answers", "merge", "merge", "unmerge"]), numbers, numbers)
histories = st.lists(st.one_of(doings, st.lists(doings, min_size=2, max_size=3)), min_size=1, max_size=12)


def lived_through(history, kg=None):
    "A graph after some doings, each a revision or a group of them in one; and what it said at each revision."
    kg = kg or KnowledgeGraph()
    saved = {0: said(kg)}
    for step in history:
        with kg.transaction("step"):
            for doing in [step] if isinstance(step, tuple) else step:
                act(kg, *doing)
        saved[kg.revision] = said(kg)
    return kg, saved


def said(kg):
    facts = list(kg.facts())
    return (kg.fingerprint(), kg.entities(), facts, kg.aliases(), kg.name_evidence(), kg.dictionary(), kg.merges(), kg.revision,
            [kg.document(id) for id in kg.documents()], [kg.evidence(fact.head, fact.relation, fact.tail) for fact in facts],
            kg.mentions(), [kg.neighbors(key) + kg.within(key) + kg.find(key) for key in KEYS], kg._repr_html_())


@FEW
@given(histories)
def test_the_past_says_what_was_said_then(history):
    kg, saved = lived_through(history)
    for revision, then in saved.items():
        past = at(kg, revision)
        assert said(past) == then and said(past.copy()) == then
    assert [each.number for each in revisions(kg)] == list(range(1, kg.revision + 1))


def test_the_past_of_a_file_is_that_of_memory(tmp_path):
    history = [("read", 0, 0), ("read", 1, 0), ("merge", 0, 1), ("dictionary", 2, 1), ("forget", 0, 0), ("unmerge", 0, 0)]
    kg, saved = lived_through(history, KnowledgeGraph(tmp_path / "graph.db"))
    assert {revision: said(at(kg, revision)) for revision in saved} == saved and len(saved) > 4
    kg.close()
    assert said(at(KnowledgeGraph(tmp_path / "graph.db"), 2)) == saved[2]


@FEW
@given(histories, st.data())
def test_going_on_from_the_past_leads_to_the_present(history, data):
    kg, after = KnowledgeGraph(), []
    for step in history:
        lived_through([step], kg)
        after.append(kg.revision)
    done, before = data.draw(st.integers(0, len(history) - 1)), said(kg)
    twin = at(kg, after[done]).copy()
    lived_through(history[done + 1:], twin)
    assert said(twin) == before == said(kg)


def compared(old, new):
    "The slow way: everything that both graphs say."
    def all_of(kg):
        return ({id: kg.document(id) for id in kg.documents()}, {entity.key: entity for entity in kg.entities()},
                {(fact.head, fact.relation, fact.tail): fact for fact in kg.facts()})
    return Diff(*map(Changes.between, all_of(old), all_of(new)))


@settings(FEW, max_examples=100)
@given(histories, st.randoms(use_true_random=False))
def test_diff_finds_all_that_differs(history, chance):
    kg, _ = lived_through(history)
    one, other = (chance.randint(0, kg.revision) for _ in range(2))
    assert diff(kg, one, other) == compared(at(kg, one), at(kg, other))


def test_diff_sees_what_merges_do_to_facts_whose_rows_are_untouched():
    kg = KnowledgeGraph()
    for key in "abcdef":
        kg.add_entity(key, key, "letter")
    for head, tail in ("ab", "bc", "cd", "ef"):
        kg.add_fact(head, "joins", tail, Evidence("", 0, 0, "dictionary", 0.5))
    for kept, gone in ("ab", "cb", "fe", "da"):
        kg.merge(kept, gone)
    for kept, gone in ("cb", "ab"):
        kg.unmerge(kept, gone)
    for one in range(kg.revision + 1):
        for other in range(kg.revision + 1):
            assert diff(kg, one, other) == compared(at(kg, one), at(kg, other))


def test_diff_does_not_look_at_the_rest():
    kg, asked = clinic_graph(), []
    kg.add_fact("medicine:metformin", "treats", "disease:type 2 diabetes", Evidence("", 0, 0, "answer"))
    found = diff(kg, kg.revision - 1, kg.revision)
    assert len(found.facts.changed) == 1 and found.entities == found.documents == Changes((), (), ())
    assert repr(found) == ("Diff(documents: 0 new, 0 gone, 0 changed; entities: 0 new, 0 gone, 0 changed; "
                           "facts: 0 new, 0 gone, 1 changed)")


@pytest.mark.parametrize("change", [
    lambda kg: kg.forget("graph-001"), lambda kg: kg.add_document(Document("new", "text")),
    lambda kg: kg.add_entity("x", "x", "disease"), lambda kg: kg.add_mention("graph-001", 0, 1, "disease", "x"),
    lambda kg: kg.add_fact("medicine:metformin", "treats", "disease:type 2 diabetes", Evidence("", 0, 0, "answer")),
    lambda kg: kg.merge("medicine:metformin", "medicine:aspirin"), lambda kg: kg.forget_answers(),
    lambda kg: kg.transaction("anything").__enter__(), lambda kg: purge(kg, "graph-001")])
def test_the_past_cannot_be_changed(change):
    kg = clinic_graph()
    past = at(kg, 20)
    before = past.fingerprint(), kg.fingerprint()
    with pytest.raises(BadInput, match="past and cannot be changed"):
        change(past)
    assert (past.fingerprint(), kg.fingerprint()) == before


@pytest.mark.parametrize("revision", [-1, 42, 10 ** 30])
def test_a_revision_that_is_not_there_is_named(revision):
    kg = clinic_graph()
    for ask in (lambda: at(kg, revision), lambda: diff(kg, 0, revision), lambda: diff(kg, revision, 3)):
        with pytest.raises(BadInput, match="revisions 0 to 41"):
            ask()


def test_the_past_stays_while_another_thread_writes(tmp_path):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    documents = load_clinic("graph")
    add_gold(kg, documents[0])
    past, seen = at(kg, 1), []
    writer = threading.Thread(target=lambda: [add_gold(kg, document) for document in documents[1:]])
    writer.start()
    while writer.is_alive():
        seen.append(past.fingerprint())
    writer.join()
    assert set(seen) == {past.fingerprint()} == {at(kg, 1).fingerprint()} and kg.revision == 40


def test_revisions_have_number_note_and_date():
    kg = KnowledgeGraph()
    with kg.transaction("<b>'; DROP TABLE revision; --"):
        kg.add_entity("x", "x", "thing")
    found, = revisions(kg)
    assert found == Revision(1, "<b>'; DROP TABLE revision; --", found.date) and len(found.date) == 20


# Purging

def held(folder, *texts):
    return list(traces(folder, texts))


@pytest.mark.parametrize("write", [json.dumps, lambda text: json.dumps(text, ensure_ascii=False), html.escape, lambda text: str(markupsafe.escape(text)), lambda text: text.replace("an: Z", "AN: z")])
def test_traces_see_through_escapes(tmp_path, write):
    text = 'Élan: Zoë said "\tyes & no", <b>and it\'s</b> so'
    (tmp_path / "x").write_text(write(text), encoding="utf-8")
    assert list(traces(tmp_path, [text, ""])) == [text]


def test_traces_are_found_in_any_spelling_and_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.bin").write_bytes(b"\0\1" + "Zoë's SECRET".encode("utf-16-le"))
    (tmp_path / "y.json").write_text('{"text": "zo\\u00eb\'s secret"}', encoding="utf-8")
    (tmp_path / "z.txt").write_text("ZOë's secret", encoding="utf-8")
    found = traces(tmp_path, ["zoë's secret", "nothing of the kind"])
    assert list(found) == ["zoë's secret"] and [path.name for path in found["zoë's secret"]] == ["x.bin", "y.json", "z.txt"]
    assert traces(tmp_path / "nowhere", ["x"]) == {}


@pytest.mark.parametrize("first", ["read", "forgotten", "changed"])
@pytest.mark.parametrize("open_past", [False, True])
def test_no_byte_of_a_purged_document_is_left(tmp_path, first, open_past):
    kg = KnowledgeGraph(tmp_path / "graph.db", CLINIC_SCHEMA)
    documents = load_clinic("graph")
    secret = "Zanthoxyline for Quorrin's disease"
    document = Document("secret-17", f"{secret}. " * 2000, "clinic", "2024-01", (
        Mention(0, 12, "medicine", "medicine:zanthoxyline"), Mention(17, 34, "disease", "disease:quorrin's disease")),
        (Relation("medicine:zanthoxyline", "treats", "disease:quorrin's disease"),))
    for each in [*documents[:5], document, *documents[5:9]]:
        add_gold(kg, each)
    kg.add_fact("medicine:zanthoxyline", "treats", "disease:quorrin's disease", Evidence("", 0, 0, "answer"))
    kg.merge("disease:quorrin's disease", kg.entities()[0].key, "quorrin is an old name")
    if first == "forgotten":
        kg.forget(document.id)
    if first == "changed":
        kg.add_document(Document(document.id, f"Nothing of {secret[17:]}."))
    past = at(kg, 7) if open_past else None
    assert held(tmp_path, secret, "quorrin", "zanthoxyline") == [secret, "quorrin", "zanthoxyline"]
    assert purge(kg, document.id) == ["disease:quorrin's disease", "medicine:zanthoxyline"]
    assert held(tmp_path, secret, "quorrin", "zanthoxyline", "secret-17") == []
    without = KnowledgeGraph()
    for each in documents[:9]:
        add_gold(without, each)
    assert kg.fingerprint() == without.fingerprint() and kg.merges() == []
    for revision in range(kg.revision + 1):
        assert document.id not in at(kg, revision).documents()
    if past:
        assert document.id not in past.documents()
        past.close()
    kg.close()
    assert held(tmp_path, secret, "quorrin", "zanthoxyline", "secret-17") == []
    assert sqlite3.connect(tmp_path / "graph.db").execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@FEW
@given(histories, numbers)
def test_a_purged_document_was_never_there(history, number):
    kg, saved = lived_through(history)
    before = kg.revision
    purge(kg, passage(number).id)
    for revision in range(before + 1):
        past = at(kg, revision)
        assert passage(number).id not in past.documents()
        assert all(mention.document != passage(number).id for mention in past.mentions())
        assert all(piece.document != passage(number).id for fact in past.facts()
                   for piece in past.evidence(fact.head, fact.relation, fact.tail))
        old = saved.get(revision)
        if old:  # the other documents are as they were
            assert [document for document in old[8] if document.id != passage(number).id] == [
                past.document(id) for id in past.documents()]
    assert said(kg) == said(at(kg, kg.revision))


def test_what_was_deleted_before_the_purge_is_wiped_too(tmp_path):
    "Some builds of SQLite overwrite what they delete and some do not; rows of a document that came and went in one revision are deleted."
    kg = KnowledgeGraph(tmp_path / "graph.db")
    kg._rows("PRAGMA secure_delete = OFF")
    document = replace(load_clinic("graph")[0], id="secret")
    with kg.transaction("there and back"):
        add_gold(kg, document)
        kg.add_document(Document("other", "stays"))
        kg.forget("secret")
    kg._rows("PRAGMA wal_checkpoint(TRUNCATE)")
    assert traces(tmp_path, [document.text[:30]]) and kg.documents() == ["other"]
    purge(kg, "secret")
    assert not traces(tmp_path, [document.text[:30]])


def test_a_workspace_that_has_read_a_purged_document_has_no_trace_of_it(tmp_path):
    "The parts of a workspace that hold text: the graph, the log of answers, the events. What a skill has learnt is another matter."
    from kglearn.data import DictionaryEntry
    from kglearn.system import LearningSystem
    system = LearningSystem.create(tmp_path / "w", CLINIC_SCHEMA.types, CLINIC_SCHEMA, [
        DictionaryEntry("m:1", "medicine", ("metformin",)), DictionaryEntry("d:1", "disease", ("diabetes",))])
    secret = "Mrs Ashgrove takes metformin for diabetes."
    system.read([Document("secret-17", secret), Document("other", "Metformin treats diabetes.")])
    assert held(tmp_path, secret, "Ashgrove") == [secret, "Ashgrove"]
    system.forget("secret-17")
    assert purge(system.kg, "secret-17") == [] and held(tmp_path, secret, "Ashgrove", "secret-17") == []
    assert system.kg.documents() == ["other"]
    system.close()


def test_notes_and_trust_that_name_it_go_too(tmp_path):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    for id, source in (("letter 7", "Ashgrove's diary"), ("leaflet", "leaflets"), ("other", "leaflets")):
        with kg.transaction(f"read with care: {id}"):
            kg.add_document(Document(id, f"Text of {id}.", source))
    kg.set_trust(sources={"Ashgrove's diary": 0.5, "leaflets": 0.9})
    with kg.transaction("letter 77 is another one"):
        kg.add_document(Document("letter 77", "Another."))
    purge(kg, "letter 7"), purge(kg, "leaflet")
    assert not traces(tmp_path, ["Ashgrove", "care: letter 7", "Text of leaflet"]) and kg.trust["sources"] == {"leaflets": 0.9}
    assert [each.note for each in revisions(kg)][:2] == ["read with care: (purged)"] * 2 and revisions(kg)[4].note == "letter 77 is another one"


def test_what_others_know_too_stays(tmp_path):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    for id in ("one", "two"):
        kg.add_document(Document(id, "aspirin eases headache"))
        kg.add_mention(id, 0, 7, "medicine", "medicine:aspirin")
    kg.add_entity("symptom:headache", "headache", "symptom")
    kg.add_mention("one", 14, 22, "symptom", "symptom:headache")
    kg.add_fact("medicine:aspirin", "eases", "symptom:headache", Evidence("one", 0, 22, "pattern"))
    kg.add_fact("medicine:aspirin", "eases", "symptom:headache", Evidence("", 0, 0, "answer"))
    assert purge(kg, "one") == [] and kg.belief("medicine:aspirin", "eases", "symptom:headache") == pytest.approx(0.95)
    assert kg.documents() == ["two"] and len(kg.entities()) == 2


def test_purging_what_is_not_there_changes_nothing_and_can_be_repeated():
    kg = clinic_graph()
    before = said(kg)
    assert purge(kg, "nowhere") == [] and said(kg) == before
    purge(kg, "graph-001")
    after = said(kg)
    assert purge(kg, "graph-001") == [] and said(kg) == after


def test_purging_inside_a_transaction_is_refused():
    kg = clinic_graph()
    before = said(kg)
    with kg.transaction("outer"), pytest.raises(BadInput, match="end the transaction first"):
        purge(kg, "graph-001")
    assert said(kg) == before


def test_a_reader_in_the_way_is_named_and_the_next_purge_finishes(tmp_path, monkeypatch):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    document = replace(load_clinic("graph")[0], id="secret")
    add_gold(kg, document)
    other = sqlite3.connect(tmp_path / "graph.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM document").fetchone()
    kg._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(BadInput, match="purge again"):
        purge(kg, "secret")
    assert kg.documents() == []
    other.execute("COMMIT")
    purge(kg, "secret")
    assert held(tmp_path, document.text[:40]) == []


# Speed

def test_the_past_goes_through_the_same_indices():
    past, asked = at(clinic_graph(), 30), []
    past._db.set_trace_callback(asked.append)
    past.neighbors("medicine:metformin"), past.evidence("medicine:metformin", "treats", "disease:type 2 diabetes")
    past.within("medicine:metformin"), past.mentions(document="graph-001"), past.mentions(entity="medicine:metformin")
    past.entity("medicine:metformin"), past.document("graph-001"), past.find("high blood pressure")
    past._db.set_trace_callback(None)
    plans = {line[3] for statement in asked if statement.split()[0] in ("SELECT", "WITH")
             for line in past._db.execute(f"EXPLAIN QUERY PLAN {statement}")}
    assert any(line.startswith("SEARCH") for line in plans)
    assert not {line for line in plans if line.startswith("SCAN") and line.split()[1] in ("evidence", "mention", "entity", "document")}


def test_what_a_dictionary_says_of_an_entity_is_not_a_documents():
    kg = KnowledgeGraph()
    kg.add_entity("a", "a", "thing")
    for extractor, key in (("dictionary", "x:kept"), ("answer", "x:gone"), ("links", "x:guessed")):
        kg.add_document(Document("d", "flu"))
        kg.add_mention("d", 0, 3, "disease", key)
        kg.add_fact(key, "r", "a", Evidence("", 0, 0, extractor))
    assert purge(kg, "d") == ["x:gone", "x:guessed"] and [fact.head for fact in kg.facts()] == ["x:kept"]
