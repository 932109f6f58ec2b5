"""The file that node_exporter reads, as tests look at it, and Prometheus' own tool."""

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families


def read(path):
    """Return the figures in a file, by name and labels but for those that all have."""
    families = text_string_to_metric_families(path.read_text())
    common = ("project", "pipeline")
    return {
        (
            sample.name,
            *(value for label, value in sorted(sample.labels.items()) if label not in common),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def promtool(*arguments, **options):
    """Run promtool, which lints names, texts and rules; return what it prints."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is needed: it comes with Debian's package prometheus")
    finished = subprocess.run([program, *arguments], capture_output=True, text=True, **options)
    printed = finished.stdout + finished.stderr
    assert finished.returncode == 0, printed
    return printed
