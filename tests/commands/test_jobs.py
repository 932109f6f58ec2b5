"""The commands of the jobs: what a person types, and what a decision leads to."""

from types import SimpleNamespace

import pytest

from mnist_vae.commands import jobs as commands
from mnist_vae.jobs.records import Decision, Figures, Outcome, Plan
from mnist_vae.jobs.release_files import champion, declined
from tests.jobs.test_releases import damage, make, promote
from tests.projects import kedro_here
from tests.releases import models_of
from tests.retrainings import retrain

PLAN = Plan(fingerprint="f", parts={"code": "c"}, gate="g", outcome=None, reason="data are new")


@pytest.fixture
def models(project):
    return models_of(project)


def decide(models, outcome, in_use=("a.0", "b.1")):
    """Return how the run of a job ends with such a decision, and what its line has by then."""
    make(models, "new")
    decision = Decision(
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
    )
    entries = {
        "candidate_run_manifest": {"git_commit": "abc", "data": {"batches": {"b.1": 2, "a.0": 1}}},
        "batches_in_use": in_use,
    }
    parameters = SimpleNamespace(retraining=SimpleNamespace(keep_releases=3))
    run = SimpleNamespace(models=models, line={}, parameters=parameters, load=entries.__getitem__)
    return commands.decide(run, PLAN, decision), run.line


def test_a_better_candidate_is_promoted_and_its_release_has_the_facts(models):
    ending, line = decide(models, Outcome.PROMOTED)
    assert ending == (Outcome.PROMOTED, "so it is")
    manifest = champion(models).manifest
    assert (manifest["judge_images"], manifest["git_commit"]) == ("d", "abc")
    assert manifest["batches"] == ["a.0", "b.1"]
    assert manifest["parts"] == {"code": "c"}
    assert line["candidate"]["negative_elbo"] == 1.0
    assert line["drifted"] == {"a": 0.5}


@pytest.mark.parametrize("outcome", [Outcome.KEPT, Outcome.STALLED, Outcome.FAILED])
def test_another_one_is_declined_with_its_rules_and_drifted_batches(models, outcome):
    assert decide(models, outcome)[0] == (outcome, "so it is")
    assert champion(models) is None
    (entry,) = declined(models)
    assert (entry.gate, entry.drifted) == ("g", ("a.0",))


@pytest.mark.parametrize("outcome", [Outcome.PROMOTED, Outcome.KEPT])
def test_a_candidate_compared_with_another_release_than_that_in_service_is_not_promoted(
    models, outcome
):
    promote(models, "old")
    (ended, reason), _ = decide(models, outcome)
    assert ended is Outcome.KEPT
    assert "compared with no release, and meanwhile 000001-old is in service" in reason
    assert champion(models).name == "000001-old"
    assert declined(models) == [], "the next run tries again"


def test_a_candidate_trained_on_a_batch_that_was_withdrawn_meanwhile_is_not_promoted(models):
    (ended, reason), _ = decide(models, Outcome.PROMOTED, in_use=["a.0"])
    assert ended is Outcome.KEPT
    assert "trained on b.1, withdrawn meanwhile" in reason
    assert champion(models) is None


def test_a_rollback_from_a_damaged_release_is_done_when_it_is_repaired(project, models):
    promote(models, "a", "b", "c")
    damage(models)
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("rolled_back", "b")
    assert line["reason"] == line["repaired"]
    damage(models)
    line = retrain(project, "roll-back", "000001-a")
    assert (line["outcome"], line["champion"]) == ("rolled_back", "a")
    assert "000001-a is in service instead" in line["repaired"]
    damage(models)
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("failed", None)


def test_a_promotion_that_was_killed_is_completed_by_a_retraining_alone(
    project, models, monkeypatch
):
    promote(models, "a")
    with monkeypatch.context() as during:
        during.setattr("mnist_vae.jobs.releases.replace_link", lambda *_: None)
        promote(models, "b")
    assert retrain(project, "withdraw", "monday")["champion"] == "a"
    monkeypatch.setattr(commands.JobRun, "run", lambda *_: 1 / 0)  # no pipeline
    line = retrain(project)
    assert (line["adopted"], line["champion"]) == ("000002-b", "b")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("roll-back --env=nope", "there is no environment `nope`"),
        ("retrain --params=training.epoch=1", "Parameter `training.epoch` is unknown"),
    ],
)
def test_what_is_typed_wrong_is_one_sentence_and_no_run(project, words, expected):
    result = kedro_here(project, *words.split())
    assert expected in result.stderr
    assert result.stdout == ""
    assert not (project / "data").exists()
