"""What no lesson of relations should carry: any text, sentences turned about, own patterns."""
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import TEXTS
from kglearn.data import BadInput, Document, Mention, Relation, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA, Schema
from kglearn.linking import link
from kglearn.reader import DictionaryTagger
from kglearn.relations import (LONGEST_LIST, CooccurrenceRelater, PatternRelater, TrainedRelater, _nearest, _Words, best_threshold, by_sentence,
                               entity_pairs, enumerations, one_cycle, stated_facts)
from kglearn.text import Encoder, sentences, tiny_encoder

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEXICON = clinic_lexicon()


# Relating


def fact_of(text, *places):
    mentions = [Mention(text.index(name), text.index(name) + len(name), type, f"{type}:{name}") for name, type in places]
    return stated_facts(text, 0, len(text), sorted(mentions, key=lambda mention: mention.start), CLINIC_SCHEMA.allows)


@pytest.mark.parametrize("text, expected", [
    ("codeine treats cough", [("medicine:codeine", "treats", "symptom:cough")]),
    ("codeine does not treat cough", []),
    ("codeine doesn't treat cough", []),
    ("without codeine treating cough", []),
    ("codeine treats, I have heard, cough", []),
    ("codeine retreats cough", []),
    ("cough eased by codeine", [("medicine:codeine", "treats", "symptom:cough")]),
    ("codeine can cause cough", [("medicine:codeine", "causes", "symptom:cough")]),
    ("codeine helps to prevent cough", [("medicine:codeine", "prevents", "symptom:cough")]),
    ("codeine " + "very " * 30 + "treats cough", []),
])
def test_cues(text, expected):
    assert fact_of(text, ("codeine", "medicine"), ("cough", "symptom")) == expected


TREATS = [("medicine:codeine", "treats", "symptom:cough")]


@pytest.mark.parametrize("text, expected", [
    ("codeine failed to treat cough", []), ("codeine fails to treat cough", []), ("failing to treat cough, codeine was stopped", []),
    ("codeine no longer treats cough", []), ("codeine is unlikely to treat cough", []), ("codeine hardly treats cough", []),
    ("codeine does little for cough", []), ("codeine for a little cough", TREATS),
    ("It is unclear whether codeine treats cough.", []), ("They asked if codeine treats cough.", []), ("give codeine if treating cough", []),
    ("If all else fails, codeine treats cough.", TREATS), ("It was codeine if I recall, and it treats cough.", TREATS),
    ("Unlike codeine, which treats cough, it harms.", TREATS), ("without codeine, who treats cough?", TREATS), ("no codeine that treats cough", []),
    ("codeine might treat cough", []), ("codeine may also treat cough", []), ("codeine could prevent cough", []),
    ("codeine may be given for cough", TREATS), ("cough may often be treated with codeine", TREATS), ("cough might respond to codeine", []),
    ("codeine may cause cough", [("medicine:codeine", "causes", "symptom:cough")]), ("codeine could cause cough", [("medicine:codeine", "causes", "symptom:cough")]),
])
def test_what_is_denied_or_left_open_is_no_statement(text, expected):
    assert fact_of(text, ("codeine", "medicine"), ("cough", "symptom")) == expected


@pytest.mark.parametrize("text, expected", [
    ("Does codeine treat cough?", []), ("Codeine treats cough?", []), ("'So codeine treats cough?'", []), ("(Could codeine treat cough?)", []),
    ("What about codeine for cough?", []), ("How likely is it that codeine treats cough?", []),
    ("Do you think codeine treats cough?", []), ("She asks: is the strong codeine for cough?", []), ("Is it over, and did codeine treat cough?", []),
    ("Could codeine, which treats cough, harm?", TREATS), ("Should I stop the codeine that treats my cough?", TREATS), ("Should I go on with codeine for my cough?", TREATS),
    ("Why did codeine treat her cough?", TREATS), ("Q: When was codeine given for cough?", TREATS), ("Codeine treats cough!", TREATS),
])
def test_a_question_states_what_it_takes_for_granted(text, expected):
    assert fact_of(text.replace("Codeine", "codeine"), ("codeine", "medicine"), ("cough", "symptom")) == expected


def test_a_question_is_told_by_its_own_end():
    text = "Does it help? Codeine treats cough. Is that so?"
    mentions = [Mention(14, 21, "medicine", "medicine:codeine"), Mention(29, 34, "symptom", "symptom:cough")]
    assert PatternRelater(CLINIC_SCHEMA).relate([Document("d", text)], [mentions])[0][0][:3] == TREATS[0]
    assert PatternRelater(CLINIC_SCHEMA).relate([Document("d", text.replace("cough.", "cough?"))], [mentions]) == [[]]
    denied = "It is not. Codeine treats cough."
    assert stated_facts(denied, 11, 32, [Mention(11, 18, "medicine", "medicine:codeine"), Mention(26, 31, "symptom", "symptom:cough")], CLINIC_SCHEMA.allows) == TREATS


def test_a_doubt_may_be_the_cue():
    ends = ("TSH", "test"), ("gout", "disease")
    assert fact_of("TSH shows whether your gout is gone", *ends) == [("test:TSH", "monitors", "disease:gout")]
    assert fact_of("TSH shows gout", *ends) == [("test:TSH", "diagnoses", "disease:gout")]
    assert fact_of("cough could be gout", ("cough", "symptom"), ("gout", "disease")) == [("disease:gout", "has_symptom", "symptom:cough")]


DRUGS = ("codeine", "medicine"), ("aspirin", "medicine"), ("opioid", "medicine")


@pytest.mark.parametrize("text, expected", [
    ("codeine, aspirin and other opioids", ["codeine", "aspirin"]), ("codeine, aspirin, and other strong opioids", ["codeine", "aspirin"]),
    ("codeine or aspirin or other opioids", ["codeine", "aspirin"]), ("no codeine, aspirin or any other opioid", ["codeine", "aspirin"]),
    ("codeine and aspirin and similar opioids", ["codeine", "aspirin"]), ("codeine, aspirin and opioids", []), ("codeine, aspirin and otherwise opioids", []),
    ("are codeine, aspirin and other opioids safe?", ["codeine", "aspirin"]), ("codeine and other aspirin, opioid", ["aspirin<codeine"]),
])
def test_a_list_may_say_what_its_members_are(text, expected):
    kinds = [(f"medicine:{name}", "is_a", "medicine:opioid") if "<" not in name else ("medicine:codeine", "is_a", "medicine:aspirin") for name in expected]
    assert fact_of(text, *DRUGS) == kinds


def test_what_is_said_of_a_list_with_its_kind_is_said_of_all():
    found = fact_of("codeine, aspirin and other opioids cause cough", *DRUGS, ("cough", "symptom"))
    assert found == [("medicine:codeine", "is_a", "medicine:opioid"), ("medicine:aspirin", "is_a", "medicine:opioid"),
                     *((f"medicine:{name}", "causes", "symptom:cough") for name, _ in DRUGS)]
    text, mentions = "codeine and other opioids", [Mention(0, 7, "x", "a"), Mention(18, 24, "x", "b")]
    assert stated_facts(text, 0, 25, mentions, lambda *_: True, {"treats": ("for", "")}) == [], "no cue of that relation was given"
    assert stated_facts(text, 0, 25, mentions, lambda *_: False) == [], "nor where the schema forbids it"
    assert stated_facts("gout (gout) and other x", 0, 23, [Mention(0, 4, "x", "a"), Mention(6, 10, "x", "a"), Mention(22, 23, "x", "a")], lambda *_: True) == []


def test_a_contrast_is_no_list():
    both = ("aspirin", "medicine"), ("codeine", "medicine"), ("cough", "symptom")
    assert fact_of("Unlike aspirin, codeine treats cough", *both) == TREATS
    assert fact_of("codeine, unlike aspirin, treats cough", *both) == []
    assert fact_of("aspirin, codeine treats cough", *both)[1:] == TREATS, "as a list it would be said of both"


def test_a_list_shares_what_is_said_of_it_on_both_sides():
    text = "codeine and morphine cause nausea, vomiting or a dry mouth"
    found = fact_of(text, ("codeine", "medicine"), ("morphine", "medicine"), ("nausea", "symptom"), ("vomiting", "symptom"), ("dry mouth", "symptom"))
    assert len(found) == 6 and {relation for _, relation, _ in found} == {"causes"}


def test_what_is_said_of_a_kind_is_said_of_the_thing():
    found = fact_of("codeine, an opioid, eases cough", ("codeine", "medicine"), ("opioid", "medicine"), ("cough", "symptom"))
    assert found == [("medicine:codeine", "is_a", "medicine:opioid"), ("medicine:codeine", "treats", "symptom:cough")]


@MANY
@given(TEXTS)
def test_facts_join_entities_of_the_sentence_as_the_schema_allows(text):
    mentions = link(Document("", text), DictionaryTagger(LEXICON).tag([Document("", text)])[0], DictionaryTagger(LEXICON).names)
    for (start, end), inside in by_sentence(text, mentions):
        types = {mention.entity: mention.type for mention in inside}
        found = stated_facts(text, start, end, inside, CLINIC_SCHEMA.allows)
        assert len(found) == len(set(found)) and found == stated_facts(text, start, end, inside, CLINIC_SCHEMA.allows)
        assert all(head != tail and CLINIC_SCHEMA.allows(types[head], relation, types[tail]) for head, relation, tail in found)
        groups = enumerations(text, inside)
        assert [m for group in groups for m in group] == inside and all(len(group) <= LONGEST_LIST for group in groups)


@MANY
@given(TEXTS, st.lists(st.tuples(st.integers(0, 120), st.integers(1, 12)), max_size=12))
def test_sentences_get_exactly_the_mentions_inside_them(text, places):
    mentions = [Mention(start, start + length, "x") for start, length in places]
    by_hand = [(span, [m for m in sorted(mentions, key=lambda m: (m.start, m.end)) if span[0] <= m.start and m.end <= span[1]]) for span in sentences(text)]
    assert by_sentence(text, mentions) == by_hand


def test_patterns_keep_their_quality():
    right = found = gold = 0
    for document in (*load_clinic("graph"), *load_clinic("train")):
        facts = {f for (start, end), inside in by_sentence(document.text, document.mentions)
                 for f in stated_facts(document.text, start, end, inside, CLINIC_SCHEMA.allows)}
        wanted = {(r.head, r.relation, r.tail) for r in document.relations}
        right, found, gold = right + len(facts & wanted), found + len(facts), gold + len(wanted)
    assert right / found >= 0.85 and right / gold >= 0.40


def test_own_patterns_are_used():
    mentions = [Mention(0, 4, "x", "a"), Mention(11, 14, "x", "b")]
    assert stated_facts("this begets that", 0, 16, [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"parent_of": ("begets", "")}) == [("a", "parent_of", "b")]
    assert stated_facts("this begets that", 0, 16, [mentions[0], Mention(12, 16, "x", "b")], lambda *_: True, {"child_of": ("", "begets")}) == [("b", "child_of", "a")]


# Learning from pairs


@pytest.fixture(scope="module")
def tiny():
    return Encoder(*tiny_encoder())


@MANY
@given(st.lists(st.integers(0, 99), min_size=1, max_size=8), st.lists(st.integers(0, 99), min_size=1, max_size=8))
def test_the_nearest_mentions_are_those_of_all_pairs(heads, tails):
    of_head, of_tail = ([Mention(start, start + 3, type, type) for start in sorted(starts)] for type, starts in (("x", heads), ("y", tails)))
    head, tail = _nearest(of_head, of_tail)
    assert head in of_head and tail in of_tail and abs(head.start - tail.start) == min(abs(h - t) for h in heads for t in tails)


@MANY
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), max_size=12), st.integers(1, 12))
def test_the_threshold_is_that_of_the_best_f1_of_all(cases, gold):
    scores, right = [score for score, _ in cases], [hit for _, hit in cases]
    gold = max(gold, sum(right))

    def f1(threshold):
        found = [hit for score, hit in cases if score >= threshold]
        return 2 * sum(found) / (len(found) + gold)
    assert f1(best_threshold(scores, right, gold)) == max(map(f1, [1.0, *scores]))


@MANY
@given(TEXTS)
def test_any_text_can_be_paired_up(tiny, text):
    document = Document("d", text)
    mentions = link(document, DictionaryTagger(LEXICON).tag([document])[0], DictionaryTagger(LEXICON).names)
    pairs = list(TrainedRelater(CLINIC_SCHEMA, tiny, (0, 2)).pairs(document, mentions))
    assert [(pair.head, pair.tail) for pair in pairs] == entity_pairs(mentions, CLINIC_SCHEMA)
    assert all(0 <= pair.start < pair.end <= len(text) and pair.vectors.isfinite().all() and pair.numbers.isfinite().all() for pair in pairs)
    assert all(any(pair.start <= m.start and m.end <= pair.end for m in mentions if m.entity == end) for pair in pairs
               for end in (pair.head, pair.tail) if len(mentions) < 12 and sentences(text)[-1][1] - sentences(text)[0][0] < 200)


def family(number, chance):
    "Somebody loves one and fears another, in either order and voice; what is gold is only in the words."
    people = chance.sample(["Ann", "Bob", "Cleo", "Dora", "Egon", "Fred"], 3)
    said = {"loves": ("{} loves {}. ", "{} is loved by {}. "), "fears": ("{} fears {}. ", "{} is feared by {}. ")}
    text, facts, mentions = "", [], []
    for relation, other in zip(chance.sample(["loves", "fears"], 2), people[1:]):
        passive = chance.random() < 0.5
        ends = [other, people[0]] if passive else [people[0], other]
        sentence = said[relation][passive].format(*ends)
        mentions += [Mention(len(text) + sentence.index(name), len(text) + sentence.index(name) + len(name), "person", name) for name in ends]
        text += sentence
        facts.append(Relation(people[0], relation, other))
    return Document(str(number), text, mentions=tuple(sorted(mentions, key=lambda m: m.start)), relations=tuple(facts))


FAMILY = Schema(("person",), {"loves": (("person",), ("person",)), "fears": (("person",), ("person",))})


def f1_of(relater, documents):
    found = [{fact[:3] for fact in each} for each in relater.relate(documents, [document.mentions for document in documents])]
    gold = [{(r.head, r.relation, r.tail) for r in document.relations} for document in documents]
    return 2 * sum(len(f & g) for f, g in zip(found, gold)) / max(sum(map(len, found)) + sum(map(len, gold)), 1)


def test_it_learns_relation_and_direction_and_nothing_from_shuffled_labels():
    chance = random.Random(0)
    train, test = ([family(f"{part}{number}", chance) for number in range(size)] for part, size in (("a", 80), ("b", 30)))
    learnt = TrainedRelater(FAMILY, members=1, epochs=20).fit(train)
    assert f1_of(learnt, test) > 0.9
    names = [relation for document in train for relation in document.relations]
    chance.shuffle(names)
    shuffled = [Document(document.id, document.text, mentions=document.mentions,
                         relations=tuple(Relation(*chance.sample(sorted({m.entity for m in document.mentions}), 2)[:1], names.pop().relation,
                                                  document.mentions[-1].entity) for _ in document.relations)) for document in train]
    assert f1_of(TrainedRelater(FAMILY, members=1, epochs=20).fit(shuffled), test) < 0.5


def test_the_seed_decides_and_the_global_one_is_left_alone(tiny):
    chance = random.Random(0)
    train = [family(number, chance) for number in range(6)]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (TrainedRelater(FAMILY, tiny, (0, 2), epochs=2, seed=seed).fit(train) for seed in (0, 0, 9))
    assert torch.equal(before, torch.random.get_rng_state())
    chances = [[c for _, c in relater.probabilities(train[0], train[0].mentions)] for relater in (one, same, other)]
    assert chances[0] == chances[1] != chances[2] and one.threshold == same.threshold


def test_evidence_is_the_stretch_from_one_end_to_the_other(tiny):
    text = "Ann came. It rained. Bob left."
    mentions = (Mention(0, 3, "person", "Ann"), Mention(21, 24, "person", "Bob"))
    there, back = TrainedRelater(FAMILY, tiny, (0, 2)).pairs(Document("d", text), mentions)
    assert (there.head, there.tail, back.head, back.tail) == ("Ann", "Bob", "Bob", "Ann")
    assert (there.start, there.end) == (back.start, back.end) == (0, len(text)) and there.numbers[:2].tolist() == [0, 2]
    assert there.numbers[4] == 1 and back.numbers[4] == 0 and there.vectors[:there.vectors.shape[0] // 3].equal(
        back.vectors[there.vectors.shape[0] // 3:2 * there.vectors.shape[0] // 3])


@pytest.mark.parametrize("documents, message", [
    ([], "relations of its schema are marked"),
    ([Document("d", "Ann.")], "relations of its schema are marked"),
    ([Document(str(n), "Ann met Bob.", mentions=(), relations=(Relation("Ann", "met", "Bob"),)) for n in range(4)], "of its schema"),
    ([family(0, random.Random(0))], "3 labelled documents or more"),
    ([family(n, random.Random(n)) for n in range(2)] + [Document(str(n), "Ann.", mentions=(Mention(0, 3, "person", "Ann"),), relations=()) for n in range(9)],
     "given 2"),
])
def test_what_it_cannot_learn_from_is_named(tiny, documents, message):
    with pytest.raises(BadInput, match=message):
        TrainedRelater(FAMILY, tiny, (0, 2)).fit(documents)


def test_unfitted_it_says_so(tiny):
    with pytest.raises(BadInput, match="has not been fitted"):
        TrainedRelater(FAMILY, tiny).relate([family(0, random.Random(0))], [family(0, random.Random(0)).mentions])


# Keeping what was learnt


@pytest.fixture(scope="module")
def kept(tiny, tmp_path_factory):
    "A relater, documents that it has learnt from, and the folder that it was kept in."
    documents = [family(number, random.Random(number)) for number in range(8)]
    relater = TrainedRelater(FAMILY, tiny, (0, 2), hidden=16, epochs=4, members=2, seed=3).fit(documents)
    folder = tmp_path_factory.mktemp("relater")
    relater.save(folder)
    return relater, documents, folder


def test_a_relater_says_the_same_after_it_was_kept(kept, tiny):
    relater, documents, folder = kept
    again = TrainedRelater.load(folder, tiny)
    mentions = [document.mentions for document in documents]
    assert again.relate(documents, mentions) == relater.relate(documents, mentions)
    for name in ("schema", "layers", "hidden", "dropout", "epochs", "members", "seed", "relations", "threshold"):
        assert getattr(again, name) == getattr(relater, name), name
    assert list(again.schema.relations) == list(relater.schema.relations), "of equally likely relations the first in the schema wins"
    assert again.fit(documents).relate(documents, mentions) == relater.relate(documents, mentions), "and it learns as it would have"


def test_a_relater_of_another_encoder_is_refused(kept):
    other = Encoder(*tiny_encoder())
    with torch.no_grad():
        next(other.model.parameters()).add_(0.5)
    with pytest.raises(BadInput, match="was trained on encoder"):
        TrainedRelater.load(kept[2], other)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("half, damage, message", [
    ("relater.json", Path.unlink, "no such file"),
    ("relater.safetensors", Path.unlink, "no such file"),
    ("relater.json", _cut, "do not belong together"),
    ("relater.safetensors", _cut, "do not belong together"),
    ("relater.json", lambda path: path.write_text("[]"), "do not belong together"),
    ("relater.json", lambda path: path.write_text(path.read_text().replace('"members": 2', '"members": 3')), "do not belong together"),
    ("relater.json", lambda path: path.write_text(path.read_text().replace('"hidden": 16', '"hidden": 17')), "do not belong together"),
    ("relater.json", lambda path: path.write_text(path.read_text().replace('"threshold": ', '"threshold": -')), "do not belong together"),
])
def test_a_half_that_is_missing_or_damaged_is_one_clear_error(kept, tiny, tmp_path, half, damage, message):
    shutil.copytree(kept[2], tmp_path / "r")
    damage(tmp_path / "r" / half)
    with pytest.raises(BadInput, match=message):
        TrainedRelater.load(tmp_path / "r", tiny)


def test_halves_of_two_relaters_do_not_mix(kept, tiny, tmp_path):
    relater, documents, folder = kept
    TrainedRelater(FAMILY, tiny, (0, 2), hidden=16, epochs=4, members=2, seed=4).fit(documents).save(tmp_path)
    shutil.copy(folder / "relater.safetensors", tmp_path)
    with pytest.raises(BadInput, match="do not belong together"):
        TrainedRelater.load(tmp_path, tiny)


def test_one_that_was_not_fitted_is_not_kept(tiny, tmp_path):
    with pytest.raises(BadInput, match="has not been fitted"):
        TrainedRelater(FAMILY, tiny).save(tmp_path)
    assert not list(tmp_path.iterdir())


# A schedule for however few steps, and confidences


def stepped(schedule_of, steps):
    "Learning rate and beta1 of each step."
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1)
    schedule, found = schedule_of(optimizer), []
    for _ in range(steps):
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step(), schedule.step()
    return found


@pytest.mark.parametrize("steps", [*range(1, 31), 100, 10_000])
def test_the_schedule_is_pytorchs_and_has_no_gap(steps):
    found = stepped(lambda optimizer: one_cycle(optimizer, 3e-3, steps), steps)
    if steps != 10:
        assert found == stepped(lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1), steps)
    rates = [rate for rate, _ in found]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True) and top <= steps / 10
    assert 0 < rates[-1] < 1e-7 and max(rates) <= 3e-3 and (steps < 3 or max(rates) > 2e-3)
    assert one_cycle(torch.optim.AdamW([torch.zeros(1)], lr=1), 1e-3, 0).total_steps == 1


@pytest.mark.parametrize("documents", [3, 60, 96])
def test_few_documents_are_enough_to_train(tiny, documents):
    "A pair each: 10 steps over all of them, or over a fold."
    schema = Schema(("m", "s"), {"r": (("m",), ("s",))})
    given = [Document(str(n), "One treats two.", mentions=(Mention(0, 3, "m", "a"), Mention(11, 14, "s", "b")),
                      relations=(Relation("a", "r", "b"),) * (n % 2)) for n in range(documents)]
    relater = TrainedRelater(schema, tiny, (0,), hidden=4, members=1).fit(given)
    assert 0 < relater.probabilities(given[0], given[0].mentions)[0][1]["r"] < 1


def test_mentions_may_come_one_by_one(kept):
    relater, documents, _ = kept
    once, listed = ([(pair.head, pair.tail, chances) for pair, chances in relater.probabilities(documents[0], mentions)]
                    for mentions in (iter(documents[0].mentions), documents[0].mentions))
    assert once == listed != []


@pytest.mark.parametrize("confidence", [0, -0.5, 1.5, float("nan"), float("inf")])
def test_a_confidence_that_means_nothing_is_refused(confidence):
    for relater in (lambda: PatternRelater(CLINIC_SCHEMA, confidence=confidence), lambda: CooccurrenceRelater(confidence)):
        with pytest.raises(BadInput, match="above 0 and at most 1"):
            relater()


def test_sentences_are_counted_by_their_starts(tiny):
    document = Document("d", "One. Two! Three? Four.")
    held = _Words(document, tiny, (0,))
    held.sentences = None  # which are not gone through for each mention
    assert [held.sentence(Mention(at, at + 3, "x")) for at in (0, 3, 5, 9, 10, 17, 19)] == [0, 0, 1, 1, 2, 3, 3]
    assert _Words(Document("d", ""), tiny, (0,)).sentence(Mention(0, 1, "x")) == 0


@pytest.mark.parametrize("text, found", [
    ("Aspirin causes bleeding.", [("aspirin", "causes", "bleeding")]), ("Aspirin causes no bleeding.", []), ("Aspirin leads to neither bleeding nor fever.", []),
    ("Bleeding is caused by aspirin.", [("aspirin", "causes", "bleeding")]), ("Bleeding is caused by neither aspirin nor codeine.", [])])
def test_a_denial_behind_the_cue_is_heeded(text, found):
    types = {"aspirin": "medicine", "codeine": "medicine", "bleeding": "symptom", "fever": "symptom"}
    mentions = [Mention(start, start + len(name), type, name) for name, type in types.items() if (start := text.lower().find(name)) >= 0]
    assert [fact[:3] for fact in PatternRelater(CLINIC_SCHEMA).relate([Document("d", text)], [mentions])[0]] == found
