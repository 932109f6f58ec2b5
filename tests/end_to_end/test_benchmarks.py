"""Every benchmark runs, in its small mode, and prints its one line. The figures are not judged."""

import json
import subprocess
import sys

import pytest

from tests.projects import ROOT

LOST = ("images_lost", "duplicate_ids", "changed_ids", "mixtures")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "positive", "zero"),
    [
        ("throughput", ["--only", "ours", "plain_keras", "matmul"], ["images_per_second"], []),
        ("quality", [], ["latent_dim"], []),
        ("memory", ["--steps", "3"], ["2000"], []),
        ("calls", [], ["functions", "files", "model_loads"], []),
        # Four retrainings, some of them killed.
        pytest.param("retraining_soak", [], ["promotions"], LOST, marks=pytest.mark.service),
    ],
)
def test_a_benchmark_prints_one_line_of_json(request, script, options, positive, zero, tmp_path):
    small = {"calls": [], "retraining_soak": ["--small"]}.get(script)
    if small is None:
        small = [request.getfixturevalue("mnist_folder"), "--small"]
    command = [sys.executable, ROOT / f"benchmarks/{script}.py", *small, *options]
    how = {"capture_output": True, "text": True, "timeout": 900}
    finished = subprocess.run(command, cwd=tmp_path, **how)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert result["benchmark"] == script
    assert result["machine"].keys() == {"commit", "processor", "cores", "versions"}
    assert all(result[figure] for figure in positive)
    assert not any(result[figure] for figure in zero)
    assert list(tmp_path.iterdir()) == []
