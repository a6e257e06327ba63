"""What no lesson of open mode should carry: any text, C-value against its definition, portions, texts made to be slow, real abstracts."""
import math
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.bench import data_folder
from kglearn.data import BadInput, Document, Mention, load_clinic, read_documents
from kglearn.graph import KnowledgeGraph
from kglearn.linking import link
from kglearn.terms import (LONGEST, MANY_TERMS, OPEN_SCHEMA, OpenRelater, TermTagger, c_value, candidate_terms, core_graph, group_terms,
                           log_likelihood, open_facts, open_reader, read_open, same_terms)
from kglearn.text import Encoder, normalise, sentences, tiny_encoder, words

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = ["A rye starter", "the starter", "rye starters", "sourdough", "such as", "is a kind of", "consists of", "flour", "water", "uses", "requires",
          "an oven", ",", ".", "and", "or other", "(RS)", "RS", "<script>", "'; DROP TABLE fact; --", "面团", "\u202e", "\0", "\ue000", "12", "-", "\n", "?"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=120))


@pytest.fixture(scope="module")
def tiny():
    return Encoder(*tiny_encoder())


# Terms


PHRASES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@MANY
@given(st.dictionaries(PHRASES, st.integers(1, 9), max_size=12))
def test_c_value_is_its_definition(counts):
    found = c_value(counts)
    assert found.keys() == counts.keys()
    for phrase, count in counts.items():
        longer = [other for other in counts if other != phrase and f" {phrase} " in f" {other} "]
        mean = sum(counts[other] for other in longer) / len(longer) if longer else 0
        assert found[phrase] == pytest.approx(math.log2(1 + len(phrase.split())) * (count - mean))


@MANY
@given(TEXTS)
def test_terms_are_short_stretches_of_words_that_do_not_overlap(text):
    document = Document("d", text)
    tagger = TermTagger(least=1, worth=-1e9).fit([document])
    found, = tagger.tag([document])
    edges = {start for start, _ in words(text)}, {end for _, end in words(text)}
    assert all(mention.start in edges[0] and mention.end in edges[1] and "\n\n" not in text[mention.start:mention.end] for mention in found)
    assert all(left.end <= right.start for left, right in zip(found, found[1:])) and tagger.tag([document])[0] == found
    assert set(candidate_terms([document])) >= set(tagger.scores)
    assert all(len(re.split(r"[\s-]+", text[mention.start:mention.end])) <= LONGEST * 3 for mention in found)


def test_on_bc5cdr_the_best_terms_are_names_more_often():
    try:
        path = data_folder("bc5cdr/dev.pubtator.gz") / "bc5cdr" / "dev.pubtator.gz"
    except BadInput as error:
        pytest.skip(str(error))
    documents = read_documents([path])
    gold = {normalise(document.surface(mention)) for document in documents for mention in document.mentions}
    counts = {term: count for term, count in candidate_terms(documents).items() if count > 1}
    ways = {"termhood": list(TermTagger().fit([document.unlabelled() for document in documents]).scores),
            "count": sorted(counts, key=lambda term: (-counts[term], term)), "chance": random.Random(0).sample(sorted(counts), len(counts))}
    shares = {way: [round(sum(term in gold for term in found[:size]) / size, 3) for size in (100, 500)] for way, found in ways.items()}
    print(shares)
    assert all(best > max(common, chance) + 0.05 for best, common, chance in zip(*shares.values()))


def test_an_address_is_no_term():
    notes = [Document(str(number), "See https://sourdough.example and www.rye.example for the starter.") for number in range(3)]
    assert not {"http", "https", "www"} & set(TermTagger(worth=-1e9).fit(notes).scores) and "starter" in TermTagger(worth=-1e9).fit(notes).scores


# One thing under several names


def test_spellings_and_explained_short_forms_are_one_thing():
    notes = [Document("d", "Rye starter (RS) rises."), Document("e", "A rye starter (RS) sleeps.")]
    groups = same_terms(["rye starter", "rye - starter", "rs", "oven"], notes)
    assert [group.terms for group in groups] == [("rye starter", "rye - starter", "rs")]
    torn = same_terms(["rye starter", "red sauce", "rs"], [Document("d", "rye starter (RS)"), Document("e", "red sauce (RS)")])
    assert torn == [], "explained in two ways: it is neither"


@MANY
@given(st.lists(PHRASES, max_size=8, unique=True))
def test_groups_hold_each_term_once(tiny, terms):
    grouped = [term for group in group_terms(terms, tiny) for term in group.terms if not group.same]
    assert len(grouped) == len(set(grouped)) and set(grouped) <= set(terms)


# Facts


def facts_of(text, *names):
    mentions = [Mention(found.start(), found.end(), "term", name) for name in names for found in re.finditer(re.escape(name), text)]
    mentions.sort(key=lambda mention: mention.start)
    return {fact[:3] for start, end in sentences(text) for fact in open_facts(
        text, start, end, [m for m in mentions if start <= m.start and m.end <= end])}


@pytest.mark.parametrize("text, names, expected", [
    ("Grains such as rye and spelt keep well.", ("Grains", "rye", "spelt"), {("rye", "is_a", "Grains"), ("spelt", "is_a", "Grains")}),
    ("Rye, spelt and other grains keep well.", ("Rye", "spelt", "grains"), {("Rye", "is_a", "grains"), ("spelt", "is_a", "grains")}),
    ("The dough consists of flour and water.", ("dough", "flour", "water"), {("flour", "part_of", "dough"), ("water", "part_of", "dough")}),
    ("Baking requires an oven.", ("Baking", "oven"), {("Baking", "requires", "oven")}),
    ("An oven is needed for baking.", ("oven", "baking"), {("baking", "requires", "oven")}),
    ("The baker uses a scale.", ("baker", "scale"), {("baker", "uses", "scale")}),
    ("Does the baker use a scale? The baker uses a scale?", ("baker", "scale"), set()),
    ("Without a baker the scale rests.", ("baker", "scale"), set()),
    ("A file that is a graph is opened.", ("file", "graph"), set()),
    ("A file which is also a kind of graph is opened.", ("file", "graph"), set()),
    ("The file, which is a graph, is opened.", ("file", "graph"), {("file", "is_a", "graph")}),
    ("The file is a graph.", ("file", "graph"), {("file", "is_a", "graph")}),
    ("A baker who uses a scale is exact.", ("baker", "scale"), {("baker", "uses", "scale")}),
])
def test_patterns(text, names, expected):
    assert facts_of(text, *names) == expected


@MANY
@given(st.integers(1, 60), st.data())
def test_the_log_likelihood_of_company(total, data):
    first, second = data.draw(st.integers(1, total)), data.draw(st.integers(1, total))
    both = data.draw(st.integers(max(0, first + second - total), min(first, second)))
    value = log_likelihood(both, first, second, total)
    assert value == pytest.approx(log_likelihood(both, second, first, total), abs=1e-9)
    assert value == pytest.approx(0, abs=1e-9) if both * total == first * second else value * (both * total - first * second) > 0


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_kept_reader_gives_the_same_graph_in_any_portions(tiny, texts):
    documents = [Document(f"{number} <b>", text) for number, text in enumerate(texts)]
    whole, parts = KnowledgeGraph(schema=OPEN_SCHEMA), KnowledgeGraph(schema=OPEN_SCHEMA)
    tagger = TermTagger(least=1, worth=-1e9)
    open_reader(whole, documents, tagger, encoder=tiny).read(documents)
    reader = open_reader(parts, documents, tagger, encoder=tiny)
    for document in reversed(documents):
        reader.read([document])
    assert parts.fingerprint() == whole.fingerprint()
    for fact in whole.facts():
        for piece in whole.evidence(fact.head, fact.relation, fact.tail):
            text = whole.document(piece.document).text
            assert (piece.start, piece.end) in sentences(text) and fact.head != fact.tail


def test_the_corpus_gives_a_graph_with_every_kind_of_fact(tiny):
    kg = KnowledgeGraph(schema=OPEN_SCHEMA)
    report = read_open(kg, [document.unlabelled() for part in ("graph", "train") for document in load_clinic(part)])
    assert report.rejected_by_schema == 0 and {fact.relation for fact in kg.facts()} >= {"is_a", "related_to"}
    drawn = core_graph(kg, terms=5, facts=12)
    assert 0 < drawn.number_of_edges() <= 12 and all(kg.belief(head, relation, tail) > 0 for head, tail, relation in drawn.edges(keys=True))


def test_a_table_of_terms_states_nothing():
    text = "uses ".join(["flour "] * (MANY_TERMS + 2)).strip()
    mentions = [Mention(found.start(), found.end(), "term", f"flour {number}") for number, found in enumerate(re.finditer("flour", text))]
    assert len(mentions) > MANY_TERMS and open_facts(text, 0, len(text), mentions) == []
    relater = OpenRelater().fit([Document("d", text)], [mentions])
    assert relater.company == {}


@pytest.mark.parametrize("text", ["x" * 1_000_000, "- " * 50_000, "is a kind of " * 5_000, "starter, " * 5_000, "\ue000" * 5_000, ""],
                         ids=["word", "hyphens", "cue", "list", "signs", "nothing"])
def test_hostile_texts_are_read_to_the_end(tiny, text):
    kg = KnowledgeGraph(schema=OPEN_SCHEMA)
    documents = [Document("d", text), Document("e", "A starter is a kind of dough. A starter is a kind of dough.")]
    report = open_reader(kg, documents, TermTagger(worth=-1e9), encoder=tiny).read(documents)
    assert report.documents == 2 and kg.document("d").text == text and kg.documents() == ["d", "e"]


def test_links_are_those_of_the_reader(tiny):
    documents = [Document("d", "The rye starter sleeps. The rye-starter wakes. A rye starter (RS) eats; RS grows.")]
    kg = KnowledgeGraph(schema=OPEN_SCHEMA)
    open_reader(kg, documents, TermTagger(least=1, worth=-1e9), encoder=tiny).read(documents)
    assert {mention.entity for mention in kg.mentions() if "starter" in mention.surface or mention.surface == "RS"} == {"term:rye starter"}
    assert link(documents[0], [Mention(4, 15, "term")], {})[0].entity == "term:rye starter"
