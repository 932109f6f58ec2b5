"""`kedro schedule` and the image: all that runs the one command on a schedule."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from mnist_vae.cli import cli
from tests.projects import ROOT, copy_project, kedro

RETRAINING = ["retrain", "--env", "prod"]
COMMANDS = {"retraining": "retrain", "scoring": "score"}
PIPELINES = ["retraining", "scoring"]


@pytest.fixture
def project(tmp_path):
    """A project whose path holds what schedulers give a meaning to."""
    return copy_project(tmp_path / "my project, 100% $HOME")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A `kedro` in an environment of such a path; it prints its folder and arguments."""
    path = tmp_path / "an environment, 7% of $USER" / "bin" / "kedro"
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path.with_name("python")))
    return path


def asked_for(project, *arguments):
    return CliRunner().invoke(
        cli, ["schedule", *map(str, arguments)], obj=SimpleNamespace(project_path=project)
    )


@pytest.fixture
def schedule(project):
    """A runner of `kedro schedule` in the project, that returns what it prints."""

    def run(*arguments):
        finished = asked_for(project, *arguments)
        assert finished.exit_code == 0, finished.output
        return finished.output

    return run


@pytest.fixture
def refused(project):
    """A runner of `kedro schedule` that returns the sentence with which it ends."""

    def run(*arguments, code, project=project):
        finished = asked_for(project, *arguments)
        assert finished.exit_code == code, finished.output
        sentence = finished.output.splitlines()[-1]
        assert re.match("Error: .*expected .*received .*;", sentence)
        return sentence

    return run


def verify(folder, runtime):
    """Return what `systemd-analyze` has against the units; of some it tells, and exits with 0."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    finished = subprocess.run(
        [analyze, "--user", "verify", *sorted(folder.iterdir())],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
    )
    return finished.stdout + finished.stderr


def test_kedro_lists_and_runs_the_command_with_its_own(project):
    listed = kedro(project, "--help").stdout
    assert re.findall(r"^ +(run|registry|catalog|schedule) ", listed, re.MULTILINE) == [
        "catalog",
        "registry",
        "run",
        "schedule",
    ]
    printed = kedro(project, "schedule", "cron", "--env", "test")
    assert printed.returncode == 0, printed.stderr
    comment, line = printed.stdout.splitlines()
    assert comment.startswith("#")
    assert line.endswith("kedro retrain --env test")


def test_an_environment_that_is_not_there_is_refused_before_the_first_night(refused):
    for scheduler in ("systemd", "cron", "airflow", "kubernetes --image vae"):
        sentence = refused(*scheduler.split(), "--env", "prd", code=2)
        assert re.search("expected one of base, .*prod.*, received prd; name a", sentence)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_systemd_finds_nothing_wrong_with_the_units(schedule, command, tmp_path, pipeline):
    units = tmp_path / "units"
    written = schedule("systemd", "--folder", units, "--job", pipeline)
    assert written.splitlines() == [f"Wrote {path}" for path in sorted(units.iterdir())]
    assert {path.name for path in units.iterdir()} == {
        f"mnist-vae-{pipeline}.service",
        f"mnist-vae-{pipeline}.timer",
    }
    assert verify(units, tmp_path) == ""


def test_the_scoring_runs_hourly_where_the_retraining_does_once_a_week(schedule, tmp_path):
    calendars = {}
    for pipeline in PIPELINES:
        schedule("systemd", "--folder", tmp_path, "--job", pipeline)
        timer = (tmp_path / f"mnist-vae-{pipeline}.timer").read_text()
        _, line = schedule("cron", "--job", pipeline).splitlines()
        calendars[pipeline] = re.findall("OnCalendar=(.*)", timer)[0], line.partition(" cd ")[0]
    assert calendars == {
        "retraining": ("Sun 03:00", "0 3 * * 0"),
        "scoring": ("hourly", "0 * * * *"),
    }
    _, line = schedule("cron", "--job", "scoring", "--calendar", "5 * * * *").splitlines()
    assert line.startswith("5 * * * * cd ")
    assert line.endswith(" score --env prod")


def test_a_job_that_there_is_not_is_refused(project):
    finished = asked_for(project, "cron", "--job", "training")
    assert finished.exit_code == 2
    assert "'training' is not one of 'retraining', 'scoring'" in finished.output


def test_systemd_leaves_a_dollar_in_a_path_as_it_is(schedule, command, project, tmp_path):
    schedule("systemd", "--folder", tmp_path / "units")
    service = (tmp_path / "units/mnist-vae-retraining.service").read_text()
    escaped = str(command).replace("%", "%%")
    assert f'\nExecStart=":{escaped}" retrain' in service  # systemd.service(5): no substitution
    assert str(project).replace("%", "%%") in service


# Those that some scheduler's file cannot hold, or only if they are written in another way.
UNSAFE = {
    "quote": 'a"b',
    "apostrophe": "a'b",
    "backslash": "a\\b",
    "line break": "a\nb",
    "no UTF-8": "a\udcffb",
    "space at the end": "ab ",
    "template of Airflow": "a{{b}}",
}


@pytest.mark.parametrize("name", UNSAFE.values(), ids=UNSAFE)
def test_a_path_that_is_not_safe_is_refused_and_nothing_is_written(
    refused, tmp_path, monkeypatch, name
):
    project = copy_project(tmp_path / name)
    for scheduler in ("systemd", "cron", "airflow"):
        folder = ["--folder", tmp_path / "written"] if scheduler != "cron" else []
        assert "move the project" in refused(scheduler, *folder, code=1, project=project)
        if not name.endswith(" "):  # within a path it is safe
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", str(tmp_path / name / "python"))
                assert "move the project" in refused(scheduler, *folder, code=1)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    "calendar", ["Sun 25:00", "", "every week", "daily\nPersistent=false", "0 3 * * 0"]
)
def test_a_calendar_that_systemd_does_not_know_is_refused(refused, tmp_path, calendar):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    folder = ["--folder", tmp_path / "units"]
    sentence = refused("systemd", *folder, "--calendar", calendar, code=1)
    assert "mnist-vae-retraining.timer" in sentence or "correct --calendar" in sentence
    assert not (tmp_path / "units").exists()


def test_a_kedro_that_is_not_there_is_said_before_the_first_night(project, command, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    command.unlink()
    finished = asked_for(project, "systemd", "--folder", tmp_path / "units")
    assert finished.exit_code == 1
    assert f"Command {command} is not executable" in " ".join(finished.output.split())
    assert not (tmp_path / "units").exists()


CRON_LIKE = ("cron", "airflow", "kubernetes --image vae")
NO_CALENDARS = ("nonsense", "", "0 3 * *", "0 3 * * 0 extra", "61 3 * * 0", "0 24 * * *")
NO_CALENDARS += ("0 3 0 * *", "0 3 * 13 *", "0 3 * * 8", "*/0 * * * *", "@fortnightly")
NO_CALENDARS += ("0 3 * * 0\n* * * * *",)
CALENDARS = ("*/5 0-6,22 1,15 jan-mar MON-fri", "0 3 * * 0", "@daily", "0  3 1-31/7 * 6")


def test_a_calendar_that_cron_does_not_know_is_refused(refused):
    for calendar in NO_CALENDARS:
        assert "--calendar" in refused("cron", "--calendar", calendar, code=2), calendar


@pytest.mark.parametrize("scheduler", CRON_LIKE)
def test_a_calendar_of_cron_is_taken_as_it_is_and_no_other(project, refused, tmp_path, scheduler):
    folder = ["--folder", tmp_path / "dags"] if scheduler == "airflow" else []
    arguments = [*scheduler.split(), *folder, "--calendar"]
    assert "--calendar" in refused(*arguments, "nonsense", code=2)
    assert not (tmp_path / "dags").exists()
    for calendar in CALENDARS:
        finished = asked_for(project, *arguments, calendar)
        assert finished.exit_code == 0, finished.output
        written = "".join(path.read_text() for path in tmp_path.glob("dags/*.py"))
        assert calendar in finished.output + written


def test_the_timer_makes_up_for_a_missed_turn_and_the_service_ends_when_the_job_does(
    schedule, tmp_path
):
    schedule("systemd", "--folder", tmp_path / "units", "--calendar", "daily", "--env", "test")
    service, timer = (path.read_text() for path in sorted((tmp_path / "units").iterdir()))
    assert "OnCalendar=daily\n" in timer
    assert "Persistent=true\n" in timer
    assert "Type=oneshot\n" in service
    assert "TimeoutStartSec=infinity\n" in service
    assert "SuccessExitStatus=75\n" in service  # locked: the other run does the work
    assert " --env test\n" in service


def test_units_go_where_systemd_looks_for_those_of_a_user(schedule, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    schedule("systemd")
    names = {path.name for path in (tmp_path / "config/systemd/user").iterdir()}
    assert names == {"mnist-vae-retraining.service", "mnist-vae-retraining.timer"}


def test_what_cron_makes_of_its_line_runs_the_command_in_the_project(schedule, project, command):
    _, line = schedule("cron", "--calendar", "30 4 1 * *").splitlines()
    assert line.startswith("30 4 1 * * ")
    # crontab(5): a bare % is a line's end, one after a backslash is a %.
    words = line.split(" ", 5)[5]
    assert not re.search(r"(?<!\\)%", words)
    finished = subprocess.run(
        ["/bin/sh", "-c", words.replace(r"\%", "%")], cwd="/", capture_output=True, text=True
    )
    assert finished.stdout.splitlines() == [str(project), *RETRAINING], finished.stderr


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_dag_runs_the_command_in_the_project(schedule, project, command, tmp_path, pipeline):
    schedule("airflow", "--folder", tmp_path, "--job", pipeline, "--calendar", "0 4 * * *")
    dag, operator = (
        {keyword.arg: keyword.value for keyword in call.keywords}
        for call in ast.walk(ast.parse((tmp_path / f"mnist_vae_{pipeline}.py").read_text()))
        if isinstance(call, ast.Call) and call.func.id in ("DAG", "BashOperator")
    )
    assert ast.literal_eval(dag["dag_id"]) == f"mnist_vae_{pipeline}"
    assert ast.literal_eval(dag["schedule"]) == "0 4 * * *"
    assert ast.literal_eval(dag["catchup"]) is False
    assert ast.literal_eval(dag["max_active_runs"]) == 1
    assert ast.literal_eval(operator["cwd"]) == str(project)
    assert ast.literal_eval(operator["skip_on_exit_code"]) == 75
    words = shlex.split(ast.literal_eval(operator["bash_command"]))
    assert words == [str(command), COMMANDS[pipeline], "--env", "prod"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_dag_is_code_that_the_linter_passes(schedule, tmp_path, pipeline):
    schedule("airflow", "--folder", tmp_path / "dags", "--job", pipeline)
    ruff = Path(sys.prefix, "bin/ruff")
    # Paths are as they are, and Airflow's own methods need no words.
    for check in (
        ["check", "--ignore=ARG,D,E501,S108"],
        ["format", "--check", "--line-length=320"],
    ):
        finished = subprocess.run(
            [ruff, *check, "--stdin-filename=dag.py", "-"],
            input=(tmp_path / f"dags/mnist_vae_{pipeline}.py").read_text(),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_dag_goes_where_airflow_looks_for_it(schedule, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    schedule("airflow")
    assert (tmp_path / "airflow/dags/mnist_vae_retraining.py").is_file()


@pytest.mark.slow  # the schema of Kubernetes is in another extra
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_manifest_is_what_kubernetes_takes(schedule, pipeline):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="the extra `all` is needed"
    )
    arguments = ["--image", "registry.example/vae:1", "--calendar", "@daily"]
    manifest = schedule("kubernetes", *arguments, "--job", pipeline)
    claim, cron_job = yaml.safe_load_all(manifest)
    for document in (claim, cron_job):
        kubernetes_validate.validate(document, "1.37", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            cron_job | {"spec": cron_job["spec"] | {"concurrency": "Forbid"}}, "1.37", strict=True
        )


def test_the_cron_job_runs_one_pod_at_a_time_without_privileges(schedule):
    manifest = schedule("kubernetes", "--image", "vae", "--env", "test")
    claim, cron_job = yaml.safe_load_all(manifest)
    spec = cron_job["spec"]
    assert spec["schedule"] == "0 3 * * 0"
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["image"] == "vae"
    assert container["args"] == [*RETRAINING[:-1], "test"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_the_two_cron_jobs_share_the_claim_and_so_the_node(schedule):
    claims, jobs, pods = [], {}, []
    for pipeline in PIPELINES:
        manifest = schedule("kubernetes", "--image", "vae", "--job", pipeline)
        claim, cron_job = yaml.safe_load_all(manifest)
        template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
        claims.append(claim)
        jobs[cron_job["metadata"]["name"]] = cron_job["spec"]["schedule"]
        pods.append(template["spec"])
        (container,) = template["spec"]["containers"]
        assert container["name"] == pipeline
        assert container["args"] == [COMMANDS[pipeline], "--env", "prod"]
        affinity = template["spec"]["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        # The first pod of all is let through, as it has the labels that it asks for itself.
        assert term["labelSelector"]["matchLabels"] == template["metadata"]["labels"]
    assert claims[0] == claims[1]
    assert claims[0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert jobs == {"mnist-vae-retraining": "0 3 * * 0", "mnist-vae-scoring": "0 * * * *"}


def stages(dockerfile):
    """Return the instructions of each stage, as (instruction, arguments)."""
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    instructions = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    starts = [n for n, (instruction, _) in enumerate(instructions) if instruction == "FROM"]
    return [instructions[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_the_image_runs_the_command_as_no_root_and_the_manifest_fits_it(schedule):
    build, last = stages((ROOT / "Dockerfile").read_text())
    assert any("install" in a and "-c constraints.txt" in a for _, a in build)
    assert not any(re.search(r"\b(pip|apt-get)\b", arguments) for _, arguments in last)
    settings = dict(last)
    assert json.loads(settings["ENTRYPOINT"])[0] == "mnist-vae"
    assert json.loads(settings["CMD"]) == RETRAINING
    _, cron_job = yaml.safe_load_all(schedule("kubernetes", "--image", "vae"))
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    identity = pod["securityContext"]
    assert settings["USER"] == f"{identity['runAsUser']}:{identity['runAsGroup']}"
    assert settings["VOLUME"] == pod["containers"][0]["volumeMounts"][0]["mountPath"]
    assert settings["VOLUME"] == f"{settings['WORKDIR']}/data"


def test_the_build_sees_what_it_copies():
    copied = {
        source
        for stage in stages((ROOT / "Dockerfile").read_text())
        for instruction, arguments in stage
        if instruction == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    seen = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied} <= set(seen)


def test_every_template_is_part_of_an_installed_package():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = pyproject["tool"]["setuptools"]["package-data"]["mnist_vae"]
    for template in (ROOT / "src/mnist_vae/schedule").iterdir():
        name = f"schedule/{template.name}"
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
