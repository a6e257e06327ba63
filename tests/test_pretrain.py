"""What the lessons of 23_pretrain do not carry: each task learns and keeps its hands off, closed forms, odd input."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput
from kglearn.gnn import GraphEncoder
from kglearn.pretrain import OBJECTIVES, DGIObjective, GraphMAEObjective, LinkObjective, VGAEObjective, linear_probe, pretrain

RELATIONS = ("causes", "treats")
each_objective = pytest.mark.parametrize("name", OBJECTIVES)
each_layer = pytest.mark.parametrize("layer", ["rgcn", "sage", "compgcn", "gatv2"])


def make_encoder(**options):
    return GraphEncoder(RELATIONS, **{"width": 12, "dim": 8, "dropout": 0} | options)


def two_camps(nodes=40, facts=160, seed=0):
    "Two kinds of nodes with features of their own; facts stay within a kind, each kind has its relation."
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(nodes) % 2
    features = torch.randn(nodes, 12, generator=generator) + 3 * torch.nn.functional.one_hot(kinds, 12)
    heads, tails = (torch.randint(nodes // 2, (facts,), generator=generator) * 2 for _ in range(2))
    kind = torch.randint(2, (facts,), generator=generator)
    return features, torch.stack([heads + kind, kind, tails + kind]), kinds


# A contract for every task

@each_objective
@each_layer
def test_it_learns_and_moves_the_encoder(name, layer):
    features, edges, _ = two_camps()
    encoder = make_encoder(layer=layer)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    losses = pretrain(encoder, name, features, edges, epochs=40, learning_rate=0.01)
    assert len(losses) == 40 and sum(losses[-5:]) < sum(losses[:5]), "it learns"
    assert any(not torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items()) and not encoder.training


@each_objective
def test_the_seed_decides_and_the_callers_random_numbers_are_left_alone(name):
    features, edges, _ = two_camps()
    def run(seed):
        encoder = make_encoder(dropout=0.3)
        return pretrain(encoder, name, features, edges, epochs=3, seed=seed), encoder.hash
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert run(1) == run(1) != run(2)
    assert torch.equal(torch.rand(3), expected)


@each_objective
def test_making_a_task_changes_no_weight_and_no_epoch_means_no_change(name):
    "PyTorch Geometric's own DeepGraphInfomax and VGAE reset the encoder that they are given."
    features, edges, _ = two_camps()
    encoder = make_encoder()
    before = encoder.hash
    OBJECTIVES[name](encoder)
    assert pretrain(encoder, name, features, edges, epochs=0) == () and encoder.hash == before


@each_objective
def test_slots_take_a_name_a_class_or_an_instance(name):
    features, edges, _ = two_camps()
    def run(slot):
        encoder = make_encoder()
        return pretrain(encoder, slot, features, edges, epochs=2)
    assert run(name) == run(OBJECTIVES[name])
    encoder = make_encoder()
    task = OBJECTIVES[name](encoder)
    weights = [tensor.clone() for tensor in task.parameters()]
    pretrain(encoder, task, features, edges, epochs=3)
    assert not weights or any(not torch.equal(old, new) for old, new in zip(weights, task.parameters())), "an instance learns in place"


@each_objective
def test_one_fact_and_a_lonely_node_are_enough(name):
    losses = pretrain(make_encoder(), name, torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([[0], [1], [1]]), epochs=4)
    assert all(map(math.isfinite, losses))


# What knowing nothing costs, and what can be known

def test_links_of_a_blank_encoder_cost_the_logarithm_of_the_nodes():
    features, edges, _ = two_camps()
    encoder = make_encoder()
    torch.nn.init.zeros_(encoder.relation_vectors)
    assert LinkObjective(encoder)(encoder, features, edges).item() == pytest.approx(math.log(40), abs=1e-5)


def test_asked_links_carry_no_message(monkeypatch):
    features, edges, _ = two_camps()
    edges = edges.unique(dim=1)
    encoder, seen = make_encoder(), {}
    forward, scores = GraphEncoder.forward, GraphEncoder.link_scores
    monkeypatch.setattr(GraphEncoder, "forward", lambda self, x, e: seen.update(carried=e) or forward(self, x, e))
    monkeypatch.setattr(GraphEncoder, "link_scores", lambda self, v, h, r: seen.update(heads=h, relations=r) or scores(self, v, h, r))
    LinkObjective(encoder, hidden=0.5)(encoder, features, edges)
    asked = len(seen["heads"]) // 2
    assert seen["carried"].shape[1] + asked == edges.shape[1] and 0 < asked < edges.shape[1]


def test_a_hidden_node_is_rebuilt_from_others_only():
    "The loss does not change when the hidden features change in length, and nothing of them reaches the encoder."
    features, edges, _ = two_camps()
    encoder, seen = make_encoder(), []
    task = GraphMAEObjective(encoder, hidden=0.4)
    encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    torch.manual_seed(0)
    first = task(encoder, features, edges)
    masked = (seen[0] == task.token).all(1)
    assert 0.2 < masked.float().mean() < 0.6
    torch.manual_seed(0)
    stretched = torch.where(masked[:, None], 7 * features, features)
    assert task(encoder, stretched, edges).item() == pytest.approx(first.item(), abs=1e-5), "the direction counts"
    assert torch.equal(seen[0], seen[1])


def test_infomax_without_messages_has_nothing_to_learn():
    "Shuffled features are the same set of features: no scorer of single nodes can tell them apart, so 2 log 2 is the floor."
    features, edges, _ = two_camps()
    losses = pretrain(make_encoder(message_passing=False), "dgi", features, edges, epochs=150, learning_rate=0.01)
    assert losses[-1] == pytest.approx(2 * math.log(2), abs=0.01)
    assert pretrain(make_encoder(), "dgi", features, edges, epochs=150, learning_rate=0.01)[-1] < 1.0


def test_the_divergence_of_normal_codes_is_nothing():
    encoder = make_encoder()
    task = VGAEObjective(encoder)
    for weights in (*task.mean.parameters(), *task.log_spread.parameters()):
        torch.nn.init.zeros_(weights)
    features, edges, _ = two_camps()
    codes = task.mean(encoder(features, edges)), task.log_spread(encoder(features, edges))
    assert task.coder.kl_loss(*codes).item() == 0
    assert DGIObjective(encoder).scorer.weight.shape == (8, 8)


# The probe

@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(2, 4))
def test_the_probe_is_ridge_regression_as_scikit_learn_has_it(seed, count):
    from sklearn.linear_model import Ridge
    from sklearn.metrics import balanced_accuracy_score
    generator = torch.Generator().manual_seed(seed)
    vectors, labels = torch.randn(40, 5, generator=generator), torch.arange(40) % count
    vectors[:, 0] += labels
    order = torch.randperm(40, generator=generator)
    train, test = order[:24], order[24:]
    scaled = ((vectors - vectors.mean(0)) / vectors.std(0)).double()
    columns = torch.cat([scaled, torch.ones(40, 1)], 1).numpy()
    peer = Ridge(alpha=10.0, fit_intercept=False).fit(columns[train], torch.nn.functional.one_hot(labels)[train].double().numpy())
    expected = balanced_accuracy_score(labels[test].numpy(), peer.predict(columns[test]).argmax(1))
    assert linear_probe(vectors, labels, train, test) == pytest.approx(expected, abs=1e-12)


def test_vectors_that_know_the_kind_are_found_out():
    features, edges, kinds = two_camps()
    train, test = torch.arange(4), torch.arange(4, 40)
    assert linear_probe(features, kinds, train, test, strength=1.0) > 0.8
    assert linear_probe(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), kinds, train, test) < 0.75


# Odd input

def test_odd_input_is_refused():
    features, edges, kinds = two_camps()
    with pytest.raises(BadInput, match="no objective 'bert': choose links, graphmae, dgi, vgae"):
        pretrain(make_encoder(), "bert", features, edges)
    with pytest.raises(BadInput, match="without edges"):
        pretrain(make_encoder(), "dgi", features, edges[:, :0])
    with pytest.raises(BadInput, match="features of node 3 are not"):
        pretrain(make_encoder(), "dgi", features.index_fill(0, torch.tensor([3]), math.nan), edges)
    with pytest.raises(BadInput, match="train on nodes|nodes to train on"):
        linear_probe(features, kinds, torch.tensor([], dtype=torch.long), torch.tensor([1]))
    with pytest.raises(BadInput, match="not all finite"):
        linear_probe(features / 0, kinds, torch.tensor([0]), torch.tensor([1]))
    class Lost(torch.nn.Module):
        def forward(self, encoder, features, edges):
            return encoder(features, edges).sum() * math.inf
    encoder = make_encoder()
    with pytest.raises(BadInput, match="loss is -?(inf|nan) after 0 epochs"):
        pretrain(encoder, Lost(), features, edges)
    assert not encoder.training, "ready to be used"


def test_interrupted_it_leaves_an_encoder_that_is_ready():
    features, edges, _ = two_camps()
    class Stopped(LinkObjective):
        left = 3
        def forward(self, *args):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().forward(*args)
    encoder, other = make_encoder(dropout=0.3), make_encoder(dropout=0.3)
    with pytest.raises(KeyboardInterrupt):
        pretrain(encoder, Stopped, features, edges)
    pretrain(other, "links", features, edges, epochs=2)
    assert not encoder.training and encoder.hash == other.hash, "after two whole steps"
