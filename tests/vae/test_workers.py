"""Several replicas train as one does: two logical devices here, processes in `end_to_end/`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mnist_vae.cluster import Cluster
from mnist_vae.vae.feeding import batches_of
from mnist_vae.vae.workers import Workers

SCRIPT = Path(__file__).with_name("replicas.py")


def replicas(count, **options):
    """What a training by so many replicas ends with, in a process of its own."""
    finished = subprocess.run(
        [sys.executable, SCRIPT, str(count), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="elbo"),
        pytest.param({"importance_samples": 3}, id="importance weighted", marks=pytest.mark.slow),
        pytest.param({"config": {"precision": "bfloat16"}}, id="bfloat16", marks=pytest.mark.slow),
    ],
)
def test_two_replicas_train_as_one_does_with_the_same_batch(options):
    """Without noise, and with plain gradient descent: Adam would not tell of doubled gradients."""
    one, two = (replicas(count, noise=False, **options) for count in (1, 2))
    tolerance = 2e-2 if "precision" in options.get("config", {}) else 1e-4
    assert one["history"].keys() == two["history"].keys()
    for name, values in one["history"].items():
        assert two["history"][name] == pytest.approx(values, rel=tolerance), name
    assert one["moved"] > 0.01
    assert two["weights"] == pytest.approx(one["weights"], abs=tolerance * one["moved"])


@pytest.mark.slow
def test_each_replica_has_noise_of_its_own_which_goes_on_after_a_resume():
    whole = replicas(2, noise=True)
    states = [tuple(state) for state in whole["states"]]
    assert len(set(states)) == len(states)
    assert min(count for _, count in states) > 0
    resumed = replicas(2, noise=True, stop_after=1)
    assert resumed == whole


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"refine_steps": 2}, {"config": {"optimizer": "muon"}}])
def test_refined_training_and_muon_work_too(options):
    history = replicas(2, noise=True, **options)["history"]
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_is_fed_its_share_by_an_iterator_that_does_not_tune_itself(number):
    """One that does holds up the end of every epoch, for up to as long as the epoch took."""
    images = np.arange(21, dtype=np.uint8).repeat(784).reshape(21, 784)
    cluster = Cluster(("127.0.0.1:1", "127.0.0.1:2"), number)
    workers = Workers(cluster, SimpleNamespace(num_replicas_in_sync=2))
    fed = workers.batches(batches_of(images, 6))
    batches = iter(fed)
    shares = [np.rint(batch.numpy()[:, 0] * 255).tolist() for batch in batches]
    rows = np.arange(21)
    assert shares == [rows[i : i + 6][number::2].tolist() for i in range(0, 21, 6)]
    assert fed.cardinality == len(shares)
    assert batches._dataset.options().autotune.enabled is False
