"""fastnn.Ray on a cluster of three nodes of one CPU each, on this machine: the same bits, whatever happens to nodes.

test_ray.py runs these in processes of their own: Ray ends a process that it cannot go on in.
"""

import contextlib
import json
import os
import signal
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Halving, Momentum, Population, RateFunction

from .cluster_fits import OF_RAY, fitted

ray = pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(*OF_RAY)]
COMMON = "import os, signal, sys, numpy as np, fastnn; from tests.fastnn.cluster_fits import fitted\n"
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """A cluster with one node, the head."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # of the workers
    made = None
    try:
        made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises errors of many kinds
        pytest.skip(f"Ray cannot start here: {error}")
    else:
        yield made
    finally:
        ray.shutdown()
        if made is not None:
            made.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@pytest.fixture
def nodes(cluster):
    """A function: let the cluster have so many nodes; gives those beside the head."""

    def have(n):
        further = [each for each in cluster.list_all_nodes() if each is not cluster.head_node]
        for each in further[n - 1 :]:
            cluster.remove_node(each)
        for _ in range(n - 1 - len(further)):
            cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        return [each for each in cluster.list_all_nodes() if each is not cluster.head_node]

    return have


class Counting(fastnn.Ray):
    """Notes how many tasks began, and calls `after` when the first ones have ended."""

    n_begun, after = 0, None

    def submit(self, function, *arguments):
        self.n_begun += 1
        return super().submit(function, *arguments)

    def wait(self, tickets, seconds):
        found = super().wait(tickets, seconds)
        if found and self.after is not None:
            after, self.after = self.after, None
            after()
        return found


def starting(folder, dies=False):
    """A schedule that leaves a file where a fit of members begins. The first one with `dies` kills its process."""

    def rate(epoch):
        if epoch == 0:
            (folder / uuid.uuid4().hex).touch()
        if dies and epoch == 3:
            with contextlib.suppress(FileExistsError):
                (folder / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return 0.05 / (1 + epoch)

    return SGD(RateFunction(rate))


def begun(folder):
    """How many tasks have begun to train."""
    return len([each for each in folder.iterdir() if each.name != "killed"])


def assert_same(found, expected):
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    for name in ("loss", "val_loss", "epochs", "status", "best_epoch"):
        np.testing.assert_array_equal(getattr(found.history, name), getattr(expected.history, name))


@pytest.mark.parametrize("n", [1, 3])
def test_the_same_bits_on_any_number_of_nodes(n, nodes):
    nodes(n)
    engine = Counting()
    assert engine.n_workers == n
    assert_same(fitted(engine=engine), fitted())
    assert engine.n_begun > 2
    rungs = {"stopping": Halving(), "optimizer": Momentum(0.05), "epochs": 30}
    assert_same(fitted(engine=engine, **rungs), fitted(**rungs))


def test_samples_are_stored_once(nodes):
    """What members train and validate on lies in the same arrays."""
    nodes(1)
    X, engine, used = np.random.default_rng(0).standard_normal((700_000, 3)), Counting(), []
    before = free()
    engine.after = lambda: used.append(before - free_below(before))
    found = Population([3, 8, 1], 2, output="identity", rng=0)
    seen = {"rows": [np.arange(50)] * 2, "validation_data": "rest"}
    found.fit(X, X[:, 0], epochs=1, batch_size=10, engine=engine, **seen)
    size = (12 + 4 + 2 * 4) * len(X)  # X and y are float32; which rows each member validates on, int32
    assert size <= used[0] < 1.2 * size


def free():
    """The bytes that object stores have left."""
    return ray.available_resources()["object_store_memory"]


def free_below(bytes):
    """As `free`, as soon as that is less than so many: nodes tell it now and then."""
    for _ in range(100):
        if (found := free()) < bytes:
            return found
        time.sleep(0.1)
    return free()


def test_a_worker_that_is_killed_is_replaced(nodes, tmp_path):
    nodes(3)
    (tmp_path / "here").mkdir()
    expected = fitted(optimizer=starting(tmp_path / "here"))
    engine = Counting()
    (tmp_path / "there").mkdir()
    assert_same(fitted(optimizer=starting(tmp_path / "there", dies=True), engine=engine), expected)
    assert (tmp_path / "there" / "killed").exists()
    assert 1 <= begun(tmp_path / "there") - engine.n_begun <= 2


def test_a_node_that_is_removed_is_done_without(nodes, cluster, tmp_path):
    last = nodes(3)[-1]
    (tmp_path / "here").mkdir()
    expected = fitted(optimizer=starting(tmp_path / "here"), epochs=400)
    engine = Counting()
    engine.after = lambda: cluster.remove_node(last)
    (tmp_path / "there").mkdir()
    assert_same(fitted(optimizer=starting(tmp_path / "there"), epochs=400, engine=engine), expected)
    assert engine.after is None
    assert begun(tmp_path / "there") - engine.n_begun <= 2


def test_a_slow_node_holds_nobody_up(nodes, tmp_path):
    """Others take what it does not."""
    slow, folder = nodes(3)[-1].node_id, tmp_path

    def rate(epoch):
        here = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "caller"
        if here == slow:
            time.sleep(0.2)
        if epoch == 0:
            (folder / f"{here} {uuid.uuid4().hex}").touch()
        return 0.05 / (1 + epoch)

    found = fitted(optimizer=SGD(RateFunction(rate)), engine=fastnn.Ray())
    done = [each.name.split()[0] for each in folder.iterdir()]
    assert_same(found, fitted(optimizer=SGD(RateFunction(lambda epoch: 0.05 / (1 + epoch)))))
    assert len(done) - done.count(slow) > done.count(slow)


def test_after_ctrl_c_the_cluster_goes_on(nodes):
    nodes(3)
    engine = Counting()

    def interrupt():
        raise KeyboardInterrupt

    engine.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        fitted(engine=engine, epochs=300)
    assert_same(fitted(engine=engine), fitted())


def test_groups_and_searches(nodes):
    nodes(3)
    rng = np.random.default_rng(0)
    frame = {"key": rng.integers(0, 99, 2000), "x": rng.standard_normal(2000), "y": rng.standard_normal(2000)}
    here, there = (
        fastnn.fit_groups(frame, by="key", target="y", layers=[4], epochs=5, rng=0, engine=engine)
        for engine in (None, fastnn.Ray())
    )
    np.testing.assert_array_equal(there.population.vectors, here.population.vectors)
    np.testing.assert_array_equal(there.loss, here.loss)
    pytest.importorskip("sklearn")
    estimator = fastnn.MLPClassifier((5,), tol=10.0, random_state=0)
    X, y = frame["x"][:300, None], frame["y"][:300] > 0
    here, there = (
        fastnn.search.GridSearchCV(estimator, {"alpha": [1e-4, 1.0]}, cv=3, engine=engine).fit(X, y)
        for engine in (None, fastnn.Ray())
    )
    np.testing.assert_array_equal(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])
    assert there.best_params_ == here.best_params_


@pytest.mark.filterwarnings("ignore:each of the 4 workers makes")
@pytest.mark.parametrize("average", ["epoch", 5])
def test_workers_of_one_model(nodes, cluster, tmp_path, average):
    """On one node, on three, and on three of which one is removed in mid-run."""
    rng, paths = np.random.default_rng(0), []
    for i in range(4):
        X = rng.standard_normal((150 + i, 5))
        paths.append((tmp_path / f"X{i}.npy", tmp_path / f"y{i}.npy"))
        np.save(paths[-1][0], X)
        np.save(paths[-1][1], (X[:, 0] > X[:, 1]).astype(int))
    stream = fastnn.Stream.from_npy(*map(list, zip(*paths, strict=True)), buffer_rows=70)

    def trained(engine):
        model = fastnn.Model([5, 8, 2], output="softmax", loss="cross_entropy", rng=0)
        options = {"workers": 4, "average": average, "dropout": 0.1}
        model.fit(stream, epochs=4, batch_size=10, optimizer="adam", engine=engine, **options)
        return model

    expected = trained(None)
    nodes(1)
    found = [trained(fastnn.Ray())]
    last, engine = nodes(3)[-1], Counting()
    found.append(trained(engine))
    engine.after = lambda: cluster.remove_node(last)
    found.append(trained(engine))
    assert engine.after is None
    for model in found:
        np.testing.assert_array_equal(model.parameters, expected.parameters)
        assert model.history.loss == expected.history.loss


def test_an_error_of_a_task_names_its_members(nodes):
    nodes(1)

    def rate(epoch):
        return 0.1 if epoch < 3 else -1.0

    with pytest.raises(ValueError, match="learning_rate of epoch 3 must be a finite number") as error:
        fitted(optimizer=SGD(RateFunction(rate)), engine=fastnn.Ray())
    assert error.value.__notes__[0].startswith("in the fit of members [")


def test_a_machine_of_another_kind_is_refused(nodes, monkeypatch):
    from fastnn.jobs.nodes import Node

    nodes(1)
    other = Node.here()._replace(cpu="AMD, 256 bits")
    monkeypatch.setattr(Node, "here", lambda: other)  # of the caller
    with pytest.raises(ValueError, match="a node of the engine must have cpu AMD, 256 bits, as the run began with"):
        fitted(engine=fastnn.Ray())


def test_a_wait_ends(nodes):
    """A task that lasts longer than the engine waits."""
    nodes(1)

    def rate(epoch):
        import time

        time.sleep(30)
        return 0.1

    with pytest.raises(TimeoutError, match="no task of 2 ended in 1 s on Ray"):
        fitted(optimizer=SGD(RateFunction(rate)), engine=fastnn.Ray(timeout=1.0))


def test_a_caller_that_is_killed_leaves_what_has_ended(nodes, cluster, tmp_path, run_python):
    """The next one trains the rest."""
    nodes(3)
    source = (
        COMMON
        + """
class Counting(fastnn.Ray):
    n_ended = 0

    def wait(self, tickets, seconds):
        found = super().wait(tickets, seconds)
        self.n_ended += len(found)
        if self.n_ended > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

engine = Counting(address=sys.argv[1])
found = fitted(engine=engine, checkpoint=sys.argv[3])
np.save(sys.argv[4], found.vectors)
print(engine.n_ended)
"""
    )
    folder, out = tmp_path / "run", tmp_path / "vectors.npy"
    killed = run_python(source, cluster.address, 2, folder, out, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = len(json.loads((folder / "manifest.json").read_text())["chunks"])
    assert kept >= 1
    done = run_python(source, cluster.address, 10**6, folder, out)
    expected = fitted()
    np.testing.assert_array_equal(np.load(out), expected.vectors)
    chunks = json.loads((folder / "manifest.json").read_text())["chunks"]
    assert int(done.stdout) == len(chunks) - kept > 0
