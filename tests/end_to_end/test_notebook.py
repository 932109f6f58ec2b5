"""Notebooks run from top to bottom on a finished project, and are stored without output."""

import shutil

import pytest

from tests.conftest import run
from tests.projects import ROOT, without_start_of_tensorflow
from tests.releases import releases_of


def outputs_of(path, project):
    """Run the notebook in the project, in the environment `test`, and return what it shows."""
    import nbformat
    from nbclient import NotebookClient

    (project / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is stored without output"
    resources = {"metadata": {"path": str(project / "notebooks")}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "origin"),
    [("own_images", "finished_project"), ("tour", "promoted"), ("two_releases", "promoted")],
)
def test_a_notebook_shows_the_model_in_use(request, tmp_path, monkeypatch, name, origin):
    source = request.getfixturevalue(origin)
    project = shutil.copytree(source, tmp_path / "project", symlinks=True)
    if name == "tour":
        run(project, "evaluation", "reporting")  # whose figures it shows
    monkeypatch.setenv("KEDRO_ENV", "test")
    outputs = outputs_of(ROOT / f"notebooks/{name}.ipynb", project)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html", "application/vnd.plotly.v1+json"} <= kinds
    stderr = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    assert without_start_of_tensorflow(stderr) == ""
    if origin == "promoted":
        trained_on = releases_of(project).load().load("training_summary.json")["statement"]
        assert trained_on in "".join(output.get("text", "") for output in outputs)
