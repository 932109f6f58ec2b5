// The heat map of the posterior: asks the worker, and colours what it answers.

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

/** Draw the finest grid with what is around it, and the encoder's ellipse. */
export function drawCloseUp(canvas, heat, ellipse) {
  const context = canvas.getContext("2d");
  const width = canvas.width;
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, width, width);
  if (!heat) return;
  const { box } = heat.at(-1);
  const reach = ellipse ? 1.2 * Math.max(ellipse.a, ellipse.b) : 0;
  const half = Math.max((box.x1 - box.x0) / 2, reach);
  const [x0, y1] = [(box.x0 + box.x1) / 2 - half, (box.y0 + box.y1) / 2 + half];
  const scale = width / (2 * half);
  for (const { canvas: picture, box: b } of heat) {
    context.drawImage(picture, (b.x0 - x0) * scale, (y1 - b.y1) * scale, (b.x1 - b.x0) * scale, (b.y1 - b.y0) * scale);
  }
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 2.5;
  context.beginPath();
  if (ellipse) context.ellipse((ellipse.x - x0) * scale, (y1 - ellipse.y) * scale, ellipse.a * scale, ellipse.b * scale, 0, 0, 2 * Math.PI);
  context.stroke();
}

/** Return the finest grid as a picture, over the coarser ones where these have any mass left. */
function heatOf({ size, grids }) {
  const top = Math.max(...grids.map(({ density }) => density.reduce((a, b) => Math.max(a, b), -Infinity)));
  return grids.map(({ box, density }, number) => {
    const inner = grids[number + 1]?.box;
    const canvas = new OffscreenCanvas(size, size);
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    const step = (box.x1 - box.x0) / (size - 1);
    density.forEach((value, i) => {
      const [column, row] = [i % size, Math.floor(i / size)];
      const [x, y] = [box.x0 + column * step, box.y0 + row * step];
      const covered = inner && x > inner.x0 && x < inner.x1 && y > inner.y0 && y < inner.y1;
      const share = covered ? 0 : Math.exp((value - top) / 2); // the root: faint mass is seen too
      const place = 4 * ((size - 1 - row) * size + column);
      image.data.set([255 - 45 * share, 130 * (1 - share), 60 + 50 * share, 240 * share], place);
    });
    context.putImageData(image, 0, 0);
    const half = step / 2;
    return { canvas, box: { x0: box.x0 - half, x1: box.x1 + half, y0: box.y0 - half, y1: box.y1 + half } };
  });
}
