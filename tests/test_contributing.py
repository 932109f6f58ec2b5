"""What contributors are told and given: the guide, the hooks before a commit, the workflow."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.projects import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "CHANGELOG.md", "README.md"])
def test_what_a_document_names_is_there(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:src|tests|conf/base|benchmarks|notebooks|\.ci)/[\w./-]*\w)`", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_checks_run_on_every_python_that_is_supported():
    workflow = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())
    quick, slow = (workflow["jobs"][name] for name in ("quick", "slow"))
    tested = set(quick["strategy"]["matrix"]["python"])
    supported = {
        classifier.rpartition(" ")[2]
        for classifier in PYPROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    }
    lowest, highest = re.findall(r"3\.(\d+)", PYPROJECT["project"]["requires-python"])
    assert tested == supported == {f"3.{minor}" for minor in range(int(lowest), int(highest))}
    assert "pytest" in [step.get("run") for step in quick["steps"]]
    commands = [step.get("run") for step in slow["steps"]]
    assert {"ruff check .", "ruff format --check .", "mypy"} <= set(commands)


@pytest.mark.slow  # mypy reads the whole package
def test_the_hooks_pass_what_is_committed_and_refuse_what_is_not_in_order(tmp_path):
    ignored = shutil.ignore_patterns("*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    for path in ROOT.iterdir():
        if path.suffix in (".toml", ".yaml", ".md"):
            shutil.copy(path, tmp_path)

    def run_hooks():
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", "-c", "git init -q && git add -A && pre-commit run --all-files"],
            cwd=tmp_path,
            env={"PATH": path, "HOME": str(tmp_path.parent)},
            capture_output=True,
            text=True,
        )

    passed = run_hooks()
    assert passed.returncode == 0, passed.stdout + passed.stderr
    (tmp_path / "src/mnist_vae/new.py").write_text("import os\n")
    refused = run_hooks()
    assert refused.returncode != 0
    assert "F401" in refused.stdout
