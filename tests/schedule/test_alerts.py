"""The alert rules: when each fires as promtool takes it, and when it does not."""

import re
from functools import cache

import pytest
import yaml

from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring import HELP
from tests.projects import ROOT, kedro_here
from tests.prometheus import promtool


@cache
def rules_of(*options, project=ROOT):
    finished = kedro_here(project, "schedule", "alerts", *options)
    assert finished.exit_code == 0, finished.output
    return finished.stdout


def test_a_turn_is_as_prometheus_writes_durations_and_a_job_without_one_is_not_missed():
    for turn, seconds in (("1w", 604800), ("1d12h", 129600), ("90s", 90)):
        rules = rules_of("--turn", turn)
        assert f'pipeline="retraining"}} > 2 * {seconds}\n' in rules
        assert f"for two intervals of {turn}." in rules
        assert f"for: {min(seconds, 3600)}s" in rules
    assert 'pipeline="retraining"' not in rules_of("--turn", "never")


@pytest.mark.parametrize("turn", ["weekly", "", "7", "0d", "-1d", "500ms", "7 d", "1.5d"])
def test_what_is_no_turn_is_refused_saying_what_is(turn):
    refused = kedro_here(ROOT, "schedule", "alerts", "--turn", turn)
    assert refused.exit_code == 2
    assert "Invalid value for '--turn': it is not the time between two runs" in refused.output
    assert f"received {turn!r}; correct it." in refused.output


def test_the_rules_are_about_the_project_of_the_parameters(project):
    (project / "conf/prod/parameters.yml").write_text("monitoring: {project: ours}")
    rules = rules_of(project=project)
    assert 'project="ours"' in rules
    assert "ours_retraining.prom" in rules
    assert 'project="mnist_vae"' not in rules


# When an alert fires; all times are minutes.


def series(name, pipeline="retraining", project="mnist_vae", instance="host", **labels):
    assert f"mnist_vae_{name}" in HELP
    labels = {"project": project, "pipeline": pipeline, "instance": instance, **labels}
    inner = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"mnist_vae_{name}{{{inner}}}"


def always(value):
    return f"{value}x100"


def run_at(minute, before, after):
    """A figure that a run at a minute changes."""
    return f"{before}x{minute // 5 - 1} {after}x100"


def raised(name, value=None, pipeline="retraining", **labels):
    """Return an alert of that rule, its words filled in."""
    groups = yaml.safe_load(rules_of())["groups"]
    named = [rule for group in groups for rule in group["rules"] if rule["alert"][8:] == name]
    rule = next(one for one in named if one["labels"].get("pipeline", pipeline) == pipeline)
    labels |= {"project": "mnist_vae", "pipeline": pipeline, **rule["labels"]}

    def filled(match):
        return labels.get(match[1].removeprefix("$labels."), str(value))

    words = {key: re.sub("{{ (.*?) }}", filled, text) for key, text in rule["annotations"].items()}
    return {"exp_labels": labels, "exp_annotations": words}


@pytest.fixture
def check(tmp_path):
    """Have promtool check which alerts of a rule some figures raise by some minute."""

    def run(name, *cases, options=()):
        tests = [
            {
                "interval": "5m",
                "input_series": [
                    {"series": key, "values": values} for key, values in figures.items()
                ],
                "alert_rule_test": [
                    {"eval_time": f"{at}m", "alertname": f"MnistVae{name}", "exp_alerts": alerts}
                ],
            }
            for at, figures, alerts in cases
        ]
        content = {"rule_files": ["rules.yml"], "evaluation_interval": "5m", "tests": tests}
        (tmp_path / "rules.yml").write_text(rules_of(*options))
        (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
        promtool("test", "rules", "test.yml", cwd=tmp_path)

    return run


def test_two_turns_without_a_success_are_an_alert_when_a_run_under_way_could_have_ended(check):
    success = series("last_success_timestamp_seconds", "scoring")
    once = {success: always(3600)}
    again = {success: run_at(210, 3600, 210 * 60)}
    alert = raised("NoSuccess", pipeline="scoring", instance="host")
    check("NoSuccess", (230, once, []), (250, once, [alert]), (250, again, []))


def test_no_figures_of_a_job_are_an_alert_whatever_others_have(check):
    name = "last_success_timestamp_seconds"
    others = {series(name, "scoring"): always(1), series(name, project="theirs"): always(1)}
    ours = {series(name): always(0)}
    alert = raised("NoFigures")
    check("NoFigures", (55, others, []), (65, others, [alert]), (65, others | ours, []))


@pytest.mark.parametrize("outcome", Outcome)
def test_a_run_that_failed_had_bad_data_or_stalled_is_an_alert_until_the_next_one(check, outcome):
    alert = raised("Failed", outcome=str(outcome), instance="host")
    alarm = outcome in ("failed", "bad_data", "stalled")
    figures = {
        series("last_run_outcome", outcome=outcome): run_at(60, 1, 0),
        series("last_run_outcome", outcome="next"): run_at(60, 0, 1),
    }
    check("Failed", (50, figures, [alert] if alarm else []), (70, figures, []))


@pytest.mark.parametrize(
    ("name", "pipeline", "few", "many", "figure", "labels"),
    [
        ("KeptInARow", "retraining", 2, 3, "candidates_kept_in_a_row", {}),
        ("Drift", "retraining", 0, 2, "drifted_batches", {}),
        ("QuarantineGrows", "retraining", 0, 2, "last_run_batches", {"outcome": "bad"}),
        ("QuarantineGrows", "scoring", 0, 2, "last_run_batches", {"outcome": "bad"}),
    ],
)
def test_too_many_in_the_last_run_are_an_alert_until_the_next_one(
    check, name, pipeline, few, many, figure, labels
):
    row = series(figure, pipeline, **labels)
    before = {series("batches", pipeline, state="quarantined"): always(5)}  # by earlier runs
    alert = raised(name, many, pipeline, instance="host", **labels)
    quiet, loud = before | {row: always(few)}, before | {row: always(many)}
    ends = {row: run_at(60, many, 0)}
    check(name, (50, quiet, []), (50, loud, [alert]), (70, ends, []))


def disk(pipeline, free, ran, instance="host"):
    figures = {
        "disk_free_bytes": free * 10**9,
        "disk_size_bytes": 100 * 10**9,
        "last_run_timestamp_seconds": ran,
    }
    return {series(k, pipeline, instance=instance): always(v) for k, v in figures.items()}


def test_a_disk_is_nearly_full_as_the_job_that_ran_last_has_found_it(check):
    name, full = "DiskNearlyFull", disk("retraining", 9, 1)
    here = raised(name, "9.0", instance="host")
    scoring = raised(name, "9.0", "scoring", instance="host")
    elsewhere = raised(name, "9.0", instance="other")
    later = disk("retraining", 50, 1) | disk("scoring", 9, 2)
    check(
        name,
        (50, disk("retraining", 10, 1), []),
        (50, full, [here]),
        (50, full | disk("scoring", 50, 2), []),  # room was made
        (50, later | disk("retraining", 9, 1, "other"), [scoring, elsewhere]),
    )
    check(name, (50, full, []), options=("--disk-free", "5"))
