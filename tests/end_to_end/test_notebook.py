"""Notebooks run from top to bottom on a finished project, and are stored without output."""

import json
from pathlib import Path

import pytest

from tests.conftest import run
from tests.projects import without_start_of_tensorflow
from tests.releases import releases_of, use
from tests.retrainings import retrain

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
OF_RELEASES = "two_releases"
AFTER_A_RUN = [path for path in NOTEBOOKS if path.stem != OF_RELEASES]


def outputs_of(path, project):
    """Run the notebook in the project, in the environment `test`, and return what it shows."""
    import nbformat
    from nbclient import NotebookClient

    (project / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(project / "notebooks")}}
    )
    client.execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def warnings_of(outputs):
    """What the notebook shows on stderr, but for what TensorFlow writes at its start."""
    shown = [output["text"] for output in outputs if output.get("name") == "stderr"]
    return without_start_of_tensorflow("".join(shown))


@pytest.mark.slow
@pytest.mark.parametrize("path", AFTER_A_RUN, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_something(copied, monkeypatch, path):
    monkeypatch.setenv("KEDRO_ENV", "test")
    outputs = outputs_of(path, copied)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html", "application/vnd.plotly.v1+json"} <= kinds
    assert warnings_of(outputs) == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_shows_the_release_in_service_where_only_the_job_ran(
    served_copy, monkeypatch, path
):
    use(served_copy, "champion")
    if path.stem == "tour":
        run(served_copy, "evaluation")
        run(served_copy, "reporting")
    if path.stem == OF_RELEASES:
        line = retrain(served_copy, **{"training.epochs": 4, "training.kl_warmup_epochs": 1})
        assert line["outcome"] == "promoted", line
    monkeypatch.setenv("KEDRO_ENV", "test")
    outputs = outputs_of(path, served_copy)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html", "application/vnd.plotly.v1+json"} <= kinds
    trained_on = releases_of(served_copy).load().load("training_summary.json")["statement"]
    printed = "".join(output.get("text", "") for output in outputs)
    assert trained_on in printed
    assert warnings_of(outputs) == ""


def test_the_notebooks_are_stored_without_output():
    for path in NOTEBOOKS:
        cells = [
            cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"
        ]
        assert cells
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), path
