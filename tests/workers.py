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
def kedro_workers(
    projects: Sequence[Path],
    logs: Path,
    *arguments: str,
    each: Sequence[str] = (),
    start: Sequence[int] | None = None,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One `kedro run` in each of the projects: the workers of a training, the chief first.

    Each has its log at `logs`/<number>.log, and none outlives the block.

    Args:
        projects: Where each of them runs.
        logs: The folder of the logs.
        *arguments: Those of `kedro run`.
        each: One more argument for each of them.
        start: The numbers of those that are started; None for all.
    """
    command = [Path(sys.executable).with_name("kedro"), "run", *arguments]
    configs = tf_configs(len(projects))
    with ExitStack() as stack:
        processes = []
        for number in range(len(projects)) if start is None else start:
            log = stack.enter_context((logs / f"{number}.log").open("wb"))
            process = subprocess.Popen(
                [*command, *each[number : number + 1]],
                cwd=projects[number],
                env={**os.environ, "TF_CONFIG": configs[number]},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes
