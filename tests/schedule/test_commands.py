"""`kedro schedule` and the image: all that runs the one command on a schedule."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from mnist_vae.schedule.commands import COMMANDS
from tests.projects import ROOT, copy_project, kedro_here

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
def test_the_timer_makes_up_for_a_missed_turn_and_the_service_ends_when_the_job_does(
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
