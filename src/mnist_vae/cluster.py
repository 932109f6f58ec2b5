"""Which processes train one model together, as TF_CONFIG or Slurm names them, and which is ours."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ClusterSource = Literal["none", "tf_config", "slurm"]

CHIEF = 0
_PORT = 8888  # of the first task of a node under Slurm; the next ones have those above it


class ClusterError(ValueError):
    """The environment does not say who the workers are."""


@dataclass(frozen=True)
class Cluster:
    """The workers of a training, seen from one of them.

    Attributes:
        addresses: `host:port` of each worker, the chief's first.
        number: Which of them this process is.
    """

    addresses: tuple[str, ...]
    number: int

    def __len__(self) -> int:
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Return whether this process is the one that saves."""
        return self.number == CHIEF


def read_cluster(source: ClusterSource) -> Cluster | None:
    """Return the workers that the environment names; None where that is this process alone.

    Args:
        source: `tf_config`, the environment variable TF_CONFIG; `slurm`, the variables of a step
            that `srun` started, which TensorFlow reads; or `none`.

    Raises:
        ClusterError: The environment names none, or not which of them this process is.
    """
    if source == "none":
        return None
    cluster = _from_slurm(os.environ) if source == "slurm" else _from_tf_config(os.environ)
    if not 0 <= cluster.number < len(cluster):
        raise ClusterError(
            f"This process is none of the workers: expected a number from 0 to {len(cluster) - 1}, "
            f"received {cluster.number}; number the tasks as the addresses are."
        )
    return cluster if len(cluster) > 1 else None


def _from_tf_config(environment: Mapping[str, str]) -> Cluster:
    text = environment.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        jobs: dict[str, list[str]] = config["cluster"]
        kind, index = str(config["task"]["type"]), int(config["task"]["index"])
        chief, workers = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        addresses = tuple(str(address) for address in chief + workers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(
            "TF_CONFIG does not name the workers of the training: expected JSON such as "
            '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", '
            f'"index": 0}}}}, received {text[:200]!r}; set it for every worker, or leave out '
            "`workers.cluster`."
        ) from error
    others = sorted(set(jobs) - {"chief", "worker"})
    if others or kind not in jobs or not addresses:
        raise ClusterError(
            "Every process of the training is a worker: expected the jobs chief and worker alone "
            f"in TF_CONFIG, and a task of one of them, received {', '.join(sorted(jobs))} and a "
            f"task {kind}; leave the others out."
        )
    if kind == "chief":
        return Cluster(addresses, index if index < len(chief) else len(addresses))
    return Cluster(addresses, len(chief) + index if index >= 0 else index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    names = ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")
    missing = [name for name in names if name not in environment]
    if missing:
        raise ClusterError(
            f"Slurm does not name the workers of the training: expected {', '.join(names)}, as "
            f"`srun` sets them, received no {', '.join(missing)}; start the workers with `srun`, "
            "or leave out `workers.cluster`."
        )
    # Not the resolver itself: it sorts the nodes by name, node10 before node2, as Slurm does not.
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    try:
        nodes = slurm.expand_hostlist(environment[names[0]])
        tasks = slurm.expand_tasks_per_node(environment[names[1]])
        addresses = [
            f"{node}:{_PORT + task}"
            for node, count in zip(nodes, tasks, strict=True)
            for task in range(count)
        ]
        return Cluster(tuple(addresses), int(environment[names[2]]))
    except ValueError as error:
        received = ", ".join(environment[name] for name in names)
        raise ClusterError(
            f"Slurm's names of the workers cannot be read ({error}): expected {', '.join(names)} "
            f"as `srun` sets them, received {received}; set TF_CONFIG instead, and "
            "`workers.cluster` to tf_config."
        ) from error


_ours: Cluster | None = None
_joined: Any = None


def take_part(cluster: Cluster | None, workers: Any = None) -> None:
    """Remember what this process is in the run that begins: a worker of several, or on its own.

    Args:
        cluster: All workers; None for this process alone.
        workers: The same as a `vae.workers.Workers`, which imports TensorFlow.
    """
    global _ours, _joined
    _ours, _joined = cluster, workers


def follows() -> bool:
    """Return whether this process only helps another one, the chief, and saves nothing."""
    return _ours is not None and not _ours.is_chief


def joined_workers() -> Any:
    """Return the `vae.workers.Workers` that train together in this run; None for this process."""
    return _joined


def workers_in_tf_config() -> int:
    """Return how many workers TF_CONFIG names, 0 where it is not there or not whole."""
    try:
        return len(_from_tf_config(os.environ))
    except ClusterError:
        return 0
