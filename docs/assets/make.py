"""Make the pictures of the documentation from the project's own outputs.

Run it in a project with the model of `kedro run` on the full MNIST, after
`kedro run --pipelines export,anomaly,model_report`. It needs the extra `viz`, Playwright and
Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import plotly.io
from PIL import Image
from playwright.sync_api import sync_playwright

ASSETS = Path(__file__).parent
WIDE, TALL = {"width": 1280, "height": 800}, {"width": 1100, "height": 1300}
VIZ = {
    "theme": "light",
    "showFeatureHints": False,
    "textLabels": True,
    "layer": {"visible": True},
    "visible": {"graph": True, "sidebar": False, "miniMap": False},
}
"""What Kedro-Viz remembers of a reader's choices."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


def decoded(data: Path) -> Image.Image:
    """Return the latent manifold, 20 × 20, next to 100 new digits at twice the size."""
    import keras
    from scipy.stats import norm

    decoder = keras.saving.load_model(data / "06_models/decoder.keras", compile=False)
    steps = norm.ppf((np.arange(20) + 0.5) / 20)
    plane = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, 2)
    draws = np.random.default_rng(42).standard_normal((100, 2))
    left, right = (tiled(decoder.predict(z, verbose=0), n) for z, n in ((plane, 20), (draws, 10)))
    picture = Image.new("L", (2 * left.width + 24, left.height), 255)
    picture.paste(left, (0, 0))
    picture.paste(right.resize(left.size, Image.Resampling.BICUBIC), (left.width + 24, 0))
    return picture


def tiled(pixels: np.ndarray, columns: int) -> Image.Image:
    """Return images `[n, 784]` as one, so many in a row."""
    rows = len(pixels) // columns
    tiles = pixels.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(28 * rows, 28 * columns)
    return Image.fromarray((tiles * 255).astype(np.uint8))


def save(picture: Image.Image, name: str) -> None:
    """Save a picture with a palette, which makes it small: few greys, or up to 256 colours."""
    if picture.mode == "L":
        small = picture.quantize(16, dither=Image.Dither.NONE)
    else:
        method = Image.Quantize.FASTOCTREE
        small = picture.convert("RGB").quantize(256, method=method, dither=Image.Dither.NONE)
    small.save(ASSETS / name, optimize=True)
    print(name, f"{(ASSETS / name).stat().st_size:,} bytes")  # noqa: T201


def kedro(*arguments: str) -> None:
    """Run a command of Kedro in this project."""
    subprocess.run([Path(sys.executable).with_name("kedro"), *arguments], check=True)  # noqa: S603


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=Path, help="data of the tutorial's small digits")
    data, small = Path("data"), parser.parse_args().small
    save(decoded(data), "digits.png")
    if small:
        sheet = Image.open(small / "08_reporting/generated_sheet.png").convert("L")
        upper = sheet.crop((0, 0, sheet.width, sheet.height // 2))
        save(upper.resize((610, 332)), "small_digits.png")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        served = Path(scratch)
        shutil.copy(data / "08_reporting/model_report.html", served)
        figure = plotly.io.from_json((data / "08_reporting/latent_scatter.json").read_text())
        figure.update_layout(template="plotly_white", width=800, height=640, font_color="#222")
        figure.write_html(served / "plane.html", config={"displayModeBar": False})
        kedro("explore", "--build", str(served / "explorer"))
        kedro("viz", "build")
        shutil.move("build", served / "viz")
        handler = partial(QuietHandler, directory=scratch)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, path, size, wait in (
            ("latent_plane", "plane.html", {"width": 816, "height": 656}, 2),
            ("report", "model_report.html#latent", TALL, 15),
            ("explorer", "explorer/index.html", WIDE, 8),
            ("kedro_viz", "viz/index.html", TALL, 8),
        ):
            page = chromium.new_page(viewport=size)
            page.add_init_script(f"localStorage.setItem('KedroViz', '{json.dumps(VIZ)}')")
            page.goto(f"http://127.0.0.1:{server.server_port}/{path}")
            page.wait_for_timeout(1000 * wait)
            page.screenshot(path=served / f"{name}.png")
            save(Image.open(served / f"{name}.png"), f"{name}.png")
        chromium.close()
        server.shutdown()


if __name__ == "__main__":
    main()
