"""What the lessons of 31_skill do not carry: a contract battery over the fusions, brute-force twins, damage, and leaks."""
import json
import math
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import logging

import kglearn.system
from kglearn.data import BadInput, Document, Mention, Relation, load_clinic, write_jsonl
from kglearn.gnn import GraphEncoder, GraphSnapshot, fit_links, snapshot
from kglearn.graph import ANSWER_ERROR, Evidence, KnowledgeGraph, NameEvidence, add_gold
from kglearn.objective import IGNORE, AdversarialTerm, AgreementTerm, AnswerTerm, Objective, TaskTerm
from kglearn.reader import candidate_spans
from kglearn.skill import (FUSIONS, NAME_ERROR, NONE_PRIOR, Counts, KnowledgeView, Recipe, SkillConfig, SkillModel, SkillProcessor,
                           add_surroundings, clinic_skill, collate, count_matches, decode, fit, known_types, load_skill,
                           logits_of, read_mentions, save_skill, seeded_skill, train_skill, tune_offset, type_posterior)
from kglearn.system import LearningSystem
from kglearn.text import Encoder, normalise, shared_encoder, tiny_encoder, words

logging.disable_progress_bar()
MANY = settings(max_examples=60, deadline=None)
TYPES = ["disease", "medicine", "symptom", "test", "procedure"]
TEXT = Encoder(*tiny_encoder())
DOCUMENTS = {document.id: document for document in load_clinic("train")[:6]}
PIECES = st.builds(NameEvidence, st.sampled_from(TYPES + ["none"]), st.just("E"), st.sampled_from(["", "a", "b"]),
                   st.sampled_from(["dictionary", "gold", "answer"]), st.sampled_from([1, -1]))


def graph_of(documents=(), dictionary=()):
    kg = KnowledgeGraph()
    for key, name, type in dictionary:
        kg.add_entity(key, name, type)
    for document in documents:
        add_gold(kg, document)
    return kg


@pytest.fixture(scope="module")
def graph_encoder():
    return GraphEncoder(["treats", "causes"], width=TEXT.width, dim=8)


@pytest.fixture(scope="module")
def processor(graph_encoder):
    "K holds the labels of three of the six documents."
    return SkillProcessor(snapshot(graph_of(list(DOCUMENTS.values())[:3]), graph_encoder, TEXT), TYPES, TEXT, layers=(0, 1))


@pytest.fixture(scope="module")
def rows(processor):
    return processor(DOCUMENTS.values())


def config_of(fusion, **changes):
    return SkillConfig(TYPES, fusion, **dict(layers=(0, 1), word_width=32, hidden=16, node_dim=8, encoder_hash=TEXT.hash) | changes)


def awake(skill):
    "The skill with a fusion that says something: a new late fusion is silent."
    if skill.prior:
        torch.manual_seed(0)
        torch.nn.init.normal_(skill.prior.direct.weight)
        torch.nn.init.normal_(skill.prior.bent[2].weight)
    return skill.eval()


def made(fusion, processor, seed=0, **changes):
    return awake(seeded_skill(config_of(fusion, **changes), processor.snapshot, seed))


# Contract: whatever the fusion


@pytest.mark.parametrize("fusion", FUSIONS)
def test_shape_and_independence_of_the_batch(fusion, processor, rows):
    skill, batch = made(fusion, processor), collate(rows)
    assert skill(**batch).logits.shape == (len(rows), max(len(row.spans) for row in rows), 6)
    alone = [logits_of(skill, [row])[0] for row in rows]
    for one, together in zip(alone, logits_of(skill, rows, batch_size=4)):
        assert one.shape == together.shape and torch.allclose(one, together, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_saved_and_loaded_it_gives_the_same_to_the_bit(fusion, processor, rows, tmp_path):
    skill = made(fusion, processor, offset=0.75)
    save_skill(skill, processor.snapshot, tmp_path)
    loaded, its_processor = load_skill(tmp_path, TEXT)
    assert loaded.config.to_dict().keys() == skill.config.to_dict().keys() and loaded.config.offset == 0.75
    assert its_processor.snapshot == processor.snapshot and its_processor.layers == processor.layers and not loaded.training
    for graph in (True, False):
        for one, other in zip(logits_of(skill, rows, graph), logits_of(loaded, its_processor(DOCUMENTS.values()), graph)):
            assert torch.equal(one, other)
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in {".json", ".safetensors"}], "no pickle"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_seed_fixes_weights_training_and_reading_and_leaves_the_global_generator_alone(fusion, processor, rows):
    def trained(seed):
        skill = seeded_skill(config_of(fusion), processor.snapshot, seed)
        fit(skill, [(rows, 2)], Objective((TaskTerm(), AdversarialTerm())), epochs=2, seed=seed)
        return torch.cat(logits_of(skill, rows))
    state = torch.get_rng_state()
    first = trained(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(first, trained(3)) and not torch.allclose(first, trained(4))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_gradient_reaches_every_weight_that_is_in_use_and_no_buffer(fusion, processor, rows):
    skill, batch = made(fusion, processor, dropout=0.0, hide=0.0), collate(rows)
    skill(**batch).loss.backward()
    for name, weight in skill.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name
    assert not skill.table.requires_grad and "table" in skill.state_dict()
    skill.zero_grad()
    skill(**batch, graph=False).loss.backward()
    for name, weight in skill.named_parameters():
        assert (weight.grad is None or not weight.grad.any()) == name.startswith(("prior", "gate")), name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hidden_knowledge_reads_as_text_alone(fusion, processor, rows):
    skill, batch = made(fusion, processor, dropout=0.0, hide=1.0), collate(rows)
    text, fused = skill(**batch, graph=False).logits, skill(**batch).logits
    assert torch.allclose(text, fused) == (fusion == "none")
    assert torch.equal(skill.train()(**batch).logits, skill(**batch, graph=False).logits)
    if fusion == "prior":
        skill.config.hide = 0.5
        half = (skill(**batch).logits - text * skill.prior.a).abs().sum(-1) < 1e-6
        known = batch["knowledge"].abs().sum(-1) > 0
        assert 0.3 < half[known].float().mean() < 0.7, "about half of the known spans are hidden"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_spans_that_the_graph_knows_nothing_about_are_read_by_the_text_alone(fusion, processor, rows):
    skill, ignorant = made(fusion, processor), collate(rows)
    unknown = (ignorant["knowledge"].abs().sum(-1) == 0) & (ignorant["node_ids"] == 0)
    assert unknown.any() and not unknown.all()
    assert torch.equal(skill(**ignorant).logits[unknown], skill(**ignorant, graph=False).logits[unknown])


def test_the_same_seed_gives_every_fusion_the_same_text_half(processor, rows):
    text = [torch.cat(logits_of(made(fusion, processor), rows, graph=False)) for fusion in FUSIONS]
    assert torch.equal(text[0], text[1]) and torch.equal(text[0], text[2])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_term_trains_every_fusion(fusion, processor, rows):
    asked = [replace(row, actions=row.labels.clamp(min=1), rewards=(row.labels > 0).long()) for row in rows]
    skill = seeded_skill(config_of(fusion), processor.snapshot, 0)
    objective = fit(skill, [(asked, 2)], Objective((TaskTerm(), AnswerTerm(), AgreementTerm(), AdversarialTerm())), epochs=8)
    assert set(objective.history) == {"task", "answers", "agreement", "adversarial"}
    assert all(math.isfinite(value) for values in objective.history.values() for value in values)
    assert np.mean(objective.history["task"][-3:]) < np.mean(objective.history["task"][:3])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_model_in_another_precision_takes_its_table_along(fusion, processor, rows):
    batch, skill = collate(rows), made(fusion, processor).double()
    batch |= {name: batch[name].double() for name in ("word_vectors", "knowledge")}
    assert skill.table.dtype == torch.float64 and skill(**batch).logits.dtype == torch.float64


# The knowledge


@MANY
@given(st.lists(PIECES, min_size=1, max_size=6))
def test_the_posterior_is_bayes_rule_written_out(pieces):
    prior = [NONE_PRIOR] + [(1 - NONE_PRIOR) / 5] * 5
    def likelihood(piece, action):
        error = ANSWER_ERROR if piece.extractor == "answer" else NAME_ERROR
        return 1 - error if (piece.type == action) == (piece.polarity > 0) else error
    weights = [chance * math.prod(likelihood(piece, action) for piece in pieces) for chance, action in zip(prior, ["none", *TYPES])]
    assert np.allclose(type_posterior(pieces, TYPES), np.array(weights) / sum(weights))


def test_a_thousand_witnesses_do_not_overflow():
    certain = type_posterior([NameEvidence("test", "E", "", "answer", 1)] * 1000, TYPES)
    assert np.isfinite(certain).all() and certain[4] == 1


@pytest.mark.parametrize("left_out", list(DOCUMENTS)[:3])
def test_leaving_a_document_out_is_as_if_the_graph_had_never_read_it(left_out, processor, graph_encoder):
    kg = graph_of(list(DOCUMENTS.values())[:3])
    kg.forget(left_out)
    without = KnowledgeView(snapshot(kg, graph_encoder, TEXT), TYPES)
    keys = {row: key for key, row in processor.snapshot.rows.items()}
    for name in processor.snapshot.aliases:
        (seen, row), (wanted, bare_row) = processor.view.of_name(name, left_out), without.of_name(name)
        assert np.array_equal(seen, wanted), name
        assert keys.get(row) == {row: key for key, row in without.snapshot.rows.items()}.get(bare_row)


def test_asking_with_and_without_a_document_in_turn_mixes_nothing_up(processor):
    name, pieces = next((name, pieces) for name, pieces in processor.snapshot.aliases.items() if len(pieces) == 1)
    view, document = KnowledgeView(processor.snapshot, TYPES), pieces[0].document
    answers = [view.of_name(name, without)[0].any() for without in ("", document, "", "elsewhere", document)]
    assert answers == [True, False, True, True, False]


def test_the_flags_of_one_text_do_not_stay_for_the_next(processor):
    name = next(iter(processor.snapshot.aliases))
    view = KnowledgeView(processor.snapshot, TYPES)
    view.of_spans([name, name], np.array([[0, 1], [1, 1]]))
    assert not view.of_spans([name], np.array([[0, 0]]))[0][:, -2:].any()


@MANY
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3), st.booleans()), min_size=1, max_size=12, unique_by=lambda t: t[:2]))
def test_the_flags_agree_with_a_plain_loop(drawn):
    spans = np.array([(first, first + more) for first, more, _ in drawn])
    knowledge = np.zeros((len(drawn), 8))
    for number, (_, _, is_known) in enumerate(drawn):
        knowledge[number, :2] = (0.3, 0.7) if is_known else (0.7, 0.3)
    add_surroundings(knowledge, spans)
    known = [tuple(span) for span, (_, _, is_known) in zip(spans.tolist(), drawn) if is_known]
    for number, (first, last) in enumerate(spans.tolist()):
        others = [span for span in known if span != (first, last)]
        assert knowledge[number, -2] == any(a <= first and last <= b for a, b in others)
        assert knowledge[number, -1] == any(first <= a and b <= last for a, b in others)


def test_types_are_known_only_where_a_name_more_likely_means_something():
    knowledge = torch.tensor([[.2, .4, .4, 0, 0, 0, 1, 0], [.5, .3, .2, 0, 0, 0, 0, 1], [0.0] * 8])
    assert torch.allclose(known_types(knowledge), torch.tensor([[.5, .5, 0, 0, 0], [0.0] * 5, [0.0] * 5]))


# The processor


def joined(count):
    "Labelled documents one after the other as one, with the sentences that they have."
    text, mentions = "", []
    for document in load_clinic("train")[:count]:
        mentions += [replace(m, start=m.start + len(text), end=m.end + len(text)) for m in document.mentions]
        text += document.text + "\n"
    return Document("long", text, mentions=tuple(mentions))


@pytest.mark.parametrize("count", [1, 8, 30])
def test_a_long_document_loses_no_span_and_no_label(count, processor):
    document = joined(count)
    cut = processor([document])
    assert (len(cut) > 1) == (count > 1)
    places = words(document.text)
    assert [offset for row in cut for offset in row.offsets] == places
    found = {row.characters(i) for row in cut for i in range(len(row.spans))}
    # A candidate may cross the end of a sentence and so a cut; none of those is a name.
    ends = [row.offsets[-1][1] for row in cut]
    wanted = {(places[first][0], places[last][1]) for first, last in candidate_spans(document.text, places)}
    assert found == {(start, end) for start, end in wanted if not any(start < cut_at < end for cut_at in ends)}
    gold = sorted(row.characters(i) for row in cut for i in (row.labels > 0).nonzero().flatten().tolist())
    assert gold == sorted((m.start, m.end) for m in document.mentions)


def test_windows_of_a_long_document_are_decoded_into_its_own_offsets(processor):
    document = joined(12)
    cut, perfect = processor([document]), []
    for row in cut:
        perfect.append(torch.nn.functional.one_hot(row.labels, 6).float())
    found = [mention for row, logits in zip(cut, perfect) for mention in decode(row, logits, TYPES)]
    assert count_matches(document, found) == Counts(len(document.mentions), len(document.mentions), len(document.mentions))


@pytest.mark.parametrize("text", ["", "...", "of the", "咳嗽", "🙂 and 🙂"])
def test_a_text_with_few_words_or_none_is_read(text, processor):
    skill = made("prior", processor)
    cut = processor([Document("odd", text)])
    assert all(row.document == "odd" for row in cut)
    assert isinstance(read_mentions(skill, [*cut, *processor(DOCUMENTS.values())])[next(iter(DOCUMENTS))], list)


def test_labels_answers_and_own_evidence_are_kept_apart(processor, rows):
    for row, document in zip(rows, DOCUMENTS.values()):
        labelled = {row.characters(i): TYPES[row.labels[i] - 1] for i in (row.labels > 0).nonzero().flatten().tolist()}
        assert labelled == {(m.start, m.end): m.type for m in document.mentions}
    open_rows = processor([document.unlabelled() for document in DOCUMENTS.values()])
    for labelled, unlabelled in zip(rows, open_rows):
        assert (unlabelled.labels == IGNORE).all()
        assert torch.equal(labelled.knowledge, unlabelled.knowledge), "labels do not reach k(s) through the document"


def test_refresh_gives_what_a_new_processor_would(graph_encoder, rows):
    other = SkillProcessor(snapshot(graph_of(list(DOCUMENTS.values())[2:]), graph_encoder, TEXT), TYPES, TEXT, layers=(0, 1))
    for own in (False, True):
        for fresh, renewed in zip(other(DOCUMENTS.values(), own), other.refresh(rows, own)):
            assert torch.equal(fresh.knowledge, renewed.knowledge) and torch.equal(fresh.node_ids, renewed.node_ids)


@MANY
@given(st.integers(0, 5), st.sets(st.integers(0, 60), min_size=1, max_size=8))
def test_a_window_with_some_candidates_reads_them_as_the_whole_window_does(processor, rows, number, kept):
    row, skill = rows[number], made("gate", processor)
    kept = torch.tensor(sorted(kept))
    part = row.only(kept)
    assert [part.characters(i) for i in range(len(kept))] == [row.characters(i) for i in kept.tolist()]
    assert torch.allclose(logits_of(skill, [part])[0], logits_of(skill, [row])[0][kept], atol=1e-5)


# Deciding


@MANY
@given(st.integers(0, 10 ** 6), st.integers(0, 5), st.floats(-3, 3), st.floats(0, 3))
def test_decoding_never_overlaps_and_a_shyer_offset_finds_a_part_of_the_same(rows, seed, number, offset, shyer):
    row = rows[number]
    logits = torch.randn(len(row.spans), 6, generator=torch.Generator().manual_seed(seed))
    bold, shy = decode(row, logits, TYPES, offset), decode(row, logits, TYPES, offset + shyer)
    assert all(left.end <= right.start for left, right in zip(bold, bold[1:]))
    assert set(shy) <= set(bold)
    margins = logits[:, 1:].max(-1).values - logits[:, 0] - offset
    taken = [{*range(m.start, m.end)} for m in bold]
    for i in (margins > 1e-6).nonzero().flatten().tolist():
        start, end = row.characters(i)
        assert any(place & {*range(start, end)} for place in taken), "what beats none is kept, or lost to an overlap"


def test_the_tuned_offset_is_as_good_as_any_on_its_grid(processor, rows):
    logits = [torch.randn(len(row.spans), 6, generator=torch.Generator().manual_seed(i)) + 4 * torch.nn.functional.one_hot(row.labels, 6)
              for i, row in enumerate(rows)]
    def f1(offset):
        return sum((count_matches(DOCUMENTS[row.document], decode(row, scores, TYPES, offset)) for row, scores in zip(rows, logits)), Counts()).f1
    chosen = tune_offset(rows, logits, DOCUMENTS, TYPES)
    assert f1(chosen) >= max(f1(offset) for offset in np.linspace(-5, 5, 21)) - 0.01


def test_training_reads_every_labelled_document_out_of_fold(processor, rows, monkeypatch):
    seen = []
    monkeypatch.setattr(kglearn.skill, "fit", lambda skill, streams, objective, *rest: seen.append({row.document for row in streams[0][0]}) or objective)
    train_skill(rows, DOCUMENTS, processor, Recipe("prior", hidden=16, epochs=1))
    *folds, whole = seen
    assert whole == set(DOCUMENTS) and all(fold < whole for fold in folds)
    assert sorted(id for fold in folds for id in whole - fold) == sorted(DOCUMENTS), "each is held out exactly once"


@pytest.mark.parametrize("count", [0, 1])
def test_what_nobody_could_read_out_of_fold_is_refused(processor, rows, count):
    few = dict(list(DOCUMENTS.items())[:count])
    with pytest.raises(BadInput, match=f"{count} labelled documents: at least 2 are needed"):
        train_skill([row for row in rows if row.document in few], few, processor, Recipe("prior", hidden=16, epochs=1))


# The graph under a trained skill


@pytest.mark.parametrize("fusion", FUSIONS)
def test_news_changes_no_text_in_which_it_is_not_mentioned(fusion, processor, graph_encoder, rows):
    skill, kg = made(fusion, processor), graph_of(list(DOCUMENTS.values())[:3])
    before = logits_of(skill, rows)
    kg.add_entity("N1", "zanubrutinib", "medicine")
    newer = SkillProcessor(snapshot(kg, graph_encoder, TEXT), TYPES, TEXT, layers=(0, 1))
    skill.set_graph(newer.snapshot)
    assert len(skill.table) == skill.config.num_nodes == len(newer.snapshot.rows) + 1
    for old, new in zip(before, logits_of(skill, newer(DOCUMENTS.values()))):
        assert torch.allclose(old, new, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_snapshot_of_another_graph_encoder_is_refused_and_changes_nothing(fusion, processor):
    skill = made(fusion, processor)
    table = skill.table.clone()
    with pytest.raises(BadInput, match="another|made by graph encoder"):
        skill.set_graph(replace(processor.snapshot, encoder_hash="stranger", table=processor.snapshot.table + 1))
    assert torch.equal(skill.table, table) and skill.config.graph_hash == processor.snapshot.encoder_hash


@pytest.fixture
def saved(processor, tmp_path):
    save_skill(made("prior", processor), processor.snapshot, tmp_path / "skill")
    return tmp_path / "skill"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "snapshot.json", "snapshot.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_half_a_skill_is_an_error_that_names_the_folder(saved, file, damage):
    if damage == "missing":
        (saved / file).unlink()
    else:
        content = (saved / file).read_bytes()
        (saved / file).write_bytes(content[:len(content) // 2])
    with pytest.raises(BadInput, match="skill"):
        load_skill(saved, TEXT)


def test_weights_beside_another_snapshot_are_refused(saved, processor, graph_encoder, tmp_path):
    replace(processor.snapshot, encoder_hash="stranger").save(saved)
    with pytest.raises(BadInput, match="do not belong together"):
        load_skill(saved, TEXT)
    snapshot(graph_of(), graph_encoder, TEXT).save(saved)
    with pytest.raises(BadInput, match="do not belong together"):
        load_skill(saved, TEXT)


def test_another_text_encoder_is_refused(saved):
    with pytest.raises(BadInput, match="trained on encoder"):
        load_skill(saved, Encoder(*tiny_encoder(seed=1)))


def test_the_bundled_skill_holds_no_label_of_the_parts_that_measure():
    _, processor = clinic_skill()
    known = {piece.document for pieces in processor.snapshot.aliases.values() for piece in pieces}
    for part in ("golden", "test", "stream", "later"):
        assert not known & {document.id for document in load_clinic(part)}


# Leaks: labels planted at random must not be readable where they would be learnt from

PLANTED, WARDS = ["disease", "medicine", "symptom", "test"], ["north", "south", "east", "west"]


def planted_documents(seed, count=60, pool=40):
    """Documents that mention made-up names; each mention's type, and the ward that its entity is said to be seen in, are drawn
    anew for each document. So another document's label says nothing of this one's, and only this document's own does. Every
    document mentions all the wards; which of them an entity is seen in tells its type."""
    lot = random.Random(seed)
    names = [f"{lot.choice('bdfgklmnprst')}{lot.choice('aeiou')}{lot.getrandbits(24):x}" for _ in range(pool)]
    for number in range(count):
        text, mentions, relations = "Seen today:", [], []
        for name in lot.sample(names, 6):
            type, start = lot.choice(PLANTED), len(text) + 1
            text += f" {name},"
            key = f"{type}:{name}"
            mentions.append(Mention(start, start + len(name), type, key))
            relations.append(Relation(key, "seen_in", f"ward:{WARDS[PLANTED.index(type)]}"))
        for ward in WARDS:
            text += f" {ward}"
            mentions.append(Mention(len(text) - len(ward), len(text), "ward", f"ward:{ward}"))
        yield Document(f"planted-{number:03}", text, mentions=tuple(mentions), relations=tuple(relations))


def probed(features, labels, groups):
    "Accuracy of a linear probe on documents that it has not seen."
    test = torch.tensor([group % 2 for group in groups], dtype=torch.bool)
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    weights = torch.zeros(features.shape[1], len(PLANTED), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")
    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(features[~test] @ weights, labels[~test]) + 1e-3 * (weights ** 2).sum()
        value.backward()
        return value
    optimizer.step(loss)
    return ((features @ weights).argmax(-1) == labels)[test].float().mean().item()


@pytest.fixture(scope="module", params=[0, 1])
def planted(request, tmp_path_factory):
    "A workspace that has been given the planted documents to learn from, as far as `learn` fills K."
    documents = list(planted_documents(request.param))
    system = LearningSystem.create(tmp_path_factory.mktemp("planted") / "workspace", PLANTED)
    write_jsonl(documents, system.folder / "labelled.jsonl")
    for document in documents:
        add_gold(system.kg, document)
    yield system, documents
    system.close()


def read_planted(rows, table):
    "k(s) and the linked node's vector of each labelled mention, its label, and the number of its document."
    found = [(torch.cat([row.knowledge[i], table[row.node_ids[i]]]), row.labels[i] - 1, number)
             for number, row in enumerate(rows) for i in (row.labels > 0).nonzero().flatten().tolist()]
    features, labels, groups = zip(*found)
    return torch.stack(features), torch.stack(labels), groups


def test_planted_labels_cannot_be_read_from_what_a_skill_is_shown_of_its_own_documents(planted):
    """Neither from k(s), which the late fusion is shown, nor from the vectors of f, which the gate is shown. The last line gives
    the others their meaning: with a document's own evidence the same probe finds the labels."""
    system, documents = planted
    processor = system.processor_for(system.fit_graph_encoder())
    features, labels, groups = read_planted(processor(documents), processor.snapshot.table)
    assert probed(features[:, :len(PLANTED) + 3], labels, groups) < 0.35, "chance is 0.25; of 180 probed mentions 0.10 is three deviations"
    assert probed(features[:, len(PLANTED) + 3:], labels, groups) < 0.35
    leaked, labels, groups = read_planted(processor(documents, own_evidence=True), processor.snapshot.table)
    assert probed(leaked[:, :len(PLANTED) + 3], labels, groups) > 0.38


def test_leaving_one_out_leaves_a_hole_that_shows_what_was_in_it(planted):
    """Why no fusion is shown k(s) and the node vector together. The vector tells which name it is; whoever has seen the name
    elsewhere knows how often each label occurs in all, and what is missing in k(s) is this document's own label."""
    system, documents = planted
    processor = system.processor_for(system.fit_graph_encoder())
    assert probed(*read_planted(processor(documents), processor.snapshot.table)) > 0.4


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_skill_trained_on_planted_labels_is_at_chance_on_documents_whose_labels_are_in_the_graph(fusion, planted):
    system, documents = planted
    processor = system.processor_for(GraphEncoder(["seen_in"], seed=system.seed))
    taught = {document.id: document for document in documents[::2]}
    skill = train_skill(processor(taught.values()), taught, processor, Recipe(fusion, epochs=6)).skill
    rows = processor(documents[1::2])
    logits, labels = torch.cat(logits_of(skill, rows)), torch.cat([row.labels for row in rows])
    right = (logits[labels > 0, 1:].argmax(-1) + 1 == labels[labels > 0]).float().mean().item()
    assert right < 0.35, "chance is 0.25"


def test_planted_edges_reach_neither_the_snapshot_nor_the_training_of_f(planted, monkeypatch):
    system, documents = planted
    trained_on = []
    monkeypatch.setattr(kglearn.system, "fit_links", lambda kg, *rest, **named: trained_on.append(kg))
    processor = system.processor_for(system.fit_graph_encoder())
    bare, = trained_on
    assert not list(bare.facts()) and not bare.mentions() and not set(bare.documents()) & {d.id for d in documents}
    assert processor.snapshot.edges.shape == (3, 0), "and f's input has none of them either"
    assert list(system.kg.facts()) and system.kg.mentions(), "K itself has kept them"


def test_the_weights_of_f_do_not_depend_on_labels(tmp_path):
    "Two workspaces that differ in their labels alone train the same f, to the bit."
    unlabelled = [(f"{letter}1", f"{letter} drug") for letter in "abcdef"]
    hashes = set()
    for seed in (0, 1):
        system = LearningSystem.create(tmp_path / str(seed), PLANTED)
        with system.kg.transaction("read"):
            system.kg.add_document(Document("free", "a text without labels"))
            for key, name in unlabelled:
                system.kg.add_entity(key, name, "medicine")
            for (head, _), (tail, _) in zip(unlabelled, unlabelled[1:]):
                system.kg.add_fact(head, "related_to", tail, Evidence("free", 0, 6, "reader", 0.9))
        documents = list(planted_documents(seed, count=5))
        write_jsonl(documents, system.folder / "labelled.jsonl")
        for document in documents:
            add_gold(system.kg, document)
        hashes.add(system.fit_graph_encoder().hash)
        system.close()
    untrained = GraphEncoder(["related_to"], width=shared_encoder().width, seed=0).hash
    assert len(hashes) == 1 and untrained not in hashes, "it has been trained, on the same links"
