"""Several `kedro run`, each a worker of one training, on loopback: for tests and benchmarks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def tf_configs(count: int) -> list[str]:
    """What TF_CONFIG is for each of the workers, the chief first."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    return [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


@contextmanager
def started(
    commands: Sequence[Sequence[str | Path]],
    folders: Sequence[Path],
    logs: Path,
    environments: Sequence[dict[str, str]],
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes, each with its log at `logs`/<number>.log; all are ended with the block."""
    with ExitStack() as stack:
        processes = []
        for number, (command, folder) in enumerate(zip(commands, folders, strict=True)):
            log = stack.enter_context((logs / f"{number}.log").open("wb"))
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environments[number]},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


@contextmanager
def kedro_workers(
    projects: Sequence[Path], logs: Path, *arguments: str, **environment: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One `kedro run` in each of the projects: the workers of a training, the chief first."""
    command = [Path(sys.executable).with_name("kedro"), "run", *arguments]
    environments = [{**environment, "TF_CONFIG": config} for config in tf_configs(len(projects))]
    with started([command] * len(projects), projects, logs, environments) as processes:
        yield processes
