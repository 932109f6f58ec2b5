"""How soon the latent explorer is there, and how soon a move is a picture.

    python benchmarks/explorer.py FOLDER [--small]

It trains one epoch on the IDX files in FOLDER, in a project of its own, builds the page with
`kedro explore --build`, and opens it in a headless Chromium. One JSON line has the seconds of the
build and the megabytes of the page without ONNX Runtime; `ready_ms`, milliseconds from the start of
a page load to the first picture, the median of five loads with an empty cache; and of moves of the
mouse in the plane, and of the keys, the milliseconds from the browser's own time of the event to
the picture on its canvas: median and 95 % quantile. `decode_ms` is one decoding alone,
`posterior_ms` the time to the exact posterior of a clicked image: the first, and the median of the
later ones.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import copy_project, kedro, median, parser, read_images, report, say

LOADS, MOVES, CLICKS = 5, 400, 7


def build(folder: Path, project: Path, small: bool) -> tuple[Path, float]:
    """Return the page of a model that was trained for one epoch, and the seconds of its build."""
    params = {"source.folder": folder.resolve(), "training.epochs": 1}
    if small:
        params["split.max_images"] = 1000
    text = ",".join(f"{key}={value}" for key, value in params.items())
    copy_project(project)
    site = project / "site"
    seconds = 0.0
    for command in (
        ["run", "--pipelines=training,embedding", "--params", text],
        ["explore", "--build", str(site)],
    ):
        began = time.perf_counter()
        finished = kedro(project, *command, timeout=3600)
        seconds = time.perf_counter() - began
        if finished.returncode != 0:
            raise RuntimeError(f"{command} ended with {finished.returncode}: {finished.stderr}")
    return site, seconds


def measure(opened: Any, address: str, small: bool) -> dict[str, Any]:
    """Return the figures of the page at this address."""
    ready = []
    for _ in range(2 if small else LOADS):
        context = opened.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(address)
        ready.append(page.evaluate("latentExplorer.then((explorer) => explorer.readyAfter)"))
        context.close()
    page = opened.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(address)
    page.evaluate("latentExplorer.then(() => true)")
    moves = 50 if small else MOVES
    return {
        "ready_ms": round(median(ready), 1),
        "mouse_ms": latencies(page, moves, drag),
        "keys_ms": latencies(page, moves, press),
        "decode_ms": round(median(page.evaluate(DECODE, moves)), 3),
        "posterior_ms": posteriors(page, 2 if small else CLICKS),
    }


DECODE = """async (count) => {
    const { decoder, z } = await latentExplorer;
    const times = [];
    for (let i = 0; i < count; i += 1) {
        const began = performance.now();
        await decoder.decode(z);
        times.push(performance.now() - began);
    }
    return times;
}"""

POSTERIOR = """async (row) => {
    const explorer = await latentExplorer;
    const facts = document.querySelector("#posterior-facts");
    const began = performance.now();
    await explorer.real.show(row);
    while (!facts.children.length) await new Promise((resolve) => setTimeout(resolve, 2));
    return performance.now() - began;
}"""


def latencies(page: Any, moves: int, act: Any) -> dict[str, float]:
    """Return median and 95 % quantile of what the page noted while `act` moved z."""
    page.evaluate("latentExplorer.then((explorer) => { explorer.latencies.length = 0; })")
    act(page, moves)
    noted = page.evaluate("latentExplorer.then((explorer) => explorer.latencies)")
    return {
        "median": round(median(noted), 2),
        "p95": round(float(np.quantile(noted, 0.95)), 2),
        "pictures": len(noted),
    }


def drag(page: Any, moves: int) -> None:
    """Move the mouse in a circle around the plane."""
    box = page.locator("#pad").bounding_box()
    x, y, radius = box["x"] + box["width"] / 2, box["y"] + box["width"] / 2, box["width"] / 3
    page.mouse.move(x + radius, y)
    page.mouse.down()
    for angle in np.linspace(0, 2 * np.pi, moves):
        page.mouse.move(x + radius * np.cos(angle), y + radius * np.sin(angle))
        page.wait_for_timeout(10)
    page.mouse.up()


def press(page: Any, moves: int) -> None:
    """Move z by the keys, to and fro."""
    page.locator("#pad").focus()
    for number in range(moves):
        page.keyboard.press("ArrowRight" if number // 20 % 2 else "ArrowLeft")


def posteriors(page: Any, clicks: int) -> dict[str, float]:
    """Return how long the first posterior takes, and the median of the others."""
    first, *others = [page.evaluate(POSTERIOR, 37 * number) for number in range(clicks)]
    return {"first": round(first, 1), "later": round(median(others), 1)}


def main() -> None:
    """Run the benchmark."""
    arguments = parser(__doc__).parse_args()
    read_images(arguments.folder)  # or say what is missing before anything is trained
    from mnist_vae.explorer.server import make_server
    from tests.browser import browser

    with tempfile.TemporaryDirectory() as temporary:
        site, seconds = build(arguments.folder, Path(temporary), arguments.small)
        files = [path for path in site.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files if path.parent.name != "vendor")
        say(f"built in {seconds:.1f} s, {size / 1e6:.1f} MB")
        server = make_server(site, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser() as opened:
            figures = measure(opened, f"http://127.0.0.1:{server.server_port}/", arguments.small)
        server.shutdown()
        server.server_close()
    report(
        {
            "benchmark": "explorer",
            "build_seconds": round(seconds, 1),
            "megabytes": round(size / 1e6, 2),
            **figures,
        }
    )


if __name__ == "__main__":
    main()
