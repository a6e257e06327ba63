"""What no lesson of 01_data carries: properties over made-up texts, and files damaged at random."""
import gzip
import json
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import (
    BadInput,
    Document,
    Mention,
    Relation,
    markdown_text,
    parse_markup,
    read_dictionary,
    read_documents,
    read_jsonl,
    read_passages,
    read_pubtator,
    unwrap,
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


# Lines that were wrapped

LETTER = ("Since the autumn she has been taking metformin for her diabetes, and the\n"
          "nausea is gone. She was not seen by Dr Smith and his colleagues from the\n"
          "Eye Clinic, and will come again.")
ONE_LINE = LETTER.replace("\n", " ")


@pytest.mark.parametrize("text, wanted", [
    (LETTER, ONE_LINE),
    (f"Re: Ms Jones\n{LETTER}\n\n{LETTER}\nYours", f"Re: Ms Jones\n{ONE_LINE}\n\n{ONE_LINE}\nYours"),
    (LETTER.replace("\n", "  \n "), LETTER.replace("\n", "  \n ")),
    (f"- {LETTER}".replace("\n", "\n  "), f"- {ONE_LINE}"),
    (f"- {LETTER}\n- {LETTER}\n1. {LETTER}", f"- {ONE_LINE}\n- {ONE_LINE}\n1. {ONE_LINE}"),
    (f"  {LETTER}", f"  {ONE_LINE}"),
    (LETTER.replace("\nEye", " Eye"), LETTER.replace("\nEye", " Eye").replace("\n", " ")),
    (LETTER.replace("\nnausea", ".\nnausea"), LETTER.replace("\nnausea", ".\nnausea")),
    (LETTER.replace("and the\n", "and the  \n"), ONE_LINE),
    (f"{LETTER}\n\n{LETTER}".replace("the\nnausea", "the strange\nnausea", 1), f"{ONE_LINE.replace('the nausea', 'the strange nausea')}\n\n{ONE_LINE}"
     .replace("the Eye", "the\nEye", 1)),
    (f"{LETTER}\n\nHe asked for a letter that can be shown to the people of the\nEye Clinic.", f"{ONE_LINE}\n\n"
     "He asked for a letter that can be shown to the people of the\nEye Clinic."),
    (f"{LETTER}\n\nHe asked for another letter that can be shown to all the people of the\nEye Clinic.", f"{ONE_LINE}\n\n"
     "He asked for another letter that can be shown to all the people of the Eye Clinic."),
], ids=range(12))
def test_wrapped_lines_are_one(text, wanted):
    assert unwrap(text) == wanted


COLUMNS = "The first of the columns of a table that is wide    100\nand the second of its rows, which goes on so      200"
LOG = "2024-03-05 10:00:00 INFO the file of the first patient has been read\n2024-03-05 10:00:01 INFO and the next one"


@pytest.mark.parametrize("text", [
    "Fever\nCough\nrash", "Gout\nIt hurts in the night, and then the toe is red and swollen for a week or so.", COLUMNS, COLUMNS.replace("    ", "\t"),
    COLUMNS.replace("  ", " | "), COLUMNS.replace("      200", " and ends"), COLUMNS.replace("    100", " and ends"), LETTER.replace("\n", "\na) "), LOG, LETTER.replace("\n", "\n    "), LETTER.replace("\n", "\n- "),
    LETTER + " " + "x" * 121, "Two titles of papers, each in a line of more than fifty signs\nSecond of the two titles, which has no end",
    "He asked what to take for the pain, how often, and for how long:\naspirin", "", "\n \n", "x" * 10**6, "a\n" * 10**5,
], ids=range(18))
def test_lines_that_were_put_there_on_purpose_stay(text):
    assert unwrap(text) == text


def test_words_cut_at_the_end_of_a_line_and_scripts_without_spaces():
    wide = "Salbutamol opens the airways of the lungs within ten min-\nutes, and beta-blockers close them again, as do the beta-\nblockers of eye drops."
    assert unwrap(wide) == ("Salbutamol opens the airways of the lungs within ten minutes, and beta-blockers close them again, as do the "
                            "beta-blockers of eye drops.")
    line = "患者因反复发热三天伴咳嗽咳痰就诊于我院呼吸科门诊"
    assert unwrap(f"病历\n{line}，\n{line}。\n{line}") == f"病历\n{line}，{line}。{line}"
    assert unwrap(f"{line}检查\n{line}") == f"{line}检查{line}" and unwrap("发热\n三天") == "发热\n三天"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=90), max_size=6).map("\n".join))
def test_unwrapping_loses_no_sign_but_hyphens_and_white_space(text):
    def signs(some):
        return "".join(some.replace("-", "").split())
    assert signs(unwrap(text)) == signs(text) and unwrap(text).count("\n") <= text.count("\n")


# Markdown

@pytest.mark.parametrize("marked, wanted", [
    ("see [the *graph*](10_graph.ipynb) here", "see the graph here"), ("[graph][1]\n\n[1]: https://x.example 'title'", "graph"),
    ("![a **toe**](toe.png)", "a toe"), ("![](data:image/svg+xml;base64,AAAA)", ""), ("[![a](b)](c) d", "a d"),
    ("**bold** _thin_ ~~gone~~ snake_case 2 * 3 * 4", "bold thin gone snake_case 2 * 3 * 4"), (r"\*no\* &amp; &lt;", "*no* & <"),
    ("Gout\n====\nhurts\nat night  \nand\\\nby day", "Gout\n\nhurts at night\n\nand\n\nby day"),
    ("1. one\n   goes on\n2. two\n   - in\n> quoted\n> text", "one goes on\n\ntwo\n\nin\n\nquoted text"),
    ("|a|b|\n|-|-|\n|c `d`|e\\|f|", "a\n\nb\n\nc d\n\ne|f"), ("use `kg.facts()` now", "use kg.facts() now"),
    ("a\n\n```python\ncode\n```\n\n    code\n\n~~~\ncode", "a"), ("a <b>b</b><br>c <!-- d --> <img src=x>", "a b\n\nc"),
    ("<div class='x'><p>one</p>\n<p>two\nlines</p></div>\n<!-- no -->", "one\n\ntwo lines"), ("<style>x</style>\n\n<script>\nx\n</script>\nend", "end"),
    ("the sum $a_i + b$, or\n$$\n\\frac{a *b* c}{d}\n$$\nin all", "the sum, or in all"), ("from $5 to $10, US$5-$10 or $ 3 $", "from $5 to $10, US$5-$10 or $ 3 $"),
    (r"a \$b$ c", "a $b$ c"), ("`$x$` is code", "$x$ is code"), ("患者发热，\n咳嗽 flu\n三天", "患者发热，咳嗽 flu 三天"), ("---\n\na\n\n***", "a"), ("", ""),
])
def test_the_prose_of_markdown(marked, wanted):
    assert markdown_text(marked) == wanted


def test_front_matter_is_no_text(tmp_path):
    for name, top in {"a": "---\ntitle: Gout\ntags:\n  - toe\n---\n", "b": "---\n\nA rule.\n\n---\n\n", "c": "---\ntitle: never closed\n\n"}.items():
        (tmp_path / f"{name}.md").write_text(f"{top}Beer.", encoding="utf-8")
    assert [document.text for document in read_documents(tmp_path)] == ["Beer.", "A rule.\n\nBeer.", "title: never closed\n\nBeer."]


@pytest.mark.parametrize("marked, kept", [
    ("[" * 10**6, 10**6), ("![*a " * 200_000, None), ("[" * 10**5 + "]" * 10**5, 2 * 10**5), ("> " * 10**5 + "a", 0), ("- " * 20_000 + "a", 0),
    ("".join("  " * depth + "- a\n" for depth in range(20)), None), ("*a " * 200_000, None), ("<" * 10**6, 10**6), ("a <b " * 200_000, None),
    ("<div " + "x" * 10**6, None), ("<!--" * 250_000, 0), ("a <![CDATA[" * 90_000, None), ("$a " * 300_000, None), ("$$a" * 300_000, 150_000), ("\0" * 10**5, 10**5),
    ("a|b\n-|-\n" + "c\n" * 50_000, None), ("x" * 10**6, 10**6), ("`" * 10**6, None), ("\\" * 10**6, 10**6 // 2), ("&#0;&#xD800;&#1;", None),
], ids=range(20))
def test_markdown_made_to_be_slow(marked, kept):
    begun = time.perf_counter()
    text = markdown_text(marked)
    assert time.perf_counter() - begun < 20
    assert kept is None or len(text) == kept
    text.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.lists(st.sampled_from(
    ["[", "](", ")", "![", "*", "_", "`", "```", "\n", "\n\n", "> ", "- ", "$", "$$", "<b>", "<div>", "<!--", "|", "-|-", "a", "\\", "&amp;"]), max_size=40).map("".join))
def test_any_text_is_markdown(text):
    found = markdown_text(text)
    assert "\r" not in found and found == found.strip() and all(block == " ".join(block.split()) and block for block in found.split("\n\n") if found)


def test_a_greek_letter_alone_is_part_of_a_name_and_other_formulas_are_left_out():
    assert markdown_text(r"$\beta$-blockers, $x^2$ pills, $\frac$ of them, for $5 to $10.") == "β-blockers, pills, of them, for $5 to $10."
