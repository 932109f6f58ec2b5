// A walk from one place to another, step by step or as a film.

import { between } from "./latent.js";
import { element } from "./elements.js";
import { makeCanvas, paint, size } from "./pictures.js";

const FRAMES = 9;
const SECONDS = 3; // there, and as many back
const PATH_POINTS = 40;

export class Walk {
  constructor(explorer) {
    this.explorer = explorer;
    this.frames = Array.from({ length: FRAMES }, makeCanvas);
    element("strip").replaceChildren(...this.frames);
    element("set-a").addEventListener("click", () => this.set("a"));
    element("set-b").addEventListener("click", () => this.set("b"));
    element("walk-t").addEventListener("input", (event) => {
      this.stop();
      this.go(event.target.valueAsNumber, event.timeStamp);
    });
    element("play").addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    for (const radio of document.querySelectorAll("input[name=path]")) {
      radio.addEventListener("change", () => this.update());
    }
  }

  /** Start with two images of different classes. */
  start() {
    const { model, points } = this.explorer;
    const [first, last] = model.classes.length > 1
      ? [model.classes[0], model.classes[Math.min(7, model.classes.length - 1)]]
      : [{ mean: points.zOf(0) }, { mean: points.zOf(points.count - 1) }];
    [this.a, this.b] = [first, last].map(({ mean }) => Float32Array.from(points.zOf(points.nearest(mean, 1)[0])));
    return this.update(false);
  }

  set(end) {
    this.stop();
    this[end] = Float32Array.from(this.explorer.z);
    return this.update();
  }

  get kind() {
    return document.querySelector("input[name=path]:checked").value;
  }

  at(t) {
    return between(this.a, this.b, t, this.kind);
  }

  async update(isShown = true) {
    const { explorer } = this;
    const codes = this.frames.map((_, number) => this.at(number / (FRAMES - 1)));
    const pixels = await explorer.decoder.decode(Float32Array.from(codes.flatMap((z) => [...z])));
    this.frames.forEach((canvas, number) => paint(canvas, pixels, number * size.pixels));
    paint(element("walk-a"), pixels);
    paint(element("walk-b"), pixels, (FRAMES - 1) * size.pixels);
    if (isShown) this.markPath();
  }

  markPath() {
    const { axes, pad } = this.explorer;
    pad.mark({
      path: Array.from({ length: PATH_POINTS + 1 }, (_, i) => {
        const [x, y] = axes.toU(this.at(i / PATH_POINTS), Math.min(2, axes.count));
        return [x, y ?? 0];
      }),
    });
  }

  go(t, since) {
    if (!this.explorer.pad.marks.path) this.markPath();
    this.explorer.moveTo(this.at(t), since);
  }

  play() {
    this.playing = true;
    this.showPlaying();
    let began = null;
    const step = (now) => {
      if (!this.playing) return;
      began ??= now - element("walk-t").valueAsNumber * SECONDS * 1000;
      const phase = ((now - began) / (SECONDS * 1000)) % 2;
      const t = phase > 1 ? 2 - phase : phase;
      element("walk-t").value = t;
      this.go(t, now);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  stop() {
    this.playing = false;
    this.showPlaying();
  }

  showPlaying() {
    element("play").textContent = this.playing ? "Stop" : "Play";
    element("play").setAttribute("aria-pressed", `${this.playing}`);
  }
}
