"""What no lesson of relations should carry: any text, sentences turned about, own patterns."""
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import Document, Mention, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA
from kglearn.linking import link
from kglearn.reader import DictionaryTagger
from kglearn.relations import LONGEST_LIST, by_sentence, enumerations, stated_facts
from kglearn.text import sentences

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEXICON = clinic_lexicon()
PIECES = ["Codeine", "ibuprofen", "NSAIDs", "fever", "nausea", "cough", "asthma", "chronic kidney disease", "CKD", "(CKD)", "(MS)", "mitral stenosis",
          "MS", "causes", "treats", "for", "with", "no", "and", ",", ".", ";", "\n", "(", ")", "<script>", "'; DROP TABLE fact; --", "糖尿病", "cafe\u0301",
          "\u202e", "👩‍⚕️", "\0", "is", "a", "such as", "&", "%", "12", "_", "ﬁ", "ALL"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=120))


# Relating


def fact_of(text, *places):
    mentions = [Mention(text.index(name), text.index(name) + len(name), type, f"{type}:{name}") for name, type in places]
    return stated_facts(text, sorted(mentions, key=lambda mention: mention.start), CLINIC_SCHEMA.allows)


@pytest.mark.parametrize("text, expected", [
    ("codeine treats cough", [("medicine:codeine", "treats", "symptom:cough")]),
    ("codeine does not treat cough", []),
    ("codeine doesn't treat cough", []),
    ("without codeine treating cough", []),
    ("codeine treats, I have heard, cough", []),
    ("codeine retreats cough", []),
    ("cough eased by codeine", [("medicine:codeine", "treats", "symptom:cough")]),
    ("codeine can cause cough", [("medicine:codeine", "causes", "symptom:cough")]),
    ("codeine helps to prevent cough", [("medicine:codeine", "prevents", "symptom:cough")]),
    ("codeine " + "very " * 30 + "treats cough", []),
])
def test_cues(text, expected):
    assert fact_of(text, ("codeine", "medicine"), ("cough", "symptom")) == expected


def test_a_list_shares_what_is_said_of_it_on_both_sides():
    text = "codeine and morphine cause nausea, vomiting or a dry mouth"
    found = fact_of(text, ("codeine", "medicine"), ("morphine", "medicine"), ("nausea", "symptom"), ("vomiting", "symptom"), ("dry mouth", "symptom"))
    assert len(found) == 6 and {relation for _, relation, _ in found} == {"causes"}


def test_what_is_said_of_a_kind_is_said_of_the_thing():
    found = fact_of("codeine, an opioid, eases cough", ("codeine", "medicine"), ("opioid", "medicine"), ("cough", "symptom"))
    assert found == [("medicine:codeine", "is_a", "medicine:opioid"), ("medicine:codeine", "treats", "symptom:cough")]


@MANY
@given(TEXTS)
def test_facts_join_entities_of_the_sentence_as_the_schema_allows(text):
    mentions = link(Document("", text), DictionaryTagger(LEXICON).tag([Document("", text)])[0], DictionaryTagger(LEXICON).names)
    for _, inside in by_sentence(text, mentions):
        types = {mention.entity: mention.type for mention in inside}
        found = stated_facts(text, inside, CLINIC_SCHEMA.allows)
        assert len(found) == len(set(found)) and found == stated_facts(text, inside, CLINIC_SCHEMA.allows)
        assert all(head != tail and CLINIC_SCHEMA.allows(types[head], relation, types[tail]) for head, relation, tail in found)
        groups = enumerations(text, inside)
        assert [m for group in groups for m in group] == inside and all(len(group) <= LONGEST_LIST for group in groups)


@MANY
@given(TEXTS, st.lists(st.tuples(st.integers(0, 120), st.integers(1, 12)), max_size=12))
def test_sentences_get_exactly_the_mentions_inside_them(text, places):
    mentions = [Mention(start, start + length, "x") for start, length in places]
    by_hand = [(span, [m for m in sorted(mentions, key=lambda m: (m.start, m.end)) if span[0] <= m.start and m.end <= span[1]]) for span in sentences(text)]
    assert by_sentence(text, mentions) == by_hand


def test_patterns_keep_their_quality():
    right = found = gold = 0
    for document in (*load_clinic("graph"), *load_clinic("train")):
        facts = {f for _, inside in by_sentence(document.text, document.mentions) for f in stated_facts(document.text, inside, CLINIC_SCHEMA.allows)}
        wanted = {(r.head, r.relation, r.tail) for r in document.relations}
        right, found, gold = right + len(facts & wanted), found + len(facts), gold + len(wanted)
    assert right / found >= 0.85 and right / gold >= 0.40


def test_own_patterns_are_used():
    mentions = [Mention(0, 4, "x", "a"), Mention(11, 14, "x", "b")]
    assert stated_facts("this begets that", [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"parent_of": ("begets", "")}) == [("a", "parent_of", "b")]
    assert stated_facts("this begets that", [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"child_of": ("", "begets")}) == [("b", "child_of", "a")]
