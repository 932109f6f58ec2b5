"""Several processes that train one model: TensorFlow's MultiWorkerMirroredStrategy around `fit`.

Each worker takes its share of every batch, and all of them add up the gradients, so that their
weights are the same after every step. Only TensorFlow does this here; `mnist_vae.cluster` has who
the workers are.
"""

from __future__ import annotations

import gc
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray
from tensorflow.python.distribute.input_lib import DistributedDatasetsFromFunction

from mnist_vae.cluster import CHIEF, Cluster
from mnist_vae.vae.model import VariationalAutoencoder

if TYPE_CHECKING:
    from mnist_vae.vae.feeding import Batches
    from mnist_vae.vae.training import TrainingConfig

_HEARTBEAT_SECONDS = 10  # without one a worker counts as lost
_TRY_SECONDS, _PAUSE_SECONDS = 5, 0.3  # of one look whether another worker is there
_SEEDS_APART = 1_000_003  # of the noise of two replicas
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class WorkersError(RuntimeError):
    """The workers of a training do not find each other, differ, or one of them is lost."""


class _InReplicas(VariationalAutoencoder):
    """What the model has otherwise where several workers train it, on top of its own class."""

    @property
    def _in_processes(self) -> bool:
        strategy = self.distribute_strategy
        return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def compute_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return all metrics as one array, `[1, metrics]`, where the workers are processes.

        After each step Keras takes the mean over the workers by axis 0, of one metric after
        another, and each mean is an exchange over the network, however small.
        """
        metrics = super().compute_metrics(*args, **kwargs)
        if not self._in_processes:
            return metrics
        return {"means": ops.reshape(ops.stack([metrics[name] for name in self._names]), (1, -1))}

    @property
    def _names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def _make_function(self, step_function: Any) -> Any:
        """Return what Keras calls for a step, with metrics that have their names again."""
        function = super()._make_function(step_function)
        if not self._in_processes:
            return function
        return lambda batches: dict(zip(self._names, function(batches)["means"], strict=True))

    def _maybe_symbolic_build(self, *_: Any, **__: Any) -> None:
        """Do nothing: it comes built, and Keras would add up shares, which may differ in size."""


class _OwnShare(DistributedDatasetsFromFunction):  # Keras goes by that class
    """What a worker of one replica is fed with, as it is: Keras and TensorFlow distribute nothing.

    TensorFlow's iterator of a distributed data set tunes itself, in a thread that looks after
    10 ms, 20 ms and so on, up to a minute. Whoever lets go of the iterator waits for its next look,
    at the end of an epoch for as long as the epoch took.

    Args:
        dataset: The worker's share of the batches.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:  # nothing of the base is wanted
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        batches: Iterator[Any] = iter(self._dataset)
        return batches

    @property
    def element_spec(self) -> Any:
        """Return what a batch is."""
        return self._dataset.element_spec

    @property
    def cardinality(self) -> int:
        """Return how many batches there are."""
        return int(self._dataset.cardinality())


@dataclass(frozen=True)
class Workers:
    """The workers of a training that have found each other.

    Attributes:
        cluster: Who they are, and which of them this process is.
        strategy: The strategy of `tf.distribute` that adds up their gradients.
    """

    cluster: Cluster
    strategy: Any

    @property
    def replicas(self) -> int:
        """Return how many copies of the model there are: one a worker, or one for each GPU."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def _own_replicas(self) -> range:
        here = self.replicas // len(self.cluster)
        return range(self.cluster.number * here, (self.cluster.number + 1) * here)

    def config(self, config: TrainingConfig, n_train: int, n_validation: int) -> TrainingConfig:
        """Return how these workers train: without XLA and a step at a time, as they must.

        Raises:
            WorkersError: A batch cannot be shared equally, or not every worker gets an image.
        """
        if config.batch_size % self.replicas or min(n_train, n_validation) < self.replicas:
            raise WorkersError(
                f"The images cannot be shared among {self.replicas} replicas: expected a batch "
                f"size that is a multiple of {self.replicas}, and as many images of each split at "
                f"least, received batches of {config.batch_size}, {n_train} training and "
                f"{n_validation} validation images; change `training.batch_size`."
            )
        batch_size = min(config.batch_size, n_train - n_train % self.replicas)
        return replace(config, batch_size=batch_size, jit_compile=False, steps_per_execution=1)

    def check_alike(self, identity: dict[str, str]) -> None:
        """Refuse to go on where a worker has other code, parameters, data, or other weights.

        Args:
            identity: Names of what has to be the same in all of them.

        Raises:
            WorkersError: In every worker, where one of them differs from the chief.
        """
        chief: dict[str, str] = json.loads(self.broadcast(json.dumps(identity).encode()))
        names = sorted(chief)
        differs = np.zeros((len(self.cluster), len(names)), np.int32)
        differs[self.cluster.number] = [identity.get(name) != chief[name] for name in names]
        worker, name = np.nonzero(self._sum(differs))
        if len(worker):
            others = sorted({f"worker {number}" for number in worker})
            what = sorted({names[number] for number in name})
            raise WorkersError(
                "The workers of the training differ: expected the chief's "
                f"{' and '.join(what)} in all of them, received others in {', '.join(others)}; "
                "give every worker the same project, parameters and raw images."
            )

    def broadcast(self, content: bytes) -> bytes:
        """Return what the chief has given, in every worker; what the others give is not read.

        Raises:
            WorkersError: A worker does not answer.
        """
        content = content if self.cluster.is_chief else b""
        (length,) = self._sum(np.array([len(content)], np.int32))
        if length == 0:  # of which TensorFlow dies
            return b""
        words = np.zeros(-(-int(length) // 4), np.int32)
        if self.cluster.is_chief:
            words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        return self._sum(words).tobytes()[: int(length)]

    def _sum(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the sum over the workers of what each of them gives."""

        def of_replica(context: Any) -> Any:
            first = context.replica_id_in_sync_group == self._own_replicas[0]
            return tf.constant(values if first else np.zeros_like(values))

        with self._answering():
            given = self.strategy.experimental_distribute_values_from_function(of_replica)
            total: NDArray[np.int32] = self.strategy.reduce("SUM", given, axis=None).numpy()
        return total

    def batches(self, batches: Batches) -> Any:
        """Return the share of this worker in every one of the batches, as Keras takes them."""
        replicas, first, here = self.replicas, self._own_replicas[0], len(self._own_replicas)

        def share(images: Any, replica: Any) -> Any:
            return images[replica::replicas]

        if here == 1:
            return _OwnShare(batches.dataset().map(lambda images: share(images, first)))

        def shares(images: Any) -> Any:
            own = tf.data.Dataset.range(first, first + here)
            return own.map(lambda replica: share(images, replica))

        return self.strategy.distribute_datasets_from_function(
            lambda _: batches.dataset().flat_map(shares)
        )

    @contextmanager
    def training(self, vae: VariationalAutoencoder) -> Iterator[VariationalAutoencoder]:
        """Yield a copy of the model for all workers to train, and take over its weights at the end.

        Args:
            vae: The model, whose weights are the chief's in every worker.

        Raises:
            WorkersError: Where a worker is lost while they train.
        """
        with self._answering(), self.strategy.scope():
            copy = type("InReplicas", (_InReplicas, type(vae)), {})(
                keras.models.clone_model(vae.encoder),
                keras.models.clone_model(vae.decoder),
                vae.reconstruction,
                vae.objective,
                0,
            )
            _assign(copy.variables, vae.variables)
            yield copy
        _assign(vae.variables, copy.variables)

    def draw_apart(self, vae: VariationalAutoencoder) -> None:
        """Give each replica noise of its own, where all have the state of the chief's first one."""
        for generator in _seed_generators(vae):
            values = self.strategy.experimental_local_results(generator.state.value)
            for replica, value in zip(self._own_replicas, values, strict=True):
                seed, count = np.asarray(value).tolist()
                apart = (seed + _SEEDS_APART * replica) % 2**31
                value.assign(np.array([apart, count], value.dtype.as_numpy_dtype))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except _LOST as error:
            _close_pools()
            raise WorkersError(
                f"Training by {len(self.cluster)} workers stopped: expected all of "
                f"{', '.join(self.cluster.addresses)} to answer, received no answer of "
                f"{_lost(error, self.cluster)}; start every worker again, and the training "
                "resumes after its last epoch."
            ) from error


def _close_pools() -> None:
    """Close what TensorFlow leaves open after an error, and would complain of on stderr at exit."""
    for found in gc.get_objects():
        if isinstance(found, ThreadPool):
            found.close()


def _assign(to: list[Any], values: list[Any]) -> None:
    for variable, value in zip(to, values, strict=True):
        variable.assign(np.asarray(value))


def _seed_generators(vae: VariationalAutoencoder) -> list[Any]:
    return [vae.seed_generator, vae.encoder.get_layer("z").seed_generator]


def _lost(error: Exception, cluster: Cluster) -> str:
    """Return which worker an error of TensorFlow's is about."""
    others = {int(task) for task in re.findall(r"/task:(\d+)", str(error))} - {cluster.number}
    if len(others) != 1:
        return "one of them"
    (number,) = others
    name = "the chief" if number == CHIEF else f"worker {number}"
    return f"{name} at {cluster.addresses[number]}" if number < len(cluster) else name


_joined: Workers | None = None


def join(cluster: Cluster, timeout: int) -> Workers:
    """Return the workers once all of them are there.

    TensorFlow can do this once a process, and before anything else: two trainings of one process
    have the same workers.

    Args:
        cluster: Who they are.
        timeout: Seconds to wait for all of them.

    Raises:
        WorkersError: They are not all there in time, or this process cannot listen on its port.
    """
    global _joined  # noqa: PLW0603 - as TensorFlow's own context
    if _joined is not None and _joined.cluster == cluster:
        return _joined
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    if cluster.is_chief:
        _wait_for_others(cluster, timeout)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.number,
        rpc_layer="grpc",
    )
    job = coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=len(cluster))
    try:
        # As the strategy does it, but with our own timeouts.
        context.context().configure_coordination_service(
            service_type="standalone",
            service_leader=f"/job:worker/replica:0/task:{CHIEF}",
            cluster_register_timeout_in_ms=timeout * 1000,
            heartbeat_timeout_in_ms=_HEARTBEAT_SECONDS * 1000,
            coordinated_jobs=[job],
        )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (*_LOST, tf.errors.UnknownError, RuntimeError) as error:
        first = str(error).split("\n", 1)[0][:200]
        raise _not_there(cluster, timeout, f"{type(error).__name__} ({first})") from error
    _joined = Workers(cluster, strategy)
    return _joined


def _wait_for_others(cluster: Cluster, timeout: int) -> None:
    """Wait until all others listen: TensorFlow lets the chief wait for them without end.

    Raises:
        WorkersError: One of them is not there in time.
    """
    end = time.monotonic() + timeout
    for address in cluster.addresses[1:]:
        host, port = address.rsplit(":", 1)
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), _TRY_SECONDS).close()
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise _not_there(cluster, timeout, f"none at {address} ({error})") from error
                time.sleep(_PAUSE_SECONDS)


def _not_there(cluster: Cluster, timeout: int, received: str) -> WorkersError:
    return WorkersError(
        f"The workers of the training did not find each other: expected "
        f"{', '.join(cluster.addresses)} to be there within {timeout} s (`workers.timeout`), "
        f"received {received} in worker {cluster.number}; start all of them, and see that they "
        "reach each other's ports."
    )
