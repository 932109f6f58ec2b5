"""Several replicas train as one does: two logical devices here, processes in `end_to_end/`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        pytest.param({"precision": "bfloat16"}, id="bfloat16", marks=pytest.mark.slow),
    ],
)
def test_two_replicas_train_as_one_does_with_the_same_batch(options):
    """Without noise, and with plain gradient descent: Adam would not tell of doubled gradients."""
    one, two = (replicas(count, noise=False, **options) for count in (1, 2))
    tolerance = 2e-2 if "precision" in options else 1e-4
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
def test_refined_training_works_too():
    history = replicas(2, noise=True, refine_steps=2)["history"]
    assert history["loss"][-1] < history["loss"][0]
