"""What no lesson of the cluster can carry: a real one of two nodes, of which one is killed midway."""
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kglearn.cluster
from kglearn.cluster import map_on_ray, map_with, shards_of, source_hash
from kglearn.data import BadInput, Document, Mention, clinic_lexicon, load_clinic
from kglearn.graph import CLINIC_SCHEMA, KnowledgeGraph
from kglearn.reader import Counts, DictionaryTagger, LinearTagger, Reader, counted
from kglearn.system import LearningSystem
from kglearn.text import Encoder, tiny_encoder, words

PASSAGES = [document.unlabelled() for part in ("train", "golden") for document in load_clinic(part)]
MANY = [replace(document, id=f"{document.id} {copy}", text=f"{document.text} Copy {copy}.") for copy in range(5) for document in PASSAGES]


def patiently(start, tries: int = 4):
    "What `start` gives. Ray allows a node 30 seconds to come up, which a busy machine does not always manage."
    try:
        return start()
    except Exception:
        if tries == 1:
            raise
        return patiently(start, tries - 1)


@pytest.fixture(autouse=True)
def not_for_ever():
    "A cluster that went wrong waits; a test of it should fail instead."
    def give_up(*_):
        raise TimeoutError("nothing came of it in four minutes")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def cluster():
    "Two nodes of one processor each, and this process connected to them. The second one is killed by one of the tests."
    ray = pytest.importorskip("ray", reason="the engine 'ray' is not installed: pip install 'kglearn[ray]'")
    from ray import cloudpickle
    from ray.cluster_utils import Cluster
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes do not have this file
    settings = {"num_cpus": 1, "object_store_memory": 200_000_000}
    with mock.patch.dict(os.environ, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", OMP_NUM_THREADS="1"):
        try:
            nodes = patiently(lambda: Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False}))
            nodes.second = patiently(lambda: nodes.add_node(**settings))
        except Exception as error:
            pytest.skip(f"Ray's own nodes do not come up on this machine: {error}")
        ray.init(address=nodes.address, logging_level="ERROR", log_to_driver=False)
        nodes.wait_for_nodes()
        yield nodes
        ray.shutdown()
        nodes.shutdown()


def wait_until(happened, seconds: float = 60):
    "Wait, and not for ever: a test should fail rather than hang."
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.01)


def reader(tagger, encoder) -> Reader:
    return Reader(KnowledgeGraph(schema=CLINIC_SCHEMA), tagger, clinic_lexicon(), encoder=encoder)


@pytest.fixture(scope="module")
def tiny():
    return Encoder(*tiny_encoder())


# On a cluster


def test_the_two_nodes_work_at_once_and_answer_in_order(cluster, tmp_path):
    def meeting(shard):
        import ray
        node = ray.get_runtime_context().get_node_id()
        (tmp_path / node).touch()
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)  # the other node has come, too
        return node, shard
    found = list(map_on_ray(meeting, range(12)))
    assert [shard for _, shard in found] == list(range(12)) and len({node for node, _ in found}) == 2


def test_a_learnt_tagger_reads_the_same_there_as_here(cluster, tiny):
    linear = LinearTagger(CLINIC_SCHEMA.types, tiny, layers=(0, 2)).fit(load_clinic("train")[:8])
    here, there = reader(linear, tiny), reader(linear, tiny)
    assert there.read(PASSAGES, engine="ray").rows() == here.read(PASSAGES).rows()
    assert there.kg.fingerprint() == here.kg.fingerprint()
    again = there.read(PASSAGES[::-1], engine="ray")
    assert (again.unchanged, again.mentions, there.kg.revision) == (len(PASSAGES), 0, 1)


def test_a_system_reads_the_same_there_as_here(cluster, tmp_path):
    here, there = (LearningSystem.create(tmp_path / name, CLINIC_SCHEMA.types, CLINIC_SCHEMA, clinic_lexicon()) for name in ("here", "there"))
    report = there.read(PASSAGES, engine="ray")
    assert report.facts > 100 and report.rows() == here.read(PASSAGES).rows()
    assert there.kg.fingerprint() == here.kg.fingerprint()


@dataclass(repr=False)
class Seen(Counts):
    documents: int = counted("seen")


class Counting(DictionaryTagger):
    "A tagger that counts, and that fails over one document if asked to."
    poison = ""

    def __init__(self, entries):
        super().__init__(entries)
        self.report = Seen()

    def tag(self, documents):
        if any(document.id == self.poison for document in documents):
            raise ZeroDivisionError("poison")
        self.report += Seen(len(documents))
        return super().tag(documents)


def test_what_taggers_count_on_other_machines_comes_back(cluster, tiny):
    tagger = Counting(clinic_lexicon())
    report = reader(tagger, tiny).read(MANY, engine="ray")
    assert report.told == {"tagger": Seen(len(MANY))} and tagger.report == Seen(0), "the tagger here has seen nothing"


def test_an_error_of_the_work_arrives_and_nothing_is_written(cluster, tiny):
    failing = reader(Counting(clinic_lexicon()), tiny)
    failing.tagger.poison = MANY[-1].id
    with pytest.raises(ZeroDivisionError):
        failing.read(MANY, engine="ray")
    unfitted = reader(LinearTagger(CLINIC_SCHEMA.types, tiny), tiny)
    with pytest.raises(BadInput, match="^this tagger has not been fitted"):
        unfitted.read(PASSAGES, engine="ray")
    assert failing.kg.documents() == unfitted.kg.documents() == [] and failing.kg.revision == unfitted.kg.revision == 0


def test_little_is_under_way_and_nothing_more_is_sent_when_nobody_listens(cluster, tmp_path):
    def done(number):
        (tmp_path / str(number)).touch()
        return number
    sent = []
    results = map_on_ray(done, (sent.append(number) or number for number in range(1000)))
    assert [next(results), next(results)] == [0, 1] and len(sent) <= 6
    results.close()
    assert list(map_on_ray(done, [1001])) == [1001], "the cluster is free again"
    assert len(sent) <= 6 and len(list(tmp_path.iterdir())) <= len(sent) + 1


def test_other_sources_are_refused(cluster):
    with mock.patch.object(kglearn.cluster, "source_hash", lambda: "0" * 12):
        with pytest.raises(BadInput, match=f"another kglearn .*{source_hash()}, 000000000000.*install the same source"):
            list(map_on_ray(len, ["a"]))


def test_what_cannot_travel_is_refused_here(cluster, tmp_path):
    kg = KnowledgeGraph(tmp_path / "graph.db")
    with pytest.raises(BadInput, match="cannot travel to other machines .*sqlite3.Connection"):
        list(map_on_ray(kg.find, ["fever"]))
    assert Reader(kg, DictionaryTagger([])).read([Document("d", "fever")], engine="ray").documents == 1, "a reader goes without its graph"


def test_what_other_machines_do_not_have_is_refused_there(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work(shard):\n    return shard\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here
    with pytest.raises(BadInput, match="cannot be unpacked there .*only_here.*every machine of the cluster"):
        list(map_on_ray(only_here.work, ["a"]))


def test_a_node_killed_midway_costs_time_only(cluster, tiny, tmp_path):
    import ray
    home, begun = ray.get_runtime_context().get_node_id(), tmp_path / "begun"
    here, there = reader(Counting(clinic_lexicon()), tiny), reader(Counting(clinic_lexicon()), tiny)
    analysed = there._analysed

    def kill():
        wait_until(begun.exists)
        cluster.remove_node(cluster.second, allow_graceful=False)

    def stuck_elsewhere(shard):
        if ray.get_runtime_context().get_node_id() != home:
            begun.touch()
            time.sleep(600)
        wait_until(begun.exists)
        return analysed(shard)

    there._analysed = stuck_elsewhere
    # Not when the first result comes: the other node may have been given the first shard.
    killer = threading.Thread(target=kill)
    killer.start()
    report = there.read(MANY, engine="ray")
    killer.join()
    assert begun.exists(), "the other node had work, and was killed over it"
    assert report.rows() == here.read(MANY).rows() and there.kg.fingerprint() == here.kg.fingerprint()


def test_a_worker_that_dies_each_time_ends_the_run_with_one_sentence(cluster, tmp_path):
    def deadly(shard):
        with open(tmp_path / "tries", "a", encoding="utf-8") as file:
            file.write("x")
        os._exit(1)
    with mock.patch.object(kglearn.cluster, "TRIES_AGAIN", 1), pytest.raises(BadInput, match="gave a shard up .*ray status"):
        list(map_on_ray(deadly, [0]))
    assert len((tmp_path / "tries").read_text(encoding="utf-8")) == 2


def test_a_guest_closes_the_door_and_leaves_early_without_harm(cluster):
    import ray
    ray.shutdown()  # what the fixture had opened
    with mock.patch.dict(os.environ, RAY_ADDRESS=cluster.address):
        assert list(map_on_ray(len, ["ab", "c"])) == [2, 1] and not ray.is_initialized()
        results = map_on_ray(time.sleep, [0.0, 30.0, 30.0])
        assert next(results) is None and ray.is_initialized()
        results.close()
    assert not ray.is_initialized()


# Without one


def test_an_address_where_nobody_answers_is_told_at_once():
    pytest.importorskip("ray")
    with mock.patch.dict(os.environ, RAY_ADDRESS="127.0.0.1:1"), pytest.raises(BadInput, match="no Ray cluster answers .*refused.*ray start --head"):
        list(map_on_ray(len, ["a"]))


def test_without_ray_or_with_another_name_the_cure_is_told():
    with mock.patch.dict(sys.modules, ray=None), pytest.raises(BadInput, match=r"pip install 'kglearn\[ray\]'"):
        list(map_on_ray(len, ["a"]))
    for name in ("", "Ray", "spark"):
        with pytest.raises(BadInput, match=f"no engine '{name}': choose one of here, ray"):
            map_with(name)


@pytest.mark.parametrize("size", [0, -1])
def test_a_shard_of_nothing_is_refused(size):
    with pytest.raises(BadInput, match="1 or more"):
        shards_of("abc", size)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shards_together_are_the_items(items, size):
    cut = shards_of(items, size)
    assert sum(cut, []) == items and all(len(shard) == size for shard in cut[:-1]) and all(cut)


def test_the_hash_changes_with_the_source(tmp_path):
    (tmp_path / "assets").mkdir()
    seen = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "1"), ("c.txt", "1")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with mock.patch.object(kglearn.cluster, "ASSETS", tmp_path / "assets"):
            seen.add(source_hash.__wrapped__())
    assert len(seen) == 3, "a text file is no source"
