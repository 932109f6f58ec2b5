"""Every benchmark runs, in its small mode, and prints its one line. The figures are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "figures"),
    [
        ("throughput", ["images_per_second", "ratios"]),
        ("throughput --only plain_keras matmul_numpy", ["images_per_second"]),
        ("time_to_quality", ["ours", "plain_keras", "plain_to_ours"]),
        ("quality", ["latent_dim"]),
        ("inference", ["latent_dim"]),
        ("evaluation", ["figures"]),
        ("samples", ["classifier_accuracy", "latent_dim"]),
        ("anomalies", ["auroc"]),
        ("ablation", ["variants"]),
        ("memory --steps 3", ["peak_megabytes", "copies"]),
        ("explorer", ["mouse_ms", "keys_ms", "ready_ms"]),
        ("model_report", ["median_seconds", "megabytes"]),
        ("encode_scale", ["copies", "in_process", "dask"]),
    ],
)
def test_a_benchmark_prints_one_line_of_json(script, figures, mnist_folder, tmp_path):
    script, *options = script.split()
    finished = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", mnist_folder, "--small", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    result = json.loads(line)
    assert result["benchmark"] == script
    for figure in figures:
        assert result[figure], figure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_run_goes_through_is_counted():
    command = [sys.executable, FOLDER / "calls.py"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert min(result[figure] for figure in ("functions", "image_table_loads", "fsyncs")) >= 0
    assert result["functions"] > result["files"] > result["model_loads"] >= 1


@pytest.mark.slow
def test_a_month_of_retrainings_loses_no_image_and_mixes_no_models():
    command = [sys.executable, FOLDER / "retraining_soak.py", "--small"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    for figure in ("images_lost", "duplicate_ids", "changed_ids", "mixtures"):
        assert result[figure] == 0, finished.stderr
    assert result["promotions"] >= 1
    assert result["reads"] > 10


def test_the_rule_of_promotion_is_simulated():
    command = [sys.executable, FOLDER / "promotion_rule.py", "--small"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    rules = json.loads(finished.stdout)["rules"]
    one, several = rules["one seed, 0.5"], rules["first of 3 seeds 0.2, mean 0.5"]
    assert several["false_promotions"]["520"] < one["false_promotions"]["520"]
    assert several["promoted"]["520"]["1.0"] > one["promoted"]["520"]["1.0"]
