"""`kedro schedule` and the image: all that runs the one command on a schedule, and its alerts."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache

import pytest
import yaml

from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring import HELP
from mnist_vae.schedule.commands import COMMANDS
from tests.projects import ROOT, copy_project, kedro_here
from tests.prometheus import promtool

CRON = {"retraining": "0 3 * * 0", "scoring": "0 * * * *"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose path holds what schedulers give a meaning to."""
    return copy_project(tmp_path_factory.mktemp("projects") / "my project, 100% $HOME")


@pytest.fixture
def kedro(tmp_path, monkeypatch):
    """A `kedro` in an environment of such a path; it prints its folder and arguments."""
    path = tmp_path / "an environment, 7% of $USER" / "bin" / "kedro"
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path.with_name("python")))
    return path


def printed(project, *arguments, code=0):
    """Return what `kedro schedule` prints in the project."""
    finished = kedro_here(project, "schedule", *map(str, arguments))
    assert finished.exit_code == code, finished.output
    return finished.output


def refused(project, *arguments, code=1):
    """Return the sentence with which `kedro schedule` ends."""
    sentence = printed(project, *arguments, code=code).splitlines()[-1]
    assert re.match("Error: .*expected .*received .*;", sentence)
    return sentence


def cron_job(project, *arguments):
    """Return the claim, the CronJob and the pod of a manifest."""
    manifest = printed(project, "kubernetes", "--image", "vae", *arguments)
    claim, job = yaml.safe_load_all(manifest)
    return claim, job, job["spec"]["jobTemplate"]["spec"]["template"]


@pytest.mark.parametrize("scheduler", ["systemd", "cron", "airflow", "kubernetes --image vae"])
def test_an_environment_that_is_not_there_is_refused_before_the_first_night(project, scheduler):
    sentence = refused(project, *scheduler.split(), "--env", "prd", code=2)
    assert re.search("expected one of base, .*prod.*, received prd; name a", sentence)


@pytest.mark.parametrize(("job", "calendar"), [("retraining", "Sun 03:00"), ("scoring", "hourly")])
def test_a_missed_run_starts_at_the_next_boot_and_the_service_ends_when_the_job_does(
    project, kedro, tmp_path, monkeypatch, job, calendar
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    written = printed(project, "systemd", "--job", job, "--env", "test")
    folder = tmp_path / "config/systemd/user"
    units = [folder / f"mnist-vae-{job}.{kind}" for kind in ("service", "timer")]
    assert written.splitlines() == [f"Wrote {path}" for path in units]
    service, timer = (path.read_text().splitlines() for path in units)
    assert {f"OnCalendar={calendar}", "Persistent=true"} <= set(timer)
    # systemd.service(5): a colon leaves a dollar as it is, and a % is doubled.
    escaped = str(kedro).replace("%", "%%")
    assert {
        "Type=oneshot",
        "TimeoutStartSec=infinity",
        "SuccessExitStatus=75",  # locked: the other run does the work
        f'ExecStart=":{escaped}" {COMMANDS[job]} --env test',
        f"WorkingDirectory={project}".replace("%", "%%"),
    } <= set(service)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    verified = subprocess.run(
        [analyze, "--user", "verify", *units],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert verified.stdout + verified.stderr == ""


# What some scheduler's file cannot hold, or only if it is written in another way.
@pytest.mark.parametrize("name", ['a"b', "a'b", "a\\b", "a\nb", "a\udcffb", "ab ", "a{{b}}"])
def test_a_path_or_calendar_that_is_not_safe_is_refused_and_nothing_is_written(
    project, tmp_path, monkeypatch, name
):
    copy_project(tmp_path / name)
    words = ["airflow", "--folder", tmp_path / "written"]
    assert "move the project" in refused(tmp_path / name, *words)
    assert "correct --calendar" in refused(project, *words, "--calendar", name)
    if not name.endswith(" "):  # within a path it is safe
        monkeypatch.setattr(sys, "executable", str(tmp_path / name / "python"))
        assert "move the project" in refused(project, *words)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("job", COMMANDS)
def test_what_cron_makes_of_its_line_runs_the_command_in_the_project(project, kedro, job):
    comment, line = printed(project, "cron", "--job", job).splitlines()
    assert comment.startswith("#")
    words = line.removeprefix(f"{CRON[job]} ")
    # crontab(5): a bare % is a line's end, one after a backslash is a %.
    assert not re.search(r"(?<!\\)%", words)
    finished = subprocess.run(
        ["/bin/sh", "-c", words.replace(r"\%", "%")], cwd="/", capture_output=True, text=True
    )
    printed_words = [str(project), COMMANDS[job], "--env", "prod"]
    assert finished.stdout.splitlines() == printed_words, finished.stderr


@pytest.mark.parametrize("job", COMMANDS)
def test_the_dag_runs_the_command_in_the_project(project, kedro, tmp_path, monkeypatch, job):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    printed(project, "airflow", "--job", job, "--calendar", "0 4 * * *")
    code = (tmp_path / f"airflow/dags/mnist_vae_{job}.py").read_text()
    dag, operator = (
        {keyword.arg: keyword.value for keyword in call.keywords}
        for call in ast.walk(ast.parse(code))
        if isinstance(call, ast.Call) and call.func.id in ("DAG", "BashOperator")
    )
    expected = {"schedule": "0 4 * * *", "catchup": False, "max_active_runs": 1}
    expected |= {"dag_id": f"mnist_vae_{job}", "cwd": str(project), "skip_on_exit_code": 75}
    for name, value in expected.items():
        assert ast.literal_eval((dag | operator)[name]) == value
    words = shlex.split(ast.literal_eval(operator["bash_command"]))
    assert words == [str(kedro), COMMANDS[job], "--env", "prod"]


@pytest.mark.slow  # the schema of Kubernetes is in another extra
@pytest.mark.parametrize("job", COMMANDS)
def test_the_manifest_is_what_kubernetes_takes(project, job):
    schema = pytest.importorskip("kubernetes_validate", reason="the extra `all` is needed")
    claim, cron, _ = cron_job(project, "--calendar", "@daily", "--job", job)
    for document in (claim, cron):
        schema.validate(document, "1.37", strict=True)


def test_the_cron_jobs_run_a_pod_at_a_time_without_privileges_on_the_node_of_their_claim(project):
    shared = []
    for job, calendar in CRON.items():
        claim, cron, pod = cron_job(project, "--job", job, "--env", "test")
        assert cron["metadata"]["name"] == f"mnist-vae-{job}"
        assert cron["spec"]["schedule"] == calendar
        assert cron["spec"]["concurrencyPolicy"] == "Forbid"
        assert cron["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        affinity = pod["spec"]["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        # The first pod of all is let through, as it has the labels that it asks for itself.
        assert term["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        assert (container["name"], container["image"]) == (job, "vae")
        assert container["args"] == [COMMANDS[job], "--env", "test"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        shared.append((claim, pod["spec"]["volumes"]))
    assert shared[0] == shared[1]
    claim, (data, _) = shared[0]
    assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def stages(dockerfile):
    """Return the instructions of each stage, as (instruction, arguments)."""
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    instructions = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    starts = [n for n, (instruction, _) in enumerate(instructions) if instruction == "FROM"]
    return [instructions[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_the_image_runs_the_command_as_no_root_and_the_manifest_fits_it(project):
    build, last = stages((ROOT / "Dockerfile").read_text())
    assert any("install" in a and "-c constraints.txt" in a for _, a in build)
    assert not any(re.search(r"\b(pip|apt-get)\b", arguments) for _, arguments in last)
    settings = dict(last)
    assert json.loads(settings["ENTRYPOINT"])[0] == "mnist-vae"
    assert json.loads(settings["CMD"]) == ["retrain", "--env", "prod"]
    pod = cron_job(project)[2]["spec"]
    identity = pod["securityContext"]
    assert settings["USER"] == f"{identity['runAsUser']}:{identity['runAsGroup']}"
    assert settings["VOLUME"] == pod["containers"][0]["volumeMounts"][0]["mountPath"]
    assert settings["VOLUME"] == f"{settings['WORKDIR']}/data"


def test_the_build_sees_what_it_copies():
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    seen = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in " ".join(copied).split()} <= set(seen)


# The alert rules, as promtool takes them


@cache
def rules_of(*options, project=ROOT):
    return printed(project, "alerts", *options)


def test_promtool_has_nothing_against_the_rules(tmp_path):
    for options in ((), ("--turn", "1d12h"), ("--scoring-turn", "never")):
        (tmp_path / "rules.yml").write_text(rules_of(*options))
        assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", "rules.yml", cwd=tmp_path)


def test_a_turn_is_as_prometheus_writes_durations_and_a_job_without_one_is_not_missed():
    for turn, seconds in (("1w", 604800), ("1d12h", 129600), ("90s", 90)):
        rules = rules_of("--turn", turn)
        assert f'pipeline="retraining"}} > 2 * {seconds}\n' in rules
        assert f"for two intervals of {turn}." in rules
        assert f"for: {min(seconds, 3600)}s" in rules
    assert 'pipeline="retraining"' not in rules_of("--turn", "never")


@pytest.mark.parametrize("turn", ["weekly", "", "7", "0d", "-1d", "500ms", "7 d", "1.5d"])
def test_what_is_no_turn_is_refused_saying_what_is(turn):
    sentence = refused(ROOT, "alerts", "--turn", turn, code=2)
    assert "Invalid value for '--turn': it is not the time between two runs" in sentence
    assert f"received {turn!r}; correct it." in sentence


def test_the_rules_are_about_the_project_of_the_parameters(tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "conf/prod/parameters.yml").write_text("monitoring: {project: ours}")
    rules = rules_of(project=project)
    assert 'project="ours"' in rules
    assert "ours_retraining.prom" in rules
    assert 'project="mnist_vae"' not in rules


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
