// The exact posterior of an image over the plane: p(z | x) on grids, by the decoder alone.
//
// A coarse grid says where the mass is; its logits are kept, as they are the same for every image.
// Grids that are ever finer follow into the box that holds the mass, until the step is small.

import { Decoder } from "./networks.js";

const SIZE = 81; // points of a grid in each dimension
const BATCH = 256; // codes that are decoded at a time: others may ask in between
const NEGLIGIBLE = 16; // nats below the greatest density
const FINE = 0.012; // step that is small enough
const FINEST = 4; // grids, at most

let opening;
let coarse;
let newest = 0;

onmessage = async ({ data }) => {
  newest = data.id;
  try {
    opening ??= Decoder.open(2);
    const found = await posterior(await opening, data);
    if (found) postMessage({ id: data.id, ...found });
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
};

async function posterior(decoder, { id, pixels, kind, bound }) {
  const isOld = () => id !== newest;
  let box = { x0: -bound, x1: bound, y0: -bound, y1: bound };
  coarse ??= gridOf(decoder, kind, box, pixels.length, () => false);
  const grids = [];
  for (let grid = await coarse; grid && !isOld(); ) {
    const density = densityOf(grid, pixels);
    const step = (box.x1 - box.x0) / (SIZE - 1);
    grids.push({ box, density, logEvidence: logSum(density) + 2 * Math.log(step) });
    if (step <= FINE || grids.length === FINEST) break;
    const inner = boxOf(density, box);
    if (inner.x1 - inner.x0 > 0.8 * (box.x1 - box.x0)) break;
    box = inner;
    grid = await gridOf(decoder, kind, box, pixels.length, isOld);
  }
  if (isOld()) return null;
  return { size: SIZE, grids: grids.map(({ box: b, density }) => ({ box: b, density })), logEvidence: grids.at(-1).logEvidence };
}

/** Return what the density of any image needs at each point: log p(x|z) p(z) = x.a(z) - b(z). */
async function gridOf(decoder, kind, box, nPixels, isOld) {
  const count = SIZE * SIZE;
  const z = new Float32Array(2 * count);
  for (let i = 0; i < count; i += 1) {
    z[2 * i] = box.x0 + ((box.x1 - box.x0) * (i % SIZE)) / (SIZE - 1);
    z[2 * i + 1] = box.y0 + ((box.y1 - box.y0) * Math.floor(i / SIZE)) / (SIZE - 1);
  }
  const a = new Float32Array(count * nPixels);
  const b = new Float64Array(count);
  for (let start = 0; start < count; start += BATCH) {
    const end = Math.min(count, start + BATCH);
    const logits = await decoder.decode(z.slice(2 * start, 2 * end), "logits");
    for (let i = start; i < end; i += 1) b[i] = terms(kind, nPixels, logits, i - start, a, i) + priorTerm(z, i);
    await new Promise((resolve) => { setTimeout(resolve); });
    if (isOld()) return null;
  }
  return { kind, a, b };
}

function priorTerm(z, i) {
  return 0.5 * (z[2 * i] ** 2 + z[2 * i + 1] ** 2) + Math.log(2 * Math.PI);
}

function terms(kind, nPixels, logits, from, a, to) {
  let sum = 0;
  for (let j = 0; j < nPixels; j += 1) {
    const logit = logits[from * nPixels + j];
    if (kind === "mse") {
      const mean = 1 / (1 + Math.exp(-logit));
      a[to * nPixels + j] = 2 * mean;
      sum += mean * mean;
    } else {
      a[to * nPixels + j] = logit;
      sum += Math.max(logit, 0) + Math.log1p(Math.exp(-Math.abs(logit)));
    }
  }
  return sum;
}

function densityOf({ kind, a, b }, pixels) {
  const inked = [...pixels.keys()].filter((j) => pixels[j] > 0);
  const own = kind === "mse" ? pixels.reduce((sum, x) => sum + x * x, 0) : 0;
  return Float64Array.from(b, (value, i) => {
    let sum = -own - value;
    const from = i * pixels.length;
    for (const j of inked) sum += pixels[j] * a[from + j];
    return sum;
  });
}

function logSum(values) {
  const top = values.reduce((best, value) => Math.max(best, value), -Infinity);
  return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
}

/** Return a square around all points that count, with one more step on each side. */
function boxOf(density, box) {
  const top = density.reduce((best, value) => Math.max(best, value), -Infinity);
  let [left, right, low, high] = [SIZE, 0, SIZE, 0];
  density.forEach((value, i) => {
    if (value < top - NEGLIGIBLE) return;
    const [column, row] = [i % SIZE, Math.floor(i / SIZE)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
    [low, high] = [Math.min(low, row), Math.max(high, row)];
  });
  const step = (box.x1 - box.x0) / (SIZE - 1);
  const half = (Math.max(right - left, high - low) / 2 + 1) * step;
  const [x, y] = [box.x0 + ((left + right) / 2) * step, box.y0 + ((low + high) / 2) * step];
  return { x0: x - half, x1: x + half, y0: y - half, y1: y + half };
}
