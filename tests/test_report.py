"""What no lesson of the report should carry: a page that hostile documents try to break out of, and pages of odd trials."""
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kglearn.belief import answer_fact
from kglearn.data import Document, Mention, Relation, load_clinic
from kglearn.graph import CLINIC_SCHEMA, Evidence, KnowledgeGraph, Rules, Schema
from kglearn.report import (CONTROLS, MOST_ENTITIES, arms_table, busiest_newcomer, choose_case, disputes, explain_case, gap_rows, gap_series, headline,
                            knowledge_gap_note, meaning, picture_title, result_text, surroundings, write_report)
from kglearn.system import BROKEN, disputed
from kglearn.trial import Arm, Trial, TrialResult, clinic_plan, plan_for

EVIL = "<script>alert(1)</script>"
EVIL_NAME = "<img src=x onerror=alert(2)>itis"


def arm(name, f1=0.5, gain=0.0, low=0.0, high=0.0, new=None) -> Arm:
    return Arm(name, f1, (f1 - 0.1, f1 + 0.1), f1, gain, (low, high), new)


BEFORE, AFTER = arm("before"), arm("after", 0.6, 0.1, 0.05, 0.15, 0.25)


# Words

@pytest.mark.parametrize("low, high, words", [(0.01, 0.2, "more than chance gives"), (0.0, 0.2, "no more than chance could give"),
                                              (-0.1, 0.2, "no more than chance could give"), (-0.2, -0.01, "a loss")])
def test_the_verdict_is_the_intervals(low, high, words):
    assert words in headline([BEFORE, replace(AFTER, gain_interval=(low, high))], "test", 3)


@pytest.mark.parametrize("name", CONTROLS)
def test_any_control_that_did_as_well_is_named(name):
    assert headline([BEFORE, AFTER, arm(name, 0.6)], "test", 3).endswith(f"But a control did as well: {name}.")
    assert "control" not in headline([BEFORE, AFTER, arm(name, 0.599)], "test", 3)


def test_all_controls_that_did_as_well_are_named_and_nothing_else():
    sentence = headline([BEFORE, AFTER, *(arm(name, 0.9) for name in (*CONTROLS, "ceiling", "K-step only"))], "test", 1234)
    assert sentence.endswith(", ".join(CONTROLS) + ".") and "1,234 answers" in sentence


def test_without_after_nothing_is_claimed():
    assert "nothing was learnt" in headline([BEFORE], "test", 0) and "to" in headline([BEFORE], "test", 0)


def test_every_arm_of_a_full_trial_has_a_meaning(run):
    trial, result = run
    names = {a.name for a in result.arms["later"]} | {"fusion gate", "both, seed 1", "before, seed 2", "always yes"}
    assert all(meaning(name) for name in names)


def test_the_table_is_aligned_and_the_text_holds_all():
    lines = arms_table([BEFORE, AFTER, arm("a very long name of an arm")]).splitlines()
    assert len({line.index("0.") for line in lines[1:]}) == 1 and "0.250" in lines[2]
    text = result_text(TrialResult({"one": [BEFORE, AFTER], "two": [BEFORE, AFTER]}, [], 5, 2, ["A note."]))
    assert text.index("On the two documents") < text.index("On the one documents") and text.endswith("A note.")
    assert result_text(TrialResult({}, [], 0, 0, ["Alone."])) == "Alone."


def test_gaps_become_lines():
    gap = {"knowledge_environment": 1.0, "skill_environment": 2.0, "knowledge_skill": 3.0, "unknown_facts": 0}
    cards = [{"gaps": {step: gap for step in ("start", "K-step", "S-step")}}] * 2
    series, ticks = gap_series(cards)
    assert {label: len(line) for label, line in series.items()} == {"K–E": 6, "S–E": 6, "K–S": 6} and len(set(ticks)) == 6
    cards.append({"gaps": {step: gap | {"knowledge_environment": None} for step in ("start", "K-step", "S-step")}})
    assert set(gap_series(cards)[0]) == {"S–E", "K–S"}


STEPS = ("K-step", "S-step", "start")  # as a card on disk has them: in order of the alphabet


@pytest.mark.parametrize("last, said", [(2.5, "rose by 0.50"), (2.0, ""), (1.0, "")])
def test_a_rise_of_the_first_gap_is_explained_only_where_there_is_one(last, said):
    cards = [{"gaps": {step: {"knowledge_environment": nll, "facts": facts, "unknown_facts": left} for step in STEPS}}
             for nll, facts, left in ((2.0, 1030, 12), (last, 1090, 4))]
    note = knowledge_gap_note(cards)
    assert "over 1,030 facts at first and 1,090 at last; 12 and 4 were left out" in note
    assert said in note and ("rose" in note) == bool(said)


def test_the_half_steps_stand_in_their_order_with_counts():
    gap = {"knowledge_environment": None, "skill_environment": 1.25, "knowledge_skill": 0.5, "facts": 0, "unknown_facts": 7}
    rows = gap_rows([{"gaps": {step: gap for step in STEPS}}] * 2)
    assert [row[0] for row in rows] == ["1 start", "1 K-step", "1 S-step", "2 start", "2 K-step", "2 S-step"]
    assert rows[0][1:] == ("–", 0, 7, "1.25", "0.50", "1.75")


def test_a_picture_claims_no_more_than_its_best_interval():
    assert "“after” reads best" in picture_title([BEFORE, AFTER], "test")
    lucky = arm("S-step only", 0.9, 0.4, -0.01, 0.8)
    assert picture_title([BEFORE, AFTER, lucky], "test") == "On test, no arm gains more than chance gives"
    assert "but the ceiling" in picture_title([BEFORE, lucky, arm("ceiling", 0.95, 0.45, 0.3, 0.6)], "test")


def test_surroundings_stay_small():
    kg = KnowledgeGraph()
    for key in ("hub", "a", *map(str, range(50))):
        kg.add_entity(key, key, "thing")
    kg.add_fact("a", "near", "hub", Evidence("", 0, 0, "dictionary"))
    assert len(surroundings(kg, "a")) == 2
    for number in range(50):
        kg.add_fact("hub", "near", str(number), Evidence("", 0, 0, "dictionary"))
    assert len(surroundings(kg, "a")) == 2 <= MOST_ENTITIES, "two steps would be too many"
    assert busiest_newcomer(KnowledgeGraph(), kg) == "hub" and busiest_newcomer(kg, kg) is None


def torn(pairs: int, kg: KnowledgeGraph | None = None) -> KnowledgeGraph:
    "A graph in which each of so many medicines is for a disease and forbidden in it; hostile names, and the later ones are believed less."
    kg = kg or KnowledgeGraph(schema=CLINIC_SCHEMA)
    kg.add_entity("disease:evil", EVIL_NAME, "disease")
    for number in range(pairs):
        kg.add_entity(f"medicine:{number}", f"{EVIL}{number}", "medicine")
        for relation in ("treats", "contraindicated_in"):
            text = f"{EVIL}{number} {relation} {EVIL_NAME}."
            kg.add_document(Document(f"{relation}{number}<b>", text))
            kg.add_fact(f"medicine:{number}", relation, "disease:evil", Evidence(f"{relation}{number}<b>", 0, len(text), "pattern", 0.9 - number / 50))
    return kg


def test_both_sides_of_a_contradiction_are_quoted():
    found, = disputes(torn(1))
    assert (found.kind, found.meaning) == ("disjoint", BROKEN["disjoint"])
    assert found.sides == tuple((f"{EVIL}0 > {relation} > {EVIL_NAME} (belief 0.90)",
                                 (f'+ pattern (0.9), document {relation}0<b>: "{EVIL}0 {relation} {EVIL_NAME}."',)) for relation in ("contraindicated_in", "treats"))


def test_the_surest_contradictions_are_listed_and_the_rest_is_counted():
    kg = torn(12)
    answer_fact(kg, next(fact for fact in kg.facts() if (fact.head, fact.relation) == ("medicine:0", "treats")), False)
    assert [each.sides[0][0].partition(" > ")[0] for each in disputes(kg)] == [f"{EVIL}{number}" for number in range(1, 9)], "what an answer has settled is last"
    assert disputed(kg)[-1].facts[0].head == "medicine:0" and len(disputed(kg)) == 12


def test_many_facts_and_many_sentences_of_one_contradiction_are_counted():
    kg = KnowledgeGraph(schema=Schema(("x",), {"one": (("x",), ("x",))}, {"one": Rules(functional=True)}))
    for key in "abcdefg":
        kg.add_entity(key, key, "x")
        kg.add_facts(("a", "one", key, Evidence("", 0, 0, f"finder {number}")) for number in range(5))
    found, = disputes(kg)
    assert found.kind == "functional" and [fact for fact, _ in found.sides] == [*(f"a > one > {key} (belief 0.90)" for key in "abcd"), "and 3 more"]
    assert found.sides[0][1] == ("+ finder 0 (0.9)", "+ finder 1 (0.9)", "+ finder 2 (0.9)", "and 2 more") and found.sides[-1][1] == ()


def test_a_graph_without_a_schema_is_not_gone_through(monkeypatch):
    kg = torn(2, KnowledgeGraph())
    monkeypatch.setattr(KnowledgeGraph, "facts", None)
    assert disputes(kg) == [] == disputed(kg)


# The page

def hostile(document: Document, number: int) -> Document:
    "The document with a sentence in front that attacks the page; its labels move with their words."
    extra = f"{EVIL} {EVIL_NAME} treats & \"quotes\" 'n' $x$ {{{{ 7 * 7 }}}} \u202e\u0000\u0085. "
    moved = tuple(replace(m, start=m.start + len(extra), end=m.end + len(extra)) for m in document.mentions)
    name = Mention(extra.index(EVIL_NAME), extra.index(EVIL_NAME) + len(EVIL_NAME), "disease", f"disease:{EVIL_NAME}")
    return Document(f"{number}<svg/onload=alert(3)>", extra + document.text, document.source, document.date, (name, *moved),
                    (*document.relations, Relation(name.entity, "treats", name.entity))[:len(document.relations)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A small trial in which each document of the stream and of the measured part is hostile."
    plan = clinic_plan(4)
    evil = {part: tuple(hostile(document, number) for number, document in enumerate(load_clinic(part)[:4])) for part in ("stream", "later")}
    plan = replace(plan, fusions=("none", "prior"), rounds=1, epochs=3, stream=tuple(replace(d, id="s" + d.id) for d in evil["stream"]),
                   parts={"later": evil["later"]}, notes=(f"A note with {EVIL}.",))
    trial = Trial(tmp_path_factory.mktemp("report") / "t", plan, bars=False)
    trial.system.kg.add_entity("evil", EVIL_NAME, "disease")
    return trial, trial.run()


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_report(*run, path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    "All tags and attributes of a page, as a browser would see them."
    def __init__(self, page: str):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_nothing_on_the_page_runs_or_loads(page):
    tags = Tags(page).found
    assert {"html", "h1", "table", "svg"} <= {tag for tag, _ in tags}
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe", "object", "embed", "link", "form", "base", "foreignobject", "animate"}
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), tag
    assert not re.search(r"url\((?!#)|@import|javascript:", page)
    assert "default-src 'none'" in page


def test_what_documents_say_is_shown_and_not_obeyed(page):
    assert EVIL not in page and "<img" not in page and "onload=alert(3)>" not in page
    assert html.escape(EVIL, quote=False) in page, "the note is there, escaped"
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|\b49\b(?= [^0-9])", page), "text is no template"
    assert "\0" not in page


def test_the_page_holds_what_was_found(run, page):
    trial, result = run
    shown = html.unescape(page)
    assert headline(result.arms["later"], "later", result.answers) in shown
    for one in result.arms["later"]:
        assert f"<td>{one.name}</td>" in page and f"{one.f1:.3f}" in page
    assert "Why one decision" in page or explain_case(trial) is None
    assert f"{result.answers} answers" in page and "version v1" in page and "fusion <code>" in page
    assert "L, half-step by half-step" in page and page.count("<svg") >= 2
    assert "simulated from the stream's labels" in shown and "with seed 0" in shown, "what a reader could not know from the numbers"
    assert f"the same {len(trial.plan.parts['later'])} documents" in page
    assert f"new names, of {result.arms['later'][0].new_mentions}" in page
    gap = result.cards[-1]["gaps"]["start"]
    assert re.search(rf"<td>1 start</td><td>[^<]+</td><td>{gap['facts']}</td><td>{gap['unknown_facts']}</td>", page)
    assert page.index("<td>1 start</td>") < page.index("<td>1 K-step</td>") < page.index("<td>1 S-step</td>")


def test_a_narrow_window_scrolls_pictures_and_tables(page):
    assert "@media (max-width: 44rem)" in page and "figure svg { min-width: 36rem; }" in page
    assert page.count("<table") == page.count('<div class="scroll" tabindex="0"><table') + page.split("Why one decision")[-1].count("<table") * ("Why one decision" in page)


def test_the_case_is_right_and_new(run):
    trial, _ = run
    case = choose_case(trial)
    if case is not None:
        part, document, mention = case
        assert part == "later" and (mention.start, mention.end, mention.type) in {(m.start, m.end, m.type) for m in document.mentions}
        assert explain_case(trial).explanation.action == mention.type


def test_the_same_result_gives_the_same_page(run, page, tmp_path):
    write_report(*run, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_a_trial_without_labels_has_a_page(tmp_path):
    trial = Trial(tmp_path / "t", plan_for([hostile(d, n).unlabelled() for n, d in enumerate(load_clinic("stream")[:3])]), bars=False)
    write_report(trial, trial.run(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No labelled documents were given" in page and "No document has labels" in page
    assert "Why one decision" not in page and "version" not in html.unescape(re.sub("<style.*?</style>", "", page, flags=re.S)).split("<svg")[0]
    assert not {"script", "img"} & {tag for tag, _ in Tags(page).found} and EVIL not in page


def test_contradictions_have_a_section_and_break_out_of_nothing(tmp_path):
    trial = Trial(tmp_path / "t", plan_for([Document("d", "Nothing.")], schema=CLINIC_SCHEMA), bars=False)
    result = trial.run()
    write_report(trial, result, tmp_path / "none.html")
    assert "What cannot all be true" not in (tmp_path / "none.html").read_text(encoding="utf-8")
    torn(10, trial.system.kg)
    write_report(trial, result, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    section = page.partition("<h2>What cannot all be true</h2>")[2].partition("Made by kglearn")[0]
    assert "10 contradictions: facts" in section and section.count("<strong>disjoint</strong>") == 8 and "<li>and 2 more</li>" in section
    shown = html.unescape(section)
    assert all(f'document {relation}{number}<b>: "{EVIL}{number} {relation} {EVIL_NAME}."' in shown for number in range(8) for relation in ("treats", "contraindicated_in"))
    assert not {"script", "img", "b"} & {tag for tag, _ in Tags(page).found} and EVIL not in page


def test_a_trial_that_waits_has_a_page(tmp_path):
    plan = replace(clinic_plan(4), fusions=("prior",), rounds=1, epochs=1, simulate=False, per_document=2)
    plan = replace(plan, parts={"later": plan.parts["later"]})
    trial = Trial(tmp_path / "t", plan, bars=False)
    write_report(trial, trial.run(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "simulated" not in page, "a person answers here"
    assert "nothing was learnt from answers yet" in page and "8 questions wait" in page and "half-step by" not in page
