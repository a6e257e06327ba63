"""What no lesson of distant supervision should carry: planted accuracies, any votes, any text, real abstracts."""
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.bench import data_folder
from kglearn.data import BadInput, Document, Mention, clinic_lexicon, load_clinic, read_dictionary, read_documents
from kglearn.distant import ABSTAIN, DistantTagger, LabelModel, _short_forms, distant_documents, fit_label_model, generic_names, held_out_weights, majority_vote
from kglearn.graph import clinic_graph
from kglearn.reader import DictionaryTagger
from kglearn.text import Encoder, tiny_encoder

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
PIECES = ["asthma", "Asthma", "metformin", "a dry cough", "chronic kidney disease (CKD)", "CKD", "type 2 diabetes", ",", ".", "and", "(", "-", "<script>",
          "'; DROP TABLE fact; --", "面团", "\u202e", "\0", "12", "\n\n", "?", "has", "treated with"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
VOTES = st.integers(1, 5).flatmap(lambda sources: st.lists(st.lists(st.integers(-1, 2), min_size=sources, max_size=sources), min_size=1, max_size=20))


# Votes


def planted(accuracies, items, seed, classes=2, speaks=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    wrong = (truth[:, None] + rng.integers(1, classes, (items, len(accuracies)))) % classes
    votes = np.where(rng.random(wrong.shape) < np.array(accuracies), truth[:, None], wrong)
    return truth, np.where(rng.random(votes.shape) < speaks, votes, ABSTAIN)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3])
def test_planted_accuracies_come_back(seed, classes):
    accuracies = (0.9, 0.75, 0.65, 0.8)
    truth, votes = planted(accuracies, 8000, seed, classes, speaks=0.7)
    model = fit_label_model(votes, classes)
    assert np.allclose(model.accuracy, accuracies, atol=0.04) and np.allclose(model.balance, 1 / classes, atol=0.05)
    assert (model.probabilities(votes).argmax(1) == truth).mean() >= (majority_vote(votes, classes).argmax(1) == truth).mean()


def test_chances_are_bayes_rule_summed_over_all_votes():
    rng = np.random.default_rng(0)
    confusion = rng.dirichlet(np.ones(3), (2, 3))
    model = LabelModel(np.array([0.5, 0.3, 0.2]), confusion, np.ones(2), ("a", "b"))
    votes = list(product(range(3), repeat=2))
    joint = np.array([[model.balance[c] * confusion[0, c, a] * confusion[1, c, b] for c in range(3)] for a, b in votes])
    assert np.allclose(model.probabilities(votes), joint / joint.sum(1, keepdims=True))
    assert np.allclose((joint.sum(1)[:, None] * model.probabilities(votes)).sum(0), model.balance), "chances over all votes add up to the balance"


def test_each_step_makes_the_votes_likelier():
    _, votes = planted((0.9, 0.6, 0.6), 500, 3, speaks=0.8)

    def log_likelihood(model):
        likelihood = np.tile(model.balance, (len(votes), 1))
        for column, matrix in zip(votes.T, model.confusion):
            likelihood[column >= 0] *= matrix[:, column[column >= 0]].T
        return np.log(likelihood.sum(1)).sum()
    found = [log_likelihood(fit_label_model(votes, smoothing=1e-9, steps=steps)) for steps in (1, 2, 5, 20, 100)]
    assert found == sorted(found) and found[-1] > found[0] + 1


@MANY
@given(VOTES)
def test_any_votes(votes):
    shares = majority_vote(votes, 3)
    assert np.allclose(shares.sum(1), 1)
    if np.max(votes) < 0:
        with pytest.raises(BadInput, match="every source abstains"):
            fit_label_model(votes, 3)
        return
    model = fit_label_model(votes, 3)
    chance = model.probabilities(votes)
    assert np.isfinite(chance).all() and np.allclose(chance.sum(1), 1)
    order = np.random.default_rng(0).permutation(len(votes[0]))
    assert np.allclose(fit_label_model(np.array(votes)[:, order], 3).probabilities(np.array(votes)[:, order]), chance, atol=1e-3), "the order of sources is nothing"


@pytest.mark.parametrize("votes", [[1, 0], [[0.5, 1.0]], [[2, 0]], [[-2, 0]], [["yes"]]])
def test_votes_that_are_none(votes):
    with pytest.raises(BadInput, match="votes must be a table"):
        fit_label_model(votes)


def test_names_of_sources_are_escaped():
    assert "<script>" not in fit_label_model([[1], [0]], names=("<script>",))._repr_html_()


# Labels from a graph


def test_labels_of_their_own_are_not_looked_at():
    kg, documents = clinic_graph(("graph",)), load_clinic("train")[:10]
    assert [(d.mentions, d.relations) for d in distant_documents(kg, documents)] == [
        (d.mentions, d.relations) for d in distant_documents(kg, [d.unlabelled() for d in documents])]


def test_a_document_does_not_teach_itself():
    documents = load_clinic("graph")[:5]
    kg = clinic_graph(("graph",))
    for document in documents:
        alone = {(f.head, f.relation, f.tail) for f, pieces in kg.facts_with_evidence() if {p.document for p in pieces} == {document.id}}
        silver, = distant_documents(kg, [document], [document.mentions])
        assert not alone & {(r.head, r.relation, r.tail) for r in silver.relations}


# The tagger


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_taken_off_is_a_fold_never_seen(fold):
    generator = torch.Generator().manual_seed(fold)
    points, values = (torch.randn(3, 30, width, generator=generator, dtype=torch.float64) for width in (6, 2))
    kept = [number for number in range(3) if number != fold]
    stacked = torch.cat([points[kept].reshape(-1, 6), 2.0 * torch.eye(6, dtype=torch.float64)])
    wanted = torch.cat([values[kept].reshape(-1, 2), torch.zeros(6, 2, dtype=torch.float64)])
    by_least_squares = torch.linalg.lstsq(stacked, wanted).solution
    assert torch.allclose(held_out_weights(points.mT @ points, points.mT @ values, 4.0)[fold], by_least_squares)


@pytest.fixture(scope="module")
def tiny():
    return DistantTagger(clinic_lexicon(), Encoder(*tiny_encoder()), layer=2).fit(load_clinic("train"))


@MANY
@given(TEXTS)
def test_any_text(tiny, text):
    found, = tiny.tag([Document("d", text)])
    assert all(0 <= mention.start < mention.end <= len(text) and mention.type in tiny.types for mention in found)
    assert all(left.end <= right.start for left, right in zip(found, found[1:])) and tiny.tag([Document("d", text)])[0] == found


def test_documents_are_tagged_one_by_one(tiny):
    documents = load_clinic("test")[:6]
    assert tiny.tag(documents) == [tiny.tag([document])[0] for document in documents]


def test_labels_make_no_difference_to_fitting(tiny):
    again = DistantTagger(clinic_lexicon(), tiny.encoder, layer=2).fit([document.unlabelled() for document in load_clinic("train")])
    assert torch.equal(again.weights, tiny.weights) and torch.equal(again.bars, tiny.bars)


def test_faults_are_named(tiny):
    with pytest.raises(BadInput, match="has not been fitted"):
        DistantTagger(clinic_lexicon(), tiny.encoder).tag([])
    with pytest.raises(BadInput, match="nothing to learn from"):
        DistantTagger(clinic_lexicon(), tiny.encoder).fit([Document("d", "Nothing here.")])


def test_a_span_is_judged_by_other_words(tiny):
    "However often an unlisted word is marked as no name, its own score does not move."
    spans = tiny._spans(load_clinic("train")[0])
    for fold in spans.folds.unique():
        changed = DistantTagger(clinic_lexicon(), tiny.encoder, layer=2)
        changed.weights = tiny.weights.clone()
        changed.weights[torch.arange(len(tiny.weights)) != fold] += 1.0
        same = spans.folds == fold
        assert torch.equal(changed._own_scores(spans)[same], tiny._own_scores(spans)[same])


def test_on_abstracts_it_beats_its_list():
    try:
        folder = data_folder("bc5cdr/train.pubtator.gz", "medic/medic_06Jul2012.txt.gz")
    except BadInput as absent:
        pytest.skip(str(absent))
    medic = [replace(entry, type="Disease") for entry in read_dictionary(folder / "medic" / "medic_06Jul2012.txt.gz")]
    assert {"syndrome", "disease"} <= generic_names(medic) and not {"cancer", "seizure", "fever"} & generic_names(medic)
    documents = read_documents(folder / "bc5cdr" / "train.pubtator.gz")[:120]
    tagger = DistantTagger(medic).fit(documents[:90])

    def f1(tagged):
        gold = {(d.id, m.start, m.end) for d in documents[90:] for m in d.mentions if m.type == "Disease"}
        found = {(d.id, m.start, m.end) for d, each in zip(documents[90:], tagged) for m in each}
        return 2 * len(gold & found) / (len(gold) + len(found))
    assert f1(tagger.tag(documents[90:])) > f1(DictionaryTagger(medic).tag(documents[90:]))


def test_short_forms_follow_their_long_forms():
    text = "Chronic kidney disease (CKD) is common. CKD is treated, and so is asthma."
    found = [Mention(0, 22, "disease", "ckd")]
    added = _short_forms(text, found, np.arange(len(text)) < 22)
    assert [(text[m.start:m.end], m.entity) for m in added] == [("CKD", "ckd")] * 2
    assert not _short_forms(text, [Mention(65, 71, "disease", "x")], np.zeros(len(text), bool))
