"""The commands of the jobs: what a person types, and what a decision leads to."""

import contextlib
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from mnist_vae.cli import cli
from mnist_vae.commands import jobs as commands
from mnist_vae.jobs.records import Decision, Figures, Outcome, Plan
from mnist_vae.jobs.release_files import champion, declined
from tests.jobs.test_releases import damage, make, promote

PLAN = Plan(fingerprint="f", parts={"code": "c"}, gate="g", outcome=None, reason="data are new")


def decision(outcome, **more):
    return Decision(
        outcome=outcome,
        reason="so it is",
        checks=(),
        candidate=Figures(negative_elbo=1.0, active_units=2),
        judge_images=20,
        judge_digest="d",
        model_version="new",
        fingerprint="f",
        gate="g",
        drifted={"a.0": 0.5},
        **more,
    )


class Run:
    """What a decision needs of the run of a job."""

    def __init__(self, data, in_use=("a.0", "b.1")):
        self.models, self.line = data / "06_models", {}
        self.parameters = SimpleNamespace(retraining=SimpleNamespace(keep_releases=3))
        manifest = {"git_commit": "abc", "data": {"batches": {"b.1": 2, "a.0": 1}}}
        self.entries = {"candidate_run_manifest": manifest, "batches_in_use": dict.fromkeys(in_use)}

    def load(self, name):
        return self.entries[name]


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "06_models"
    folder.mkdir()
    return folder


def decide(models, decision, **more):
    make(models, "new")
    run = Run(models.parent, **more)
    return commands.decide(run, PLAN, decision), run


def test_a_better_candidate_is_promoted_and_its_release_has_the_facts(models):
    ending, run = decide(models, decision(Outcome.PROMOTED))
    assert ending == (Outcome.PROMOTED, "so it is")
    manifest = champion(models).manifest
    assert (manifest["judge_images"], manifest["git_commit"]) == ("d", "abc")
    assert manifest["batches"] == ["a.0", "b.1"]
    assert manifest["parts"] == {"code": "c"}
    assert run.line["candidate"]["negative_elbo"] == 1.0
    assert run.line["drifted"] == {"a": 0.5}


@pytest.mark.parametrize("outcome", [Outcome.KEPT, Outcome.STALLED, Outcome.FAILED])
def test_another_one_is_declined_with_its_rules_and_drifted_batches(models, outcome):
    assert decide(models, decision(outcome))[0] == (outcome, "so it is")
    assert champion(models) is None
    (entry,) = declined(models)
    assert (entry.gate, entry.drifted) == ("g", ("a.0",))


@pytest.mark.parametrize("outcome", [Outcome.PROMOTED, Outcome.KEPT])
def test_a_candidate_compared_with_another_release_than_that_in_service_is_not_promoted(
    models, outcome
):
    promote(models, "old")
    (ended, reason), _ = decide(models, decision(outcome))
    assert ended is Outcome.KEPT
    assert "compared with no release, and meanwhile 000001-old is in service" in reason
    assert champion(models).name == "000001-old"
    assert declined(models) == [], "the next run tries again"


def test_a_candidate_trained_on_a_batch_that_was_withdrawn_meanwhile_is_not_promoted(models):
    (ended, reason), _ = decide(models, decision(Outcome.PROMOTED), in_use=["a.0"])
    assert ended is Outcome.KEPT
    assert "trained on b.1, withdrawn meanwhile" in reason
    assert champion(models) is None


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    from tests.projects import copy_project

    return copy_project(tmp_path_factory.mktemp("commands") / "project")


@pytest.fixture
def kedro(copy, tmp_path):
    """A function that types a command with data of its own, and returns what came of it."""
    bootstrap_project(copy)

    def run(*words):
        with contextlib.chdir(copy):
            data = f"--params=data_folder={tmp_path}"
            words = [words[0], "--env=test", data, *words[1:]]
            return CliRunner().invoke(cli, words, catch_exceptions=False)

    return run


def line_of(result):
    line = json.loads(result.stdout.splitlines()[-1])
    assert line["exit_code"] == result.exit_code
    return line


def test_a_rollback_to_what_is_not_there_is_a_failure(kedro, models):
    promote(models, "a", "b")
    line = line_of(kedro("roll-back", "2"))
    assert (line["outcome"], line["champion"]) == ("failed", "b")
    assert "the whole name of one, received 2; name another one" in line["reason"]


def test_a_rollback_from_a_damaged_release_is_done_when_it_is_repaired(kedro, models):
    promote(models, "a", "b", "c")
    damage(models)
    line = line_of(kedro("roll-back"))
    assert (line["outcome"], line["champion"]) == ("rolled_back", "b")
    assert line["reason"] == line["repaired"]
    damage(models)
    line = line_of(kedro("roll-back", "000001-a"))
    assert (line["outcome"], line["champion"]) == ("rolled_back", "a")
    assert "000001-a is in service instead" in line["repaired"]
    damage(models)
    line = line_of(kedro("roll-back"))
    assert (line["outcome"], line["champion"]) == ("failed", None)


def test_a_champion_that_is_a_folder_ends_a_job_before_any_work(kedro, models):
    (models / "champion").mkdir()
    for words in (["retrain"], ["roll-back"]):
        line = line_of(kedro(*words))
        assert line["outcome"] == "failed"
        assert "expected a link to a folder" in line["reason"]


def test_a_promotion_that_was_killed_is_completed_by_a_retraining_alone(kedro, models, monkeypatch):
    with monkeypatch.context() as during:
        during.setattr("mnist_vae.jobs.releases.replace_link", lambda *_: None)
        promote(models, "a")
    assert line_of(kedro("withdraw", "monday"))["champion"] is None
    monkeypatch.setattr(commands.JobRun, "run", lambda *_: 1 / 0)  # no pipeline
    line = line_of(kedro("retrain"))
    assert (line["adopted"], line["champion"]) == ("000001-a", "a")


def test_a_batch_is_withdrawn_by_its_name(kedro, tmp_path):
    (tmp_path / "02_intermediate/batches").mkdir(parents=True)
    (tmp_path / "02_intermediate/batches/20240601.0123.parquet").touch()
    line = line_of(kedro("withdraw", "20240601"))
    assert (line["outcome"], line["exit_code"]) == ("withdrawn", 0)
    assert (tmp_path / "02_intermediate/withdrawn_batches/20240601.0123.parquet").exists()
    line = line_of(kedro("withdraw", "friday"))
    assert "names of batches in use (there is none), received friday" in line["reason"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["retrain", "--async"], "No such option"),
        (["withdraw"], "Missing argument"),
        (["roll-back", "--env=nope"], "there is no environment `nope`"),
        (["retrain", "--params", "training.epoch=1"], "Parameter `training.epoch` is unknown"),
    ],
)
def test_what_is_typed_wrong_is_one_sentence_and_no_run(kedro, tmp_path, words, expected):
    result = kedro(*words)
    assert expected in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "08_reporting").exists()
