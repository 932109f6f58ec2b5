"""The project as it is deployed: the wheel, an archive of `conf`, and the image of the two."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SEVERAL
from tests.projects import ASCII_LOCALE, ROOT, kedro
from tests.schedule.test_commands import stages

pytestmark = pytest.mark.slow

NO_NETWORK = """
import os, socket

def refuse(*arguments, **_):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{arguments}\\n")
    raise OSError("There is no network here.")

socket.getaddrinfo = socket.socket.connect = refuse
"""


def environment(**more):
    """That of this process, without what would lead Python to the source."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {key: str(value) for key, value in more.items()}


def copy_source(target, *names):
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder that `kedro package` fills."""
    source = tmp_path_factory.mktemp("package")
    copy_source(source, "conf", "src", "pyproject.toml", ".telemetry", "README.md", "LICENSE")
    (source / "conf/local/parameters.yml").write_text("seed: 1\n")
    finished = kedro(source, "package")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def archive(dist):
    return dist / "conf-mnist_vae.tar.gz"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folders of the Dockerfile's two stages, after its own steps, and its commands.

    What is installed finds the other packages of this environment, and no network.
    """
    root = tmp_path_factory.mktemp("image").resolve()
    build, last = stages((ROOT / "Dockerfile").read_text())

    def here(text):
        return re.sub(r"(?<![\w/])/(?:opt/)?(build|venv|app)\b", rf"{root}/\1", text)

    for folder in ("build", "app/data", "tmp"):
        (root / folder).mkdir(parents=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for instruction, arguments in build:
        if instruction == "COPY":
            *sources, target = arguments.split()
            assert target in ("./", *sources)
            copy_source(root / "build", *sources)
        elif instruction == "RUN":
            # The dependencies are those of this environment.
            steps = here(arguments).replace("-c constraints.txt", "--no-deps")
            how = {"cwd": root / "build", "env": environment(PATH=path)}
            subprocess.run(steps, shell=True, check=True, **how)
    (packages,) = (root / "venv").glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", "import nowhere"]
    (packages / "inherited.pth").write_text("\n".join(lines))
    (packages / "nowhere.py").write_text(NO_NETWORK)
    for instruction, arguments in last:
        if instruction == "COPY" and "/opt/venv" not in arguments:
            _, source, target = arguments.split()
            shutil.copytree(here(source), here(target))
    subprocess.run(["chmod", "-R", "a-w", root / "venv"], check=True)
    (root / "app").chmod(0o555)
    yield root, [json.loads(here(dict(last)[name])) for name in ("ENTRYPOINT", "CMD")]
    subprocess.run(["chmod", "-R", "u+w", root], check=True)


def run(image, *command, cwd, **more):
    """Run a program of the image, which may write only where its user may."""
    # A superuser may write everywhere, unless these capabilities are taken away.
    no_power = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program, *arguments = command
    tmp = image[0] / "tmp"
    variables = environment(HOME=tmp, NETWORK_LOG=tmp / "network.log", DO_NOT_TRACK=1, **more)
    command = [*no_power, image[0] / "venv/bin" / program, *arguments]
    how = {"capture_output": True, "text": True, "timeout": 600}
    return subprocess.run(command, cwd=cwd, env=variables, **how)


def test_the_wheel_has_every_file_of_the_package_and_the_archive_nothing_of_ones_own(dist, archive):
    (wheel,) = dist.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file()]
    names = {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert packed == {name for name in names if not re.search(r"__pycache__|\.egg-info", name)}
    with tarfile.open(archive) as file:
        names = file.getnames()
    assert "conf/prod/globals.yml" in names
    assert "conf/local/parameters.yml" not in names


def test_the_default_pipeline_runs_in_an_empty_folder_any_locale_and_without_a_network(
    image, archive, tmp_path
):
    arguments = ("--conf-source", archive, "--env", "test")
    finished = run(image, "mnist-vae", *arguments, cwd=tmp_path, **ASCII_LOCALE)
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert (tmp_path / "data/test/08_reporting/model_report.html").exists()
    pictures, page = finished.stderr.splitlines()[-2:]  # where to look
    assert "Pictures in data/test/08_reporting: generated_sheet.png, " in pictures
    assert page.endswith("All of it on one page: data/test/08_reporting/model_report.html")
    assert finished.stdout == ""
    # As conf/logging.yml in the archive has it.
    assert re.match(r"\d\d:\d\d:\d\d INFO    Kedro project mnist_vae\n", finished.stderr)
    assert "Warning" not in finished.stderr
    assert not (image[0] / "tmp/network.log").exists()


def test_the_configuration_in_a_folder_makes_a_project_that_fails_and_is_scheduled_as_any(
    image, archive, tmp_path
):
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    shutil.rmtree(tmp_path / "conf/local")  # it runs without one too
    module = ("python", "-m", "mnist_vae", "--conf-source", "conf")
    failed = run(image, *module, "--nodes", "nope", cwd=tmp_path)
    assert failed.returncode == 1
    *_, where, sentence = failed.stderr.splitlines()
    assert where == f"The traceback is in {tmp_path}/data/08_reporting/errors.log."
    assert sentence == "Error: Pipeline does not contain nodes named ['nope']."
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src").mkdir()
    kinds = ("systemd --folder units", "cron", "airflow --folder dags", "kubernetes --image v:1")
    commands = [f"schedule {words}" for words in (*kinds, "alerts")]
    scheduled = run(image, "python", "-c", SEVERAL, *commands, cwd=tmp_path)
    assert scheduled.returncode == 0, scheduled.stderr
    for expected in ("kedro retrain --env prod", "kind: CronJob", "alert: "):
        assert expected in scheduled.stdout
    assert {path.name for name in ("units", "dags") for path in (tmp_path / name).iterdir()} == {
        *("mnist-vae-retraining.service", "mnist-vae-retraining.timer"),
        "mnist_vae_retraining.py",
    }


def test_the_dockerfiles_steps_make_what_runs_on_a_read_only_file_system(image, archive):
    root, (entry_point, arguments) = image
    app, log = root / "app", root / "tmp/network.log"
    with tarfile.open(archive) as packaged:
        names = {name for name in packaged.getnames() if name.split("/")[1:2] != ["local"]}
    assert {str(path.relative_to(app)) for path in (app / "conf").rglob("*")} | {"conf"} == names

    def run_in_image(*given, **more):
        finished = run(image, *entry_point, *given, cwd=app, **more)
        line = json.loads(finished.stdout)
        assert finished.returncode == line["exit_code"], finished.stderr
        assert "Traceback" not in finished.stderr
        return line

    assert run_in_image("retrain", "--env", "test")["outcome"] == "promoted"
    assert {path.name for path in app.iterdir()} == {"data", "conf"}
    assert not log.exists()
    credential = {"MNIST_VAE_WEBHOOK_URL": "https://example.org/secret"}
    line = run_in_image("roll-back", "--env", "test", **credential)
    assert "There is no release to go back to" in line["reason"]
    assert "example.org" in log.read_text()
    assert arguments == ["retrain", "--env", "prod"]
    assert "MNIST was not found" in run_in_image(*arguments)["reason"]  # it cannot be fetched
