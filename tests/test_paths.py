"""Paths and rules: closed forms, networkx, brute force, strangers' numbering, and graphs that are hardly graphs."""
import json
import math
import os
import random
from dataclasses import replace

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput
from kglearn.gnn import evaluate_links, rewired, with_inverses
from kglearn.links import Triples, as_triples
from kglearn.paths import (ALL_PATHS, LIKELIEST, SHORTEST, MinedRules, PathEncoder, PathScorer, RuleScorer, _rounds, bellman_ford, fit_paths, hits_among,
                           hops, mine_rules, reasons_table)

RELATIONS = ("likes", "knows")


def graph_of(facts, nodes: int) -> Triples:
    "Facts by number as a graph, without the questions that `as_triples` asks."
    edges = torch.tensor(sorted(facts), dtype=torch.long).reshape(-1, 3).T.contiguous()
    nothing = torch.zeros(3, 0, dtype=torch.long)
    return Triples(tuple(f"n{node:02d}" for node in range(nodes)), RELATIONS, edges, nothing, nothing)


def at_random(nodes: int, facts: int, seed: int) -> Triples:
    draw = random.Random(seed)
    return graph_of({(draw.randrange(nodes), draw.randrange(2), draw.randrange(nodes)) for _ in range(facts)}, nodes)


NODES = 7
facts_drawn = st.sets(st.tuples(st.integers(0, NODES - 1), st.integers(0, 1), st.integers(0, NODES - 1)), max_size=16)
every_question = torch.arange(NODES).repeat_interleave(4), torch.arange(4).repeat(NODES)


def small_encoder(layers: int = 3, seed: int = 0) -> PathEncoder:
    return PathEncoder(RELATIONS, dim=8, layers=layers, seed=seed).eval()


def all_scores(scorer) -> torch.Tensor:
    return scorer.scores(*every_question)


# One algorithm, three meanings

@given(facts_drawn, st.integers(0, NODES - 1), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_ways_are_powers_of_the_adjacency_matrix(facts, start, rounds):
    heads, _, tails = graph_of(facts, NODES).train
    adjacency = torch.zeros(NODES, NODES, dtype=torch.double).index_put((heads, tails), torch.ones(len(heads), dtype=torch.double), accumulate=True)
    counted = bellman_ford(heads, tails, torch.ones(len(heads), dtype=torch.double), NODES, start, rounds, ALL_PATHS)
    assert torch.equal(counted, sum(torch.linalg.matrix_power(adjacency, length) for length in range(rounds + 1))[start])


@given(facts_drawn, st.integers(0, NODES - 1), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_likeliest_and_shortest_ways_are_those_of_networkx(facts, start, seed):
    heads, _, tails = graph_of(facts, NODES).train
    chances = torch.rand(len(heads), generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 0.9 + 0.05
    roads = networkx.MultiDiGraph()
    roads.add_nodes_from(range(NODES))
    roads.add_weighted_edges_from(zip(heads.tolist(), tails.tolist(), (-chances.log()).tolist()))
    wanted = networkx.single_source_dijkstra_path_length(roads, start)
    lengths = bellman_ford(heads, tails, -chances.log(), NODES, start, NODES, SHORTEST)
    likeliest = bellman_ford(heads, tails, chances, NODES, start, NODES, LIKELIEST)
    for node in range(NODES):
        assert lengths[node].item() == pytest.approx(wanted.get(node, math.inf))
        assert likeliest[node].item() == pytest.approx(math.exp(-wanted[node]) if node in wanted else 0.0)


@given(facts_drawn, st.integers(0, NODES - 1), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_hops_are_those_of_networkx(facts, start, rounds):
    heads, _, tails = graph_of(facts, NODES).train
    graph = networkx.DiGraph(list(zip(heads.tolist(), tails.tolist())))
    graph.add_nodes_from(range(NODES))
    wanted = networkx.single_source_shortest_path_length(graph, start, rounds)
    begin = (torch.arange(NODES) == start)[:, None]
    assert hops(heads, tails, begin, rounds).flatten().tolist() == [wanted.get(node, rounds + 1) for node in range(NODES)]


# The encoder

@given(facts_drawn, st.permutations(range(NODES)))
@settings(max_examples=30, deadline=None)
def test_numbering_does_not_matter(facts, order):
    renumbering, encoder = torch.tensor(order), small_encoder()
    graph = graph_of(facts, NODES)
    moved = replace(graph, train=torch.stack([renumbering[graph.train[0]], graph.train[1], renumbering[graph.train[2]]]))
    scores = all_scores(PathScorer(encoder, graph))
    by_number = PathScorer(encoder, moved).scores(renumbering[every_question[0]], every_question[1])
    assert torch.allclose(by_number[:, renumbering], scores, atol=1e-5)


@given(facts_drawn, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_what_is_left_out_makes_no_difference(facts, seed):
    graph, encoder = graph_of(facts, NODES), small_encoder()
    heads, relations = every_question
    wanted = torch.rand(len(heads), NODES, generator=torch.Generator().manual_seed(seed)) < 0.3
    with torch.no_grad():
        whole, part = encoder(graph.train, NODES, heads, relations), encoder(graph.train, NODES, heads, relations, wanted)
    assert torch.allclose(whole[wanted], part[wanted], atol=1e-5)


@given(facts_drawn)
@settings(max_examples=20, deadline=None)
def test_scores_do_not_depend_on_company(facts):
    graph = graph_of(facts, NODES)
    for scorer in (lambda size: PathScorer(small_encoder(), graph, batch_size=size), lambda size: RuleScorer(mine_rules(graph, 1), graph, batch_size=size)):
        assert torch.allclose(all_scores(scorer(100)), all_scores(scorer(1)), atol=1e-5)


def test_a_message_takes_one_round_an_edge():
    chain = graph_of({(node, 0, node + 1) for node in range(6)}, 7)
    begun = [set(turn.cells.tolist()) for turn in _rounds(with_inverses(chain.train, 2), 7, torch.tensor([0]), None, 4)]
    assert begun == [set(range(reach + 1)) for reach in range(1, 5)]


def test_training_takes_the_fact_itself_out(monkeypatch):
    "No question of a batch finds its own fact, or the inverse, among the messages."
    seen, forward = [], PathEncoder.forward
    def watching(self, edges, node_count, heads, relations, *rest):
        carried = set(map(tuple, with_inverses(edges, 2).T.tolist()))
        answers = rest[0].nonzero().tolist()
        seen.append((carried, [(int(heads[row]), int(relations[row]), node) for row, node in answers]))
        return forward(self, edges, node_count, heads, relations, *rest)
    monkeypatch.setattr(PathEncoder, "forward", watching)
    graph = at_random(20, 40, 0)
    known = set(map(tuple, with_inverses(graph.train, 2).T.tolist()))
    fit_paths(graph, small_encoder(), epochs=2, batch_size=8, negatives=3, hidden=0.0, progress="")
    asked = [(carried, question) for carried, questions in seen for question in questions if question in known]
    assert len(asked) >= 2 * len(known), "each fact both ways, in each epoch"
    assert not [question for carried, question in asked if question in carried]


def test_training_is_repeatable_and_learns():
    graph = at_random(20, 60, 1)
    def trained(seed):
        encoder = small_encoder(seed=seed)
        history = fit_paths(graph, encoder, epochs=3, seed=seed, progress="")
        return all_scores(PathScorer(encoder, graph)), history
    (first, history), (again, _), (other, _) = trained(0), trained(0), trained(1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(history.loss) == 3 and all(map(math.isfinite, history.loss))


def test_saved_and_loaded_is_the_same(tmp_path):
    encoder, graph = small_encoder(seed=3), at_random(20, 60, 1)
    encoder.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["path_encoder.json", "path_encoder.safetensors"]
    assert torch.equal(all_scores(PathScorer(PathEncoder.load(tmp_path), graph)), all_scores(PathScorer(encoder, graph)))


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_damaged_half_is_one_clear_error(tmp_path, damage):
    small_encoder().save(tmp_path)
    if damage == "gone":
        (tmp_path / "path_encoder.safetensors").unlink()
    elif damage == "cut":
        (tmp_path / "path_encoder.safetensors").write_bytes((tmp_path / "path_encoder.safetensors").read_bytes()[:-5])
    else:
        fields = json.loads((tmp_path / "path_encoder.json").read_text(encoding="utf-8"))
        (tmp_path / "path_encoder.json").write_text(json.dumps(fields | {"tensors_sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(BadInput, match="path_encoder"):
        PathEncoder.load(tmp_path)


# Reasons

def test_the_only_way_is_the_reason():
    graph = graph_of({(0, 0, 1), (2, 1, 1), (2, 0, 3), (4, 0, 5)}, 7)
    reasons = PathScorer(small_encoder(), graph).why(0, 1, 3)
    assert [reason.facts for reason in reasons] == [((0, 0, 1), (2, 1, 1), (2, 0, 3))]
    assert reasons_table(reasons, graph).rows[0][1] == "n00 likes n01 and n02 knows n01 and n02 likes n03"
    assert PathScorer(small_encoder(), graph).why(0, 1, 5) == [], "no way leads there"
    assert PathScorer(small_encoder(layers=2), graph).why(0, 1, 3) == [], "too far for two rounds"


def test_the_weight_of_a_path_is_its_mean_gradient():
    graph, encoder = graph_of({(0, 0, 1), (1, 1, 2)}, 7), small_encoder(layers=2)
    weights, score = torch.ones(2, 4), lambda weights: encoder(graph.train, 7, torch.tensor([0]), torch.tensor([0]), None, weights)[0, 2].item()
    step, gradients = 1e-2, []
    for layer, edge in ((0, 0), (1, 1)):
        more, less = weights.clone(), weights.clone()
        more[layer, edge], less[layer, edge] = 1 + step, 1 - step
        with torch.no_grad():
            gradients.append((score(more) - score(less)) / (2 * step))
    reason, = PathScorer(encoder, graph).why(0, 0, 2)
    assert reason.weight == pytest.approx(sum(gradients) / 2, abs=1e-3)


# Rules

def brute_rules(graph: Triples, min_support: int) -> dict[tuple, tuple[int, int]]:
    pairs = {}
    for head, relation, tail in with_inverses(graph.train, 2).T.tolist():
        if head != tail:
            pairs.setdefault(relation, set()).add((head, tail))
    bodies = {(relation,): found for relation, found in pairs.items()}
    for first in pairs:
        for second in pairs:
            bodies[first, second] = {(x, y) for x, z in pairs[first] for start, y in pairs[second] if z == start and x != y}
    return {(conclusion, body): (len(holds & right), len({pair for pair in holds if pair[0] in {x for x, _ in right}}))
            for body, holds in bodies.items() for conclusion, right in pairs.items() if body != (conclusion,) and len(holds & right) >= min_support}


@given(facts_drawn, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_rules_are_those_of_brute_force(facts, min_support):
    graph = graph_of(facts, NODES)
    rules = mine_rules(graph, min_support)
    assert {(rule.conclusion, rule.body): (rule.support, rule.covered) for rule in rules.rules} == brute_rules(graph, min_support)
    assert all(rule.confidence == rule.support / (rule.covered + 2) for rule in rules.rules)


@given(facts_drawn, st.sampled_from(["noisy-or", "max"]))
@settings(max_examples=40, deadline=None)
def test_rule_scores_and_reasons_are_those_of_brute_force(facts, join):
    graph = graph_of(facts, NODES)
    rules = mine_rules(graph, 1)
    edges = {fact for fact in map(tuple, with_inverses(graph.train, 2).T.tolist()) if fact[0] != fact[2]}
    def holds(body, x, y):
        if len(body) == 1:
            return (x, body[0], y) in edges
        return x != y and any((x, body[0], z) in edges and (z, body[1], y) in edges for z in range(NODES))
    scorer = RuleScorer(rules, graph, join)
    scores = all_scores(scorer)
    for row, (head, relation) in enumerate(zip(*(part.tolist() for part in every_question))):
        for node in range(NODES):
            fire = [rule.confidence for rule in rules.rules if rule.conclusion == relation and holds(rule.body, head, node)]
            wanted = (max(fire, default=0.0) if join == "max" else 1 - math.prod(1 - each for each in fire))
            assert scores[row, node].item() == pytest.approx(wanted, abs=1e-6)
    for reason in scorer.why(0, 0, 1, top=100):
        assert all(fact in edges for fact in reason.facts) and reason.weight == reason.rule.confidence


def test_rules_read_as_sentences_from_both_ends():
    graph = as_triples([("a", "knows", "b"), ("b", "likes", "c"), ("a", "likes", "c"), ("d", "knows", "e"), ("e", "likes", "f"), ("d", "likes", "f")])
    rules = mine_rules(graph)
    said = {rules.sentence(rule): rule for rule in rules.rules}
    assert said["if x knows z and z likes y, then x likes y"].support == 2
    assert said["if z likes x and y knows z, then y likes x"].support == 2, "the same, read from the other end"
    assert "if x knows z and z likes y, then x likes y" in repr(rules) and "<table>" in rules._repr_html_()


# Hits

def test_hits_of_a_constant_are_those_of_chance():
    graph = at_random(80, 100, 2)
    class Constant:
        def scores(self, heads, relations):
            return torch.zeros(len(heads), 80)
    assert hits_among(Constant(), graph.train, graph.train, 2) == pytest.approx(10 / 51)
    class Knows:
        def scores(self, heads, relations):
            return torch.stack([torch.tensor([float((int(head), int(relation), node) in facts) for node in range(80)]) for head, relation in zip(heads, relations)])
    facts = set(map(tuple, with_inverses(graph.train, 2).T.tolist()))
    assert hits_among(Knows(), graph.train, graph.train, 2, top=1) == 1.0
    with pytest.raises(BadInput, match="draw fewer"):
        hits_among(Constant(), graph.train, graph.train, 2, negatives=80)
    assert hits_among(Constant(), graph.train, graph.train, 2, seed=1) == hits_among(Constant(), graph.train, graph.train, 2, seed=1)


# Hardly graphs

@pytest.mark.parametrize("facts, nodes", [((), 1), ((), NODES), ({(0, 0, 0)}, 1), ({(0, 0, 0), (1, 1, 1)}, NODES), ({(0, 0, 1)}, NODES)],
                         ids=["one node", "no edges", "one self edge", "self edges", "nodes without edges"])
def test_hardly_a_graph(facts, nodes):
    graph, encoder = graph_of(facts, nodes), small_encoder()
    if facts and nodes > 1:
        fit_paths(graph, encoder, epochs=1, progress="")
    else:
        with pytest.raises(BadInput, match="one fact and two nodes"):
            fit_paths(graph, encoder, epochs=1, progress="")
    question = torch.tensor([nodes - 1]), torch.tensor([1])
    rules = mine_rules(graph)
    for scorer in (PathScorer(encoder, graph), RuleScorer(rules, graph)):
        scores = scorer.scores(*question)
        assert scores.shape == (1, nodes) and scores.isfinite().all()
        assert scorer.scores(question[0][:0], question[1][:0]).shape == (0, nodes)
        assert isinstance(scorer.why(nodes - 1, 0, 0), list)
    assert isinstance(repr(rules), str)


def test_a_node_without_edges_finds_all_other_nodes_alike_but_for_their_looks():
    scores = PathScorer(small_encoder(), graph_of({(0, 0, 1), (2, 0, 3)}, 6)).scores(torch.tensor([5]), torch.tensor([0]))[0]
    assert scores[0] == scores[2] and scores[1] == scores[3] and scores[0] != scores[1]


def test_duplicates_change_no_rule():
    graph = at_random(10, 40, 5)
    twice = replace(graph, train=torch.cat([graph.train, graph.train], 1))
    assert mine_rules(twice).rules == mine_rules(graph).rules
    assert torch.equal(all_scores(RuleScorer(mine_rules(graph), twice)), all_scores(RuleScorer(mine_rules(graph), graph)))


@pytest.mark.parametrize("head, relation, said", [(99, 0, "node 99"), (-1, 0, "node -1"), (0, 4, "relation 4"), (0, -1, "relation -1")])
def test_a_question_about_nothing_is_refused(head, relation, said):
    graph = at_random(10, 40, 5)
    for scorer in (PathScorer(small_encoder(), graph), RuleScorer(mine_rules(graph), graph)):
        with pytest.raises(BadInput, match=said):
            scorer.scores(torch.tensor([head]), torch.tensor([relation]))
        with pytest.raises(BadInput, match=said):
            scorer.why(head, relation, 0)


def test_a_graph_of_other_relations_is_refused():
    other = replace(at_random(10, 40, 5), relations=("knows", "likes"))
    for made in (lambda: PathScorer(small_encoder(), other), lambda: fit_paths(other, small_encoder()), lambda: RuleScorer(MinedRules(RELATIONS, (), {}), other)):
        with pytest.raises(BadInput, match="relations"):
            made()
    with pytest.raises(BadInput, match="at least one relation"):
        PathEncoder(())
    with pytest.raises(BadInput, match="noisy-or"):
        RuleScorer(mine_rules(at_random(10, 40, 5)), at_random(10, 40, 5), join="mean")


def test_paths_find_what_degrees_cannot():
    "Composition: likes = knows after knows, on a ring where every node has the same degrees; asked on a ring never seen."
    def ring(nodes, left_out):
        facts = {(node, 1, (node + 1) % nodes) for node in range(nodes)} | {(node, 0, (node + 2) % nodes) for node in range(nodes) if node not in left_out}
        return graph_of(facts, nodes)
    known, new = ring(40, range(0)), ring(30, range(0, 30, 5))
    asked = torch.tensor([(node, 0, (node + 2) % 30) for node in range(0, 30, 5)]).T
    def found(adjacency=None):
        encoder = PathEncoder(RELATIONS, dim=8, layers=2)
        fit_paths(known, encoder, epochs=15, adjacency=adjacency, progress="")
        return evaluate_links(PathScorer(encoder, new, adjacency), asked, new.train, 2).mrr
    assert found() > 0.8 > 0.6 > found(rewired)


@pytest.mark.parametrize("count", [3, 64, 150, 320])
def test_paths_are_learnt_in_any_number_of_steps(count):
    lot = random.Random(count)
    triples = as_triples(sorted({(f"n{lot.randrange(40)}", "r", f"n{lot.randrange(40, 80)}") for _ in range(count)}))
    encoder = PathEncoder(triples.relations, dim=4, layers=1)
    assert all(map(math.isfinite, fit_paths(triples, encoder, epochs=2, batch_size=64, progress="").loss))
