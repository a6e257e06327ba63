"""The validator of the bundled corpus: what its page promises is counted here."""
import re
from collections import Counter, defaultdict
from datetime import date

import pytest

from kglearn.data import CLINIC_PARTS, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA
from kglearn.text import normalise, sentences

SIZES = {"graph": 40, "train": 40, "golden": 20, "test": 30, "stream": 40, "later": 30}
EARLY = ("graph", "train", "golden", "test")
# Words that name an entity in one passage and something else in another: the weather, a substance.
UNMARKED_ON_PURPOSE = {("cold", "test-005"), ("uric acid", "golden-002")}

# Everyday names that no early passage happens to mention.
OLD_TO_THE_LEXICON = {"disease:acne", "disease:obesity", "test:mri scan"}


@pytest.fixture(scope="module")
def parts():
    return {part: load_clinic(part) for part in CLINIC_PARTS}


@pytest.fixture(scope="module")
def documents(parts):
    return [document for part in parts.values() for document in part]


def surfaces(documents) -> list[str]:
    return [normalise(document.surface(mention)) for document in documents for mention in document.mentions]


def entities(documents) -> set[str]:
    return {mention.entity for document in documents for mention in document.mentions}


def skeletons(document) -> list[str]:
    "The sentences of a document with each mention replaced by its type."
    text = document.text
    for mention in sorted(document.mentions, key=lambda mention: -mention.start):
        text = text[:mention.start] + mention.type.upper() + text[mention.end:]
    return [text[start:end].casefold() for start, end in sentences(text)]


def outside_mentions(document) -> str:
    "The text with every mention blotted out."
    letters = list(document.text)
    for mention in document.mentions:
        letters[mention.start:mention.end] = "\0" * (mention.end - mention.start)
    return "".join(letters)


def unseen_share(part, train) -> float:
    known = set(surfaces(train))
    found = surfaces(part)
    return sum(surface not in known for surface in found) / len(found)


def test_sizes_of_parts(parts):
    assert {part: len(documents) for part, documents in parts.items()} == SIZES
    assert sum(SIZES.values()) == 200


def test_mentions_and_relations(documents):
    assert sum(len(document.mentions) for document in documents) >= 1800
    assert sum(len(document.relations) for document in documents) >= 700
    assert len({mention.type for document in documents for mention in document.mentions}) >= 4
    assert len({relation.relation for document in documents for relation in document.relations}) >= 5


def test_each_type_and_relation_is_frequent_enough_to_learn(documents):
    types = Counter(mention.type for document in documents for mention in document.mentions)
    relations = Counter(relation.relation for document in documents for relation in document.relations)
    assert set(types) == set(CLINIC_SCHEMA.types) and min(types.values()) >= 40
    assert set(relations) == set(CLINIC_SCHEMA.relations) and min(relations.values()) >= 10


def test_ids_and_dates(parts):
    ids = [document.id for part in parts.values() for document in part]
    assert len(set(ids)) == len(ids)
    for part, documents in parts.items():
        for document in documents:
            assert document.id.startswith(f"{part}-")
            assert date.fromisoformat(document.date).year == (2023 if part in EARLY else 2025), document.id


def test_mentions_cover_whole_words_and_never_overlap(documents):
    for document in documents:
        ordered = sorted(document.mentions, key=lambda mention: mention.start)
        assert all(a.end <= b.start for a, b in zip(ordered, ordered[1:])), document.id
        for mention in ordered:
            surface = document.surface(mention)
            assert surface == surface.strip() and surface, document.id
            assert not re.search(
                r"\w\0\w|\w\0$", document.text[max(0, mention.start - 1) : mention.start] + "\0" + surface[0]
            ), surface
            assert mention.entity.startswith(f"{mention.type}:")


def test_sentences_are_no_templates(documents):
    counted = Counter(skeleton for document in documents for skeleton in skeletons(document))
    assert len(counted) / sum(counted.values()) >= 0.95


def test_no_passage_twice(documents):
    assert len({document.text for document in documents}) == len(documents)


@pytest.mark.parametrize("part, share", [("test", 0.25), ("later", 0.40)])
def test_unseen_mentions(parts, part, share):
    assert unseen_share(parts[part], parts["train"]) >= share


def test_signatures_of_relations_hold(documents):
    for document in documents:
        types = {mention.entity: mention.type for mention in document.mentions}
        for relation in document.relations:
            assert CLINIC_SCHEMA.allows(types[relation.head], relation.relation, types[relation.tail]), (
                document.id,
                relation,
            )
            assert relation.relation != "is_a" or types[relation.head] == types[relation.tail], (document.id, relation)
            assert relation.head != relation.tail, (document.id, relation)


def test_no_relation_twice_in_a_passage(documents):
    for document in documents:
        assert len(set(document.relations)) == len(document.relations), document.id


def test_a_surface_has_one_entity_everywhere(documents):
    found = defaultdict(set)
    for document in documents:
        for mention in document.mentions:
            found[normalise(document.surface(mention))].add(mention.entity)
    assert {surface: keys for surface, keys in found.items() if len(keys) > 1} == {}


def test_a_canonical_name_is_no_other_entitys_surface(documents):
    names = defaultdict(set)
    for document in documents:
        for mention in document.mentions:
            names[normalise(document.surface(mention))].add(mention.entity)
            names[normalise(mention.entity.partition(":")[2])].add(mention.entity)
    assert {name: keys for name, keys in names.items() if len(keys) > 1} == {}


def test_what_is_marked_once_is_marked_always(documents):
    texts = {document.id: outside_mentions(document) for document in documents}
    marked = {document.surface(mention).casefold() for document in documents for mention in document.mentions}
    left = {(surface, id) for surface in marked if len(surface) >= 3 for id, text in texts.items()
            if re.search(rf"(?<![\w-]){re.escape(surface)}(?![\w-])", text, re.I if len(surface) > 4 else 0)}
    assert left == UNMARKED_ON_PURPOSE


def test_the_later_period_brings_entities_that_no_early_part_has(parts):
    early = set().union(*(entities(parts[part]) for part in EARLY))
    new = {part: entities(parts[part]) - early for part in ("stream", "later")}
    assert len(new["stream"] & new["later"]) >= 40
    for part in ("stream", "later"):
        assert min(len({m.entity for m in document.mentions} - early) for document in parts[part]) >= 3


def test_no_later_name_slipped_into_an_early_text(parts):
    early = [document for part in EARLY for document in parts[part]]
    known, texts = entities(early), [outside_mentions(document) for document in early]
    late = {document.surface(mention).casefold() for part in ("stream", "later") for document in parts[part]
            for mention in document.mentions if mention.entity not in known}
    slipped = {surface for surface in late if len(surface) > 4 for text in texts
               if re.search(rf"(?<![\w-]){re.escape(surface)}(?![\w-])", text, re.I)}
    assert slipped == set()


def test_lexicon(parts):
    lexicon = clinic_lexicon()
    names = Counter(name for entry in lexicon for name in {normalise(name) for name in entry.names})
    assert {name: count for name, count in names.items() if count > 1} == {}, "a name stands for one thing"
    assert {entry.type for entry in lexicon} == set(CLINIC_SCHEMA.types)
    early = set().union(*(entities(parts[part]) for part in EARLY))
    late = (entities(parts["stream"]) & entities(parts["later"])) - early
    assert {entry.id for entry in lexicon} & late <= OLD_TO_THE_LEXICON, "the lexicon is older than the later period"


def test_lexicon_coverage_of_test(parts):
    known = {normalise(name) for entry in clinic_lexicon() for name in entry.names}
    for part in ("train", "test", "later"):
        found = surfaces(parts[part])
        print(f"lexicon covers {sum(surface in known for surface in found) / len(found):.1%} of the mentions of {part}")
    found = surfaces(parts["test"])
    covered = sum(surface in known for surface in found) / len(found)
    assert 0.2 <= covered <= 0.9, "neither useless nor a copy of the gold"
