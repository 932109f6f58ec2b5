"""`kedro sweep`: what is wrong ends it in one sentence before anything is started."""

import os
import re
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from filelock import FileLock
from kedro.framework.startup import bootstrap_project

from mnist_vae.cli import cli
from mnist_vae.sweep import workers
from mnist_vae.sweep.grid import named
from mnist_vae.sweep.plan import Planner
from tests.projects import kedro


@pytest.fixture
def sweep(project, monkeypatch):
    """A runner of `kedro sweep` in a project; it returns exit code and output, and runs nothing."""
    started = []

    def run(*arguments):
        bootstrap_project(project)
        monkeypatch.chdir(project)
        finished = CliRunner().invoke(
            cli, ["sweep", "--env=test", *arguments], obj=SimpleNamespace(project_path=project)
        )
        return finished.exit_code, finished.output

    monkeypatch.setattr(workers, "execute", lambda order, *_, **__: started.append(order))
    run.started = started
    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "model.latent_dims=2,3"], "Parameter `model.latent_dims` is unknown"),
        (["--over", "model.latent_dim=2,0"], "`model.latent_dim` is wrong: .*received 0"),
        (["--over", "model=2"], "Parameter `model` is wrong"),
        (["--over", "model.latent_dim=2..9"], "add --search N"),
        (["--over", "model.latent_dim"], "expected KEY=VALUE"),
        (["--over", "model.latent_dim=2", "--over", "model.latent_dim.x=1"], "both a group and"),
        (["--variant", "embedding.workers=2"], "do not go together"),
        (["--params", "training.epoch=1"], "Parameter `training.epoch` is unknown"),
        (["--seeds", "1,x"], "The seeds are wrong"),
        (["--seeds", "3000000000"], "Parameter `seed` is wrong"),
        (["--env", "tset"], "There is no environment `tset`: expected one of .*test"),
        (["--pipelines", "data"], "train a model and measure it"),
        (["--pipelines", "training,nothing"], "train a model and measure it"),
        (["--pipelines", "training,retraining"], "and no job"),
        (["--name", "../x"], "cannot be that of a folder"),
        (["--search", "3"], "nothing to search in"),
        (["--search", "3", "--over", "training.learning_rate=0.0..0.1"], "greater than 0"),
        (["--search", "3", "--variant", "training.epochs=1"], "has no variants"),
        (["--params", "source.folder=nowhere,source.order=[folder]"], "nowhere"),
    ],
)
def test_what_is_wrong_ends_in_one_sentence_and_starts_nothing(sweep, project, arguments, message):
    code, output = sweep(*arguments)
    assert code == 1, output
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, output
    assert re.search(message, lines[0]), lines[0]
    assert not sweep.started
    assert not (project / "data").exists() or not list((project / "data").rglob("sweeps"))


def test_two_sweeps_do_not_work_in_one_folder(sweep, project):
    folder = project / "data/test/sweeps/mine"
    folder.mkdir(parents=True)
    with FileLock(folder / "sweep.lock"):
        code, output = sweep("--name=mine")
    assert (code, sweep.started) == (1, [])
    assert "Another sweep works in" in output


@pytest.fixture
def orders(project, monkeypatch):
    """A maker of the runs of a sweep in a project, whose raw images are not read."""
    bootstrap_project(project)
    monkeypatch.setattr(Planner, "_images_of", lambda *_: "images")

    def make(*settings, seeds=(1,), **values):
        return Planner(project, env="test", **values).orders(named(list(settings)), seeds)

    return make


def test_every_run_has_a_folder_of_its_own_that_its_parameters_name(orders, project):
    two, again, other, seed = (
        orders({"model.latent_dim": 2})[0],
        orders({"model.latent_dim": 2})[0],
        orders({"model.latent_dim": 3})[0],
        orders({"model.latent_dim": 2}, seeds=(2,))[0],
    )
    assert two == again
    assert len({two.folder, other.folder, seed.folder}) == 3
    assert two.folder.parent == project / "data/test/sweeps/sweep/runs"
    assert two.params["data_folder"] == str(two.folder / "data")
    assert "=" not in str(two.folder)
    assert len({two.fingerprint, other.fingerprint, seed.fingerprint}) == 3


def test_more_values_leave_the_folders_and_results_of_the_others(orders):
    few = orders({"model.latent_dim": 2}, {"model.latent_dim": 3})
    many = orders(*({"model.latent_dim": n} for n in (5, 2, 3)))
    assert few == many[1:]


def test_what_has_a_say_in_the_result_changes_its_fingerprint(orders, project):
    (before,) = orders({})
    parameters = project / "conf/base/parameters_training.yml"
    text = parameters.read_text()
    parameters.write_text(text.replace("beta_2: 0.99", "beta_2: 0.98"))
    (after,) = orders({})
    assert after.folder == before.folder
    assert after.fingerprint != before.fingerprint
    parameters.write_text(text)
    scoring = project / "conf/base/parameters_scoring.yml"
    scoring.write_text(scoring.read_text().replace("keep: 3", "keep: 4"))
    assert orders({}) == [before]


def test_parameters_of_a_setting_go_before_those_of_all_runs(orders):
    (order,) = orders({"training.epochs": 3}, common={"training.epochs": 2})
    assert order.params["training"] == {"epochs": 3}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_each_of_several_workers_has_a_core(monkeypatch, order):
    given = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(
        workers, "execute", lambda order, _, core, one_thread: given.append((core, one_thread))
    )
    workers.LocalWorkers(2).run([order(str(n)) for n in range(6)], lambda _: None)
    assert {one for _, one in given} == {True}
    assert {core for core, _ in given} <= {3, 5}
    given.clear()
    workers.LocalWorkers(1).run([order("alone")], lambda _: None)
    assert given == [(None, False)]


def test_the_command_is_among_those_of_kedro(project):
    listed = kedro(project, "--help").stdout
    assert "sweep" in listed
