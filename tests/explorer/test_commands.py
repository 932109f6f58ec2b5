"""`kedro explore`: what it shows of which model, where, in how few bytes, and ONNX Runtime."""

import hashlib
import http.client
import json
import re
import socket
import tarfile
from base64 import b64encode
from http.server import ThreadingHTTPServer
from pathlib import Path

import click
import numpy as np
import pytest
from onnx import ModelProto
from PIL import Image

from mnist_vae.data.images import UNLABELLED, concatenate
from mnist_vae.explorer import commands, runtime
from mnist_vae.explorer.data import ExploredModel, axes_of, write_data
from mnist_vae.explorer.runtime import FILES, runtime_folder
from mnist_vae.explorer.site import check_target, make_server
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.pictures import z_means_of
from tests.conftest import catalog_of
from tests.loopback import serving
from tests.model_files import make_files
from tests.projects import kedro_here
from tests.releases import promote_last_trained, use


@pytest.fixture(autouse=True)
def fetched(tmp_path, monkeypatch):
    """The folder that ONNX Runtime is kept in once it was fetched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/mnist_vae/onnxruntime-web-1.30.0"


@pytest.fixture
def explore(fetched):
    """Run the command with files in the place of those of ONNX Runtime."""
    fetched.mkdir(parents=True)
    for name in FILES.values():
        (fetched / name).write_text(name)

    def run(project, *arguments):
        return kedro_here(project, "explore", "--env=test", *map(str, arguments))

    return run


def model_shown(site):
    return json.loads((site / "data/model.json").read_text())


def test_the_site_has_page_runtime_and_model_and_is_written_over(
    finished_project, explore, tmp_path
):
    site = tmp_path / "new" / "site"
    finished = explore(finished_project, "--build", site)
    assert finished.output.splitlines()[-1] == f"Wrote {site}"
    for path in (Path(commands.__file__).parent / "page").glob("*.*"):
        assert (site / path.name).read_bytes() == path.read_bytes()
    assert (site / "vendor/ort.js").read_text() == "ort.js"
    shown, summary = model_shown(site), catalog_of(finished_project).load("training_summary")
    assert {name: summary[name] for name in ("model_version", "statement")}.items() <= shown.items()
    points = shown["points"]
    assert (points["count"], points["splits"]) == (400, ["test", "train", "validation"])

    (site / "CNAME").write_text("mine")
    (site / "data/sheet-009.png").touch()
    assert explore(finished_project, "--build", site, "--images", 50).exit_code == 0
    points = model_shown(site)["points"]
    assert (points["count"], points["total"]) == (50, 400)
    assert (site / "CNAME").read_text() == "mine"
    assert not (site / "data/sheet-009.png").exists()


def test_the_release_in_service_is_shown_and_nothing_of_another_model(copied, explore, tmp_path):
    site, release = tmp_path / "site", promote_last_trained(copied)
    models = copied / "data/test/06_models"
    calibration = json.loads((release.folder / "anomaly_calibration.json").read_text())
    of_another = {"model_version": "another"}
    (models / "anomaly_calibration.json").write_text(json.dumps(calibration | of_another))
    expected_of = [("last_trained", None, None), ("champion", release.name, calibration)]
    for model, name, expected in expected_of:
        use(copied, model)
        assert explore(copied, "--build", site).exit_code == 0
        shown = model_shown(site)
        assert (shown["release"], shown["calibration"]) == (name, expected)
    use(copied, "last_trained")
    path = models / "training_summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | of_another))
    finished = explore(copied, "--build", tmp_path / "other")
    assert finished.exit_code == 1
    assert "The embeddings are of another model: expected those of another" in finished.output
    assert not (tmp_path / "other").exists()


def test_it_serves_the_page_until_ctrl_c(finished_project, explore, monkeypatch):
    served = []

    def until_ctrl_c(server):
        folder = Path(server.RequestHandlerClass.keywords["directory"])
        served.append((folder / "vendor/ort.wasm").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", until_ctrl_c)
    said = explore(finished_project, "--no-browser", "--port", 0).output.splitlines()
    assert re.fullmatch(r"The explorer is at http://127.0.0.1:\d+/ until you press .*", said[-2])
    assert said[-1] == "The explorer has ended."
    assert served == ["ort.wasm"]


def test_a_folder_with_other_files_is_no_place_for_a_page(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(click.ClickException, match=r"other files, such as notes\.txt"):
        check_target(tmp_path)


# The data
@pytest.fixture
def written(tmp_path):
    """A writer of a model's data, which returns its description and columns as the page does."""

    def write(files, most=10_000):
        images = concatenate(files.images)
        table = files.latent_embeddings.iloc[images.image_id]
        about = files.training_summary, table, images, None, None
        write_data(ExploredModel(ModelProto(), ModelProto(), *about), tmp_path, most, seed=1)
        described = json.loads((tmp_path / "model.json").read_text())
        n, d = described["points"]["count"], described["latent_dim"]
        kinds = [("id", "<i8", n), ("z", "<f4", n * d), ("label", "u1", n), ("split", "u1", n)]
        content, columns = (tmp_path / "points.bin").read_bytes(), {}
        for name, kind, count in kinds:
            columns[name] = np.frombuffer(content, kind, count)
            content = content[columns[name].nbytes :]
        assert content == b""
        return described, {**columns, "z": columns["z"].reshape(n, d)}

    return write


@pytest.mark.parametrize(
    ("latent_dim", "shape", "across"), [(1, (28, 28), 50), (2, (49, 16), 28), (6, (28, 28), 50)]
)
def test_every_image_is_there_with_its_code_and_its_picture(
    written, tmp_path, latent_dim, shape, across
):
    files = make_files(2600, latent_dim=latent_dim, shape=shape)
    for images in files.images:
        images.pixels[:] = np.random.default_rng(0).integers(0, 256, images.pixels.shape)
    described, columns = written(files)
    table = files.latent_embeddings.iloc[columns["id"]]
    assert sorted(columns["id"]) == list(range(2600))
    assert np.array_equal(columns["z"], table[z_means_of(table)])
    assert np.array_equal(columns["label"], table["label"])
    splits = np.array(described["points"]["splits"])
    assert splits[columns["split"]].tolist() == table["split"].tolist()
    assert (described["shape"], described["sheets"]["columns"]) == (list(shape), across)
    number, place = divmod(2555, across**2)
    sheet = np.asarray(Image.open(tmp_path / described["sheets"]["files"][number]).convert("L"))
    top, left = place // across * shape[0], place % across * shape[1]
    shown = sheet[top : top + shape[0], left : left + shape[1]].astype(int)
    images = concatenate(files.images)
    picture = images.pictures[images.image_id == columns["id"][2555]][0]
    assert np.abs(shown - picture).max() <= 255 / 15 / 2


def test_classes_have_names_and_colours_and_images_without_a_label_are_of_none(written):
    names = ["é", "a longer name", "<b>"]
    described, columns = written(make_files(50, class_names=names))
    shown = [(one["label"], one["name"], one["colour"]) for one in described["classes"]]
    assert shown == [(n, names[n], colour_of(n)) for n in range(3)]
    mean = columns["z"][columns["label"] == 2].mean(axis=0)
    assert np.allclose(described["classes"][2]["mean"], mean)
    described, columns = written(make_files(50, labelled=False))
    assert set(columns["label"]) == {UNLABELLED}
    assert (described["classes"], described["unlabelled"]) == ([], NO_LABEL)


def test_the_axes_of_a_plane_are_its_own_and_of_more_dimensions_the_principal_ones():
    random = np.random.default_rng(1)
    axes = axes_of(random.normal(size=(100, 2)))
    assert (axes["mean"], axes["directions"]) == ([0, 0], [[1, 0], [0, 1]])
    assert axes["bound"] >= 3
    turn, _ = np.linalg.qr(random.normal(size=(5, 5)))
    z = random.normal(size=(4000, 5)) * [5, 3, 1, 0.5, 0.1] @ turn + 7
    axes = axes_of(z)
    u = (z - axes["mean"]) @ np.array(axes["directions"]).T
    assert np.allclose(axes["mean"] + u @ axes["directions"], z)
    assert np.allclose(axes["deviations"], [5, 3, 1, 0.5, 0.1], rtol=0.1)
    assert np.allclose(np.cov(u.T), np.diag(np.var(u, axis=0)), atol=0.01)


# The server
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("LOCALHOST", 200),
        ("127.0.0.1:{port}", 200),
        ("[::1]:{port}", 200),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:{port} ,evil.example", 403),
        ("", 403),
    ],
)
def test_it_answers_to_this_machine_alone_as_other_names_may_lead_here(host, status, tmp_path):
    (tmp_path / "index.html").write_text("page")
    server = make_server(tmp_path, 0)
    with serving(server):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("GET", "/", headers={"Host": host.format(port=server.server_port)})
        answer = connection.getresponse()
        content = answer.read().decode()
    assert answer.status == status
    assert (content == "page") == (status == 200)
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen on port {port}: expected a free one"
        with pytest.raises(click.ClickException, match=message):
            make_server(tmp_path, port)


# ONNX Runtime
@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive like that of the registry, whose checksum is the expected one."""
    path, source = tmp_path / "onnxruntime-web-1.30.0.tgz", tmp_path / "source"
    with tarfile.open(path, "w:gz") as packed:
        for member in [*FILES, "package/README.md"]:
            source.write_text(member)
            packed.add(source, member)
    digest = b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    return path


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A maker of the program `npm` that is on the path."""

    def make(script):
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_npm_fetches_the_version_that_is_pinned_once(tmp_path, fetched, archive, npm):
    npm(f'echo "$@" >> {tmp_path}/asked; cp {archive} .')
    for _ in range(2):
        assert runtime_folder() == fetched
        assert {path.read_text(): path.name for path in fetched.iterdir()} == FILES
    asked = (tmp_path / "asked").read_text()
    assert asked == "pack onnxruntime-web@1.30.0 --ignore-scripts --loglevel=error\n"


def test_the_archive_may_be_named_and_another_one_is_refused(archive):
    content = archive.read_bytes()
    archive.write_bytes(content + b"more")
    with pytest.raises(click.ClickException, match=r"is not onnxruntime-web 1\.30\.0: expected"):
        runtime_folder(archive)
    archive.write_bytes(content)
    assert {path.name for path in runtime_folder(archive).iterdir()} == set(FILES.values())


def test_without_npm_or_where_it_fails_it_says_what_to_do(tmp_path, npm, monkeypatch):
    npm("echo no network >&2; exit 3")
    with pytest.raises(click.ClickException, match=r"received exit code 3 \(no network\)"):
        runtime_folder()
    monkeypatch.setenv("PATH", f"{tmp_path}/none")
    with pytest.raises(click.ClickException, match=r"the program `npm`.*--onnxruntime-web"):
        runtime_folder()
