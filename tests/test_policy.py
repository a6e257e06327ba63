"""What no lesson of the policy should carry: closed forms over any numbers, a process that is killed, draws counted, files of others."""
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import nullcontext, suppress
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglearn.data import BadInput, Document, Mention, load_clinic
from kglearn.gnn import GraphSnapshot
from kglearn.graph import CLINIC_SCHEMA
from kglearn.objective import IGNORE, answer_loss
from kglearn.policy import (NONE, Decision, FeedbackLog, Policy, Rewarded, SimulatedPerson, behaviour, decision_id, draw, gold_action, uniform,
                            with_answers)
from kglearn.skill import SkillConfig, SkillProcessor, seeded_skill
from kglearn.text import Encoder, tiny_encoder

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHANCES = st.lists(st.floats(-20, 20), min_size=2, max_size=7).map(lambda scores: torch.tensor(scores).softmax(-1))
TYPES = CLINIC_SCHEMA.types
DOCUMENTS = {document.id: document for document in load_clinic("stream")[:6]}


def decision(number=0, **changes):
    made = Decision(decision_id("v1", "d", number, number + 1), "d", number, number + 1, "disease", 0.25, ((NONE, 0.5), ("disease", 0.5)), "v1", 3)
    return replace(made, **changes)


@pytest.fixture(scope="module")
def processor():
    empty = GraphSnapshot(0, "none", {}, {}, (), torch.zeros(1, 64), torch.zeros(3, 0, dtype=torch.long), ())
    return SkillProcessor(empty, TYPES, Encoder(*tiny_encoder()), layers=(0, 1))


@pytest.fixture(scope="module")
def rows(processor):
    return processor(DOCUMENTS.values())


@pytest.fixture(scope="module")
def skill(processor):
    made = seeded_skill(SkillConfig(TYPES, "none", layers=(0, 1), word_width=32, hidden=16), processor.snapshot, seed=0).eval()
    # Sharper than a skill that has learnt nothing, so that the chances differ.
    made.policy_head.weight.data *= 20
    return made


# The behaviour policy and the draw


@MANY
@given(CHANCES, st.floats(0.001, 1))
def test_mu_is_a_distribution_and_leaves_no_action_out(chances, exploration):
    mu = behaviour(chances, exploration)
    assert math.isclose(mu.sum().item(), 1, abs_tol=1e-6) and mu.min() >= exploration / len(chances) * 0.999
    assert torch.allclose(mu, (1 - exploration) * chances.double() + exploration / len(chances))
    assert torch.allclose(behaviour(chances, 1.0), torch.full_like(mu, 1 / len(chances)))


@MANY
@given(CHANCES, st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_action_whose_stretch_holds_the_number(chances, number):
    drawn, edges = draw(chances, number), [0.0, *chances.cumsum(0).tolist()]
    place = torch.tensor(number, dtype=chances.dtype).item() * chances.sum().item()
    assert 0 <= drawn < len(chances) and edges[drawn] - 1e-5 <= place <= edges[drawn + 1] + 1e-5


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2 ** -48, math.nextafter(1, 0)])
def test_an_action_without_a_chance_is_never_drawn(number):
    assert draw(torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64), number) in (1, 3)


def test_uniform_is_below_one_whatever_the_hash(monkeypatch):
    class Ones:
        def digest(self):
            return b"\xff" * 32
    monkeypatch.setattr("kglearn.policy.hashlib.sha256", lambda _: Ones())
    assert uniform(0, "a") < 1


def test_uniform_is_uniform():
    numbers = torch.tensor([uniform(seed, str(key)) for seed in range(10) for key in range(2000)], dtype=torch.float64).sort().values
    assert (numbers - torch.arange(1, 20_001) / 20_000).abs().max() < 1.63 / math.sqrt(20_000), "Kolmogorov and Smirnov, 1 %"


@MANY
@given(st.text(max_size=8).filter(lambda t: t.isprintable()), st.integers(0, 99), st.integers(0, 99))
def test_an_id_names_version_and_place(document, start, end):
    base = decision_id("v1", document, start, end)
    assert base == decision_id("v1", document, start, end) and len(base) == 16
    assert len({base, decision_id("v2", document, start, end), decision_id("v1", document + "x", start, end),
                decision_id("v1", document, start + 1, end), decision_id("v1", document, start, end + 1)}) == 5


# Acting


def test_acting_is_a_function_of_seed_and_place(skill, rows):
    policy = Policy(skill)
    decided = policy.act(rows)
    assert policy.act(rows) == decided and _close(decided, [d for row in rows for d in policy.act([row])])
    assert {d.id: d for d in policy.act(rows[::-1])}.keys() == {d.id: d for d in decided}.keys()
    other = Policy(skill, seed=1).act(rows)
    assert [d.id for d in other] == [d.id for d in decided] and [d.action for d in other] != [d.action for d in decided]


def _close(left, right):
    "The same but for the last digits, which depend on what else is in the batch."
    return all(replace(a, probability=0.5, candidates=()) == replace(b, probability=0.5, candidates=()) and math.isclose(a.probability, b.probability, rel_tol=1e-4)
               for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("exploration", [1e-9, 0.1, 0.5, 1.0])
def test_the_logged_probability_is_mu_of_the_drawn_action(skill, rows, exploration):
    policy = Policy(skill, exploration=exploration)
    chances = {(row.document, *row.characters(i)): span for row, spans in zip(rows, policy.probabilities(rows)) for i, span in enumerate(spans)}
    for d in policy.act(rows):
        span = chances[d.document, d.start, d.end]
        mu = behaviour(span, exploration)
        assert math.isclose(d.probability, mu[policy.actions.index(d.action)].item(), rel_tol=1e-5) and d.probability > 0
        assert [action for action, _ in d.candidates] == policy.actions
        assert all(abs(chance - pi) <= 5.1e-5 for (_, chance), pi in zip(d.candidates, span.tolist()))
    assert FeedbackLog().log(policy.act(rows)) == len(policy.act(rows)), "also where it is tiny"


def test_actions_come_as_often_as_mu_says(skill, rows):
    drawn, expected, seeds = Counter(), Counter(), 400
    for seed in range(seeds):
        policy = Policy(skill, exploration=0.3, seed=seed)
        for d in policy.act(rows[:1], per_document=4):
            drawn[d.start, d.end, d.action] += 1
            if seed == 0:
                mu = behaviour(torch.tensor([chance for _, chance in d.candidates]), 0.3)
                expected |= {(d.start, d.end, action): chance for action, chance in zip(policy.actions, mu.tolist())}
    assert sum(drawn.values()) == 4 * seeds and len(expected) == 4 * 6
    statistic = sum((drawn[key] - seeds * chance) ** 2 / (seeds * chance) for key, chance in expected.items())
    assert statistic < 45.3, "chi-squared with 20 degrees of freedom, 0.1 %"


def test_what_is_asked_about_is_nearest_the_edge_of_doubt(skill, rows):
    for doubt in (0.2, 0.4, 0.9):
        policy = Policy(skill, doubt=doubt)
        for row, chances in zip(rows, policy.probabilities(rows)):
            distance = (1 - chances[:, 0] - doubt).abs()
            asked = [(d.start, d.end) for d in policy.act([row], per_document=5)]
            places = [row.characters(i) for i in range(len(row.spans))]
            worst = max(distance[places.index(place)].item() for place in asked)
            assert len(asked) == 5 and asked == sorted(asked) and (distance < worst - 1e-5).sum() <= 5


def test_the_offset_is_part_of_the_policy(skill, rows, monkeypatch):
    before = Policy(skill).probabilities(rows[:1])[0]
    monkeypatch.setattr(skill.config, "offset", 2.0)
    after = Policy(skill).probabilities(rows[:1])[0]
    assert torch.allclose((after[:, 0] / after[:, 1]) / (before[:, 0] / before[:, 1]), torch.tensor(math.exp(2)), rtol=1e-3)


def test_short_and_empty_documents_are_no_trouble(skill, processor):
    policy = Policy(skill)
    assert policy.act([]) == [] and policy.act(processor([Document("e", ""), Document("s", "of, the.")])) == []
    assert len(policy.act(processor([Document("s", "Fever.")]))) == 1 and policy.act(processor([Document("s", "Fever.")]), per_document=0) == []


@pytest.mark.parametrize("exploration", [0, -0.1, 1.5, math.nan])
def test_a_policy_that_cannot_learn_is_refused(skill, exploration):
    with pytest.raises(BadInput, match="exploration"):
        Policy(skill, exploration=exploration)


# The log


def test_what_is_logged_comes_back_the_same():
    log = FeedbackLog()
    hostile = [decision(n, document=name, action=name) for n, name in enumerate(["'; DROP TABLE reward; --", "<b>", "a\0b", "糖尿病", "", "👩‍⚕️"])]
    assert log.log(hostile) == 6 and sorted(log.pending(), key=lambda d: d.start) == hostile
    assert log.reward(hostile[0].id, True, "'; --") and log.rewarded() == [Rewarded(hostile[0], 1, "'; --")]


def test_logging_twice_and_rewarding_twice_change_nothing():
    log = FeedbackLog()
    assert log.log([decision(0), decision(1)]) == 2 and log.log([decision(0, action="symptom", probability=0.9), decision(2)]) == 1
    assert log.pending()[0] == decision(0), "the first stands: it is what was really done"
    assert log.reward(decision(0).id, 0) and not log.reward(decision(0).id, 1) and log.rewarded()[0].reward == 0
    assert len(log) == 1 and len(log.pending()) == 2


def test_threads_take_turns():
    log = FeedbackLog()

    def write(thread):
        for number in range(40):
            log.log([decision(100 * thread + number, document=f"{thread}")])
            with suppress(BadInput) if thread == 3 else nullcontext():  # the others may have forgotten it a moment ago
                log.reward(decision_id("v1", "d", 100 * thread + number, 100 * thread + number + 1), number % 2)
        log.forget("3")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    log.forget("3")
    assert len(log) == 7 * 40 and sum(answer.reward for answer in log.rewarded()) == 7 * 20 and not log.pending()


def test_a_reward_without_a_logged_probability_is_refused():
    log = FeedbackLog()
    with pytest.raises(BadInput, match="probability"):
        log.reward(decision().id, 1)
    for probability in (0.0, -0.1, 1.2, math.nan):
        with pytest.raises(BadInput, match="probability"):
            log.log([decision(0), decision(1, probability=probability)])
    assert not log.pending() and len(log) == 0, "all or none"


@pytest.mark.parametrize("reward", [0.5, 2, -1, "1", None, [1], math.nan])
def test_a_reward_is_a_yes_or_a_no(reward):
    log = FeedbackLog()
    log.log([decision()])
    with pytest.raises(BadInput, match="give 1 for yes or 0 for no"):
        log.reward(decision().id, reward)
    assert len(log) == 0


def test_a_failing_batch_leaves_nothing():
    log = FeedbackLog()
    with pytest.raises((TypeError, sqlite3.Error)):
        log.log([decision(0), decision(1, candidates=((object(), 0.5),))])
    assert not log.pending() and log.log([decision(0)]) == 1, "and the log still works"


def test_forgetting_drops_the_documents_decisions_and_rewards_alone(tmp_path):
    log = FeedbackLog(tmp_path / "f.db")
    mine, others = [decision(n) for n in range(3)], [decision(n, id=f"o{n}", document="other") for n in range(2)]
    log.log(mine + others)
    log.reward(mine[0].id, 1)
    log.reward("o0", 0)
    assert log.forget("d") == 3 and log.forget("d") == 0 and log.forget("'; --") == 0
    log.close()
    log = FeedbackLog(tmp_path / "f.db")
    assert [r.decision.id for r in log.rewarded()] == ["o0"] and [d.id for d in log.pending()] == ["o1"]
    with pytest.raises(BadInput):
        log.reward(mine[0].id, 1)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "photo.db").write_bytes(b"not a database at all" * 50)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE money(amount)")
    other.commit()
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    for path in (tmp_path / "photo.db", tmp_path / "other.db", tmp_path, tmp_path / "no" / "such" / "folder.db"):
        with pytest.raises(BadInput, match="move the file away|another path|check the path"):
            FeedbackLog(path)
    assert (tmp_path / "other.db").read_bytes() == before and not (tmp_path / "no").exists()


# A process that is killed, between the log and the reward, and anywhere

WRITER = textwrap.dedent("""
    import sys
    from kglearn.policy import Decision, FeedbackLog
    log = FeedbackLog(sys.argv[1])
    for number in range(100_000):
        batch = [Decision(f"{number}-{part}", "d", number, part, "none", 0.5, (("none", 0.5),), "v1", 0) for part in range(3)]
        log.log(batch)
        print("logged", number, flush=True)
        log.reward(f"{number}-0", number % 2)
        print("rewarded", number, flush=True)
""")


@pytest.mark.parametrize("lines", [1, 2, 41])
def test_what_was_acknowledged_survives_a_kill(tmp_path, lines):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "f.db"], stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = [writer.stdout.readline().split() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    said += [line.split() for line in writer.stdout if line.count(" ") == 1 and line.endswith("\n")]
    writer.wait()
    log = FeedbackLog(tmp_path / "f.db")
    logged, rewarded = [int(n) for what, n in said if what == "logged"], [int(n) for what, n in said if what == "rewarded"]
    kept = Counter(d.start for d in [*log.pending(), *(r.decision for r in log.rewarded())])
    assert all(count == 3 for count in kept.values()), "a batch is there whole or not at all"
    assert set(logged) <= set(kept) and len(kept) <= len(logged) + 1
    assert {int(r.decision.id.split("-")[0]): r.reward for r in log.rewarded()}.items() >= {n: n % 2 for n in rewarded}.items()
    last = max(logged)
    log.reward(f"{last}-0", last % 2)
    assert log.log([decision()]) == 1 and len(log) >= len(rewarded), "the answer comes after the restart"


def test_another_process_sees_what_was_written_and_both_may_write(tmp_path):
    mine = FeedbackLog(tmp_path / "f.db")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "f.db"], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "logged 0\n"
    for number in range(5):
        mine.log([decision(number)])
        time.sleep(0.005)
    writer.kill()
    writer.communicate()
    assert len([d for d in mine.pending() if d.id == decision(d.start).id]) == 5 and any(d.id == "0-1" for d in mine.pending())


# Somebody who answers


def test_the_simulated_person_errs_as_often_as_said():
    labelled = Document("d", "fever " * 50, mentions=tuple(Mention(6 * n, 6 * n + 5, "symptom") for n in range(50)))
    asked = [replace(decision(n), start=6 * n, end=6 * n + 5, action=action, id=f"{n}{action}") for n in range(50) for action in ("symptom", "disease", NONE)]
    for error in (0.0, 0.05, 0.3, 1.0):
        wrong = sum(SimulatedPerson({"d": labelled}, error, seed).answer(d) != (d.action == "symptom") for seed in range(40) for d in asked)
        assert abs(wrong / 6000 - error) <= 4 * math.sqrt(error * (1 - error) / 6000)
    person = SimulatedPerson({"d": labelled})
    assert [person.answer(d) for d in asked] == [SimulatedPerson({"d": labelled}).answer(d) for d in asked]


def test_gold_actions():
    labelled = Document("d", "mild fever", mentions=(Mention(5, 10, "symptom"),))
    assert [gold_action(labelled, *place) for place in ((5, 10), (0, 10), (5, 9))] == ["symptom", NONE, NONE]
    assert gold_action(replace(labelled, mentions=()), 5, 10) == NONE
    with pytest.raises(BadInput, match="no gold labels"):
        gold_action(labelled.unlabelled(), 5, 10)


# What an answer teaches


@MANY
@given(st.lists(st.floats(-6, 6), min_size=2, max_size=6), st.integers(0, 5), st.integers(0, 1), st.floats(0.001, 0.45))
def test_the_loss_of_an_answer_and_its_gradient_in_closed_form(scores, asked, reward, error):
    asked %= len(scores)
    logits = torch.tensor([[scores]], dtype=torch.float64, requires_grad=True)
    loss = answer_loss(logits, torch.tensor([[asked]]), torch.tensor([[reward]]), error)
    loss.backward()
    pi = torch.tensor(scores, dtype=torch.float64).softmax(-1)
    said = (1 - error) * pi[asked] + error * (1 - pi[asked]) if reward else error * pi[asked] + (1 - error) * (1 - pi[asked])
    assert math.isclose(loss.item(), -math.log(said), rel_tol=1e-9)
    indicator = torch.eye(len(scores), dtype=torch.float64)[asked]
    expected = -(2 * reward - 1) * (1 - 2 * error) * pi[asked] * (indicator - pi) / said
    assert torch.allclose(logits.grad[0, 0], expected, atol=1e-9)


def test_what_nobody_was_asked_about_moves_nothing():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    answer_loss(logits, torch.tensor([[IGNORE, 2, IGNORE]]), torch.tensor([[IGNORE, 1, IGNORE]])).backward()
    assert logits.grad[0, 0].abs().sum() == logits.grad[0, 2].abs().sum() == 0 < logits.grad[0, 1].abs().sum()


def test_answers_reach_the_spans_that_were_asked_about(skill, rows):
    decided, person = Policy(skill).act(rows), SimulatedPerson(DOCUMENTS)
    answers = [Rewarded(d, person.answer(d), "simulated") for d in decided]
    answered = with_answers(rows, answers[::-1], TYPES)
    got = {(row.document, *row.characters(i)): ([NONE, *TYPES][row.actions[i]], row.rewards[i].item()) for row in answered for i in range(len(row.spans))}
    assert got == {(a.decision.document, a.decision.start, a.decision.end): (a.decision.action, a.reward) for a in answers}
    for row in answered:
        assert (row.labels == IGNORE).all() and len(row.names) == len(row.knowledge) == len(row.node_ids) == len(row.spans) == len(row.rewards)


def test_every_answer_to_one_place_is_kept(skill, rows):
    first = Policy(skill, version="v1").act(rows[:1])
    second = Policy(skill, version="v2", seed=7).act(rows[:1])
    answers = [Rewarded(d, number % 2, "x") for number, d in enumerate([*first, *second])]
    [row] = with_answers(rows, answers, TYPES)
    assert len(row.spans) == len(first) + len(second) and row.rewards.sum() == sum(a.reward for a in answers)
    assert torch.isfinite(answer_loss(torch.zeros(1, len(row.spans), 6), row.actions[None], row.rewards[None]))


def test_answers_that_fit_nowhere_are_no_trouble_and_strange_actions_are_bad_input(rows):
    away = Rewarded(decision(document="elsewhere"), 1, "x")
    between = Rewarded(decision(document=rows[0].document, start=1, end=2), 1, "x")
    assert with_answers(rows, [away, between], TYPES) == []
    with pytest.raises(BadInput, match="does not know"):
        with_answers(rows, [Rewarded(decision(action="planet"), 1, "x")], TYPES)
