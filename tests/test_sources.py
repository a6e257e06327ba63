"""What no lesson of sources should carry: any bytes, bombs, hostile names, encodings, other makers' PDFs, the extra."""
import gzip
import io
import json
import re
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace

import pypdf
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import kglearn.cli
from kglearn.data import BadInput, Document
from kglearn.graph import KnowledgeGraph
from kglearn.sources import FORMATS, KINDS, iso_date, read_sources

FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
each = pytest.mark.parametrize

BLOG = """<!DOCTYPE html><html><head><title>Gout and beer - Ash</title><meta name=generator content="Ghost 5">
<meta name=date content="2024-03-05"></head><body><nav><a href=/>Home</a></nav><header>Ash writes</header>
<main><h1>Gout and beer</h1><p>Beer raises <em>urate</em>.</p><ol><li>Less beer.</li><li>More water.</li></ol></main>
<footer>aspirin</footer></body></html>"""
GUIDELINE = """<html><head><title>Asthma</title><script type="application/ld+json">
[{"@type": "WebSite"}, {"@type": ["Article", "MedicalGuideline"], "datePublished": "2023-11-02T00:00"}]</script></head>
<body><article><h1>Asthma</h1><h2>Diagnosis</h2><p>Offer spirometry.</p><table><tr><th>Drug</th><th>Dose</th></tr>
<tr><td>Salbutamol</td><td>100 micrograms</td></tr></table></article></body></html>"""
PATENT = """<html><head><meta name="DC.type" content="patent"><meta name="citation_patent_number" content="US:1">
<meta name="DC.title" content="Inhaler"><meta name="DC.date" content="2019-05-02"></head><body>
<h1>Inhaler</h1><section><h2>Claims</h2><div>1. An inhaler that counts.</div></section></body></html>"""
JATS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving and Interchange DTD v1.2//EN" "JATS.dtd">
<article xmlns:mml="http://www.w3.org/1998/Math/MathML" article-type="guideline">
<front><journal-meta><journal-id>J</journal-id></journal-meta>
<article-meta><article-id pub-id-type="pmcid">PMC99</article-id><article-id pub-id-type="pmid">42</article-id>
<title-group><article-title>Wheeze in <bold>children</bold></article-title></title-group>
<pub-date pub-type="ppub"><month>5</month><year>2024</year></pub-date>
<pub-date date-type="pub"><day>2</day><month>03</month><year>2024</year></pub-date>
<abstract abstract-type="graphical"><p>A picture.</p></abstract>
<abstract><sec><title>Aim</title><p>To treat wheeze.</p></sec></abstract></article-meta></front>
<body><p>First, &#945;-agonists [<xref ref-type="bibr" rid="r1">1</xref>].</p>
<sec><label>2</label><title>Methods</title>
<p>Second <xref ref-type="fig">Figure 1</xref>,
<inline-formula><mml:math><mml:mi>x</mml:mi></mml:math></inline-formula>.</p>
<fig><caption><p>Third.</p></caption></fig><table-wrap><table><tr><td>no</td></tr></table></table-wrap></sec></body>
<back><ref-list><ref><mixed-citation>Smith</mixed-citation></ref></ref-list></back>
<sub-article><body><p>A reviewer.</p></body></sub-article></article>"""
PUBMED = """<?xml version="1.0"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN"
 "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_190101.dtd">
<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version="1">7</PMID><Article><Journal><JournalIssue><PubDate>
<MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue></Journal>
<ArticleTitle>Gout.</ArticleTitle><Abstract>
<AbstractText Label="AIM" NlmCategory="OBJECTIVE">To see.</AbstractText>
<AbstractText>We saw H<sub>2</sub>O.</AbstractText>
</Abstract></Article></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>8</PMID>
<Article><ArticleTitle>Flu.</ArticleTitle><ArticleDate><Year>2020</Year><Month>01</Month>
<Day>31</Day></ArticleDate></Article></MedlineCitation></PubmedArticle>
<PubmedBookArticle><BookDocument><PMID>9</PMID>
<Book><BookTitle>Rare ills</BookTitle><PubDate><Year>2001</Year></PubDate></Book>
<ArticleTitle>Ménière</ArticleTitle><Abstract><AbstractText>Dizzy.</AbstractText></Abstract></BookDocument>
</PubmedBookArticle></PubmedArticleSet>"""
ATOM = """<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Ash</title>
<entry><id>tag:ash,2024:1</id><title type="html">Gout &amp;amp; beer</title><published>2024-03-05T23:00:00Z</published>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>Beer.</p><p>Urate.</p></div></content></entry>
<entry><title>No id</title><updated>2024-04-01T00:00:00Z</updated>
<summary>Plain &lt;b&gt;text&lt;/b&gt;.</summary></entry></feed>"""
BIB = r"""@string{j = "Journal"}
@article{ash, title = {The {COVID} year in Z{\"u}rich}, journal = j, year = 2021, month = feb, pmid = {77},
  abstract = {One.

Two $\alpha$.}}
@techreport{rep, title = {Wheeze}, date = {2020-05-06}}
@misc{web, title = {Something}}"""
NOTEBOOK = json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Doses\n", "Low."]},
                                 {"cell_type": "code", "source": "x = 1  # code"},
                                 {"cell_type": "raw", "source": "raw"},
                                 {"cell_type": "markdown", "source": "High."}], "nbformat": 4})
PUBTATOR = "1|t|Fever\n1|a|A man.\n1\t0\t5\tFever\tDisease\tD005334\n"


def printed(*pages: str) -> bytes:
    "A PDF by matplotlib, with the text of each page in an embedded font."
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure
    from matplotlib import rc_context
    file = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}), PdfPages(file, metadata={"CreationDate": None}) as pdf:
        for page in pages:
            figure = Figure(figsize=(6, 8))
            figure.text(0.1, 0.9, page, va="top")
            pdf.savefig(figure)
    return file.getvalue()


PDF = printed(
    "Salbutamol opens the airways within min-\nutes, and Ménière was not asthmatic µg α.\nShort.", "New page.")


def put(folder, **files):
    "Files of a folder by name; two underscores stand for the dot."
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return folder


# What each kind gives


@each("name, content, wanted", [
    ("a.html", BLOG, [Document(
        "a.html", "Gout and beer\n\nBeer raises urate.\n\nLess beer.\n\nMore water.", "blog", "2024-03-05")]),
    ("a.htm", GUIDELINE, [Document(
        "a.htm", "Asthma\n\nDiagnosis\n\nOffer spirometry.\n\nDrug | Dose\n\nSalbutamol | 100 micrograms",
        "guideline", "2023-11-02")]),
    ("a.xhtml", PATENT, [Document(
        "a.xhtml", "Inhaler\n\nClaims\n\n1. An inhaler that counts.", "patent", "2019-05-02")]),
    ("a.pdf", PDF, [Document(
        "a.pdf", "Salbutamol opens the airways within minutes, and Ménière was not asthmatic µg α. Short.\n\nNew page.",
        "document", "")]),
    ("a.nxml", JATS, [Document(
        "42", "Wheeze in children\n\nAim\n\nTo treat wheeze.\n\nFirst, α-agonists.\n\nMethods\n\n"
        "Second Figure 1, .\n\nThird.",
        "guideline", "2024-03-02")]),
    ("a.xml", PUBMED, [Document("7", "Gout.\n\nAIM: To see.\n\nWe saw H2O.", "paper", "1998"),
                       Document("8", "Flu.", "paper", "2020-01-31"),
                       Document("9", "Ménière\n\nDizzy.", "book", "2001")]),
    ("a.bib", BIB, [Document("77", "The COVID year in Zürich\n\nOne.\n\nTwo α.", "paper", "2021-02"),
                    Document("a.bib/rep", "Wheeze", "report", "2020-05-06"),
                    Document("a.bib/web", "Something", "document", "")]),
    ("a.ipynb", NOTEBOOK, [Document("a.ipynb", "Doses\n\nLow.\n\nHigh.", "notebook", "")]),
    ("a.txt", "Fever.\n", [Document("a", "Fever.", "note", "")]),
    ("a.md", "---\nurl: x\n---\n# Fever\n- [rest](a.md)\n  *helps*\n", [Document("a", "Fever\n\nrest helps", "note", "")]),
    ("a.jsonl", '{"text": "x", "source": "leaflet"}\n{"text": "y"}',
     [Document("a-1", "x", "leaflet", ""), Document("a-2", "y", "document", "")]),
])
@each("packed", [False, True])
def test_what_each_kind_gives(tmp_path, name, content, wanted, packed):
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    (tmp_path / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    assert read_sources(tmp_path) == wanted


@each("name", ["a.atom", "a.rss", "a.xml"])
def test_a_feed(tmp_path, name):
    (tmp_path / name).write_text(ATOM, encoding="utf-8")
    first, second = read_sources(tmp_path / name)
    assert (first.id, first.text, first.date) == ("tag:ash,2024:1", "Gout & beer\n\nBeer.\n\nUrate.", "2024-03-05")
    assert (second.text, second.date) == ("No id\n\nPlain text.", "2024-04-01")
    assert re.fullmatch(rf"{re.escape(name)}#[0-9a-f]{{16}}", second.id) and second == read_sources(tmp_path / name)[1]
    assert first.source == second.source == "blog"


def test_labels_come_along(tmp_path):
    put(tmp_path, a__pubtator=PUBTATOR)
    [document] = read_sources(tmp_path)
    assert document.surface(document.mentions[0]) == "Fever" and document.source == "paper"


def test_every_ending_has_a_kind_and_a_reader():
    from kglearn.sources import _READERS
    assert set(_READERS) == set(FORMATS) and {kind for kind, _ in FORMATS.values()} <= set(KINDS)


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",)), max_size=80).filter(str.strip))
@example("a\n\nb\n")
@FILES
def test_the_text_of_a_text_file_is_its_text_where_no_line_was_wrapped(tmp_path, text):
    assume(max(map(len, text.split("\n"))) < 25)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    assert read_sources(tmp_path / "a.txt")[0].text == text.removeprefix("\ufeff").removesuffix("\n")


LINES = st.text("abc <>&\"'é發α", min_size=1, max_size=9).map(lambda text: " ".join(text.split())).filter(bool)


@given(st.lists(LINES, min_size=1, max_size=6))
@FILES
def test_paragraphs_keep_their_order_and_letters_in_html_and_jats(tmp_path, paragraphs):
    from html import escape
    inside = "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in paragraphs)
    put(tmp_path, a__html=f"<meta charset=utf-8><body>{inside}",
        a__nxml=f"<article><front><article-meta/></front><body>{inside}</body></article>")
    page, article = read_sources(tmp_path)
    assert page.text == article.text == "\n\n".join(paragraphs)


# Dates and kinds


@each("written, wanted", [
    ("2024", "2024"), ("2024-3", "2024-03"), ("2024/03/05", "2024-03-05"), ("2024-03-05 11:00", "2024-03-05"),
    ("20240305", "2024-03-05"),
    ("D:20240305110000+01'00'", "2024-03-05"), ("2024 Mar 5", "2024-03-05"), ("2024-Mar-05", "2024-03-05"),
    ("2024 March", "2024-03"),
    ("5 March 2024", "2024-03-05"), ("Sept. 3, 2024", "2024-09-03"), ("May 2024", "2024-05"),
    ("Tuesday, 5-Mar-2024", "2024-03-05"),
    ("2024 Winter", "2024"), ("1998 Dec-1999 Jan", "1998-12"), ("2024-02-31", ""), ("03/05/2024", ""),
    ("tomorrow", ""), ("", ""),
    ("20241", ""), ("2024-00-01", ""), ("99999-01-01", ""), ("٢٠٢٤", "")])
def test_dates(written, wanted):
    assert iso_date(written) == wanted


@given(st.text(max_size=40) | st.dates().map(str))
def test_a_date_is_iso_or_empty(written):
    assert re.fullmatch(r"(\d{4}(-\d\d(-\d\d)?)?)?", iso_date(written))


@given(st.dates())
def test_an_iso_date_stays(day):
    assert iso_date(day.isoformat()) == day.isoformat()
    assert iso_date(f"D:{day.isoformat().replace('-', '')}") == day.isoformat()
    assert iso_date(f"{day:%b} {day.day}, {day.year:04}") == day.isoformat()


def test_a_folder_tells_the_kind_where_the_file_does_not(tmp_path):
    for where in ("guidelines/old", "Patents", "web_pages"):
        (tmp_path / where).mkdir(parents=True)
    put(tmp_path / "guidelines/old", a__pdf=PDF, b__nxml=JATS.replace("guideline", "research-article"))
    put(tmp_path / "Patents", c__txt="An inhaler.", d__html=BLOG)
    put(tmp_path / "web_pages", e__txt="A page.")
    kinds = [document.source for document in read_sources(tmp_path)]
    assert kinds == ["patent", "blog", "guideline", "paper", "web page"]
    assert read_sources(tmp_path / "guidelines")[0].source == "guideline", "the folder that was given counts too"
    assert read_sources(tmp_path / "Patents" / "c.txt")[0].source == "patent"


def test_the_nearest_folder_counts(tmp_path):
    for where in ("papers/guidelines", "guidelines/papers"):
        (tmp_path / where).mkdir(parents=True)
        put(tmp_path / where, a__pdf=PDF)
    kinds = {document.id: document.source for document in read_sources(tmp_path)}
    assert kinds == {"papers/guidelines/a.pdf": "guideline", "guidelines/papers/a.pdf": "paper"}


def test_entries_of_a_feed_follow_their_folder(tmp_path):
    (tmp_path / "papers").mkdir()
    put(tmp_path / "papers", a__rss=ATOM)
    assert {document.source for document in read_sources(tmp_path)} == {"paper"}


# Identity


def test_an_article_that_is_there_twice_is_one_witness(tmp_path):
    put(tmp_path, a__xml=PUBMED, b__xml=PUBMED, c__xml=PUBMED.replace("To see.", "To be."), d__html=BLOG)
    bad = []
    assert [document.id for document in read_sources(tmp_path, bad)] == ["7", "8", "9", "d.html"]
    assert len(bad) == 1 and "c.xml: '7' was read before with another text" in str(bad[0])
    with pytest.raises(BadInput, match="take one of them out"):
        read_sources(tmp_path)


def bib(title="Gout", **ids):
    "A bibliography of one entry."
    return f"@article{{key, title={{{title}}}, {', '.join(f'{key}={{{id}}}' for key, id in ids.items())}}}"


def test_a_paper_by_its_pmid_and_by_its_doi_is_one_document_where_a_file_has_both(tmp_path):
    put(tmp_path, a__bib=bib(doi="10.1000/GOUT"), b__bib=bib(pmid="7", doi="10.1000/gout"), c__bib=bib(pmid="7"), d__bib=bib(doi="10.1000/other"))
    assert [document.id for document in read_sources(tmp_path)] == ["doi:10.1000/gout", "doi:10.1000/other"]
    assert [document.id for document in read_sources([tmp_path / "b.bib", tmp_path / "a.bib"])] == ["7"], "the id that was read first"
    assert [document.id for document in read_sources([tmp_path / "a.bib", tmp_path / "c.bib"])] == ["doi:10.1000/gout", "7"], "no file has both"
    put(tmp_path, e__bib=bib("Gout, revised", doi="10.1000/gout"))
    bad = []
    assert len(read_sources([tmp_path / "b.bib", tmp_path / "e.bib"], bad)) == 1
    assert "e.bib: 'doi:10.1000/gout', which is '7', was read before with another text" in str(bad[0])


def test_pubmed_gives_the_doi_beside_the_pmid(tmp_path):
    listed = "<PubmedData><ArticleIdList><ArticleId IdType='doi'>10.1000/Gout</ArticleId><ArticleId IdType='pubmed'>7</ArticleId></ArticleIdList></PubmedData>"
    article = "<MedlineCitation><PMID>7</PMID><Article><ArticleTitle>Gout</ArticleTitle></Article></MedlineCitation>"
    put(tmp_path, a__xml=f"<PubmedArticleSet><PubmedArticle>{article}{listed}</PubmedArticle></PubmedArticleSet>", b__bib=bib(doi="10.1000/gout"))
    [document] = read_sources(tmp_path)
    assert (document.id, document.other_ids) == ("7", ("doi:10.1000/gout",))


def test_two_papers_that_share_a_doi_stay_two(tmp_path):
    put(tmp_path, a__bib=bib("A letter", pmid="7", doi="10.1000/gout"), b__bib=bib("The reply", pmid="8", doi="10.1000/gout"))
    assert [document.id for document in read_sources(tmp_path)] == ["7", "8"]


def test_ids_do_not_depend_on_where_the_folder_lies_or_what_else_is_in_it(tmp_path):
    def ids(folder):
        return {document.id for document in read_sources(folder)}
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        put(tmp_path / name / "sub", a__html=BLOG, a__pdf=PDF, a__bib=BIB, a__atom=ATOM, a__ipynb=NOTEBOOK)
    before = ids(tmp_path / "one")
    assert before == ids(tmp_path / "two")
    assert {"sub/a.html", "sub/a.pdf", "sub/a.ipynb", "sub/a.bib/rep", "77"} < before
    put(tmp_path / "one" / "sub", a__htm=GUIDELINE, A__html=PATENT)
    assert before < ids(tmp_path / "one"), "what is added changes no other id"


HOSTILE = ["../../escape", "..\\..\\escape", "/etc/passwd", "'; DROP TABLE document; --", "<script>alert(1)</script>",
           "a\nb", "x" * 10**6,
           "${jndi:ldap://x}", "..", "con/../..", "\u202eevil", "%2e%2e/"]


@each("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_identifiers_do_no_harm(tmp_path, name):
    from html import escape
    inside = tmp_path / "in"
    inside.mkdir()
    put(inside, a__atom=ATOM.replace("tag:ash,2024:1", escape(name)), b__bib=f"@misc{{{name[:100]}, title={{x}}}}",
        c__nxml=JATS.replace(">42<", f">{escape(name)}<").replace("PMC99", escape(name)))
    bad, kg = [], KnowledgeGraph()
    for document in read_sources(inside, bad):
        parts = document.id.split("/")
        assert not document.id.startswith("/") and not {".", ".."} & set(parts) and "\\" not in document.id
        assert 0 < len(document.id) <= 200 and not re.search(r"\s|[\0-\x1f]", document.id)
        kg.add_document(document)
        assert kg.document(document.id) == document
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["a.atom", "b.bib", "c.nxml", "in"], "nothing was written"


@each("name", ["<img src=x onerror=alert(1)>.html", "'; DROP TABLE document; --.html", "a b\tc.html",
                       "%00.html", "發熱.html", "-rf.html"])
def test_hostile_names_of_files_do_no_harm(tmp_path, name):
    (tmp_path / name).write_text(BLOG, encoding="utf-8")
    [document] = read_sources(tmp_path)
    assert document.id == name
    kg = KnowledgeGraph()
    kg.add_document(document)
    assert kg.documents() == [name]


# Broken and hostile files


def laughs(root: str = "article", encoding: str = "utf-8") -> bytes:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return (f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE {root} [<!ENTITY l0 "lol">{levels}]>'
            f"<{root}><channel><item><title>&l9;</title></item></channel></{root}>").encode(encoding)


OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE article [<!ENTITY x SYSTEM "%s">]><article><body><p>&x;</p></body></article>'
PARAMETER = b'<!DOCTYPE article [<!ENTITY %% x SYSTEM "file:///etc/passwd"> %%x;]><article/>'.replace(b"%%", b"%")
QUADRATIC = f'<!DOCTYPE article [<!ENTITY x "{"a" * 50_000}">]><article><p>{"&x;" * 50_000}</p></article>'.encode()


@each("name", ["a.xml", "a.nxml", "a.rss", "a.atom", "a.xml.gz"])
@each("content", [laughs(), laughs("rss"), laughs("feed", "utf-16"), OUTSIDE % b"file:///etc/passwd",
                  OUTSIDE % b"http://127.0.0.1:9/", PARAMETER,
                  QUADRATIC, QUADRATIC.replace(b"article", b"rss")], ids=range(8))
def test_xml_bombs(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    begun = time.perf_counter()
    with pytest.raises(BadInput, match=f"{name}, line 1: declares entities"):
        read_sources(tmp_path)
    assert time.perf_counter() - begun < 5


def test_a_feed_that_is_broken_before_and_declares_entities_after(tmp_path):
    "feedparser gets only what has no entity in it, even where our parser gave up before it came to them."
    (tmp_path / "a.rss").write_bytes(b"<rss><oops></rss>" + laughs("rss").partition(b"?>")[2])
    with pytest.raises(BadInput, match="a.rss"):
        read_sources(tmp_path)


@each("name, content, says", [
    ("a.xml", "<svg/>", "neither JATS nor PubMed nor a feed, but <svg>"), ("b.xml", "", "not XML"),
    ("c.xml", "plain", "c.xml, line 1: not XML"),
    ("d.xml", "<article><front>", "not XML"),
    ("e.xml", '<?xml version="1.0" encoding="klingon"?><article/>', "encoding"),
    ("f.xml", "<PubmedArticleSet/>", "neither JATS"), ("g.xml", "<a>" * 300, "more than 200 elements"),
    ("h.xml", "<article><p>&nbsp;</p></article>", "undefined entity"), ("i.xml", "<article>\0</article>", "not XML"),
    ("j.xml", b"<article>\xff</article>", "not XML"),
    ("k.xml", "<article><title>DocBook</title></article>", "article 1 has no <front>"),
    ("l.xml", "<rss/>", "a feed without entries"), ("o.rss", "<rss><title>&#xD800;<x></rss>", "a broken feed"),
    ("f.bib", "@misc{a, title={" + "{" * 2000 + "x" + "}" * 2000 + "}}", "LaTeX that cannot be read"),
    ("g.bib", "@misc{a, title={" + r"\'e" * 40_000 + "}}", "a field of more than 100,000 characters"),
    ("h.html", "<div><table><td></div></table>" * 60_000, "elements left open"),
    ("m.rss", "<html/>", "no feed, but <html>"),
    ("n.atom", "nothing", "not XML"),
    ("a.pdf", b"", "is empty"), ("b.pdf", b"%PDF-1.7\n", "a broken PDF"), ("c.pdf", PDF[:500], "a broken PDF"),
    ("d.pdf", BLOG, "a broken PDF"),
    ("e.pdf", printed(""), "run OCR first"), ("f.pdf", b"\0" * 999, "a broken PDF"),
    ("a.html", "", "is empty"), ("b.html", "<script>x</script>", "a page without text"),
    ("c.html", "<meta charset=utf-8>caf\xe9".encode("latin-1"), "is not utf-8"),
    ("d.html", "<meta charset=klingon>x", "'klingon', which is not known"), ("e.html", b"\xff\xfea", "is not utf-16"),
    ("f.html", "<div>" * 200_000, "200000 elements left open"),
    ("g.html", "<span><div></span></div>" * 100_000, "elements left open"),
    ("a.bib", "", "is empty"), ("b.bib", "no entry", "no BibTeX entry in it"),
    ("c.bib", "@misc{a, title={é}}".encode("latin-1"), "is not utf-8"),
    ("d.bib", "@misc{a, title={x}", "line 1: the entry is no BibTeX"),
    ("e.bib", "@misc{a, title={x}}\n@misc{a, title={y}}", "line 2: the entry is no BibTeX, or the second with its key"),
    ("a.ipynb", "", "is empty"), ("b.ipynb", "[]", "not a notebook"),
    ("c.ipynb", '{"cells": [{}]}', "not a notebook"), ("d.ipynb", '{"cells": []}', "no Markdown cell"),
    ("e.ipynb", '{"cells": [{"cell_type": "markdown", "source": 3}]}', "not a notebook"),
    ("f.ipynb", "{", "not a notebook"),
    ("a.html.gz", b"no gzip", "a broken gzip file"),
    ("a.xml.gz", gzip.compress(PUBMED.encode())[:-20], "a broken gzip file"),
    ("a.pdf.gz", gzip.compress(b" " * 100_000_001), "holds more than 100 MB"), ("a.docx", b"PK", "nothing to read"),
])
def test_broken_files_are_named_and_can_be_collected(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    begun = time.perf_counter()
    with pytest.raises(BadInput, match=says) as caught:
        read_sources(path)
    assert name in str(caught.value) and str(caught.value).count(": ") >= 2 and "\n" not in str(caught.value)
    put(tmp_path, zz__txt="Fine.")
    bad = []
    assert "Fine." in [document.text for document in read_sources(tmp_path, bad)]
    assert len(bad) == (not name.endswith("docx"))
    assert time.perf_counter() - begun < 20


@each("before, after", [("<pmc-articleset>", "</pmc-articleset>"),
                        ("<OAI-PMH xmlns='x'><record><metadata>", "</metadata></record></OAI-PMH>"),
                        ("<j:set xmlns:j='x'>", "</j:set>")])
def test_articles_inside_what_servers_answer(tmp_path, before, after):
    article = JATS[JATS.index("<article "):]
    other = article.replace(">42<", ">43<").replace("<article ", "<article xmlns='https://jats.nlm.nih.gov/ns/' ")
    put(tmp_path, a__xml=before + article + other + after)
    assert [document.id for document in read_sources(tmp_path)] == ["42", "43"]


def test_good_articles_before_a_break_are_kept(tmp_path):
    put(tmp_path, a__xml=PUBMED.replace("<PubmedBookArticle>", "<oops>"))
    bad = []
    assert [document.id for document in read_sources(tmp_path, bad)] == ["7", "8"]
    assert "line 16: not XML" in str(bad[0])


@each("password, opens", [("", True), ("secret", False)])
def test_encrypted_pdf(tmp_path, password, opens):
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(PDF)))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    writer.write(tmp_path / "a.pdf")
    if opens:
        assert read_sources(tmp_path)[0].text.startswith("Salbutamol opens")
    else:
        with pytest.raises(BadInput, match="a.pdf: is encrypted with a password"):
            read_sources(tmp_path)


def test_aes_without_the_library_that_opens_it(tmp_path, monkeypatch):
    def needs(*_):
        raise pypdf.errors.DependencyError("cryptography>=3.1 is required for AES algorithm")
    monkeypatch.setattr(pypdf, "PdfReader", needs)
    put(tmp_path, a__pdf=PDF)
    with pytest.raises(BadInput, match="pip install cryptography"):
        read_sources(tmp_path)


LONG = "x" * 10**6


@each("name, content", [
    ("a.html", f"<p>{LONG}</p>"), ("b.html", f'<p title="{LONG}">{LONG}</p><{LONG}>'),
    ("a.xml", PUBMED.replace("To see.", LONG)),
    ("b.xml", PUBMED.replace("NlmCategory=", f'x="{LONG * 8}" NlmCategory=')),
    ("a.nxml", JATS.replace("children", LONG)), ("a.atom", ATOM.replace("Beer.", LONG)),
    ("a.bib", f"@misc{{a, title={{{LONG}}}}}"), ("b.bib", f"@misc{{{LONG}, title={{a}}}}"),
    ("c.bib", "@misc{a, title={" + "{" * 10**5 + "}" * 10**5 + "}}"),
    ("d.bib", "@misc{a, title={" + r"\'e{a}" * 12_000 + "}}"), ("a.ipynb", NOTEBOOK.replace("Low.", LONG)),
    ("b.ipynb", NOTEBOOK.replace("Low.", f"![](data:image/svg+xml;base64,{LONG * 5})")), ("c.ipynb", NOTEBOOK.replace("Low.", "[" * 10**6)),
    ("a.md", LONG), ("b.md", f"[a]({LONG}) " * 3), ("a.txt", LONG), ("b.txt", f"{'a' * 60}\n{'b' * 60}\n" * 10_000), ("c.html", "<ul>" * 2000 + LONG), ("d.html", "<meta charset" * 300 + LONG),
    ("e.html", "<p><a href=x>a</a>" * 50_000),
    ("b.atom", ATOM.replace("Plain", "&amp;" * 300_000))])
def test_words_of_a_megabyte_take_seconds_at_most(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    begun = time.perf_counter()
    try:
        read_sources(tmp_path, [])
    except BadInput as error:
        assert name in ("a.bib", "c.bib", "d.html") and len(str(error)) < 1000
    assert time.perf_counter() - begun < 20


def test_a_large_file_of_abstracts_is_read_one_by_one(tmp_path):
    head, _, rest = PUBMED.partition("<PubmedArticle>")
    body = rest.partition("</PubmedArticle>")[0].replace("To see.", "To see. " * 200)
    bodies = (body.replace(">7<", f">{number}<") for number in range(1, 4001))
    articles = "".join(f"<PubmedArticle>{body}</PubmedArticle>\n" for body in bodies)
    path = tmp_path / "big.xml.gz"
    path.write_bytes(gzip.compress(f"{head}{articles}</PubmedArticleSet>".encode(), 1))
    from kglearn.sources import _read_xml
    tracemalloc.start()
    assert sum(1 for _ in _read_xml(path, "big.xml")) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(articles), f"{peak} bytes for a file of {len(articles)}"


BASES = {"html": BLOG, "htm": GUIDELINE, "nxml": JATS, "xml": PUBMED, "atom": ATOM, "bib": BIB, "ipynb": NOTEBOOK}
BASES = {ending: text.encode("utf-8") for ending, text in BASES.items()} | {"pdf": PDF}
SPLINTERS = st.sampled_from([b"<", b"&", b"{", b"]]>", b"\0", b"\xff"])


@each("ending", sorted(BASES))
@given(data=st.data())
@settings(FILES, max_examples=40)
def test_damage_gives_documents_or_bad_input(tmp_path, ending, data):
    content = bytearray(BASES[ending])
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        content[start:start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8) | SPLINTERS)
    path = tmp_path / f"any.{ending}"
    path.write_bytes(bytes(content))
    bad = []
    try:
        found = read_sources(path, bad)
    except BadInput as error:
        assert "any." in str(error)
        found = []
    assert all("any." in str(error) for error in bad)
    for document in found:
        document.text.encode("utf-8")
        assert document.text.strip() and not re.search("[\0\x1e\x1f]", document.text) and document.source in KINDS
        assert re.fullmatch(r"(\d{4}(-\d\d(-\d\d)?)?)?", document.date) and document.id


@each("ending", sorted({ending[1:] for ending in FORMATS}))
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(FILES, max_examples=25)
def test_any_bytes_give_documents_or_bad_input(tmp_path, ending, content):
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    try:
        assert all(isinstance(document, Document) for document in read_sources(path, []))
    except BadInput as error:
        assert "any." in str(error)


# Encodings


@each("encoding, declared", [("utf-8", ""), ("utf-8-sig", ""), ("utf-8", "utf-8"), ("cp1252", ""),
                             ("cp1252", "iso-8859-1"), ("utf-16", ""), ("utf-16", "utf-8"),
                             ("utf-8", "utf-16"), ("iso-8859-2", "iso-8859-2"), ("gb18030", "gb2312")])
def test_encodings_of_pages(tmp_path, encoding, declared):
    text = "Zürich" if encoding != "gb18030" else "发热"
    head = f'<meta charset="{declared}">' if declared else ""
    (tmp_path / "a.html").write_bytes(f"{head}<p>{text}</p>".encode(encoding))
    assert read_sources(tmp_path)[0].text == text


@each("encoding", ["utf-8", "utf-16", "windows-1252", "iso-8859-1", "koi8-r"])
def test_encodings_of_xml(tmp_path, encoding):
    word = "Менье" if encoding == "koi8-r" else "Ménière"
    text = re.sub("<[?].*?[?]>", "", PUBMED).replace("Ménière", word)
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
    assert read_sources(tmp_path)[2].text == f"{word}\n\nDizzy."


def test_what_latex_leaves_of_an_abstract(tmp_path):
    abstract = r"5% of men & 7\% of women. {\bf All} ``well'' -- $x \leq 2$; can't {DNA} \nothing{}."
    put(tmp_path, a__bib=rf"@misc{{a, title={{Q \& A}}, abstract={{{abstract}}}}}")
    assert read_sources(tmp_path)[0].text == "Q & A\n\n5% of men & 7% of women. All “well” – x ≤ 2; can't DNA ."


# Parts that matter in what is found


@each("part, kept", [("<aside>gone</aside>", False), ("<p hidden>gone</p>", False),
                     ("<div class='x sidebar'>gone</div>", False),
                     ("<p>a<sup><a href=#r>gone</a></sup></p>", False), ("<form><p>gone</p></form>", False),
                     ("<!-- gone -->", False),
                     ("<details><summary>gone</summary></details>", True), ("<blockquote>gone</blockquote>", True),
                     ("<pre>gone</pre>", True),
                     ("<ul><li><a href=1>gone</a><li><a href=2>b</a><li><a href=3>c</a></ul>", False),
                     ("<p>see <a href=1>gone</a></p>", True),
                     ("<div class=sidebar-left>gone</div>", True)])
def test_what_counts_as_furniture(tmp_path, part, kept):
    put(tmp_path, a__html=f"<body><p>text of the page</p>{part}")
    assert ("gone" in read_sources(tmp_path)[0].text) is kept


def test_the_main_part(tmp_path):
    put(tmp_path, index__html="<body>" + "".join(f"<article><p>Post {n} of five</p></article>" for n in range(5)),
        post__html="<body><p>Before</p><article><p>The long post itself</p></article><article>short</article>",
        role__html="<body><p>Before</p><div role=main><p>Inside</p></div>")
    index, post, role = read_sources(tmp_path)
    assert index.text.count("Post") == 5 and post.text == "The long post itself" and role.text == "Inside"


@each("head, title", [('<meta property="og:title" content="By og"><title>x - site</title>', "By og"),
                      ("<title>By title</title>", "By title"),
                      ('<meta name=citation_title content="Cited"><meta property="og:title" content="no">', "Cited")])
def test_titles(tmp_path, head, title):
    put(tmp_path, a__html=f"<html><head>{head}</head><body><p>text</p></body></html>")
    assert read_sources(tmp_path)[0].text == f"{title}\n\ntext"


def test_a_date_in_what_is_not_the_text_does_not_count(tmp_path):
    aside = "<nav><time datetime=2001-01-01>x</time></nav>"
    line = "<p>By Ash, <time datetime=2024-03-05>today</time></p>"
    put(tmp_path, a__html=f"{aside}<main>{line}</main>")
    assert read_sources(tmp_path)[0].date == "2024-03-05"


def test_pages_that_say_the_same_are_no_running_heads(tmp_path):
    put(tmp_path, a__pdf=printed("Take one.", "Take one.", "Take one."))
    assert read_sources(tmp_path)[0].text == "Take one. Take one. Take one."


def test_running_heads_and_cut_words(tmp_path):
    pages = [f"Journal of Wheeze {number}\n{body}\npage {number} of 3" for number, body in enumerate(
        ["The first line of a long paragraph goes to the end and is cut in anti-\n"
         "bodies, which is one word here and goes on until it stops at last.",
         "Anti-bodies with a hyphen are not written anywhere else in this text.",
         "The third page has its own line, which is long enough to count."], 1)]
    put(tmp_path, a__pdf=printed(*pages))
    text = read_sources(tmp_path)[0].text
    assert "Journal" not in text and "page 2" not in text and text.startswith("The first line")
    assert "cut in anti-bodies, which" in text, "the hyphen that is there elsewhere stays"


# The extra, and the command


@each("module, name, content", [("selectolax", "a.html", BLOG), ("pypdf", "a.pdf", PDF),
                                ("bibtexparser", "a.bib", BIB), ("feedparser", "a.atom", ATOM)])
def test_what_is_missing_is_named_with_its_extra(tmp_path, module, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    put(tmp_path, b__txt="Fine.", c__xml=PUBMED, d__ipynb=NOTEBOOK)
    code = f"""
import sys; sys.modules[{module!r}] = None
from kglearn.sources import read_sources
bad = []
print(len(read_sources({str(tmp_path)!r}, bad)), *bad)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    needs = f"needs {module}, which is not installed: pip install 'kglearn[sources]'"
    assert said.strip() == f"5 {tmp_path / name}: {needs}"


def test_the_room_is_light():
    heavy = {"torch", "pypdf", "selectolax", "feedparser", "bibtexparser", "pylatexenc"}
    code = f"import sys, kglearn.sources; print({heavy} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert said.strip() == "set()"


def test_the_run_command_takes_a_folder_of_mixed_kinds(tmp_path, monkeypatch):
    folder, seen = tmp_path / "in", []
    folder.mkdir()
    put(folder, a__html=BLOG, b__pdf=PDF, c__xml=PUBMED, d__bib=BIB, e__ipynb=NOTEBOOK, f__rss=ATOM,
        g__txt="Fever.", h__pubtator=PUBTATOR, i__pdf=b"no")
    trial = SimpleNamespace(plan_for=lambda documents, *_, **options: seen.append((documents, options)))
    monkeypatch.setitem(sys.modules, "kglearn.trial", trial)
    monkeypatch.setattr(kglearn.cli, "_run_trial", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        kglearn.cli.main(["run", str(folder), "--workspace", str(tmp_path / "w"), "--skip-bad"])
    [(documents, options)] = seen
    assert not ended.value.code and options["skipped"] == 1
    assert [document.source for document in documents] == [
        "blog", "document", "paper", "paper", "book", "paper", "report", "document", "notebook", "blog", "blog", "note",
        "paper"]


def test_the_run_command_names_a_broken_file(tmp_path, capsys):
    put(tmp_path, a__xml=laughs())
    with pytest.raises(SystemExit) as ended:
        kglearn.cli.main(["run", str(tmp_path), "--workspace", str(tmp_path / "w")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "a.xml, line 1: declares entities" in said
    assert not (tmp_path / "w").exists(), "nothing was begun"
