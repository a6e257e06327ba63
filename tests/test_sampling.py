"""What the lessons of 24_sampling do not carry: brute-force twins, chances, two real processes, and names that break tables."""
import csv
import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput
from kglearn.gnn import GraphEncoder, with_inverses
from kglearn.graph import Evidence, KnowledgeGraph
from kglearn.sampling import NeighborSampler, _without, fit_sampled, random_sampler, to_graphstorm

RELATIONS = ("causes", "treats")


def some_edges(facts, nodes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (facts,), generator=generator) for size in (nodes, 2, nodes)])


def messages_of(sample):
    "The messages of a sample in the numbers of the whole graph, with how often each is there."
    source, relation, target = sample.messages
    return Counter(zip(sample.nodes[source].tolist(), relation.tolist(), sample.nodes[target].tolist()))


def by_hand(edges, asked, hops):
    "All messages that reach nodes fewer than so many hops away, found one by one."
    everything = [tuple(message) for message in with_inverses(edges, 2).T.tolist()]
    reached, frontier, found = set(asked), set(asked), Counter()
    for _ in range(hops):
        heard = [message for message in everything if message[2] in frontier]
        found.update(heard)
        frontier = {source for source, _, _ in heard} - reached
        reached |= frontier
    return found, reached


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 15), st.integers(0, 999), st.integers(0, 3))
def test_without_a_limit_it_is_all_that_is_needed_and_nothing_else(facts, nodes, seed, hops):
    edges, lot = some_edges(facts, nodes, seed), random.Random(seed)
    asked = lot.sample(range(nodes), lot.randint(0, nodes))
    sample = NeighborSampler(edges, nodes, 2, seed).sample(asked, (1000,) * hops, seed)
    messages, reached = by_hand(edges, asked, hops)
    assert messages_of(sample) == messages
    assert sample.nodes.tolist()[:len(asked)] == asked and sorted(sample.nodes.tolist()) == sorted(reached)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 15), st.integers(1, 9), st.integers(0, 999))
def test_with_a_limit_each_node_hears_so_many_different_messages(facts, nodes, most, seed):
    edges = some_edges(facts, nodes, seed)
    sampler = NeighborSampler(edges, nodes, 2)
    sample = sampler.sample(range(nodes), (most,), seed)
    degrees = torch.bincount(with_inverses(edges, 2)[2], minlength=nodes)
    heard = torch.bincount(sample.nodes[sample.messages[2]], minlength=nodes)
    assert torch.equal(heard, degrees.clamp(max=most))
    everything = Counter(map(tuple, with_inverses(edges, 2).T.tolist()))
    assert not messages_of(sample) - everything, "none is there more often than in the graph"


@pytest.mark.parametrize("layer", ["rgcn", "sage", "compgcn", "gatv2"])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_vectors_of_a_full_sample_are_those_of_the_whole_graph(layer, layers):
    edges, features = some_edges(200, 40), torch.randn(40, 12, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    encoder = GraphEncoder(RELATIONS, width=12, dim=8, layers=layers, layer=layer).double().eval()
    sample = NeighborSampler(edges, 40, 2).sample([7, 3, 31], (1000,) * layers)
    torch.testing.assert_close(encoder.from_messages(features[sample.nodes], sample.messages)[:3], encoder(features, edges)[[7, 3, 31]],
                               atol=1e-12, rtol=0)


def test_each_message_has_the_same_chance_and_the_mean_is_unbiased():
    nodes, most, draws = 12, 4, 4000
    edges = some_edges(60, nodes, seed=4)
    sampler, source_values = NeighborSampler(edges, nodes, 2), torch.randn(nodes, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    degrees = torch.bincount(with_inverses(edges, 2)[2], minlength=nodes)
    hits, means = Counter(), torch.zeros(nodes, dtype=torch.double)
    for seed in range(draws):
        sample = sampler.sample(range(nodes), (most,), seed)
        hits.update(messages_of(sample))
        source, _, target = sample.messages
        sums = torch.zeros(nodes, dtype=torch.double).index_add(0, target, source_values[sample.nodes[source]])
        means += (sums / torch.bincount(target, minlength=nodes).clamp(min=1)) / draws
    for message, count in Counter(map(tuple, with_inverses(edges, 2).T.tolist())).items():
        assert hits[message] / draws == pytest.approx(count * min(1, most / degrees[message[2]].item()), abs=0.04)
    source, _, target = with_inverses(edges, 2)
    whole = torch.zeros(nodes, dtype=torch.double).index_add(0, target, source_values[source]) / degrees
    assert (means - whole).abs().max() < 0.04, "four thousand draws: a standard error of about .01"


def test_the_same_lots_choose_the_same_messages_whoever_asks():
    "What makes two processes agree: a node's sample depends on the node and the step, not on who else is asked about."
    sampler = random_sampler(100, 2000)
    together = messages_of(sampler.sample(range(100), (3,), seed=8))
    alone = messages_of(sampler.sample([17], (3,), seed=8))
    assert alone == Counter({message: count for message, count in together.items() if message[2] == 17})


def test_memory_is_linear_and_a_batch_is_bounded_on_a_million_edges():
    sizes = {}
    for facts in (10_000, 100_000, 500_000):  # heard in both directions: twice as many messages
        sampler = random_sampler(facts // 10, facts)
        sizes[facts] = sum(tensor.nbytes for tensor in (sampler.sources, sampler.relations, sampler.starts)) / facts
        assert sampler.sample(range(100), (10, 10)).messages.shape[1] <= 100 * (10 + 100)
    assert max(sizes.values()) - min(sizes.values()) < 0.01


def test_what_is_asked_for_carries_no_message():
    edges = some_edges(80, 12)
    sample = NeighborSampler(edges, 12, 2).sample([5, 2, 9], (1000, 1000))
    asked = edges[:, ::3]
    left = messages_of(type(sample)(sample.nodes, _without(sample.messages, asked, sample.nodes, 2)))
    forbidden = set(map(tuple, with_inverses(asked, 2).T.tolist()))
    assert forbidden & set(messages_of(sample)), "there was something to take out"
    assert left == Counter({message: count for message, count in messages_of(sample).items() if message not in forbidden})


def test_odd_input_is_refused():
    edges, encoder = some_edges(20, 9), GraphEncoder(RELATIONS, width=12, dim=8)
    with pytest.raises(BadInput, match="1 limits for an encoder that sees 2 hops"):
        fit_sampled(encoder, torch.ones(9, 12), edges, most=(3,))
    with pytest.raises(BadInput, match="without edges"):
        fit_sampled(encoder, torch.ones(9, 12), edges[:, :0])
    for strange in (9, -1):
        with pytest.raises(BadInput, match="there are 9, counted from 0"):
            NeighborSampler(edges, 9, 2).sample([strange], (3,))


def test_links_that_follow_a_rule_are_learnt_from_samples():
    "Nodes of one kind are joined; a batch at a time, f finds that out."
    kinds = torch.arange(60) % 3
    features = torch.nn.functional.one_hot(kinds, 12).float() + 0.3 * torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    heads = torch.randint(60, (400,), generator=generator)
    edges = torch.stack([heads, torch.zeros_like(heads), (heads + 3 * torch.randint(20, (400,), generator=generator)) % 60])
    losses = fit_sampled(GraphEncoder(RELATIONS, width=12, dim=8, dropout=0), features, edges, (5, 5), epochs=6, batch_size=100, others=30,
                         learning_rate=0.02)
    assert losses[-1] < losses[0] - 0.5


def test_steps_end_an_epoch_early():
    edges, features = some_edges(200, 40), torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    def losses(**options):
        return fit_sampled(GraphEncoder(RELATIONS, width=12, dim=8, dropout=0), features, edges, (3, 3), batch_size=50, others=10, **options)
    assert losses(epochs=1, steps=1) != losses(epochs=1) and losses(epochs=1, steps=4) == losses(epochs=1) == losses(epochs=1, steps=99)


def test_the_seed_decides_with_dropout_too_and_the_callers_random_numbers_are_left_alone():
    edges, features = some_edges(200, 40), torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    def run(seed):
        encoder = GraphEncoder(RELATIONS, width=12, dim=8, dropout=0.5)
        return fit_sampled(encoder, features, edges, (3, 3), epochs=2, batch_size=50, others=10, seed=seed), encoder.hash
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert run(0) == run(0) != run(1)
    assert torch.equal(torch.rand(3), expected)


def test_interrupted_it_leaves_an_encoder_that_is_ready(monkeypatch):
    encoder = GraphEncoder(RELATIONS, width=12, dim=8, dropout=0.5)
    before = encoder.hash
    def step(self, left=[3]):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(KeyboardInterrupt):
        fit_sampled(encoder, torch.ones(40, 12), some_edges(200, 40), (3, 3), batch_size=50)
    assert not encoder.training and encoder.hash == before


# Handing over

def test_graphstorm_gets_every_believed_fact_once_whatever_things_are_called(tmp_path):
    kg = KnowledgeGraph()
    for key, name, type in (("a", 'said "no", twice', "../../etc"), ("b\n", "发热", ""), ("c", "<b>", "x,y"), ("d", "alone", "x,y")):
        kg.add_entity(key, name, type)
    facts = [("a", "causes, or not", "c", 0.9), ("b\n", "../up", "a", 0.8), ("c", "causes, or not", "c", 0.9), ("a", "causes, or not", "b\n", 0.2)]
    for *fact, confidence in facts:
        kg.add_fact(*fact, Evidence("", 0, 0, "pattern", confidence))
    place = to_graphstorm(kg, tmp_path / "new" / "folder")
    conf = json.loads(place.read_text(encoding="utf-8"))
    def rows(entry):
        assert entry["format"] == {"name": "csv", "separator": ","}
        return [row for file in entry["files"] for row in csv.DictReader(open(place.parent / file, encoding="utf-8", newline=""))]
    nodes = {(entry["node_type"], row[entry["node_id_col"]], row["name"]) for entry in conf["nodes"] for row in rows(entry)}
    assert nodes == {(entity.type or "untyped", entity.key, entity.name) for entity in kg.entities()}
    edges = [(row[entry["source_id_col"]], entry["relation"], row[entry["dest_id_col"]]) for entry in conf["edges"] for row in rows(entry)]
    type_of = {entity.key: entity.type or "untyped" for entity in kg.entities()}
    assert sorted(edges) == sorted((head, [type_of[head], relation, type_of[tail]], tail) for head, relation, tail, confidence in facts if confidence > 0.5)
    assert all(entry["labels"] == [{"task_type": "link_prediction", "split_pct": [0.8, 0.1, 0.1]}] for entry in conf["edges"])
    assert {path.name for path in place.parent.iterdir()} == {"gconstruct.json", *(f"{kind}-{number}.csv" for kind in ("nodes", "edges") for number in range(3))}


def test_an_empty_graph_is_handed_over_empty(tmp_path):
    assert json.loads(to_graphstorm(KnowledgeGraph(), tmp_path).read_text(encoding="utf-8")) == {"version": "gconstruct-v0.1", "nodes": [], "edges": []}


# Two processes

SCRIPT = """
import json, sys
import torch
from kglearn.gnn import GraphEncoder
from kglearn.sampling import fit_sampled
accelerator = None
if len(sys.argv) > 2:
    from accelerate import Accelerator
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2 and "gloo" in torch.distributed.get_backend()
generator = torch.Generator().manual_seed(0)
edges = torch.stack([torch.randint(size, (90,), generator=generator) for size in (30, 2, 30)])
features = torch.randn(30, 12, generator=generator)
encoder = GraphEncoder(("causes", "treats"), width=12, dim=8, dropout=0, layer="compgcn")
losses = fit_sampled(encoder, features, edges, (3, 3), epochs=3, batch_size=25, others=10, learning_rate=0.01, accelerator=accelerator)
if accelerator is None or accelerator.is_main_process:
    with torch.no_grad():
        vectors = encoder(features, edges)
    open(sys.argv[1], "w", encoding="utf-8").write(json.dumps([losses, vectors.tolist()]))
if accelerator:
    accelerator.end_training()
"""


def test_two_processes_compute_what_one_does(tmp_path):
    pytest.importorskip("accelerate")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    alone = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "one.json")]
    # "--cpu" would want MPI; "--multi_gpu" starts the processes, and the script's Accelerator(cpu=True) chooses gloo.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for command in (alone, [*launch, *alone[1:2], str(tmp_path / "two.json"), "shared"]):
        run = subprocess.run(command, capture_output=True, encoding="utf-8", env=surroundings, timeout=300)
        assert run.returncode == 0, run.stderr[-3000:]
    (losses, vectors), (shared_losses, shared_vectors) = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("one.json", "two.json"))
    assert shared_losses == pytest.approx(losses, abs=1e-5)
    torch.testing.assert_close(torch.tensor(shared_vectors), torch.tensor(vectors), atol=1e-4, rtol=0)
