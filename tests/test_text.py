"""What no lesson of 02_text carries: properties over made-up texts, and an encoder that is not what it should be."""
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kglearn.text
from kglearn.data import BadInput, load_clinic
from kglearn.text import (
    Encoder,
    abbreviations,
    cache_folder,
    default_encoder_path,
    load_encoder,
    load_halves,
    normalise,
    pool_words,
    save_halves,
    sentences,
    shared_encoder,
    tiny_encoder,
    windows,
    words,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)
PROSE = st.lists(
    st.sampled_from(
        ["Fever", "rifampicin", "x", "e.g.", ".", "! ", " ", "\n", "。", "糖", "(", "CKD", ")", "e\u0301", "_", "-"]
    ),
    max_size=60,
).map("".join)
ANY = TEXT | PROSE


@pytest.fixture(scope="module")
def narrow() -> Encoder:
    "An encoder that reads 14 pieces at once."
    from transformers import BertConfig, BertModel
    tokenizer, _ = tiny_encoder()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return Encoder(tokenizer, BertModel(config, add_pooling_layer=False).eval())


@given(ANY)
def test_words_lie_inside_never_overlap_and_cover_every_sign(text):
    end, covered = 0, []
    for start, stop in words(text):
        assert end <= start < stop <= len(text)
        assert not text[end:start].strip() and not any(letter.isspace() for letter in text[start:stop])
        covered.append(text[start:stop])
        end = stop
    assert not text[end:].strip()
    assert "".join(covered) == "".join(text.split())


@given(ANY)
def test_sentences_cover_every_word_and_cut_none(text):
    spans = sentences(text)
    assert all(a <= b for (_, a), (b, _) in zip(spans, spans[1:]))
    assert [(start + s, start + e) for start, end in spans for s, e in words(text[start:end])] == words(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)


@pytest.mark.parametrize("text, expected", [
    ("患者有2型糖尿病。HbA1c 是7.9%！", "患 者 有 2 型 糖 尿 病 。 HbA1c 是 7 . 9 % ！"),
    ("２型糖尿病（Ⅱ型）々〇", "２ 型 糖 尿 病 （ Ⅱ 型 ） 々 〇"),
    ("メトホルミンを開始した。ﾃｽﾄ", "メ ト ホ ル ミ ン を 開 始 し た 。 ﾃ ｽ ﾄ"),
    ("당뇨병 환자는 COVID-19 검사", "당뇨병 환자는 COVID - 19 검사")])
def test_han_and_kana_are_words_of_their_own(text, expected):
    assert " ".join(text[start:end] for start, end in words(text)) == expected


@pytest.mark.parametrize("text, expected", [
    ("患者有糖尿病。给她二甲双胍！胰岛素呢？没有", ["患者有糖尿病。", "给她二甲双胍！", "胰岛素呢？", "没有"]),
    ("他说：“发烧了。”然后（真的？！）走了。", ["他说：“发烧了。”", "然后（真的？！）", "走了。"]),
    ("「熱があります。」と言った。咳は？", ["「熱があります。」", "と言った。", "咳は？"]),
    ("血糖 7.9，正常。HbA1c 6.1%。\n\n出院", ["血糖 7.9，正常。", "HbA1c 6.1%。", "出院"]),
    ("。。。", ["。。。"])])
def test_chinese_and_japanese_sentences(text, expected):
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize("text, expected", [
    ("患有慢性肾病 chronic kidney disease（CKD）多年", {"CKD": "chronic kidney disease"}),
    ("acute renal failure （ ARFs ）か", {"ARF": "acute renal failure"}),
    ("type 2 diabetes（T2D)、chronic obstructive pulmonary disease(COPD）", {"T2D": "type 2 diabetes", "COPD": "chronic obstructive pulmonary disease"}),
    ("慢性肾病（CKD）", {}),
    ("by haemorrhage (HEM, n = 7) or heart rate（HR；bpm）", {"HEM": "haemorrhage", "HR": "heart rate"}),
    ("drug-induced hypertension (DI-HT), hypotension (HT)", {"DI-HT": "drug-induced hypertension", "HT": "hypotension"}),
    ("high fever (HF, (sic)) or cough (see Table 2, right)", {})])
def test_full_width_brackets_introduce_abbreviations(text, expected):
    assert abbreviations(text) == expected


@given(st.lists(ANY, max_size=4))
@settings(deadline=None)
def test_counts_from_memory_are_those_of_the_tokenizer(narrow, texts):
    for text in (*texts, *texts):
        pieces = narrow.pieces(text)[1]
        counted = narrow.piece_counts(text)
        cut = [text[start:end] for start, end in words(text)]
        assert counted == [len(narrow.tokenizer(word, add_special_tokens=False)["input_ids"]) for word in cut]
        assert len(pieces) == min(sum(counted), narrow.room) + 2


def test_memory_of_words_and_names_is_bounded(monkeypatch, narrow):
    monkeypatch.setattr(kglearn.text, "_KEPT", 3)
    for number in range(20):
        assert narrow.piece_counts(f"fever {number} of many days") == [1, 1, 1, 1, 1] and narrow.readable(f"fever {number}")
        assert not narrow.readable("哮喘")
    assert len(narrow._sizes) <= 3 + 5 and len(narrow._strange) <= 3 + 2


@given(ANY)
@settings(deadline=None)
def test_windows_lose_no_word_of_any_text_and_fit(narrow, text):
    cuts = windows(text, narrow)
    assert [(start + s, start + e) for start, end in cuts for s, e in words(text[start:end])] == words(text)
    for start, end in cuts:
        counts = narrow.piece_counts(text[start:end])
        assert sum(counts) <= narrow.room or len(counts) == 1


@given(ANY)
@settings(deadline=None, max_examples=50)
def test_each_word_of_any_text_has_a_row(narrow, text):
    [rows] = narrow.word_vectors([text], (0, 1))
    assert rows.shape == (len(words(text)), 32) and torch.isfinite(rows.float()).all()


@given(ANY)
def test_normalise_twice_is_normalise_once(name):
    once = normalise(name)
    assert normalise(once) == once
    assert normalise(f" {name.upper()} ") == normalise(name.upper())


@given(
    st.sampled_from(
        ["headache", "rash", "allergy", "beta blocker", "cough", "stroke", "biopsy", "ACE inhibitor", "reflex"]
    )
)
def test_a_plural_is_the_same_name(name):
    plural = name[:-1] + "ies" if name.endswith("y") else name + ("es" if name.endswith(("sh", "x")) else "s")
    assert normalise(plural) == normalise(name)


@given(ANY)
def test_long_forms_stand_in_the_text_before_their_bracket(text):
    for short, long in abbreviations(text).items():
        place = text.index(long)
        assert short in text[place + len(long):] and long[0].lower() == short[0].lower()


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12))
def test_pooling_agrees_with_a_loop(word_ids):
    hidden = torch.arange(2.0 * len(word_ids)).reshape(1, -1, 2)
    pooled = pool_words(hidden, torch.tensor([word_ids]), 5)[0]
    for word in range(5):
        rows = [hidden[0, place] for place, owner in enumerate(word_ids) if owner == word]
        assert torch.allclose(pooled[word], torch.stack(rows).mean(0) if rows else torch.zeros(2))


def test_abbreviations_of_clinic_are_those_of_its_labels():
    "Where a passage introduces a short form of a labelled entity, the rule finds it or nothing."
    for part in ("graph", "train", "golden", "test"):
        for document in load_clinic(part):
            entities = {document.surface(mention): mention.entity for mention in document.mentions}
            for short, long in abbreviations(document.text).items():
                if short in entities and long in entities:
                    assert entities[short] == entities[long], (document.id, short, long)


def test_damaged_weights_are_refused(monkeypatch):
    default_encoder_path.cache_clear()
    monkeypatch.setattr(kglearn.text, "file_hash", lambda path: "0" * 64)
    with pytest.raises(BadInput, match="SHA-256 0000.*reinstall"):
        default_encoder_path()
    monkeypatch.undo()
    assert default_encoder_path().is_dir()


@pytest.mark.parametrize("name", ["./nowhere", "no folder of that name", "someone/no-such-model"])
def test_a_missing_encoder_says_what_to_do_at_once(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match="leave the name empty"):
        load_encoder(name)


def test_a_folder_with_no_model_says_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="leave the name empty"):
        load_encoder(str(tmp_path))


def test_a_saved_encoder_loads_from_its_folder(tmp_path):
    encoder = Encoder(*tiny_encoder())
    encoder.save(tmp_path)
    loaded = Encoder.load(str(tmp_path))
    assert loaded.hash == encoder.hash and loaded.embed(["gout"]).equal(encoder.embed(["gout"]))


def test_vectors_do_not_depend_on_what_was_read_before():
    fresh, used = Encoder(*tiny_encoder()), Encoder(*tiny_encoder())
    texts = [document.text for document in load_clinic("test")[:4]]
    used.word_vectors(texts[::-1], (0, 2))
    for a, b in zip(fresh.word_vectors(texts, (0, 2)), used.word_vectors(texts, (0, 2))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layers", [(0,), (0, 4), (4, 0), (2, 2, 5), (6,), (-1,), (0, -3)])
def test_running_few_layers_gives_what_all_give(layers):
    encoder, text = shared_encoder(), load_clinic("test")[0].text
    ids = torch.tensor([encoder.pieces(text)[0]])
    run = []
    hooks = [layer.register_forward_hook(lambda *_: run.append(1)) for layer in encoder.model.encoder.layer]
    with torch.no_grad():
        some = encoder.hidden_layers(layers, input_ids=ids)
        count = len(run)
        every = encoder.model(input_ids=ids, output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    assert (some - torch.cat([every[layer] for layer in layers], -1)).abs().max() < 1e-6
    assert count == (6 if min(layers) < 0 else max(layers))


NAMES = ["asthma", "gout", "a", ""]


def kept(folder):
    return sorted(folder.iterdir()) if folder.exists() else []


def test_vectors_are_kept_only_when_asked_for_and_for_their_weights_and_texts_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path / "kept"))
    one, other = Encoder(*tiny_encoder()), Encoder(*tiny_encoder(1))
    fresh = one.embed(NAMES[:3])
    assert kept(tmp_path / "kept") == []
    assert torch.equal(one.embed(NAMES[:3], keep=True), fresh) and torch.equal(one.embed(NAMES[:3], keep=True), fresh)
    assert torch.equal(one.embed(NAMES[:2], keep=True), fresh[:2]) and len(kept(tmp_path / "kept")) == 2
    assert not torch.equal(other.embed(NAMES[:3], keep=True), fresh) and len(kept(tmp_path / "kept")) == 3
    assert one.embed([], keep=True).shape == (0, one.width)
    assert not any(b"asthma" in file.read_bytes() or "asthma" in file.name for file in kept(tmp_path / "kept")), "no text"


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-4], lambda data: data[:-1] + bytes([data[-1] ^ 1]),
                                    lambda data: bytes(32) + data[32:], lambda data: data + b"0"])
def test_a_damaged_file_is_worked_out_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path))
    encoder = Encoder(*tiny_encoder())
    fresh = encoder.embed(NAMES[:3], keep=True)
    [file] = kept(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert torch.equal(encoder.embed(NAMES[:3], keep=True), fresh) and kept(tmp_path) == [file] and file.read_bytes() == whole


def test_where_nothing_can_be_kept_nothing_is(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path / "a file" / "folder"))
    assert Encoder(*tiny_encoder()).embed(NAMES[:3], keep=True).shape == (3, 16) and (tmp_path / "a file").read_text(encoding="utf-8") == "mine"


def test_two_that_keep_the_same_at_once_leave_one_whole_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path))
    encoders = [Encoder(*tiny_encoder()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda encoder: encoder.embed(NAMES[:3], keep=True), encoders * 5))
    assert all(torch.equal(vectors, found[0]) for vectors in found) and len(kept(tmp_path)) == 1


def test_the_cache_is_the_users_own_unless_he_names_another(tmp_path, monkeypatch):
    for name in ("KGLEARN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache" / "kglearn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/kglearn")
    monkeypatch.setenv("KGLEARN_CACHE", "/mine")
    assert cache_folder() == Path("/mine")


# What an encoder cannot read

LONG = " ".join(["acid"] * 62)


@pytest.mark.parametrize("names", [
    ("asthma 热", "asthma 咳", "热 asthma"), ("哮喘", "肺炎", "哮 喘 x"), ("发热", "발열", "حمى", "سعال"), ("stage 3 ☃", "stage 3 ♞", "☃", "♞", "👩‍⚕️"),
    ("热-asthma", "咳-asthma"), ("asthma ☃x", "asthma ☃y"), ("がん", "かん", "ガン", "カン"), ("कु", "कि", "क"), ("asthma", "asthma \ue000", "asthma \ue001"),
    (LONG, f"{LONG} ester", f"{LONG} ether"), ("x" * 3000, "y" * 3000), ("", " ", "  ")])
def test_names_that_are_one_to_the_encoder_are_told_apart(names):
    encoder = shared_encoder()
    vectors = encoder.embed(names)
    assert torch.equal(vectors, torch.cat([encoder.embed([name]) for name in names])), "whatever else is read"
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(names)))
    assert (vectors @ vectors.T - 2 * torch.eye(len(names))).max() < 0.99


@pytest.mark.parametrize("name", ["asthma 热", "热-asthma", "哮喘", "がん", "कु", "stage 3 ☃", "asthma ☃x", f"{LONG} ester", "x" * 3000, "asthma \ue000", "", " "])
def test_a_name_with_one_word_that_is_not_read_is_not_readable(name):
    assert not shared_encoder().readable(name)


@pytest.mark.parametrize("name", ["asthma", "Ménière's disease", "Me\u0301nie\u0300re", "β-blocker", "Ёлка", "COVID-19 (2020)", "Größe", "かん", LONG])
def test_accents_and_case_are_no_loss_and_vectors_of_what_is_read_are_the_mean_of_the_pieces(name):
    encoder = shared_encoder()
    assert encoder.readable(name)
    with torch.no_grad():
        hidden = encoder.model(**encoder.tokenizer([name], return_tensors="pt")).last_hidden_state[0]
    assert torch.allclose(encoder.embed([name])[0], torch.nn.functional.normalize(hidden.mean(0), dim=0), atol=1e-5)


def test_what_is_read_in_part_lies_near_what_it_would_be_without():
    asthma, hot, gout = shared_encoder().embed(["asthma", "asthma 热", "gout"])
    assert asthma @ hot > 0.5 > gout @ hot


def test_kept_vectors_of_names_not_read_are_those_worked_out(tmp_path, monkeypatch):
    monkeypatch.setenv("KGLEARN_CACHE", str(tmp_path))
    encoder, names = shared_encoder(), ["asthma", "哮喘", "asthma 热"]
    fresh = encoder.embed(names)
    assert all(torch.equal(encoder.embed(names, keep=True), fresh) for _ in range(2)) and len(kept(tmp_path)) == 1


# What an encoder remembers

def test_word_vectors_are_dropped_in_the_order_they_were_asked_for():
    encoder = Encoder(*tiny_encoder(), most_bytes=4 * 32)  # a word has 16 numbers of 2 bytes
    first, = encoder.word_vectors(["fever"], (0,))
    for text in ("cough", "pain", "rash"):
        encoder.word_vectors([text], (0,))
    assert encoder.word_vectors(["fever"], (0,))[0] is first, "four fit"
    encoder.word_vectors(["itch"], (0,))
    assert [text for text, _ in encoder._word_vectors] == ["pain", "rash", "fever", "itch"]
    assert encoder._bytes == sum(vectors.nbytes for vectors in encoder._word_vectors.values()) == 128


def test_texts_that_do_not_fit_are_read_and_not_kept():
    small, large = Encoder(*tiny_encoder(), most_bytes=100), Encoder(*tiny_encoder())
    texts = ["fever and cough and pain", "rash", "fever and cough and pain", "itch"]
    for got, wanted in zip(small.word_vectors(texts, (0, 1)), large.word_vectors(texts, (0, 1))):
        assert torch.equal(got, wanted)
    assert small._bytes <= 100 and len(large._word_vectors) == 3


# Two files

class Crash(BaseException):
    "The machine stops."


def crashing(monkeypatch, steps):
    "From now on the machine stops at the step of that number: numbers half written, text half written, a file not yet in its place."
    left, written, synced = iter(range(steps, -1, -1)), safetensors.torch.save_file, os.fsync

    def torn(step):
        def doing(*args):
            if next(left):
                return step(*args)
            if step is written:
                Path(args[1]).write_bytes(b"half of")
            elif step is synced:
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            raise Crash
        return doing
    for where, name in ((os, "fsync"), (os, "replace"), (safetensors.torch, "save_file")):
        monkeypatch.setattr(where, name, torn(getattr(where, name)))


def crashed(folder, number, steps):
    "Whether a save of the halves that bear this number was stopped at that step."
    with pytest.MonkeyPatch.context() as monkeypatch:
        crashing(monkeypatch, steps)
        try:
            save_halves(folder, "mine", {"weights": torch.full((3,), float(number))}, {"number": number})
        except Crash:
            return True
    return False


def number_in(folder):
    "The number that the halves in a folder bear, both the same."
    numbers, number = load_halves(folder, "mine", lambda tensors, fields: (tensors["weights"].tolist(), fields["number"]))
    assert numbers == [number] * 3, "the halves of two"
    return number


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(7))
def test_a_crash_while_halves_are_written_leaves_the_old_two_or_the_new_two(tmp_path, first, second):
    "Stopped at any step, and at any step of the next try."
    assert not crashed(tmp_path, 1, 99)
    stopped = crashed(tmp_path, 2, first)
    between = number_in(tmp_path)
    assert between == (2 if first >= 4 else 1) and stopped == (first < 5)
    stopped = crashed(tmp_path, 3, second)
    assert number_in(tmp_path) in (between, 3) and (stopped or number_in(tmp_path) == 3)
    assert not crashed(tmp_path, 4, 99) and number_in(tmp_path) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"], "nothing is left beside them"


def test_a_crash_at_the_first_writing_is_named(tmp_path):
    assert crashed(tmp_path, 1, 3)
    with pytest.raises(BadInput, match="no such file: mine is two files"):
        load_halves(tmp_path, "mine", lambda tensors, fields: fields)
