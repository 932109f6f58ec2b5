"""Runs that are ended while they train, and the same command again; two runs in one data folder."""

import re
import signal

import pytest
import yaml

from tests.end_to_end.conftest import read_until, results, start
from tests.projects import copy_project, kedro, kedro_here
from tests.retrainings import typed_params

pytestmark = pytest.mark.slow

EPOCHS = 40
MAPPED = {"streaming.above_images": 0, "training.shuffle_images": 300}
IN_MEMORY = {**MAPPED, "streaming.above_images": 1_000_000}


def arguments(params):
    given = {"training.epochs": EPOCHS, "training.jit_compile": "true", "split.max_images": 1200}
    return ["run", "--pipelines=training,embedding", "--env=test", typed_params(given | params)]


def run(project):
    """Run to the end with mapped images, and return the log."""
    finished = kedro(project, *arguments(MAPPED))
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


def ended_by(number, project, while_it_trains=lambda _: None):
    """End a run when it has trained some epochs; return the last it said, its code, and its log."""
    with start(project, *arguments(IN_MEMORY)) as process:
        read_until(process, "Running node: train_vae")
        while_it_trains(process)
        found, log = read_until(process, rf"Epoch (\d+)/{EPOCHS}:")
        process.send_signal(number)
        log += process.stderr.read()
    return int(found[1]), process.returncode, log


def resumed_after(log):
    (epoch,) = re.findall(r"resumes\s+after\s+epoch\s+(\d+)", log)
    return int(epoch)


def test_a_run_that_is_ended_again_and_again_ends_with_the_same_bytes_also_mapped(tmp_path):
    """A second run in the same data folder ends at once, and changes nothing of the first."""
    undisturbed, project = (copy_project(tmp_path / name) for name in ("undisturbed", "project"))
    run(undisturbed)

    # The epochs are short: leave no minute between two saves of the state, for a kill.
    catalog = yaml.safe_load((project / "conf/base/catalog_06_models.yml").read_text())
    often = project / "conf/test/catalog.yml"
    entry = catalog["training_backup"] | {"interval": 0}
    often.write_text(yaml.safe_dump({"training_backup": entry}))

    def start_another(process):
        second = kedro_here(project, *arguments({**MAPPED, "model.latent_dim": 5}))
        assert second.exit_code == 1
        assert "The data folder" in second.stderr.splitlines()[-1]
        assert f"process {process.pid}" in second.stderr

    killed_at, code, _ = ended_by(signal.SIGKILL, project, start_another)
    assert code == -signal.SIGKILL
    often.unlink()
    terminated_at, code, log = ended_by(signal.SIGTERM, project)
    assert code not in (0, -signal.SIGTERM)
    assert resumed_after(log) >= killed_at
    interrupted_at, code, log = ended_by(signal.SIGINT, project)
    assert resumed_after(log) >= terminated_at, "an epoch was lost"
    said = "Error: Interrupted; run the same command to resume."
    assert (code, log.splitlines()[-1]) == (130, said)
    backup = project / "data/test/06_models/training_backup.npz"
    assert backup.exists()
    assert resumed_after(run(project)) >= interrupted_at
    assert results(project) == results(undisturbed)
    assert not backup.exists()
