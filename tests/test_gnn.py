"""What the lessons of 20_gnn do not carry: damage, interruption, brute-force twins, and the leak through f's weights."""
import dataclasses
import hashlib
import json
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn import gnn
from kglearn.data import BadInput, Document
from kglearn.gnn import (Answers, GraphEncoder, GraphSnapshot, LinkScores, evaluate_snapshot, fit_links, graph_tensors, link_nll,
                         realistic_ranks, rewired, snapshot, with_inverses)
from kglearn.graph import Evidence, KnowledgeGraph
from kglearn.history import Touched, purge, touched_since
from kglearn.text import _letters, normalise, shared_encoder


class NameHashEncoder:
    "A text encoder that knows nothing: each name has a random unit vector of its own, the same in every run."
    hash, width = "names-by-hash", 96

    def readable(self, text: str) -> bool:
        return text.isascii()

    def embed(self, texts, progress=""):
        rows = [self.vector(text) if self.readable(text) else _letters(text, self.width) for text in texts]
        return torch.stack(rows) if rows else torch.zeros(0, self.width)

    def vector(self, text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return torch.nn.functional.normalize(torch.randn(self.width, generator=torch.Generator().manual_seed(seed)), dim=0)


TEXT = NameHashEncoder()
RELATIONS = ("causes", "treats")


def evidence(confidence=0.9, extractor="dictionary", polarity=1):
    return Evidence("", 0, 0, extractor, confidence, polarity)


def graph_of(facts, entities=()):
    "A graph of these triples, each entity named by its key."
    kg = KnowledgeGraph()
    with kg.transaction("test"):
        for key in sorted({end for head, _, tail in facts for end in (head, tail)} | set(entities)):
            kg.add_entity(key, key, key.partition(":")[0])
        for fact in facts:
            kg.add_fact(*fact, evidence())
    return kg


def some_facts(count, seed=0, nodes=30):
    "Different random facts between `nodes` entities."
    lot = random.Random(seed)
    possible = [(f"a:{h}", relation, f"a:{t}") for h in range(nodes) for t in range(nodes) for relation in RELATIONS if h != t]
    return lot.sample(possible, count)


def make_encoder(**options):
    return GraphEncoder(RELATIONS, **{"width": TEXT.width, "dim": 16} | options)


# The layers

def layer_by_formula(encoder, features, edges):
    "The encoder's forward pass node by node, as the docstring says it."
    hidden = features @ encoder.lift.weight.T + encoder.lift.bias
    for conv in encoder.convs:
        weights = torch.einsum("rb,bio->rio", conv.comp, conv.weight)
        after = []
        for node in range(len(features)):
            message = hidden[node] @ conv.root + conv.bias
            for relation in range(2 * len(encoder.relations)):
                neighbours = [h for h, r, t in with_inverses(edges, len(encoder.relations)).T.tolist() if r == relation and t == node]
                if neighbours:
                    message = message + hidden[neighbours].mean(0) @ weights[relation]
            after.append(hidden[node] + torch.nn.functional.gelu(message))
        hidden = torch.stack(after)
    return torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], encoder.norm.weight, encoder.norm.bias)


def test_the_encoder_computes_its_formula():
    encoder = make_encoder().double().eval()
    features = torch.randn(7, TEXT.width, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    edges = torch.tensor([[0, 0, 1], [2, 0, 1], [1, 1, 3], [3, 0, 3], [5, 1, 0], [2, 0, 1]]).T
    torch.testing.assert_close(encoder(features, edges), layer_by_formula(encoder, features, edges))


@pytest.mark.parametrize("message_passing", [True, False])
def test_numbering_of_nodes_does_not_matter(message_passing):
    encoder = make_encoder(message_passing=message_passing).double().eval()
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(20, TEXT.width, dtype=torch.double, generator=generator)
    edges = torch.stack([torch.randint(size, (50,), generator=generator) for size in (20, 2, 20)])
    place = torch.randperm(20, generator=generator)
    renumbered = torch.stack([place[edges[0]], edges[1], place[edges[2]]])
    moved = torch.empty_like(features).index_copy_(0, place, features)
    torch.testing.assert_close(encoder(moved, renumbered)[place], encoder(features, edges), atol=1e-12, rtol=0)
    order = torch.randperm(50, generator=generator)
    torch.testing.assert_close(encoder(features, edges[:, order]), encoder(features, edges), atol=1e-12, rtol=0)


def test_all_parameters_learn():
    encoder = make_encoder()
    edges = torch.tensor([[0, 0, 1], [1, 1, 2]]).T
    vectors = encoder(torch.randn(3, TEXT.width, generator=torch.Generator().manual_seed(0)), edges)
    encoder.link_scores(vectors, torch.tensor([0, 1]), torch.tensor([0, 1])).square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in encoder.parameters())


def test_making_and_training_leave_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_links(graph_of(some_facts(20)), make_encoder(seed=9), TEXT, epochs=2, seed=9)
    assert torch.equal(torch.rand(3), expected)


# A contract for every layer in the slot

class Plain(torch.nn.Module):
    "A stranger's layer: the sum of the neighbours, whatever the relation."
    def __init__(self, dim, relation_count):
        super().__init__()
        self.own = torch.nn.Linear(dim, dim)

    def forward(self, hidden, edge_index, relation):
        return self.own(hidden).index_add(0, edge_index[1], hidden[edge_index[0]])


SLOTS = {name: {"layer": name} for name in ("rgcn", "sage", "compgcn", "gatv2")} | {
    "a class": {"layer": Plain}, "an instance": {"layer": gnn.CompGCNLayer(16, 4)},
    "no messages": {"message_passing": False}, "no layers": {"layers": 0}}
HEARS_RELATIONS = {"rgcn", "compgcn", "gatv2", "an instance"}
each_slot = pytest.mark.parametrize("slot", SLOTS)


def some_graph(nodes=12, facts=40, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(nodes, TEXT.width, generator=generator, dtype=torch.double).to(dtype)
    return features, torch.stack([torch.randint(size, (facts,), generator=generator) for size in (nodes, 2, nodes)])


def of(slot, **options):
    return make_encoder(**SLOTS[slot] | options)


@each_slot
def test_shape_and_precision(slot):
    features, edges = some_graph()
    exact, rounded = of(slot).double().eval()(features, edges), of(slot).eval()(features.float(), edges)
    assert exact.shape == rounded.shape == (12, 16) and exact.dtype == torch.double and rounded.dtype == torch.float
    torch.testing.assert_close(rounded.double(), exact, atol=2e-5, rtol=0)


@each_slot
def test_numbering_of_nodes_and_order_of_edges_do_not_matter(slot):
    (features, edges), encoder = some_graph(), of(slot).double().eval()
    place, order = torch.randperm(12), torch.randperm(40)
    renumbered = torch.stack([place[edges[0]], edges[1], place[edges[2]]])[:, order]
    moved = torch.empty_like(features).index_copy_(0, place, features)
    torch.testing.assert_close(encoder(moved, renumbered)[place], encoder(features, edges), atol=1e-12, rtol=0)


@each_slot
def test_it_hears_the_neighbours_within_reach_and_nobody_else(slot):
    encoder, features = of(slot).double().eval(), some_graph(6)[0]
    chain = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 1], [1, 2, 3, 4]])
    changed = features.clone()
    changed[0] += 1
    moved = (encoder(changed, chain) != encoder(features, chain)).any(1).tolist()
    assert moved == [node <= encoder.reach for node in range(5)] + [False]
    turned = torch.stack([chain[0], 1 - chain[1], chain[2]])
    assert torch.equal(encoder(features, chain), encoder(features, turned)) == (slot not in HEARS_RELATIONS)


@each_slot
def test_every_weight_learns_and_alone_nodes_and_unused_relations_do_no_harm(slot):
    encoder = of(slot).train()
    features, edges = some_graph(dtype=torch.float)
    def learn(edges):
        encoder.zero_grad()
        vectors = encoder(features, edges)
        encoder.link_scores(vectors, torch.arange(4), torch.tensor([0, 1, 2, 3])).square().sum().backward()
        return {name: weights.grad for name, weights in encoder.named_parameters() if weights.grad is not None}
    learnt = learn(edges)
    assert all(grad.isfinite().all() for grad in learnt.values())
    for sparse in (edges[:, edges[1] == 0], edges[:, :1], edges[:, :0], torch.tensor([[3], [0], [3]])):
        assert all(grad.isfinite().all() for grad in learn(sparse).values())
    if slot != "no messages":
        assert {name for name, _ in encoder.named_parameters()} == {name for name, grad in learnt.items() if grad.any()}


@each_slot
def test_a_node_without_edges_is_what_its_features_say(slot):
    (features, edges), encoder = some_graph(), of(slot).double().eval()
    edges = edges[:, (edges[0] != 5) & (edges[2] != 5)]
    torch.testing.assert_close(encoder(features, edges)[5], encoder(features, edges[:, :0])[5], atol=1e-12, rtol=0)
    torch.testing.assert_close(encoder(features[5:6], edges[:, :0])[0], encoder(features, edges)[5], atol=1e-12, rtol=0)
    assert encoder(features[:0], edges[:, :0]).shape == (0, 16)


@each_slot
def test_what_is_saved_comes_back(slot, tmp_path):
    (features, edges), encoder = some_graph(dtype=torch.float), of(slot, seed=3).eval()
    encoder.save(tmp_path)
    own = {"layer": SLOTS[slot]["layer"]} if slot in ("a class", "an instance") else {}
    found = GraphEncoder.load(tmp_path, **own)
    assert found.hash == encoder.hash and torch.equal(found(features, edges), encoder(features, edges)) and not found.training
    if own:
        with pytest.raises(BadInput, match="(Plain|CompGCNLayer).*layer="):
            GraphEncoder.load(tmp_path)
        with pytest.raises(BadInput, match="(Plain|CompGCNLayer).*layer="):
            GraphEncoder.load(tmp_path, layer=gnn.SAGELayer)


@each_slot
def test_the_seed_decides_all_weights_and_links_are_learnt(slot):
    facts = some_facts(60)
    def trained(seed):
        encoder = of(slot, seed=seed)
        history = fit_links(graph_of(facts), encoder, TEXT, epochs=4, seed=seed, valid_share=0, learning_rate=0.01)
        return encoder.hash, history.loss
    assert trained(1) == trained(1) != trained(2)
    assert trained(1)[1][-1] < trained(1)[1][0]


@each_slot
def test_an_edge_listed_twice_and_one_to_oneself_are_heard(slot):
    "Documented, not refused: twice counts twice, and a node may hear itself."
    encoder, features = of(slot).double().eval(), some_graph(4)[0]
    edges = torch.tensor([[0, 0, 1], [2, 0, 1]]).T
    twice, to_itself = (torch.cat([edges, torch.tensor(extra).reshape(3, 1)], 1) for extra in ((0, 0, 1), (1, 0, 1)))
    messages = slot not in ("no messages", "no layers")
    assert encoder(features, twice).isfinite().all() and encoder(features, to_itself).isfinite().all()
    assert torch.equal(encoder(features, twice), encoder(features, edges)) == (not messages)
    assert torch.equal(encoder(features, to_itself), encoder(features, edges)) == (not messages)


def test_the_default_is_what_it_was():
    "Its hash stands in skills that were saved before there was a choice of layers."
    assert GraphEncoder(["causes", "treats"], width=8, dim=4).hash == "86f1d4d887c3"
    assert "layer" not in GraphEncoder(["treats"]).config
    assert len({make_encoder(**slot).hash for slot in SLOTS.values()}) == len(SLOTS)


# Graphs that cannot be read

ODD_GRAPHS = {
    r"features are \[3, 5\].*\[nodes, 96\]": lambda features, edges: (features[:, :5], edges),
    r"edges are \[2, 4\]": lambda features, edges: (features, edges[:2]),
    "features of node 2 are not all finite.*0 more": lambda features, edges: (features.index_fill(0, torch.tensor([2]), math.nan), edges),
    "features of node 0.*2 more": lambda features, edges: (features + math.inf, edges),
    "names node 3, but there are 3": lambda features, edges: (features, edges + torch.tensor([[1], [0], [0]])),
    "names node -1": lambda features, edges: (features, edges - torch.tensor([[0], [0], [1]])),
    "names relation 2, but there are 2": lambda features, edges: (features, edges + torch.tensor([[0], [1], [0]])),
}


@pytest.mark.parametrize("message", ODD_GRAPHS)
def test_a_graph_that_is_none_is_refused(message):
    features, edges = torch.ones(3, TEXT.width), torch.tensor([[0, 1, 2, 2], [0, 1, 0, 1], [1, 2, 0, 0]])
    with pytest.raises(BadInput, match=message):
        make_encoder()(*ODD_GRAPHS[message](features, edges))


def test_names_without_a_finite_vector_are_refused():
    class Broken(NameHashEncoder):
        hash = "broken"
        def vector(self, text):
            return super().vector(text) * (math.nan if text == "a:2" else 1)
    with pytest.raises(BadInput, match="name 'a:2'"):
        graph_tensors(graph_of([("a:1", "treats", "a:2")]), RELATIONS, Broken())


def test_an_encoder_of_another_graph_is_refused_for_training_and_counted_in_a_snapshot():
    kg = graph_of([("a:1", "sells", "a:2"), ("a:1", "buys", "a:3")])
    with pytest.raises(BadInput, match="none of the 2 facts.*causes, treats.*another graph"):
        fit_links(kg, make_encoder(), TEXT)
    frozen = snapshot(kg, make_encoder(), TEXT)
    assert frozen.unknown_facts == 2 and "2 facts left out" in repr(frozen)
    with pytest.raises(BadInput, match="reads \\[nodes, 50\\]"):
        snapshot(kg, GraphEncoder(RELATIONS, width=50), TEXT)


def test_odd_slots_and_relations_are_refused():
    with pytest.raises(BadInput, match="no layer 'gcn': choose rgcn, sage, compgcn, gatv2"):
        make_encoder(layer="gcn")
    with pytest.raises(BadInput, match="relation 'treats' is named twice"):
        GraphEncoder(["treats", "causes", "treats"])


def test_one_entity_has_a_vector_but_no_ranks():
    frozen = snapshot(graph_of([], entities=["a:1"]), make_encoder(), TEXT)
    assert frozen.table[1].any()
    with pytest.raises(BadInput, match="one entity only"):
        evaluate_snapshot(frozen, make_encoder(), [("a:1", "treats", "a:1")])


# The graph as tensors

def test_only_believed_facts_carry_messages():
    kg = graph_of([("a:1", "treats", "a:2"), ("a:2", "causes", "a:3"), ("a:1", "sells", "a:3")])
    kg.add_fact("a:2", "causes", "a:3", evidence(extractor="answer", polarity=-1))
    kg.add_fact("a:3", "causes", "a:1", evidence(0.3))
    graph = graph_tensors(kg, RELATIONS, TEXT)
    assert graph.edges.T.tolist() == [[0, 1, 1]] and graph.unknown_facts == 1
    kg.add_document(Document("another", "Three causes one."))
    kg.add_fact("a:3", "causes", "a:1", Evidence("another", 0, 17, "pattern", 0.8))
    assert [2, 0, 0] in graph_tensors(kg, RELATIONS, TEXT).edges.T.tolist()


@pytest.mark.parametrize("message_passing", [True, False])
def test_unreadable_names_share_no_vector_and_are_counted(message_passing):
    lot = random.Random(0)
    strange = {f"a:{''.join(chr(lot.randrange(0x4e00, 0x9fff)) for _ in range(lot.randint(1, 3)))}" for _ in range(200)}
    kg = graph_of([("a:1", "treats", "a:2")], entities=strange)
    frozen = snapshot(kg, make_encoder(message_passing=message_passing), TEXT)
    assert frozen.unreadable == len(frozen.rows) - 2 > 190
    table = torch.nn.functional.normalize(frozen.table[1:], dim=1)
    likeness = table @ table.T - 2 * torch.eye(len(table))
    assert likeness.max() < 0.99, "no two names share a vector, whether readable or not"


def test_no_two_names_share_a_vector_by_the_real_language_model():
    "Whole names, single words and signs that its vocabulary does not have; a name of nothing but a blank among them."
    names = ["发热", "咳嗽", "热", "asthma", "asthma 热", "asthma 咳", "热 asthma 咳", "stage 3 ☃", "stage 3 ♞", "☃", "♞", "حمى", "سعال", "発熱", "발열", " ", "CKD 热", "CKD 咳"]
    kg = KnowledgeGraph()
    for number, name in enumerate(names):
        kg.add_entity(f"a:{number:02}", name, "a")
    graph = graph_tensors(kg, RELATIONS, shared_encoder())
    assert (graph.features @ graph.features.T - 2 * torch.eye(len(names))).max() < 0.97
    assert torch.allclose(graph.features.norm(dim=1), torch.ones(len(names)))
    assert torch.equal(graph.features[3], shared_encoder().embed(["asthma"])[0]), "what can be read is left as it is"


def test_letters_do_not_depend_on_process_or_order():
    first = snapshot(graph_of([], entities=["a:热", "a:咳"]), make_encoder(), TEXT)
    gnn._NAME_VECTORS.clear()
    again = snapshot(graph_of([], entities=["a:咳", "b:痛", "a:热"]), make_encoder(), TEXT)
    assert torch.equal(first.table[first.rows["a:热"]], again.table[again.rows["a:热"]])
    assert torch.allclose(_letters("热", 5), torch.tensor([0.1080587, -0.9416541, 0.2284669, 0.0, -0.2222921]), atol=1e-6), "the same on each machine"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_picture_of_hardly_anything_is_a_picture(count):
    frozen = snapshot(graph_of([], entities=[f"a:{number}" for number in range(count)]), make_encoder(), TEXT)
    places = [place for dots in frozen.plot().axes[0].collections for place in dots.get_offsets().tolist()]
    assert len(places) == count and all(map(math.isfinite, sum(places, []))) and (count != 1 or places == [[0, 0]])


def test_a_picture_says_what_is_known_of_an_entity():
    kg = KnowledgeGraph()
    kg.add_document(Document("letter", "Fever."))
    kg.add_mention("letter", 0, 5, "symptom", "symptom:fever", extractor="tagger")
    for key, name, type, more in (("MESH:D1", "asthma", "disease", ["bronchial asthma"]), ("disease:Hay fevers", "hay fever", "disease", ["AR"]),
                                  ("q:1", "thing", "", [])):
        kg.add_entity(key, name, type, more)
    axes = snapshot(kg, make_encoder(), TEXT).plot().axes[0]
    assert {dots.get_label(): len(dots.get_offsets()) for dots in axes.collections} == {"disease": 2, "not in the dictionary": 1, "untyped": 1}
    assert {text.get_text() for text in axes.texts} == {"asthma", "Hay fevers", "thing", "fever"}, "a name, or what the key says"


def test_an_empty_graph_is_no_error(tmp_path):
    encoder = GraphEncoder((), width=TEXT.width)
    history = fit_links(KnowledgeGraph(), encoder, TEXT, epochs=3)
    assert history.loss == history.valid == ()
    frozen = snapshot(KnowledgeGraph(), encoder, TEXT)
    assert frozen.table.shape == (1, 64) and not frozen.table.any() and frozen.edges.shape == (3, 0)
    frozen.save(tmp_path)
    assert GraphSnapshot.load(tmp_path) == frozen
    value, left_out = link_nll(frozen, encoder, [("a", "b", "c")])
    assert math.isnan(value) and left_out == 1
    assert evaluate_snapshot(frozen, encoder, [("a", "b", "c")]) == LinkScores(0.0, 0.0, 0.0, 0.0, 0, 1)


def test_one_fact_is_enough_to_train_on():
    encoder = make_encoder()
    history = fit_links(graph_of([("a:1", "treats", "a:2")]), encoder, TEXT, epochs=3)
    assert len(history.loss) == 3 and all(map(math.isfinite, history.loss)) and history.best == 2


@given(st.integers(0, 40), st.integers(0, 1000))
def test_rewiring_keeps_who_speaks_and_who_is_spoken_to(count, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.stack([torch.randint(size, (count,), generator=generator) for size in (8, 3, 8)])
    dealt = rewired(edges, seed)
    assert torch.equal(dealt[:2], edges[:2])
    assert sorted(dealt[1:].T.tolist()) == sorted(edges[1:].T.tolist())
    assert torch.equal(dealt, rewired(edges, seed))


# Ranks

@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), max_size=30), st.integers(0, 99))
def test_answers_are_what_a_dictionary_would_give(triples, seed):
    edges = torch.tensor(triples, dtype=torch.long).reshape(-1, 3).T
    lot = random.Random(seed)
    asked = [(lot.randrange(6), lot.randrange(3)) for _ in range(7)]
    rows, tails = Answers(edges, 3)(torch.tensor([h for h, _ in asked]), torch.tensor([r for _, r in asked]))
    expected = sorted((row, t) for row, question in enumerate(asked) for h, r, t in triples if (h, r) == question)
    assert sorted(zip(rows.tolist(), tails.tolist())) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 1e-40, -math.inf, math.inf]), min_size=1, max_size=9), st.data())
def test_ranks_are_the_mean_of_best_and_worst(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    known = data.draw(st.lists(st.integers(0, len(scores) - 1)))
    others = [score for node, score in enumerate(scores) if node != target and node not in known]
    pairs = torch.zeros(len(known), dtype=torch.long), torch.tensor(known, dtype=torch.long)
    rank = realistic_ranks(torch.tensor([scores]), torch.tensor([target]), pairs).item()
    best = 1 + sum(score > scores[target] for score in others)
    worst = best + sum(score == scores[target] for score in others)
    assert rank == (best + worst) / 2


def by_hand():
    """Five entities on a line, one relation r = 1, so that a link scores the product of its ends' places.

    Places 3, 2, 2, 1, -1. K holds a0-a1; asked are a0-a2 and a3-a4.
    """
    encoder = GraphEncoder(["r"], width=TEXT.width, dim=1)
    with torch.no_grad():
        encoder.relation_vectors.fill_(1)
    frozen = snapshot(graph_of([("a:0", "r", "a:1")], entities=[f"a:{i}" for i in range(5)]), encoder, TEXT)
    table = torch.tensor([[0.0], [3.0], [2.0], [2.0], [1.0], [-1.0]])
    return dataclasses.replace(frozen, table=table), encoder


def test_both_sides_filtered_with_ties_by_hand():
    frozen, encoder = by_hand()
    # a0-a2, tail: a0 scores 9, a1 (known: out), a2 6, a3 3, a4 -3           -> rank 2
    # a0-a2, head: a2 by a0 6, by a1 4, by itself 4, by a3 2, by a4 -2       -> rank 1
    # a3-a4, tail: 3, 2, 2, 1, target -1                                     -> rank 5
    # a3-a4, head: a4 by a0 -3, by a1 -2, by a2 -2, target -1, by itself 1   -> rank 2
    scores = evaluate_snapshot(frozen, encoder, [("a:0", "r", "a:2"), ("a:3", "r", "a:4")])
    assert scores.mrr == pytest.approx((1 / 2 + 1 + 1 / 5 + 1 / 2) / 4)
    assert (scores.hits1, scores.hits3, scores.hits10, scores.count, scores.left_out) == (0.25, 0.75, 1.0, 4, 0)
    # a1-a3, head: a3 by a0 3, target 2, by a2 2 (level), itself 1, by a4 -1 -> rank 2.5; tail: 6, 4, 4, target 2, -2 -> rank 4
    tied = evaluate_snapshot(frozen, encoder, [("a:1", "r", "a:3"), ("a:9", "r", "a:1"), ("a:1", "q", "a:3")])
    assert tied.mrr == pytest.approx((1 / 2.5 + 1 / 4) / 2) and tied.left_out == 2
    # known also by `known`: a0-a3 takes a0 out of the race for the head
    known = evaluate_snapshot(frozen, encoder, [("a:1", "r", "a:3")], known=[("a:0", "r", "a:3")])
    assert known.mrr == pytest.approx((1 / 1.5 + 1 / 4) / 2)


def test_surprise_by_hand():
    frozen, encoder = by_hand()
    places = [3, 2, 2, 1, -1]
    tail = math.log(sum(math.exp(3 * place) for place in places)) - 6
    head = math.log(sum(math.exp(2 * place) for place in places)) - 6
    value, left_out = link_nll(frozen, encoder, [("a:0", "r", "a:2"), ("a:0", "r", "b:9")])
    assert value == pytest.approx((tail + head) / 2, abs=1e-5) and left_out == 1
    flat = dataclasses.replace(frozen, table=torch.zeros(6, 1))
    assert link_nll(flat, encoder, [("a:0", "r", "a:2")])[0] == pytest.approx(math.log(5), abs=1e-6)


def test_facts_of_the_graph_and_strange_encoders_are_refused():
    frozen, encoder = by_hand()
    with pytest.raises(BadInput, match="edges of the snapshot"):
        evaluate_snapshot(frozen, encoder, [("a:0", "r", "a:1")])
    for call in (link_nll, evaluate_snapshot):
        with pytest.raises(BadInput, match="graph encoder"):
            call(frozen, GraphEncoder(["r"], width=TEXT.width, dim=1, seed=1), [("a:0", "r", "a:2")])


# Training

def test_an_edge_never_predicts_itself(monkeypatch):
    "In no step is a fact that is asked for among the edges that carry messages, in either direction."
    from kglearn import gnn
    carried, asked = [], []
    class Spy(GraphEncoder):
        def forward(self, features, edges):
            carried.append(set(map(tuple, edges.T.tolist())))
            return super().forward(features, edges)
    original = gnn._LinkRun.loss
    monkeypatch.setattr(gnn._LinkRun, "loss", lambda run, vectors, facts:
                        asked.append(set(map(tuple, facts.T.tolist()))) or original(run, vectors, facts))
    facts = some_facts(40)
    fit_links(graph_of(facts), Spy(RELATIONS, width=TEXT.width, dim=16), TEXT, epochs=3)
    assert len(carried) == len(asked) == 3 * (4 + 1)
    assert all(not c & a for c, a in zip(carried, asked))
    assert len(set.union(*asked)) == 40, "and all facts are asked for"


def test_questions_in_portions_have_the_gradient_of_all_at_once(monkeypatch):
    "Two questions at a time, or all: the same loss, and the same gradient of every weight."
    facts, features = torch.stack([torch.randint(size, (40,), generator=torch.Generator().manual_seed(0)) for size in (30, 2, 30)]), torch.randn(30, 96, dtype=torch.double)
    def of_all(most):
        monkeypatch.setattr(gnn, "_MOST_SCORES", most)
        encoder = make_encoder(dropout=0).double()
        run = gnn._LinkRun(encoder, features, facts, facts, 0.1)
        loss = run.backward(encoder(features, facts[:, 20:]), facts[:, :17])
        return loss, run.valid_loss(facts[:, :17]), [weights.grad for weights in encoder.parameters()]
    (loss, valid, gradients), (other_loss, _, other_gradients) = of_all(2 ** 26), of_all(5 * 2 * 30)
    assert other_loss == pytest.approx(loss, abs=1e-12) and of_all(1)[1] == pytest.approx(valid, abs=1e-12)
    for gradient, other in zip(gradients, other_gradients):
        torch.testing.assert_close(other, gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("message_passing", [True, False])
def test_the_seed_decides(message_passing):
    kg = graph_of(some_facts(60))
    def trained(first_seed, seed):
        encoder = make_encoder(message_passing=message_passing, seed=first_seed)
        history = fit_links(kg, encoder, TEXT, epochs=3, seed=seed)
        return encoder.hash, history
    assert trained(0, 0) == trained(0, 0)
    assert len({trained(0, 0)[0], trained(0, 1)[0], trained(1, 0)[0]}) == 3


def test_the_order_of_building_does_not_matter():
    facts = some_facts(40)
    encoders = [make_encoder(), make_encoder()]
    for encoder, order in zip(encoders, (facts, facts[::-1])):
        fit_links(graph_of(order), encoder, TEXT, epochs=2)
    assert encoders[0].hash == encoders[1].hash


def test_the_best_epoch_is_kept():
    kg, encoder = graph_of(some_facts(80)), make_encoder()
    history = fit_links(kg, encoder, TEXT, epochs=15, valid_share=0.2, learning_rate=0.02)
    assert history.best < 14 and min(history.valid) == history.valid[history.best], "noise is learnt by heart: an early epoch is best"
    again = make_encoder()
    fit_links(kg, again, TEXT, epochs=history.best + 1, valid_share=0.2, learning_rate=0.02)
    assert again.hash == encoder.hash


def test_an_interrupted_training_leaves_the_best_weights(monkeypatch):
    from kglearn import gnn
    kg, whole, broken = graph_of(some_facts(40)), make_encoder(), make_encoder()
    fit_links(kg, whole, TEXT, epochs=2, valid_share=0)
    original, calls = gnn._LinkRun.epoch, []
    def interrupted(run, parts):
        calls.append(1)
        result = original(run, parts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return result
    monkeypatch.setattr(gnn._LinkRun, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_links(kg, broken, TEXT, epochs=5, valid_share=0)
    assert broken.hash == whole.hash and not broken.training


def test_links_that_follow_a_rule_are_learnt():
    "Names that share a word are linked; f finds the links of names it has no fact about."
    class WordEncoder(NameHashEncoder):
        hash = "words"
        def embed(self, texts, progress=""):
            rows = [self.vector(text.split()[1]) + 0.3 * self.vector(text) for text in texts]
            return torch.stack(rows) if rows else torch.zeros(0, self.width)
    kg = KnowledgeGraph()
    facts = [(f"cure {disease} {i}", "treats", f"ill {disease} {j}") for disease in range(6) for i in range(5) for j in range(5)]
    for key in sorted({end for head, _, tail in facts for end in (head, tail)}):
        kg.add_entity(key, key, key.split()[0])
    held_out = [fact for fact in facts if fact[0].endswith("4")]
    for fact in facts:
        if fact not in held_out:
            kg.add_fact(*fact, evidence())
    encoder = make_encoder()
    fit_links(kg, encoder, WordEncoder(), epochs=40, valid_share=0, learning_rate=0.01)
    frozen = snapshot(kg, encoder, WordEncoder())
    scores = evaluate_snapshot(frozen, encoder, held_out)
    assert scores.hits10 > 0.8, "chance is one in six"
    assert link_nll(frozen, encoder, held_out)[0] < math.log(60) - 0.5


# The snapshot

def hostile_graph():
    kg = graph_of(some_facts(30), entities=["a:../../etc", 'a:"quoted"\n', "z:Ärztin", "A:upper", "a:<script>"])
    kg.add_entity("a:1", "a:1", "a", aliases=["another name", "noch ein Name"])
    return kg


@pytest.fixture
def saved(tmp_path):
    encoder = make_encoder()
    fit_links(hostile_graph(), encoder, TEXT, epochs=1)
    frozen = snapshot(hostile_graph(), encoder, TEXT)
    frozen.save(tmp_path)
    encoder.save(tmp_path)
    return tmp_path, frozen, encoder


def test_round_trip(saved):
    folder, frozen, encoder = saved
    found = GraphSnapshot.load(folder)
    assert found == frozen and list(found.rows) == list(frozen.rows) and found.aliases == frozen.aliases
    assert found.table.dtype == torch.float32 and found.edges.dtype == torch.long and found.revision == frozen.revision
    assert GraphEncoder.load(folder).hash == encoder.hash == found.encoder_hash
    assert not GraphEncoder.load(folder).training
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json", ".safetensors", ".safetensors"]
    text = (folder / "snapshot.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True), "JSON with sorted keys: two equal snapshots are equal files"


def test_snapshots_differ_where_they_differ(saved):
    _, frozen, _ = saved
    changes = {"revision": 99, "encoder_hash": "x", "aliases": {}, "types": (), "relations": (), "unreadable": 7,
               "table": frozen.table + 1, "edges": frozen.edges[:, 1:], "rows": {}, "unknown_facts": 3}
    how_it_was_made = {"workings": None, "computed": 0}
    assert set(changes | how_it_was_made) == {field.name for field in dataclasses.fields(frozen)}
    assert dataclasses.replace(frozen, **how_it_was_made) == frozen
    for name, value in changes.items():
        assert dataclasses.replace(frozen, **{name: value}) != frozen, name
    assert frozen != "a snapshot"
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.revision = 1


DAMAGE = {
    "gone": lambda path, data: path.unlink(),
    "empty": lambda path, data: path.write_bytes(b""),
    "cut": lambda path, data: path.write_bytes(data[:len(data) // 2]),
    "one bit": lambda path, data: path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
    "other bytes": lambda path, data: path.write_bytes(b"\xff\x00" * 50),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["snapshot.json", "snapshot.safetensors", "graph_encoder.json", "graph_encoder.safetensors"])
def test_a_damaged_half_is_refused(saved, name, damage):
    folder, _, _ = saved
    path = folder / name
    data = path.read_bytes()
    DAMAGE[damage](path, data)
    kind = GraphSnapshot if name.startswith("snapshot") else GraphEncoder
    with pytest.raises(BadInput, match="bring (both )?back"):
        kind.load(folder)


@pytest.mark.parametrize("field", ["rows", "aliases", "types", "encoder_hash", "revision", "relations"])
def test_a_missing_or_odd_field_is_refused(saved, field):
    folder, _, _ = saved
    fields = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
    for odd in ({key: value for key, value in fields.items() if key != field}, fields | {field: None}):
        (folder / "snapshot.json").write_text(json.dumps(odd), encoding="utf-8")
        with pytest.raises(BadInput, match="bring both back"):
            GraphSnapshot.load(folder)


def test_halves_of_two_snapshots_do_not_mix(saved, tmp_path):
    folder, frozen, encoder = saved
    kg = hostile_graph()
    kg.add_entity("a:new", "new", "a")
    snapshot(kg, encoder, TEXT).save(folder / "other")
    (folder / "other" / "snapshot.safetensors").replace(folder / "snapshot.safetensors")
    with pytest.raises(BadInput, match="belong together"):
        GraphSnapshot.load(folder)


def test_a_new_entity_moves_only_its_neighbourhood():
    facts = [(f"a:{i}", "causes", f"a:{i + 1}") for i in range(9)]
    encoder = make_encoder(layers=2)
    before = snapshot(graph_of(facts), encoder, TEXT)
    after = snapshot(graph_of(facts + [("a:0", "treats", "n:new")], entities=["m:stranger"]), encoder, TEXT)
    moved = {key for key, row in before.rows.items() if not torch.equal(before.table[row], after.table[after.rows[key]])}
    assert moved == {"a:0", "a:1"}, "two layers: two hops from the new entity"
    assert after.table[after.rows["n:new"]].any() and after.table[after.rows["m:stranger"]].any()
    assert not after.table[0].any()


def test_the_table_is_what_half_precision_can_hold(saved):
    _, frozen, _ = saved
    assert torch.equal(frozen.table, frozen.table.half().float()) and torch.isfinite(frozen.table).all()


# Moving a snapshot to a grown graph

NAMES = st.sampled_from([f"a:{number}" for number in range(14)])
STEPS = st.one_of(st.tuples(st.just("fact"), NAMES, st.sampled_from(RELATIONS), NAMES, st.sampled_from(["d1", "d2", ""])),
                  st.tuples(st.just("doubt"), NAMES, st.sampled_from(RELATIONS), NAMES), st.tuples(st.just("forget"), st.sampled_from(["d1", "d2"])),
                  st.tuples(st.just("merge"), NAMES, NAMES), st.tuples(st.just("unmerge"), NAMES, NAMES), st.tuples(st.just("entity"), st.integers(0, 5)),
                  st.tuples(st.just("alias"), NAMES, st.sampled_from(["Text", "one more"])), st.tuples(st.just("trust"), st.sampled_from([0.5, 1.0])),
                  st.tuples(st.just("mention"), st.sampled_from(["d1", "d2"]), st.sampled_from(["a", "z"]), st.one_of(NAMES, st.sampled_from(["", "m:热", "m:0"])),
                            st.sampled_from(["gold", "answer", "pattern"]), st.sampled_from([1, -1])))


def take(kg, step):
    "One change of a graph; what it refuses, such as merging a thing with itself, is no change."
    kind, *rest = step
    try:
        if kind == "entity":
            kg.add_entity(f"b:{rest[0]}", f"b:{rest[0]}" if rest[0] else "b:热", "b")
        elif kind == "alias":
            kg.add_entity(rest[0], rest[0], "a", [rest[1]])
        elif kind == "trust":
            kg.set_trust(extractors={"pattern": rest[0]})
        elif kind == "mention":
            kg.add_mention(rest[0], 0, 4, rest[1], rest[2], extractor=rest[3], polarity=rest[4])
        elif kind in ("forget", "merge", "unmerge"):
            getattr(kg, kind)(*rest)
        elif kind == "doubt":
            kg.add_fact(*rest, evidence(extractor="answer", polarity=-1))
        else:
            kg.add_fact(*rest[:3], Evidence(rest[3], 0, 4 if rest[3] else 0, "pattern", 0.9))
    except BadInput:
        pass


@settings(deadline=None, max_examples=40)
@given(st.lists(STEPS, min_size=1, max_size=6), st.lists(STEPS, max_size=3), st.sampled_from(list(SLOTS)), st.integers(0, 99), st.booleans())
def test_a_moved_snapshot_is_the_one_from_scratch(first, then, slot, seed, told):
    "Facts, doubts, forgotten documents, merges, trust, and new entities and names, in any order: the same table to the last bit."
    kg = graph_of(some_facts(9, seed, nodes=14), entities=[*(f"a:{number}" for number in range(14)), *(f"c:{number}" for number in range(60))])
    encoder = of(slot, seed=seed)
    for id in ("d1", "d2"):
        kg.add_document(Document(id, f"Text {id}."))
    moved = snapshot(kg, encoder, TEXT)
    for steps in (first, then):
        for step in steps:
            take(kg, step)
        changed = touched_since(kg, moved.revision) if told else None
        moved, whole = snapshot(kg, encoder, TEXT, before=moved, changed=changed), snapshot(kg, encoder, TEXT)
        assert moved == whole and moved.computed <= whole.computed == len(kg.entities())
        assert list(moved.rows) == list(whole.rows) == list(moved.workings.entities) and list(moved.aliases) == list(whole.aliases)
        assert moved.workings.entities == whole.workings.entities and torch.equal(moved.workings.readable, whole.workings.readable)
        for one, other in zip(moved.workings.hidden, whole.workings.hidden, strict=True):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert snapshot(kg, encoder, TEXT, before=moved).computed == 0


@each_slot
def test_the_table_is_what_f_says(slot):
    "Layer by layer, on neighbourhoods, or all at once: the same numbers. Without messages, too."
    kg, encoder = graph_of(some_facts(40), entities=["a:热", "z:alone"]), of(slot, seed=2)
    graph, exact = graph_tensors(kg, RELATIONS, TEXT), of(slot, seed=2).double().eval()
    with torch.no_grad():
        assert torch.equal(snapshot(kg, encoder, TEXT).table[1:], exact(graph.features.double(), graph.edges).half().float())
        other_edges = rewired(graph.edges)
        assert torch.equal(snapshot(kg, encoder, TEXT, rewired).table[1:], exact(graph.features.double(), other_edges).half().float())


def test_only_the_neighbourhood_is_computed_anew():
    facts = [(f"a:{i:03}", "causes", f"a:{i + 1:03}") for i in range(200)]
    encoder = make_encoder(layers=2)
    before = snapshot(graph_of(facts), encoder, TEXT)
    def computed(facts, entities=()):
        return snapshot(graph_of(facts, entities), encoder, TEXT, before=before).computed
    assert computed(facts) == 0
    assert computed(facts + [("a:100", "treats", "n:new")]) == 4, "the new one, and a099 to a101 two hops from it"
    assert computed(facts[:50] + facts[51:]) == 4, "the edge's ends and their neighbours"
    assert computed(facts, ["m:alone"]) == 1


def test_a_snapshot_that_cannot_be_moved(tmp_path):
    kg, encoder = graph_of(some_facts(20)), make_encoder()
    before = snapshot(kg, encoder, TEXT)
    before.save(tmp_path)
    loaded, control = GraphSnapshot.load(tmp_path), snapshot(kg, encoder, TEXT, rewired)
    for earlier in (loaded, control):
        again = snapshot(kg, encoder, TEXT, before=earlier, changed=Touched())
        assert again == before and again.computed == len(before.rows), "nothing is taken over"
    assert snapshot(kg, encoder, TEXT, rewired, before=before) == control
    with pytest.raises(BadInput, match="cannot stand in one table"):
        snapshot(kg, make_encoder(seed=1), TEXT, before=before)
    other_graph = snapshot(graph_of([("x:1", "treats", "x:2")]), encoder, TEXT)
    assert snapshot(kg, encoder, TEXT, before=other_graph) == before
    class OtherText(NameHashEncoder):
        hash = "other text"
        def vector(self, text):
            return super().vector(text + "!")
    assert snapshot(kg, encoder, OtherText(), before=before) == snapshot(kg, encoder, OtherText()), "another text encoder is noticed"
    assert snapshot(kg, encoder, OtherText(), before=before, changed=Touched()) == snapshot(kg, encoder, OtherText())


def test_only_names_and_facts_that_were_touched_are_read(monkeypatch):
    facts = [(f"a:{i:03}", "causes", f"a:{i + 1:03}") for i in range(200)]
    kg, encoder = graph_of(facts, entities=["a:热"]), make_encoder(layers=2)
    before = snapshot(kg, encoder, TEXT)
    kg.add_entity("n:new", "n:new", "n")
    kg.add_fact("a:100", "treats", "n:new", evidence())
    monkeypatch.setattr(gnn, "_NAME_VECTORS", {})
    read, asked, heard, embed, rows, after = [], [], [], TEXT.embed, kg._rows, GraphEncoder._after
    monkeypatch.setattr(TEXT, "embed", lambda texts, progress="": read.extend(texts) or embed(texts), raising=False)
    monkeypatch.setattr(kg, "_rows", lambda *query: asked.extend(found := rows(*query)) or found)
    monkeypatch.setattr(GraphEncoder, "_after", lambda encoder, conv, hidden, messages: heard.append(len(hidden)) or after(encoder, conv, hidden, messages))
    moved = snapshot(kg, encoder, TEXT, before=before, changed=touched_since(kg, before.revision))
    assert read == ["n:new"] and moved.computed == 4 and moved.unreadable == 1
    assert heard == [4, 6], "first the fact's two ends, between a:099 and a:101; then the four that these can tell, between a:098 and a:102"
    assert len(asked) < 30, "of two hundred entities, as many facts and names"
    monkeypatch.undo()
    assert moved == snapshot(kg, encoder, TEXT)


def changed_alone(kg, change):
    "A snapshot before a change, what the change touched, and the snapshot that is moved over it."
    encoder = make_encoder()
    before = snapshot(kg, encoder, TEXT)
    change(kg)
    touched = touched_since(kg, before.revision)
    moved = snapshot(kg, encoder, TEXT, before=before, changed=touched)
    assert moved == snapshot(kg, encoder, TEXT)
    return before, touched, moved


def letters_graph():
    kg = graph_of(some_facts(40), entities=[f"z:{number}" for number in range(40)])
    kg.add_document(Document("letter", "Ague, a fever."))
    return kg


def test_a_no_about_a_name_that_no_entity_bears_is_noticed():
    kg = letters_graph()
    for change, said in ((lambda kg: kg.add_mention("letter", 0, 4, "z", extractor="answer", polarity=-1), -1),
                         (lambda kg: kg.add_mention("letter", 0, 4, "z", extractor="answer", polarity=-1), -1), (KnowledgeGraph.forget_answers, None)):
        _, touched, moved = changed_alone(kg, change)
        assert not touched.entities and moved.computed == 0
        assert [piece.polarity for piece in moved.aliases.get("ague", ())] == ([said] if said else [])


def test_another_name_of_a_known_entity_is_noticed():
    _, touched, moved = changed_alone(letters_graph(), lambda kg: kg.add_entity("z:1", "z:1", "z", ["One"]))
    assert touched == Touched((), ("one",)) and moved.aliases["one"][0].entity == "z:1" and moved.computed == 0


def test_names_follow_the_key_that_stands_for_a_group():
    "3 stands for 4; then 2 takes 4 over, and stands for 3, too, though no row speaks of 3."
    kg = letters_graph()
    kg.merge("z:3", "z:4")
    kg.add_mention("letter", 0, 4, "z", "z:3")
    before, touched, moved = changed_alone(kg, lambda kg: kg.merge("z:2", "z:4"))
    assert "z:3" in touched.entities and before.aliases[normalise("z:3")][0].entity == "z:3" and "z:3" in before.rows
    assert moved.aliases[normalise("z:3")][0].entity == moved.aliases["ague"][0].entity == "z:2" and not {"z:3", "z:4"} & moved.rows.keys()
    before, touched, moved = changed_alone(kg, lambda kg: kg.unmerge("z:2", "z:4"))
    assert moved.aliases[normalise("z:3")][0].entity == "z:3" and {"z:2", "z:3"} <= moved.rows.keys()


def test_a_type_comes_and_goes_with_its_last_entity():
    kg = letters_graph()
    _, _, moved = changed_alone(kg, lambda kg: kg.add_mention("letter", 0, 4, "disease", "disease:ague"))
    assert moved.types == ("a", "disease", "z") and "disease:ague" in moved.rows
    _, _, moved = changed_alone(kg, lambda kg: kg.forget("letter"))
    assert moved.types == ("a", "z") and "disease:ague" not in moved.rows and "ague" not in moved.aliases


def test_a_type_that_a_dictionary_tells_later_is_that_of_the_names_too():
    kg = letters_graph()
    kg.add_entity("D007251", "Influenza", "", ["flu"])
    before, touched, moved = changed_alone(kg, lambda kg: kg.add_entity("D007251", "Influenza", "disease"))
    assert touched == Touched(("D007251",), ("flu", "influenza"))
    assert [snap.aliases["flu"][0].type for snap in (before, moved)] == ["", "disease"]


def test_a_purge_leaves_no_trace_so_that_all_is_read():
    kg, encoder = graph_of(some_facts(60)), make_encoder()
    kg.add_document(Document("letter", "One causes two."))
    kg.add_fact("a:3", "treats", "a:4", Evidence("letter", 0, 4, "pattern", 0.9))
    before = snapshot(kg, encoder, TEXT)
    purge(kg, "letter")
    kg.add_fact("a:5", "treats", "a:6", evidence())
    assert touched_since(kg, before.revision) is None
    assert snapshot(kg, encoder, TEXT, before=before, changed=None) == snapshot(kg, encoder, TEXT)


def test_facts_with_a_relation_that_f_does_not_know_are_counted_when_moved():
    kg, encoder = graph_of(some_facts(40)), make_encoder()
    moved = before = snapshot(kg, encoder, TEXT)
    for number in (1, 2):
        kg.add_fact("a:1", "rhymes", f"a:{number + 1}", evidence())
        moved = snapshot(kg, encoder, TEXT, before=moved, changed=touched_since(kg, moved.revision))
        assert moved == snapshot(kg, encoder, TEXT) and moved.unknown_facts == number
    assert before.unknown_facts == 0


def test_names_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(gnn, "_NAME_VECTORS", {})
    monkeypatch.setattr(gnn, "_MOST_NAMES", 5)
    first = gnn._name_vectors(["a", "b", "c", "b"], TEXT)
    assert torch.equal(first[1], first[3]) and len(gnn._NAME_VECTORS) == 3
    gnn._name_vectors(["a", "d", "e", "f"], TEXT)
    assert [name for _, name in gnn._NAME_VECTORS] == ["c", "a", "d", "e", "f"], "b was asked for longest ago, before c"
    many = gnn._name_vectors([str(number) for number in range(20)], TEXT)
    assert len(gnn._NAME_VECTORS) == 5 and torch.equal(many, TEXT.embed([str(number) for number in range(20)])), "more than are kept"
    assert gnn._NAME_VECTORS[TEXT.hash, "19"].untyped_storage().nbytes() == 4 * TEXT.width, "no row that holds on to a whole matrix"


# The leak through f's weights

def probe(frozen, labels):
    "Accuracy on the second half of a ridge classifier fitted on the first."
    keys = sorted(labels, key=lambda key: hashlib.sha256(key.encode()).digest())
    vectors = torch.stack([frozen.table[frozen.rows[key]] for key in keys]).double()
    vectors = torch.cat([vectors, torch.ones(len(keys), 1)], 1)
    wanted, half = torch.tensor([labels[key] for key in keys]), len(keys) // 2
    weights = torch.linalg.solve(vectors[:half].T @ vectors[:half] + 5 * torch.eye(vectors.shape[1]),
                                 vectors[:half].T @ torch.nn.functional.one_hot(wanted[:half]).double())
    return ((vectors[half:] @ weights).argmax(1) == wanted[half:]).double().mean().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_labels_leak_through_the_weights_of_f_only_if_f_trained_on_them(seed):
    """Random labels as edges on names. f trained without those edges: a probe is at chance. f trained with them: the probe
    reads them from a snapshot of the *clean* graph. The second half is what gives the first its meaning: were the probe
    or f too weak to find anything, it would fail."""
    lot = random.Random(seed)
    names = [f"n:{lot.getrandbits(40):x}" for _ in range(200)]
    labels = {name: lot.randrange(4) for name in names}
    honest = [(*lot.sample(names, 2), "causes") for _ in range(300)]
    clean = sorted({(head, "causes", tail) for head, tail, _ in honest})
    wards = [f"w:{ward}" for ward in range(4)]
    planted = clean + [(name, "seen_in", f"w:{label}") for name, label in labels.items()]

    def read_after_training_on(facts):
        encoder = GraphEncoder(("causes", "seen_in"), width=TEXT.width, dropout=0, seed=seed)
        fit_links(graph_of(facts, entities=names + wards), encoder, TEXT, epochs=60, seed=seed, valid_share=0, learning_rate=0.01)
        return probe(snapshot(graph_of(clean, entities=names + wards), encoder, TEXT), labels)

    assert read_after_training_on(clean) < 0.4, "chance is 0.25, two hundred names, half of them probed"
    assert read_after_training_on(planted) > 0.6


def test_a_description_is_half_of_the_features_and_moves_the_vector():
    kg, texts, encoder = KnowledgeGraph(), NameHashEncoder(), GraphEncoder(["r"], width=NameHashEncoder.width)
    for key in "abcde":
        kg.add_entity(key, key, "thing")
    kg.add_fact("a", "r", "b", Evidence("", 0, 0, "dictionary"))
    before = snapshot(kg, encoder, texts)
    kg.add_entity("a", "a", "thing", description="what it is")
    tensors = graph_tensors(kg, ["r"], texts)
    name, said = texts.embed(["a", "what it is"])
    assert torch.allclose(tensors.features[0], torch.nn.functional.normalize(name + said, dim=0)) and torch.equal(tensors.features[1], texts.embed(["b"])[0])
    moved = snapshot(kg, encoder, texts, before=before, changed=touched_since(kg, before.revision))
    assert moved == snapshot(kg, encoder, texts) and moved.computed == 2, "a, and b, which hears it"
    assert [torch.equal(moved.table[moved.rows[key]], before.table[before.rows[key]]) for key in "abc"] == [False, False, True]
