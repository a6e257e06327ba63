"""What no lesson of linking should carry: purity over any text, an index checked against scikit-learn, scripts and names of all kinds."""
import re
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from kglearn import linking
from kglearn.data import BadInput, DictionaryEntry, Document, Mention, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA
from kglearn.linking import EXACT, Linker, NameIndex, link, link_accuracy, long_forms, medical_wordings, name_loss, names_of, namesakes_of, spellings_of, tune_names
from kglearn.text import Encoder, normalise, tiny_encoder, words

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEXICON = clinic_lexicon()
NAMES = names_of(LEXICON)
LENIENT = Linker(LEXICON, threshold=0.4)
PIECES = st.sampled_from(["fever", "metfromin", "CKD", "chronic kidney disease", "(CKD)", "hyperthyriodism", ".", "\n", "糖尿病", "é", "\0", "<b>", "'; DROP TABLE x; --"])
TEXTS = st.lists(PIECES, max_size=12).map(" ".join)


@MANY
@given(TEXTS, st.randoms(use_true_random=False), st.sampled_from([EXACT, 0.4]))
def test_linking_is_pure(text, chance, threshold):
    document, linker = Document("d", text), LENIENT.at(threshold)
    mentions = [Mention(s, e, chance.choice(CLINIC_SCHEMA.types)) for s, e in words(text)]
    linked = linker.link(document, mentions)
    shuffled = chance.sample(mentions, len(mentions))
    assert sorted(linker.link(document, shuffled), key=repr) == sorted(linked, key=repr), "in any company"
    assert [linker.link(document, [mention])[0] for mention in mentions] == linked, "and alone"
    assert linker.link(Document("another id", text), mentions) == linked == linker.link(document, linked), "once is enough"
    assert all(m.entity in linker.entities or m.entity.startswith(m.type + ":") for m in linked)
    assert threshold != EXACT or linked == link(document, mentions, NAMES)


@MANY
@given(TEXTS)
def test_likeness_changes_only_what_exact_names_leave_open(text):
    document = Document("d", text)
    mentions = [Mention(s, e, "disease") for s, e in words(text)]
    for exact, found in zip(link(document, mentions, NAMES), LENIENT.link(document, mentions)):
        assert found == exact or (exact.entity not in LENIENT.entities and found.entity in LENIENT.entities)


def test_an_abbreviation_means_what_its_own_document_says():
    names = names_of([DictionaryEntry("disease:ms", "disease", ("MS",)), DictionaryEntry("disease:stenosis", "disease", ("mitral stenosis",))])
    own, other = Document("", "Mitral stenosis (MS). MS."), Document("", "MS.")
    assert link(own, [Mention(22, 24, "disease")], names)[0].entity == "disease:stenosis"
    assert link(other, [Mention(0, 2, "disease")], names)[0].entity == "disease:ms"
    assert long_forms(own.text) == {"ms": "mitral stenosis"}


def test_likeness_goes_by_the_long_form_too():
    document = Document("", "Mitral stenosys (MS). MS.")
    linker = Linker([DictionaryEntry("d:1", "disease", ("mitral stenosis",)), DictionaryEntry("d:2", "disease", ("multiple sclerosis",))], threshold=0.5)
    assert [m.entity for m in linker.link(document, [Mention(0, 15, "disease"), Mention(22, 24, "disease")])] == ["d:1", "d:1"]


def test_the_index_agrees_with_an_independent_cosine():
    index, queries = NameIndex(list(NAMES)), ["metfromin", "pain in the chest", "x", "糖尿病"]
    table = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit(index.names)
    assert np.allclose(index.scores(queries), cosine_similarity(table.transform(queries), table.transform(index.names)), atol=1e-5)


def test_nearest_is_the_order_of_the_scores_and_batches_do_not_matter():
    index, queries = NameIndex(list(NAMES)), [f"fever {number}" for number in range(300)]
    nearest = index.nearest(queries, 4)
    assert nearest[299] == index.nearest(queries[299:], 4)[0] and len(nearest) == 300
    assert [name for name, _ in nearest[0]] == [index.names[i] for i in np.argsort(-index.scores(queries[:1])[0], kind="stable")[:4]]


def test_letters_and_meaning_are_averaged_and_meaning_can_be_missing():
    encoder, names = Encoder(*tiny_encoder()), ["fever", "cough", "糖尿病"]
    letters, both = NameIndex(names), NameIndex(names, encoder, weight=0.25)
    query = ["fevers"]
    meaning = (encoder.embed(query) @ encoder.embed(names[:2]).T).numpy() if encoder.readable("fevers") else None
    assert np.allclose(both.scores(query)[:, 2], letters.scores(query)[:, 2]), "nobody can read that name"
    if meaning is not None:
        assert np.allclose(both.scores(query)[:, :2], 0.25 * letters.scores(query)[:, :2] + 0.75 * meaning, atol=1e-5)
    assert np.allclose(both.scores(["糖尿病"]), letters.scores(["糖尿病"]))


def test_a_name_with_one_word_that_is_not_read_is_linked_by_its_letters():
    names = ["asthma 热", "asthma 咳", "asthma"]
    letters, both = NameIndex(names), NameIndex(names, Encoder(*tiny_encoder()))
    assert np.allclose(both.scores(names[:2]), letters.scores(names[:2])) and both.scores(names[:1])[0, 1] < 0.9, "else the two are one by meaning"
    assert np.allclose(both.scores(names[2:])[:, :2], letters.scores(names[2:])[:, :2])


def test_names_without_spaces_are_linked_by_their_characters():
    linker = Linker([DictionaryEntry("d:1", "disease", ("糖尿病",)), DictionaryEntry("d:2", "disease", ("高血压",))], threshold=0.3)
    document = Document("", "他有二型糖尿病，没有高血压。")
    found = linker.link(document, [Mention(2, 7, "disease"), Mention(10, 13, "disease")])
    assert [m.entity for m in found] == ["d:1", "d:2"]


def test_the_type_decides_between_namesakes_and_an_untyped_entry_fits_all():
    entries = [DictionaryEntry("s:cold", "symptom", ("cold feeling",)), DictionaryEntry("x:cold", "", ("cold feelings",))]
    document = Document("", "colld feeling")
    assert Linker(entries[:1], threshold=0.5).link(document, [Mention(0, 13, "disease")])[0].entity == "disease:colld feeling"
    assert Linker(entries[:1], threshold=0.5).link(document, [Mention(0, 13, "symptom")])[0].entity == "s:cold"
    assert Linker(entries[1:], threshold=0.5).link(document, [Mention(0, 13, "disease")])[0].entity == "x:cold"


@pytest.mark.parametrize("name", ["", " ", "'; DROP TABLE names; --", "<script>alert(1)</script>", "\0", "x" * 100_000, "👩‍⚕️", "‮abc"])
def test_no_name_is_too_strange(name):
    assert len(LENIENT.candidates(name, k=3)) <= 3
    linker = Linker([DictionaryEntry("e", "t", (name, "fever"))], threshold=0.5)
    assert "<script>" not in linker.candidates("fever")._repr_html_()
    assert not re.search("<script", linker.candidates(name)._repr_html_())


def test_accuracy_counts_new_entities_and_leaves_out_the_unknown():
    linker = Linker([DictionaryEntry("d:flu", "disease", ("flu",))], threshold=EXACT)
    document = Document("n", "flu gout ague", mentions=(Mention(0, 3, "disease", "d:flu"), Mention(4, 8, "disease", "d:gout"), Mention(9, 13, "disease")))
    assert link_accuracy(linker, [document]) == 1, "one is found, one is rightly new, one has no gold entity"
    assert link_accuracy(linker.at(0), [document]) == 0.5, "from 0 on everything is the flu"


def test_a_threshold_needs_something_to_be_chosen_on():
    linker = Linker(LEXICON)
    with pytest.raises(BadInput, match="carry entities"):
        linker.fit_threshold([Document("d", "fever", mentions=())])
    assert linker.threshold == Linker(LEXICON).threshold, "left as it was"
    assert linker.fit_threshold(load_clinic("golden")) == linker.threshold
    with pytest.raises(BadInput, match="no names"):
        NameIndex([])


def test_normalised_names_meet():
    assert Linker([DictionaryEntry("d", "disease", ("Beta-Blockers",))]).link(Document("", "beta blocker"), [Mention(0, 12, "disease")])[0].entity == "d"
    assert normalise("Beta-Blockers") == "beta blocker"

def a_habit():
    "A linker of things in two kinds, and documents whose labels always mean the second."
    things = [f"{part}itis" for part in ("hepat", "nephr", "gastr", "derm", "card", "col")]
    linker = Linker([DictionaryEntry(thing + kind, "disease", (thing + kind,)) for thing in things for kind in ("", ", drug induced")])
    return linker, [Document(thing, thing, mentions=(Mention(0, len(thing), "disease", thing + ", drug induced"),)) for thing in things[:4]]


def test_learning_leaves_the_first_linker_alone_and_is_repeated_by_its_seed():
    linker, labelled = a_habit()
    before = linker.candidates("dermitis")
    one, two = linker.learn(labelled, seed=1), linker.learn(labelled, seed=1)
    names = ["dermitis", "carditis", "colitis", "", "\0", "糖尿病"]
    assert one.ranker.rank(names) == two.ranker.rank(names)
    assert linker.candidates("dermitis") == before and linker.ranker is None
    assert one.ranker.rank([]) == [] and Linker([], threshold=0).link(labelled[0], [Mention(0, 9, "disease")])[0].entity == "disease:hepatitis"


def test_a_ranked_name_has_one_answer_in_any_company():
    linker, labelled = a_habit()
    for add_names in (False, True):
        learnt = linker.learn(labelled, add_names)
        names = [f"{name} {number}" for name in ("colitis", "carditis") for number in range(70)]
        together = learnt.ranker.rank(names)
        assert together[100] == learnt.ranker.rank(names[100:101])[0], "batches do not matter"
        assert all(sorted((c.score for c in found), reverse=True) == [c.score for c in found] for found in together)
        assert learnt.candidates("colitis", type="symptom") == (), "the type decides first"


def test_a_learnt_linker_is_asked_about_exact_names_and_its_threshold_decides():
    linker, labelled = a_habit()
    learnt, document = linker.learn(labelled), Document("", "colitis")
    mention = Mention(0, 7, "disease")
    assert learnt.at(EXACT).link(document, [mention])[0].entity == "colitis", "exact names only"
    assert learnt.at(0).link(document, [mention])[0].entity == "colitis, drug induced"
    assert learnt.link(document, [replace(mention, entity="mine")])[0].entity == "mine", "what is linked stays linked"


def test_labelled_names_are_taken_in_when_asked_for():
    entries = [DictionaryEntry("d:1", "disease", ("gout",)), DictionaryEntry("d:2", "disease", ("fever",)), DictionaryEntry("d:3", "disease", ("cough",))]
    names = {"podagra": "d:1", "pyrexia": "d:2", "tussis": "d:3"}
    labelled = [Document(f"{n}{name}", name, mentions=(Mention(0, len(name), "disease", id),)) for n in range(6) for name, id in names.items()]
    learnt = Linker(entries).learn(labelled, add_names=True)
    assert [found[0].entity for found in learnt.ranker.rank(list(names))] == list(names.values())
    assert learnt.ranker.index.names == ["gout", "fever", "cough", *names] and Linker(entries).index.names == ["gout", "fever", "cough"]


def test_a_labelled_name_means_what_it_was_labelled_as_most_often():
    entries = [DictionaryEntry("d:1", "disease", ("gout",)), DictionaryEntry("d:2", "disease", ("fever",)), DictionaryEntry("d:3", "disease", ("cough",))]
    labels = ["d:2", "d:2", "d:2", "d:1"] * 3
    labelled = [Document(str(n), "gout", mentions=(Mention(0, 4, "disease", id),)) for n, id in enumerate(labels)]
    learnt = Linker(entries).learn(labelled, add_names=True)
    assert [(c.entity, c.score) for c in learnt.candidates("gout")] == [("d:2", 0.75), ("d:1", 0.25), ("d:3", 0.0)], "by how often, whatever the dictionary says"
    assert learnt.link(labelled[0], [Mention(0, 4, "disease")])[0].entity == "d:2"


def test_a_name_of_several_entries_goes_to_the_one_that_is_called_so():
    entries = [DictionaryEntry("d:1", "x", ("cleft palate and more", "cleft palate")), DictionaryEntry("d:2", "x", ("Cleft Palate",)),
               DictionaryEntry("d:3", "x", ("cleft palate",)), DictionaryEntry("d:4", "x", ())]
    assert {name: entry.id for name, entry in names_of(iter(entries)).items()} == {"cleft palate and more": "d:1", "cleft palate": "d:2"}
    assert names_of(entries[:1])["cleft palate"].id == "d:1", "nobody is called so: the first that bears it"


def test_the_plural_of_an_abbreviation_is_one():
    names = names_of([DictionaryEntry("d:1", "", ("transient neurologic symptom",)), DictionaryEntry("d:2", "", ("TN",))])
    document = Document("", "Transient neurologic symptoms (TNSs) and TNSs, one TNS, a TN.")
    assert [link(document, [Mention(*span, "x")], names)[0].entity for span in ((31, 35), (41, 45), (51, 54), (58, 60))] == ["d:1", "d:1", "d:1", "d:2"]


def test_many_names_are_read_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path / "kept"))
    encoder, names = Encoder(*tiny_encoder()), [f"name {number}" for number in range(2000)]
    few, many = NameIndex(names[:1999], encoder), NameIndex(names, encoder)
    [file] = (tmp_path / "kept").iterdir()
    monkeypatch.setattr(encoder.model, "forward", None)
    assert np.array_equal(NameIndex(names, encoder)._vectors, many._vectors) and file.name.startswith(encoder.hash)
    assert np.array_equal(few._vectors, many._vectors[:1999]), "in whatever company it was read"


def test_learning_needs_something_to_learn_from():
    linker, labelled = a_habit()
    strangers = [Document("d", "gout", mentions=(Mention(0, 4, "disease", "nobody"),)), Document("e", "gout", mentions=())]
    for nothing in ([], strangers):
        with pytest.raises(BadInput, match="more labelled documents"):
            linker.learn(nothing)


def test_any_id_of_an_entry_is_right():
    linker = Linker([DictionaryEntry("D1", "", ("gout",), also=("138900",)), DictionaryEntry("D2", "", ("fever",))], threshold=EXACT)
    documents = [Document(id, "gout", mentions=(Mention(0, 4, "disease", id),)) for id in ("D1", "138900", "D2", "D9")]
    assert [link_accuracy(linker, [document]) for document in documents] == [1, 1, 0, 0], "D9 would be new, and is linked"
    assert linker.same["138900"] == "D1" and "138900" not in linker.entities


def test_chinese_names_are_compared_by_runs_of_characters():
    index = NameIndex([normalise(name) for name in ("高血压", "2型糖尿病", "妊娠期糖尿病", "低血压")])
    (first, score), (second, _) = index.nearest([normalise("原发性高血压")], 2)[0]
    assert (first, second) == (normalise("高血压"), normalise("低血压")) and 0.5 < score < 0.999
    (turned, score), _ = index.nearest([normalise("糖尿病2型")], 2)[0]
    assert turned == normalise("2型糖尿病") and score < 0.999, "the order of the characters counts"
    assert index.nearest([normalise("高血压")], 1)[0][0][1] == pytest.approx(1)


def test_other_words_can_only_add_and_cost_a_tenth():
    def backwards(name):
        return [" ".join(reversed(name.split()))] if " " in name else []
    encoder, names = Encoder(*tiny_encoder()), ["fever", "cough dry", "糖尿病"]
    for reader in (None, encoder):
        plain, both = NameIndex(names, reader), NameIndex(names, reader, wordings=backwards)
        queries = ["dry cough", "fevers", "dry fever cough", "糖 尿"]
        for own, reworded, with_words in zip(plain.likenesses(queries), plain.likenesses([(*backwards(query), query)[0] for query in queries]), both.likenesses(queries)):
            assert np.allclose(with_words, np.where(np.array([[" " in query] for query in queries]), np.maximum(own, reworded - 0.1), own), atol=1e-6)
        assert both.nearest(["dry cough"], 1)[0][0] == ("cough dry", pytest.approx(max(0.9, plain.scores(["dry cough"])[0, 1]), abs=1e-6))
        assert both.plus(["rash"]).wordings is backwards and both.nearest([], 1) == []


def test_a_linker_asks_about_other_words_when_it_is_told_to():
    entries = [DictionaryEntry("d:1", "disease", ("Kidney Diseases",)), DictionaryEntry("d:2", "disease", ("nephrotic syndrome",))]
    document = Document("", "nephropathy")
    linker = Linker(entries, threshold=0.85, wordings=medical_wordings)
    assert linker.link(document, [Mention(0, 11, "disease")])[0].entity == "d:1"
    assert Linker(entries, threshold=0.85).link(document, [Mention(0, 11, "disease")])[0].entity == "disease:nephropathy", "not by itself"
    assert linker.at(EXACT).link(document, [Mention(0, 11, "disease")])[0].entity == "disease:nephropathy", "an exact name it is not"


@MANY
@given(st.text(max_size=30).map(normalise))
def test_wordings_are_others_and_each_once(name):
    found = medical_wordings(name)
    assert name not in found and len(set(found)) == len(found) <= 4


COLDS = [DictionaryEntry("D1", "disease", ("cold", "common cold")), DictionaryEntry("S1", "symptom", ("feeling cold", "cold")),
         DictionaryEntry("S2", "symptom", ("cold",)), DictionaryEntry("X", "", ("draught", "cold"))]


@pytest.mark.parametrize("threshold", [EXACT, 0.5])
@pytest.mark.parametrize("entries, type, entity", [
    (COLDS, "disease", "D1"), (COLDS, "symptom", "S2"), (COLDS, "term", "D1"), (COLDS, "medicine", "X"), (COLDS[:3], "medicine", "medicine:cold"),
    (COLDS[:2], "symptom", "S1"), (COLDS[::-1], "symptom", "S2"), (COLDS[::-1], "disease", "D1"), (COLDS[1:], "disease", "X")])
def test_namesakes_of_other_types_are_told_apart_by_the_type(entries, type, entity, threshold):
    linker, document, mention = Linker(entries, threshold=threshold), Document("", "cold"), Mention(0, 4, type)
    assert [found.entity for found in linker.link(document, [mention])] == [entity]
    assert entity in linker.entities or entity.startswith("medicine:")
    if type != "term":
        assert [found.entity for found in linker.candidates("cold", type)][:1] == [entity] * (entity in linker.entities)


def test_namesakes_are_all_candidates_where_no_type_is_asked_for():
    found = Linker(COLDS).candidates("cold", k=9)
    assert {c.entity for c in found if c.score > 0.99} == {"D1", "S2", "X"} and len({c.entity for c in found}) == len(found)
    assert namesakes_of(COLDS)["cold"] == {"disease": COLDS[0], "symptom": COLDS[2], "": COLDS[3]}
    assert namesakes_of(LEXICON) == {} == namesakes_of(COLDS[1:3]), "one type, or no name of two"


def test_many_likelier_names_of_another_type_hide_none_of_the_right_one():
    linker = Linker([*(DictionaryEntry(f"m:{n}", "medicine", (f"aspirin {n}",)) for n in range(60)),
                     DictionaryEntry("s", "symptom", ("aspirin allergy",)), DictionaryEntry("x", "", ("aspirin, or anything",))], threshold=0)
    assert [c.entity for c in linker.candidates("aspirin", "symptom", k=5)] == ["s", "x"]
    assert [c.entity for c in linker.candidates("aspirin", "disease", k=5)] == ["x"], "of any type"
    assert len(linker.candidates("aspirin", "medicine", k=5)) == 5
    assert linker.link(Document("", "aspirin"), [Mention(0, 7, "symptom")])[0].entity == "s"


@pytest.mark.parametrize("add_names", [False, True])
def test_likelier_entities_of_another_type_hide_none_of_the_right_one_from_a_linker_that_has_learnt(add_names):
    linker, labelled = a_habit()
    more = Linker([*linker.entries, *(DictionaryEntry(f"m:{n}", "medicine", (f"gout {n}",)) for n in range(60)),
                   DictionaryEntry("s", "symptom", ("gouty pain",)), DictionaryEntry("x", "", ("gouts, or anything",))]).learn(labelled, add_names)
    assert {c.entity for c in more.candidates("gout", "symptom")} == {"s", "x"}
    assert {c.entity for c in more.candidates("gout", "unheard of")} == {"x"}
    assert {c.type for c in more.candidates("gout", "medicine", k=70)} == {"medicine"} and len(more.candidates("gout", k=70)) == more.ranker.k


def test_an_entry_without_a_name_is_nobodys():
    nameless = [DictionaryEntry("e", "disease", ()), DictionaryEntry("f", "disease", ("", " "))]
    empty = Linker(nameless, threshold=0.1)
    assert empty.candidates("gout") == () and empty.entities == set() and empty.link(Document("", "gout"), [Mention(0, 4, "disease")])[0].entity == "disease:gout"
    with pytest.raises(BadInput, match="no names"):
        NameIndex(["", " "])
    linker, labelled = a_habit()
    more = Linker([*linker.entries, *nameless, DictionaryEntry("g", "disease", ("", "gout"))])
    strange = Document("s", "ague gout", mentions=(Mention(0, 4, "disease", "e"), Mention(5, 9, "disease", "g")))
    for add_names in (False, True):
        assert more.learn([*labelled, strange], add_names).candidates("gout")[0].entity == "g"


def test_the_loss_of_names_is_that_of_a_loop():
    first, second = torch.nn.functional.normalize(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)), dim=-1).numpy()
    surprise = [-np.log(np.exp(a[i] @ b[i] / 0.05) / sum(np.exp(a[i] @ other / 0.05) for other in b)) for a, b in ((first, second), (second, first)) for i in range(5)]
    assert np.isclose(name_loss(torch.tensor(first), torch.tensor(second)), np.mean(surprise), rtol=1e-5)


def test_names_read_to_learn_have_the_vectors_of_the_encoder():
    encoder = Encoder(*tiny_encoder())
    names = ["chronic obstructive pulmonary disease", "gout", "acute kidney injury", "flu", "high blood pressure", "ms"]
    assert torch.allclose(linking._read_to_learn(encoder.model, encoder.tokenizer, names), encoder.embed(names), atol=1e-5)


@MANY
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 9))
def test_each_batch_has_two_names_of_each_entity_and_each_entity_once(entities, size, seed):
    synonyms = [[f"{entity} {name}" for name in "abc"] for entity in range(entities)]
    vectors = np.random.default_rng(seed).normal(size=(entities, 3)).astype(np.float32)
    likest = linking._likest_rows(vectors, min(8, entities - 1))
    assert all(entity not in row and len(set(row)) == len(row) for entity, row in enumerate(likest.tolist()))
    for batch in islice(linking._pairs(synonyms, likest, size := min(size, entities), Random(seed)), 20):
        owners = [{name.split()[0] for name in pair} for pair in batch]
        assert all(len(owner) == 1 and pair[0] != pair[1] for owner, pair in zip(owners, batch))
        assert len(batch) == len(set().union(*owners)) == size


def test_the_likest_rows_are_the_likest():
    vectors = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)
    found, likeness = linking._likest_rows(vectors, 3), vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    assert all(set(row) == set(np.argsort(-own)[:3]) for row, own in zip(found.tolist(), likeness))


def test_tuned_names_are_the_same_for_the_same_seed_and_leave_the_encoder_alone():
    encoder = Encoder(*tiny_encoder())
    before, state = encoder.hash, torch.get_rng_state()
    first, again, other = (tune_names(encoder, LEXICON, steps=3, size=8, seed=seed, progress="").hash for seed in (0, 0, 1))
    assert first == again != other and before not in (first, other)
    assert Encoder(encoder.tokenizer, encoder.model).hash == before and torch.equal(torch.get_rng_state(), state)
    assert not any(weight.requires_grad for weight in encoder.model.parameters())
    assert tune_names(encoder, LEXICON, steps=3, size=8, rate=0, progress="").hash == before, "nothing learnt is nothing changed"


def test_tuned_weights_lie_halfway(monkeypatch):
    encoder = Encoder(*tiny_encoder())

    def tripled(encoder, *_):
        model = deepcopy(encoder.model)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(3)
        return model
    monkeypatch.setattr(linking, "_tuned", tripled)
    tuned = tune_names(encoder, LEXICON).model
    assert all(torch.allclose(new, 2 * old) for old, new in zip(encoder.model.parameters(), tuned.parameters()))


CAPITALS = [DictionaryEntry("aid", "device", ("aids", "hearing aid")), DictionaryEntry("hiv", "disease", ("acquired immunodeficiency", "AIDS")),
            DictionaryEntry("copd", "disease", ("obstructed lungs", "COLD")), DictionaryEntry("cold", "disease", ("cold",)), DictionaryEntry("any", "", ("Cold",))]


@pytest.mark.parametrize("threshold", [EXACT, 0.5])
@pytest.mark.parametrize("surface, type, entity", [
    ("COLD", "disease", "copd"), ("cold", "disease", "cold"), ("Cold", "disease", "any"), ("cOLD", "disease", "cold"), ("COLD", "test", "any"),
    ("AIDS", "disease", "hiv"), ("AIDS", "term", "hiv"), ("aids", "term", "aid"), ("AIDS", "device", "aid"), ("aids", "disease", "hiv")])
def test_the_exact_spelling_comes_before_the_normalised_name(surface, type, entity, threshold):
    linker = Linker(CAPITALS, threshold=threshold)
    assert [found.entity for found in linker.link(Document("", surface), [Mention(0, len(surface), type)])] == [entity]
    assert {entry.id for entry in CAPITALS} == linker.entities


def test_spellings_are_looked_up_only_where_several_entries_bear_the_name():
    assert spellings_of(LEXICON) == {} and set(spellings_of(CAPITALS)) == {"aids", "AIDS", "COLD", "cold", "Cold"}
