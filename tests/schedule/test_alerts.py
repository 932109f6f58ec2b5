"""The alert rules: what promtool has against them, when each fires, and when it does not."""

import re
import shutil
import subprocess
from functools import cache
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring import HELP
from mnist_vae.schedule.commands import schedule
from tests.projects import ROOT, copy_project

DAY = 24 * 60  # minutes, as all times here
OUTCOMES = set(Outcome) - {Outcome.LOCKED}


def command(*arguments, project=ROOT, exit_code=0):
    """Run the command in this process, and return what it prints."""
    finished = CliRunner().invoke(
        schedule, ["alerts", *arguments], obj=SimpleNamespace(project_path=project)
    )
    assert finished.exit_code == exit_code, finished.output
    return finished.output


rules_of = cache(command)


@pytest.fixture
def promtool(tmp_path):
    """A runner of promtool in a folder of its own."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is needed: it comes with Debian's package prometheus")

    def run(*arguments):
        finished = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    return run


def series(name, pipeline="retraining", project="mnist_vae", instance="host", **labels):
    labels = {"project": project, "pipeline": pipeline, "instance": instance, **labels}
    assert f"mnist_vae_{name}" in HELP
    inner = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"mnist_vae_{name}{{{inner}}}"


def always(value):
    return f"{value}x{3 * DAY // 5}"


def run_at(minute, before, after):
    """A figure that a run at a minute changes."""
    return f"{before}x{minute // 5 - 1} {after}x{3 * DAY // 5}"


def raised(name, summary, severity="warning", pipeline="retraining", **labels):
    """Return an alert of that rule, with the rule's own description."""
    rules = {
        (rule["alert"], rule["labels"].get("pipeline", pipeline)): rule
        for group in yaml.safe_load(rules_of())["groups"]
        for rule in group["rules"]
    }
    description = rules[f"MnistVae{name}", pipeline]["annotations"]["description"]
    fixed = {"project": "mnist_vae", "severity": severity, "pipeline": pipeline}
    return {
        "exp_labels": {**fixed, **labels},
        "exp_annotations": {
            "summary": summary,
            "description": description.replace("{{ $labels.pipeline }}", pipeline),
        },
    }


def test_promtool_has_nothing_against_the_rules(promtool, tmp_path):
    for arguments in ((), ("--turn", "1d12h", "--disk-free", "25"), ("--scoring-turn", "never")):
        (tmp_path / "rules.yml").write_text(rules_of(*arguments))
        assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", "rules.yml")


def test_the_rules_ask_for_figures_and_outcomes_that_there_are():
    rules = rules_of()
    assert set(re.findall(r"mnist_vae_[a-z_]+(?=\{)", rules)) <= set(HELP)
    (outcomes,) = re.findall(r'outcome=~"([^"]*)"', rules)
    assert set(outcomes.split("|")) <= set(Outcome)


@pytest.mark.parametrize(
    ("turn", "seconds"), [("1w", 604800), ("1d12h", 129600), ("90s", 90), ("never", None)]
)
def test_a_turn_is_as_prometheus_writes_durations_and_a_job_without_one_is_not_missed(
    turn, seconds
):
    rules = rules_of("--turn", turn)
    if seconds is None:
        assert 'pipeline="retraining"' not in rules
    else:
        assert f'pipeline="retraining"}} > 2 * {seconds}\n' in rules
        assert f"for two intervals of {turn}." in rules
        assert f"for: {min(seconds, 3600)}s" in rules


@pytest.mark.parametrize("turn", ["weekly", "", "7", "0d", "-1d", "500ms", "7 d", "1.5d"])
def test_what_is_no_turn_is_refused_saying_what_is(turn):
    message = command("--turn", turn, exit_code=2)
    assert "Invalid value for '--turn': it is not the time between two runs" in message
    assert f"received {turn!r}; correct it." in message


def test_the_rules_are_about_the_project_of_the_parameters(tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "conf/prod/parameters.yml").write_text("monitoring: {project: ours}")
    rules = command(project=project)
    assert 'project="ours"' in rules
    assert "ours_retraining.prom" in rules
    assert 'project="mnist_vae"' not in rules


def no_success(pipeline, turn, minutes):
    success = series("last_success_timestamp_seconds", pipeline=pipeline)
    words = f"No run of the {pipeline} of mnist_vae on host has succeeded for two intervals of "
    expected = raised("NoSuccess", f"{words}{turn}.", "critical", pipeline, instance="host")
    late = 60 + 2 * minutes + 70  # the last success was after an hour; a run may be under way
    once = {success: always(3600)}
    again = {success: run_at(60 + 2 * minutes + 30, 3600, (60 + 2 * minutes + 30) * 60)}
    return [(late - 20, once, []), (late, once, [expected]), (late, again, [])]


def no_figures():
    name = "last_success_timestamp_seconds"
    others = {series(name, "scoring"): always(1), series(name, project="theirs"): always(1)}
    words = "There are no figures of the retraining of mnist_vae: it has never run, or no one "
    expected = raised("NoFigures", f"{words}collects them.", "critical")
    ours = {series(name): always(0)}
    return [(55, others, []), (65, others, [expected]), (65, others | ours, [])]


def failed(outcome):
    outcomes = {
        series("last_run_outcome", outcome=str(one)): run_at(
            60, float(one == outcome), float(one == "nothing_new")
        )
        for one in OUTCOMES
    }
    words = f"The last run of the retraining of mnist_vae on host ended as {outcome}."
    expected = raised("Failed", words, "critical", outcome=str(outcome), instance="host")
    alarm = outcome in ("failed", "bad_data", "stalled")
    return [(50, outcomes, [expected] if alarm else []), (70, outcomes, [])]


def more_than(name, figure, few, many, words):
    row, expected = series(figure), raised(name, words, instance="host")
    loud = (50, {row: always(many)}, [expected])
    return [(50, {row: always(few)}, []), loud, (70, {row: run_at(60, many, 0)}, [])]


def quarantine(pipeline):
    bad = series("last_run_batches", pipeline=pipeline, outcome="bad")
    there = {series("batches", pipeline=pipeline, state="quarantined"): always(5)}
    words = f"The last run of the {pipeline} of mnist_vae on host put 2 new batches in quarantine."
    labels = {"pipeline": pipeline, "outcome": "bad", "instance": "host"}
    return [
        (50, {bad: always(0)} | there, []),
        (50, {bad: run_at(45, "_", 2)}, [raised("QuarantineGrows", words, **labels)]),
        (DAY + 5, {bad: run_at(DAY, 2, 0)} | there, []),
    ]


def disk(pipeline, free, ran, instance="host"):
    of = {"pipeline": pipeline, "instance": instance}
    return {
        series("disk_free_bytes", **of): always(free * 10**9),
        series("disk_size_bytes", **of): always(100 * 10**9),
        series("last_run_timestamp_seconds", **of): always(ran),
    }


def disk_nearly_full():
    def expected(pipeline, instance="host"):
        words = f"After the last run of the {pipeline} of mnist_vae on {instance} the disk of the "
        labels = {"pipeline": pipeline, "instance": instance}
        return raised(
            "DiskNearlyFull", f"{words}data folder had 9.0 % of its space left.", **labels
        )

    both = disk("retraining", 50, 1) | disk("scoring", 9, 2)
    elsewhere = disk("retraining", 9, 1, "other")
    return [
        (50, disk("retraining", 10, 1), []),
        (50, disk("retraining", 9, 1), [expected("retraining")]),
        # The later of the two jobs knows, also after somebody has made room.
        (50, disk("retraining", 9, 1) | disk("scoring", 50, 2), []),
        (50, both | elsewhere, [expected("scoring"), expected("retraining", "other")]),
    ]


KEPT = "The last 3 candidates of mnist_vae on host were not better than the model in service."
DRIFTED = "Of the batches that mnist_vae on host looked at last, 2 have drifted."


@pytest.mark.parametrize(
    ("name", "cases", "arguments"),
    [
        ("NoSuccess", lambda: no_success("retraining", "1d", DAY), ["--turn", "1d"]),
        ("NoSuccess", lambda: no_success("scoring", "1h", 60), ["--scoring-turn", "1h"]),
        ("NoFigures", no_figures, []),
        ("Failed", lambda: [case for outcome in OUTCOMES for case in failed(outcome)], []),
        (
            "KeptInARow",
            lambda: more_than("KeptInARow", "candidates_kept_in_a_row", 2, 3, KEPT),
            [],
        ),
        ("Drift", lambda: more_than("Drift", "drifted_batches", 0, 2, DRIFTED), []),
        ("QuarantineGrows", lambda: quarantine("retraining"), []),
        ("QuarantineGrows", lambda: quarantine("scoring"), []),
        ("DiskNearlyFull", disk_nearly_full, []),
        ("DiskNearlyFull", lambda: [(50, disk("retraining", 9, 1), [])], ["--disk-free", "5"]),
    ],
)
def test_an_alert_is_raised_when_it_should_be_and_ends(promtool, tmp_path, name, cases, arguments):
    (tmp_path / "rules.yml").write_text(rules_of(*arguments))
    tests = [
        {
            "name": f"case {number}",
            "interval": "5m",
            "input_series": [{"series": key, "values": values} for key, values in figures.items()],
            "alert_rule_test": [
                {"eval_time": f"{at}m", "alertname": f"MnistVae{name}", "exp_alerts": expected}
            ],
        }
        for number, (at, figures, expected) in enumerate(cases())
    ]
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
    promtool("test", "rules", "test.yml")
