"""Every benchmark runs, in its small mode, and prints its one line. The figures are not judged."""

import json
import subprocess
import sys

import pytest

from tests.projects import ROOT


def result_of(script, *arguments, folder):
    finished = subprocess.run(
        [sys.executable, ROOT / f"benchmarks/{script}.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    result = json.loads(line)
    assert result["benchmark"] == script
    assert result["machine"].keys() == {"commit", "processor", "cores", "versions"}
    assert list(folder.iterdir()) == []
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "figures"),
    [
        ("throughput", ["--only", "ours", "plain_keras", "matmul"], ["images_per_second"]),
        ("quality", [], ["latent_dim"]),
        ("memory", ["--steps", "3"], ["2000"]),
    ],
)
def test_a_benchmark_prints_one_line_of_json(script, options, figures, mnist_folder, tmp_path):
    result = result_of(script, mnist_folder, "--small", *options, folder=tmp_path)
    assert all(result[figure] for figure in figures)


@pytest.mark.slow
def test_what_a_run_goes_through_is_counted(tmp_path):
    result = result_of("calls", folder=tmp_path)
    assert min(result[figure] for figure in ("functions", "image_table_loads", "fsyncs")) >= 0
    assert result["functions"] > result["files"] > result["model_loads"] >= 1


@pytest.mark.service  # four retrainings, some of them killed
def test_a_month_of_retrainings_loses_no_image_and_mixes_no_models(tmp_path):
    result = result_of("retraining_soak", "--small", folder=tmp_path)
    for figure in ("images_lost", "duplicate_ids", "changed_ids", "mixtures"):
        assert result[figure] == 0
    assert result["promotions"] >= 1
    assert result["reads"] > 10
