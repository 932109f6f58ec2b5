"""The commands of the jobs: `kedro retrain`, `score`, `roll-back` and `withdraw`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from mnist_vae import config, failures
from mnist_vae.commands.run import Ending, JobRun
from mnist_vae.jobs import batch_embeddings, batches, releases
from mnist_vae.jobs.names import printable
from mnist_vae.jobs.records import Decision, Outcome, Plan, Scored, ScoringPlan
from mnist_vae.jobs.release_files import champion

logger = logging.getLogger(__name__)

# Of a decision, what the last line and the release have.
_FIGURES = {"candidate", "champion", "gain", "gain_interval", "gains"}
_OPTIONS = [each for each in kedro_run.params if each.name in ("conf_source", "env", "params")]


def retrain(run: JobRun) -> Ending:
    """Train a candidate on what is new, and put it in service if it is better.

    Batches arrive in data/01_raw/incoming. Without anything new it ends in seconds.
    """
    _repair(run)
    if adopted := releases.adopt(run.models):
        logger.warning("%s is in service: its promotion was killed half way.", adopted)
        run.line["adopted"] = adopted
    run.run("intake")
    plan: Plan = run.load("retraining_plan")
    run.line["fingerprint"] = plan.fingerprint
    if plan.outcome is not None:
        return plan.outcome, plan.reason
    run.run("candidate")
    run.run("promotion")
    ending = decide(run, plan, run.load("retraining_decision"))
    for backup in ("candidate_training_backup", "repeats_backup"):
        run.load(backup).clear()
    return ending


def decide(run: JobRun, plan: Plan, decision: Decision) -> Ending:
    """Promote the candidate or decline it; nothing else changes what is in service meanwhile."""
    figures = decision.model_dump(mode="json", include=_FIGURES)
    manifest = run.load("candidate_run_manifest")
    facts = {
        **figures,
        "model_version": decision.model_version,
        "fingerprint": decision.fingerprint,
        "git_commit": manifest["git_commit"],
        "judge_images": decision.judge_digest,
        "batches": sorted(manifest["data"]["batches"]),
        "parts": plan.parts,
    }
    run.line |= {"compared_with" if k == "champion" else k: v for k, v in figures.items()}
    run.line["model_version"] = decision.model_version
    run.line["drifted"] = {key.rpartition(".")[0]: far for key, far in decision.drifted.items()}
    keep = run.parameters.retraining.keep_releases
    with releases.locked(run.models):
        changed = _changed_meanwhile(run, decision, facts["batches"])
        if changed is None:  # else it may be tried again
            facts |= {"gate": decision.gate, "drifted": list(decision.drifted)}
        if decision.outcome is Outcome.PROMOTED and changed is None:
            releases.promote(run.models, facts, keep)
        else:
            releases.decline(run.models, facts, keep)
    return (Outcome.KEPT, changed) if changed else (decision.outcome, decision.reason)


def _changed_meanwhile(run: JobRun, decision: Decision, batches: list[str]) -> str | None:
    """Return why a candidate cannot go in service any more, whatever the decision was."""
    in_service = releases.name_in_service(run.models)
    if in_service != decision.previous:
        return (
            f"it was compared with {decision.previous or 'no release'}, and meanwhile "
            f"{in_service or 'none'} is in service; the next run judges anew"
        )
    if withdrawn := sorted(set(batches) - set(run.load("batches_in_use"))):
        return (
            f"it was trained on {', '.join(withdrawn)}, withdrawn meanwhile; the next run trains "
            "without"
        )
    return None


def roll_back(run: JobRun, release: str) -> Ending:
    """Put RELEASE back in service: its whole name, or by default the one before.

    It waits for no training, and works on a full disk.
    """
    repaired = _repair(run)
    # What was asked for is done, unless a release was named: once more would be too far.
    if repaired is not None and release == releases.PREVIOUS:
        back = champion(run.models) is not None
        return Outcome.ROLLED_BACK if back else Outcome.FAILED, repaired
    return Outcome.ROLLED_BACK, releases.roll_back(run.models, release)


def withdraw(run: JobRun, batch: tuple[str, ...]) -> Ending:
    """Take each BATCH out of use; the next retraining trains without it."""
    keys = batches.withdraw(run.data / "02_intermediate", batch)
    return Outcome.WITHDRAWN, f"{', '.join(keys)} will not be trained on any more"


def _repair(run: JobRun) -> str | None:
    repaired = releases.repair(run.models)
    if repaired is not None:
        logger.error("%s", repaired)
        run.line["repaired"] = printable(repaired)
    return repaired


def score(run: JobRun) -> Ending:
    """Embed the batches in data/01_raw/to_embed with the model in use, each once."""
    plan = _scoring_plan(run, to_outputs=["scoring_plan"])  # before any model is loaded
    if plan.outcome is not None:
        return plan.outcome, plan.reason
    plan = _scoring_plan(run)  # anew, as another release may be in service by now
    scored: Scored = run.load("scoring_result")
    batch_embeddings.finish(
        run.data / "07_model_output/batch_embeddings",
        plan.model,
        complete=scored.complete,
        keep=run.parameters.scoring.keep,
    )
    return scored.outcome, scored.reason


def _scoring_plan(run: JobRun, **part: Any) -> ScoringPlan:
    """Run the scoring, or a part of it, and return its plan."""
    run.run("scoring", **part)
    plan: ScoringPlan = run.load("scoring_plan")
    run.line |= {"release": plan.release, "model_version": plan.model_version}
    return plan


def _execute(name: str, conf_source: str, env: str, params: dict[str, Any], **given: Any) -> None:
    env_in_use = config.enter(conf_source, env)
    run = JobRun(name, config.project_folder(), env_in_use, params, conf_source)
    raise click.exceptions.Exit(run.execute(partial(_WORK[name], **given)).exit_code)


_WORK: dict[str, Callable[..., Ending]] = {
    "retrain": retrain,
    "score": score,
    "roll-back": roll_back,
    "withdraw": withdraw,
}
_ARGUMENTS = {
    "roll-back": [click.Argument(["release"], default=releases.PREVIOUS)],
    "withdraw": [click.Argument(["batch"], nargs=-1, required=True)],
}

COMMANDS = [
    failures.Command(
        name,
        callback=partial(_execute, name),
        params=[*_OPTIONS, *_ARGUMENTS.get(name, [])],
        help=inspect.getdoc(work),
    )
    for name, work in _WORK.items()
]
