"""What no lesson of the reader should carry: any text, any dictionary, any order of reading, texts made to be slow."""
import re
import signal
import subprocess
import sys
import time
from copy import copy
from dataclasses import dataclass
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import PIECES, TEXTS
from kglearn.data import BadInput, DictionaryEntry, Document, Mention, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA, Evidence, KnowledgeGraph, add_gold
from kglearn.linking import EXACT, Linker, link, long_forms
from kglearn.reader import (MAX_WORDS, SHARD, STOPWORDS, Counts, DictionaryTagger, LinearTagger, Reader, candidate_spans, counted,
                            labelled_mentions, learn_types, spelling_key, word_labels)
from kglearn.relations import CooccurrenceRelater, PatternRelater
from kglearn.text import Encoder, normalise, tiny_encoder, windows, words

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEXICON = clinic_lexicon()


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


# A small world in which names begin alike, overlap, and are spelt in several ways.
BITS = ["beta", "β", "blocker", "blockers", "-", " ", " ", " ", "kidney", "disease", "haem", "hem", "a", "of", "'s", "’s", "'", "MS", "ms", "(MS)", "(KD)", "KD", ".", ",", "糖", "尿病", "2", "２",
        "é", "e\u0301", "s", "or", "our"]
SPELT = st.lists(st.sampled_from(BITS), min_size=1, max_size=14).map("".join)


@settings(MANY, max_examples=400)
@given(st.lists(SPELT, min_size=1, max_size=6), st.lists(SPELT, max_size=5).map(" ".join))
def test_the_tagger_is_a_leftmost_longest_search_over_all_spans(names, text):
    entries = [DictionaryEntry(str(number), "x", (name,)) for number, name in enumerate(names)]
    lettered = [(normalise(entry.names[0]), entry.id) for entry in entries if any(map(str.isalpha, normalise(entry.names[0])))]
    exact, spelt = ({key(name): id for name, id in reversed(lettered)} for key in (str, spelling_key))
    written = {entry.names[0]: entry.id for entry in reversed(entries) if any(map(str.isalpha, normalise(entry.names[0])))}
    short = [name for name in names if len(name) <= 4]
    capitals = {spelling_key(name) for name in short if name.isupper()} - {spelling_key(name) for name in short if not name.isupper()}
    explained = {spelling_key(name): long for name, long in long_forms(text).items()}

    def meaning(surface):
        key = spelling_key(surface)
        if surface.islower() and key in capitals:
            return None
        name = explained[key] if key in explained and not surface.islower() else surface
        return written.get(name, exact.get(normalise(name), spelt.get(spelling_key(name))))

    def edge(piece):
        return piece[0].isalnum() and (piece.casefold() not in STOPWORDS or piece.isupper() and len(piece) > 1)
    offsets, expected, first = words(text), [], 0
    while first < len(offsets):
        spans = [(offsets[first][0], end, number + 1) for number, (start, end) in enumerate(offsets) if number >= first
                 and edge(text[slice(*offsets[first])]) and edge(text[start:end]) and not (number > first and text[start:end] in "-'’")]
        start, end, behind = next((span for span in reversed(spans) if meaning(text[span[0]:span[1]]) is not None), (0, 0, first + 1))
        expected += [(start, end, meaning(text[start:end]))] * (end > 0)
        first = behind
    assert [(m.start, m.end, m.entity) for m in DictionaryTagger(entries).tag([Document("", text)])[0]] == expected


@MANY
@given(SPELT)
def test_names_alike_for_normalise_have_one_spelling_key(name):
    assert spelling_key(normalise(name)) == spelling_key(name) == spelling_key(name.upper())


def found_in(text, *names):
    "Surface and name of each mention, the dictionary having one entry a name."
    document = Document("", text)
    return [(document.surface(m), m.entity) for m in DictionaryTagger([DictionaryEntry(name, "x", (name,)) for name in names]).tag([document])[0]]


@pytest.mark.parametrize("text, names, expected", [
    ("Two Beta-Blockers, a beta blocker, a β-blocker and betablockers.", ["beta-blocker"], ["Beta-Blockers", "beta blocker", "β-blocker", "betablockers"]),
    ("Parkinson's disease, Parkinson’s disease, parkinson disease", ["Parkinson disease"], ["Parkinson's disease", "Parkinson’s disease", "parkinson disease"]),
    ("Anemia, anaemias and a tumour of the oesophagus", ["anaemia", "esophagus", "tumor"], ["Anemia", "anaemias", "tumour", "oesophagus"]),
    ("TNF-α, TNF alpha; Sjogren syndrome, Sjo\u0308gren's syndrome", ["TNF-alpha", "Sjögren syndrome"], ["TNF-α", "TNF alpha", "Sjogren syndrome", "Sjo\u0308gren's syndrome"]),
    ("DES was fed; des and the FED", ["DES", "FED"], ["DES", "FED"]),
    ("Gout or gout or GOUT", ["GOUT", "gout"], ["Gout", "gout", "GOUT"]),
    ("1 of 12, type 1", ["1", "12", "%", "type 1"], ["type 1"]),
    ("acute acute renal failure failure", ["renal failure", "acute renal failure", "acute acute", "failure failure"], ["acute acute", "renal failure"]),
    ("a syndrome of very many words and of not one word too few", ["syndrome of very many words and of not one word too few"], ["syndrome of very many words and of not one word too few"]),
    ("preasthma asthmatic asthma3 (asthma)", ["asthma"], ["asthma"]),
    ("No rash's end, 'rash' and rash' s", ["rash"], ["rash", "rash", "rash"])])
def test_spellings_are_found_and_words_are_not_broken(text, names, expected):
    assert [surface for surface, _ in found_in(text, *names)] == expected


def test_the_spelling_of_the_dictionary_comes_first():
    names = ("haemorrhage", "hemorrhage")
    assert found_in("hemorrhages, haemorrhage, haemor-rhage", *names) == [("hemorrhages", names[1]), ("haemorrhage", names[0]), ("haemor-rhage", names[0])]


def test_a_short_form_means_what_its_text_says_and_in_capitals_only():
    text = "Mitral stenosis (MS) and aortic tear (AT): MS at first, AT later, ms and at last."
    assert found_in(text, "MS", "aortic tear", "AT") == [("aortic tear", "aortic tear"), ("AT", "aortic tear"), ("AT", "aortic tear")]
    assert found_in("MS at first, AT later.", "MS", "AT") == [("MS", "MS"), ("AT", "AT")]
    assert found_in("kidney disease 2 (KD-2); KD-2", "kidney disease 2") == [(surface, "kidney disease 2") for surface in ("kidney disease 2", "KD-2", "KD-2")]


# Chinese and Japanese

ZH = [DictionaryEntry("d:t2", "disease", ("2型糖尿病",)), DictionaryEntry("d:dm", "disease", ("糖尿病",)), DictionaryEntry("d:hbp", "disease", ("高血压",)),
      DictionaryEntry("m:met", "medicine", ("二甲双胍", "メトホルミン")), DictionaryEntry("d:ckd", "disease", ("chronic kidney disease",)), DictionaryEntry("d:asthma", "disease", ("支气管哮喘",))]


@pytest.mark.parametrize("text, expected", [
    ("患者有２型糖尿病和高血压。医生给她二甲双胍！", ["２型糖尿病 d:t2", "高血压 d:hbp", "二甲双胍 m:met"]),
    ("祖父的糖尿病不是 2 型 糖尿病吗？", ["糖尿病 d:dm", "2 型 糖尿病 d:t2"]),
    ("患者は２型糖尿病と診断され、メトホルミンを開始した。", ["２型糖尿病 d:t2", "メトホルミン m:met"]),
    ("慢性肾脏病 chronic kidney disease（CKD）。CKD与高血压（140/90）", ["chronic kidney disease d:ckd", "CKD d:ckd", "CKD d:ckd", "高血压 d:hbp"]),
    ("糖、尿、病；高血，压", [])])
def test_a_dictionary_works_on_chinese_and_japanese(text, expected):
    document = Document("", text)
    assert [f"{document.surface(m)} {m.entity}" for m in DictionaryTagger(ZH).tag([document])[0]] == expected


def test_chinese_names_are_linked_by_their_letters_and_counted(tiny):
    class Marked:
        def tag(self, documents):
            return [[Mention(2, 6, "disease"), Mention(9, 15, "disease")] for _ in documents]
    note = Document("note", "她有气管哮喘，以及asthma。")
    for threshold, entity in ((EXACT, "disease:气 管 哮 喘"), (0.7, "d:asthma")):
        kg = KnowledgeGraph()
        report = Reader(kg, Marked(), encoder=tiny, linker=Linker(ZH, tiny, threshold)).read([note])
        assert kg.mentions()[0].entity == entity and (report.mentions, report.unreadable_script) == (2, 1)


def test_facts_stay_within_a_chinese_sentence(tiny):
    kg = KnowledgeGraph()
    Reader(kg, DictionaryTagger(ZH), ZH, CooccurrenceRelater(), encoder=tiny).read([Document("d", "她有糖尿病和高血压。“要二甲双胍吗？”不要。")])
    assert [(fact.head, fact.tail) for fact in kg.facts()] == [("d:dm", "d:hbp")]
    piece, = kg.evidence("d:dm", "related_to", "d:hbp")
    assert kg.document("d").text[piece.start:piece.end] == "她有糖尿病和高血压。"


@MANY
@given(TEXTS)
def test_learnt_mentions_lie_inside_the_text_and_apart(linear, text):
    found = linear.tag([Document("", text)])[0]
    assert all(0 <= m.start < m.end <= len(text) for m in found)
    assert all(left.end <= right.start for left, right in zip(found, found[1:]))
    assert linear.tag([Document("", text)])[0] == found


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


@pytest.mark.parametrize("relater", [PatternRelater(CLINIC_SCHEMA), CooccurrenceRelater()], ids=["patterns", "cooccurrence"])
def test_reading_in_portions_is_reading_at_once(tiny, relater):
    passages = [document.unlabelled() for document in load_clinic("golden")]
    whole, parts = (reader(tiny, KnowledgeGraph(), relater=relater) for _ in range(2))
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
    assert report.facts == sum(len(r.kg.evidence(f.head, f.relation, f.tail)) for f in r.kg.facts()) and report.rejected_by_schema == 0 == report.said_again
    assert "<script" not in report._repr_html_()


class Meddling:
    "A tagger that finds the first six letters, and in whose hands something happens at the second document."
    def __init__(self, happens):
        self.happens = happens

    def tag(self, documents):
        for document in documents:
            if document.id == "1":
                self.happens()
            yield [Mention(0, 6, "symptom")]


def raised(error):
    def happens():
        raise error
    return happens


NAUSEA = [Document(str(number), "nausea") for number in range(3 * SHARD)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, BadInput, ZeroDivisionError, MemoryError])
def test_an_interrupted_reading_leaves_the_graph_as_it_was(tiny, error):
    kg = KnowledgeGraph()
    add_gold(kg, load_clinic("train")[0])
    before = kg.fingerprint(), kg.revision
    with pytest.raises(error):
        Reader(kg, Meddling(raised(error)), encoder=tiny).read(NAUSEA)
    assert (kg.fingerprint(), kg.revision) == before


KILLED = """
import os, signal, sys
from kglearn.data import Document, Mention
from kglearn.graph import KnowledgeGraph
from kglearn.reader import Reader
from kglearn.text import Encoder, tiny_encoder

class Tagger:
    def tag(self, documents):
        if documents[-1].id == "last":
            os.kill(os.getpid(), signal.SIGKILL)
        return [[Mention(0, 6, "symptom")] for _ in documents]

kg = KnowledgeGraph(sys.argv[1])
Reader(kg, Tagger(), encoder=Encoder(*tiny_encoder())).read([*(Document(str(n), "nausea") for n in range(100)), Document("last", "fever")])
"""


def test_a_reading_that_is_killed_leaves_the_graph_as_it_was(tmp_path):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    kg.add_document(Document("before", "fever"))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "graph.db")], stderr=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert kg.documents() == ["before"] and kg.revision == 1 and kg.add_document(Document("after", "cough"))


def test_others_may_write_while_texts_are_read(tiny, tmp_path):
    kg, other = (KnowledgeGraph(tmp_path / "graph.db") for _ in range(2))

    def meanwhile():
        other.add_document(Document("2", "nausea"))
        other.add_document(Document("3", "Nausea."))
        other.add_document(Document("theirs", "cough"))
    report = Reader(kg, Meddling(meanwhile), encoder=tiny).read([*NAUSEA[:5], NAUSEA[0]])
    assert (report.documents, report.unchanged, report.mentions) == (6, 2, 4), "one came twice, and one is theirs"
    assert kg.documents() == ["0", "1", "2", "3", "4", "theirs"] and kg.document("3").text == "nausea", "the later writer wins"
    assert [mention.document for mention in kg.mentions()] == ["0", "1", "3", "4"] and kg.revision == 4


def test_a_tagger_that_forgets_a_document_is_no_silent_loss(tiny):
    class Forgetful:
        def tag(self, documents):
            return [[] for _ in documents[1:]]
    kg = KnowledgeGraph()
    with pytest.raises(ValueError, match="shorter"):
        Reader(kg, Forgetful(), encoder=tiny).read(NAUSEA[:3])
    assert kg.documents() == []


def test_a_reader_in_a_transaction_is_part_of_it(tiny):
    kg = KnowledgeGraph()
    with pytest.raises(ZeroDivisionError), kg.transaction("both"):
        kg.add_document(Document("before", "fever"))
        Reader(kg, Meddling(list), encoder=tiny).read(NAUSEA[:5])
        raise ZeroDivisionError
    assert kg.documents() == [] and kg.revision == 0


def test_a_reader_travels_without_its_graph(tiny, tmp_path):
    whole = reader(tiny, KnowledgeGraph(tmp_path / "graph.db", CLINIC_SCHEMA))
    sent = copy(whole)
    assert sent.kg is None and whole.kg is not None
    passages = load_clinic("golden")[:4]
    assert sent.analyse(passages) == whole.analyse(passages)


@dataclass(repr=False)
class Doubts(Counts):
    doubts: int = counted("names that it was not sure of")
    texts: int = counted("seen")


def test_what_tagger_and_relater_count_is_in_the_report(tiny):
    class Doubtful(DictionaryTagger):
        report = Doubts(doubts=7)

        def tag(self, documents):
            self.report += Doubts(texts=len(documents))
            return super().tag(documents)

    class Counting(PatternRelater):
        report = "not a count"
    r = Reader(KnowledgeGraph(), Doubtful(LEXICON), LEXICON, Counting(CLINIC_SCHEMA), encoder=tiny)
    assert r.read(NAUSEA).told == {"tagger": Doubts(texts=len(NAUSEA))}, "what it had counted before is not of this reading"
    assert r.read(NAUSEA).told == {}
    r.relater.report = Doubts()
    assert r.read([Document("new", "fever")]).told == {"tagger": Doubts(texts=1), "relater": Doubts()}


class Everything:
    "Marks each word, of one type."
    def __init__(self, type):
        self.type = type

    def tag(self, documents):
        return [[Mention(s, e, self.type) for s, e in words(d.text)] for d in documents]


def test_a_fact_against_the_schema_is_counted_and_not_kept(tiny):
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("medicine:codeine", "codeine", "test")
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
    mentions = [link(Document("d", text), r.tagger.tag([Document("d", text)])[0], r.linker.names)]
    for relater in (r.relater, CooccurrenceRelater()):
        relater.relate([Document("d", text)], mentions)
    assert time.process_time() - started < 5


# Bad input

def calls_of(read) -> int:
    "How many functions a reading calls: a measure of work that no clock disturbs. What one call into C does is not seen."
    count = 0

    def one_more(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")
    sys.setprofile(one_more)
    try:
        read()
    finally:
        sys.setprofile(None)
    return count


MB = 1_000_000
HUGE = {"one word": lambda size: "x" * size, "a Chinese line": lambda size: "糖" * (size // 20), "NULs": lambda size: "fever\0" * (size // 100), "brackets": lambda size: "(MS) " * (size // 100),
        "accents": lambda size: "e" + "\u0301" * size, "nearly a name": lambda size: "chronic kidney " * (size // 300), "short forms": lambda size: " ".join(f"Axe{n} bee (AB{n})" for n in range(size // 300))}


@pytest.mark.parametrize("kind", HUGE)
def test_the_work_of_reading_grows_with_the_text_and_not_faster(tiny, kind):
    def work(size):
        r = reader(tiny)
        r.read([Document("before", "fever")])  # what happens once only
        return calls_of(lambda: r.read([Document("d", HUGE[kind](size))]))
    once, twice = work(MB // 4), work(MB // 2)
    assert twice < 2.2 * once + 2000


@pytest.mark.parametrize("text", ["x" * MB, "\0" * MB, "fever\0cough\0" + "y" * MB, "fever " + "e\u0301" * (MB // 2)], ids=["word", "NULs", "NULs between", "accents"])
def test_a_million_letters_are_kept_and_read(tiny, text):
    r = reader(tiny)
    report = r.read([Document("d", text), Document("e", "Codeine causes nausea.")])
    assert r.kg.document("d").text == text and report.documents == 2 and report.facts == 1
    assert [m.surface for m in r.kg.mentions("d")] == [name for name in ("fever", "cough") if name in text]
    assert report.without_names == (not r.kg.mentions("d"))


@pytest.mark.parametrize("text", ["\ufefffever", "caf\u00c3\u00a9 fever", "fever\u0000", "\u202efever\u202c", "fever\r\ncough\u0085", "\ufffd\ufffdfever"])
def test_what_a_wrong_encoding_leaves_behind_is_read(tiny, text):
    r = reader(tiny)
    assert r.read([Document("d", text)]).mentions == 1 + ("cough" in text) and r.kg.document("d").text == text
    assert r.kg.mentions("d")[0].surface == "fever"


def test_half_a_character_is_one_clear_error_and_nothing_is_read(tiny):
    r = reader(tiny)
    with pytest.raises(BadInput, match="lone surrogate"):
        r.read([Document("a", "fever"), Document("b", "fever \ud800")])
    assert r.kg.documents() == [] and r.kg.revision == 0


@pytest.mark.parametrize("start, end", [(-1, 3), (0, 99), (3, 3), (4, 2)])
def test_offsets_outside_the_text_are_one_clear_error_and_nothing_is_read(tiny, start, end):
    class Careless:
        def tag(self, documents):
            return [[Mention(0, 5, "symptom"), Mention(start, end, "symptom")] for _ in documents]
    kg = KnowledgeGraph()
    with pytest.raises(BadInput, match=f"{start}-{end} lies outside document 'd'"):
        Reader(kg, Careless(), encoder=tiny).read([Document("d", "fever")])
    assert kg.documents() == [] and kg.revision == 0


def test_the_report_shows_every_count_as_a_table(tiny):
    long = "Codeine causes nausea. " * (tiny.room // 4) + "codeine " * (2 * tiny.room) + "糖尿病"
    documents = [Document("a", "Codeine causes nausea."), Document("a", "Codeine causes nausea."), Document("b", "Nothing."), Document("c", long), Document("d", "x 糖尿病")]
    r = Reader(KnowledgeGraph(), DictionaryTagger([*LEXICON, DictionaryEntry("d:dm", "disease", ("糖尿病",))]), LEXICON, encoder=tiny)
    report = r.read(documents)
    assert (report.documents, report.unchanged, report.without_names, report.long_documents) == (5, 1, 1, 1)
    assert report.unreadable_script == 2 and report.new_names == 2 and report.cut_sentences >= 2
    table = report._repr_html_()
    assert len(report.rows()) == 13 and all(f">{count}<" in table and f">{name}<" in table and f">{meaning}<" in table
                                            for name, count, meaning in report.rows() if count)
    assert not any(f">{name}<" in table for name, count, _ in report.rows() if not count)


FACT = "medicine:codeine", "causes", "symptom:nausea"


@pytest.mark.parametrize("fact, message", [
    ((*FACT, Evidence("d", 0, 99, "x")), "0-99 lies outside document 'd'"), ((*FACT, Evidence("d", 5, 2, "x")), "lies outside"),
    ((*FACT, Evidence("nowhere", 0, 2, "x")), "no document 'nowhere'"), ((*FACT, Evidence("d", 0, 2, "x", 0)), "confidence above 0"),
    ((*FACT, Evidence("d", 0, 2, "x", float("nan"))), "confidence above 0"),
    (("medicine:codeine", "causes", "symptom:unheard", Evidence("d", 0, 2, "x")), "no entity 'symptom:unheard'")])
def test_a_fault_of_the_relater_is_one_clear_error_and_no_rejection(tiny, fact, message):
    class Careless:
        def relate(self, documents, mentions):
            return [[(*FACT, Evidence("d", 0, 22, "x")), fact] if document.id == "d" else [] for document in documents]
    r = reader(tiny, relater=Careless())
    with pytest.raises(BadInput, match=f"Careless has found in document 'd' .*{message}"):
        r.read([Document("a", "fever"), Document("d", "Codeine causes nausea.")])
    assert r.kg.documents() == [] and r.kg.revision == 0 and not list(r.kg.facts())


def test_of_many_facts_those_are_counted_that_are_new_and_those_that_the_schema_forbids(tiny):
    class Busy:
        def relate(self, documents, mentions):
            facts = [FACT, FACT[::-1], FACT, ("symptom:nausea", "treats", "medicine:codeine"), ("medicine:codeine", "likes", "symptom:nausea")]
            return [[(*fact, Evidence(document.id, 0, 7, "x", 0.5 + number / 10)) for number, fact in enumerate(facts)] for document in documents]
    r = reader(tiny, relater=Busy())
    report = r.read([Document(id, "Codeine causes nausea.") for id in "ab"])
    assert (report.facts, report.said_again, report.rejected_by_schema) == (2, 2, 6)
    assert [[piece.confidence for piece in r.kg.evidence(*FACT)], len(list(r.kg.facts()))] == [[0.7, 0.7], 1], "the surer of two stays"


@pytest.mark.parametrize("confidence", [0, -1, 1.01, float("nan")])
def test_a_reader_is_not_given_a_confidence_that_means_nothing(tiny, confidence):
    with pytest.raises(BadInput, match="above 0 and at most 1"):
        reader(tiny, confidence=confidence)


@pytest.mark.parametrize("name", ["GoldTagger", "Gold", "AnswerTagger", "ANSWERTagger"])
def test_no_tagger_signs_as_people_do(tiny, name):
    with pytest.raises(BadInput, match=f"called {name}: .*another name"):
        Reader(KnowledgeGraph(), type(name, (Everything,), {})("symptom"), encoder=tiny)
    kg = KnowledgeGraph()
    Reader(kg, type("GoldenTagger", (Everything,), {})("symptom"), encoder=tiny).read([Document("d", "fever")])
    assert kg.mentions()[0].extractor == "golden" and kg.name_evidence() == {}


def test_namesakes_are_read_as_the_entry_of_their_type(tiny):
    entries = [DictionaryEntry("D1", "disease", ("cold",)), DictionaryEntry("S1", "symptom", ("cold",))]
    kg = KnowledgeGraph()
    report = Reader(kg, Everything("symptom"), entries, encoder=tiny).read([Document("d", "cold")])
    assert kg.mentions()[0].entity == "S1" and (report.in_dictionary, report.new_names) == (1, 0)


@MANY
@given(TEXTS, st.lists(st.tuples(st.integers(0, 120), st.integers(0, 9), st.sampled_from(["x", "y", "z"])), max_size=8))
def test_labels_of_words_are_those_of_the_mentions_that_cover_them(text, places):
    offsets, mentions = words(text), [Mention(start, start + size, type) for start, size, type in places]
    expected = [0] * len(offsets)
    for mention in mentions:
        covered = [i for i, (start, end) in enumerate(offsets) if mention.start <= start and end <= mention.end and mention.type != "z"]
        for i in covered:
            expected[i] = 1 + (i != covered[0]) + 2 * (mention.type == "y")
    assert word_labels(mentions, offsets, ("x", "y")) == expected


def test_the_work_of_labelling_words_grows_with_the_text_and_not_faster():
    def compared(way):
        def method(self, other):
            Counted.times += 1
            return getattr(int, way)(self, other)
        return method
    Counted = type("Counted", (int,), {way: compared(way) for way in ("__lt__", "__le__", "__gt__", "__ge__")})

    def work(size):
        Counted.times = 0
        offsets = [(Counted(6 * n), Counted(6 * n + 5)) for n in range(size)]
        assert word_labels([Mention(Counted(start), Counted(end), "x") for start, end in offsets], offsets, ("x",)) == [1] * size
        return Counted.times
    assert work(800) < 3 * work(400), "four times as much, if every mention looks at every word"


def test_a_source_that_is_told_at_the_second_reading_is_kept(tiny):
    r = reader(tiny)
    r.read([Document("d", "Aspirin treats headache.")])
    facts = r.kg.fingerprint(), list(r.kg.facts())
    assert r.read([Document("d", "Aspirin treats headache.", "journal", "2020")]).unchanged == 1
    assert r.kg.document("d").source == "journal" and list(r.kg.facts()) == facts[1] and r.kg.fingerprint() != facts[0]


def test_one_text_with_and_without_a_source_in_one_reading_keeps_the_source(tiny):
    told, bare, other = Document("d", "Aspirin.", "journal", "2020"), Document("d", "Aspirin."), Document("d", "Aspirin!")
    for given, source in (([told, bare], "journal"), ([bare, told], "journal"), ([bare], ""), ([told, other], "")):
        r, apart = reader(tiny), reader(tiny)
        r.read(given)
        for document in given:
            apart.read([document])
        assert r.kg.document("d").source == source and r.kg.fingerprint() == apart.kg.fingerprint()


class Undecided:
    "Tagger and relater: an ache is a symptom in the documents a, and a test in the others."
    def tag(self, documents):
        return [[Mention(0, 4, "symptom" if document.id[0] == "a" else "test", "x:ache"), Mention(9, 12, "disease", "d:flu")] for document in documents]

    def relate(self, documents, mentions):
        return [[("d:flu", "has_symptom", "x:ache", Evidence(document.id, 0, 13, "x"))] for document in documents]


@pytest.mark.parametrize("order", list(permutations(["a1", "b1", "b2"])))
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_an_entry_without_a_type_has_that_of_each_document_whatever_was_read_before(tiny, order, cut):
    kg = KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("x:ache", "ache", ""), kg.add_entity("d:flu", "flu", "disease")
    r, documents = Reader(kg, Undecided(), relater=Undecided(), encoder=tiny), [Document(id, "Ache and flu.") for id in order]
    rejected = [r.read(portion).rejected_by_schema for portion in (documents[:cut], documents[cut:])]
    assert [piece.document for piece in kg.evidence("d:flu", "has_symptom", "x:ache")] == ["a1"] and sum(rejected) == 2


def test_mentions_that_are_given_twice_are_kept_once_and_counted(tiny):
    class Stutterer:
        def tag(self, documents):
            return [[Mention(0, 7, "medicine")] * 3 for _ in documents]
    report = Reader(KnowledgeGraph(), Stutterer(), encoder=tiny).read([Document("d", "Aspirin.")])
    assert (report.mentions, report.said_again) == (3, 2)


def test_two_entries_that_differ_in_capitals_are_told_apart(tiny):
    entries = [DictionaryEntry("cold", "disease", ("cold", "common cold")), DictionaryEntry("copd", "disease", ("chronic obstructive lung disease", "COLD"))]
    r = Reader(KnowledgeGraph(), DictionaryTagger(entries), entries, encoder=tiny)
    r.read([Document("d", "COLD is no cold. Colds pass.")])
    assert [(mention.surface, mention.entity) for mention in r.kg.mentions()] == [("COLD", "copd"), ("cold", "cold"), ("Colds", "cold")]
