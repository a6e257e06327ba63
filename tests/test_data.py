"""What no lesson of 01_data carries: properties over made-up texts, and files damaged at random."""
import gzip
import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import (
    BadInput,
    Document,
    Mention,
    Relation,
    parse_markup,
    read_dictionary,
    read_documents,
    read_jsonl,
    read_passages,
    read_pubtator,
)

PLAIN = st.text(st.characters(exclude_characters="[]()\r\n", exclude_categories=("Cs", "Cc")), max_size=20)
SURFACE = PLAIN.filter(lambda text: text.strip())
TYPE = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@st.composite
def documents(draw) -> Document:
    "A labelled document whose mentions do not overlap."
    text, mentions = draw(PLAIN), []
    for surface, type, gap in draw(st.lists(st.tuples(SURFACE, TYPE, PLAIN), max_size=4)):
        mentions.append(Mention(len(text), len(text) + len(surface), type, f"{type}:{surface.lower()}"))
        text += surface + gap
    return Document("a", text, "", "", tuple(mentions), ())


def marked(document: Document) -> str:
    text = document.text
    for mention in reversed(document.mentions):
        text = f"{text[:mention.start]}[{document.surface(mention)}]({mention.type}){text[mention.end:]}"
    return text


@given(documents())
def test_markup_round_trip(document):
    assert parse_markup(marked(document)) == (document.text, document.mentions)


@given(st.text(max_size=60))
def test_markup_of_any_text_gives_offsets_inside_it(text):
    plain, mentions = parse_markup(text)
    assert len(plain) <= len(text)
    end = 0
    for mention in mentions:
        assert end <= mention.start < mention.end <= len(plain)
        end = mention.end


@given(documents())
@FILES
def test_jsonl_round_trip(tmp_path, document):
    fields = {"id": document.id, "text": document.text, "relations": [],
              "mentions": [[m.start, m.end, m.type, m.entity] for m in document.mentions]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert list(read_jsonl(path)) == [document]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["text", "mentions", "relations", "id"]), inner)
        ),
        max_leaves=12,
    )
)
@FILES
def test_any_json_is_a_document_or_one_error(tmp_path, value):
    path = tmp_path / "any.jsonl"
    path.write_text(json.dumps(value), encoding="utf-8")
    [result] = read_jsonl(path)
    assert isinstance(result, Document) or "line 1" in str(result)


@pytest.mark.parametrize("suffix", [".txt", ".md", ".jsonl", ".pubtator", ".txt.gz", ".jsonl.gz", ".pubtator.gz"])
@given(content=st.binary(max_size=200))
@FILES
def test_any_bytes_give_documents_or_bad_input(tmp_path, suffix, content):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        found = read_documents(path, bad=[])
    except BadInput as error:
        assert path.name in str(error)
    else:
        assert all(isinstance(document, Document) for document in found)


@given(content=st.binary(max_size=200))
@FILES
def test_any_bytes_are_a_dictionary_or_bad_input(tmp_path, content):
    path = tmp_path / "any.tsv"
    path.write_bytes(content)
    for read in (read_dictionary, read_passages):
        try:
            read(path)
        except BadInput as error:
            assert "any.tsv" in str(error)


ABSTRACT = (
    "1|t|Fever after rifampicin\n1|a|A man was treated.\n1\t0\t5\tFever\tDisease\tD005334\n1\tCID\tD012293\tD005334\n"
)


@given(line=st.integers(0, 3), place=st.integers(0, 40), letter=st.sampled_from("x\t|9 \0é"))
@FILES
def test_a_damaged_pubtator_file_never_gives_shifted_labels(tmp_path, line, place, letter):
    lines = ABSTRACT.split("\n")
    lines[line] = lines[line][:place] + letter + lines[line][place + 1:]
    path = tmp_path / "a.pubtator"
    path.write_text("\n".join(lines), encoding="utf-8")
    bad = []
    try:
        found = read_documents(path, bad)
    except BadInput:
        return
    written = {line.split("\t")[3] for line in lines if line.count("\t") >= 4}  # the id may be missing
    assert {document.surface(mention) for document in found for mention in document.mentions} <= written


@pytest.mark.parametrize("name, content, says", [
    ("latin.txt", "ok\nnaïve".encode("latin-1"), "latin.txt, line 2: not UTF-8"),
    ("picture.txt", b"GIF89a\0\1", "picture.txt: holds binary data"),
    ("wide.txt", "fever".encode("utf-16"), "wide.txt: holds binary data"),
    ("cut.txt.gz", gzip.compress(b"many lines\n" * 99)[:-9], "a broken gzip file"),
    ("fake.txt.gz", b"plain", "a broken gzip file"),
    ("bits.txt.gz", gzip.compress(b"text")[:10] + b"\xff" * 20, "a broken gzip file"),
    ("a.pubtator", b"1|t|T\n1|a|A\nfree text\n", "a.pubtator, line 3: not a PubTator line"),
    ("b.pubtator", b"1\t0\t1\tT\tDisease\n", "b.pubtator, line 1: not a PubTator line"),
    ("c.pubtator", b"1|t|T\n1\tx\t1\tT\tDisease\n", "c.pubtator, line 2: not a PubTator line"),
    ("a.jsonl", b'{"text": "a"}\n{"text"\n', "a.jsonl, line 2: not JSON"),
    ("b.jsonl", b'{"title": "a"}\n', 'b.jsonl, line 1: needs a JSON object with a string "text"'),
    ("c.jsonl", b'{"text": "a", "mentions": [[0, 9, "t"]]}\n', "c.jsonl, line 1: mention 0-9 lies outside"),
    ("empty.txt", b"", "no document with any text"),
    ("notes.docx", b"PK", "nothing to read"),
])
def test_a_broken_file_is_named_with_its_line_and_can_be_collected(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_documents(tmp_path / name)
    assert says in str(caught.value) and name in str(caught.value)
    (tmp_path / "fine.txt").write_text("Fine.", encoding="utf-8")
    bad = []
    found = read_documents(tmp_path, bad)
    assert "Fine." in [document.text for document in found]
    assert len(bad) == (0 if name in ("empty.txt", "notes.docx") else 1)


def test_paths_that_are_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput, match="check the path|nothing to read"):
            read_documents(path)


def test_ids_do_not_collide(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "note.txt").write_text(folder, encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "c", "id": "a/note"}\n{"text": "d"}', encoding="utf-8")
    assert [document.id for document in read_documents(tmp_path)] == ["a/note", "b/note", "a/note#2", "c-2"]


def test_pubtator_mentions_agree_with_their_surfaces(tmp_path):
    path = tmp_path / "a.pubtator"
    path.write_text(ABSTRACT, encoding="utf-8")
    [document] = read_pubtator(path)
    assert [document.surface(mention) for mention in document.mentions] == ["Fever"]
    assert document.relations == (Relation("D012293", "CID", "D005334"),)
