"""Every benchmark runs, in its small mode, and prints its one line. The figures are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "figures"),
    [
        ("throughput", ["images_per_second", "ratios"]),
        ("time_to_quality", ["ours", "plain_keras", "plain_to_ours"]),
        ("quality", ["latent_dim"]),
        ("ablation", ["variants"]),
        ("memory", ["peak_megabytes", "copies"]),
    ],
)
def test_a_benchmark_prints_one_line_of_json(script, figures, mnist_folder, tmp_path):
    finished = subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", mnist_folder, "--small"],
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
def test_a_month_of_retrainings_loses_no_image_and_mixes_no_models():
    command = [sys.executable, FOLDER / "retraining_soak.py", "--small"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert (result["images_lost"], result["mixtures"]) == (0, 0), finished.stderr
    assert result["promotions"] >= 1
    assert result["reads"] > 10
