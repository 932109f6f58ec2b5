// The heat map of the posterior: asks the worker, and colours what it answers.

import { makeCanvas } from "./pictures.js";

export class Posterior {
  /** `answered({heat, logEvidence})` after each question that no later one overtook. */
  constructor({ kind, bound, answered, failed }) {
    Object.assign(this, { kind, bound, answered, failed, id: 0 });
  }

  ask(pixels) {
    this.worker ??= this.start();
    this.id += 1;
    this.worker.postMessage({ id: this.id, pixels, kind: this.kind, bound: this.bound });
  }

  /** Forget the question that was asked last. */
  cancel() {
    this.id += 1;
  }

  start() {
    const worker = new Worker(new URL("./posterior-worker.js", import.meta.url), { type: "module" });
    worker.onerror = () => this.failed("The posterior could not be computed in this browser.");
    worker.onmessage = ({ data }) => {
      if (data.id !== this.id) return;
      if (data.error) this.failed(data.error);
      else this.answered({ heat: heatOf(data), logEvidence: data.logEvidence });
    };
    return worker;
  }
}

/** Return the finest grid as a picture, over the coarser ones where these have any mass left. */
function heatOf({ size, grids }) {
  const top = Math.max(...grids.map(({ density }) => density.reduce((a, b) => Math.max(a, b), -Infinity)));
  return grids.map(({ box, density }, number) => {
    const inner = grids[number + 1]?.box;
    const canvas = makeCanvas();
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    const step = (box.x1 - box.x0) / (size - 1);
    density.forEach((value, i) => {
      const [column, row] = [i % size, Math.floor(i / size)];
      const [x, y] = [box.x0 + column * step, box.y0 + row * step];
      const covered = inner && x > inner.x0 && x < inner.x1 && y > inner.y0 && y < inner.y1;
      const share = covered ? 0 : Math.exp((value - top) / 2); // the root: faint mass is seen too
      const place = 4 * ((size - 1 - row) * size + column);
      image.data.set([255, Math.round(40 + 190 * share), Math.round(60 * (1 - share)), Math.round(235 * share)], place);
    });
    context.putImageData(image, 0, 0);
    const half = step / 2;
    return { canvas, box: { x0: box.x0 - half, x1: box.x1 + half, y0: box.y0 - half, y1: box.y1 + half } };
  });
}
