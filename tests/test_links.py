"""Links: closed forms, brute force, another library's evaluator, interrupted training, hostile files."""
import math
import warnings
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import kglearn.graph
import kglearn.links as links
from kglearn.belief import reliability
from kglearn.data import BadInput, Document
from kglearn.gnn import LAYERS, GraphEncoder, LinkScores, evaluate_links, link_ranks, rewired, with_inverses
from kglearn.graph import Evidence, KnowledgeGraph, Schema
from kglearn.links import (DECODERS, Decoder, FrequencyScorer, LinkCalibration, LinkModel, LinkRecipe, NodeTable, as_triples, calibrate_links,
                           graph_hash, guess_links, infer_links, kg_triples, link_odds, load_triples, make_decoder,
                           ranks_by_degree, ranks_by_relation)

RECIPES = {"complex": {}, "distmult": {}, "transe": {"optimizer": "adam", "learning_rate": 0.01, "n3": 0.0, "relation_weight": 0.0},
           "rotate": {"optimizer": "adam", "learning_rate": 0.01, "n3": 0.0, "relation_weight": 0.1, "negatives": 5}}
each_decoder = pytest.mark.parametrize("name", sorted(DECODERS))


def drawn(nodes: int, relations: int, facts: int, seed: int = 0) -> links.Triples:
    "Facts at random, 8 of 10 in train; each entity and relation is in train."
    generator = torch.Generator().manual_seed(seed)
    rows = {(f"e{node % nodes:02d}", f"r{node % relations}", f"e{(node + 1) % nodes:02d}") for node in range(max(nodes, relations))}
    ends = torch.randint(nodes, (facts, 2), generator=generator).tolist()
    kinds = torch.randint(relations, (facts,), generator=generator).tolist()
    more = sorted({(f"e{head:02d}", f"r{kind}", f"e{tail:02d}") for (head, tail), kind in zip(ends, kinds)} - rows)
    cut = len(more) // 5
    return as_triples(sorted(rows) + more[2 * cut:], more[:cut], more[cut:2 * cut])


TRIPLES = drawn(20, 3, 120)


# Files

def folder_of(place, **parts) -> object:
    for part, text in {"train": "a\tr\tb\n", "valid": "", "test": ""}.items():
        (place / f"{part}.txt").write_text(parts.get(part, text), encoding="utf-8")
    return place


@pytest.mark.parametrize("parts, message", [
    ({"train": "a\tr\n"}, r"train.txt, line 1: has 2 parts"),
    ({"train": "a\tr\tb\nc d e\n"}, r"train.txt, line 2: has 1 parts"),
    ({"train": "a\tr\tb\tc\n"}, "line 1: has 4 parts"),
    ({"train": "a\t\tb\n"}, "line 1: has 2 parts"),
    ({"train": ""}, "train has no fact"),
    ({"train": "a\tr\ta\n"}, "one node only, 'a'"),
    ({"valid": "a\tq\tb\n"}, "valid has 1 relations that nothing can be learnt about, the first 'q'"),
    ({"test": "a\tq\tb\n"}, "test has 1 relations"),
])
def test_broken_folders_are_refused(tmp_path, parts, message):
    with pytest.raises(BadInput, match=message) as found:
        load_triples(folder_of(tmp_path, **parts))
    assert str(tmp_path) in str(found.value), "the folder is named"


def test_a_missing_part_is_named(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "valid.txt").unlink()
    with pytest.raises(BadInput, match="neither valid.txt nor valid.tsv"):
        load_triples(tmp_path)


def test_not_text_is_refused(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\tr\tb\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_triples(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": {"name": "Ann"}}', '{"a": 3}'])
def test_broken_names_are_refused(tmp_path, text):
    folder_of(tmp_path)
    (tmp_path / "entities.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="entities.json: no names can be read"):
        load_triples(tmp_path)


def test_names_line_ends_and_tsv(tmp_path):
    folder_of(tmp_path, train="b\tr\ta\r\n\r\na\tr\tb\r\n")
    (tmp_path / "valid.txt").rename(tmp_path / "valid.tsv")
    (tmp_path / "relations.json").write_text('{"r": {"label": "knows", "description": "…"}}', encoding="utf-8")
    (tmp_path / "entities.tsv").write_text("a\tÅnn\n", encoding="utf-8")
    found = load_triples(tmp_path)
    assert found.train.T.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert (found.name("r"), found.name("a"), found.name("b")) == ("knows", "Ånn", "b")


def test_what_spoils_a_split_is_counted():
    found = as_triples([("a", "r", "b"), ("a", "r", "b"), ("c", "r", "c")], [("a", "r", "b"), ("b", "r", "x")], [("b", "r", "x"), ("y", "r", "y")])
    assert (found.duplicates, found.self_facts, found.unseen) == (3, 2, 2)
    assert [getattr(found, part).shape[1] for part in links.PARTS] == [2, 1, 1]
    for count in ("3 duplicates", "2 with one node", "2 with unseen"):
        assert count in repr(found)


@pytest.mark.parametrize("facts, message", [([], "train has no fact"), ([("a", "r", "a")], "one node only, 'a'")])
def test_a_knowledge_graph_of_next_to_nothing_is_refused(facts, message):
    kg = KnowledgeGraph()
    for entity in ("a", "b"):
        kg.add_entity(entity, entity, "thing")
    kg.add_facts((*fact, Evidence("", 0, 0, "register", 0.9)) for fact in facts)
    with pytest.raises(BadInput, match=message):
        kg_triples(kg)


def test_facts_that_stand_twice_train_the_same_model():
    rows = [(TRIPLES.entities[h], TRIPLES.relations[r], TRIPLES.entities[t]) for h, r, t in TRIPLES.train.T.tolist()]
    once, twice = as_triples(rows), as_triples([*rows, *rows])
    assert twice.duplicates == len(rows) and graph_hash(once) == graph_hash(twice)
    models = [LinkModel(triples, "complex", 4) for triples in (once, twice)]
    first, second = (model.fit(LinkRecipe(epochs=2), progress="") for model in models)
    assert first == second and torch.equal(models[0].nodes(), models[1].nodes())


@pytest.mark.parametrize("encoder", ["none", *sorted(LAYERS)])
def test_a_fact_from_a_node_to_itself_is_learnt_like_any_other(encoder):
    triples = as_triples([("a", "r", "a"), ("a", "r", "b"), ("b", "s", "b")], [("b", "r", "b")])
    assert triples.self_facts == 3
    model = LinkModel(triples, "complex", 4, encoder)
    curves = model.fit(LinkRecipe(epochs=3), progress="")
    assert all(map(math.isfinite, curves.loss)) and model.evaluate("valid").count == 2


def test_another_graph_is_numbered_by_the_first_ones_relations():
    first = as_triples([("a", "r", "b"), ("a", "s", "b")])
    assert as_triples([("c", "s", "d")], relations=first.relations).train.tolist() == [[0], [1], [1]]
    with pytest.raises(BadInput, match="train has 1 relations .* 'q'"):
        as_triples([("c", "q", "d")], relations=first.relations)


# Ranks

class Table:
    "Scores that are given."
    def __init__(self, scores: torch.Tensor):
        self.table = scores  # [relations and inverses, nodes, nodes]

    def scores(self, heads, relations):
        return self.table[relations, heads]


def brute_force(scorer: Table, facts: list, known: set, relation_count: int) -> list[list[float]]:
    "Ranks by the definition, one question at a time."
    ranks = [[], []]
    for head, relation, tail in facts:
        for side, (asked, kind, answer) in enumerate(((head, relation, tail), (tail, relation + relation_count, head))):
            scores = scorer.table[kind, asked].tolist()
            others = [score for node, score in enumerate(scores) if node != answer
                      and ((head, relation, node) if side == 0 else (node, relation, tail)) not in known]
            ranks[side].append(1 + sum(score > scores[answer] for score in others) + sum(score == scores[answer] for score in others) / 2)
    return ranks


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(2, 9), st.integers(1, 3), st.integers(1, 7))
def test_ranks_are_those_of_the_definition(seed, nodes, relations, batch_size):
    triples = drawn(nodes, relations, 30, seed)
    # Whole numbers, so that ties are common.
    scorer = Table(torch.randint(4, (2 * relations, nodes, nodes), generator=torch.Generator().manual_seed(seed)).float())
    facts, known = triples.train.T.tolist(), set(map(tuple, triples.facts.T.tolist()))
    ranks = link_ranks(scorer, triples.train, triples.facts, relations, batch_size)
    assert ranks.tolist() == brute_force(scorer, facts, known, relations)


class Kept:
    "A scorer that hands out the very scores that it keeps."
    def __init__(self, scores: torch.Tensor, width: int):
        self.table, self.kept, self.width = scores, scores.flatten(0, 1), width  # [relations and inverses, nodes, nodes]

    def scores(self, heads, relations):
        places = relations * self.width + heads
        first = int(places[0])
        return self.kept[first:first + len(places)] if torch.equal(places, torch.arange(first, first + len(places))) else self.kept[places]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ranks_with_ties_infinities_and_questions_asked_again(data):
    "Known facts may stand twice, and may leave the asked ones out; the scorer's own scores stay as they are."
    nodes, relations = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 2))
    fact = st.tuples(st.integers(0, nodes - 1), st.integers(0, relations - 1), st.integers(0, nodes - 1))
    asked, known = data.draw(st.lists(fact, min_size=1, max_size=12)), data.draw(st.lists(fact, max_size=25))
    number = st.sampled_from([-math.inf, -1.0, 0.0, 1e-40, 1.0, math.inf])
    count = 2 * relations * nodes * nodes
    scorer = Kept(torch.tensor(data.draw(st.lists(number, min_size=count, max_size=count))).reshape(2 * relations, nodes, nodes), nodes)
    before = scorer.table.clone()
    facts, others = (torch.tensor(part, dtype=torch.long).reshape(-1, 3).T for part in (asked, known))
    ranks = link_ranks(scorer, facts, others, relations, data.draw(st.integers(1, 9)))
    assert ranks.tolist() == brute_force(scorer, asked, {*asked, *known}, relations)
    assert torch.equal(scorer.table, before)


def test_a_constant_gets_what_chance_gets():
    facts = torch.stack([torch.arange(50), torch.zeros(50, dtype=torch.long), torch.arange(50).flip(0)])
    scores = evaluate_links(Table(torch.zeros(2, 200, 200)), facts, facts, 1)
    assert scores == LinkScores(pytest.approx(2 / 201), 0.0, 0.0, 0.0, 100)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="NaN"):
        evaluate_links(Table(torch.full((6, 20, 20), math.nan)), TRIPLES.test, TRIPLES.facts, 3)


def test_nothing_asked_is_no_error():
    assert evaluate_links(Table(torch.zeros(6, 20, 20)), TRIPLES.test[:, :0], TRIPLES.facts, 3).count == 0


def test_tables_share_out_all_questions():
    ranks = link_ranks(FrequencyScorer(TRIPLES), TRIPLES.test, TRIPLES.facts, 3)
    whole = LinkScores.from_ranks(ranks.flatten())
    for table in (ranks_by_relation(ranks, TRIPLES.test, TRIPLES), ranks_by_degree(ranks, TRIPLES.test, TRIPLES)):
        assert sum(row[1] for row in table.rows) == whole.count
        assert sum(row[1] * row[2] for row in table.rows) / whole.count == pytest.approx(whole.mrr)


@pytest.mark.filterwarnings("ignore")
def test_pykeen_finds_the_same():
    pytest.importorskip("pykeen", reason="pykeen is not installed: pip install 'kglearn[bench]'")
    from pykeen.evaluation import RankBasedEvaluator
    generator = torch.Generator().manual_seed(0)
    scorer = Table(torch.randint(9, (6, 20, 20), generator=generator).float())
    evaluator = RankBasedEvaluator(filtered=True)
    known = set(map(tuple, TRIPLES.facts.T.tolist()))
    for head, relation, tail in TRIPLES.test.T.tolist():
        for target, kind, asked, answer in (("tail", relation, head, tail), ("head", relation + 3, tail, head)):
            scores = scorer.table[kind, asked].clone()
            others = [node for node in range(20) if node != answer
                      and ((head, relation, node) if target == "tail" else (node, relation, tail)) in known]
            scores[others] = math.nan  # how PyKEEN marks what is filtered
            evaluator.process_scores_(torch.tensor([[head, relation, tail]]), target, scores[None], scores[answer][None, None])
    theirs, mine = evaluator.finalize(), evaluate_links(scorer, TRIPLES.test, TRIPLES.facts, 3)
    assert mine.mrr == pytest.approx(theirs.get_metric("both.realistic.inverse_harmonic_mean_rank"), abs=1e-6)
    for top, share in ((1, mine.hits1), (3, mine.hits3), (10, mine.hits10)):
        assert share == pytest.approx(theirs.get_metric(f"both.realistic.hits_at_{top}"), abs=1e-6)


# Decoders: one battery for all

def vectors(decoder: Decoder, kind: str, *shape: int, seed: int = 0) -> torch.Tensor:
    numbers = 5 * (decoder.node_numbers if kind == "node" else decoder.relation_numbers)
    return torch.randn(*shape, numbers, generator=torch.Generator().manual_seed(seed))


@each_decoder
def test_all_at_once_is_one_by_one(name):
    decoder = make_decoder(name)
    heads, relations, nodes = vectors(decoder, "node", 4), vectors(decoder, "relation", 4), vectors(decoder, "node", 7) * 2
    moved = decoder.move(heads, relations)
    alone = torch.stack([torch.stack([decoder.match(move, node) for node in nodes]) for move in moved])
    assert torch.allclose(decoder.match_all(moved, nodes), alone, atol=1e-5)


@each_decoder
def test_scores_of_relations_are_those_of_facts(name):
    decoder = make_decoder(name)
    heads, tails, relations = vectors(decoder, "node", 4), vectors(decoder, "node", 4) + 1, vectors(decoder, "relation", 3)
    alone = torch.stack([decoder.match(decoder.move(heads, relation.expand(4, -1)), tails) for relation in relations], 1)
    assert torch.allclose(decoder.relation_scores(heads, tails, relations), alone, atol=1e-4)


@each_decoder
def test_gradients_reach_every_vector_and_are_numbers(name):
    decoder = make_decoder(name)
    heads, relations, tails = (vectors(decoder, kind, 3, seed=seed).requires_grad_() for seed, kind in enumerate(("node", "relation", "node")))
    (decoder.match(decoder.move(heads, relations), tails * 2).sum() + decoder.sizes(heads).pow(3).sum()).backward()
    assert all(part.grad.isfinite().all() and part.grad.abs().sum() > 0 for part in (heads, relations, tails))
    zero = torch.zeros_like(heads).requires_grad_()
    (decoder.match(zero, zero).sum() + decoder.sizes(zero).pow(3).sum()).backward()
    assert zero.grad.isfinite().all(), "at the origin, too"


@each_decoder
def test_begun_twice_begins_alike(name):
    one, two, other = (LinkModel(TRIPLES, name, 4, seed=seed) for seed in (3, 3, 4))
    asked = TRIPLES.test[:2]
    assert torch.equal(one.scores(*asked), two.scores(*asked)) and not torch.equal(one.scores(*asked), other.scores(*asked))
    assert one.scores(*asked).shape == (asked.shape[1], 20)


@each_decoder
def test_trained_twice_is_trained_alike_and_kept_in_a_file(name, tmp_path):
    recipe = LinkRecipe(epochs=4, every=2, **RECIPES[name])
    first, second = LinkModel(TRIPLES, name, 4), LinkModel(TRIPLES, name, 4)
    state = torch.get_rng_state()
    assert first.fit(recipe, progress="") == second.fit(recipe, progress="")
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    first.save(tmp_path)
    loaded = LinkModel.load(tmp_path, TRIPLES)
    assert loaded.description() == first.description()
    for model in (second, loaded):
        assert torch.equal(model.scores(*TRIPLES.test[:2]), first.scores(*TRIPLES.test[:2]))
    (tmp_path / "links.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="damaged"):
        LinkModel.load(tmp_path, TRIPLES)


def test_closed_forms():
    one, two, relation = torch.tensor([1., 2., -1., 3.]), torch.tensor([2., 1., 4., -2.]), torch.tensor([.5, 1., -2., 1.])

    def score(name, head, relation, tail):
        return make_decoder(name).match(make_decoder(name).move(head, relation), tail).item()

    def numbers(vector):
        return [complex(real, imaginary) for real, imaginary in zip(*vector.reshape(2, -1).tolist())]

    assert score("distmult", one, relation, two) == score("distmult", two, relation, one) == 1 + 2 + 8 - 6
    assert score("transe", one, relation, two) == 6 - (.5 + 2 + 7 + 6)
    expected = sum(h * r * t.conjugate() for h, r, t in zip(numbers(one), numbers(relation), numbers(two))).real
    assert score("complex", one, relation, two) == pytest.approx(expected)
    turned = [h * complex(math.cos(a), math.sin(a)) - t for h, a, t in zip(numbers(one), (.3, -2.), numbers(two))]
    assert score("rotate", one, torch.tensor([.3, -2.]), two) == pytest.approx(6 - sum(map(abs, turned)), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10 ** 6))
def test_what_each_can_say(seed):
    torch.manual_seed(seed)
    one, two, relation = torch.randn(3, 6)
    dot, pair = make_decoder("distmult"), make_decoder("complex")
    assert dot.match(dot.move(one, relation), two).item() == pytest.approx(dot.match(dot.move(two, relation), one).item(), abs=1e-4)
    imaginary = torch.cat([torch.zeros(3), relation[:3]])
    assert pair.match(pair.move(one, imaginary), two).item() == pytest.approx(-pair.match(pair.move(two, imaginary), one).item(), abs=1e-4)
    turn = make_decoder("rotate")
    angles = relation[:3]
    assert torch.allclose(turn.move(turn.move(one, angles), -angles), one, atol=1e-5), "the inverse turns back"


# Training

@pytest.mark.parametrize("name", ["complex", "transe"])
def test_shared_questions_give_the_loss_of_single_facts(name):
    model = LinkModel(TRIPLES, name, 4)
    training = links._LinkTraining(model, LinkRecipe(n3=0, relation_weight=0))
    plain, loss = training.loss(torch.arange(len(training.questions.heads)))
    heads, relations, tails = with_inverses(TRIPLES.train, 3)
    assert loss.item() == plain.item() == pytest.approx(cross_entropy(model.scores(heads, relations), tails).item(), rel=1e-5)


def test_n3_and_the_relations_by_hand():
    model = LinkModel(TRIPLES, "complex", 3)
    with torch.no_grad():
        model.encoder.vectors.mul_(1000)
        model.relation_vectors.mul_(1000)
    training = links._LinkTraining(model, LinkRecipe(n3=0.1, relation_weight=0.5))
    plain, loss = training.loss(torch.arange(len(training.questions.heads)))
    heads, relations, tails = with_inverses(TRIPLES.train, 3)
    nodes = model.encoder.vectors
    three = nodes[heads], model.relation_vectors[relations], nodes[tails]
    sizes = sum(torch.complex(*part.chunk(2, 1)).abs().pow(3).sum(1) for part in three).mean()
    scores = torch.stack([(model.decoder.move(three[0], relation.expand_as(three[1])) * three[2]).sum(1) for relation in model.relation_vectors[:3]], 1)
    expected = plain + 0.1 * sizes + 0.5 * cross_entropy(scores[relations < 3], relations[relations < 3])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


class Stopped(LinkModel):
    "A model that is interrupted at its n-th question batch."
    left = 10 ** 9

    def nodes(self, but=None):
        if self.training:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().nodes(but)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "learning_rate": 0.01}, {"negatives": 4, "average": 0.0}, {"patience": 1, "every": 1}])
@pytest.mark.parametrize("stops", [(1,), (9, 4), (20, 1, 25)])
def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path, changes, stops):
    recipe = LinkRecipe(**{"epochs": 7, "every": 2, "batch_size": 20} | changes)
    whole = LinkModel(TRIPLES, "complex", 4)
    curves = whole.fit(recipe, progress="")
    for left in stops:
        model = Stopped(TRIPLES, "complex", 4)
        model.left = left
        try:
            model.fit(recipe, tmp_path, progress="")
        except KeyboardInterrupt:
            assert torch.equal(model.nodes(), model.eval().nodes()), "a valid model is left"
    last = LinkModel(TRIPLES, "complex", 4)
    assert last.fit(recipe, tmp_path, progress="") == curves
    assert all(torch.equal(mine, wanted) for mine, wanted in zip(last.state_dict().values(), whole.state_dict().values()))
    assert len(list(tmp_path.glob("epoch*"))) == 2, "one checkpoint, two files"
    again = LinkModel(TRIPLES, "complex", 4)
    assert again.fit(recipe, tmp_path, progress="") == curves, "what is finished is read, and not trained again"


def test_a_checkpoint_of_another_thing_is_refused(tmp_path):
    recipe = LinkRecipe(epochs=2)
    LinkModel(TRIPLES, "complex", 4).fit(recipe, tmp_path, progress="")
    for model, other, message in ((LinkModel(drawn(20, 3, 120, 1), "complex", 4), recipe, "another model: graph"),
                                  (LinkModel(TRIPLES, "distmult", 4), recipe, "decoder"), (LinkModel(TRIPLES, "complex", 5), recipe, "dim 4"),
                                  (LinkModel(TRIPLES, "complex", 4), replace(recipe, n3=1.0), "another recipe: n3 0.01, here it is 1.0")):
        with pytest.raises(BadInput, match=message):
            model.fit(other, tmp_path, progress="")
    with pytest.raises(BadInput, match="another graph"):
        model.save(tmp_path)
        LinkModel.load(tmp_path, drawn(20, 3, 120, 1))


def test_a_torn_checkpoint_is_named(tmp_path):
    LinkModel(TRIPLES, "complex", 4).fit(LinkRecipe(epochs=2), tmp_path, progress="")
    next(tmp_path.glob("*.safetensors")).write_bytes(b"torn")
    with pytest.raises(BadInput, match="damaged"):
        LinkModel(TRIPLES, "complex", 4).fit(LinkRecipe(epochs=2), tmp_path, progress="")


def half_written(folder, name):
    "Both files of a checkpoint, cut in half."
    for kind in ("json", "safetensors"):
        whole, = folder.glob(f"epoch*.{kind}")
        (folder / f"{name}.{kind}.cut").write_bytes(whole.read_bytes()[:whole.stat().st_size // 2])
    for cut in folder.glob("*.cut"):
        cut.rename(cut.with_suffix(""))


def test_training_goes_on_from_the_last_checkpoint_that_is_whole(tmp_path):
    recipe = LinkRecipe(epochs=7, every=2, batch_size=1000)
    whole = LinkModel(TRIPLES, "complex", 4)
    curves = whole.fit(recipe, progress="")
    model = Stopped(TRIPLES, "complex", 4)
    model.left = 4
    with pytest.raises(KeyboardInterrupt):
        model.fit(recipe, tmp_path, progress="")
    half_written(tmp_path, "epoch00005")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch0000{epoch}.{kind}" for epoch in (4, 5) for kind in ("json", "safetensors")]
    last = LinkModel(TRIPLES, "complex", 4)
    with pytest.warns(UserWarning, match="epoch00005 is damaged and was passed over: training goes on from epoch00004") as warned:
        assert last.fit(recipe, tmp_path, progress="") == curves
    assert warned[0].filename == __file__, "it points to the call of fit"
    assert all(torch.equal(mine, wanted) for mine, wanted in zip(last.state_dict().values(), whole.state_dict().values()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch00007.json", "epoch00007.safetensors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LinkModel(TRIPLES, "complex", 4).fit(recipe, tmp_path, progress="") == curves


def test_a_checkpoint_folder_may_hold_other_files(tmp_path):
    names = ["epoch notes.md", "epoch-curves.png", "epoch00001.json.txt", "epoch1.json", "epochs.json", "notes.md"]
    for name in names:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    LinkModel(TRIPLES, "complex", 4).fit(LinkRecipe(epochs=3, batch_size=1000), tmp_path, progress="")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "epoch00003.json", "epoch00003.safetensors"])
    assert all((tmp_path / name).read_text(encoding="utf-8") == "mine" for name in names)


def test_training_stops_when_valid_is_disappointed():
    curves = LinkModel(TRIPLES, "complex", 4).fit(LinkRecipe(epochs=500, every=1, patience=2), progress="")
    assert len(curves.valid) < 100 and curves.best == curves.epochs[-3], "two evaluations without a better one"


def test_no_facts_to_choose_by_is_no_error():
    model = LinkModel(as_triples([("a", "r", "b"), ("b", "r", "c")]), "complex", 4)
    recipe = LinkRecipe(epochs=11, average=0.0)
    curves, training = model.fit(recipe, progress=""), links._LinkTraining(LinkModel(model.triples, "complex", 4), recipe)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(11):
            training.run_epoch()
    assert curves.epochs == (2, 4, 6, 8, 10, 11) and not any(curves.valid) and curves.best == 11, "nothing to stop it early"
    assert torch.equal(model.nodes(), training.model.nodes()), "the weights of the last epoch"
    assert [line.get_label() for line in curves.plot().axes[0].get_lines()] and len(curves.plot().axes[0].get_lines()) == 1, "no line of zeros"


def test_no_epoch_is_no_error():
    model = LinkModel(TRIPLES, "complex", 4)
    before = model.nodes().clone()
    curves = model.fit(LinkRecipe(epochs=0), progress="")
    assert curves == links.LinkCurves() and curves.best == 0 and torch.equal(model.nodes(), before)


@pytest.mark.parametrize("make, message", [
    (lambda: LinkModel(TRIPLES, "conve"), "no decoder 'conve'"),
    (lambda: LinkModel(TRIPLES, encoder="gcn"), "no encoder 'gcn'"),
    (lambda: LinkModel(TRIPLES, features=torch.full((20, 2), math.nan)), "40 of them NaN"),
    (lambda: LinkModel(TRIPLES, features=torch.zeros(3, 2)), r"features \[3, 2\] for 20 nodes"),
    (lambda: LinkModel(TRIPLES, features=torch.full((20, 2), math.inf), encoder="sage"), "40 of them NaN or infinite"),
    (lambda: LinkModel(TRIPLES, features=torch.zeros(20)), r"features \[20\] for 20 nodes"),
    (lambda: LinkModel(as_triples([("a", "r", "b")], [("a", "r", "c")])), "1 facts .* does not have"),
    (lambda: LinkModel(as_triples([("a", "r", "b")], [("a", "r", "c")]), encoder="sage"), "1 facts .* does not have"),
    (lambda: LinkModel(as_triples([("a", "r", "b")], [("a", "r", "c")]), features=torch.zeros(3, 2)), "1 facts .* does not have"),
    (lambda: LinkModel(TRIPLES, adjacency=lambda edges: edges[:, :7]), "adjacency gives 7 edges for"),
    (lambda: LinkModel(TRIPLES).fit(LinkRecipe(optimizer="sgd")), "no optimizer 'sgd'"),
    (lambda: LinkModel(TRIPLES).fit(LinkRecipe(every=0)), "an evaluation every 0 epochs"),
    (lambda: LinkModel(TRIPLES).fit(LinkRecipe(batch_size=0)), "a batch of 0 questions"),
])
def test_what_cannot_be_made_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_a_network_in_place_of_the_table():
    def model(edges=None):
        network = GraphEncoder(TRIPLES.relations, width=5, dim=4, dropout=0.0)
        return LinkModel(TRIPLES, "distmult", 4, network, torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), edges)
    plain = model()
    assert plain.nodes().shape == (20, 4)
    assert torch.allclose(plain.nodes(but=torch.arange(TRIPLES.train.shape[1])), model(lambda edges: edges[:, :0]).nodes(), atol=1e-6), "no edges left"
    curves = plain.fit(LinkRecipe(epochs=4, batch_size=100, optimizer="adam", learning_rate=0.01, n3=0), progress="")
    assert curves.loss[-1] < curves.loss[0]
    alone = model(lambda edges: edges[:, :0])
    alone.fit(LinkRecipe(epochs=1), progress="")
    assert torch.equal(alone.nodes(), alone.nodes(but=torch.tensor([0]))), "the control without messages is trained like the others"
    unseen = as_triples([("a", "r", "b")], [("a", "r", "c")])
    network = GraphEncoder(unseen.relations, width=5, dim=4)
    assert LinkModel(unseen, "distmult", 4, network, torch.zeros(3, 5)).evaluate("valid").count == 2, "it has a vector for whoever comes"


@pytest.mark.parametrize("decoder", ["complex", "transe"])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_an_encoder_by_name_learns_and_is_kept(layer, decoder, tmp_path):
    model, other = (LinkModel(TRIPLES, decoder, 4, layer).eval() for _ in range(2))
    assert torch.equal(model.nodes(), other.nodes()), "begun twice begins alike"
    assert model.nodes().shape == (20, 4 * model.decoder.node_numbers)
    training = links._LinkTraining(model, LinkRecipe(batch_size=30))
    _, loss = training.loss(torch.arange(30))
    loss.backward()
    for name, weights in (("features", model.features), ("relations", model.relation_vectors), *model.encoder.convs.named_parameters()):
        assert weights.grad is not None and weights.grad.isfinite().all() and weights.grad.abs().sum() > 0, name
    model.fit(LinkRecipe(epochs=1, every=1, batch_size=30), progress="")
    model.save(tmp_path)
    assert torch.equal(LinkModel.load(tmp_path, TRIPLES).nodes(), model.nodes())


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_an_edge_that_is_asked_for_carries_no_message(layer):
    model = LinkModel(TRIPLES, "distmult", 4, layer).eval()
    facts = torch.tensor([0, 3])
    without = LinkModel(replace(TRIPLES, train=TRIPLES.train[:, [place for place in range(TRIPLES.train.shape[1]) if place not in facts]]), "distmult", 4, layer).eval()
    assert torch.allclose(model.nodes(but=facts), without.nodes()) and not torch.allclose(model.nodes(but=facts), model.nodes())
    asked = []
    model.nodes = lambda but: asked.append(but) or LinkModel.nodes(model, but)
    training = links._LinkTraining(model, LinkRecipe())
    training.loss(torch.tensor([0]))
    head, relation = training.questions.heads[0], training.questions.relations[0]
    wanted = with_inverses(TRIPLES.train, 3)
    assert sorted(asked[0].tolist()) == sorted((((wanted[0] == head) & (wanted[1] == relation)).nonzero()[:, 0] % TRIPLES.train.shape[1]).tolist())


@pytest.mark.parametrize("edges", [lambda edges: edges[:, :0], rewired])
def test_a_control_is_kept_with_the_edges_that_it_had(edges, tmp_path):
    model = LinkModel(TRIPLES, "distmult", 4, "sage", adjacency=edges).eval()
    model.save(tmp_path)
    found = LinkModel.load(tmp_path, TRIPLES)
    assert torch.equal(found.edges, edges(TRIPLES.train)) and torch.equal(found.nodes(), model.nodes())


@pytest.mark.parametrize("edges", [lambda edges: edges[:, :0], rewired])
def test_a_training_with_other_edges_is_not_gone_on_with(edges, tmp_path):
    LinkModel(TRIPLES, "distmult", 4, "sage", adjacency=edges).fit(LinkRecipe(epochs=1), tmp_path, progress="")
    before = TRIPLES.train.clone()
    with pytest.raises(BadInput, match="of a model with other edges: give the adjacency"):
        LinkModel(TRIPLES, "distmult", 4, "sage").fit(LinkRecipe(epochs=1), tmp_path, progress="")
    assert torch.equal(TRIPLES.train, before), "and the facts are as they were"


def counted(model):
    "How often a model's encoder is run from now on."
    runs, model.nodes = [], lambda but=None: runs.append(but) or LinkModel.nodes(model, but)
    return runs


def test_an_evaluation_runs_the_encoder_once():
    triples = drawn(60, 3, 9000)
    assert triples.valid.shape[1] > 1024, "several batches of questions"
    model = LinkModel(triples, "distmult", 4, "sage").eval()
    wanted, runs = evaluate_links(model, triples.valid, triples.facts, 3), counted(model)
    assert model.evaluate("valid") == wanted and len(runs) == 1
    infer_links(graph_of(triples), model, LinkCalibration(1.0, 0.0))
    assert len(runs) == 2


class Echo(torch.nn.Module):
    "An encoder of somebody's own: it gives features as they are."
    def __init__(self, relations=(), width=0, dim=0, seed=0):
        super().__init__()

    def forward(self, features, edges):
        return features


@pytest.mark.parametrize("slot", [Echo, Echo()])
def test_an_encoder_of_ones_own(slot, tmp_path):
    model = LinkModel(TRIPLES, "complex", 4, slot)
    assert model.nodes() is model.features and model.features.shape == (20, 8)
    model.fit(LinkRecipe(epochs=1), progress="")
    model.save(tmp_path)
    assert torch.equal(LinkModel.load(tmp_path, TRIPLES, encoder=slot).features, model.features)
    with pytest.raises(BadInput, match="no encoder 'Echo'"):
        LinkModel.load(tmp_path, TRIPLES)
    with pytest.raises(BadInput, match="another model: encoder 'Echo', here it is 'none'"):
        LinkModel.load(tmp_path, TRIPLES, encoder="none")


# Confidence

def test_a_calibration_finds_what_was_planted():
    generator = torch.Generator().manual_seed(0)
    odds = 4 * torch.randn(40_000, generator=generator)
    outcomes = torch.rand(len(odds), generator=generator) < LinkCalibration(2.5, -1.0)(odds)
    found = calibrate_links(odds, outcomes)
    assert found.temperature == pytest.approx(2.5, rel=0.05) and found.offset == pytest.approx(-1.0, abs=0.05)
    assert reliability(found(odds).tolist(), outcomes.tolist()).ece < 0.01


@pytest.mark.parametrize("odds", [torch.tensor([-1., 1.]), torch.tensor([1., -1.]), torch.tensor([0., 0.]), torch.tensor([-500., 500.])])
def test_a_calibration_of_little_is_still_a_number(odds):
    found = calibrate_links(odds, torch.tensor([False, True]))
    assert found(odds).isfinite().all() and found.temperature > 0


def test_odds_by_hand():
    table = torch.zeros(2, 3, 3)
    table[0, 0], table[1, 1] = torch.tensor([1., 3., 2.]), torch.tensor([4., 0., 1.])
    fact = torch.tensor([[0], [0], [1]])
    odds = link_odds(Table(table), fact, fact[:, :0], 1)
    expected = (3 - math.log(math.exp(1) + math.exp(2)) + 4 - math.log(math.exp(0) + math.exp(1))) / 2
    assert odds.item() == pytest.approx(expected, rel=1e-5)
    known = torch.tensor([[0], [0], [2]])
    assert link_odds(Table(table), fact, known, 1).item() == pytest.approx((3 - 1 + 4 - math.log(math.exp(0) + math.exp(1))) / 2, rel=1e-5)


def test_guesses_are_the_best_that_are_no_news():
    table = torch.arange(9.).reshape(1, 3, 3).repeat(2, 1, 1)
    known = torch.tensor([[0], [0], [2]])
    assert guess_links(Table(table), torch.tensor([[0], [0]]), known, 1, 1).T.tolist() == [[0, 0, 1]]
    assert guess_links(Table(table), torch.tensor([[1], [1]]), known, 1, 1).T.tolist() == [[2, 0, 1]], "an inverse asks for the head"
    everything = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 2]])
    assert guess_links(Table(table), torch.tensor([[0], [0]]), everything, 1, 5).shape == (3, 0), "nothing left to guess"


def graph_of(triples: links.Triples, types: dict[str, str] = {}) -> KnowledgeGraph:
    kg = KnowledgeGraph(schema=Schema(("thing", "other"), {relation: (("thing",), ("thing",)) for relation in triples.relations}))
    for key in triples.entities:
        kg.add_entity(key, key, types.get(key, "thing"))
    kg.add_facts((triples.entities[h], triples.relations[r], triples.entities[t], Evidence("", 0, 0, "register", 0.9)) for h, r, t in triples.train.T.tolist())
    return kg


def test_guesses_enter_a_graph_marked_and_are_not_learnt_from():
    model = LinkModel(TRIPLES, "complex", 8)
    model.fit(LinkRecipe(epochs=10), progress="")
    kg = graph_of(TRIPLES)
    before = kg_triples(kg, 0).train.shape[1]
    found = infer_links(kg, model, LinkCalibration(1.0, 4.0), least=0.5)
    assert found.facts and found.refused == 0
    for head, relation, tail, confidence in found.facts:
        assert confidence >= 0.5
        assert ("links", confidence) in {(piece.extractor, piece.confidence) for piece in kg.evidence(head, relation, tail)}
    known = {(TRIPLES.entities[h], TRIPLES.relations[r], TRIPLES.entities[t]) for h, r, t in TRIPLES.facts.T.tolist()}
    assert not known & {fact[:3] for fact in found.facts}
    assert kg_triples(kg, 0).train.shape[1] == before
    head, relation, tail, _ = found.facts[0]
    kg.add_fact(head, relation, tail, Evidence("", 0, 0, "answer", 0.95, 1))
    assert kg_triples(kg, 0).train.shape[1] == before + 1, "confirmed by a person, it is knowledge"


def test_the_schema_has_the_last_word():
    model = LinkModel(TRIPLES, "complex", 8)
    kg = KnowledgeGraph(schema=Schema(("thing", "other"), {relation: (("other",), ("other",)) for relation in TRIPLES.relations}))
    for key in TRIPLES.entities:
        kg.add_entity(key, key, "thing")
    found = infer_links(kg, model, LinkCalibration(1.0, 10.0))
    assert not found.facts and found.refused > 0 and not list(kg.facts())


def guesses_in(kg):
    "What the model has said in a graph, with the confidence."
    return {(fact.head, fact.relation, fact.tail, piece.confidence) for fact, evidence in kg.facts_with_evidence()
            for piece in evidence if piece.extractor == "links"}


def test_guesses_are_about_what_the_keys_stand_for_now():
    kg = graph_of(TRIPLES)
    model, anything = LinkModel(TRIPLES, "complex", 4), LinkCalibration(3.0, 0.0)
    model.fit(LinkRecipe(epochs=4), progress="")
    before = infer_links(kg, model, anything, least=0.0001, top=20).facts
    kg.merge("e00", "e01")
    kg._db.execute("DELETE FROM entity WHERE key = 'e02'")
    kg._db.execute("DELETE FROM evidence WHERE 'e02' IN (head, tail) AND extractor != 'links'")
    found = infer_links(kg, model, anything, least=0.0001, top=20)
    now = {"e01": "e00"}
    facts = [(TRIPLES.entities[h], TRIPLES.relations[r], TRIPLES.entities[t]) for h, r, t in TRIPLES.facts.T.tolist()]
    known, wanted, merged = {(now.get(h, h), r, now.get(t, t)) for h, r, t in facts}, {}, 0
    for head, relation, tail, confidence in before:
        fact = (now.get(head, head), relation, now.get(tail, tail))
        if "e02" not in (head, tail) and {head, tail} != {"e00", "e01"} and fact not in known:
            merged += wanted.get(fact, confidence) != confidence
            wanted[fact] = max(confidence, wanted.get(fact, 0.0))
    assert {fact[:3]: fact[3] for fact in found.facts} == wanted and len(found.facts) == len(wanted) > 100
    assert merged > 3 and any({fact[0], fact[2]} == {"e00", "e01"} for fact in before), "guesses that became one, and some about one entity"
    assert guesses_in(kg) == set(found.facts) and "e02" not in {entity.key for entity in kg.entities()}, "guesses alone keep nobody there"


def test_a_guess_that_rounds_to_nothing_is_left_out():
    model = LinkModel(TRIPLES, "complex", 8)
    model.fit(LinkRecipe(epochs=10), progress="")
    found = infer_links(kg := graph_of(TRIPLES), model, LinkCalibration(1.0, -5.0), least=0.0)
    assert 0 < len(found.facts) < found.considered and min(fact[3] for fact in found.facts) >= 0.001
    assert guesses_in(kg) == set(found.facts)
    assert infer_links(kg, model, LinkCalibration(1.0, -99.0), least=0.0).facts == () and not guesses_in(kg)


def test_guesses_stay_after_forgetting_until_the_model_is_asked_again():
    kg = KnowledgeGraph()
    kg.add_document(Document("secret", "Nothing but a secret."))
    for node in range(12):
        kg.add_mention("secret", 0, 7, "thing", f"e{node:02d}")
    kg.add_entity("e00", "e00", "thing"), kg.add_entity("e01", "e01", "thing")
    kg.add_facts((f"e{node:02d}", "r", f"e{(node + step) % 12:02d}", Evidence("secret", 0, 7, "pattern", 0.9)) for node in range(12) for step in (1, 2))
    model, anything = LinkModel(kg_triples(kg, 0.0), "complex", 4), LinkCalibration(1.0, 0.0)
    many = infer_links(kg, model, anything, least=0.0001).facts
    assert guesses_in(kg) == set(many) and len(many) > 9
    revision = kg.revision
    assert infer_links(kg, model, anything, least=0.0001).facts == many and kg.revision == revision, "the same again is no revision"
    kg.forget("secret")
    assert guesses_in(kg) == set(many)
    left = infer_links(kg, model, anything, least=0.0001)
    assert {end for fact in left.facts for end in (fact[0], fact[2])} <= {"e00", "e01"} and guesses_in(kg) == set(left.facts)
    assert kg.revision == revision + 2 and {entity.key for entity in kg.entities()} == {"e00", "e01"}, "old and new in one revision"


def test_a_model_that_changed_its_mind_is_believed_as_it_is_now():
    kg, model = graph_of(TRIPLES), LinkModel(TRIPLES, "complex", 8)
    model.fit(LinkRecipe(epochs=10), progress="")
    high, low = (set(infer_links(kg, model, LinkCalibration(1.0, offset), least=0.01).facts) for offset in (4.0, 3.0))
    assert guesses_in(kg) == low and {fact[:3] for fact in low} <= {fact[:3] for fact in high} and not low & high, "less sure than before"
    head, relation, tail, _ = min(low)
    kg.add_fact(head, relation, tail, Evidence("", 0, 0, "answer", 0.95, -1))
    infer_links(kg, model, LinkCalibration(1.0, -99.0))
    assert [piece.extractor for piece in kg.evidence(head, relation, tail)] == ["answer"], "what others say stays"


def test_sharing_out_a_graph_looks_at_a_few_counts_for_each_fact(monkeypatch):
    class Watched(Counter):
        looked = 0

        def items(self):
            for each in super().items():
                Watched.looked += 1
                yield each

    kg = graph_of(drawn(99, 3, 300))
    wanted = kg_triples(kg, 0.3)
    monkeypatch.setattr(links, "Counter", Watched)
    found = kg_triples(kg, 0.3)
    held_out = found.valid.shape[1] + found.test.shape[1]
    assert graph_hash(found) == graph_hash(wanted) and held_out > 20
    assert Watched.looked < 10 * found.facts.shape[1], "99 entities, and not one of them is looked at for each fact"


def test_no_name_means_one_thing_here_and_another_in_the_graph():
    assert not set(links.__all__) & set(kglearn.graph.__all__)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.4))
def test_a_graph_is_shared_out_and_nobody_lost(seed, held_out):
    kg = graph_of(TRIPLES)
    found = kg_triples(kg, held_out, seed)
    assert found.unseen == 0 and found.facts.shape[1] == TRIPLES.train.shape[1]
    assert graph_hash(found) == graph_hash(kg_triples(kg, held_out, seed))


def test_curves_and_recipes_say_what_they_hold():
    curves = LinkModel(TRIPLES, "complex", 4).fit(LinkRecipe(epochs=2, every=1), progress="")
    assert {len(values) for values in asdict(curves).values()} == {2}
    assert curves.plot().axes[0].get_ylabel() == "filtered MRR"
    assert isinstance(LinkModel(TRIPLES).encoder, NodeTable)
