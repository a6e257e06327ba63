"""What no lesson of the reader should carry: any text, any dictionary, any order of reading, texts made to be slow."""
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, DictionaryEntry, Document, Mention, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA, KnowledgeGraph, add_gold
from kglearn.linking import link
from kglearn.reader import (LONGEST_LIST, MAX_WORDS, PATTERNS, STOPWORDS, DictionaryTagger, LinearTagger, Reader, TermTagger, by_sentence,
                            candidate_spans, cooccurring, enumerations, labelled_mentions, learn_types, phrases, relate, word_labels)
from kglearn.text import Encoder, normalise, sentences, tiny_encoder, windows, words

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEXICON = clinic_lexicon()
PIECES = ["Codeine", "ibuprofen", "NSAIDs", "fever", "nausea", "cough", "asthma", "chronic kidney disease", "CKD", "(CKD)", "(MS)", "mitral stenosis",
          "MS", "causes", "treats", "for", "with", "no", "and", ",", ".", ";", "\n", "(", ")", "<script>", "'; DROP TABLE fact; --", "糖尿病", "cafe\u0301",
          "\u202e", "👩‍⚕️", "\0", "is", "a", "such as", "&", "%", "12", "_", "ﬁ", "ALL"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=120))


@pytest.fixture(scope="module")
def tiny():
    return Encoder(*tiny_encoder())


@pytest.fixture(scope="module")
def linear(tiny):
    return LinearTagger(CLINIC_SCHEMA.types, tiny, layers=(0, 2)).fit(load_clinic("train")[:8])


def reader(tiny, kg=None, **options):
    return Reader(kg or KnowledgeGraph(schema=CLINIC_SCHEMA), DictionaryTagger(LEXICON), LEXICON, encoder=tiny, **options)


# Candidates


@MANY
@given(TEXTS)
def test_candidates_are_exactly_the_spans_that_the_rules_leave(text):
    offsets = words(text)

    def edge(number):
        piece = text[slice(*offsets[number])]
        return piece[0].isalnum() and not (piece.casefold() in STOPWORDS and not (piece.isupper() and len(piece) > 1))
    everything = [(first, last) for first in range(len(offsets)) for last in range(first, len(offsets))]
    assert candidate_spans(text, offsets) == [(f, e) for f, e in everything if e - f < MAX_WORDS and edge(f) and edge(e)]


def test_a_name_with_a_separate_accent_is_a_candidate():
    text = "cafe\u0301 disease"
    assert [text[s:e] for s, e in words(text)] and (0, 1) in candidate_spans(text, words(text))


# Taggers


@MANY
@given(TEXTS)
def test_dictionary_mentions_lie_inside_in_order_and_apart_and_are_names(text):
    tagger = DictionaryTagger([*LEXICON, DictionaryEntry("x:script", "disease", ("script", "糖尿病"))])
    found = tagger.tag([Document("", text)])[0]
    assert all(0 <= m.start < m.end <= len(text) and m.type for m in found)
    assert all(left.end <= right.start for left, right in zip(found, found[1:]))
    starts, ends = {s for s, _ in words(text)}, {e for _, e in words(text)}
    assert all(m.start in starts and m.end in ends for m in found)
    assert tagger.tag([Document("", text)])[0] == found


@MANY
@given(st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join))
def test_no_longer_name_begins_where_a_shorter_was_taken(text):
    tagger = DictionaryTagger(LEXICON)
    offsets = words(text)
    names = {(offsets[f][0], offsets[e][1]) for f, e in candidate_spans(text, offsets) if normalise(text[offsets[f][0]:offsets[e][1]]) in tagger.names}
    for mention in tagger.tag([Document("", text)])[0]:
        assert not any(start == mention.start and end > mention.end for start, end in names)


@MANY
@given(TEXTS)
def test_learnt_and_term_mentions_lie_inside_the_text_and_apart(linear, text):
    for tagger in (linear, TermTagger(least=1).fit([Document("", text)])):
        found = tagger.tag([Document("", text)])[0]
        assert all(0 <= m.start < m.end <= len(text) for m in found)
        assert all(left.end <= right.start for left, right in zip(found, found[1:]))
        assert tagger.tag([Document("", text)])[0] == found


def test_the_linear_tagger_is_the_same_whenever_it_is_fitted(tiny, linear):
    again = LinearTagger(CLINIC_SCHEMA.types, tiny, layers=(0, 2)).fit(load_clinic("train")[:8])
    assert again.tag(load_clinic("golden")) == linear.tag(load_clinic("golden"))


def test_the_linear_tagger_learns_what_it_is_shown(tiny):
    documents = load_clinic("train")[:2]
    tagged = LinearTagger(CLINIC_SCHEMA.types, tiny, layers=(0, 1, 2), decay=1e-7).fit(documents, steps=400).tag(documents)
    gold = {(d.id, m.start, m.end, m.type) for d in documents for m in d.mentions}
    found = {(d.id, m.start, m.end, m.type) for d, mentions in zip(documents, tagged) for m in mentions}
    assert len(gold & found) / len(gold | found) > 0.5, "48 random numbers a word are enough for most of it"


def test_labels_and_mentions_go_there_and_back():
    for document in load_clinic("train"):
        offsets = words(document.text)
        decoded = labelled_mentions(word_labels(document.mentions, offsets, CLINIC_SCHEMA.types), offsets, CLINIC_SCHEMA.types)
        assert [(m.start, m.end, m.type) for m in decoded] == [(m.start, m.end, m.type) for m in document.mentions]


def test_the_linear_tagger_reads_a_long_text_to_its_end(tiny):
    long = Document("", "He was well. " * 400 + "Then came fever.", mentions=(Mention(13 * 400 + 10, 13 * 400 + 15, "symptom"),))
    tagged = LinearTagger(["symptom"], tiny, layers=(0, 1), decay=1e-7).fit([long], steps=200).tag([long, Document("", "")])
    assert [(m.start, m.end) for m in tagged[0]] == [(5210, 5215)] and tagged[1] == []


def test_unfitted_or_unlabelled_is_bad_input(tiny):
    with pytest.raises(BadInput, match="not been fitted"):
        LinearTagger(["disease"], tiny).tag([Document("", "asthma")])
    for documents in ([], [document.unlabelled() for document in load_clinic("train")[:2]]):
        with pytest.raises(BadInput, match="label some"):
            LinearTagger(["disease"], tiny).fit(documents)


def test_unlabelled_documents_are_not_taken_for_documents_without_names(tiny, linear):
    mixed = [*load_clinic("train")[:8], *(document.unlabelled() for document in load_clinic("train")[8:12])]
    assert LinearTagger(CLINIC_SCHEMA.types, tiny, layers=(0, 2)).fit(mixed).tag(load_clinic("golden")) == linear.tag(load_clinic("golden"))


def test_learn_types_does_not_depend_on_order_in_a_tie():
    entries = [DictionaryEntry("a", "", ("one",)), DictionaryEntry("b", "", ("two",))]
    labelled = [Document("", "one two", mentions=(Mention(0, 3, "x"), Mention(4, 7, "b")))]
    swapped = [Document("", "two one", mentions=(Mention(0, 3, "b"), Mention(4, 7, "x")))]
    assert learn_types(entries, labelled) == learn_types(entries, swapped) and learn_types(entries, labelled)[0].type == "b"


@MANY
@given(TEXTS)
def test_phrases_hold_no_stop_word_and_stay_on_their_line(text):
    for start, end in phrases(text):
        pieces = [text[s:e] for s, e in words(text) if start <= s and e <= end]
        assert 1 <= len(pieces) <= 4 and "\n" not in text[start:end] and not any(piece.casefold() in STOPWORDS for piece in pieces)


# Relating


def fact_of(text, *places):
    mentions = [Mention(text.index(name), text.index(name) + len(name), type, f"{type}:{name}") for name, type in places]
    return relate(text, sorted(mentions, key=lambda mention: mention.start), CLINIC_SCHEMA.allows)


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
        found = relate(text, inside, CLINIC_SCHEMA.allows)
        assert len(found) == len(set(found)) and found == relate(text, inside, CLINIC_SCHEMA.allows)
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
        facts = {f for _, inside in by_sentence(document.text, document.mentions) for f in relate(document.text, inside, CLINIC_SCHEMA.allows)}
        wanted = {(r.head, r.relation, r.tail) for r in document.relations}
        right, found, gold = right + len(facts & wanted), found + len(facts), gold + len(wanted)
    assert right / found >= 0.85 and right / gold >= 0.40


def test_own_patterns_are_used():
    mentions = [Mention(0, 4, "x", "a"), Mention(11, 14, "x", "b")]
    assert relate("this begets that", [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"parent_of": ("begets", "")}) == [("a", "parent_of", "b")]
    assert relate("this begets that", [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"child_of": ("", "begets")}) == [("b", "child_of", "a")]


# Reading


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_order_and_any_portions_give_the_same_graph(tiny, texts, chance):
    documents = [Document(f"{number} <b>", text) for number, text in enumerate(texts)]
    whole, parts = reader(tiny), reader(tiny)
    whole.read(documents)
    shuffled = chance.sample(documents, len(documents))
    cut = chance.randint(0, len(documents))
    for portion in (shuffled[:cut], shuffled[cut:], shuffled[:1]):
        parts.read(portion)
    assert parts.kg.fingerprint() == whole.kg.fingerprint()


@pytest.mark.parametrize("patterns", [PATTERNS, None], ids=["patterns", "cooccurrence"])
def test_reading_in_portions_is_reading_at_once(tiny, patterns):
    passages = [document.unlabelled() for document in load_clinic("golden")]
    whole, parts = (reader(tiny, KnowledgeGraph(), patterns=patterns) for _ in range(2))
    report = whole.read(passages)
    portions = [parts.read(passages[20:]), parts.read(passages[:22])]
    assert parts.kg.fingerprint() == whole.kg.fingerprint() and report.facts == sum(portion.facts for portion in portions)
    assert whole.read(passages).facts == 0 and report.documents == len(passages)


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_the_report_accounts_for_everything(tiny, texts):
    documents = [Document(str(number % 3), text) for number, text in enumerate(texts)]
    r = reader(tiny)
    report = r.read(documents)
    assert report.documents == len(documents) and report.documents - report.unchanged == len(r.kg.documents())
    assert report.mentions == len(r.kg.mentions()) == report.in_dictionary + report.new_names
    assert report.facts == sum(len(r.kg.evidence(f.head, f.relation, f.tail)) for f in r.kg.facts()) and report.rejected_by_schema == 0
    assert "<script" not in report._repr_html_()


class Interrupted:
    def tag(self, documents):
        for document in documents:
            if document.id == "2":
                raise KeyboardInterrupt
            yield [Mention(0, 6, "symptom")]


def test_an_interrupted_reading_leaves_the_graph_as_it_was(tiny):
    kg = KnowledgeGraph()
    add_gold(kg, load_clinic("train")[0])
    before = kg.fingerprint(), kg.revision
    with pytest.raises(KeyboardInterrupt):
        Reader(kg, Interrupted(), encoder=tiny).read([Document(str(n), "nausea") for n in range(4)])
    assert (kg.fingerprint(), kg.revision) == before


class Everything:
    "Marks each word, of one type."
    def __init__(self, type):
        self.type = type

    def tag(self, documents):
        return [[Mention(s, e, self.type) for s, e in words(d.text)] for d in documents]


def test_a_fact_against_the_schema_is_counted_and_not_kept(tiny):
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    for number in range(3):
        kg.add_document(Document(f"before{number}", "codeine"))
        kg.add_mention(f"before{number}", 0, 7, "test", "medicine:codeine")
    report = Reader(kg, DictionaryTagger(LEXICON), LEXICON, encoder=tiny).read([Document("d", "Codeine causes nausea.")])
    assert report.rejected_by_schema == 1 and report.facts == 0 and not list(kg.facts())


def test_a_stranger_of_another_type_is_not_merged_with_the_dictionarys(tiny):
    entries = [DictionaryEntry("D1", "disease", ("cold",))]
    for type, expected in (("disease", "D1"), ("symptom", "symptom:cold"), ("term", "D1")):
        kg = KnowledgeGraph()
        Reader(kg, Everything(type), entries, encoder=tiny).read([Document("d", "cold")])
        assert [mention.entity for mention in kg.mentions()] == [expected]


def test_sentences_that_no_window_holds_are_counted(tiny):
    def cut(text):
        return Reader(KnowledgeGraph(), DictionaryTagger(LEXICON), LEXICON, encoder=tiny).read([Document("d", text)]).cut_sentences
    whole = "Codeine causes nausea. " * (tiny.room // 4)
    assert len(windows(whole, tiny)) > 1 and cut(whole) == 0, "cut between sentences, which costs nothing"
    endless = "codeine " * (2 * tiny.room) + "."
    assert cut(endless) == len(windows(endless, tiny)) - 1 > 0


def test_names_in_an_unreadable_script_are_counted(tiny):
    kg = KnowledgeGraph()
    report = Reader(kg, DictionaryTagger([DictionaryEntry("disease:dm", "disease", ("糖尿病",))]), encoder=tiny).read([Document("d", "糖尿病と診断された。")])
    assert report.unreadable_script == 1 and report.mentions == 1 and kg.find("糖尿病")


@pytest.mark.parametrize("text", ["fever, " * 4000, "((((" * 5000, "codeine causes " * 3000, "a " * 20000, "no " * 10000 + "fever", "x" * 100_000,
                                  "'" * 20000, "- " * 20000, "fever causes " + "very " * 20000 + "cough"],
                         ids=lambda text: re.sub(r"\W+", "_", text[:12]))
def test_hostile_texts_cost_little(tiny, text):
    r = reader(tiny)
    r.kg.add_document(Document("d", text))
    started = time.process_time()
    mentions = link(Document("d", text), r.tagger.tag([Document("d", text)])[0], r.linker.names)
    for _, inside in by_sentence(text, mentions):
        relate(text, inside, CLINIC_SCHEMA.allows)
        cooccurring(inside)
    assert time.process_time() - started < 5
