"""Closed forms and properties of the terms of L that the lessons of 30_objective show on one example each."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.objective import (IGNORE, AdversarialTerm, AgreementTerm, AnswerTerm, Forward, Objective, TaskTerm, agreement_gap,
                               answer_loss, task_loss)

MANY = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 10 ** 6)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear:
    "A model whose span vectors are given and whose head is a matrix; keeps what it was asked to decide about."
    def __init__(self, hidden=3, actions=4, seed=0):
        self.weight, self.decided, self.reads = drawn(seed, actions, hidden).requires_grad_(), [], []

    def phi(self, batch, graph):
        self.reads.append(graph)
        return batch["phi"] if graph else batch["phi"] * 0.5

    def decide(self, phi, batch, graph):
        self.decided.append(phi.detach())
        return phi @ self.weight.T


def batch_of(seed, spans=5, hidden=3, actions=4):
    labels = torch.randint(0, actions, (2, spans), generator=torch.Generator().manual_seed(seed))
    labels[0, 0] = IGNORE
    return {"phi": drawn(seed, 2, spans, hidden).requires_grad_(), "labels": labels}


# Labels


@MANY
@given(SEEDS)
def test_cross_entropy_is_minus_the_mean_log_chance_and_its_gradient_is_chances_minus_truth(seed):
    logits, labels = drawn(seed, 2, 5, 4).requires_grad_(), batch_of(seed)["labels"]
    kept = [(i, j) for i in range(2) for j in range(5) if labels[i, j] != IGNORE]
    by_hand = -sum(math.log(logits[i, j].detach().softmax(-1)[labels[i, j]]) for i, j in kept) / len(kept)
    loss = task_loss(logits, labels)
    assert math.isclose(loss.item(), by_hand, rel_tol=1e-9)
    loss.backward()
    truth = torch.nn.functional.one_hot(labels.clamp(min=0), 4)
    wanted = (logits.softmax(-1) - truth) / len(kept)
    wanted[labels == IGNORE] = 0
    assert torch.allclose(logits.grad, wanted)


# Answers


@MANY
@given(SEEDS, st.floats(0, 0.49))
def test_an_answer_s_likelihood_and_gradient_have_a_closed_form(seed, error):
    logits = drawn(seed, 1, 1, 4).requires_grad_()
    action = seed % 4
    chance = logits.softmax(-1)[0, 0, action].item()
    p_yes = (1 - error) * chance + error * (1 - chance)
    for reward, p, sign in ((1, p_yes, -1), (0, 1 - p_yes, 1)):
        loss = answer_loss(logits, torch.tensor([[action]]), torch.tensor([[reward]]), error)
        assert math.isclose(loss.item(), -math.log(p), rel_tol=1e-9)
        gradient, = torch.autograd.grad(loss, logits)
        assert math.isclose(gradient[0, 0, action].item(), sign * (1 - 2 * error) * chance * (1 - chance) / p, rel_tol=1e-6, abs_tol=1e-12)
        assert abs(gradient.sum().item()) < 1e-9, "what one action wins the others lose"


@MANY
@given(SEEDS)
def test_yes_and_no_are_the_two_outcomes_of_one_question(seed):
    logits, asked = drawn(seed, 1, 1, 3), torch.tensor([[seed % 3]])
    yes, no = (answer_loss(logits, asked, torch.tensor([[reward]])).item() for reward in (1, 0))
    assert math.isclose(math.exp(-yes) + math.exp(-no), 1, rel_tol=1e-9)
    assert max(yes, no) <= -math.log(AnswerTerm().error) + 1e-9, "one slip cannot surprise without bound"


def test_a_span_nobody_was_asked_about_has_no_gradient():
    logits = drawn(0, 1, 3, 4).requires_grad_()
    answer_loss(logits, torch.tensor([[2, IGNORE, IGNORE]]), torch.tensor([[0, IGNORE, 1]])).backward()
    assert logits.grad[0, 0].abs().min() > 0 and not logits.grad[0, 1:].any()


def test_with_no_errors_a_yes_is_a_label():
    logits, labels = drawn(1, 2, 5, 4), batch_of(1)["labels"]
    assert torch.allclose(answer_loss(logits, labels, torch.ones_like(labels), error=0), task_loss(logits, labels))


@pytest.mark.parametrize("loss", [
    lambda logits: task_loss(logits, torch.full((1, 2), IGNORE)),
    lambda logits: answer_loss(logits, torch.full((1, 2), IGNORE), torch.full((1, 2), IGNORE)),
    lambda logits: agreement_gap(logits, torch.zeros(1, 2, 3))])
def test_a_batch_in_which_nothing_is_known_gives_zero_and_a_gradient_of_zeros(loss):
    logits = torch.randn(1, 2, 4).requires_grad_()
    loss(logits).backward()
    assert loss(logits).item() == 0 and not logits.grad.any()


# Agreement


@MANY
@given(SEEDS)
def test_the_gap_is_a_divergence(seed):
    logits, evidence = drawn(seed, 1, 4, 4), drawn(seed + 1, 1, 4, 3).softmax(-1)
    skill = logits[..., 1:].softmax(-1)
    by_hand = (evidence * (evidence / skill).log()).sum(-1).mean()
    assert torch.allclose(agreement_gap(logits, evidence), by_hand)
    assert agreement_gap(logits, evidence) > 0 and abs(agreement_gap(logits, skill)) < 1e-9
    louder = logits + torch.tensor([3.0, 0, 0, 0])
    assert torch.allclose(agreement_gap(louder, evidence), by_hand), "none has no part in it"


def test_the_gap_is_finite_where_the_graph_is_certain_and_ignores_names_it_does_not_know():
    logits, sure = drawn(0, 1, 2, 4).requires_grad_(), torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    gap = agreement_gap(logits, sure)
    gap.backward()
    assert math.isclose(gap.item(), -logits[0, 0, 1:].log_softmax(-1)[1].item(), rel_tol=1e-9)
    assert logits.grad.isfinite().all() and not logits.grad[0, 1].any() and logits.grad[0, 0, 0] == 0


def test_the_agreement_term_reads_without_the_graph():
    model, batch = Linear(), batch_of(0) | {"type_evidence": drawn(3, 2, 5, 3).softmax(-1)}
    value = AgreementTerm()(model, batch, Forward(model, batch))
    assert model.reads == [False]
    assert torch.allclose(value, agreement_gap(batch["phi"] * 0.5 @ model.weight.T, batch["type_evidence"]))


# The adversarial step


@MANY
@given(SEEDS, st.floats(0.01, 3))
def test_the_step_has_length_epsilon_along_the_gradient_and_costs_at_least_epsilon_times_its_norm(seed, epsilon):
    model, batch = Linear(seed=seed), batch_of(seed)
    plain = task_loss(batch["phi"] @ model.weight.T, batch["labels"])
    gradient, = torch.autograd.grad(plain, batch["phi"])
    value = AdversarialTerm(epsilon=epsilon)(model, batch, Forward(model, batch))
    step = model.decided[-1] - batch["phi"].detach()
    labelled = batch["labels"] != IGNORE
    assert torch.allclose(step[labelled].norm(dim=-1), torch.tensor(epsilon, dtype=torch.float64))
    assert torch.allclose(step[labelled] / epsilon, gradient[labelled] / gradient[labelled].norm(dim=-1, keepdim=True), atol=1e-6)
    assert not step[~labelled].any(), "a span without a label has no wrong direction"
    # Cross-entropy of a linear head is convex in phi: it lies above its tangent.
    assert value >= plain + epsilon * gradient[labelled].norm(dim=-1).sum() - 1e-9


def test_the_step_is_held_fixed_while_the_loss_after_it_is_learnt_from():
    model, batch = Linear(), batch_of(2)
    AdversarialTerm()(model, batch, Forward(model, batch)).backward()
    moved = model.decided[-1].requires_grad_()
    weight = model.weight.detach().requires_grad_()
    wanted = torch.autograd.grad(task_loss(moved @ weight.T, batch["labels"]), (moved, weight))
    assert torch.allclose(batch["phi"].grad, wanted[0]) and torch.allclose(model.weight.grad, wanted[1])


def test_without_any_label_the_adversarial_term_is_zero():
    model, batch = Linear(), batch_of(0)
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    assert AdversarialTerm()(model, batch, Forward(model, batch)).item() == 0


# Added up


def test_an_objective_weighs_its_terms_and_leaves_out_those_that_are_not_due():
    model, batch = Linear(), batch_of(4)
    terms = (TaskTerm(weight=2.0), AdversarialTerm(weight=0.5, every=3))
    objective = Objective(terms)
    totals = [objective(model, batch, step).item() for step in range(4)]
    task, = {round(value, 9) for value in objective.history["task"]}
    adversarial = objective.history["adversarial"][0]
    assert len(objective.history["adversarial"]) == 2
    for total, due in zip(totals, (True, False, False, True)):
        assert math.isclose(total, 2 * task + (0.5 * adversarial if due else 0), rel_tol=1e-6)


def test_each_part_of_a_reading_is_worked_out_once():
    model = Linear()
    batch = batch_of(5) | {"type_evidence": drawn(3, 2, 5, 3).softmax(-1), "actions": torch.zeros(2, 5, dtype=torch.long),
                           "rewards": torch.ones(2, 5, dtype=torch.long)}
    Objective((TaskTerm(), AnswerTerm(), AgreementTerm(), AdversarialTerm()))(model, batch, 0)
    assert sorted(model.reads) == [False, True] and len(model.decided) == 4, "two readings, and two decisions at the step"


def test_training_the_text_alone_reads_without_the_graph():
    model, batch = Linear(), batch_of(6)
    Objective((TaskTerm(), AdversarialTerm()))(model, batch, 0, graph=False)
    assert model.reads == [False]
