"""What no lesson about formats should carry: any graph through each of them, and files that are broken in any way."""
import os
import socket
import subprocess
import sys
from unittest import mock

import networkx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, Relation, Table
from kglearn.graph import CLINIC_SCHEMA, Evidence, Fact, KnowledgeGraph, clinic_graph
from kglearn.interchange import (add_ontology, from_graphml, from_kgx, from_neo4j, from_networkx, from_pandas, from_rdf,
                                 from_tables, read_ontology, sparql, to_graphml, to_kgx, to_neo4j, to_networkx,
                                 to_pandas, to_rdf, to_tables)

HOSTILE = ["'; DROP TABLE entity; --", "} UNION { ?s ?p ?o", '" || "" = "', "MATCH (n) DETACH DELETE n",
           "`) DETACH DELETE (`", "<script>alert(1)</script>", "&amp;<![CDATA[", "a\0b", "\0", "\r", "two\r\nlines\n",
           '"', '"""', "''", "\\", "\\\\|", "\\u0041", "|", "||", ";", ",", "a|b", "[]", "{}", "%2F", "#x", "?1",
           "NULL", "nan", "None", "true", "1", "-1", "1e5", "\ufeffbom", "\ufffe\uffff", "\x0b\x0c\x1c\x7f\x85\u2028",
           "\u202eright", "头痛", "\U0001f469\u200d\u2695", "A\u030a", "ﬁ", "=cmd()", "@context",
           "kglearn.document:x", "../../etc/passwd", "\t", " ", "  lead",
           "urn:kglearn:entity:x", "x" * 10_000]
texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
maybe = texts | st.just("")
confidences = st.integers(1, 1000).map(lambda number: number / 1000)
FEW = settings(max_examples=int(os.environ.get("KGLEARN_EXAMPLES", "25")), deadline=None,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@st.composite
def graphs(draw):
    "Graphs with any names: dictionary entries, linked and unlinked mentions, facts for and against."
    kg = KnowledgeGraph()
    keys = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    for key in keys:
        kg.add_entity(key, draw(maybe), draw(maybe), draw(st.lists(maybe, max_size=3)), draw(maybe))
    documents = draw(st.lists(st.tuples(texts, maybe, maybe, maybe), max_size=3, unique_by=lambda row: row[0]))
    for document in documents:
        kg.add_document(Document(*document))
        for _ in range(draw(st.integers(0, 3)) if document[1] else 0):
            start = draw(st.integers(0, len(document[1]) - 1))
            key = draw(st.sampled_from([*keys, ""]) | texts)
            kg.add_mention(document[0], start, draw(st.integers(start + 1, len(document[1]))), draw(maybe), key,
                           draw(st.sampled_from(["gold", "answer", "dictionary", "", "<b>"])), draw(confidences),
                           draw(st.sampled_from([1, -1])))
    ends = st.sampled_from([entity.key for entity in kg.entities()])
    for _ in range(draw(st.integers(0, 5))):
        id, text = draw(st.sampled_from([("", ""), *[row[:2] for row in documents]]))
        piece = Evidence(id, 0, len(text), draw(st.sampled_from(["gold", "answer", "dictionary", "\n"])),
                         draw(confidences), draw(st.sampled_from([1, -1])))
        kg.add_fact(draw(ends), draw(texts), draw(ends), piece)
    return kg


def rows(kg, table, *columns):
    found = to_tables(kg)[table]
    return sorted(tuple(row[found.columns.index(column)] for column in columns or found.columns) for row in found.rows)


def without_unlinked(kg):
    tables = to_tables(kg)
    mentions = tables["mentions"]
    linked = tuple(row for row in mentions.rows if row[mentions.columns.index("entity")])
    return from_tables({**tables, "mentions": Table(mentions.columns, linked)})


NOTATIONS = {"ttl": "turtle", "jsonld": "json-ld", "rdf": "xml"}


def through_graphml(kg, folder):
    to_graphml(kg, folder / "graph.graphml")
    return from_graphml(folder / "graph.graphml")


def through_rdf(format):
    def way(kg, folder):
        path = folder / f"graph.{format}"
        to_rdf(kg).serialize(path, format=NOTATIONS.get(format, format), encoding="utf-8")
        return from_rdf(path)
    return way


WHOLE = {"tables": lambda kg, folder: from_tables(to_tables(kg)),
         "pandas": lambda kg, folder: from_pandas(to_pandas(kg)),
         "rdf": lambda kg, folder: from_rdf(to_rdf(kg)),
         **{format: through_rdf(format) for format in ("ttl", "jsonld", "nt")}}
LINKED = {"kgx": lambda kg, folder: from_kgx(*to_kgx(kg, folder)),
          "neo4j": lambda kg, folder: (to_neo4j(kg, folder), from_neo4j(folder))[1]}
PICTURES = {"networkx": lambda kg, folder: from_networkx(to_networkx(kg)), "graphml": through_graphml}
each = pytest.mark.parametrize


# There and back


@each("name", WHOLE)
@FEW
@given(kg=graphs())
def test_everything_comes_back(name, kg, tmp_path):
    again = WHOLE[name](kg, tmp_path)
    assert again.fingerprint() == kg.fingerprint()
    assert to_tables(again) == to_tables(kg), "confidences and order too"


@each("name", LINKED)
@FEW
@given(kg=graphs())
def test_all_but_unlinked_mentions_comes_back(name, kg, tmp_path):
    again, expected = LINKED[name](kg, tmp_path), without_unlinked(kg)
    assert again.fingerprint() == expected.fingerprint()
    assert to_tables(again) == to_tables(expected)


@each("name", PICTURES)
@FEW
@given(kg=graphs())
def test_facts_and_belief_come_back_from_a_picture(name, kg, tmp_path):
    again = PICTURES[name](kg, tmp_path)
    assert rows(again, "facts", "head", "relation", "tail") == rows(kg, "facts", "head", "relation", "tail")
    for before, after in zip(kg.facts(), again.facts()):
        assert abs(before.belief - after.belief) <= 0.0011 and (before.belief > 0) == (after.belief > 0)
    assert rows(again, "entities", "key", "name", "type") == rows(kg, "entities", "key", "name", "type")
    if name == "graphml":
        # An entity of the mentions alone is a dictionary's in the copy; its other names stay none.
        assert rows(again, "entities", "key", "names") == rows(kg, "entities", "key", "names")


@each("way", (WHOLE | LINKED).values(), ids=WHOLE | LINKED)
def test_the_corpus_comes_back_and_twice_is_once(way, tmp_path):
    clinic = clinic_graph()
    assert way(clinic, tmp_path).fingerprint() == clinic.fingerprint()
    assert way(way(clinic, tmp_path), tmp_path).fingerprint() == clinic.fingerprint()
    before = clinic.revision
    from_tables(to_tables(clinic), clinic)
    assert clinic.revision == before, "reading what is there is no revision"


def test_a_part_read_into_another_part_gives_the_whole(tmp_path):
    first, second = clinic_graph(("graph",)), clinic_graph(("train",))
    to_rdf(second).serialize(tmp_path / "second.ttl", format="turtle", encoding="utf-8")
    assert from_rdf(tmp_path / "second.ttl", first).fingerprint() == clinic_graph(("graph", "train")).fingerprint()


def test_forgotten_documents_leave_nothing_behind(tmp_path):
    kg, never = KnowledgeGraph(), KnowledgeGraph()
    for graph in (kg, never):
        graph.add_entity("a", "a", "x")
    kg.add_document(Document("secret", "confidential words"))
    kg.add_mention("secret", 0, 12, "x", "a")
    kg.add_fact("a", "r", "a", Evidence("secret", 0, 12, "gold"))
    kg.forget("secret")
    assert to_tables(kg) == to_tables(never)
    to_neo4j(kg, tmp_path), to_kgx(kg, tmp_path), to_graphml(kg, tmp_path / "g.graphml")
    to_rdf(kg).serialize(tmp_path / "g.ttl", encoding="utf-8")
    assert not [path for path in tmp_path.iterdir() if b"confidential" in path.read_bytes()]


def test_an_entity_that_only_facts_speak_of_is_kept():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "some words"))
    kg.add_mention("d", 0, 4, "x", "x:some")
    kg.add_fact("x:some", "r", "x:some", Evidence("", 0, 0, "dictionary"))
    kg.forget("d")
    assert list(from_tables(to_tables(kg)).facts()) == list(kg.facts())


# What others see in the files


def test_what_is_doubted_or_denied_is_described_and_not_stated():
    kg = KnowledgeGraph()
    for key in "abc":
        kg.add_entity(key, key, "x")
    kg.add_fact("a", "r", "b", Evidence("", 0, 0, "dictionary", 0.9))
    kg.add_fact("a", "r", "c", Evidence("", 0, 0, "answer", 0.95, -1))
    stated = "SELECT ?tail WHERE { ?h <urn:kglearn:relation:r> ?t . ?t dcterms:identifier ?tail }"
    assert sparql(to_rdf(kg), stated).rows == (("b",),)
    assert {row[0] for row in sparql(to_rdf(kg, 0), stated).rows} == {"b", "c"}
    described = """SELECT ?tail ?belief ?polarity WHERE {
                   ?f a kg:Fact ; rdf:object/dcterms:identifier ?tail ; kg:belief ?belief ;
                   prov:wasDerivedFrom/kg:polarity ?polarity } ORDER BY ?tail"""
    assert sparql(to_rdf(kg), described).rows == (("b", pytest.approx(.9), 1), ("c", pytest.approx(.05), -1))


def test_rdf_names_are_skos_and_each_concept_has_one_preferred_label():
    kg = clinic_graph()
    counted = "SELECT ?c (COUNT(?l) AS ?n) WHERE { ?c a skos:Concept ; skos:prefLabel ?l } GROUP BY ?c"
    found = sparql(to_rdf(kg), counted).rows
    assert len(found) == len(kg.entities()) and {row[1] for row in found} == {1}


def test_kgx_is_tabs_with_the_columns_that_it_needs(tmp_path):
    nodes, edges = to_kgx(clinic_graph(), tmp_path)
    for path, needed in ((nodes, {"id", "category"}), (edges, {"id", "subject", "predicate", "object"})):
        head, *lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        columns = head.split("\t")
        assert needed <= set(columns)
        for line in lines:
            cells = dict(zip(columns, line.split("\t"), strict=True))
            assert all(cells[name] for name in needed)


def test_neo4j_headers_and_ids(tmp_path):
    import csv
    to_neo4j(clinic_graph(), tmp_path)
    ids = {}
    for name in ("documents", "entities"):
        with open(tmp_path / f"{name}.csv", encoding="utf-8", newline="") as file:
            ids[name] = [next(iter(row.values())) for row in csv.DictReader(file)]
        assert len(ids[name]) == len(set(ids[name]))
    with open(tmp_path / "mentions.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert row[":START_ID(Document)"] in ids["documents"] and row[":END_ID(Entity)"] in ids["entities"]
    with open(tmp_path / "evidence.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert {row[":START_ID(Entity)"], row[":END_ID(Entity)"]} <= set(ids["entities"])


def test_graphml_has_an_id_of_its_own_for_each_edge(tmp_path):
    from xml.etree import ElementTree
    to_graphml(clinic_graph(), tmp_path / "g.graphml")
    edges = ElementTree.parse(tmp_path / "g.graphml").findall(".//{*}edge")
    assert edges and len({edge.get("id") for edge in edges}) == len(edges)


def test_names_are_bound_in_queries():
    kg = KnowledgeGraph()
    for number, name in enumerate(HOSTILE):
        kg.add_entity(f"e{number}", name, "x")
    rdf = to_rdf(kg)
    for number, name in enumerate(HOSTILE):
        found = sparql(rdf, "SELECT ?key WHERE { ?e skos:prefLabel ?name ; dcterms:identifier ?key }", name=name).rows
        assert found == ((f"e{number}",),)


# Files that are broken


def untouched(read, *arguments):
    "The complaint of a reader, which must leave the graph that it was given as it was."
    kg = clinic_graph(parts=())
    before = kg.fingerprint(), kg.revision
    with pytest.raises(BadInput) as caught:
        read(*arguments, kg)
    assert (kg.fingerprint(), kg.revision) == before
    return str(caught.value)


READERS = {"ttl": from_rdf, "jsonld": from_rdf, "nt": from_rdf, "rdf": from_rdf, "graphml": from_graphml,
           "neo4j": from_neo4j, "kgx": lambda path, kg=None: from_kgx(path / "nodes.tsv", path / "edges.tsv", kg)}


def small():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", 'Flu "begins"\nwith fever.'))
    kg.add_entity("disease:flu", "flu", "disease", ["grippe", "influenza"])
    kg.add_entity("symptom:fever", "fever", "symptom")
    kg.add_mention("d", 0, 3, "disease", "disease:flu")
    kg.add_fact("disease:flu", "has_symptom", "symptom:fever", Evidence("d", 0, 10, "gold", 0.9))
    return kg


def written(name, folder):
    "A file or folder that `small` was written to, and the files in it."
    if name in ("neo4j", "kgx"):
        return folder, (to_neo4j if name == "neo4j" else to_kgx)(small(), folder)
    path = folder / f"graph.{name}"
    if name == "graphml":
        to_graphml(small(), path)
    else:
        to_rdf(small()).serialize(path, format=NOTATIONS.get(name, name), encoding="utf-8")
    return path, [path]


@each("name", READERS)
@FEW
@given(chance=st.randoms(use_true_random=False))
def test_a_damaged_file_gives_a_graph_or_one_clear_error(name, chance, tmp_path):
    path, files = written(name, tmp_path)
    file = chance.choice(files)
    data = bytearray(file.read_bytes())
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        harm = chance.choice([b"", b"\0", b"\xff", b'"', b"<", b"\t", b"\n", b"&", b"|", b"x", b"-", b"}"])
        data[place:place + chance.choice([0, 1, 1, 40, 4000])] = harm
    file.write_bytes(data)
    kg = clinic_graph(parts=())
    before = kg.fingerprint()
    try:
        READERS[name](path, kg)
    except BadInput as error:
        assert kg.fingerprint() == before and len(str(error)) < 1200


@each("name", READERS)
def test_missing_binary_and_other_encodings(name, tmp_path):
    path, files = written(name, tmp_path)
    for data in (b"\x80\x81\xfe", "R\xf6ntgen".encode("latin-1"), b"\0" * 50):
        files[-1].write_bytes(data)
        assert files[-1].name in untouched(READERS[name], path)
    files[-1].unlink()
    assert "cannot be read" in untouched(READERS[name], path)


LAUGHS = "".join(f'<!ENTITY {b} "{10 * f"&{a};"}">' for a, b in zip("abcdefgh", "bcdefghi"))
BOMB = f'<!DOCTYPE l [<!ENTITY a "ha">{LAUGHS}]>\n<graphml>&i;</graphml>'


@each("encoding", ["utf-8", "utf-16"])
@each("reader, name", [(from_graphml, "b.graphml"), (from_rdf, "b.rdf"), (read_ontology, "b.owl")])
def test_bombs_are_refused_before_they_unfold(encoding, reader, name, tmp_path):
    (tmp_path / name).write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>\n{BOMB}'.encode(encoding))
    with pytest.raises(BadInput, match="line 2: XML with a document type"):
        reader(tmp_path / name)


@each("name, text", [
    ("a.graphml", '<!DOCTYPE l SYSTEM "http://127.0.0.1:9/x"><graphml/>'),
    ("a.rdf", '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><rdf:RDF/>'),
    ("a.jsonld", '{"@context": "http://127.0.0.1:9/x", "@id": "urn:a"}'),
    ("b.jsonld", '[{"a": [{"@context": [{}, "http://127.0.0.1:9/x"]}]}]'),
    ("c.jsonld", '{"@context": {"@import": "http://127.0.0.1:9/x"}}'),
    ("d.jsonld", "[" * 100_000), ("e.json", "{"), ("a.ttl", "@prefix"), ("a.nt", "<a> <b>")])
def test_nothing_is_fetched_and_nothing_crashes(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with mock.patch.object(socket, "socket", side_effect=OSError("no network")) as network:
        said = untouched(from_graphml if name.endswith("graphml") else from_rdf, tmp_path / name)
    assert name in said and not network.called
    assert "127.0.0.1" not in text or "fetch" in said or "document type" in said


@each("name, text, line", [("a.graphml", '<graphml xmlns="urn:x">\n<x:graph/></graphml>', 2),
                           ("a.rdf", "<a>\n\n</b>", 3),
                           ("b.graphml", '<?xml version="1.0" encoding="xtf-8"?>\n<graphml/>', 1)])
def test_broken_xml_is_named_with_its_line(name, text, line, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    reader = from_graphml if name.endswith("graphml") else from_rdf
    assert f"{name}, line {line}: " in untouched(reader, tmp_path / name)


@each("query", ["SELECT * FROM <http://127.0.0.1:9/x> { ?s ?p ?o }",
                "SELECT * { SERVICE <http://127.0.0.1:9/x> { ?s ?p ?o } }",
                "SELECT * { { SELECT * { OPTIONAL { SERVICE <http://127.0.0.1:9/x> { ?s ?p ?o } } } } }",
                "SELECT * { ?s ?p ?o FILTER EXISTS { SERVICE <http://127.0.0.1:9/x> { ?s ?p ?o } } }",
                "ASK FROM NAMED <http://127.0.0.1:9/x> { GRAPH ?g { ?s ?p ?o } }",
                "SELECT", "DROP ALL", "SELECT * { ?s nothing:here ?o }", "CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }"])
def test_queries_that_reach_out_or_mean_nothing(query):
    with mock.patch.object(socket, "socket", side_effect=OSError("no network")) as network, pytest.raises(BadInput):
        sparql(to_rdf(small()), query)
    assert not network.called


@each("table, row, wanted", [
    ("evidence", {"head": "a", "relation": "r", "tail": "a", "confidence": 2}, "confidence"),
    ("evidence", {"head": "a", "relation": "r", "tail": "a", "confidence": float("nan")}, "keep_default_na"),
    ("evidence", {"head": "a", "relation": "r", "tail": "a", "polarity": 0}, "polarity"),
    ("evidence", {"head": "a", "relation": "r", "tail": "a", "start": 10 ** 400}, "whole number"),
    ("evidence", {"head": "a", "relation": "r", "tail": "a", "document": "no"}, "no document 'no'"),
    ("evidence", {"head": "a", "relation": "r", "tail": "b"}, "no entity 'b'"),
    ("evidence", {"head": "a", "relation": "r"}, "'tail'"),
    ("entities", {"key": "b", "names": [1]}, "names should be text"),
    ("entities", {"key": None}, "key should be text"),
    ("entities", {"key": "half \ud800"}, "surrogate"),
    ("mentions", {"document": "d", "start": 0, "end": 99}, "outside"),
    ("mentions", {"document": "d", "start": 3, "end": 3}, "outside")])
def test_each_bad_row_is_named(table, row, wanted):
    tables = {"entities": [{"key": "a"}], "documents": [{"id": "d", "text": "words"}]}
    tables[table] = [*tables.get(table, []), row]
    tables = {name: [Table(tuple(row), (tuple(row.values()),)) for row in rows] for name, rows in tables.items()}
    kg = KnowledgeGraph()
    for name in ("documents", "entities"):
        from_tables({name: tables[name][0]}, kg)
    before = kg.fingerprint()
    with pytest.raises(BadInput, match=wanted) as caught:
        from_tables({table: tables[table][-1]}, kg)
    assert str(caught.value).startswith(f"{table}, row 1") and kg.fingerprint() == before


def test_lines_are_right_after_cells_of_many_lines(tmp_path):
    to_neo4j(small(), tmp_path)
    path = tmp_path / "documents.csv"
    path.write_text(path.read_text(encoding="utf-8") + '"e","one\r\ntwo\nthree","",""\n', encoding="utf-8", newline="")
    assert "documents.csv, line 4: 4 cells under 5" in untouched(from_neo4j, tmp_path), "the text of d has two lines"


def test_an_empty_file_is_no_table(tmp_path):
    for name, read in (("neo4j", from_neo4j), ("kgx", READERS["kgx"])):
        written(name, tmp_path)[1][-1].write_text("", encoding="utf-8")
        assert "empty: give a table" in untouched(read, tmp_path)


def test_a_cell_larger_than_csv_allows(tmp_path):
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "long " * 100_000))
    for way in LINKED.values():
        assert way(kg, tmp_path).fingerprint() == kg.fingerprint()


# Graphs of others


def test_a_graph_without_any_of_our_attributes():
    graph = networkx.Graph([(1, 2), ("1", 3)])
    kg = from_networkx(graph, confidence=0.5)
    assert [entity.key for entity in kg.entities()] == ["1", "2", "3"]
    assert set(kg.facts()) == {Fact("1", "related_to", "2", 0.5), Fact("1", "related_to", "3", 0.5)}


@each("attributes", [{"belief": "high"}, {"belief": float("nan")}, {"belief": -1}, {"belief": 2}, {"belief": None}])
def test_a_belief_that_is_none(attributes):
    graph = networkx.DiGraph()
    graph.add_edge("a", "b", **attributes)
    assert "edge 'a' -> 'b'" in untouched(from_networkx, graph)


def test_the_schema_of_the_graph_that_is_added_to_holds():
    graph = networkx.DiGraph()
    graph.add_node("a", type="disease"), graph.add_node("b", type="disease")
    graph.add_edge("a", "b", relation="treats")
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    with pytest.raises(BadInput, match="edge 'a' -> 'b': the schema has no 'treats'"):
        from_networkx(graph, kg)
    assert not kg.entities()


# Ontologies

OBO = """format-version: 1.2
default-namespace: things
! a comment

[Term]
id: A:1
name: a \\"thing\\" \\! ! comment
synonym: "ein Ding" EXACT [x:1] {a="b"}
synonym: "stuff" BROAD []
def: "Not \\"used\\": a colon, [Brackets]." []

[Term]
id: A:2 ! comment
name: part
namespace: parts
is_a: A:1 {x="y"} ! thing
is_a: A:2 ! itself
relationship: part_of A:1 ! thing
relationship: part_of Z:9

[Term]
id: A:3
name: old
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


@each("ends", ["\n", "\r\n"])
def test_obo(tmp_path, ends):
    (tmp_path / "a.obo").write_text(OBO, encoding="utf-8", newline=ends)
    found = read_ontology(tmp_path / "a.obo")
    assert [(entry.id, entry.type, entry.names) for entry in found.entries] == [
        ("A:1", "things", ('a "thing" !', "ein Ding")), ("A:2", "parts", ("part",))]
    assert [entry.description for entry in found.entries] == ['Not "used": a colon, [Brackets].', ""]
    assert found.facts == (Relation("A:2", "is_a", "A:1"), Relation("A:2", "part_of", "A:1"))
    assert found.left_out == {"obsolete terms": 1, "synonyms that are not exact": 1,
                              "relations of a term with itself": 1,
                              "relations with a term that is not there": 1}
    assert {entry.type for entry in read_ontology(tmp_path / "a.obo", "own").entries} == {"own"}


@FEW
@given(chance=st.randoms(use_true_random=False), name=st.sampled_from(["a.obo", "a.csv", "a.ttl"]))
def test_a_damaged_ontology_gives_terms_or_one_clear_error(chance, name, tmp_path):
    text = {"a.obo": OBO, "a.csv": "id;name;synonyms;parent\nA;one;eins|un;\nB;two;;A\n",
            "a.ttl": '@prefix s: <http://www.w3.org/2004/02/skos/core#> .\n'
                     '<urn:a> a s:Concept ; s:prefLabel "a"@en ; s:broader <urn:b> .\n'
                     '<urn:b> s:prefLabel "b" ; s:narrower <urn:a> , "text" .'}[name]
    for _ in range(chance.randint(0, 3)):
        place = chance.randrange(len(text) + 1)
        harm = chance.choice(["", "\0", '"', "\n", ":", "\\", "[", "]", "|", ";", "é"])
        text = text[:place] + harm + text[place + chance.randint(0, 9):]
    (tmp_path / name).write_text(text, encoding="utf-8")
    kg = KnowledgeGraph()
    try:
        add_ontology(kg, read_ontology(tmp_path / name))
    except BadInput as error:
        assert name in str(error) or "entity" in str(error)
        assert not kg.entities()


def test_what_is_obsolete_may_be_commented_and_only_a_line_feed_ends_a_line(tmp_path):
    (tmp_path / "a.obo").write_text('[Term]\nid: A:1\nname: old\nis_obsolete: true ! replaced\n\n[Term]\nid: A:2\nname: new\ndef: "one\u2028two" []\n', encoding="utf-8")
    found = read_ontology(tmp_path / "a.obo")
    assert [(entry.id, entry.description) for entry in found.entries] == [("A:2", "one\u2028two")] and found.left_out == {"obsolete terms": 1}


def test_an_old_id_of_a_term_means_the_term(tmp_path):
    (tmp_path / "a.obo").write_text("[Term]\nid: A:1\nname: thing\nalt_id: A:7 ! merged\nalt_id: A:8\n\n[Term]\nid: A:2\nname: part\nis_a: A:8\n", encoding="utf-8")
    found = read_ontology(tmp_path / "a.obo")
    assert [entry.also for entry in found.entries] == [("A:7", "A:8"), ()] and found.facts == (Relation("A:2", "is_a", "A:1"),) and found.left_out == {}


@each("query", ["SELECT * { GRAPH ?g { ?s ?p ?o } }", "SELECT * { ?s ?p ?o FILTER(regex(str(?o), '(')) }"])
def test_a_query_that_cannot_be_answered_is_one_clear_error(query):
    with pytest.raises(BadInput, match="cannot be answered here"):
        sparql(to_rdf(clinic_graph()), query)


@each("parent, wanted", [("cold", "disease:cold"), ("symptom:cold", "symptom:cold"), ("weather", "weather:weather")])
def test_a_parent_is_of_the_same_type_where_a_name_has_several(tmp_path, parent, wanted):
    (tmp_path / "a.csv").write_text(f"name,type,parent\ncold,disease,\ncold,symptom,\nweather,weather,\ncommon cold,disease,{parent}\n", encoding="utf-8")
    assert read_ontology(tmp_path / "a.csv").facts == (Relation("disease:common cold", "is_a", wanted),)


def test_a_parent_that_may_be_two_is_asked_for_by_id(tmp_path):
    (tmp_path / "a.csv").write_text("name,type,parent\ncold,disease,\ncold,symptom,\nhay fever,allergy,cold\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 4: the parent 'cold' is the name of 2 terms"):
        read_ontology(tmp_path / "a.csv")


def test_an_entity_of_which_only_an_answer_is_left_has_no_dictionary_name():
    kg = KnowledgeGraph()
    kg.add_document(Document("d", "flu"))
    kg.add_mention("d", 0, 3, "disease", "t:flu"), kg.add_entity("a", "a", "t")
    kg.add_fact("t:flu", "r", "a", Evidence("", 0, 0, "answer", 0.95))
    kg.forget("d")
    again = from_tables(to_tables(kg))
    assert again.fingerprint() == kg.fingerprint() and [entry.id for entry in again.dictionary()] == ["a"]


@each("delimiter", ["\t", ",", ";"])
def test_glossaries(tmp_path, delimiter):
    lines = [["Term", "Type", "Synonyms", "Parent", "Definition"], ["x-ray", "test", "radiograph|R\xf6ntgen", "imaging", "a picture"],
             ["imaging", "test", "", "", ""]]
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(map(delimiter.join, lines)), encoding="utf-8")
    found = read_ontology(tmp_path / "a.csv")
    assert [entry.id for entry in found.entries] == ["test:x-ray", "test:imaging"]
    assert found.entries[0].names == ("x-ray", "radiograph", "R\xf6ntgen")
    assert found.facts == (Relation("test:x-ray", "is_a", "test:imaging"),)
    assert [entry.description for entry in found.entries] == ["a picture", ""]


def test_an_ontology_is_all_or_nothing_and_prior(tmp_path):
    (tmp_path / "a.obo").write_text(OBO, encoding="utf-8")
    kg = KnowledgeGraph()
    kg.add_entity("A:2", "part", "something else")
    before = kg.fingerprint()
    with pytest.raises(BadInput, match="'A:2' is a something else"):
        add_ontology(kg, read_ontology(tmp_path / "a.obo"))
    assert kg.fingerprint() == before
    kg = KnowledgeGraph()
    add_ontology(kg, read_ontology(tmp_path / "a.obo"), confidence=0.7)
    assert kg.revision == 1 and kg.evidence("A:2", "is_a", "A:1") == [Evidence("", 0, 0, "dictionary", 0.7)]
    assert kg.find("ein Ding") == [kg.entity("A:1")]


def test_our_own_rdf_is_a_vocabulary_too(tmp_path):
    to_rdf(small()).serialize(tmp_path / "own.ttl", encoding="utf-8")
    assert {entry.names[0] for entry in read_ontology(tmp_path / "own.ttl").entries} == {"flu", "fever"}


# Optional parts


@each("module, call", [("pandas", "to_pandas(kg)"), ("rdflib", "to_rdf(kg)"), ("rdflib", "from_rdf('a.ttl')"),
                       ("rdflib", "sparql(None, 'ASK {}')"), ("rdflib", "read_ontology('a.ttl')")])
def test_what_is_missing_is_named_with_its_extra(module, call):
    code = f"""
import sys; sys.modules[{module!r}] = None
from kglearn.data import BadInput
from kglearn.graph import KnowledgeGraph
from kglearn.interchange import *
kg = KnowledgeGraph()
try: {call}
except BadInput as error: print(error)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert said.strip() == f"{module} is not installed: pip install 'kglearn[interchange]'"


def test_extras_are_imported_when_they_are_needed():
    code = "import sys, kglearn.interchange; print({'pandas', 'rdflib', 'networkx'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert said.strip() == "set()"


# Names as written, evidence in one go


@each("way", [*(WHOLE | LINKED).values(), through_graphml], ids=[*(WHOLE | LINKED), "graphml"])
def test_names_leave_as_they_were_written(way, tmp_path):
    kg = KnowledgeGraph()
    kg.add_entity("D:1", "Crohn's disease", "disease", ["Crohn's Enteritis", "CROHN'S ENTERITIS", "Morbus  Crohn"])
    kg.add_entity("D:2", "Flu", "disease")
    kg.add_fact("D:1", "r", "D:2", Evidence("", 0, 0, "dictionary"))
    again = way(kg, tmp_path)
    assert again.names("D:1") == kg.names("D:1") == ("Crohn's disease", "Crohn's Enteritis", "Morbus  Crohn")
    assert again.dictionary() == kg.dictionary()


def test_evidence_leaves_as_it_was_added_and_belief_as_it_is_trusted():
    kg = KnowledgeGraph()
    kg.add_document(Document("post", "a r b", "blog"))
    for key in "ab":
        kg.add_entity(key, key, "x")
    kg.add_fact("a", "r", "b", Evidence("post", 0, 5, "pattern", 0.8))
    kg.set_trust(sources={"blog": 0.5})
    assert rows(kg, "evidence", "confidence") == [(0.8,)] and rows(kg, "facts", "belief") == [(pytest.approx(0.4),)]
    again = from_tables(to_tables(kg))
    assert again.fingerprint() == kg.fingerprint() and again.belief("a", "r", "b") == pytest.approx(0.8)
    again.set_trust(**kg.trust)
    assert to_tables(again) == to_tables(kg)


def test_evidence_is_not_fetched_fact_by_fact():
    def statements(size):
        kg, seen = KnowledgeGraph(), []
        kg.add_entity("a", "a", "x")
        kg.add_facts(("a", f"r{number}", "a", Evidence("", 0, 0, "dictionary")) for number in range(size))
        kg._db.set_trace_callback(seen.append)
        to_tables(kg)
        return len(seen)
    assert statements(200) == statements(2)


def test_what_takes_long_shows_a_bar_that_leaves_nothing(tmp_path):
    from kglearn import interchange
    with mock.patch.object(interchange, "tqdm", wraps=interchange.tqdm) as bar:
        from_rdf(to_rdf(clinic_graph()))
    assert bar.call_count > 5 and all(call.kwargs == {"leave": False, "delay": 2} for call in bar.call_args_list)


def test_an_old_id_that_is_another_terms_own_is_that_terms(tmp_path):
    (tmp_path / "a.obo").write_text("[Term]\nid: B\nname: b\n\n[Term]\nid: C\nname: c\nis_a: B\n\n[Term]\nid: A\nname: a\nalt_id: B\nalt_id: ! gone\n", encoding="utf-8")
    found = read_ontology(tmp_path / "a.obo")
    assert found.facts == (Relation("C", "is_a", "B"),) and found.entries[-1].also == ("B",)
    (tmp_path / "b.obo").write_text("[Term]\nid: \nname: b\n", encoding="utf-8")
    with pytest.raises(BadInput, match="without an id"):
        read_ontology(tmp_path / "b.obo")


def test_an_entry_without_a_type_comes_back_without_one():
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("x", "ache", ""), kg.add_entity("m", "aspirin", "medicine")
    for number, type in enumerate(["symptom", "test", "test"]):
        kg.add_document(Document(str(number), "ache"))
        kg.add_mention(str(number), 0, 4, type, "x")
    kg.add_fact("m", "treats", "x", Evidence("0", 0, 4, "x"))
    tables = to_tables(kg)
    assert [row[:4] for row in tables["entities"].rows] == [("m", "aspirin", "medicine", "dictionary"), ("x", "ache", "test", "dictionary without type")]
    copy = from_tables(tables, KnowledgeGraph(schema=CLINIC_SCHEMA))
    assert copy.fingerprint() == kg.fingerprint() and copy.entity("x").type == "test"
    for graph in (kg, copy):
        graph.forget("1"), graph.forget("2")
        assert graph.entity("x").type == "symptom"
