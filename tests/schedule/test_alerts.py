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
        words = [program, *arguments]
        finished = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
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


def test_promtool_has_nothing_against_the_rules(promtool, tmp_path):
    for arguments in ((), ("--turn", "1d12h", "--disk-free", "25"), ("--scoring-turn", "never")):
        (tmp_path / "rules.yml").write_text(rules_of(*arguments))
        assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", "rules.yml")


def test_the_rules_ask_for_figures_and_outcomes_that_there_are():
    rules = rules_of()
    assert set(re.findall(r"mnist_vae_[a-z_]+(?=\{)", rules)) <= set(HELP)
    (outcomes,) = re.findall(r'outcome=~"([^"]*)"', rules)
    assert set(outcomes.split("|")) <= set(Outcome)


@pytest.mark.parametrize(("turn", "seconds"), [("1w", 604800), ("1d12h", 129600), ("90s", 90)])
def test_a_turn_is_as_prometheus_writes_durations(turn, seconds):
    rules = rules_of("--turn", turn)
    assert f'pipeline="retraining"}} > 2 * {seconds}\n' in rules
    assert f"for two intervals of {turn}." in rules
    assert f"for: {min(seconds, 3600)}s" in rules


def test_a_job_without_a_turn_is_not_missed():
    assert 'pipeline="retraining"' not in rules_of("--turn", "never")


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


def no_success():
    success = series("last_success_timestamp_seconds", "scoring")
    once = {success: always(3600)}  # the last one was after an hour; a run may be under way
    again = {success: run_at(210, 3600, 210 * 60)}
    alert = raised("NoSuccess", pipeline="scoring", instance="host")
    return [(230, once, []), (250, once, [alert]), (250, again, [])]


def no_figures():
    name = "last_success_timestamp_seconds"
    others = {series(name, "scoring"): always(1), series(name, project="theirs"): always(1)}
    ours = {series(name): always(0)}
    return [(55, others, []), (65, others, [raised("NoFigures")]), (65, others | ours, [])]


def failed():
    for outcome in OUTCOMES:
        outcomes = {
            series("last_run_outcome", outcome=one): run_at(
                60, int(one == outcome), int(one == "nothing_new")
            )
            for one in OUTCOMES
        }
        alert = raised("Failed", outcome=str(outcome), instance="host")
        alarm = outcome in ("failed", "bad_data", "stalled")
        yield from [(50, outcomes, [alert] if alarm else []), (70, outcomes, [])]


def more_than(name, figure, few, many, pipeline="retraining", **labels):
    row = series(figure, pipeline, **labels)
    alert = raised(name, many, pipeline, instance="host", **labels)
    loud = (50, {row: always(many)}, [alert])
    return [(50, {row: always(few)}, []), loud, (70, {row: run_at(60, many, 0)}, [])]


def quarantine(pipeline):
    there = {series("batches", pipeline, state="quarantined"): always(5)}  # of runs before
    cases = more_than("QuarantineGrows", "last_run_batches", 0, 2, pipeline, outcome="bad")
    return [(at, figures | there, alerts) for at, figures, alerts in cases]


def disk(pipeline, free, ran, instance="host"):
    figures = {
        "disk_free_bytes": free * 10**9,
        "disk_size_bytes": 100 * 10**9,
        "last_run_timestamp_seconds": ran,
    }
    return {series(k, pipeline, instance=instance): always(v) for k, v in figures.items()}


def disk_nearly_full():
    full, elsewhere = disk("retraining", 9, 1), disk("retraining", 9, 1, "other")
    alert = raised("DiskNearlyFull", "9.0", instance="host")
    both = [raised("DiskNearlyFull", "9.0", "scoring", instance="host")]
    both.append(raised("DiskNearlyFull", "9.0", instance="other"))
    return [
        (50, disk("retraining", 10, 1), []),
        (50, full, [alert]),
        (50, full | disk("scoring", 50, 2), []),  # the later of both knows: room was made
        (50, disk("retraining", 50, 1) | disk("scoring", 9, 2) | elsewhere, both),
    ]


@pytest.mark.parametrize(
    ("name", "cases", "arguments"),
    [
        ("NoSuccess", no_success, []),
        ("NoFigures", no_figures, []),
        ("Failed", failed, []),
        ("KeptInARow", lambda: more_than("KeptInARow", "candidates_kept_in_a_row", 2, 3), []),
        ("Drift", lambda: more_than("Drift", "drifted_batches", 0, 2), []),
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
            "interval": "5m",
            "input_series": [{"series": key, "values": values} for key, values in figures.items()],
            "alert_rule_test": [
                {"eval_time": f"{at}m", "alertname": f"MnistVae{name}", "exp_alerts": expected}
            ],
        }
        for at, figures, expected in cases()
    ]
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
    promtool("test", "rules", "test.yml")
