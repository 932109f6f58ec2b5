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
