"""Where the runs of a sweep are run: on this machine, or by the workers of Dask."""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mnist_vae.sweep.execution import Stopped, execute
from mnist_vae.sweep.records import RunOrder, RunResult, SweepError

LOCAL_CLUSTER = "local"
"""The address of a cluster that the sweep starts, and stops at its end."""

Told = Callable[[RunResult], None]


class Workers(Protocol):
    """Whoever runs orders, some at a time."""

    at_a_time: int

    def run(self, orders: Sequence[RunOrder], told: Told) -> list[RunResult]:
        """Run all of them, telling of each as it ends, and return the results in their order.

        `KeyboardInterrupt` stops the runs, and is raised again when they have ended.
        """


@dataclass(frozen=True)
class LocalWorkers:
    """Runs on this machine, in processes of their own.

    Attributes:
        at_a_time: So many at once. One has all cores, as `kedro run`; each of several has one
            core, and one thread.
    """

    at_a_time: int = 1

    def run(self, orders: Sequence[RunOrder], told: Told) -> list[RunResult]:
        """Run the orders (`Workers.run`)."""
        stop = threading.Event()
        cores: queue.Queue[int | None] = queue.Queue()
        for worker in range(self.at_a_time):
            cores.put(_core(worker) if self.at_a_time > 1 else None)

        def run_one(order: RunOrder) -> RunResult:
            core = cores.get()
            try:
                return execute(order, stop.is_set, core=core, one_thread=self.at_a_time > 1)
            finally:
                cores.put(core)

        with ThreadPoolExecutor(self.at_a_time) as pool:
            futures = [pool.submit(run_one, order) for order in orders]
            try:
                for future in as_completed(futures):
                    told(future.result())
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result() for future in futures]


def _core(worker: int) -> int | None:
    """Return the core of a worker; None where a process has no say in that."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[worker % len(cores)]


@contextmanager
def dask_workers(address: str, at_a_time: int) -> Iterator[DaskWorkers]:
    """Connect to a scheduler of Dask, or start a cluster on this machine.

    Args:
        address: That of the scheduler, or `local`.
        at_a_time: The workers of a local cluster.

    Raises:
        SweepError: Dask is not installed, nothing answers at the address, or it has no workers.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise SweepError(
            "Dask is not installed: expected the package distributed, received no module "
            f"{error.name}; run `pip install -c constraints.txt -e '.[dask]'`."
        ) from error
    if address == LOCAL_CLUSTER:
        # Threads will do, as each waits for a process; and Ctrl-C does not reach them.
        local = LocalCluster(
            processes=False, n_workers=1, threads_per_worker=at_a_time, dashboard_address=None
        )
        with local as cluster, Client(cluster) as client:
            yield DaskWorkers(client, at_a_time)
        return
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise SweepError(
            f"No scheduler of Dask answers: expected one at {address}, received "
            f"{type(error).__name__} ({error}); start it, or correct --dask."
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise SweepError(
                f"The scheduler of Dask has nobody to work: expected workers at {address}, "
                "received none; start one with `dask worker`."
            )
        yield DaskWorkers(client, threads)


@dataclass(frozen=True)
class DaskWorkers:
    """Runs on the workers of Dask, one a thread of theirs, each with one thread.

    The workers have the project, its environment and the sweep's folder at the same paths.

    Attributes:
        client: Connected to the scheduler.
        at_a_time: The threads of its workers.
    """

    client: Any
    at_a_time: int

    def run(self, orders: Sequence[RunOrder], told: Told) -> list[RunResult]:
        """Run the orders (`Workers.run`); Dask gives those of a worker that is lost to others."""
        from distributed import Event, as_completed

        stop = Event(f"sweep-{uuid.uuid4().hex}", client=self.client)
        futures = {
            self.client.submit(execute_on_dask, order, stop.name, pure=False): n
            for n, order in enumerate(orders)
        }
        results: dict[int, RunResult] = {}
        try:
            for future in as_completed(futures):
                number = futures[future]
                results[number] = _result_of(future, orders[number])
                told(results[number])
        except BaseException:
            stop.set()
            self.client.gather(list(futures), errors="skip")  # until the runs have ended
            raise
        return [results[number] for number in range(len(orders))]


def _result_of(future: Any, order: RunOrder) -> RunResult:
    """Return the result of an order; a failed one where its workers were lost, again and again."""
    from distributed import KilledWorker

    try:
        result: RunResult = future.result()
    except KilledWorker as error:
        said = f"Dask lost the workers that ran it, and gave up: {error}"
        return RunResult(order.setting, order.seed, order.folder, "failed", last_line=said)
    return result


def execute_on_dask(order: RunOrder, stop: str) -> RunResult | None:
    """Run the order on a worker of Dask, until the sweep sets the event `stop`."""
    from distributed import Event, get_client

    event = Event(stop, client=get_client())
    try:
        return execute(order, event.is_set, one_thread=True)
    except Stopped:
        return None
