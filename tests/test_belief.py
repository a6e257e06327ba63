"""What the lesson on belief should not carry: any numbers, any witnesses, and a world in which the truth is known."""
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from kglearn.belief import (Calibration, Witness, against_gold, answer_fact, before_and_after, facts_to_ask, recalibrate,
                            reliability)
from kglearn.data import BadInput, Document, Relation
from kglearn.graph import Evidence, KnowledgeGraph, posterior
from kglearn.plots import figure_svg

MANY = settings(max_examples=60, deadline=None)
pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def said(kg, number, yes):
    "Answer a fact that is called by a number."
    kg.add_fact("a", f"r{number}", "b", Evidence("", 0, 0, "answer", 0.95, 1 if yes else -1))


def witnessed(*found, answered=()):
    "Fact number n rests on `found[n]`, triples of document, extractor and confidence; a document's source is its first letter."
    kg = KnowledgeGraph()
    for key in "ab":
        kg.add_entity(key, key, "thing")
    for number, pieces in enumerate(found):
        for document, extractor, confidence in pieces:
            if document:
                kg.add_document(Document(document, "a r b", document[0]))
            kg.add_fact("a", f"r{number}", "b", Evidence(document, 0, 5 if document else 0, extractor, confidence))
    for number, yes in answered:
        said(kg, number, yes)
    return kg


# Reliability


@MANY
@given(pairs, st.integers(1, 20))
def test_bins_and_scores_are_those_of_their_formulas(pairs, bins):
    beliefs, outcomes = map(list, zip(*pairs))
    found = reliability(beliefs, outcomes, bins)
    assert sum(bin.count for bin in found.bins) == len(pairs)
    assert [bin.belief for bin in found.bins] == sorted(bin.belief for bin in found.bins)
    assert math.isclose(sum(bin.count * bin.belief for bin in found.bins), sum(beliefs), abs_tol=1e-9)
    assert math.isclose(sum(bin.count * bin.held for bin in found.bins), sum(outcomes), abs_tol=1e-9)
    assert math.isclose(found.brier, sum((b - o) ** 2 for b, o in pairs) / len(pairs), abs_tol=1e-12)
    off = sum(bin.count * abs(bin.belief - bin.held) for bin in found.bins) / len(pairs)
    assert math.isclose(found.ece, off, abs_tol=1e-12) and -1e-12 <= abs(np.mean(beliefs) - np.mean(outcomes)) <= found.ece + 1e-9
    again = reliability(beliefs[::-1], outcomes[::-1], bins)
    assert math.isclose(again.ece, found.ece, abs_tol=1e-12) and [bin.count for bin in again.bins] == [bin.count for bin in found.bins]


@pytest.mark.parametrize("bins", [1, 5, 10, 17])
def test_scikit_learn_agrees(bins):
    chance = np.random.default_rng(bins)
    beliefs = chance.random(400)
    outcomes = chance.random(400) < beliefs
    found, (held, believed) = reliability(beliefs, outcomes, bins), calibration_curve(outcomes, beliefs, n_bins=bins)
    assert np.allclose([bin.held for bin in found.bins], held) and np.allclose([bin.belief for bin in found.bins], believed)
    assert math.isclose(found.brier, brier_score_loss(outcomes, beliefs))


def test_beliefs_that_differ_by_rounding_share_a_bin():
    assert len(reliability([0.3, 1 - (1 - 0.3), 0.1 + 0.2], [True, False, True]).bins) == 1
    assert [bin.count for bin in reliability([0, 0.1, 0.11, 1], [False] * 4).bins] == [2, 1, 1], "a border belongs to the lower bin"


def test_who_is_right_and_who_says_the_base_rate():
    assert reliability([1, 0, 1], [True, False, True]).ece == reliability([1, 0, 1], [True, False, True]).brier == 0
    base = reliability([0.25] * 8, [True, False, False, False] * 2)
    assert base.ece == 0 and base.brier == 0.25 * 0.75 and base.base_rate == 0.25


@pytest.mark.parametrize("beliefs, outcomes, message", [
    ([], [], "at least one"), ([0.5], [], "at least one"), ([0.5, 0.5], [True], "one outcome for each"),
    ([1.1], [True], "from 0 to 1"), ([float("nan")], [True], "from 0 to 1"), ([-0.1, 0.5], [True, True], "from 0 to 1")])
def test_what_cannot_be_compared_is_refused(beliefs, outcomes, message):
    with pytest.raises(BadInput, match=message):
        reliability(beliefs, outcomes)


def test_a_result_shows_itself():
    found = reliability([0.2] * 4 + [0.9], [True] * 2 + [False] * 2 + [True])
    assert "ECE 0.260" in found._repr_html_() and ">4</td>" in found._repr_html_()
    figure = found.plot("$x$ <script>alert(1)</script>")
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "1", "ECE 0.260\nBrier score 0.274"]
    assert "<script>" not in figure_svg(figure)


def test_gold_says_what_held():
    documents = [Document("d1", "a r b", relations=(Relation("a", "r0", "b"),)), Document("e1", "a r b")]
    kg = witnessed([("d1", "x", 0.6)], [("e1", "x", 0.7)])
    assert against_gold(kg, documents) == ([pytest.approx(0.6), pytest.approx(0.7)], [True, False])
    with pytest.raises(BadInput, match="no document has labels"):
        against_gold(kg, documents[1:])


# Witnesses


@MANY
@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from([0.0, 0.05, 0.2, 0.45]), st.floats(0.1, 1))
def test_the_error_of_answers_is_taken_out(right, wrong, error, confidence):
    "If exactly the expected share of the answers is wrong, the number that holds is found exactly."
    facts = right + wrong
    share = (right * (1 - error) + wrong * error) / facts if facts else 0.0
    witness = Witness.judged("x", [(confidence, share)] * facts, error)
    assert math.isclose(witness.held, right, abs_tol=1e-6)
    assert math.isclose(witness.factor, (right + 1) / (facts * confidence + 1), rel_tol=1e-6)


def test_more_errors_than_expected_are_no_negative_number():
    assert Witness.judged("x", [(0.5, 0)] * 10).held == 0 and Witness.judged("x", [(0.5, 1)] * 10).held == 10


def test_one_extractor_is_judged_by_the_closed_form():
    kg = witnessed(*[[(f"d{number}", "x", 0.5)] for number in range(20)], answered=[(n, n < 8) for n in range(20)])
    held = 20 * (8 / 20 - 0.05) / 0.9
    assert recalibrate(kg) == Calibration("extractor", (Witness("x", 20, 0.4, 10.0, pytest.approx(held), pytest.approx((held + 1) / 11)),))
    kg.set_trust(**recalibrate(kg).trust)
    assert kg.trust["extractors"]["x"] == round((held + 1) / 11, 3)


def test_the_better_program_is_judged_first_and_the_other_by_the_rest():
    both = [[(f"d{n}", "good", 0.7), (f"d{n}", "bad", 0.7)] for n in range(10)]
    bad = [[(f"e{n}", "bad", 0.7)] for n in range(10)]
    kg = witnessed(*both, *bad, answered=[(n, n < 10) for n in range(20)])
    good, other = recalibrate(kg, error=0).witnesses
    assert (good.name, good.facts, good.held) == ("good", 10, 10) and (other.name, other.facts, other.held) == ("bad", 10, 0)


def test_facts_with_two_documents_or_no_answer_or_only_answers_judge_nobody():
    kg = witnessed([("d1", "x", 0.5), ("d2", "x", 0.5)], [("d3", "x", 0.5)], [], answered=[(0, True), (2, True)])
    with pytest.raises(BadInput, match="nobody can be judged"):
        recalibrate(kg)
    said(kg, 1, True)
    assert recalibrate(kg).witnesses[0].facts == 1


def test_several_answers_to_one_fact_are_one_fact():
    kg = witnessed([("d1", "x", 0.5)], answered=[(0, True)])
    kg.add_fact("a", "r0", "b", Evidence("", 1, 1, "answer", 0.95, -1))
    witness, = recalibrate(kg).witnesses
    assert witness.facts == 1 and witness.yes == 0.5 and math.isclose(witness.held, 0.5)


def test_evidence_against_is_no_promise():
    kg = witnessed([("d1", "x", 0.5)], answered=[(0, True)])
    kg.add_fact("a", "r0", "b", Evidence("d1", 0, 1, "denier", 0.9, -1))
    assert [witness.name for witness in recalibrate(kg).witnesses] == ["x"]


def test_sources_are_judged_by_what_trusted_extractors_promise():
    found = [[(f"{source}{number}", "x", 0.5)] for source in "gp" for number in range(10)]
    kg = witnessed(*found, [("", "x", 0.5)], answered=[(n, n < 10) for n in range(21)])
    kg.set_trust(extractors={"x": 1.6})
    good, bad = recalibrate(kg, "source", error=0).witnesses
    assert (good.name, bad.name) == ("g", "p") and math.isclose(good.promised, 8) and good.factor > 1 > bad.factor
    calibration = recalibrate(kg, "source")
    assert calibration.trust["sources"] == {"g": 1.0, "p": round(1 / 9, 3)}, "no source is trusted more than fully"
    assert kg.set_trust(**calibration.trust) and recalibrate(kg, "source") == calibration


def test_the_order_of_answers_plays_no_part_and_applied_twice_is_once():
    found = [[(f"d{n}", random.Random(n).choice(["x", "y"]), 0.4)] for n in range(30)]
    answered = [(n, n % 3 == 0) for n in range(30)]
    first, second = witnessed(*found, answered=answered), witnessed(*found, answered=answered[::-1])
    assert recalibrate(first) == recalibrate(second)
    calibration = recalibrate(first)
    first.set_trust(**calibration.trust)
    assert recalibrate(first) == calibration and not first.set_trust(**calibration.trust)


@pytest.mark.parametrize("arguments", [{"kind": "person"}, {"error": 0.5}, {"error": -0.1}, {"error": float("nan")}])
def test_arguments_that_mean_nothing_are_refused(arguments):
    kg = witnessed([("d1", "x", 0.5)], answered=[(0, True)])
    with pytest.raises(BadInput, match="'extractor' or 'source'"):
        recalibrate(kg, **arguments)


def test_names_of_extractors_are_escaped():
    kg = witnessed([("d1", "<script>", 0.5)], answered=[(0, True)])
    assert "<script>" not in recalibrate(kg)._repr_html_()


# A world in which the truth is known


def world(seed, facts=600):
    "A program that is right in 80 % and says 0.5, one that is right in 30 % and says 0.7; and the truth, by number."
    chance, found, truth = random.Random(seed), [], []
    for number in range(facts):
        name, share, claimed = chance.choice([("modest", 0.8, 0.5), ("boaster", 0.3, 0.7)])
        found.append([(f"d{number}", name, claimed)])
        truth.append(chance.random() < share)
    return found, truth


@pytest.mark.parametrize("seed", range(3))
def test_answers_find_what_programs_are_worth_and_held_out_beliefs_are_better(seed):
    (found, truth), (others, so) = world(seed), world(seed + 100)
    chance = random.Random(seed)
    answers = [held != (chance.random() < 0.05) for held in truth]
    calibration = recalibrate(witnessed(*found, answered=enumerate(answers)))
    assert [witness.name for witness in calibration.witnesses] == ["modest", "boaster"]
    worth = calibration.trust["extractors"]
    assert abs(worth["modest"] * 0.5 - 0.8) < 0.07 and abs(worth["boaster"] * 0.7 - 0.3) < 0.07
    held_out = witnessed(*others)
    outcome = {f"r{number}": held for number, held in enumerate(so)}

    def scores():
        facts = list(held_out.facts())
        return reliability([fact.belief for fact in facts], [outcome[fact.relation] for fact in facts])
    before = scores()
    held_out.set_trust(**calibration.trust)
    after = scores()
    chance.shuffle(answers)
    held_out.set_trust(**recalibrate(witnessed(*found, answered=enumerate(answers))).trust)
    control = scores()
    assert after.ece < 0.08 < 0.3 < before.ece and after.brier < before.brier - 0.1
    assert control.brier > after.brier + 0.03 and control.brier > before.base_rate * (1 - before.base_rate) - 0.02


def test_a_wrong_error_rate_is_seen_in_the_result():
    found, truth = world(7)
    chance = random.Random(7)
    answers = [held != (chance.random() < 0.2) for held in truth]
    graph = witnessed(*found, answered=enumerate(answers))
    right, wrong = recalibrate(graph, error=0.2).trust["extractors"], recalibrate(graph, error=0).trust["extractors"]
    assert abs(right["modest"] * 0.5 - 0.8) < 0.08 < 0.8 - wrong["modest"] * 0.5, "without the correction every program looks like chance"


# Answers that people give to facts


def doubtful_forum(answers: str) -> KnowledgeGraph:
    "Facts of one document each, promised with 0.8; `answers` has y, n or - (nobody was asked) for each."
    kg = KnowledgeGraph()
    with kg.transaction("facts"):
        for number, answer in enumerate(answers):
            kg.add_document(Document(str(number), "Somebody says so."))
            for end in "ht":
                kg.add_entity(f"{end}{number:02}", f"{end}{number:02}", "thing")
            fact = (f"h{number:02}", "is", f"t{number:02}")
            kg.add_fact(*fact, Evidence(str(number), 0, 8, "pattern", 0.8))
            if answer != "-":
                kg.add_fact(*fact, Evidence("", 0, 0, "answer", 0.95, 1 if answer == "y" else -1))
    return kg


def test_each_fact_is_judged_by_the_answers_to_others():
    kg = doubtful_forum("n" * 10)
    revision, (before, after) = kg.revision, before_and_after(kg)
    assert before.brier == pytest.approx(0.8 ** 2) and before.base_rate == 0, "its own no is left out"
    factor = round(1 / (0.8 * 8 + 1), 3)  # two of ten facts in a hand: eight others, none of which holds
    assert after.brier == pytest.approx((0.8 * factor) ** 2)
    assert kg.revision == revision and kg.trust == {"sources": {}, "extractors": {}}
    kg.set_trust(extractors={"pattern": 0.5})
    assert before_and_after(kg)[0].brier == pytest.approx(0.4 ** 2), "before: as evidence is trusted now"


def test_one_answer_alone_judges_nobody():
    with pytest.raises(BadInput, match="kglearn answer --facts"):
        before_and_after(doubtful_forum("y---"))


def test_facts_to_ask_are_those_of_one_document_that_nobody_answered():
    kg = doubtful_forum("y-n-")
    kg.add_fact("h03", "is", "t03", Evidence("0", 0, 8, "pattern", 0.5))
    (fact, piece), = facts_to_ask(kg)
    assert fact.head == "h01" and piece.document == "1"
    assert answer_fact(kg, fact, True) and not answer_fact(kg, fact, True) and facts_to_ask(kg) == []
    many = doubtful_forum("-" * 30)
    assert facts_to_ask(many, 5) == facts_to_ask(many, 5) != facts_to_ask(many, 5, seed=1) and len(facts_to_ask(many, 99)) == 30


def test_the_last_answer_about_a_sentence_counts_and_other_sentences_count_beside_it():
    kg = witnessed([("d1", "x", 0.7)])
    fact, = kg.facts()
    about, other = Evidence("d1", 0, 5, "x"), Evidence("d1", 2, 5, "x")

    def belief(*answers):
        twin = kg.copy()
        for yes, piece in answers:
            answer_fact(twin, fact, yes, piece)
        return twin.belief(fact.head, fact.relation, fact.tail)
    assert belief((False, about)) == posterior(0.7, 0, 1) and belief((False, about), (True, about)) == posterior(0.7, 1, 0)
    assert belief((True, about), (True, about)) == posterior(0.7, 1, 0) and belief((True, about), (False, None)) == 0.7
    assert belief((True, about), (True, other), (True, None)) == pytest.approx(posterior(0.7, 3, 0))
    assert belief((True, about), (False, about), (True, about), (False, about)) == posterior(0.7, 0, 1)


def test_an_answer_goes_with_the_sentence_that_it_was_about():
    kg = witnessed([("d1", "x", 0.7), ("d2", "x", 0.7)])
    fact, = kg.facts()
    answer_fact(kg, fact, False, Evidence("d1", 0, 5, "x"))
    kg.forget("d1")
    assert kg.belief(fact.head, fact.relation, fact.tail) == pytest.approx(0.7)
    answer_fact(kg, fact, False)
    kg.forget("d2")
    assert kg.belief(fact.head, fact.relation, fact.tail) == pytest.approx(0.05)


def test_an_answer_before_a_merge_is_corrected_after_it():
    kg = witnessed([("d1", "x", 0.7)])
    fact, = kg.facts()
    answer_fact(kg, fact, False, Evidence("d1", 0, 5, "x"))
    kg.add_entity("a2", "a2", "thing")
    kg.merge("a2", fact.head)
    merged, = kg.facts()
    assert merged.head == "a2" and merged.belief == posterior(0.7, 0, 1)
    answer_fact(kg, merged, True, Evidence("d1", 0, 5, "x"))
    assert kg.belief("a2", fact.relation, fact.tail) == posterior(0.7, 1, 0)


def test_a_fact_of_a_dictionary_has_no_sentence_to_show():
    kg = witnessed([("", "dictionary", 0.9)], [("d1", "x", 0.6)], [("", "dictionary", 0.9), ("e1", "x", 0.5)])
    assert [(fact.relation, piece.document) for fact, piece in facts_to_ask(kg)] == [("r1", "d1")]


def test_merged_entities_are_one_to_gold():
    kg = witnessed([("d1", "x", 0.6)], [("d1", "x", 0.7)])
    for key in ("a2", "b2"):
        kg.add_entity(key, key, "thing")
    kg.merge("a", "a2")
    kg.merge("b2", "b")
    gold = [Document("d1", "a r b", relations=(Relation("a2", "r0", "b"), Relation("a", "r1", "stranger")))]
    assert [(fact.head, fact.tail) for fact in kg.facts()] == [("a", "b2")] * 2
    assert against_gold(kg, gold)[1] == [True, False]


@pytest.mark.parametrize("bins", [0, -3])
def test_there_is_a_bin_at_least(bins):
    with pytest.raises(BadInput, match="1 or more"):
        reliability([0.9, 0.8], [False, False], bins=bins)


def test_an_answer_under_a_merge_stays_with_the_fact_whose_sentence_was_shown():
    kg = witnessed([("d1", "x", 0.7)])
    kg.add_entity("c", "c", "thing")
    kg.add_document(Document("d2", "c r b"))
    kg.add_fact("c", "r0", "b", Evidence("d2", 0, 5, "x", 0.7))
    kg.merge("a", "c")
    merged, = kg.facts()
    answer_fact(kg, merged, False, Evidence("d2", 0, 5, "x", 0.7))
    kg.unmerge("a", "c")
    assert kg.belief("a", "r0", "b") == pytest.approx(0.7) and kg.belief("c", "r0", "b") == posterior(0.7, 0, 1)
