"""The command line from outside: every command in a process of its own."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kglearn.data import Document, Mention, clinic_lexicon, load_clinic, write_jsonl
from kglearn.graph import CLINIC_SCHEMA, add_gold
from kglearn.history import traces
from kglearn.system import LearningSystem
from kglearn.text import sentences

PROGRAM = [sys.executable, "-c", "from kglearn.cli import main; main()"]


# Importing what is not ours takes longer than most commands. So one process imports it, and each command is a fork of that process.
WARM = """
import json, os, signal, sys
import scipy.sparse, sklearn.feature_extraction.text, torch, transformers.models.bert.modeling_bert, typer
for line in sys.stdin:
    told = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    signal.alarm(600)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(os.open(os.path.join(told["place"], name), os.O_RDWR | os.O_CREAT), number)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))
    os.chdir(told["folder"])
    os.environ.update(told["surroundings"])
    sys.argv[1:] = told["words"]
    from kglearn.cli import main
    main()
    break
"""


@cache
def _warm() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_quiet())


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays():
    yield
    if _warm.cache_info().currsize:
        _warm().communicate()


def command(*words: object, stdin: str = "", folder: Path | None = None, cold: bool = False) -> subprocess.CompletedProcess:
    "Run `kglearn` with these words to its end, in a process of its own; a cold one imports everything itself."
    words = list(map(str, words))
    if cold:
        return subprocess.run([*PROGRAM, *words], input=stdin, capture_output=True, text=True, encoding="utf-8", timeout=600, cwd=folder, env=_quiet())
    with TemporaryDirectory() as place:
        (Path(place) / "stdin").write_text(stdin, encoding="utf-8")
        told = {"words": words, "folder": str(folder or Path.cwd()), "surroundings": _quiet(), "place": place}
        print(json.dumps(told), file=_warm().stdin, flush=True)
        code = int(_warm().stdout.readline())
        return subprocess.CompletedProcess(words, code, *((Path(place) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")))


def _quiet() -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def refused(result: subprocess.CompletedProcess, *said: str) -> None:
    "One line that names what is wrong and the cure, exit code 2, no traceback, nothing on the screen."
    last = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else ""
    assert result.returncode == 2, result.stderr
    assert last.startswith("kglearn: ") and "Traceback" not in result.stderr
    assert all(part in last for part in said), last
    assert not result.stdout


# Bad input that is told before anything is loaded

BROKEN_PUBTATOR = "1|t|Aspirin helps.\n1|a|Nothing else.\n1\t0\t7\tAspirin\tChemical\tD1\n\n2|t|Title.\n2|a|Text.\n2\t0\t99\tTitle\tChemical\tD2\n"
BAD_FILES = {
    "empty.txt": (b"", "no document with any text", "give files"),
    "image.txt": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image.txt", "binary", "give a text file"),
    "latin.txt": ("Fine.\nMénière's disease".encode("latin-1"), "latin.txt, line 2", "not UTF-8", "iconv"),
    "broken.jsonl": (b'{"text": "Aspirin helps."}\n{"text": \n', "broken.jsonl, line 2", "not JSON", "--skip-bad"),
    "no_text.jsonl": (b'{"text": "Aspirin helps."}\n\n{"id": "x"}\n', "no_text.jsonl, line 3", "--skip-bad"),
    "offsets.jsonl": (b'{"text": "Aspirin", "mentions": [[0, 70, "drug"]]}\n', "offsets.jsonl, line 1", "--skip-bad"),
    "broken.pubtator": (BROKEN_PUBTATOR.encode(), "broken.pubtator, line 7", "--skip-bad"),
    "cut.txt.gz": (b"\x1f\x8b\x08\0\0\0\0\0", "cut.txt.gz", "broken gzip"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(name, tmp_path):
    content, *said = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    refused(command("run", tmp_path / name, "-w", tmp_path / "w"), *said)
    assert not (tmp_path / "w").exists(), "no workspace was begun"


def test_a_missing_path(tmp_path):
    refused(command("run", tmp_path / "nowhere", "-w", tmp_path / "w"), "nowhere", "no such file or folder", "check the path")


def test_an_empty_folder(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "sheet.xlsx").write_bytes(b"x")
    refused(command("run", tmp_path / "notes", "-w", tmp_path / "w"), "nothing to read", ".txt, .md, .jsonl, .pubtator", ".pdf")


def test_bad_dictionary_and_schema(tmp_path):
    (tmp_path / "a.txt").write_text("Aspirin helps.", encoding="utf-8")
    (tmp_path / "d.tsv").write_text("drug\taspirin\nthis is no entry\n", encoding="utf-8")
    (tmp_path / "s.json").write_text("{", encoding="utf-8")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "w", "--dictionary", tmp_path / "d.tsv"), "d.tsv, line 2")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "w", "--schema", tmp_path / "s.json"), "s.json")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "w", "--dictionary", tmp_path / "none.tsv"), "none.tsv", "no such file")


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    refused(command("demo", "-w", tmp_path / "w", "--report", tmp_path / "no" / "r.html"), "is not there", "make it")
    refused(command("demo", "-w", tmp_path / "w", "--report", tmp_path), "is a folder")
    refused(command("demo", "-w", tmp_path / "w", "--json", tmp_path / "no" / "r.json"), "is not there")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("words", [("run", "--nope"), ("status",), ("dance",), ("demo", "--passages", "2"), ("run",), ("why",)], ids=" ".join)
def test_a_wrong_word_exits_with_2(words):
    result = command(*words, cold=True)
    assert result.returncode == 2 and "Error: " in result.stderr and "--help" in result.stderr and not result.stdout


@pytest.mark.parametrize("word", ["", "demo", "run", "answer", "why", "status", "rollback", "resolve", "recalibrate", "forget", "purge"])
def test_help(word):
    result = command(*word.split(), "--help", cold=True)
    assert result.returncode == 0 and result.stdout.startswith(f"Usage: kglearn {word}".rstrip()) and not result.stderr


def test_help_lists_every_command_with_what_it_does():
    from kglearn.cli import app
    said = " ".join(command("--help").stdout.split())
    for one in app.registered_commands:
        assert f" {one.callback.__name__} " in said and one.callback.__doc__.split(".")[0][:30] in said


def test_help_imports_nothing_heavy():
    program = "import sys; from kglearn.cli import app; print(sorted({'torch', 'matplotlib', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Workspaces that cannot be used

@pytest.mark.parametrize("words", [("status",), ("answer",), ("why", "aspirin"), ("rollback",), ("forget", "a"), ("purge", "a"), ("resolve",), ("recalibrate",), ("answer", "--facts")], ids=lambda words: words[0])
def test_no_workspace(words, tmp_path):
    refused(command(*words, "-w", tmp_path / "none"), "no workspace here", "kglearn run")


def test_a_workspace_of_another_version(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "workspace.json").write_text('{"format": "99", "types": [], "encoder": "", "seed": 0}', encoding="utf-8")
    (tmp_path / "a.txt").write_text("Aspirin helps.", encoding="utf-8")
    refused(command("status", "-w", tmp_path / "w"), "format 99", "use the version that wrote it")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "w"), "format 99", "use the version that wrote it")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("Years of work.", encoding="utf-8")
    (tmp_path / "a.txt").write_text("Aspirin helps.", encoding="utf-8")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "w"), "not empty")
    refused(command("run", tmp_path / "a.txt", "-w", tmp_path / "a.txt"), "a.txt")
    assert (tmp_path / "w" / "thesis.txt").read_text(encoding="utf-8") == "Years of work."
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Aspirin helps."


# No labels at all

SCHEMA = {"types": ["medicine", "disease", "symptom"], "relations": {"treats": [["medicine"], ["disease", "symptom"]]}}


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    "A folder with three notes, a dictionary and a schema beside it."
    place = tmp_path_factory.mktemp("notes")
    (place / "notes").mkdir()
    for name, text in {"monday": "Metformin was started for type 2 diabetes. Nausea came within a week.",
                       "tuesday": "Ondansetron treats nausea. Her type 2 diabetes is stable.", "friday": "No nausea today. Metformin goes on."}.items():
        (place / "notes" / f"{name}.txt").write_text(text, encoding="utf-8")
    (place / "names.tsv").write_text("medicine\tmetformin\nmedicine\tondansetron\ndisease\ttype 2 diabetes\nsymptom\tnausea\n", encoding="utf-8")
    (place / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return place


def test_no_labels_with_dictionary_and_schema(notes, tmp_path):
    result = command("run", notes / "notes", "-w", tmp_path / "w", "--dictionary", notes / "names.tsv", "--schema", notes / "schema.json")
    assert result.returncode == 0, result.stderr
    assert "No document has labels" in result.stdout and "the dictionary alone" in result.stdout and "co-occurrence" not in result.stdout
    why = command("why", "ondansetron > treats > nausea", "-w", tmp_path / "w")
    assert why.returncode == 0 and "Ondansetron treats nausea." in why.stdout and "belief" in why.stdout and "revision" in why.stdout


def test_a_glossary_brings_names_descriptions_and_prior_facts(notes, tmp_path):
    (tmp_path / "terms.csv").write_text("name,parent,definition\nmetformin,medicine,lowers sugar\nmedicine,,\n", encoding="utf-8")
    result = command("run", notes / "notes", "-w", tmp_path / "w", "--dictionary", tmp_path / "terms.csv")
    assert result.returncode == 0, result.stderr
    assert "in the dictionary as metformin: lowers sugar" in command("why", "metformin", "-w", tmp_path / "w").stdout
    assert "dictionary (0.9)" in command("why", "metformin > is_a > medicine", "-w", tmp_path / "w").stdout


def test_forgotten_and_purged(notes, tmp_path):
    workspace, sentence = tmp_path / "w", "Nausea came within a week."
    assert command("run", notes / "notes", "-w", workspace, "--dictionary", notes / "names.tsv").returncode == 0
    for word in ("forget", "purge"):
        refused(command(word, "mondey", "-w", workspace), "no document 'mondey'", "did you mean 'monday'?")
        refused(command(word, "completely else", "-w", workspace), "give the id that it was read with")
    assert traces(workspace, [sentence, "monday"])
    assert command("forget", "monday", "-w", workspace).stdout == "monday: forgotten\n"
    assert json.loads(command("forget", "monday", "-w", workspace, "--json", "-").stdout) == {"document": "monday", "forgotten": False}
    assert json.loads(command("status", "-w", workspace, "--json", "-").stdout)["documents"] == 2 and traces(workspace, [sentence])
    result = command("purge", "monday", "-w", workspace)
    assert result.returncode == 0 and "none found" in result.stdout and "report.html" in result.stdout, result.stderr
    assert not traces(workspace, [sentence, "monday"])
    refused(command("purge", "monday", "-w", workspace), "no document 'monday'")


def test_a_purge_that_leaves_something_says_so(notes, tmp_path):
    command("run", notes / "notes", "-w", tmp_path / "w")
    (tmp_path / "w" / "copy.txt").write_text("Her type 2 diabetes is stable.", encoding="utf-8")
    result = command("purge", "tuesday", "-w", tmp_path / "w", "--json", "-")
    assert result.returncode == 2 and json.loads(result.stdout)["left"] == ["copy.txt"]
    assert "copy.txt: still holds something of 'tuesday'" in result.stderr.splitlines()[-1]


LEAFLETS = {"old": "Propranolol is given for asthma.", "new": "Propranolol is dangerous in asthma."}


def leaflets(place: Path, *names: str) -> Path:
    "A workspace that has read leaflets, with cues for facts."
    system = LearningSystem.create(place / "w", CLINIC_SCHEMA.types, CLINIC_SCHEMA, clinic_lexicon())
    system.read([Document(name, LEAFLETS[name]) for name in names])
    system.close()
    return place / "w"


def test_both_sides_of_a_contradiction_are_shown(tmp_path):
    workspace = leaflets(tmp_path, "old", "new")
    assert command("why", "propranolol > treats > asthma", "-w", workspace).stdout.splitlines() == [
        "propranolol treats asthma: belief 0.70, revision 2",
        '  + pattern (0.7), document old: "Propranolol is given for asthma."',
        "  contradiction (disjoint): two relations that exclude each other",
        "    with propranolol > contraindicated_in > asthma (belief 0.70)",
        '      + pattern (0.7), document new: "Propranolol is dangerous in asthma."']
    other = json.loads(command("why", "propranolol > contraindicated_in > asthma", "-w", workspace, "--json", "-").stdout)
    assert other["lines"][2:] == ["  with propranolol > treats > asthma (belief 0.70)", '    + pattern (0.7), document old: "Propranolol is given for asthma."']
    assert [line for line in command("why", "asthma", "-w", workspace).stdout.splitlines() if "fact:" in line] == [
        f"  fact: propranolol > {relation} > asthma (belief 0.70), contradiction (disjoint)" for relation in ("contraindicated_in", "treats")]
    assert "\nfacts: 2\ncontradictions: 1\n" in command("status", "-w", workspace).stdout
    assert json.loads(command("status", "-w", workspace, "--json", "-").stdout)["contradictions"] == 1


def test_where_nothing_contradicts_nothing_is_said_of_it(tmp_path):
    workspace = leaflets(tmp_path, "old")
    assert command("why", "propranolol > treats > asthma", "-w", workspace).stdout.splitlines() == [
        "propranolol treats asthma: belief 0.70, revision 2", '  + pattern (0.7), document old: "Propranolol is given for asthma."']
    assert "contradiction" not in command("why", "asthma", "-w", workspace).stdout
    assert "\nfacts: 1\ncontradictions: 0\n" in command("status", "-w", workspace).stdout


@pytest.fixture
def two_spellings(tmp_path) -> Path:
    "A workspace in which three entities are not of the dictionary: two spellings of one name, and another name."
    system = LearningSystem.create(tmp_path / "w", ("disease",))
    for number, name in enumerate(("hay fever", "hayfever", "Q fever")):
        add_gold(system.kg, Document(str(number), f"It is {name}.", mentions=(Mention(6, 6 + len(name), "disease", f"disease:{name.lower()}"),)))
    system.close()
    return tmp_path / "w"


def resolved(workspace, *words) -> dict:
    result = command("resolve", "-w", workspace, "--least", "0", "--json", "-", *words)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_nothing_is_merged_without_a_say(two_spellings):
    shown = command("resolve", "-w", two_spellings, "--least", "0", "--most", "1")
    assert "disease:hay fever = disease:hayfever" in shown.stdout and "It is hayfever." in shown.stdout and "letters" in shown.stdout
    assert "3 pairs wait" in shown.stdout and shown.stdout.count("1: ") == 1
    first = resolved(two_spellings)
    assert first == resolved(two_spellings) and not first["merged"] and len(first["waiting"]) == 3
    best = first["waiting"][0]
    assert (best["kept"], best["gone"]) == ("disease:hay fever", "disease:hayfever") and 0 < best["score"] < 1
    merged = resolved(two_spellings, "--above", str(best["score"]))
    assert [merge["gone"] for merge in merged["merged"]] == ["disease:hayfever"] and len(merged["waiting"]) == 2


def test_pairs_are_accepted_rejected_and_taken_back(two_spellings):
    right, wrong = "disease:hay fever = disease:hayfever", "disease:hay fever = disease:q fever"
    made = json.loads(command("resolve", "-w", two_spellings, "--accept", right, "--reject", wrong, "--note", "I know", "--json", "-").stdout)
    assert [merge["note"] for merge in made["merged"] + made["rejected"]] == ["I know"] * 2 and "waiting" not in made
    assert resolved(two_spellings)["waiting"] == []
    taken_back = command("resolve", "-w", two_spellings, "--undo", str(made["merged"][0]["revision"]))
    assert taken_back.stdout == f"undone: {right}\n"
    assert {pair["gone"] for pair in resolved(two_spellings)["waiting"]} == {"disease:hayfever", "disease:q fever"}, "hayfever and Q fever may still be one"


@pytest.mark.parametrize("words, messages", [
    (("--accept", "hay fever"), ("no pair", "as 'kglearn resolve' lists them")), (("--accept", "a = b = c"), ("no pair",)),
    (("--reject", "disease:flu = disease:hay fever"), ("no entity 'disease:flu'",)), (("--undo", "7"), ("no merge of 7",)),
    (("--undo", "disease:q fever = disease:hay fever"), ("no merge of",)),
    (("--accept", "disease:hay fever = disease:hayfever", "--reject", "disease:flu = disease:hayfever"), ("disease:flu",)),
    (("--accept", "disease:hay fever = disease:hayfever", "--reject", "disease:hayfever = disease:hay fever"), ("one entity",))])
def test_what_cannot_be_decided_changes_nothing(two_spellings, words, messages):
    refused(command("resolve", "-w", two_spellings, *words), *messages)
    system = LearningSystem.open(two_spellings)
    assert not system.kg.merges() and system.kg.revision == 3
    system.close()


def test_pairs_are_asked_about_one_by_one(two_spellings):
    asked = command("resolve", "-w", two_spellings, "--least", "0", "--ask", "--json", "-", stdin="y\nn\n")
    made = json.loads(asked.stdout)
    assert asked.stderr.count("Are they one?") == 3 and len(made["merged"]) == len(made["rejected"]) == 1


def test_facts_are_asked_about_and_tell_whom_to_trust(notes, tmp_path):
    assert command("run", notes / "notes", "-w", tmp_path / "w", "--dictionary", notes / "names.tsv").returncode == 0
    refused(command("recalibrate", "-w", tmp_path / "w"), "nobody can be judged", "kglearn answer --facts")
    refused(command("recalibrate", "-w", tmp_path / "w", "--kind", "weather"), "give 'extractor' or 'source'")
    asked = command("answer", "--facts", "-w", tmp_path / "w", "--json", "-", stdin="n\n" * 9)
    count = json.loads(asked.stdout)["answered"]
    assert count > 1 and json.loads(asked.stdout)["waiting"] == 0 and asked.stderr.count("Is it so:") == count
    proposed = json.loads(command("recalibrate", "-w", tmp_path / "w", "--json", "-").stdout)
    factor = proposed["trust"]["extractors"]["cooccurrence"]
    assert factor == pytest.approx(1 / (0.7 * count + 1), abs=1e-3), "(0 held + 1) / (promised + 1)"
    assert proposed["after"]["brier"] < proposed["before"]["brier"] and not proposed["applied"]
    said = command("recalibrate", "-w", tmp_path / "w", "--apply").stdout
    assert "cooccurrence" in said and said.endswith("applied\n")
    system = LearningSystem.open(tmp_path / "w")
    assert system.kg.trust["extractors"] == {"cooccurrence": factor}
    system.close()


def test_an_unknown_relater_is_told_before_the_work(labelled, tmp_path):
    refused(command("run", labelled / "labelled.jsonl", "-w", tmp_path / "w", "--relater", "guesses"), "no relater 'guesses'", "both, patterns, trained")
    assert not (tmp_path / "w").exists()


def test_no_labels_and_nothing_else(notes, tmp_path):
    result = command("run", notes / "notes", "-w", tmp_path / "w", "--json", "-")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert any("nothing but the texts" in note and "--dictionary" in note for note in said["notes"])
    held = json.loads(command("status", "-w", tmp_path / "w", "--json", "-").stdout)
    assert held["documents"] == 3 and held["entities"] > 0 and held["live"] is None
    refused(command("run", notes / "notes" / "friday.txt", "-w", tmp_path / "w"), "made from other documents or options", "a new folder")


def test_skip_bad_goes_on_and_counts(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fine.txt").write_text("Aspirin helps.", encoding="utf-8")
    for name in ("broken.jsonl", "offsets.jsonl", "no_text.jsonl"):
        (tmp_path / "in" / name).write_bytes(BAD_FILES[name][0])
    result = command("run", tmp_path / "in", "-w", tmp_path / "w", "--skip-bad", "--json", tmp_path / "r.json")
    assert result.returncode == 0, result.stderr
    assert "3 broken lines were left out" in result.stdout
    assert any("3 broken" in note for note in json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["notes"])


# With labels

@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    "Six labelled passages of clinic, and the first sentences of three others without labels: explaining a long text takes long."
    place = tmp_path_factory.mktemp("labelled")
    write_jsonl(load_clinic("train")[:6], place / "labelled.jsonl")
    firsts = [(document, sentences(document.text)[0][1]) for document in load_clinic("stream")[:3]]
    write_jsonl([replace(document.unlabelled(), text=document.text[:end]) for document, end in firsts], place / "bare.jsonl")
    return place


@pytest.mark.parametrize("options, said", [(("--labelled", 2), "at least 3"), (("--labelled", 4, "--test", 3), "only 6 have labels"),
                                           (("--labelled", -1), "Error: ")], ids=str)
def test_too_few_labels(labelled, tmp_path, options, said):
    result = command("run", labelled / "labelled.jsonl", "-w", tmp_path / "w", *options)
    assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "w").exists()


def test_interrupted_answered_and_gone_on_with(labelled, tmp_path):
    "Ctrl-C in the middle of learning; the same command goes on; a person answers from a pipe; the next run learns from it."
    words = ["run", labelled / "labelled.jsonl", labelled / "bare.jsonl", "-w", tmp_path / "w"]
    # A program that a shell starts in the background is deaf to Ctrl-C, and so would be what it starts.
    running = subprocess.Popen([*PROGRAM, *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=_quiet(),
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    seen = b""
    while b"skill none:" not in seen and running.poll() is None:
        seen += running.stderr.read1()
    running.send_signal(signal.SIGINT)
    _, complaints = running.communicate(timeout=120)
    assert running.returncode == 130
    assert complaints.count(b"kglearn: interrupted") == 1 and b"Traceback" not in complaints
    assert command("status", "-w", tmp_path / "w", cold=True).returncode == 0, "the workspace still opens"

    first = command(*words)
    assert first.returncode == 0 and "questions wait" in first.stderr, first.stderr
    waiting = json.loads(command("status", "-w", tmp_path / "w", "--json", "-").stdout)["waiting"]
    assert waiting > 3

    answered = command("answer", "-w", tmp_path / "w", "--json", "-", stdin="y\nperhaps\nn\ns\nq\n")
    assert json.loads(answered.stdout) == {"answered": 2, "answers": 2, "waiting": waiting - 2}
    assert answered.stderr.count("Is [") == 4 and "Traceback" not in answered.stderr
    ended = command("answer", "-w", tmp_path / "w", "--most", 1000, stdin="n\n" * (waiting - 3))
    assert ended.returncode == 0 and f"{waiting - 1} answers kept" in ended.stdout, "the end of a pipe is the end, not an error"
    command("answer", "-w", tmp_path / "w", stdin="y\n")

    second = command(*words)
    assert second.returncode == 0 and "round 1:" in second.stderr, second.stderr
    held = json.loads(command("status", "-w", tmp_path / "w", "--json", "-").stdout)
    assert held["answers"] == waiting and held["versions"][:2] == ["v0", "v1"]
    back = command("rollback", "-w", tmp_path / "w", "v0", "--json", "-")
    assert json.loads(back.stdout) == {"live": "v0"}
    refused(command("rollback", "-w", tmp_path / "w", "v77"), "v77", "choose one of")


# The demo, small

@pytest.fixture(scope="module")
def small_demo(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("demo")
    result = command("demo", "--passages", 4, "--json", place / "r.json", folder=place, cold=True)
    assert result.returncode == 0, result.stderr
    (place / "said.txt").write_text(result.stdout, encoding="utf-8")
    return place


def test_demo_says_what_was_gained_beside_every_control(small_demo):
    said = (small_demo / "said.txt").read_text(encoding="utf-8")
    assert "95 % interval" in said and "shuffled answers" in said and "ceiling" in said and "report.html" in said
    result = json.loads((small_demo / "r.json").read_text(encoding="utf-8"))
    arms = [result["before"], result["after"], result["ceiling"], *result["controls"].values()]
    assert all({"f1", "f1_raw", "interval"} <= set(arm) and 0 <= arm["f1"] <= 1 for arm in arms)
    assert {"shuffled answers", "self-training", "permuted graph", "dictionary alone"} <= set(result["controls"])
    assert result["answers"] > 0


def test_demo_page_needs_no_network(small_demo):
    page = (small_demo / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", page, re.I)
    assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import", page, re.I) and "<script" not in page


def test_demo_again_does_nothing_twice(small_demo):
    before = {path: path.stat().st_mtime_ns for path in (small_demo / "kglearn-demo" / "steps").iterdir()}
    again = command("demo", "--passages", 4, "--json", "-", folder=small_demo)
    assert json.loads(again.stdout) == json.loads((small_demo / "r.json").read_text(encoding="utf-8"))
    assert before == {path: path.stat().st_mtime_ns for path in (small_demo / "kglearn-demo" / "steps").iterdir()}
    refused(command("demo", "--passages", 5, folder=small_demo), "made from other documents or options")


def test_why_knows_the_demo(small_demo):
    workspace = small_demo / "kglearn-demo"
    found = json.loads(command("why", "nausea", "-w", workspace, "--json", "-").stdout)
    assert found["title"].startswith("nausea (symptom)") and found["lines"]
    assert "acting: v" in command("status", "-w", workspace).stdout


def test_purge_and_dropped_versions_in_the_demo(small_demo, tmp_path):
    shutil.copytree(small_demo / "kglearn-demo", tmp_path / "w")
    stream = load_clinic("stream")[0]
    hidden = [stream.id, *(stream.text[start:end] for start, end in sentences(stream.text))]
    assert set(traces(tmp_path / "w", hidden)) == set(hidden)
    purged = json.loads(command("purge", stream.id, "-w", tmp_path / "w", "--json", "-").stdout)
    assert purged["left"] == [] and purged["decisions"] > 0 and {"v1", "v2"} <= set(purged["shaped"]) and "v0" not in purged["shaped"]
    assert traces(tmp_path / "w", hidden) == {} and "acting: v3" in command("status", "-w", tmp_path / "w").stdout
    dropped = command("purge", stream.id, "-w", tmp_path / "w", "--drop-versions")
    assert dropped.returncode == 0 and "deleted, having learnt from it: v1, v2, v3" in dropped.stdout, dropped.stderr
    assert "acting: v0" in command("status", "-w", tmp_path / "w").stdout
