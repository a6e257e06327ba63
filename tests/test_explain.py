"""Shapley's rules, the definition by brute force, and what really reaches the encoder when a word is hidden."""
import html
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, Mention
from kglearn.explain import (Player, all_masks, exact_shapley, explain, faithfulness, hidden_ids, integrated_gradients,
                             knowledge_player, permutation_shapley, rank_agreement, skill_score)
from kglearn.gnn import GraphEncoder, snapshot
from kglearn.graph import KnowledgeGraph, NameEvidence, add_gold
from kglearn.policy import Policy
from kglearn.skill import SkillConfig, SkillProcessor, seeded_skill
from kglearn.text import Encoder, tiny_encoder, words

named = pytest.mark.parametrize
TYPES = ("disease", "medicine", "symptom")
NOTE = Document("note", "Take aspirin for a headache. No fever yet, says <b>Ann</b> & \"Bob\".")
SCRIPT = '<script>alert("1")</script>'
SOURCES = [Document("source-1", f"Nothing here. An aspirin a day. {SCRIPT}",
                    mentions=(Mention(17, 24, "medicine", "medicine:aspirin"),)),
           Document("source-2", "aspirin again", mentions=(Mention(0, 7, "symptom", "symptom:aspirin"),))]


def random_game(players, seed):
    worth = torch.randn(2 ** players, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda masks: worth[(masks.long() << torch.arange(players)).sum(1)]


def by_definition(score, players):
    "Every order, one player at a time."
    shares = np.zeros(players)
    for order in itertools.permutations(range(players)):
        mask = torch.zeros(1, players, dtype=torch.bool)
        for player in order:
            before = score(mask).item()
            mask[0, player] = True
            shares[player] += score(mask).item() - before
    return shares / math.factorial(players)


def ends_of(score, players):
    return score(torch.tensor([[False], [True]]).expand(2, players)).double()


# Shapley values

@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_exact_is_the_definition(players, seed):
    game = random_game(players, seed)
    found = exact_shapley(game, players)
    assert np.allclose(found, by_definition(game, players))
    none, everything = ends_of(game, players)
    assert torch.isclose(found.sum(), everything - none)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(-5, 5))
def test_a_weighted_sum_gives_its_weights(weights, constant):
    weights = torch.tensor(weights, dtype=torch.float64)
    def game(masks):
        return constant + masks.double() @ weights
    assert torch.allclose(exact_shapley(game, len(weights)), weights, atol=1e-9)
    sampled, errors = permutation_shapley(game, len(weights), 2)
    assert torch.allclose(sampled, weights, atol=1e-9) and errors.max() < 1e-9


def test_gloves():
    found = exact_shapley(lambda masks: (masks[:, 2] & (masks.sum(1) > 1)).float(), 3)
    assert torch.allclose(found, torch.tensor([1 / 6, 1 / 6, 2 / 3], dtype=torch.float64))


@named("players", [2, 5, 12])
def test_majority_is_symmetric(players):
    def game(masks):
        return (masks.sum(1) * 2 > players).float()
    assert torch.allclose(exact_shapley(game, players), torch.full((players,), 1 / players, dtype=torch.float64))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_dummies_get_nothing_and_change_nothing(players, seed):
    game = random_game(players, seed)
    found = exact_shapley(lambda masks: game(masks[:, 1:-1]), players + 2)
    assert found[0] == found[-1] == 0
    assert torch.allclose(found[1:-1], exact_shapley(game, players))
    assert (permutation_shapley(lambda masks: game(masks[:, 1:-1]), players + 2, 3)[0][[0, -1]] == 0).all()


def test_games_add_up():
    first, second = random_game(6, 1), random_game(6, 2)
    found = exact_shapley(lambda masks: 2 * first(masks) - second(masks), 6)
    assert torch.allclose(found, 2 * exact_shapley(first, 6) - exact_shapley(second, 6))


def test_nobody_plays():
    assert exact_shapley(lambda masks: torch.ones(len(masks)), 0).shape == (0,)
    values, errors = permutation_shapley(lambda masks: torch.ones(len(masks)), 0, 2)
    assert values.shape == errors.shape == (0,)


def test_limits_are_errors():
    with pytest.raises(BadInput, match="13 players.*permutation_shapley"):
        exact_shapley(random_game(3, 0), 13)
    with pytest.raises(BadInput, match="1 permutations"):
        permutation_shapley(random_game(3, 0), 3, 1)


def test_masks_are_all_groups():
    masks = all_masks(5)
    assert masks.shape == (32, 5) and len(set(map(tuple, masks.tolist()))) == 32
    assert not masks[0].any() and masks[-1].all()


@named("seed", range(10))
def test_sampling_finds_the_exact_values(seed):
    game = random_game(9, seed)
    found, errors = permutation_shapley(game, 9, 60, seed)
    assert ((found - exact_shapley(game, 9)).abs() < 5 * errors).all()
    assert torch.isclose(found.sum(), ends_of(game, 9).diff()[0])


def test_standard_errors_shrink_and_are_honest():
    game = random_game(8, 0)
    truth = exact_shapley(game, 8)
    runs = torch.stack([torch.stack(permutation_shapley(game, 8, 30, seed)) for seed in range(60)])
    spread, told = runs[:, 0].std(0), runs[:, 1].mean(0)
    assert ((spread / told > 0.7) & (spread / told < 1.4)).all()
    assert ((runs[:, 0].mean(0) - truth).abs() < 5 * spread / 60 ** 0.5).all()
    assert permutation_shapley(game, 8, 480)[1].mean() < told.mean() / 3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(0, 100))
def test_pairs_need_no_luck(players, seed):
    generator = torch.Generator().manual_seed(seed)
    alone = torch.randn(players, generator=generator).double()
    pairs = torch.randn(players, players, generator=generator).double().triu(1)
    def game(masks):
        shown = masks.double()
        return shown @ alone + ((shown @ pairs) * shown).sum(1)
    found, errors = permutation_shapley(game, players, 2, seed)
    assert torch.allclose(found, exact_shapley(game, players)) and errors.max() < 1e-9


def test_an_order_is_one_call():
    sizes = []
    def game(masks):
        sizes.append(len(masks))
        return masks.sum(1).float()
    permutation_shapley(game, 7, 5)
    assert sizes == [2] + [12] * 5


def test_seeds():
    game = random_game(9, 0)
    assert torch.equal(permutation_shapley(game, 9, 4, 1)[0], permutation_shapley(game, 9, 4, 1)[0])
    assert not torch.equal(permutation_shapley(game, 9, 4, 1)[0], permutation_shapley(game, 9, 4, 2)[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_rank_agreement_is_spearman(pairs):
    from scipy.stats import spearmanr
    first, second = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs))
    if first.unique().numel() > 1 and second.unique().numel() > 1:
        assert math.isclose(rank_agreement(first, second), spearmanr(first, second).statistic, abs_tol=1e-9)
    assert rank_agreement(first, first) == 1


# The game of a skill; the encoder and all weights are random, which is good enough for plumbing

@pytest.fixture(scope="module")
def encoder():
    return Encoder(*tiny_encoder(), "tiny")


@pytest.fixture(scope="module")
def kg():
    kg = KnowledgeGraph()
    kg.add_entity("medicine:aspirin", "aspirin", "medicine")
    kg.add_entity("symptom:fever", "fever", "symptom")
    for document in SOURCES:
        add_gold(kg, document)
    kg.add_document(NOTE)
    kg.add_mention(NOTE.id, 5, 12, "disease", extractor="answer", polarity=-1)
    return kg


def made(kg, encoder, fusion="prior", offset=-0.5, layers=(0, 2)):
    frozen = snapshot(kg, GraphEncoder(["treats"], width=encoder.width), encoder)
    processor = SkillProcessor(frozen, TYPES, encoder, layers)
    config = SkillConfig(TYPES, fusion, layers, len(layers) * encoder.width, 16, offset=offset)
    skill = seeded_skill(config, frozen, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in skill.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return skill.eval(), processor


@pytest.fixture(scope="module", params=["none", "prior", "gate"])
def pair(request, kg, encoder):
    return made(kg, encoder, request.param)


@pytest.fixture(scope="module")
def prior(kg, encoder):
    return made(kg, encoder)


def chances(skill, processor, document, start, end, own_evidence=True):
    rows = processor([document], own_evidence)
    for row, found in zip(rows, Policy(skill).probabilities(rows)):
        for span in range(len(row.spans)):
            if row.characters(span) == (start, end):
                return found[span]


def shown(game, count=1):
    return torch.ones(count, len(game.players), dtype=torch.bool)


@named("place", [(5, 12), (19, 27), (32, 37)])
@named("own_evidence", [True, False])
def test_everybody_is_what_the_policy_says(pair, place, own_evidence):
    skill, processor = pair
    told = chances(skill, processor, NOTE, *place, own_evidence)
    for action, chance in zip(("none", *TYPES), told):
        game = skill_score(skill, processor, NOTE, *place, action, own_evidence)
        assert torch.isclose(game(shown(game)).sigmoid(), chance.double(), atol=1e-4)


def test_players_are_the_sentence_and_the_pieces(prior):
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    assert [player.label for player in game.players[:game.words]] == ["Take", "aspirin", "for", "a", "headache", "."]
    assert [player.kind for player in game.players[game.words:]] == ["answer", "dictionary", "document", "document"]
    assert all(NOTE.text[player.start:player.end] == player.label for player in game.players[:game.words])
    without = skill_score(*prior, NOTE, 5, 12, "medicine", own_evidence=False)
    assert [player.kind for player in without.players[without.words:]] == ["dictionary", "document", "document"]


def test_hidden_words_reach_the_encoder_as_mask(prior):
    skill, processor = prior
    game = skill_score(skill, processor, NOTE, 19, 27, "symptom")
    mask, seen = processor.encoder.tokenizer.mask_token_id, []
    def spy(module, args, given):
        seen.append(given["input_ids"].clone())
    hook = processor.encoder.model.embeddings.register_forward_pre_hook(spy, with_kwargs=True)
    try:
        game(all_masks(game.words)[:, :len(game.players)])
    finally:
        hook.remove()
    ids, word_ids = processor.encoder.pieces(NOTE.text)
    assert max(map(len, seen)) <= 64 and sum(map(len, seen)) == 2 ** game.words == game.texts_read
    for row, mask_row in zip(torch.cat(seen).tolist(), all_masks(game.words).tolist()):
        assert row == [mask if 0 <= word < game.words and not mask_row[word] else id for id, word in zip(ids, word_ids)]


def test_words_of_other_sentences_are_never_hidden(prior):
    game = skill_score(*prior, NOTE, 32, 37, "symptom")
    ids = hidden_ids(game, torch.zeros(1, game.words, dtype=torch.bool))[0]
    places = [words(NOTE.text)[word][0] for word in prior[1].encoder.pieces(NOTE.text)[1] if word >= 0]
    first = 1 + sum(place < 28 for place in places)
    assert ids[:first].tolist() == game.piece_ids[:first].tolist()
    assert not (ids[first:-1] == game.piece_ids[first:-1]).any()


def test_pieces_left_make_the_knowledge(prior):
    skill, processor = prior
    game = skill_score(skill, processor, NOTE, 5, 12, "medicine")
    pieces = [player.evidence for player in game.players[game.words:]]
    for mask in all_masks(len(pieces)):
        wanted, row = processor.view.of_evidence([piece for piece, kept in zip(pieces, mask) if kept])
        found, rows = game.knowledge(mask.unsqueeze(0))
        assert torch.allclose(found[0], torch.tensor(wanted + game.surroundings, dtype=torch.float32))
        assert rows.tolist() == [row]


def test_surroundings_stay(prior):
    skill, processor = prior
    document = Document("near", "An aspirin fever today.")
    row = processor([document], own_evidence=True)[0]
    span = [row.characters(i) for i in range(len(row.spans))].index((3, 16))
    game = skill_score(skill, processor, document, 3, 16, "disease")
    assert game.words == len(game.players) and game.surroundings.any()
    assert torch.allclose(game.knowledge(torch.ones(1, 0, dtype=torch.bool))[0][0], row.knowledge[span])


def test_a_text_is_read_once(prior):
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    masks = torch.rand(50, len(game.players), generator=torch.Generator().manual_seed(0)) < 0.5
    first = game(masks)
    read = game.texts_read
    assert torch.equal(first, game(masks)) and torch.equal(first[:7], game(masks[:7])) and game.texts_read == read
    assert read == len(set(map(tuple, masks[:, :game.words].tolist()))) and game.evaluations == 107


def test_batches_do_not_matter(prior):
    masks = torch.rand(90, 10, generator=torch.Generator().manual_seed(0)) < 0.5
    one, other = (skill_score(*prior, NOTE, 5, 12, "medicine") for _ in range(2))
    assert torch.allclose(one(masks), torch.cat([other(row.unsqueeze(0)) for row in masks]), atol=1e-3)


def test_second_window(prior):
    skill, processor = prior
    text = "Filler words stand here, and more of them. " * 60 + "Then aspirin came."
    document = Document("long", text)
    assert len(processor([document])) > 1
    place = text.index("aspirin"), text.index("aspirin") + 7
    game = skill_score(skill, processor, document, *place, "medicine")
    assert [player.label for player in game.players[:game.words]] == ["Then", "aspirin", "came", "."]
    chance = chances(skill, processor, document, *place)[2].double()
    assert torch.isclose(game(shown(game)).sigmoid(), chance, atol=1e-4)


@named("place", [(0, 3), (13, 16), (28, 31), (-1, 4), (5, 5), (500, 510), (5, 40)])
def test_not_a_candidate(prior, place):
    with pytest.raises(BadInput, match="not a span that the skill considers"):
        skill_score(*prior, NOTE, *place, "medicine")


def test_no_such_action(prior):
    with pytest.raises(BadInput, match="no action 'fish': choose one of none, disease"):
        skill_score(*prior, NOTE, 5, 12, "fish")


# Explanations

@named("place", [(5, 12), (19, 27), (32, 37)])
@named("action", [None, "none", "medicine"])
def test_efficiency(pair, place, action):
    found = explain(*pair, NOTE, *place, action)
    assert abs(found.residual) < 1e-9
    assert math.isclose(found.base + found.values.sum().item(), found.value, abs_tol=1e-9)
    assert math.isclose(found.probability, 1 / (1 + math.exp(-found.value)))


def test_exact_and_sampled(prior):
    exact, sampled = explain(*prior, NOTE, 5, 12, "medicine"), explain(*prior, NOTE, 32, 37, "symptom")
    assert len(exact.shares) <= 12 < len(sampled.shares)
    assert exact.evaluations == 2 ** len(exact.shares) and exact.stability == 1
    assert sampled.evaluations == 2 + 16 * 2 * (len(sampled.shares) - 1)
    assert not any(share.error for share in exact.shares) and any(share.error for share in sampled.shares)
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    drawn, errors = permutation_shapley(game, len(game.players), 200)
    assert ((drawn - exact.values).abs() < 5 * errors + 1e-9).all()


def test_the_likeliest_action_is_explained(pair):
    for place in ((5, 12), (19, 27), (32, 37)):
        likeliest = ("none", *TYPES)[chances(*pair, NOTE, *place).argmax()]
        assert explain(*pair, NOTE, *place, permutations=2).action == likeliest


def test_same_again(prior):
    first, again, other = (explain(*prior, NOTE, 32, 37, "symptom", seed=seed) for seed in (0, 0, 1))
    assert first.values.tolist() == again.values.tolist() != other.values.tolist()
    assert first._repr_html_() == again._repr_html_()


def test_knowledge_that_is_not_used_gets_nothing(kg, encoder):
    found = explain(*made(kg, encoder, "none"), NOTE, 5, 12, "medicine")
    assert len(found.knowledge) == 4 and all(share.value == 0 for share in found.knowledge)


def knowing(processor, name, pieces):
    "A processor whose snapshot says of a name what these pieces say."
    snapshot = replace(processor.snapshot, aliases=processor.snapshot.aliases | {name: tuple(pieces)})
    return SkillProcessor(snapshot, TYPES, processor.encoder, processor.layers)


def test_pieces_that_say_the_same_get_the_same(prior):
    skill, processor = prior
    piece = NameEvidence("symptom", "", "", "answer", 1)
    taught = knowing(processor, "headache", [replace(piece, document=f"d{number}") for number in range(4)])
    values = [share.value for share in explain(skill, taught, NOTE, 19, 27, "symptom").knowledge]
    assert len(values) == 4 and np.allclose(values, values[0]) and values[0] != 0


def test_graph_vector_plays_where_there_is_a_gate(kg, encoder):
    skill, processor = made(kg, encoder, "gate")
    game = skill_score(skill, processor, NOTE, 5, 12, "medicine")
    assert game.players[-1] == Player("graph", "graph vector", "medicine:aspirin")
    without = shown(game)
    without[0, -1] = False
    assert game.knowledge(without[:, game.words:])[1].tolist() == [0]
    assert game.knowledge(shown(game)[:, game.words:])[1].tolist() == [processor.snapshot.rows["medicine:aspirin"]]
    assert explain(skill, processor, NOTE, 5, 12, "medicine").knowledge[-1].value != 0
    assert "graph" not in [player.kind for player in skill_score(skill, processor, NOTE, 19, 27, "symptom").players]


def test_one_word(prior):
    found = explain(*prior, Document("one", "Headache"), 0, 8)
    assert len(found.shares) == 1 and abs(found.residual) < 1e-9


def test_sentences_come_from_the_graph(prior, kg):
    without, found = explain(*prior, NOTE, 5, 12, "medicine"), explain(*prior, NOTE, 5, 12, "medicine", kg)
    assert [share.player.detail for share in without.knowledge[2:]] == ["medicine", "symptom"]
    assert [share.player.detail for share in found.knowledge[2:]] == ["An aspirin a day.", "aspirin again"]


def test_a_forgotten_document_has_no_sentence(prior):
    other = KnowledgeGraph()
    for document in SOURCES:
        add_gold(other, document)
    other.forget("source-1")
    details = [share.player.detail for share in explain(*prior, NOTE, 5, 12, "medicine", other).knowledge]
    assert "An aspirin a day." not in details and "aspirin again" in details


def told(prior, values):
    found = explain(*prior, NOTE, 5, 12, "medicine")
    words, pieces = values[:len(found.words)], values[len(found.words):]
    return replace(found, words=tuple(replace(share, value=v) for share, v in zip(found.words, words)),
                   knowledge=tuple(replace(share, value=v) for share, v in zip(found.knowledge, pieces)))


@named("values, reason", [
    ((0, 2, 0, 0, 0, 0, 0, 0, 0, 0), "because of the word “aspirin”."),
    ((1, 2, 0, 0, .9, 0, 0, 0, 0, 0), "because of the words “Take”, “aspirin” and “headache”."),
    ((1, 2, .1, 0, -9, 0, 0, 3, 0, 0),
     "because of the words “Take” and “aspirin”, and the dictionary entry medicine:aspirin."),
    ((0, 0, 0, 0, 0, 0, 1, 0, 0, 0), "because of your answer of no to disease on document note."),
    ((0, 0, 0, 0, 0, 0, 0, 0, 2, 1), "because of document source-1, and document source-2."),
    ((-1,) * 10, "though nothing that was shown speaks for it."),
    ((0,) * 10, "though nothing that was shown speaks for it."),
])
def test_because(prior, values, reason):
    assert told(prior, values).because() == f"“aspirin” is read as a medicine {reason}"


def test_because_of_none(prior):
    assert "is read as no entity" in explain(*prior, NOTE, 19, 27, "none").because()


def test_players_of_pieces():
    assert knowledge_player(NameEvidence("disease", "disease:flu", "", "dictionary", 1)).label == "disease:flu"
    assert knowledge_player(NameEvidence("none", "", "d", "answer", 1)).label == "yes to none"


# Hostile text

def test_html_is_escaped(prior, kg):
    skill, processor = prior
    text = f'Take {SCRIPT} aspirin "onclick=1" today'
    start = text.index("aspirin")
    wicked = NameEvidence("medicine", f"medicine:{SCRIPT}", f"{SCRIPT}'\"", "gold", 1)
    taught = knowing(processor, "aspirin", [replace(wicked, extractor=by) for by in ("gold", "dictionary", "answer")])
    found = explain(skill, taught, Document(SCRIPT, text), start, start + 7, permutations=2)
    shown = found._repr_html_()
    assert "<script" not in shown.lower() and "&lt;" in shown
    assert set(re.findall(r"<(\w+)", shown)) <= {"div", "span", "table", "tr", "td"}
    assert text in html.unescape(re.sub(r"<[^>]*>", "", shown))


def test_lines_are_not_lost(prior):
    found = explain(*prior, NOTE, 5, 12, "medicine")
    assert "Take aspirin for a headache." in html.unescape(re.sub(r"<[^>]*>", "", found._repr_html_()))


@named("text", ["疲労 aspirin 頭痛。", "aspirin 👩‍⚕️ $x^2$ \x00 \u202e", "aspirin\taspirin", "e\u0301 aspirin \ufeff"])
def test_strange_text(prior, text):
    start = text.index("aspirin")
    found = explain(*prior, Document("strange", text), start, start + 7)
    assert abs(found.residual) < 1e-9 and found._repr_html_() and repr(found) and found.plot()


# Others' libraries

def test_shap_agrees(prior):
    import shap
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    hidden = np.zeros((1, len(game.players)))
    def of_rows(rows):
        return game(torch.from_numpy(rows > 0.5)).numpy()
    theirs = shap.explainers.Exact(of_rows, shap.maskers.Independent(hidden))
    ours = explain(*prior, NOTE, 5, 12, "medicine")
    assert np.allclose(theirs(1 - hidden, silent=True).values[0], ours.values, atol=1e-6)
    assert np.allclose(ours.to_shap().values, ours.values) and ours.to_shap().base_values == ours.base


def test_pyg_has_the_shares_of_the_pieces_on_their_entities(prior):
    _, processor = prior
    found = explain(*prior, NOTE, 5, 12, "medicine")
    mask = found.to_pyg(processor.snapshot).node_mask[:, 0]
    entry, first, second = (share.value for share in found.knowledge[1:])
    by_entity = {"medicine:aspirin": entry + first, "symptom:aspirin": second}
    assert np.allclose([mask[processor.snapshot.rows[key]] for key in by_entity], list(by_entity.values()), atol=1e-6)
    assert int((mask != 0).sum()) == 2 and mask[0] == 0


def test_plot_says_what_it_leaves_out(prior):
    found = explain(*prior, NOTE, 5, 12, "medicine")
    assert "strongest" not in found.plot().axes[0].get_title(loc="left")
    assert "the 3 strongest of 10" in found.plot(3).axes[0].get_title(loc="left")


# Faithfulness

def test_gradients_add_up(pair):
    game = skill_score(*pair, NOTE, 5, 12, "medicine")
    without = shown(game)
    without[:, :game.words] = False
    assert torch.isclose(integrated_gradients(game, 128).sum(), (game(shown(game)) - game(without))[0], atol=0.03)
    assert integrated_gradients(game).shape == (game.words,)


def test_words_outside_the_players_have_no_gradient(prior):
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    assert len(integrated_gradients(game)) == 6 and len(words(NOTE.text)) > 6


def test_chance_scores_nothing_and_the_reverse_scores_the_opposite(prior):
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    values = torch.arange(6.0)
    found = faithfulness(game, {"there": values, "back": -values}, random_orders=4)
    assert set(found.kept) == set(found.removed) == {"there", "back", "integrated gradients", "random order"}
    assert abs(found.area("random order")) < 1e-9
    assert math.isclose(found.area("there"), -found.area("back"), abs_tol=1e-9)
    assert len(found.random_areas) == 8 and abs(sum(found.random_areas)) < 1e-9
    assert all(curve[0] == 0 and curve[-1] == 1 for curve in map(np.round, found.kept.values()))
    assert all(curve[0] == 1 and curve[-1] == 0 for curve in map(np.round, found.removed.values()))


def test_shapley_is_more_faithful_than_chance(prior):
    found = explain(*prior, NOTE, 5, 12, "medicine")
    tested = faithfulness(skill_score(*prior, NOTE, 5, 12, "medicine"), found.values)
    assert tested.area("Shapley") > np.mean(tested.random_areas)
    assert [row[0] for row in tested.table().rows] == ["Shapley", "integrated gradients", "random order"]
    assert tested._repr_html_().startswith("<table") and tested.plot()


def test_nothing_to_be_faithful_to(prior):
    with pytest.raises(BadInput, match="three words or more"):
        faithfulness(skill_score(*prior, Document("two", "Headache now"), 0, 8, "symptom"), torch.zeros(2))
    game = skill_score(*prior, NOTE, 5, 12, "medicine")
    game.log_odds = lambda vectors, *knowledge: 0 * vectors.sum((1, 2)).double()
    with pytest.raises(BadInput, match="nothing to be faithful to"):
        faithfulness(game, torch.zeros(6))
