"""What no lesson about the store should carry: any order, any chunking, any name, and a crash at any instant."""
import html
import math
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import astuple, replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn import graph
from kglearn.data import BadInput, Document, Mention, Relation, clinic_lexicon, load_clinic
from kglearn.graph import (CLINIC_SCHEMA, Contradiction, Evidence, Fact, KnowledgeGraph, Rules, Schema, add_gold, belief_from, clinic_graph,
                           contradictions, noisy_or, posterior, roots)
from kglearn.history import at, diff, purge, revisions, touched_since
from kglearn.interchange import from_tables, neighborhood, to_tables
from kglearn.text import normalise

HOSTILE = ["'; DROP TABLE entity; --", '"', "''", "a\0b", "\0", "%", "_", "?1", ":key", "<script>alert(1)</script>",
           "</td>", "&amp;", "A\u030a", "ﬁ", "\u202eright", "头痛", "\U0001f469\u200d\u2695", "\n", " ", "NULL",
           "x" * 5000, "../../etc/passwd", "{}", "$x$", "\\"]
NAMES = [*HOSTILE, "flu", "cold", "asthma", "Metformin"]
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Documents whose entities have any names, are shared between documents, and are not always of one type


@st.composite
def documents(draw):
    found = []
    for number in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
        text, mentions = "", []
        for name in names:
            key, type = f"thing:{draw(st.sampled_from(NAMES))}", draw(st.sampled_from(["disease", "medicine", "<b>"]))
            mentions.append(Mention(len(text), len(text) + len(name), type, key))
            text += name + ". "
        ends = st.sampled_from([mention.entity for mention in mentions])
        relation = st.builds(Relation, ends, st.sampled_from(["treats", *HOSTILE[:3]]), ends)
        relations = draw(st.lists(relation, max_size=4))
        id = f"{draw(st.sampled_from(HOSTILE))} {number}"
        found.append(Document(id, text, "test", "", tuple(mentions), tuple(relations)))
    return found


def read(documents, kg=None):
    kg = kg or KnowledgeGraph()
    for document in documents:
        add_gold(kg, document)
    return kg


def said(kg):
    "Everything that can be asked of a graph."
    facts = list(kg.facts())
    return (kg.fingerprint(), kg.entities(), facts, kg.aliases(), kg.name_evidence(), kg.documents(),
            [kg.evidence(fact.head, fact.relation, fact.tail) for fact in facts],
            [replace(mention, revision=0) for mention in kg.mentions()], kg._repr_html_().partition("</caption>")[2])


@MANY
@given(documents(), st.randoms(use_true_random=False))
def test_any_order_and_any_chunks_give_the_same_graph(documents, chance):
    shuffled, kg = chance.sample(documents, len(documents)), KnowledgeGraph()
    while shuffled:
        chunk, shuffled = shuffled[:(size := chance.randint(1, 4))], shuffled[size:]
        with kg.transaction("chunk"):
            read(chunk, kg)
    assert said(kg) == said(read(documents))


@MANY
@given(documents(), st.integers(0, 5))
def test_a_dictionary_may_come_first_or_last(documents, number):
    entity = documents[number % len(documents)].mentions[0].entity
    graphs = [KnowledgeGraph(), read(documents)]
    for kg in graphs:
        kg.add_entity(entity, "its name", "disease", ["another", "its  NAME"])
    read(documents, graphs[0])
    assert said(graphs[0]) == said(graphs[1])
    assert graphs[0].entity(entity).name == "its name" and graphs[0].entity(entity).type == "disease"


@MANY
@given(documents(), st.integers(0, 5), st.booleans())
def test_forgetting_is_never_having_read(documents, number, in_a_dictionary_without_types):
    document = documents[number % len(documents)]

    def begun():
        kg = KnowledgeGraph()
        if in_a_dictionary_without_types:
            kg.add_entity(document.mentions[0].entity, "its name", "")
        return kg
    kg = read(documents, begun())
    assert kg.forget(document.id)
    assert said(kg) == said(read((other for other in documents if other != document), begun()))
    add_gold(kg, document)
    assert said(kg) == said(read(documents, begun()))


def test_an_entry_without_a_type_loses_that_of_forgotten_mentions():
    kg = KnowledgeGraph()
    kg.add_entity("x:1", "ache", "")
    kg.add_document(Document("d", "An ache."))
    kg.add_mention("d", 3, 7, "symptom", "x:1")
    assert kg.entity("x:1").type == "symptom"
    kg.forget("d")
    assert kg.entity("x:1").type == ""


def test_an_entry_without_a_type_is_joined_as_any_type_that_a_mention_gives_it():
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("x:1", "ache", ""), kg.add_entity("m", "aspirin", "medicine")
    kg.add_document(Document("d", "Ache, ache and aspirin."))
    with pytest.raises(BadInput, match="no 'treats' from medicine to "):
        kg.add_fact("m", "treats", "x:1", Evidence("d", 0, 23, "pattern"))
    kg.add_mention("d", 0, 4, "medicine", "x:1", "a"), kg.add_mention("d", 0, 4, "medicine", "x:1", "b"), kg.add_mention("d", 6, 10, "symptom", "x:1")
    kg.add_mention("d", 15, 22, "symptom", "m")
    assert kg.entity("x:1").type == "medicine" and kg.add_fact("m", "treats", "x:1", Evidence("d", 0, 23, "pattern"))
    with pytest.raises(BadInput, match="no 'treats' from medicine or symptom to medicine"):
        kg.add_fact("x:1", "treats", "m", Evidence("d", 0, 23, "pattern"))


@MANY
@given(documents())
def test_everything_is_idempotent(documents):
    kg = read(documents)
    before, revision = said(kg), kg.revision
    assert said(read(documents, kg)) == before and kg.revision == revision


@MANY
@given(documents(), st.integers(0, 5))
def test_a_failing_transaction_leaves_nothing(documents, number):
    document = documents[number % len(documents)]
    kg = read(other for other in documents if other != document)
    before, revision = said(kg), kg.revision
    with pytest.raises(ZeroDivisionError), kg.transaction("breaks"):
        kg.forget(documents[0].id)
        add_gold(kg, document)
        raise ZeroDivisionError
    assert said(kg) == before and kg.revision == revision
    add_gold(kg, document)
    assert kg.revision == revision + 1


def test_a_failing_step_of_a_transaction_leaves_nothing_but_the_rest():
    one, two = load_clinic("graph")[:2]
    kg = KnowledgeGraph()
    with kg.transaction("both"):
        add_gold(kg, one)
        with pytest.raises(BadInput):
            add_gold(kg, replace(two, mentions=(*two.mentions, Mention(0, 10**6, "disease", "x"))))
    assert said(kg) == said(read([one])) and kg.revision == 1
    with kg.transaction("nothing stays"), pytest.raises(BadInput):
        add_gold(kg, replace(two, mentions=(Mention(0, 10**6, "disease", "x"),)))
    assert kg.revision == 1, "what was taken back makes no revision"


def test_relations_whose_ends_nobody_names_are_left_out_and_counted():
    one = load_clinic("graph")[0]
    kg = KnowledgeGraph()
    assert add_gold(kg, replace(one, relations=(*one.relations, Relation("nobody", "treats", "nothing")))) == 1
    assert said(kg) == said(read([one])) and add_gold(kg, one) == 0


def test_threads_take_turns():
    documents, kg, halves, errors = load_clinic("graph"), KnowledgeGraph(), [], []
    size = {document.id: len(document.mentions) for document in documents}

    def write(part):
        try:
            for document in part:
                add_gold(kg, document)
                kg.add_entity(f"thing:{document.id}", document.id, "thing")
        except Exception as error:
            errors.append(error)

    def look():
        try:
            for _ in range(100):
                with kg.transaction():
                    halves.extend(id for id in kg.documents() if len(kg.mentions(id)) != size[id])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(documents[number::4],)) for number in range(4)]
    threads.append(threading.Thread(target=look))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and halves == [] and kg.revision == 80
    alone = read(documents)
    for document in documents:
        alone.add_entity(f"thing:{document.id}", document.id, "thing")
    assert kg.fingerprint() == alone.fingerprint()


# Merging

def everything(kg):
    return said(kg)[:-1], kg.dictionary(), kg.merges(), [(kg.neighbors(f"thing:{name}"), kg.within(f"thing:{name}"),
                                                          kg.find(name), kg.find(f"thing:{name}")) for name in NAMES]


@MANY
@given(documents(), st.data())
def test_merge_then_unmerge_changes_nothing(documents, data):
    kg = read(documents)
    keys = st.sampled_from([entity.key for entity in kg.entities()])
    pairs = data.draw(st.lists(st.tuples(keys, keys).filter(lambda pair: pair[0] != pair[1]), max_size=4, unique=True)
                      if len(kg.entities()) > 1 else st.just([]))
    states = [everything(kg)]
    for pair in pairs:
        assert kg.merge(*pair) and not kg.merge(*pair)
        states.append(everything(kg))
    for pair in reversed(pairs):
        assert everything(kg) == states.pop()
        assert kg.unmerge(*pair) and not kg.unmerge(*pair)
    assert everything(kg) == states.pop() == everything(read(documents))


@MANY
@given(documents(), st.data(), st.randoms(use_true_random=False))
def test_a_merged_graph_says_what_one_with_a_single_key_says(documents, data, chance):
    names = sorted({mention.entity for document in documents for mention in document.mentions})
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names))
                               .filter(lambda pair: pair[0] != pair[1]), max_size=5) if len(names) > 1 else st.just([]))
    kg, root = read(documents), roots(pairs)
    for pair in chance.sample(pairs, len(pairs)):
        kg.merge(*pair)
    single = read(replace(document, mentions=tuple(replace(m, entity=root.get(m.entity, m.entity)) for m in document.mentions),
                          relations=tuple(replace(r, head=root.get(r.head, r.head), tail=root.get(r.tail, r.tail))
                                          for r in document.relations)) for document in documents)
    # Where a relation's evidence is sought depends on what the mentions are called, so the sentences may differ.
    assert [entity.key for entity in kg.entities()] == [entity.key for entity in single.entities()]
    assert kg.entities() == single.entities() and kg.aliases() == single.aliases()
    assert kg.name_evidence() == single.name_evidence()
    assert {replace(fact, belief=0) for fact in kg.facts()} == {replace(fact, belief=0) for fact in single.facts()}
    assert [replace(m, revision=0) for m in kg.mentions()] == [replace(m, revision=0) for m in single.mentions()]
    for name in names:
        assert kg.entity(name) == single.entity(root.get(name, name))
        assert {(f.head, f.relation, f.tail) for f in kg.neighbors(name)} == {
            (f.head, f.relation, f.tail) for f in single.neighbors(root.get(name, name))}
        assert kg.within(name) == single.within(root.get(name, name))
        assert kg.mentions(entity=name) == [m for m in kg.mentions() if m.entity == root.get(name, name)]
    for fact in kg.facts():
        assert fact.belief == kg.belief(fact.head, fact.relation, fact.tail) and fact in kg.neighbors(fact.tail)


letters = st.sampled_from("abcdefg")


@given(st.lists(st.tuples(letters, letters), max_size=8), st.randoms(use_true_random=False))
def test_roots_are_those_of_the_connected_parts(merges, chance):
    groups = {key: {key} for pair in merges for key in pair}
    for kept, gone in merges:
        joined = groups[kept] | groups[gone]
        groups |= {key: joined for key in joined}
    never_gone = {key for key in groups if key not in {gone for _, gone in merges}}
    wanted = {key: min(group & never_gone or group) for key, group in groups.items()}
    assert roots(merges) == wanted == roots(chance.sample(merges, len(merges)))


def test_a_chain_of_a_hundred_thousand_merges_is_no_deep_recursion():
    chain = roots((f"{number:06}", f"{number + 1:06}") for number in range(100_000))
    assert set(chain.values()) == {"000000"} and len(chain) == 100_001


def test_answers_that_become_alike_count_once():
    kg = small()
    kg.add_entity("m2", "acetylsalicylic acid", "medicine")
    for key in ("m", "m2"):
        kg.add_fact(key, "treats", "s", Evidence("", 0, 0, "answer"))
        kg.add_fact(key, "treats", "s", Evidence("d", 0, 23, "pattern", 0.6 if key == "m" else 0.7))
    kg.merge("m", "m2")
    assert kg.belief("m", "treats", "s") == posterior(0.7, 1, 0) == next(kg.facts()).belief == kg.neighbors("s")[0].belief
    assert [(piece.extractor, piece.confidence) for piece in kg.evidence("m2", "treats", "s")] == [("answer", 0.9), ("pattern", 0.7)]


def test_a_merge_of_a_forgotten_entity_waits_for_it():
    one, two = load_clinic("graph")[:2]
    kg = read([one, two])
    keys = [next(key for key in (m.entity for m in document.mentions) if not any(key == m.entity for m in other.mentions))
            for document, other in ((one, two), (two, one))]
    kg.merge(*keys)
    merged = said(kg)
    kg.forget(two.id)
    assert said(kg)[:3] == said(read([one]))[:3]
    add_gold(kg, two)
    assert said(kg) == merged and kg.entity(keys[1]).key == keys[0]


# Rules, and what follows

@pytest.mark.parametrize("relations, rules, message", [
    ("", {"r": Rules(functional=True, transitive=True)}, "functional and transitive"),
    ("", {"r": Rules(functional=True, inverse="s"), "s": Rules(transitive=True)}, "functional and transitive"),
    ("", {"r": Rules(symmetric=True, inverse="s")}, "its own inverse"),
    ("", {"r": Rules(inverse="s"), "t": Rules(inverse="s")}, "inverse of both 'r' and 't'"),
    ("", {"r": Rules(inverse="s"), "s": Rules(inverse="t")}, "inverse of both"),
    ("", {"r": Rules(disjoint=("r",))}, "disjoint with itself"),
    ("rs", {"t": Rules(transitive=True)}, "'t', which is no relation"),
    ("rs", {"r": Rules(inverse="t")}, "'t', which is no relation"),
    ("rs", {"r": Rules(disjoint=("t",))}, "'t', which is no relation"),
    ("rs", {"r": Rules(inverse="s")}, "different types"),
    ("rs", {"r": Rules(symmetric=True)}, "different types"),
    ("q", {}, "joins z"),
])
def test_a_schema_that_contradicts_itself_is_refused(relations, rules, message, tmp_path):
    signatures = {"r": (("x",), ("y",)), "s": (("x",), ("y",)), "q": (("x",), ("z",))}
    with pytest.raises(BadInput, match=message):
        Schema(("x", "y"), {name: signatures[name] for name in relations}, rules)


def test_a_schema_keeps_its_rules_in_a_file(tmp_path):
    schema = Schema(("x",), {}, {"r": Rules("s", False, True, False, ("t", "u")), "v": Rules(functional=True)})
    KnowledgeGraph(tmp_path / "graph.db", schema).close()
    assert KnowledgeGraph(tmp_path / "graph.db").schema == schema
    (tmp_path / "schema.json").write_text('{"types": [], "rules": {"r": {"functional": true, "transitive": true}}}')
    with pytest.raises(BadInput, match="schema.json: the schema contradicts itself"):
        Schema.read(tmp_path / "schema.json")
    (tmp_path / "schema.json").write_text('{"types": [], "rules": {"r": {"reflexive": true}}}')
    with pytest.raises(BadInput, match="not a schema"):
        Schema.read(tmp_path / "schema.json")


KINSHIP = Schema((), {}, {"part": Rules(inverse="whole", transitive=True), "near": Rules(symmetric=True),
                          "like": Rules(symmetric=True, transitive=True), "one": Rules(functional=True),
                          "far": Rules(disjoint=("near",))})


@st.composite
def kinships(draw):
    kg = KnowledgeGraph(schema=KINSHIP)
    for key in "abcde":
        kg.add_entity(key, key, "letter")
    facts = draw(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["part", "whole", "near", "like", "one", "far"]),
                                    st.sampled_from("abcde"), st.sampled_from([.3, .5, .9])), max_size=9, unique_by=lambda f: f[:3]))
    kg.add_facts((*fact[:3], Evidence("", 0, 0, "dictionary", fact[3])) for fact in facts)
    return kg


def follows(kg):
    "The slow way: each way through the facts, and of those to the same fact the one most believed."
    stated = {(f.head, f.relation, f.tail): f.belief for f in kg.facts()}
    held = dict(stated)
    for (head, relation, tail), belief in stated.items():
        turned = {"part": "whole", "whole": "part", "near": "near", "like": "like"}.get(relation)
        if turned:
            held[tail, turned, head] = max(belief, held.get((tail, turned, head), 0))
    best = dict(held)
    for relation in ("part", "whole", "like"):
        for length in range(3, 6):
            for way in permutations("abcde", length):
                belief = math.prod(held.get((one, relation, two), 0) for one, two in zip(way, way[1:]))
                triple = (way[0], relation, way[-1])
                if belief > best.get(triple, 0):
                    best[triple] = belief
    return {triple: belief for triple, belief in best.items() if triple not in stated and triple[0] != triple[2]}


@MANY
@given(kinships())
def test_what_is_inferred_is_what_follows_by_the_likeliest_way(kg):
    found, before = kg.inferred(), said(kg)
    assert {(c.fact.head, c.fact.relation, c.fact.tail): pytest.approx(c.fact.belief) for c in found} == follows(kg)
    stated = list(kg.facts())
    for each in found:
        assert math.isclose(each.fact.belief, math.prod(fact.belief for fact in each.premises))
        assert set(each.premises) <= set(stated)
        assert (each.rule == "transitive") == (len(each.premises) > 1)
    for key in "abcde":
        about = [(c.fact.head, c.fact.relation, c.fact.tail) for c in found if key in (c.fact.head, c.fact.tail)]
        assert [(c.fact.head, c.fact.relation, c.fact.tail) for c in kg.inferred(key)] == about
    assert said(kg) == before, "nothing is stored"


@MANY
@given(kinships())
def test_contradictions_are_those_that_the_rules_name(kg):
    stated = {(f.head, f.relation, f.tail) for f in kg.facts()}
    held = stated | set(follows(kg))
    found = contradictions(kg)
    kinds = {each.kind for each in found}
    assert ("functional" in kinds) == any((h, "one", t) in held and (h, "one", u) in held for h in "abcde" for t in "abcde" for u in "abcde" if t != u)
    assert ("disjoint" in kinds) == any((h, "far", t) in held and (h, "near", t) in held for h in "abcde" for t in "abcde")
    part = {(h, t) for h, r, t in stated if r == "part"} | {(t, h) for h, r, t in stated if r == "whole"}
    reach = set(part)
    for _ in "abcde":
        reach |= {(h, u) for h, t in reach for s, u in part if s == t}
    assert ("cycle" in kinds) == any((key, key) in reach for key in "abcde")
    for each in found:
        assert {(f.head, f.relation, f.tail) for f in each.facts} <= stated
        assert each.evidence == tuple(tuple(kg.evidence(f.head, f.relation, f.tail)) for f in each.facts) and all(each.evidence)
    assert contradictions(kg, min_belief=1) == [] and kinds <= {"functional", "disjoint", "cycle"}


def test_a_long_ring_is_one_contradiction_with_all_its_facts():
    kg = KnowledgeGraph(schema=Schema(rules={"is_a": Rules(transitive=True)}))
    for key in range(60):
        kg.add_entity(f"{key:02}", "a thing", "thing")
    ring = [(f"{key:02}", "is_a", f"{(key + 1) % 60:02}") for key in range(60)]
    kg.add_facts((*fact, Evidence("", 0, 0, "dictionary")) for fact in ring)
    found, = contradictions(kg)
    assert found.kind == "cycle" and [(fact.head, fact.relation, fact.tail) for fact in found.facts] == ring


def test_within_goes_as_far_as_it_is_told():
    kg = clinic_graph()

    def far(key, hops):
        found = {key}
        for _ in range(hops):
            found |= {end for inner in found for fact in kg.neighbors(inner) for end in (fact.head, fact.tail)}
        return sorted(found - {key})
    for key in ("medicine:metformin", "disease:stroke", "no such key"):
        assert [kg.within(key, hops) for hops in range(4)] == [far(key, hops) for hops in range(4)]
    assert kg.within("medicine:metformin") == far("medicine:metformin", 2)


# Belief

chances = st.floats(0.001, 1).map(lambda chance: round(chance, 3))


@given(st.lists(chances, max_size=8))
def test_noisy_or_is_the_closed_form(confidences):
    wrong = 1.0
    for confidence in confidences:
        wrong *= 1 - confidence
    assert math.isclose(noisy_or(confidences), 1 - wrong, abs_tol=1e-12)
    assert max(confidences, default=0) - 1e-12 <= noisy_or(confidences) <= 1
    assert math.isclose(noisy_or(confidences), noisy_or(reversed(confidences)), abs_tol=1e-12)


@given(st.floats(0.001, 0.999), st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 0.49))
def test_posterior_is_bayes_rule(prior, yes, no, error):
    true = prior * (1 - error) ** yes * error ** no
    false = (1 - prior) * error ** yes * (1 - error) ** no
    assert math.isclose(posterior(prior, yes, no, error), true / (true + false), rel_tol=1e-6, abs_tol=1e-12)


pieces = st.builds(Evidence, st.sampled_from(["a", "b", "c"]), st.integers(0, 3), st.just(9),
                   st.sampled_from(["gold", "pattern", "answer"]), chances, st.sampled_from([1, -1]))


@given(st.lists(pieces), st.randoms(use_true_random=False), st.booleans())
def test_belief_is_the_closed_form_in_any_order(evidence, chance, at_once):
    kg = KnowledgeGraph()
    for name in "abc":
        kg.add_document(Document(name, "ten signs."))
        kg.add_entity(name, name, "letter")
    rows = [("a", "is", "b", piece) for piece in chance.sample(evidence, len(evidence))]
    different = len({replace(piece, confidence=1) for piece in evidence})
    assert (kg.add_facts(rows) if at_once else sum(kg.add_fact(*row) for row in rows)) == different
    assert len(kg.evidence("a", "is", "b")) == different
    stated = [piece for piece in evidence if piece.extractor != "answer" and piece.polarity == 1]
    best = [max((piece.confidence for piece in stated if piece.document == name), default=0) for name in "abc"]
    answers = [piece.polarity for piece in {replace(piece, confidence=1) for piece in evidence} if piece.extractor == "answer"]
    if not any(best) and not answers:
        assert kg.belief("a", "is", "b") == 0
        return
    prior = min(1 - math.prod(1 - confidence for confidence in best), 0.999) if any(best) else 0.5
    odds = prior / (1 - prior) * 19.0 ** sum(answers)
    assert math.isclose(kg.belief("a", "is", "b"), odds / (1 + odds), rel_tol=1e-9)
    assert kg.belief("a", "is", "b") == belief_from(kg.evidence("a", "is", "b"))
    assert kg.neighbors("b") == list(kg.facts())


@given(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=1, max_size=5), st.booleans())
def test_of_the_same_evidence_the_surer_is_believed_and_the_past_keeps_what_it_believed(confidences, forgotten):
    kg, seen = KnowledgeGraph(), []
    with kg.transaction("ends"):
        kg.add_document(Document("d", "ten signs."))
        for name in "ab":
            kg.add_entity(name, name, "letter")
    for number, confidence in enumerate(confidences):
        kg.add_fact("a", "is", "b", Evidence("d", 0, 3, "pattern", confidence))
        kg.add_mention("d", 0, 3, "letter", "a", "pattern", confidence)
        seen.append((kg.revision, kg.belief("a", "is", "b"), kg.mentions()[0].confidence))
        assert seen[-1][1:] == pytest.approx((max(confidences[:number + 1]),) * 2)
        assert len(kg.evidence("a", "is", "b")) == len(kg.mentions()) == 1
    if forgotten:
        kg.forget("d")
        assert kg.belief("a", "is", "b") == 0 and not kg.mentions()
    for revision, belief, confidence in seen:
        past = at(kg, revision)
        assert past.belief("a", "is", "b") == belief and past.mentions()[0].confidence == confidence
        past.close()


def test_what_is_surer_is_a_change_and_what_is_less_sure_is_none():
    kg = read([Document("d", "ab", mentions=(Mention(0, 1, "letter", "a"), Mention(1, 2, "letter", "b")))])
    kg.add_facts([("a", "is", "b", Evidence("d", 0, 2, "pattern", sure)) for sure in (0.5, 0.7, 0.6)])
    first = kg.revision
    assert not kg.add_fact("a", "is", "b", Evidence("d", 0, 2, "pattern", 0.6)) and kg.revision == first
    assert not kg.add_fact("a", "is", "b", Evidence("d", 0, 2, "pattern", 0.8)) and kg.revision == first + 1
    (before, after), = diff(kg, first, first + 1).facts.changed
    assert (before.belief, after.belief) == pytest.approx((0.7, 0.8))
    with kg.transaction("twice in one"):
        for sure in (0.9, 0.95, 0.85):
            kg.add_fact("a", "is", "b", Evidence("d", 0, 2, "pattern", sure))
    assert kg.belief("a", "is", "b") == pytest.approx(0.95) and len(kg._rows("SELECT 1 FROM evidence")) == 3


def test_a_fact_may_join_an_entity_to_itself():
    kg = KnowledgeGraph()
    kg.add_entity("a", "a", "letter")
    kg.add_fact("a", "is_a", "a", Evidence("", 0, 0, "dictionary", 0.5))
    assert kg.neighbors("a") == [Fact("a", "is_a", "a", 0.5)]


# Names

@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_bound_and_escaped(name):
    kg = KnowledgeGraph(schema=Schema((name,), {name: ((name,), (name,))}))
    kg.add_document(Document(name, name, name, name))
    kg.add_entity(name, name, name, [name], name)
    kg.add_mention(name, 0, len(name), name, name, name)
    kg.add_fact(name, name, name, Evidence(name, 0, len(name), name))
    assert kg.document(name) == Document(name, name, name, name)
    assert kg.entity(name) in kg.find(name) and kg.entity(name).name == kg.entity(name).description == name
    assert kg.mentions(name, name)[0].surface == name and math.isclose(kg.belief(name, name, name), 0.9)
    assert "<script>" not in kg._repr_html_() and "</td></td>" not in kg._repr_html_()
    kg.forget(name)
    assert kg.documents() == [] and kg.mentions() == [] and list(kg.facts()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_contradiction_shows_itself_escaped(name):
    found = Contradiction(name, (Fact(name, name, "x", 0.7), Fact("y", name, name, 0.25)),
                          ((Evidence(name, 0, 1, name), Evidence("", 0, 0, "answer", polarity=-1)), (Evidence("d", 0, 1, "p"),)))
    cells = [html.unescape(cell) for cell in re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", found._repr_html_(), re.S)]
    assert cells == [name, "belief", "for", "against", "documents", f"{name} > {name} > x", "0.70", "1", "1", name, f"y > {name} > {name}", "0.25", "1", "0", "d"]
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)\b)", found._repr_html_())


@pytest.mark.parametrize("many, shown", [(3, "d0, d1, d2"), (4, "d0, d1, d2 and 1 more"), (10, "d0, d1, d2 and 7 more")])
def test_a_contradiction_names_three_documents(many, shown):
    pieces = tuple(Evidence(f"d{number}", at, at + 1, "p") for number in range(many) for at in (0, 5))
    page = Contradiction("cycle", (Fact("a", "is_a", "a", 1.0),), (pieces,))._repr_html_()
    assert f">{shown}</td>" in page and f">{2 * many}</td>" in page and ">cycle</th>" in page


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_bound_in_merges_and_rules(name):
    other = name + "'"
    kg = KnowledgeGraph(schema=Schema(rules={name: Rules(transitive=True), other: Rules(disjoint=(name,))}))
    for key in (name, other, "x"):
        kg.add_entity(key, key, name)
    kg.add_facts((head, relation, tail, Evidence("", 0, 0, name))
                 for head, relation, tail in [(name, name, other), (other, name, "x"), (name, other, other)])
    before = everything(kg)
    assert [each.fact.tail for each in kg.inferred()] == ["x"] == [each.fact.tail for each in kg.inferred("x")]
    assert [each.kind for each in contradictions(kg)] == ["disjoint"] and kg.within(name) == sorted([other, "x"])
    kg.merge(name, other, name)
    assert kg.entity(other) == kg.entity(name) and kg.merges()[0].note == name
    assert "cycle" in [each.kind for each in contradictions(kg)]
    kg.unmerge(name, other)
    assert everything(kg) == before


def test_a_megabyte_of_name_is_a_name(tmp_path):
    name = "x" * 1_000_000
    kg = KnowledgeGraph(tmp_path / "graph.db")
    kg.add_document(Document(name, f"{name} {name}", name, name))
    kg.add_mention(name, 0, len(name), name, f"{name}:{name}", name)
    kg.add_fact(f"{name}:{name}", name, f"{name}:{name}", Evidence(name, 0, 9, name))
    kg.close()
    kg = KnowledgeGraph(tmp_path / "graph.db")
    assert kg.find(name) == kg.entities() and next(kg.facts()).relation == name and len(kg.fingerprint()) == 64


@pytest.mark.parametrize("ask", [
    lambda kg: kg.find("\ud800"), lambda kg: kg.entity("\ud800"), lambda kg: kg.neighbors("\ud800"),
    lambda kg: kg.forget("\ud800"), lambda kg: kg.add_document(Document("d", "half \ud800")),
    lambda kg: kg.add_entity("x", "\ud800", "t"), lambda kg: kg.within("\ud800"), lambda kg: kg.unmerge("\ud800", "x"),
    lambda kg: kg.merge("\ud800", "x"), lambda kg: kg.transaction("\ud800").__enter__().add_document(Document("d", "\ud800"))])
def test_half_a_character_is_bad_input(ask):
    kg = KnowledgeGraph()
    with pytest.raises(BadInput, match="surrogate"):
        ask(kg)
    assert kg.revision == 0 and kg.entities() == [] and kg.documents() == []


# What is refused

def small():
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_document(Document("d", "Aspirin eases headache."))
    kg.add_entity("m", "aspirin", "medicine")
    kg.add_entity("s", "headache", "symptom")
    return kg


@pytest.mark.parametrize("call, message", [
    (lambda kg: kg.add_fact("s", "treats", "m", Evidence("d", 0, 23, "gold")), "no 'treats' from symptom to medicine"),
    (lambda kg: kg.add_fact("m", "cures", "s", Evidence("d", 0, 23, "gold")), "choose one of causes"),
    (lambda kg: kg.add_fact("m", "treats", "x", Evidence("d", 0, 23, "gold")), "no entity 'x'"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("e", 0, 23, "gold")), "no document 'e'"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 24, "gold")), "lies outside"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "gold", 0)), "confidence"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "gold", float("nan"))), "confidence"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "answer", polarity=0)), "polarity"),
    (lambda kg: kg.add_facts([("m", "treats", "s", Evidence("d", 0, 23, "gold")), ("m", "treats", "x", Evidence("d", 0, 23, "gold"))]),
     "no entity 'x'"),
    (lambda kg: kg.add_facts([("m", "treats", "s", Evidence("d", 0, 23, "gold")), ("m", "treats", "s", Evidence("d", 22, 24, "gold"))]),
     "lies outside"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", -1, 5, "gold")), "lies outside"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 9, 5, "gold")), "lies outside"),
    (lambda kg: kg.add_mention("d", -1, 5, "medicine", "m"), "lies outside"),
    (lambda kg: kg.add_mention("d", 0.0, 5, "medicine", "m"), "whole numbers"),
    (lambda kg: kg.add_mention("d", 0, 5, None, "m"), "its type is None"),
    (lambda kg: kg.add_mention("d", 0, 5, "medicine", None), "its entity is None"),
    (lambda kg: kg.add_entity("k", None, "medicine"), "its name is None"),
    (lambda kg: kg.add_entity("k", "name", "medicine", [7]), "its alias is 7"),
    (lambda kg: kg.add_fact("m", None, "s", Evidence("d", 0, 23, "gold")), "without a relation"),
    (lambda kg: kg.add_fact("m", "", "s", Evidence("d", 0, 23, "gold")), "without a relation"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence(None, 0, 23, "gold")), "its document is None"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, None)), "its extractor is None"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "gold", None)), "confidence"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "gold", "0.5")), "confidence"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("d", 0, 2.5, "gold")), "whole numbers"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("", 0, 2 ** 70, "gold")), "lies outside"),
    (lambda kg: kg.add_fact("m", "treats", "s", Evidence("", -1, 0, "gold")), "lies outside"),
    (lambda kg: kg.add_document(Document("e", None)), "its text is None"),
    (lambda kg: kg.add_document(Document("e", "a text", source=None)), "its source is None"),
    (lambda kg: kg.add_document(Document(("e",), "a text")), "its id is"),
    (lambda kg: kg.add_entity("k", "name", "medicine", "alias"), "give a list of names"),
    (lambda kg: kg.merge("m", "m"), "with itself"),
    (lambda kg: kg.merge("m", "x"), "no entity 'x'"),
    (lambda kg: kg.merge("x", "m"), "no entity 'x'"),
    (lambda kg: kg.add_mention("d", 5, 5, "medicine", "m"), "lies outside"),
    (lambda kg: kg.add_mention("d", 5, 24, "medicine", "m"), "lies outside"),
    (lambda kg: kg.add_mention("e", 0, 1, "medicine", "m"), "no document 'e'"),
    (lambda kg: kg.add_entity("m", "aspirin", "disease"), "is a medicine"),
    (lambda kg: kg.document("e"), "add it first"),
])
def test_bad_calls_are_refused_and_change_nothing(call, message):
    kg = small()
    before, revision = said(kg), kg.revision
    with pytest.raises(BadInput, match=message):
        call(kg)
    assert said(kg) == before and kg.revision == revision


def test_a_yes_and_a_no_about_the_same_sentence_both_count():
    for polarities in ([1, -1], [-1, 1]):
        kg = small()
        for polarity in polarities:
            assert kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "answer", polarity=polarity))
        assert math.isclose(kg.belief("m", "treats", "s"), 0.5)


def test_another_text_under_the_same_id_takes_the_old_evidence_away():
    kg = small()
    kg.add_fact("m", "treats", "s", Evidence("d", 0, 23, "gold"))
    assert kg.add_document(Document("d", "Aspirin eases nothing."))
    assert kg.belief("m", "treats", "s") == 0 and kg.documents() == ["d"] and kg.document("d").text.endswith("nothing.")


def test_a_dictionary_without_types_takes_them_from_mentions():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "flu flu flu"))
    kg.add_entity("MESH:D007251", "influenza", "", ["flu"])
    assert kg.entity("MESH:D007251").type == ""
    for start, type in ((0, "Disease"), (4, "Disease"), (8, "Chemical")):
        kg.add_mention("d", start, start + 3, type, "MESH:D007251")
    assert kg.entity("MESH:D007251").type == "Disease"


# Files

def test_a_reopened_file_is_the_same_graph(tmp_path):
    path = tmp_path / "a folder; with 'quotes'" / "graph.db"
    path.parent.mkdir()
    kg = read(load_clinic("graph")[:9], KnowledgeGraph(path, CLINIC_SCHEMA))
    before = said(kg), kg.revision, kg.schema
    kg.close()
    again = KnowledgeGraph(path)
    assert (said(again), again.revision, again.schema) == before
    read(load_clinic("graph")[:10], again)
    assert again.revision == 10


def test_a_copy_of_a_file_lives_on_its_own(tmp_path):
    kg = read(load_clinic("graph")[:5], KnowledgeGraph(tmp_path / "graph.db", CLINIC_SCHEMA))
    twin, before = kg.copy(), said(kg)
    assert (said(twin), twin.revision, twin.schema) == (before, kg.revision, kg.schema)
    read(load_clinic("graph")[:9], twin)
    twin.forget_facts(kg.documents())
    assert said(kg) == before and KnowledgeGraph(tmp_path / "graph.db").fingerprint() == kg.fingerprint()
    assert twin.facts_in(kg.documents()[0]) == [] and twin.documents() == [d.id for d in load_clinic("graph")[:9]]


def test_answers_can_be_forgotten_without_the_rest():
    documents = load_clinic("graph")[:5]
    kg, fact = read(documents), next(read(documents).facts())
    before = said(kg)
    kg.forget_answers()
    assert said(kg) == before and kg.revision == 5
    kg.add_fact(fact.head, fact.relation, fact.tail, Evidence(documents[0].id, 0, 9, "answer", polarity=-1))
    kg.add_mention(documents[0].id, 0, 5, "disease", "", "answer", polarity=-1)
    assert said(kg) != before
    kg.forget_answers()
    assert said(kg) == before


def test_the_dictionary_comes_back_as_it_went_in():
    entries = clinic_lexicon()
    back = {entry.id: entry for entry in clinic_graph(parts=()).dictionary()}
    assert set(back) == {entry.id for entry in entries}
    assert all(back[entry.id].names[0] == entry.names[0] and back[entry.id].type == entry.type for entry in entries)


def test_a_file_and_memory_are_one_code_path(tmp_path):
    documents = load_clinic("graph")[:5]
    assert said(read(documents, KnowledgeGraph(tmp_path / "graph.db"))) == said(read(documents))


def test_a_reader_sees_the_last_complete_revision_while_another_writes(tmp_path):
    one, two = load_clinic("graph")[:2]
    writer = read([one], KnowledgeGraph(tmp_path / "graph.db"))
    with writer.transaction("two"):
        add_gold(writer, two)
        reader = KnowledgeGraph(tmp_path / "graph.db")
        assert reader.documents() == [one.id]
    assert said(reader) == said(writer)


def not_sqlite(path):
    path.write_text("Take one tablet twice a day.\n" * 99, encoding="utf-8")


def somebody_elses(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE holiday(picture BLOB)")
    database.close()


def of_another_format(path):
    KnowledgeGraph(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    database.close()


def cut_short(path):
    read(load_clinic("graph"), KnowledgeGraph(path)).close()
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("spoil, message", [(not_sqlite, "not a knowledge graph"), (somebody_elses, "another program"),
                                            (of_another_format, "format 99"),
                                            (lambda path: path.mkdir(), "cannot be opened"),
                                            (cut_short, "not a knowledge graph|cannot be opened")])
def test_a_file_that_is_no_graph_is_refused_and_left_alone(tmp_path, spoil, message):
    path = tmp_path / "graph.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(BadInput, match=message):
        list(KnowledgeGraph(path).facts())
    assert before is None or path.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="check the path"):
        KnowledgeGraph(tmp_path / "nowhere" / "graph.db")


WRITER = """
import sys, time
from kglearn.data import load_clinic
from kglearn.graph import KnowledgeGraph, add_gold
kg = KnowledgeGraph(sys.argv[1])
documents = load_clinic("graph")
for document in documents[:5]:
    add_gold(kg, document)
print(kg.fingerprint(), flush=True)
with kg.transaction("half done"):
    kg.forget(documents[0].id)
    for document in documents[5:]:
        add_gold(kg, document)
    print("in the middle", flush=True)
    time.sleep(60)
"""


def test_a_kill_in_the_middle_of_a_transaction_leaves_the_old_graph(tmp_path):
    command = [sys.executable, "-c", WRITER, tmp_path / "graph.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        fingerprint = process.stdout.readline().strip()
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
    kg = KnowledgeGraph(tmp_path / "graph.db")
    assert kg.fingerprint() == fingerprint and kg.revision == 5
    read(load_clinic("graph"), kg)
    assert kg.fingerprint() == read(load_clinic("graph")).fingerprint()


STREAM = """
import sys
from kglearn.data import load_clinic
from kglearn.graph import KnowledgeGraph, add_gold
print("started", flush=True)
kg = KnowledgeGraph(sys.argv[1])
for document in load_clinic("graph") * 1000:
    kg.forget(document.id)
    add_gold(kg, document)
    kg.merge(*sorted({mention.entity for mention in document.mentions})[:2])
    print(kg.revision, kg.fingerprint(), flush=True)
"""


@pytest.mark.parametrize("seed", range(int(os.environ.get("KGLEARN_KILLS", 10))))
def test_a_kill_at_any_instant_loses_nothing_that_was_acknowledged(tmp_path, seed):
    with subprocess.Popen([sys.executable, "-c", STREAM, tmp_path / "graph.db"], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        try:
            process.wait(random.Random(seed).uniform(0, 0.5))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        told = [line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    kg = KnowledgeGraph(tmp_path / "graph.db")
    assert kg._rows("PRAGMA integrity_check") == [("ok",)]
    for revision, fingerprint in told[-1:]:
        assert kg.revision >= int(revision) and at(kg, int(revision)).fingerprint() == fingerprint
    kept = set(kg.documents())
    for merge in kg.merges():
        kg.unmerge(merge.kept, merge.gone)
    assert kg.fingerprint() == read(document for document in load_clinic("graph") if document.id in kept).fingerprint()


HALF = """
import sys
from kglearn.data import load_clinic
from kglearn.graph import KnowledgeGraph, add_gold
print("ready", flush=True)
sys.stdin.readline()
kg = KnowledgeGraph(sys.argv[1])
for document in load_clinic("graph")[int(sys.argv[2])::3]:
    add_gold(kg, document)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    "Three of them, which also open the new file at the same moment."
    started = [subprocess.Popen([sys.executable, "-c", HALF, tmp_path / "graph.db", str(part)], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for part in range(3)]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in started] == [0, 0, 0]
    for process in started:
        process.stdin.close(), process.stdout.close()
    kg = KnowledgeGraph(tmp_path / "graph.db")
    assert kg.fingerprint() == read(load_clinic("graph")).fingerprint() and kg.revision == 40
    assert [each.number for each in revisions(kg)] == list(range(1, 41))


def test_a_writer_who_waits_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("kglearn.graph.PATIENCE", 0.05)
    first, second = (KnowledgeGraph(tmp_path / "graph.db") for _ in range(2))
    with first.transaction("long"):
        first.add_entity("x", "x", "thing")
        with pytest.raises(BadInput, match="who else holds the file"):
            second.add_entity("y", "y", "thing")
    assert second.add_entity("y", "y", "thing") and len(first.entities()) == 2


# Speed: what grows with the graph is never gone through from end to end

@pytest.mark.parametrize("ask", [
    lambda kg: kg.neighbors("medicine:metformin"),
    lambda kg: kg.evidence("medicine:metformin", "treats", "disease:type 2 diabetes"),
    lambda kg: kg.belief("medicine:metformin", "treats", "disease:type 2 diabetes"),
    lambda kg: kg.mentions(document="graph-001"),
    lambda kg: kg.mentions(entity="medicine:metformin"),
    lambda kg: kg.mentions("graph-001", "medicine:metformin"),
    lambda kg: kg.find("high blood pressure"),
    lambda kg: kg.entity("medicine:metformin"),
    lambda kg: kg.document("graph-001"),
    lambda kg: kg.forget("graph-001"),
    lambda kg: kg.add_mention("graph-002", 0, 5, "disease", "disease:new"),
    lambda kg: kg.revision,
    lambda kg: kg.within("medicine:metformin"),
    lambda kg: kg.merge("medicine:metformin", "medicine:aspirin"),
    lambda kg: kg.unmerge("medicine:metformin", "medicine:aspirin"),
    lambda kg: kg.add_fact("medicine:metformin", "treats", "disease:stroke", Evidence("graph-001", 0, 5, "gold")),
    lambda kg: kg.add_entity("medicine:metformin", "metformin", "medicine", ["glucophage"], "lowers sugar"),
    lambda kg: kg.inferred("medicine:metformin"),
], ids=lambda ask: "".join(name for name in ask.__code__.co_names))
def test_questions_use_an_index(ask):
    kg, asked = clinic_graph(), []
    kg._db.set_trace_callback(asked.append)
    ask(kg)
    kg._db.set_trace_callback(None)
    asked = [statement for statement in asked if statement.split()[0] in ("SELECT", "UPDATE", "INSERT", "WITH")]
    plans = {line[3]: statement for statement in asked for line in kg._db.execute(f"EXPLAIN QUERY PLAN {statement}")}
    tables = ("document", "entity", "alias", "mention", "evidence", "description", "e")
    scans = {line: asked for line, asked in plans.items() if line.startswith("SCAN") and line.split()[1] in tables}
    assert asked and not scans


# Trust in sources and extractors

SOURCES, EXTRACTORS = ("", "blog", HOSTILE[0]), ("pattern", "gold", HOSTILE[9])
TRIPLE = ("a", "r", "b")
factors = st.dictionaries(st.sampled_from(SOURCES), st.sampled_from([0, 0.25, 0.5, 1]))
bolder = st.dictionaries(st.sampled_from(EXTRACTORS), st.sampled_from([0, 0.5, 1, 1.5, 40.0]))
heard = st.lists(st.tuples(st.sampled_from(SOURCES), st.sampled_from(EXTRACTORS), st.sampled_from([0.05, 0.5, 0.9, 1.0]),
                           st.integers(0, 3)), max_size=6)
votes = st.lists(st.sampled_from([1, -1]), max_size=3)


def witnessed(heard, votes, path=None):
    "A fact with evidence in documents that are named by source and number, and answers."
    kg = KnowledgeGraph(path)
    for key in "ab":
        kg.add_entity(key, key, "thing")
    for place, (source, extractor, confidence, number) in enumerate(heard):
        id = f"{source} {number}"
        kg.add_document(Document(id, "a r b, a r b", source))
        kg.add_fact(*TRIPLE, Evidence(id, place, place + 5, extractor, confidence))
    for number, vote in enumerate(votes):
        kg.add_fact(*TRIPLE, Evidence("", number, number, "answer", 0.95, vote))
    return kg


@MANY
@given(heard, votes, factors, bolder)
def test_trust_multiplies_confidence_before_the_noisy_or(heard, votes, sources, extractors):
    kg = witnessed(heard, votes)
    kg.set_trust(sources, extractors)
    best = {}
    for source, extractor, confidence, number in heard:
        trusted = min(confidence * sources.get(source, 1) * extractors.get(extractor, 1), 1)
        best[source, number] = max(best.get((source, number), 0), trusted)
    expected = min(1 - math.prod(1 - confidence for confidence in best.values()), 0.999)
    if votes:
        expected = posterior(max(expected, 0.001) if best else 0.5, votes.count(1), votes.count(-1))
    assert math.isclose(kg.belief(*TRIPLE), expected, abs_tol=1e-12)
    found = [kg.belief(*TRIPLE)] if heard or votes else []
    assert [fact.belief for fact in kg.facts()] == [fact.belief for fact in kg.neighbors("a")] == found
    assert all(fact.belief == belief_from(pieces, kg.trust_in) for fact, pieces in kg.facts_with_evidence())


@MANY
@given(heard, votes, st.sampled_from(SOURCES), st.sampled_from(EXTRACTORS), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_belief_never_falls_with_trust(heard, votes, source, extractor, two):
    kg, found = witnessed(heard, votes), []
    for factor in sorted(two):
        kg.set_trust({source: factor}, {extractor: 2 * factor})
        found.append(kg.belief(*TRIPLE))
    assert found[0] <= found[1] + 1e-12


@MANY
@given(documents(), factors, bolder)
def test_full_trust_is_the_beginning_and_no_trust_says_nothing_else(documents, sources, extractors):
    kg, before = read(documents), said(read(documents))
    fingerprint = kg.fingerprint()
    kg.set_trust(sources, extractors)
    assert kg.fingerprint() == fingerprint and [kg.evidence(*fact[:3]) for fact in map(astuple, kg.facts())] == before[6]
    kg.set_trust(dict.fromkeys(sources, 1), dict.fromkeys(extractors, 1.0))
    assert said(kg) == before and kg.trust == {"sources": {}, "extractors": {}}


def test_trust_is_kept_in_the_file_and_seen_by_who_has_it_open(tmp_path):
    kg = witnessed([("blog", "pattern", 0.8, 0)], [], tmp_path / "graph.db")
    other = KnowledgeGraph(tmp_path / "graph.db")
    kg.set_trust(sources={"blog": 0.5})
    assert other.belief(*TRIPLE) == kg.belief(*TRIPLE) == pytest.approx(0.4) and other.trust == kg.trust
    kg.close(), other.close()
    again = KnowledgeGraph(tmp_path / "graph.db")
    assert again.trust == {"sources": {"blog": 0.5}, "extractors": {}} and again.belief(*TRIPLE) == pytest.approx(0.4)
    assert again.copy().trust == again.trust and again.copy().belief(*TRIPLE) == again.belief(*TRIPLE)


def test_a_file_from_before_there_were_trust_and_descriptions_is_opened_and_gets_them(tmp_path):
    kg = witnessed([("blog", "pattern", 0.8, 0)], [], tmp_path / "graph.db")
    before = said(kg)
    kg._rows("DROP TABLE trust"), kg._rows("DROP TABLE description")
    kg.close()
    older = KnowledgeGraph(tmp_path / "graph.db")
    assert said(older) == before and older.set_trust(sources={"blog": 0.5}) and older.belief(*TRIPLE) == pytest.approx(0.4)
    assert older.add_entity("a", "a", "thing", description="the first letter") and older.entity("a").description == "the first letter"


def test_the_past_keeps_the_trust_of_its_time():
    kg = witnessed([("blog", "pattern", 0.8, 0), ("paper", "gold", 0.5, 0)], [])
    start = kg.revision
    kg.set_trust(sources={"blog": 0.5})
    kg.set_trust(sources={"blog": 0.25}, extractors={"gold": 1.2})
    assert kg.revision == start + 2, "each decision is a revision"
    beliefs = [noisy_or(pair) for pair in ((0.8, 0.5), (0.4, 0.5), (0.2, 0.6))]
    for number, expected in enumerate(beliefs):
        past = at(kg, start + number)
        assert math.isclose(past.belief(*TRIPLE), expected) and math.isclose(next(past.facts()).belief, expected)
        assert math.isclose(past.copy().belief(*TRIPLE), expected) and past.copy().trust == past.trust
    (was, now), = diff(kg, start, start + 2).facts.changed
    assert (was.belief, now.belief) == (pytest.approx(beliefs[0]), pytest.approx(beliefs[2]))
    assert diff(kg, start + 1, start + 2).facts.changed and not diff(kg, start + 1, start + 1).facts.changed


def test_a_source_that_is_gone_or_trusted_elsewhere_changes_nothing():
    kg = witnessed([("blog", "pattern", 0.8, 0)], [])
    kg.set_trust(sources={"blog": 0.5, "unheard of": 0.1})
    kg.forget("blog 0")
    assert list(kg.facts()) == []
    kg.add_document(Document("blog 0", "a r b", "paper"))
    kg.add_fact(*TRIPLE, Evidence("blog 0", 0, 5, "pattern", 0.8))
    assert kg.belief(*TRIPLE) == pytest.approx(0.8), "the same document, now said to come from a paper"


@pytest.mark.parametrize("kind", ["sources", "extractors"])
@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf"), "0.5", None, True, 1j])
def test_a_trust_that_means_nothing_is_refused(kind, factor):
    kg = witnessed([("blog", "pattern", 0.8, 0)], [])
    before = kg.revision
    with pytest.raises(BadInput, match="give a number from 0"):
        kg.set_trust(**{kind: {"pattern": 0.5, "blog": factor}})
    assert kg.revision == before and kg.trust == {"sources": {}, "extractors": {}}


@pytest.mark.parametrize("wrong, message", [({"sources": {"blog": 1.01}}, "from 0 to 1"), ({"sources": {1: 0.5}}, "trust in source 1"),
                                            ({"extractors": {"answer": 0.5}}, "leave 'answer' out")])
def test_other_trust_that_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        KnowledgeGraph().set_trust(**wrong)


def test_deciding_the_same_again_is_no_revision():
    kg = KnowledgeGraph()
    assert kg.set_trust(sources={"blog": 0.5}) and not kg.set_trust(sources={"blog": 0.5}) and not kg.set_trust()
    assert kg.revision == 1 and kg.set_trust(sources={"paper": 0.9}) and kg.trust["sources"] == {"blog": 0.5, "paper": 0.9}
    with pytest.raises(ZeroDivisionError), kg.transaction():
        kg.set_trust(sources={"blog": 0})
        raise ZeroDivisionError
    assert kg.trust["sources"]["blog"] == 0.5


# The short way past merges, all evidence at once, names as written


@MANY
@given(documents())
def test_with_no_merges_the_short_way_answers_as_the_long_one(documents):
    from kglearn import graph
    kg = read(documents)
    keys = [entity.key for entity in kg.entities()]

    def everything():
        return (said(kg), kg.mentions(), kg.dictionary(), [kg.neighbors(key) for key in keys], [kg.within(key) for key in keys],
                [kg.find(name) for name in NAMES], [kg.names(key) for key in keys], [kg.facts_in(id) for id in kg.documents()])
    short = everything()
    kg._look = lambda: (graph._MERGING, None)
    assert everything() == short


@MANY
@given(documents(), st.randoms(use_true_random=False))
def test_all_evidence_at_once_is_that_of_each_fact(documents, chance):
    kg = read(documents)
    if len(keys := [entity.key for entity in kg.entities()]) > 1:
        kg.merge(*chance.sample(keys, 2))
    assert list(kg.facts_with_evidence()) == [(fact, kg.evidence(fact.head, fact.relation, fact.tail)) for fact in kg.facts()]


@MANY
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
def test_names_are_those_that_were_written(names, others):
    kg = KnowledgeGraph()
    kg.add_entity("x", names[0], "thing", names)
    kg.add_entity("y", others[0], "thing", others)
    assert kg.names("x")[0] == names[0] and set(kg.names("x")) <= set(names)
    assert sorted(map(normalise, kg.names("x"))) == sorted({*map(normalise, names)}), "one for each form"
    assert [(entry.id, entry.names) for entry in kg.dictionary()] == [(key, kg.names(key)) for key in "xy"]
    kg.merge("x", "y")
    assert kg.names("y") == kg.names("x") == kg.dictionary()[0].names and kg.names("x")[0] == names[0]
    assert {*map(normalise, kg.names("x"))} == {*map(normalise, names), *map(normalise, others)}


def test_a_description_is_the_latest_that_was_given_and_goes_with_a_merge():
    kg = KnowledgeGraph()
    kg.add_entity("x", "x", "thing", description="one")
    kg.add_entity("y", "y", "thing")
    assert not kg.add_entity("x", "x", "thing") and not kg.add_entity("x", "x", "thing", description="one") and kg.revision == 2
    said = kg.fingerprint()
    assert kg.add_entity("x", "x", "thing", description="two") and kg.fingerprint() != said
    assert [kg.entity(key).description for key in "xy"] == ["two", ""] == [entry.description for entry in kg.dictionary()]
    assert at(kg, 1).entity("x").description == "one" == at(kg, 1).copy().entity("x").description
    (before, after), = diff(kg, 2, 3).entities.changed
    assert (before.description, after.description) == ("one", "two") and touched_since(kg, 2).entities == ("x",)
    kg.merge("y", "x")
    assert kg.entity("x").description == "two" == kg.dictionary()[0].description, "y has none of its own"
    kg.add_entity("y", "y", "thing", description="three")
    assert kg.entity("x").description == "three" == kg.entities()[0].description == kg.copy().entity("y").description
    kg.unmerge("y", "x")
    assert [kg.entity(key).description for key in "xy"] == ["two", "three"]


def test_names_of_what_only_documents_name_are_their_spellings():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "Flu flu Flu grippe"))
    for start, end, polarity in ((0, 3, 1), (4, 7, 1), (8, 11, 1), (12, 18, 1), (12, 18, -1)):
        kg.add_mention("d", start, end, "disease", "flu", "answer", 1.0, polarity)
    assert kg.names("flu") == ("Flu", "grippe")
    with pytest.raises(BadInput, match="no entity"):
        kg.names("cold")


# The door: what is refused before anything is written, and what a path means

def four(path=None):
    kg = KnowledgeGraph(path)
    for key in "abcd":
        kg.add_entity(key, key, "thing")
    return kg


@pytest.mark.parametrize("path", [":memory:", None])
def test_a_graph_in_memory_has_a_past(path):
    kg = four(path)
    assert kg.path is None and len(at(kg, 4).entities()) == 4 and len(at(kg, 2).entities()) == 2
    assert len(diff(kg, 0, 4).entities.new) == 4 and not Path(":memory:").exists()


def test_the_past_is_found_from_another_working_directory(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    kg = four("graph.db")
    monkeypatch.chdir(tmp_path / "two")
    assert len(at(kg, 4).entities()) == 4 and list((tmp_path / "two").iterdir()) == []
    (tmp_path / "one" / "graph.db").unlink()
    with pytest.raises(BadInput, match="is gone"):
        at(kg, 0)


def test_a_graph_without_a_name_is_refused_and_a_graph_closes_itself(tmp_path):
    with pytest.raises(BadInput, match="without a name"):
        KnowledgeGraph("")
    with KnowledgeGraph(tmp_path / "graph.db") as kg:
        kg.add_entity("a", "a", "thing")
    with pytest.raises(sqlite3.ProgrammingError):
        kg.entities()


def test_a_schema_is_only_written_where_it_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr("kglearn.graph.PATIENCE", 0.1)
    schema = Schema(("thing",), {"r": ((), ())})
    kg = KnowledgeGraph(tmp_path / "graph.db", schema)
    with kg.transaction():
        kg.add_entity("a", "a", "thing")
        assert KnowledgeGraph(tmp_path / "graph.db", schema).schema == schema
        with pytest.raises(BadInput, match="cannot be written .*locked.*see who else"):
            KnowledgeGraph(tmp_path / "graph.db", Schema(("thing",)))


def test_of_many_facts_or_mentions_one_bad_one_keeps_all_out():
    kg = four()
    kg.add_document(Document("d", "a b"))
    good = [("a", f"r{number}", "b", Evidence("", 0, 0, "dictionary")) for number in range(10_001)]
    with kg.transaction("a larger one"):
        with pytest.raises(BadInput, match="no entity 'nobody'"):
            kg.add_facts([*good, ("a", "r", "nobody", Evidence("", 0, 0, "dictionary"))])
        with pytest.raises(BadInput, match="lies outside"):
            kg.add_mentions("d", [(0, 1, "thing", "new", "gold", 1.0, 1), (2, 9, "thing", "", "gold", 1.0, 1)])
        kg.add_mention("d", 2, 3, "thing", "b")
    assert list(kg.facts()) == [] and [mention.entity for mention in kg.mentions()] == ["b"] and not kg.find("new")
    assert kg.add_mentions("d", [(0, 1, "thing", "a", "gold", 1.0, 1), (2, 3, "thing", "b", "gold", 1.0, 1)]) == 1, "one is there already"


@pytest.mark.parametrize("act", [
    lambda kg: kg.add_document(Document("", "text")), lambda kg: kg.forget(""), lambda kg: kg.forget_facts([""]), lambda kg: purge(kg, ""),
    lambda kg: kg.add_entity("", "name", "thing")])
def test_the_empty_id_stands_for_none_and_is_refused(act):
    kg = four()
    kg.add_fact("a", "r", "b", Evidence("", 0, 0, "dictionary"))
    kg.add_fact("c", "r", "d", Evidence("", 0, 0, "answer", 0.95))
    before = said(kg)
    with pytest.raises(BadInput, match="without an id|empty key"):
        act(kg)
    assert said(kg) == before


@pytest.mark.parametrize("confidence, polarity", [(7.0, 1), (0.0, 1), (-0.5, 1), (float("nan"), 1), (0.5, 0)])
def test_mentions_with_numbers_that_mean_nothing_are_refused(confidence, polarity):
    kg = four()
    kg.add_document(Document("d", "a"))
    with pytest.raises(BadInput, match="needs a confidence above 0"):
        kg.add_mention("d", 0, 1, "thing", "a", "pattern", confidence, polarity)
    assert kg.mentions() == []


def test_the_least_confidence_is_kept_above_nought():
    kg = four()
    kg.add_document(Document("d", "a"))
    kg.add_mention("d", 0, 1, "thing", "a", "pattern", 0.0001), kg.add_fact("a", "r", "b", Evidence("", 0, 0, "pattern", 0.0004))
    assert kg.mentions()[0].confidence == kg.evidence("a", "r", "b")[0].confidence == 0.001
    assert from_tables(to_tables(kg)).fingerprint() == kg.fingerprint()


def test_a_source_that_is_told_later_is_kept():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "a text"))
    kg.add_mention("d", 0, 1, "letter", "a")
    assert not kg.add_document(Document("d", "a text", "journal", "2020")) and kg.document("d") == Document("d", "a text", "journal", "2020")
    assert not kg.add_document(Document("d", "a text")) and kg.document("d").source == "journal" and len(kg.mentions()) == 1
    assert kg.revision == 3 and at(kg, 2).document("d").source == ""


def test_a_relation_that_the_schema_does_not_have_is_refused_between_untyped_entities_too():
    assert not CLINIC_SCHEMA.allows("", "treets", "") and not CLINIC_SCHEMA.allows("", "treats", "") and CLINIC_SCHEMA.allows("", "is_a", "")


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"types": "disease"}', '{"types": [], "relations": {"treats": ["medicine", "disease"]}}',
                                  '{"types": [], "relatons": {}}', '{"types": [], "rules": {"treats": {"symmetric": "yes"}}}',
                                  '{"types": [], "rules": {"treats": {"inverse": 1}}}', '{"types": [], "rules": {"treats": {"transitive": 1}}}',
                                  '{"types": [], "relations": {"treats": [["medicine"]]}}', '{"types": [], "rules": {"treats": {"disjoint": "causes"}}}'])
def test_what_is_no_schema_is_said_to_be_none(text):
    with pytest.raises(BadInput, match="not a schema"):
        Schema.from_json(text)


def test_a_schema_has_two_lists_of_types_for_each_relation():
    for sides in (("medicine", "disease"), (("medicine",),), (("medicine",), "disease")):
        with pytest.raises(BadInput, match="two lists"):
            Schema(relations={"treats": sides})
    with pytest.raises(BadInput, match="not a schema"):
        Schema.from_json("[" * 100_000)


def test_what_follows_is_asked_by_either_key_of_a_merge():
    kg = KnowledgeGraph(schema=Schema(rules={"is_a": Rules(transitive=True)}))
    for key in "abcd":
        kg.add_entity(key, key, "thing")
    kg.add_fact("a", "is_a", "b", Evidence("", 0, 0, "dictionary")), kg.add_fact("b", "is_a", "c", Evidence("", 0, 0, "dictionary"))
    kg.merge("a", "d")
    assert kg.inferred("d") == kg.inferred("a") and [each.fact.tail for each in kg.inferred("d")] == ["c"]
    assert set(neighborhood(kg, "d")) == set(neighborhood(kg, "a")) == {"a", "b"}
    assert kg.inferred("nobody") == []


def test_gold_stands_in_the_first_sentence_that_names_both():
    text = "  Flu is common. Fever too. Flu brings fever. Flu, fever."
    places = [(2, 5, "f"), (17, 22, "h"), (28, 31, "f"), (39, 44, "h"), (46, 49, "f"), (51, 56, "h")]
    mentions = tuple(Mention(start, end, "x", f"x:{key}") for start, end, key in places)
    kg = KnowledgeGraph()
    add_gold(kg, Document("d", text, "", "", mentions, (Relation("x:f", "r", "x:h"), Relation("x:h", "r", "x:h"))))
    spans = [(piece.start, piece.end) for tail in ("x:f", "x:h") for piece in kg.evidence(tail, "r", "x:h")]
    assert [text[start:end] for start, end in spans] == ["Flu brings fever.", "Fever too."]


def test_a_key_finds_its_own_entity_while_others_are_merged():
    kg = KnowledgeGraph()
    for key in "abcd":
        kg.add_entity(key, f"{key} thing", "thing")
    kg.merge("c", "d")
    assert [[entity.key for entity in kg.find(key)] for key in "abcd"] == [["a"], ["b"], ["c"], ["c"]]


def test_numbers_of_numpy_are_kept_as_numbers():
    kg = small()
    kg.add_fact("m", "treats", "s", Evidence("d", np.int64(0), np.int32(23), "x", np.float32(0.9), np.int64(1)))
    kg.add_mention("d", np.int64(0), np.int64(7), "medicine", "m", "x", Fraction(9, 10), np.int8(1))
    assert [fact.belief for fact in kg.facts()] == [pytest.approx(0.9)] and kg.evidence("m", "treats", "s") == [Evidence("d", 0, 23, "x", 0.9, 1)]
    assert [(mention.start, mention.end, mention.confidence, mention.polarity) for mention in kg.mentions()] == [(0, 7, 0.9, 1)]


def test_a_dictionary_as_given_knows_nothing_of_merges_and_mentions():
    kg = KnowledgeGraph()
    kg.add_entity("a", "flu", "disease"), kg.add_entity("b", "influenza", ""), kg.add_entity("c", "grippe", "disease")
    kg.add_document(Document("d", "influenza"))
    kg.add_mention("d", 0, 9, "symptom", "b")
    before = kg.dictionary(as_given=True)
    kg.merge("a", "c")
    assert [(entry.id, entry.type, entry.names) for entry in before] == [("a", "disease", ("flu",)), ("b", "", ("influenza",)), ("c", "disease", ("grippe",))]
    assert kg.dictionary(as_given=True) == before != kg.dictionary()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_gold_is_judged_by_its_own_labels_whatever_was_read_before(order):
    gold = [Document("1", "x y", mentions=(Mention(0, 1, "disease", "x"), Mention(2, 3, "disease", "y")), relations=(Relation("x", "treats", "y"),)),
            Document("2", "x", mentions=(Mention(0, 1, "medicine", "x"),), relations=())]
    kg, refused = KnowledgeGraph(schema=CLINIC_SCHEMA), []
    for number in order:
        try:
            add_gold(kg, gold[number])
        except BadInput as error:
            refused.append(str(error))
    assert len(refused) == 1 and "no 'treats' from disease to disease" in refused[0] and kg.documents() == ["2"]


def test_facts_are_judged_by_the_key_that_they_are_about_and_not_by_a_merge():
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("d", "flu", "disease"), kg.add_entity("m", "aspirin", "medicine"), kg.add_entity("s", "ache", "symptom")
    kg.merge("d", "m")
    assert kg.add_fact("m", "treats", "s", Evidence("", 0, 0, "dictionary"))
    kg.unmerge("d", "m")
    assert [(fact.head, fact.tail) for fact in kg.facts()] == [("m", "s")] and contradictions(kg) == []


def test_a_long_chain_is_no_contradiction_and_costs_little():
    kg = KnowledgeGraph(schema=Schema(rules={"is_a": Rules(transitive=True), "part": Rules(functional=True)}))
    for key in range(1500):
        kg.add_entity(f"{key:04}", "a thing", "thing")
    kg.add_facts((f"{key:04}", "is_a", f"{key + 1:04}", Evidence("", 0, 0, "dictionary")) for key in range(1499))
    kg.add_fact("0000", "part", "0001", Evidence("", 0, 0, "dictionary")), kg.add_fact("0000", "part", "0002", Evidence("", 0, 0, "dictionary"))
    with mock.patch.object(graph, "_chains", wraps=graph._chains) as chains:
        assert [(each.kind, len(each.facts)) for each in contradictions(kg)] == [("functional", 2)]
    assert not any(call.args[1] == "is_a" for call in chains.call_args_list)


def test_the_work_of_adding_facts_does_not_grow_with_the_mentions_of_their_ends():
    def steps(documents):
        kg, done = KnowledgeGraph(schema=CLINIC_SCHEMA), []
        for number in range(documents):
            kg.add_document(Document(str(number), "flu, ache"))
            kg.add_mentions(str(number), [(0, 3, "disease", "d", "x", 1.0, 1), (5, 9, "symptom", "s", "x", 1.0, 1)])
        kg._db.set_progress_handler(lambda: done.append(1), 100)
        kg.add_fact("d", "has_symptom", "s", Evidence("0", 0, 9, "x"))
        return len(done)
    assert steps(2000) < 1.5 * steps(200) + 5
