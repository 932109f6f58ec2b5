"""A training by one or two replicas on logical devices, whose result is a line of JSON.

TensorFlow makes logical devices only in a process that has computed nothing yet.
"""

import copy
import json
import sys

import keras
import numpy as np
import tensorflow as tf

from mnist_vae.cluster import Cluster
from mnist_vae.vae import precision, training
from mnist_vae.vae.model import Objective, VariationalAutoencoder
from mnist_vae.vae.networks import Sampling, build_decoder, build_encoder
from mnist_vae.vae.training import TrainingConfig, fit
from mnist_vae.vae.workers import Workers

CONFIG = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "constant",
    "beta_2": 0.99,
    "kl_warmup_epochs": 2,
    "early_stopping_patience": None,
    "jit_compile": False,
    "steps_per_execution": 1,
    "seed": 1,
}


class Kept:
    """A backup in a variable."""

    def __init__(self):
        self.state = None

    def load(self):
        return self.state

    def save(self, state):
        self.state = copy.deepcopy(state)


class KilledError(Exception):
    """The training was killed."""


def main(count, noise, stop_after=None, config=(), **objective):
    cpus = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
    workers = None
    if count > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(count)])
        workers = Workers(Cluster(("127.0.0.1:1",), 0), strategy)
    if not noise:
        Sampling.noise = lambda self, z_mean: keras.ops.zeros_like(z_mean)
        training.keras.optimizers.Adam = lambda rate, beta_2: keras.optimizers.SGD(rate)
    precision._cpu_flags = lambda: {"avx512_bf16"}
    random = np.random.default_rng(0)
    pattern = random.random(784)
    images, others = ((random.random((n, 784)) < pattern).astype("float32") for n in (48, 21))
    store, states = Kept(), []

    def new_vae():
        return VariationalAutoencoder(
            build_encoder(hidden_units=(16,), seed=1),
            build_decoder(hidden_units=(16,), seed=1),
            objective=Objective(resample_input=noise, **objective),
            seed=1,
        )

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            generators = [
                self.model.seed_generator,
                self.model.encoder.get_layer("z").seed_generator,
            ]
            states[:] = [
                np.asarray(value).tolist()
                for generator in generators
                for value in (
                    workers.strategy.experimental_local_results(generator.state.value)
                    if workers
                    else [generator.state.value]
                )
            ]
            if stop_after == epoch + 1 and store.state["epoch"] == stop_after and not done:
                done.append(epoch)
                raise KilledError

    done = []
    fit_of = keras.Model.fit

    def watched(self, *args, callbacks, **kwargs):
        return fit_of(self, *args, callbacks=[*callbacks, Watch()], **kwargs)

    keras.Model.fit = watched
    config = TrainingConfig(**(CONFIG | dict(config)))
    vae = new_vae()
    before = [np.asarray(weight) for weight in vae.trainable_variables]
    try:
        run = fit(vae, images, others, config, store, workers)
    except KilledError:
        vae = new_vae()
        run = fit(vae, images, others, config, store, workers)
    after = [np.asarray(weight) for weight in vae.trainable_variables]
    moved = max(float(np.abs(b - a).max()) for a, b in zip(before, after, strict=True))
    weights = np.concatenate([weight.ravel() for weight in after])[::97].tolist()
    return {"history": run.history, "weights": weights, "moved": moved, "states": states}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), **json.loads(sys.argv[2]))))  # noqa: T201
