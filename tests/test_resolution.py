"""What no lesson of resolution should carry: any order, any names, exact undoing, wiping, and the figure on real names."""
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, load_clinic, read_documents
from kglearn.graph import Evidence, KnowledgeGraph, roots
from kglearn.history import at, diff, purge, revisions
from kglearn.resolution import (Proposal, Reasons, accept, alike, choose_threshold, decisive_differences, pair_scores,
                                proposals, reject, rejections, resolve, review, side_by_side, split_names, spread, undo)
from kglearn.text import Encoder, normalise, shared_encoder, tiny_encoder

MANY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(["asthma", "asthmas attack", "flu", "the flu", "type 1 diabetes", "type 2 diabetes", "CKD", "头痛", "偏头痛",
                         "<b>flu</b>", "'; DROP TABLE merge; --", "a\0b", " ", "\n", "é", "x" * 3000, "(CKD)", "\U0001f469\u200d\u2695"])


@st.composite
def graphs(draw):
    "Entities with names of all kinds, from a dictionary and from mentions, of two types, some of them joined by facts."
    kg = KnowledgeGraph()
    for number, (name, type, listed) in enumerate(draw(st.lists(st.tuples(NAMES, st.sampled_from("xy"), st.booleans()), max_size=9))):
        key = f"{type}:{number}"
        if listed:
            kg.add_entity(key, name, type)
        else:
            kg.add_document(Document(f"d{number}", f"chronic kidney disease (CKD), {name}."))
            kg.add_mention(f"d{number}", 30, 30 + len(name), type, key)
    keys = [entity.key for entity in kg.entities()]
    if keys:
        for head, tail in draw(st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(keys)), max_size=4)):
            kg.add_fact(head, "r", tail, Evidence("", 0, 0, "gold"))
    return kg


def some_proposals(kg, draw):
    keys = [entity.key for entity in kg.entities()]
    pairs = [(a, b) for a in keys for b in keys if a < b]
    made = st.builds(lambda pair, score, against: Proposal(*pair, score, Reasons(score, against=against)), st.sampled_from(pairs),
                     st.sampled_from([0.2, 0.6, 0.9, 1.0]), st.sampled_from([(), (), ("opposites",)]))
    return draw(st.lists(made, max_size=14)) if pairs else []


def groups(kg):
    return {entity.key: sorted(other for other in roots((m.kept, m.gone) for m in kg.merges()) if kg.entity(other) == entity)
            for entity in kg.entities()}


# Undoing, order, determinism

@MANY
@given(graphs(), st.data())
def test_resolving_and_undoing_changes_nothing(kg, data):
    before, listed = kg.fingerprint(), some_proposals(kg, data.draw)
    made = resolve(kg, listed, above=0.6)
    assert all(merge.revision == kg.revision for merge in made) and kg.merges() == made
    after = kg.fingerprint()
    if made:
        assert undo(kg, kg.revision) == made
    assert kg.fingerprint() == before and kg.merges() == [] and rejections(kg) == []
    assert [merge.gone for merge in resolve(kg, listed, above=0.6)] == [merge.gone for merge in made] and kg.fingerprint() == after
    for merge in kg.merges():
        undo(kg, (merge.gone, merge.kept))
    assert kg.fingerprint() == before


@MANY
@given(graphs(), st.data(), st.randoms(use_true_random=False))
def test_the_order_of_proposals_plays_no_part(kg, data, chance):
    listed, twin = some_proposals(kg, data.draw), kg.copy()
    resolve(kg, listed, above=0.6)
    resolve(twin, chance.sample(listed, len(listed)), above=0.6)
    assert groups(kg) == groups(twin) and kg.fingerprint() == twin.fingerprint()
    assert review(kg, listed) == review(twin, chance.sample(listed, len(listed)))


@MANY
@given(graphs(), st.data())
def test_two_of_a_dictionary_and_what_was_rejected_never_meet(kg, data):
    listed, entries = some_proposals(kg, data.draw), {entry.id for entry in kg.dictionary()}
    told_apart = [each for each in listed if each.score == 1.0]
    for each in told_apart:
        reject(kg, each)
    rest = [each for each in listed if not {each.kept, each.gone} <= entries]
    made = resolve(kg, rest, above=0.1)
    assert not any(kg.entity(each.kept) == kg.entity(each.gone) for each in told_apart)
    assert len({kg.entity(key).key for key in entries}) == len(entries)
    unopposed = {(each.kept, each.gone) for each in rest if not each.reasons.against}
    assert all((merge.kept, merge.gone) in unopposed for merge in made)


@MANY
@given(graphs())
def test_proposals_are_symmetric_deterministic_and_escape(kg):
    fingerprint, found = kg.fingerprint(), proposals(kg, least=0.0)
    assert found == proposals(kg, least=0.0) == proposals(kg.copy(), least=0.0) and kg.fingerprint() == fingerprint
    entries = {entry.id for entry in kg.dictionary()}
    pairs = [tuple(sorted((each.kept, each.gone))) for each in found]
    assert len(set(pairs)) == len(pairs), "each pair once"
    assert all(kg.entity(a).type == kg.entity(b).type and a != b and not {a, b} <= entries for a, b in pairs)
    assert set(found) <= set(proposals(kg, least=0.0, entries=True)) and all(0 <= each.score <= 1 for each in found)
    assert "<b>" not in found._repr_html_() + side_by_side(kg, found)._repr_html_()


names = st.text("ab 1", max_size=8).map(normalise)


@given(names, names)
def test_decisive_differences_are_symmetric(one, other):
    assert decisive_differences(one, other) == decisive_differences(other, one)


@MANY
@given(st.lists(st.sampled_from(["asthma", "asthma attack", "flu", "influenza", "gout", "goat", "type 1", "type 2"]), unique=True, min_size=2))
def test_scores_do_not_depend_on_what_the_keys_are_called(names):
    def scores(key_of):
        kg = KnowledgeGraph()
        for number, name in enumerate(names):
            kg.add_entity(key_of(number), name, "x")
        name_of = {key_of(number): name for number, name in enumerate(names)}
        return {(frozenset((name_of[each.kept], name_of[each.gone])), each.score) for each in proposals(kg, least=0.0, entries=True)}
    assert scores(lambda number: f"a{number}") == scores(lambda number: f"z{99 - number}")


# Decisions against

def two_names(path=None):
    kg = KnowledgeGraph(path)
    for id, name in (("d1", "sleep apnoea"), ("d2", "sleep apnea")):
        kg.add_document(Document(id, name))
        kg.add_mention(id, 0, len(name), "disease", f"disease:{normalise(name)}")
    return kg


def test_a_rejection_is_remembered_in_the_file_and_in_the_past(tmp_path):
    kg = two_names(tmp_path / "graph.db")
    found = proposals(kg)
    before = kg.fingerprint(), kg.revision
    reject(kg, found[0], "Dr Hale")
    kg.close()
    kg = KnowledgeGraph(tmp_path / "graph.db")
    assert (kg.fingerprint(), kg.revision) == (before[0], before[1] + 1) and kg.merges() == [] and revisions(kg)[-1].note == "reject"
    assert [(each.note, each.revision) for each in rejections(kg)] == [("Dr Hale", kg.revision)] and proposals(kg) == ()
    assert proposals(at(kg, before[1])) == found and rejections(at(kg, before[1])) == [], "as it was before"
    assert rejections(at(kg, kg.revision)) == rejections(kg) == rejections(kg.copy())
    assert str(diff(kg, before[1], kg.revision)) == str(diff(kg, before[1], before[1])).replace(
        f"after={before[1]}", f"after={kg.revision}"), "nothing that is said has changed"


def test_the_last_decision_counts():
    kg = two_names()
    one, = proposals(kg)
    reject(kg, one)
    reject(kg, one), reject(kg, Proposal(one.gone, one.kept, 0.5, Reasons(0.5)))
    assert len(rejections(kg)) == 1 and resolve(kg, [one], above=0.1) == [] and review(kg, [one], least=0.0) == ()
    accept(kg, one)
    assert rejections(kg) == [] and proposals(kg) == ()
    with pytest.raises(BadInput, match="one entity now"):
        reject(kg, one)
    undo(kg, (one.kept, one.gone))
    assert rejections(kg) == [] and proposals(kg) == (one,), "taken back: the matter is open again"
    reject(kg, one)
    assert len(rejections(kg)) == 1
    with pytest.raises(BadInput, match="after it"), kg.transaction("both"):
        accept(kg, one)
        raise BadInput("after it")
    assert len(rejections(kg)) == 1
    accept(kg, one)
    with pytest.raises(BadInput, match="reject them after it"), kg.transaction("both"):
        undo(kg, (one.kept, one.gone))
        reject(kg, one)
    assert kg.entity(one.kept) == kg.entity(one.gone), "all or nothing"


def test_a_rejection_holds_for_groups():
    kg = KnowledgeGraph()
    for key in "abc":
        kg.add_document(Document(key, "asthma"))
        kg.add_mention(key, 0, 6, "disease", key)
    reject(kg, Proposal("a", "c", 1.0, Reasons(1.0)))
    pairs = [Proposal("a", "b", 1.0, Reasons(1.0)), Proposal("b", "c", 0.9, Reasons(0.9))]
    assert [(m.kept, m.gone) for m in resolve(kg, pairs, above=0.8)] == [("a", "b")]
    assert proposals(kg) == () == review(kg, pairs), "b is a by now, and a is not c"


def test_a_rejection_waits_for_a_forgotten_document():
    kg = two_names()
    one, = proposals(kg)
    reject(kg, one)
    kg.forget("d2")
    assert proposals(kg) == () and len(rejections(kg)) == 1
    kg.add_document(Document("d2", "sleep apnea"))
    kg.add_mention("d2", 0, 11, "disease", "disease:sleep apnea")
    assert proposals(kg) == () and kg.fingerprint() == two_names().fingerprint()


def test_purging_a_document_wipes_decisions_about_names_known_from_it_alone(tmp_path):
    path = tmp_path / "graph.db"
    kg = two_names(path)
    reject(kg, proposals(kg)[0], "said so")
    assert purge(kg, "d2") and rejections(kg) == []
    kg.close()
    assert all(b"sleep apnea" not in file.read_bytes() and b"said so" not in file.read_bytes() for file in tmp_path.iterdir())


def test_notes_hold_no_text_of_documents():
    kg = two_names()
    resolve(kg, proposals(kg), above=0.4)
    assert kg.merges() and not any("apn" in text for text in [*(m.note for m in kg.merges()), revisions(kg)[-1].note])


# Bad input

@pytest.mark.parametrize("ask, message", [
    (lambda kg: proposals(kg, least=1.01), "least is 1.01"), (lambda kg: proposals(kg, near=0), "near is 0"),
    (lambda kg: resolve(kg, [], above=float("nan")), "above is nan"), (lambda kg: resolve(kg, [], above=-1), "above is -1"),
    (lambda kg: review(kg, [], least=2), "least is 2"), (lambda kg: undo(kg, 99), "no merge of 99"),
    (lambda kg: undo(kg, ("a", "b")), "no merge of"), (lambda kg: choose_threshold([], 0.9), "0 answers"),
    (lambda kg: choose_threshold([(1.0, True)], 1), "precision is 1"), (lambda kg: spread(kg, "disease:sleep apnoea", "disease:sleep apnoea"), "already"),
    *((lambda kg, act=act: act(kg, Proposal("disease:sleep apnoea", "nobody", 1.0, Reasons(1.0))), "no entity 'nobody'") for act in (
        lambda kg, each: resolve(kg, [each], above=0.5), accept, reject, lambda kg, each: review(kg, [each]),
        lambda kg, each: spread(kg, each.kept, each.gone), lambda kg, each: side_by_side(kg, [each])))])
def test_bad_input_changes_nothing(ask, message):
    kg = two_names()
    before = kg.revision, kg.fingerprint()
    with pytest.raises(BadInput, match=message):
        ask(kg)
    assert (kg.revision, kg.fingerprint()) == before and rejections(kg) == []


def test_an_unknown_key_among_many_merges_none():
    kg = two_names()
    good = Proposal("disease:sleep apnoea", "disease:sleep apnea", 1.0, Reasons(1.0))
    with pytest.raises(BadInput, match="nobody"):
        resolve(kg, [good, Proposal("disease:sleep apnoea", "nobody", 0.9, Reasons(0.9))], above=0.5)
    assert kg.merges() == []


def test_names_that_the_encoder_cannot_read_are_compared_by_letters_and_counted():
    kg, encoder = KnowledgeGraph(), Encoder(*tiny_encoder())
    for key, name in (("1", "头痛"), ("2", "偏头痛"), ("3", "asthma"), ("4", "asthma attack"), ("5", "asthma 热"), ("6", "asthma 咳")):
        kg.add_entity(key, name, "x")
    found = {frozenset((each.kept, each.gone)): each.reasons for each in proposals(kg, encoder, least=0.0, entries=True)}
    assert proposals(kg, encoder).unreadable == 4 and proposals(kg).unreadable == 0
    assert found[frozenset("12")].meaning is found[frozenset("56")].meaning is found[frozenset("35")].meaning is None
    assert found[frozenset("34")].meaning is not None and found[frozenset("56")].score < 0.9
    assert found[frozenset("12")].letters > 0.3


def test_an_abbreviation_goes_to_whom_the_documents_explain_it_as():
    kg = KnowledgeGraph()
    for id, text, mentions in (("a", "pulmonary embolism (PE). PE", [(0, 18, "pulmonary embolism"), (25, 27, "pulmonary embolism")]),
                               ("b", "pulmonary embolism (PE)", [(0, 18, "pulmonary embolism")]),
                               ("c", "panic episode (PE). PE", [(0, 13, "panic episode"), (20, 22, "panic episode")]), ("d", "PE", [(0, 2, "pe")])):
        kg.add_document(Document(id, text))
        for start, end, name in mentions:
            kg.add_mention(id, start, end, "x", f"x:{name}")
    found = {(each.kept, each.gone): each for each in proposals(kg, least=0.0)}
    assert found["x:pulmonary embolism", "x:pe"].reasons.said == 2 / 3 and found["x:panic episode", "x:pe"].reasons.said == 1 / 3
    assert found["x:pulmonary embolism", "x:pe"].score > 0.6 > found["x:panic episode", "x:pe"].score
    together = found.get(("x:pulmonary embolism", "x:panic episode"))
    assert together is None or together.score < 0.3, "that both are called PE is no reason"


# Choosing and measuring

@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]), st.booleans()), max_size=60), st.sampled_from([0.5, 0.7, 0.9]))
def test_the_threshold_is_the_lowest_that_the_answers_bear_out(answers, precision):
    def borne_out(threshold):
        taken = [right for score, right in answers if score >= threshold]
        return (sum(taken) + 1) / (len(taken) + 2) >= precision
    fit = [score for score, _ in answers if borne_out(score)]
    if fit:
        assert choose_threshold(answers, precision) == min(fit)
    else:
        with pytest.raises(BadInput, match="bear out"):
            choose_threshold(answers, precision)


@pytest.mark.parametrize("precision, needed", [(0.95, 18), (0.9, 8), (0.8, 3), (0.75, 2)])
def test_as_many_right_answers_as_the_closed_form_says(precision, needed):
    assert choose_threshold([(0.9, True)] * needed, precision) == 0.9
    with pytest.raises(BadInput, match=f"answer {needed} of"):
        choose_threshold([(0.9, True)] * (needed - 1), precision)


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz")))
def test_alike_is_all_pairs_of_a_group(group_of):
    assert alike(group_of) == {(a, b) for a in group_of for b in group_of if a < b and group_of[a] == group_of[b]}


def test_blocking_is_linear_in_names():
    from kglearn.resolution import _letters_of, _near_by_letters
    chance = np.random.default_rng(0)
    syllables = ["ka", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu", "xe"]
    sizes = {}
    for n in (500, 4000):
        names = sorted({"".join(chance.choice(syllables, 5)) + " disease" for _ in range(n)})
        sizes[n] = len(_near_by_letters(_letters_of(names), 10)) / len(names)
    assert sizes[4000] <= 10 and sizes[500] <= 10


# Real names: different names of one MeSH concept, as the documents of BC5CDR write them

def real_documents():
    folder = Path(os.environ.get("KGLEARN_DATA") or Path(__file__).parent.parent.parent / "shared" / "data") / "bc5cdr"
    if not folder.exists():
        pytest.skip(f"{folder} is not there: set KGLEARN_DATA to the folder of the corpora")
    return read_documents([folder / "train.pubtator.gz", folder / "dev.pubtator.gz"])


def test_proposals_on_the_names_of_real_abstracts():
    """The threshold is chosen on pairs within one half of the concepts, and reported on pairs within the other; `-s` prints the table.

    On a quarter of the abstracts: most of the time goes into reading names. The benchmark has the figures of all of them.
    """
    kg, truth = split_names(real_documents()[::4])
    concepts, keys, right = sorted(set(truth.values())), sorted(truth), alike(truth)
    half = dict(zip(np.random.default_rng(0).permutation(concepts).tolist(), [0, 1] * len(concepts)))

    def scores(pairs, halves):
        return pair_scores(*({pair for pair in some if set(pair) <= truth.keys() and {half[truth[key]] for key in pair} <= halves}
                             for some in (pairs, right)))

    def taken(found, threshold):
        return [(each.kept, each.gone) for each in found if each.score >= threshold]

    rows = {"random pairs of one type": scores([(a, b) for a, b in np.random.default_rng(1).permutation(keys * 6).reshape(-1, 2).tolist()
                                                if a.partition(":")[0] == b.partition(":")[0] and a != b], {1}),
            "the same words": scores(alike({key: f"{key.partition(':')[0]} {sorted(key.partition(':')[2].split())}" for key in truth}), {1})}
    for name, encoder in (("letters", None), ("both", shared_encoder())):
        found = proposals(kg, encoder, least=0.3)
        best = max(np.linspace(0.4, 0.95, 56).round(2).tolist(), key=lambda threshold: scores(taken(found, threshold), {0}).f1)
        rows[f"{name}, chosen"] = scores(taken(found, best), {1})
        said = [(each.kept, each.gone) for each in found if each.score >= best and not each.reasons.said]
        rows[f"{name}, chosen ({best}), without what documents explain"] = scores(said, {1})
        rows |= {f"{name}, from {threshold}": scores(taken(found, threshold), {1}) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)}
    for threshold in (best, 0.9):
        rows[f"all concepts, from {threshold}"] = scores(taken(found, threshold), {0, 1})
        rows[f"all concepts, from {threshold}, with all that follows"] = scores(alike(roots(taken(found, threshold))), {0, 1})
    print(f"\n{len(truth)} names, {len(concepts)} concepts, {len(right)} pairs")
    for name, each in rows.items():
        print(f"{name:60}{each.precision:7.3f}{each.recall:7.3f}{each.f1:7.3f}")
    assert rows["both, chosen"].f1 > rows["letters, chosen"].f1 > 0.3 > 0.05 > max(
        rows["random pairs of one type"].f1, rows["the same words"].f1)
    assert rows["both, chosen"].f1 > 0.38 and rows["both, from 0.9"].precision > 0.8
    assert rows[f"all concepts, from {best}, with all that follows"].precision < 0.05, "merged unseen, nearly everything is one"


def test_clinic_has_names_to_find():
    kg, truth = split_names(load_clinic("graph"))
    assert len(alike(truth)) > 40 and kg.fingerprint() == split_names(load_clinic("graph")[::-1])[0].fingerprint()
