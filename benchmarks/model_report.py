"""How long the report on a model takes, and how large it is, for 70,000 images.

    python benchmarks/model_report.py FOLDER [--small]

It makes the report of the images in the four IDX files of FOLDER three times, with embeddings that
are drawn at random: what takes time is to pack points and images, whatever the model. One JSON line
has the seconds of each, their median, and the size of the page in MB, of which the library of the
figures, the points and the thumbnails have their shares.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import median, parser, read_images, report, say

from mnist_vae.data.images import ImageSet
from mnist_vae.params import ReportingParams
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render
from tests.model_files import make_files

ROUNDS = 3


def files_of(folder: Path, small: bool) -> Any:
    """Return the files of a model of these images."""
    pixels = np.concatenate(read_images(folder))
    if small:
        pixels = pixels[:500]
    n = len(pixels)
    images = ImageSet(
        pixels=pixels.reshape(-1, 784), image_id=np.arange(n), split=np.full(n, "train")
    )
    return dataclasses.replace(make_files(n), images=[images])


def main() -> None:
    """Print the line."""
    arguments = parser(__doc__).parse_args()
    files = files_of(arguments.folder, arguments.small)
    seconds, html = [], ""
    for turn in range(1 if arguments.small else ROUNDS):
        began = time.perf_counter()
        page = model_page(files, ReportingParams(), 1)
        html = render(page)
        seconds.append(round(time.perf_counter() - began, 2))
        say(f"round {turn + 1}: {seconds[-1]} s")
    (latent,) = (section for section in page.sections if section.key == "latent")
    scatter = latent.blocks[0]
    library = html.split('id="plotly">')[1].split("</script>")[0]
    report(
        {
            "benchmark": "model_report",
            "images": len(files.latent_embeddings),
            "seconds": seconds,
            "median_seconds": median(seconds),
            "megabytes": len(html.encode()) / 1e6,
            "library_megabytes": len(library) / 1e6,
            "points_megabytes": len(scatter.points) / 1e6,
            "thumbnails_megabytes": sum(map(len, scatter.sprites)) / 1e6,
        }
    )


if __name__ == "__main__":
    main()
