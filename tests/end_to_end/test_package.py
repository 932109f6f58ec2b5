"""The project as Kedro users deploy it: a wheel and an archive of `conf`, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.projects import ROOT, kedro
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


def python_of(folder, wheel):
    """Make an environment with the wheel installed, and what this one has of other packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, wheel], check=True, env=environment())
    inherit(folder)
    return python


def inherit(folder):
    (packages,) = folder.glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", "import nowhere"]
    (packages / "inherited.pth").write_text("\n".join(lines))
    (packages / "nowhere.py").write_text(NO_NETWORK)


def environment(**more):
    """That of this process, without what would lead Python to the source."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {key: str(value) for key, value in more.items()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder that `kedro package` fills."""
    source = tmp_path_factory.mktemp("package") / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("conf", "src"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", ".telemetry", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "conf/local/parameters.yml").write_text("seed: 1\n")
    finished = kedro(source, "package")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def archive(dist):
    return dist / "conf-mnist_vae.tar.gz"


@pytest.fixture(scope="module")
def python(dist, tmp_path_factory):
    (wheel,) = dist.glob("*.whl")
    return python_of(tmp_path_factory.mktemp("deployed") / "venv", wheel)


@pytest.fixture
def folder(tmp_path):
    """An empty folder to run in."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def run(folder, command, archive, *arguments, env="test", **more):
    given = [] if env is None else ["--env", env]
    return subprocess.run(
        [*command, "--conf-source", archive, *given, *arguments],
        cwd=folder,
        env=environment(NETWORK_LOG=folder.with_name("network.log"), **more),
        capture_output=True,
        text=True,
        timeout=600,
    )


def connections(folder):
    log = folder.with_name("network.log")
    return log.read_text() if log.exists() else ""


def test_the_wheel_has_every_file_of_the_package_and_the_archive_nothing_of_ones_own(dist, archive):
    (wheel,) = dist.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and not re.search(r"__pycache__|\.egg-info", str(path))
    }
    assert packed == source
    assert {"mnist_vae/py.typed", "mnist_vae/explorer/page/index.html"} <= packed
    with tarfile.open(archive) as file:
        names = file.getnames()
    assert "conf/prod/globals.yml" in names
    assert "conf/local/parameters.yml" not in names


def test_the_default_pipeline_runs_in_an_empty_folder_and_asks_no_network(python, archive, folder):
    finished = run(folder, [python.with_name("mnist-vae")], archive)
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in folder.iterdir()} == {"data"}
    outputs = folder / "data/test"
    assert json.loads((outputs / "08_reporting/metrics.json").read_text())
    assert (outputs / "07_model_output/latent_embeddings.parquet").exists()
    assert finished.stdout == ""
    # As conf/logging.yml in the archive has it.
    assert re.match(r"\d\d:\d\d:\d\d INFO    Kedro project mnist_vae\n", finished.stderr)
    assert "Warning" not in finished.stderr
    assert connections(folder) == ""


def test_an_archive_without_a_local_environment_runs_too(python, archive, tmp_path, folder):
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    shutil.rmtree(tmp_path / "conf/local")
    with tarfile.open(tmp_path / "conf.tar.gz", "w:gz") as file:
        file.add(tmp_path / "conf", "conf")
    given = ["--pipelines", "data", "--params", "source.order=[sample]"]
    command = [python, "-m", "mnist_vae"]
    finished = run(folder, command, tmp_path / "conf.tar.gz", *given, env=None)
    assert finished.returncode == 0, finished.stderr
    assert (folder / "data/05_model_input/train_images.parquet").exists()


def test_errors_are_the_same_sentences_there(python, archive, folder):
    failed = run(folder, [python.with_name("mnist-vae")], archive, "--nodes", "nope")
    assert failed.returncode == 1
    *_, where, sentence = failed.stderr.splitlines()
    assert where == f"The traceback is in {folder}/data/test/08_reporting/errors.log."
    assert sentence == "Error: Pipeline does not contain nodes named ['nope']."


@pytest.fixture
def image(tmp_path):
    """The folders of the Dockerfile's two stages, after its own steps, but on this system."""
    root = tmp_path.resolve()
    build, last = stages((ROOT / "Dockerfile").read_text())
    moved = {"/build": root / "build", "/opt/venv": root / "venv", "/app": root / "app"}

    def here(text):
        for there, path in moved.items():
            text = re.sub(rf"(?<![\w/]){there}\b", str(path), text)
        return text

    for folder in ("build", "app/data", "tmp"):
        (root / folder).mkdir(parents=True)
    for instruction, arguments in build:
        if instruction == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                copy_as_docker(source, root / "build" / target)
        elif instruction == "RUN":
            # The dependencies are those of this environment.
            steps = here(arguments).replace("-c constraints.txt", "--no-deps")
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(
                steps, shell=True, check=True, cwd=root / "build", env=environment(PATH=path)
            )
    inherit(root / "venv")
    for instruction, arguments in last:
        if instruction == "COPY" and "/opt/venv" not in arguments:
            _, source, target = arguments.split()
            shutil.copytree(here(source), here(target))
    change_mode("a-w", root)
    yield root, [json.loads(here(dict(last)[name])) for name in ("ENTRYPOINT", "CMD")]
    change_mode("u+w", root)


def change_mode(mode, root):
    subprocess.run(["chmod", "-R", mode, root / "venv"], check=True)
    subprocess.run(["chmod", mode, root / "app"], check=True)


def copy_as_docker(source, target):
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "credentials.yml")
    if (ROOT / source).is_dir():
        shutil.copytree(ROOT / source, target, ignore=None if source == "conf" else ignored)
    else:
        shutil.copy(ROOT / source, target)


def test_the_dockerfiles_steps_make_what_runs_on_a_read_only_file_system(image, archive):
    root, (entry_point, arguments) = image
    with tarfile.open(archive) as packaged:
        names = {name for name in packaged.getnames() if name.split("/")[1:2] != ["local"]}
    copied = {str(path.relative_to(root / "app")) for path in (root / "app/conf").rglob("*")}
    assert copied | {"conf"} == names
    # A superuser may write everywhere, unless these capabilities are taken away.
    no_power = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

    def run_in_image(*given, **more):
        finished = subprocess.run(
            [*no_power, root / "venv/bin" / entry_point[0], *entry_point[1:], *given],
            cwd=root / "app",
            env=environment(HOME=root / "tmp", NETWORK_LOG=root / "tmp/network.log", **more),
            capture_output=True,
            text=True,
        )
        (line,) = finished.stdout.splitlines()
        line = json.loads(line)
        assert finished.returncode == line["exit_code"], finished.stderr
        assert "Traceback" not in finished.stderr
        return line

    assert arguments == ["retrain", "--env", "prod"]
    assert run_in_image("retrain", "--env", "test")["outcome"] == "promoted"
    assert {path.name for path in (root / "app").iterdir()} == {"data", "conf"}
    assert (root / "app/data/test/06_models/champion/report.html").exists()
    assert not (root / "tmp/network.log").exists()
    credential = {"MNIST_VAE_WEBHOOK_URL": "https://example.org/secret"}
    line = run_in_image("roll-back", "--env", "test", **credential)
    assert "There is no release to go back to" in line["reason"]
    assert "example.org" in (root / "tmp/network.log").read_text()
    assert "MNIST was not found" in run_in_image(*arguments)["reason"]  # it cannot be fetched
