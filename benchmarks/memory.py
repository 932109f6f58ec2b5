"""Copies of the training images that training holds: ours beside plain Keras.

    python benchmarks/memory.py FOLDER [--small]

Each contestant trains for one epoch in a process of its own, once on the images in FOLDER and
once on four times as many (the same ones over and over). The growth of the peak resident memory
over that of the images, as bytes, is the number of copies; whatever does not grow with the images,
such as TensorFlow itself, cancels out. The images are generated in place: nothing else holds them.
Plain Keras takes float32, four times the size, so that one copy of its input counts as 4.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import common
import numpy as np


def peak(name: str, n_images: int) -> int:
    """Return the peak resident memory of a training on so many images, bytes."""
    command = [sys.executable, __file__, ".", "--worker", name, "--images", str(n_images)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: int = json.loads(finished.stdout)["peak"]
    return result


def work(name: str, n_images: int) -> None:
    """Be a contestant: train for an epoch, and report the peak."""
    images = np.random.default_rng(0).integers(0, 256, (n_images, 784), np.uint8)
    if name == "ours":
        from mnist_vae.params import TrainingParams
        from mnist_vae.recipe import config_of, objective_of
        from mnist_vae.vae.model import VariationalAutoencoder
        from mnist_vae.vae.networks import build_decoder, build_encoder
        from mnist_vae.vae.training import fit

        params = TrainingParams(epochs=1)
        networks = build_encoder(seed=1), build_decoder(seed=1)
        vae = VariationalAutoencoder(*networks, objective=objective_of(params), seed=1)
        fit(vae, images, images[:1000], config_of(params, 1))
    else:
        import keras
        from throughput import plain_vae

        pixels = np.divide(images, 255, dtype=np.float32)
        del images
        model = plain_vae(1)
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        model.fit(pixels, epochs=1, batch_size=128, verbose=0)
    common.report({"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--worker", choices=["ours", "plain_keras"], help="internal")
    parser.add_argument("--images", type=int, help="internal")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.images)
        return
    few = 5_000 if arguments.small else len(common.read_images(Path(arguments.folder))[0])
    peaks = {
        name: [peak(name, n_images) for n_images in (few, 4 * few)]
        for name in ("ours", "plain_keras")
    }
    common.report(
        {
            "benchmark": "memory",
            "small": arguments.small,
            "images": [few, 4 * few],
            "peak_megabytes": {name: [round(b / 1e6) for b in p] for name, p in peaks.items()},
            "copies": {
                name: round((more - less) / (3 * few * 784), 2)
                for name, (less, more) in peaks.items()
            },
        }
    )


if __name__ == "__main__":
    main()
