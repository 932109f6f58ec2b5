"""`kedro schedule` and the image: all that runs the one command on a schedule."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from mnist_vae.cli import cli
from tests.projects import ROOT, copy_project, kedro

RETRAINING = ["run", "--pipelines", "retraining", "--env", "prod"]
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


@pytest.fixture
def schedule(project):
    """A runner of `kedro schedule` in the project, that returns what it prints."""

    def run(*arguments):
        finished = CliRunner().invoke(
            cli, ["schedule", *map(str, arguments)], obj=SimpleNamespace(project_path=project)
        )
        assert finished.exit_code == 0, finished.output
        return finished.output

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


def test_kedro_lists_and_runs_the_command_beside_its_own(project):
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
    assert line.endswith("kedro run --pipelines retraining --env test")


@pytest.mark.parametrize("scheduler", ["systemd", "cron", "airflow", "kubernetes --image vae"])
def test_an_environment_that_is_not_there_is_refused_before_the_first_night(project, scheduler):
    finished = CliRunner().invoke(
        cli,
        ["schedule", *scheduler.split(), "--env", "prd"],
        obj=SimpleNamespace(project_path=project),
    )
    assert finished.exit_code == 2
    assert re.search("expected one of base, .*prod.*, received prd; name a", finished.output)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_systemd_finds_nothing_wrong_with_the_units(schedule, command, tmp_path, pipeline):
    units = tmp_path / "units"
    written = schedule("systemd", "--folder", units, "--pipeline", pipeline)
    assert written.splitlines() == [f"Wrote {path}" for path in sorted(units.iterdir())]
    assert {path.name for path in units.iterdir()} == {
        f"mnist-vae-{pipeline}.service",
        f"mnist-vae-{pipeline}.timer",
    }
    assert verify(units, tmp_path) == ""


def test_the_scoring_runs_hourly_where_the_retraining_does_once_a_week(schedule, tmp_path):
    calendars = {}
    for pipeline in PIPELINES:
        schedule("systemd", "--folder", tmp_path, "--pipeline", pipeline)
        timer = (tmp_path / f"mnist-vae-{pipeline}.timer").read_text()
        _, line = schedule("cron", "--pipeline", pipeline).splitlines()
        calendars[pipeline] = re.findall("OnCalendar=(.*)", timer)[0], line.partition(" cd ")[0]
    assert calendars == {
        "retraining": ("Sun 03:00", "0 3 * * 0"),
        "scoring": ("hourly", "0 * * * *"),
    }
    _, line = schedule("cron", "--pipeline", "scoring", "--calendar", "5 * * * *").splitlines()
    assert line.startswith("5 * * * * cd ")
    assert line.endswith(" run --pipelines scoring --env prod")


def test_a_job_that_there_is_not_is_refused(project):
    finished = CliRunner().invoke(
        cli,
        ["schedule", "cron", "--pipeline", "training"],
        obj=SimpleNamespace(project_path=project),
    )
    assert finished.exit_code == 2
    assert "'training' is not one of 'retraining', 'scoring'" in finished.output


def test_systemd_leaves_a_dollar_in_a_path_as_it_is(schedule, command, project, tmp_path):
    schedule("systemd", "--folder", tmp_path / "units")
    service = (tmp_path / "units/mnist-vae-retraining.service").read_text()
    escaped = str(command).replace("%", "%%")
    assert f'\nExecStart=":{escaped}" run' in service  # systemd.service(5): no substitution
    assert str(project).replace("%", "%%") in service


# Those that systemd or a line of cron cannot hold, or only if they are written in another way.
AWKWARD = {
    "quote": 'a"b',
    "apostrophe": "a'b",
    "backslash": "a\\b",
    "tab": "a\tb",
    "line break": "a\nb",
    "return": "a\rb",
    "no UTF-8": "a\udcffb",
    "space at the end": "ab ",
    "backslash at the end": "ab\\",
    "per cent": "a%b",
    "dollar": "a$b${c}",
    "semicolon": "a ; b",
}
awkward = pytest.mark.parametrize("name", AWKWARD.values(), ids=AWKWARD)


def asked_for(project, *arguments):
    return CliRunner().invoke(
        cli, ["schedule", *map(str, arguments)], obj=SimpleNamespace(project_path=project)
    )


def is_refused_in_a_sentence(finished):
    return finished.exit_code != 0 and re.search(
        "Error: .*expected .*received .*;", " ".join(finished.output.split())
    )


@awkward
@pytest.mark.parametrize("which", ["project", "environment"])
def test_systemd_takes_the_units_or_they_are_refused(tmp_path, monkeypatch, name, which):
    project = copy_project(tmp_path / (name if which == "project" else "project"))
    kedro = tmp_path / (name if which == "environment" else "environment") / "kedro"
    kedro.parent.mkdir(exist_ok=True)
    kedro.write_text("#!/bin/sh\n")
    kedro.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(kedro.with_name("python")))
    units = tmp_path / "units"
    finished = asked_for(project, "systemd", "--folder", units)
    if finished.exit_code:
        assert is_refused_in_a_sentence(finished)
        assert not units.exists()
        return
    assert verify(units, tmp_path) == ""
    service = (units / "mnist-vae-retraining.service").read_text()
    folder = project if which == "project" else kedro
    assert str(folder).replace("%", "%%") in service
    assert folder.name == folder.name.strip(), "systemd takes white space from the end"


@pytest.mark.parametrize(
    "calendar", ["Sun 25:00", "", "every week", "daily\nPersistent=false", "0 3 * * 0"]
)
def test_a_calendar_that_systemd_does_not_know_is_refused(project, tmp_path, calendar):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    finished = asked_for(project, "systemd", "--folder", tmp_path / "units", "--calendar", calendar)
    assert finished.exit_code == 2
    assert is_refused_in_a_sentence(finished), finished.output
    assert "--calendar" in finished.output
    assert not (tmp_path / "units").exists()


def test_a_kedro_that_is_not_there_is_said_before_the_first_night(project, command, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is needed: it comes with systemd")
    command.unlink()
    finished = asked_for(project, "systemd", "--folder", tmp_path / "units")
    assert finished.exit_code == 1
    assert f"Command {command} is not executable" in " ".join(finished.output.split())
    assert not (tmp_path / "units").exists()


@awkward
def test_a_line_of_cron_runs_in_the_project_or_is_refused(tmp_path, command, name):
    project = copy_project(tmp_path / name)
    finished = asked_for(project, "cron")
    if finished.exit_code:
        assert is_refused_in_a_sentence(finished)
        return
    _, line = finished.output.split("\n", 1)
    assert line.count("\n") == 1, "one line"
    words = line.rstrip("\n").split(" ", 5)[5].replace(r"\%", "%")
    ran = subprocess.run(["/bin/sh", "-c", words], cwd="/", capture_output=True, text=True)
    assert ran.stdout.split("\n")[0] == str(project), ran.stderr


@awkward
def test_a_dag_has_the_path_of_the_project_or_is_refused(tmp_path, command, name):
    project = copy_project(tmp_path / name)
    finished = asked_for(project, "airflow", "--folder", tmp_path / "dags")
    if finished.exit_code:
        assert is_refused_in_a_sentence(finished)
        assert not (tmp_path / "dags").exists()
        return
    dag = ast.parse((tmp_path / "dags/mnist_vae_retraining.py").read_text())
    values = [
        node.value
        for node in dag.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "PROJECT"
    ]
    assert [ast.literal_eval(value) for value in values] == [str(project)]


CRON_LIKE = ["cron", "airflow", "kubernetes --image vae"]


@pytest.mark.parametrize("scheduler", CRON_LIKE)
@pytest.mark.parametrize(
    "calendar",
    [
        "nonsense",
        "",
        "0 3 * *",
        "0 3 * * 0 extra",
        "61 3 * * 0",
        "0 24 * * *",
        "0 3 0 * *",
        "0 3 * 13 *",
        "0 3 * * 8",
        "5-1 3 * * *",
        "*/0 * * * *",
        "0 3 * * 0\n* * * * *",
        "@fortnightly",
    ],
)
def test_a_calendar_that_cron_does_not_know_is_refused(project, tmp_path, scheduler, calendar):
    folder = ["--folder", tmp_path / "dags"] if scheduler == "airflow" else []
    finished = asked_for(project, *scheduler.split(), *folder, "--calendar", calendar)
    assert finished.exit_code == 2
    assert is_refused_in_a_sentence(finished), finished.output
    assert "--calendar" in finished.output
    assert not (tmp_path / "dags").exists()


def test_kubernetes_alone_has_no_seventh_day(project):
    calendar = ["--calendar", "0 3 * * 7"]
    assert asked_for(project, "cron", *calendar).exit_code == 0
    assert asked_for(project, "kubernetes", "--image", "vae", *calendar).exit_code == 2


@pytest.mark.parametrize("scheduler", CRON_LIKE)
@pytest.mark.parametrize(
    "calendar", ["*/5 0-6,22 1,15 jan-mar MON-fri", "0 3 * * 0", "@daily", "0  3 1-31/7 * 6"]
)
def test_a_calendar_of_cron_is_taken_as_it_is(project, tmp_path, scheduler, calendar):
    folder = ["--folder", tmp_path] if scheduler == "airflow" else []
    finished = asked_for(project, *scheduler.split(), *folder, "--calendar", calendar)
    assert finished.exit_code == 0, finished.output
    written = "".join(path.read_text() for path in tmp_path.glob("*.py"))
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


def test_the_dag_holds_the_paths(schedule, project, command, tmp_path):
    schedule("airflow", "--folder", tmp_path / "dags", "--calendar", "0 4 * * *")
    dag = (tmp_path / "dags/mnist_vae_retraining.py").read_text()
    values = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(dag).body
        if isinstance(statement, ast.Assign)
    }
    assert values == {
        "PROJECT": str(project),
        "COMMAND": [str(command), *RETRAINING],
        "NOTHING_NEW": '"outcome": "nothing_new"',
        "FINAL": [65, 66],
    }
    assert 'schedule="0 4 * * *",' in dag
    assert "catchup=False," in dag
    assert "max_active_runs=1," in dag


def test_the_dag_of_the_scoring_differs_in_what_it_has_to(schedule, command, tmp_path):
    schedule("airflow", "--folder", tmp_path, "--pipeline", "scoring")
    dag = (tmp_path / "mnist_vae_scoring.py").read_text()
    values = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(dag).body
        if isinstance(statement, ast.Assign)
    }
    assert values["COMMAND"] == [str(command), "run", "--pipelines", "scoring", "--env", "prod"]
    assert values["FINAL"] == [65]
    assert 'dag_id="mnist_vae_scoring"' in dag
    assert 'schedule="0 * * * *",' in dag
    assert "retraining" not in dag


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_dag_is_code_that_the_linter_passes(schedule, tmp_path, pipeline):
    schedule("airflow", "--folder", tmp_path / "dags", "--pipeline", pipeline)
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


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_manifest_is_what_kubernetes_takes(schedule, pipeline):
    arguments = ["--image", "registry.example/vae:1", "--calendar", "@daily"]
    manifest = schedule("kubernetes", *arguments, "--pipeline", pipeline)
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
    assert container["args"] == [*RETRAINING[1:-1], "test"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_the_two_cron_jobs_share_the_claim_and_so_the_node(schedule):
    claims, jobs, pods = [], {}, []
    for pipeline in PIPELINES:
        manifest = schedule("kubernetes", "--image", "vae", "--pipeline", pipeline)
        claim, cron_job = yaml.safe_load_all(manifest)
        template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
        claims.append(claim)
        jobs[cron_job["metadata"]["name"]] = cron_job["spec"]["schedule"]
        pods.append(template["spec"])
        (container,) = template["spec"]["containers"]
        assert container["name"] == pipeline
        assert container["args"] == ["--pipelines", pipeline, "--env", "prod"]
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
    assert json.loads(settings["CMD"]) == RETRAINING[1:]
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
