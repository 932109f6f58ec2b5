"""A project of one's own, and its commands, in a process of their own or here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]

NO_NETWORK = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
)
"""Variables of a process that reaches nothing: a proxy that refuses at once."""

ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Variables of a process for which text is not UTF-8 unless it says so; any system has this."""


def copy_project(folder: Path) -> Path:
    """Copy what `kedro` needs of the project, without data, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    return folder


def change_file(path: Path, old: str, new: str) -> None:
    """Replace a text that the file has."""
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new))


def change_base(project: Path, kind: str, values: dict[str, Any]) -> None:
    """Change entries of `conf/base`, which every environment reads; those of parameters key by key.

    Args:
        project: The project.
        kind: `parameters` or `catalog`.
        values: The entries.
    """
    for path in (project / "conf/base").glob(f"{kind}*.yml"):
        content = yaml.safe_load(path.read_text())
        for name in values.keys() & content.keys():
            soft = kind == "parameters" and isinstance(content[name], dict)
            content[name] = content[name] | values[name] if soft else values[name]
        if values.keys() & content.keys():
            path.write_text(yaml.safe_dump(content))


def kedro(
    project: Path,
    *arguments: str,
    timeout: float = 600,
    prefix: Sequence[str] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run `kedro` in a process of its own, as a user types it, or as an argument of `prefix`."""
    return subprocess.run(
        [*prefix, Path(sys.executable).with_name("kedro"), *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def kedro_here(project: Path, *arguments: str) -> Result:
    """Run a command of the project in this process."""
    bootstrap_project(project)
    from mnist_vae.cli import cli

    with contextlib.chdir(project):
        return CliRunner().invoke(cli, arguments, obj=SimpleNamespace(project_path=project))


def without_start_of_tensorflow(log: str) -> str:
    """The log without the lines that TensorFlow writes before it reads any log level."""
    lines = log.splitlines(keepends=True)
    chatter = re.compile(r"I0000 \S+ +\d+ \w+\.cc:\d+\]|WARNING: All log messages before absl")
    return "".join(line for line in lines if not chatter.match(line))
