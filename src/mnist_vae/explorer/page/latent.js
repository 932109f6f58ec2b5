// The latent space: the images' codes, the axes that a user moves along, what is near what.

export const UNLABELLED = 255;

const AROUND = 15; // images that say which class is around
const TRIALS = 8;

/** Return a function that draws from N(0, 1), the same numbers for the same seed. */
export function normal(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Coordinates u of z: z = mean + sum of u[i] * directions[i]. */
export class Axes {
  constructor({ principal, mean, directions, deviations, shares, bound }) {
    Object.assign(this, { principal, mean, directions, deviations, shares, bound });
    this.count = directions.length;
  }

  name(axis) {
    return this.principal ? `Axis ${axis + 1}` : `z${axis + 1}`;
  }

  toZ(u) {
    return Float32Array.from(this.mean, (value, j) =>
      this.directions.reduce((sum, direction, i) => sum + u[i] * direction[j], value));
  }

  toU(z, count = this.count) {
    return Float32Array.from({ length: count }, (_, i) =>
      this.directions[i].reduce((sum, value, j) => sum + value * (z[j] - this.mean[j]), 0));
  }
}

/** The codes of the images, as `explorer/data.py` writes them. */
export class Points {
  static async open(description, latentDim, axes) {
    const answer = await fetch(new URL("./data/points.bin", import.meta.url));
    if (!answer.ok) throw new Error(`points.bin could not be read (${answer.status}).`);
    return new Points(await answer.arrayBuffer(), description, latentDim, axes);
  }

  constructor(buffer, { count, splits }, latentDim, axes) {
    this.count = count;
    this.latentDim = latentDim;
    this.splits = splits;
    this.id = new BigInt64Array(buffer, 0, count);
    this.z = new Float32Array(buffer, 8 * count, count * latentDim);
    const after = (8 + 4 * latentDim) * count;
    this.label = new Uint8Array(buffer, after, count);
    this.split = new Uint8Array(buffer, after + count, count);
    this.u = this.inPlane(axes);
  }

  /** Return where each point is in the plane that is shown, [count * 2]. */
  inPlane({ directions, mean, bound }) {
    const u = new Float32Array(2 * this.count);
    const jitter = normal(1);
    const last = this.label.reduce((most, label) => (label === UNLABELLED ? most : Math.max(most, label)), 0);
    for (let axis = 0; axis < 2; axis += 1) {
      const direction = directions[axis];
      for (let row = 0, i = 0; row < this.count; row += 1) {
        let value = 0;
        if (direction) {
          for (let j = 0; j < this.latentDim; j += 1, i += 1) value += direction[j] * (this.z[i] - mean[j]);
        } else {
          // Of one dimension the classes are rows, so that they do not cover each other.
          const class_ = this.label[row] === UNLABELLED ? last / 2 : this.label[row];
          value = (bound * (class_ - last / 2 + 0.18 * jitter())) / (0.6 * (last + 1));
        }
        u[2 * row + axis] = value;
      }
    }
    return u;
  }

  zOf(row) {
    return this.z.subarray(row * this.latentDim, (row + 1) * this.latentDim);
  }

  /** Return the rows of the `count` images nearest to z, the nearest first, but for `without`. */
  nearest(z, count, without = -1) {
    const best = [];
    for (let row = 0, i = 0; row < this.count; row += 1) {
      let squares = 0;
      for (let j = 0; j < this.latentDim; j += 1, i += 1) squares += (this.z[i] - z[j]) ** 2;
      if (row === without || (best.length === count && squares >= best[count - 1].squares)) continue;
      const place = best.findLastIndex((other) => other.squares <= squares) + 1;
      best.splice(place, 0, { row, squares });
      if (best.length > count) best.pop();
    }
    return best.map(({ row }) => row);
  }

  /** Return the row of the shown point nearest to (x, y) of the plane, within `reach`, or -1. */
  at(x, y, reach, isShown) {
    let found = -1;
    let least = reach ** 2;
    for (let row = 0; row < this.count; row += 1) {
      const squares = (this.u[2 * row] - x) ** 2 + (this.u[2 * row + 1] - y) ** 2;
      if (squares <= least && isShown(this.label[row])) [found, least] = [row, squares];
    }
    return found;
  }
}

/** Return `draws` z of a class: the smoothed bootstrap of Silverman and Young (1987).
 *
 * An image of the class, moved by h times the difference of two others over the root of 2, whose
 * covariance is that of the class, and shrunk towards the mean so that mean and covariance stay; h
 * is Silverman's rule. A draw around which most images are of other classes is drawn again, some
 * times.
 */
export function drawOfClass(points, { label, mean }, draws) {
  const rows = [];
  for (let row = 0; row < points.count; row += 1) if (points.label[row] === label) rows.push(row);
  const d = mean.length;
  const h = (4 / (rows.length * (d + 2))) ** (1 / (d + 4));
  const any = () => points.zOf(rows[Math.floor(Math.random() * rows.length)]);
  const draw = () => {
    const [z, a, b] = [any(), any(), any()];
    return Float32Array.from(mean, (centre, j) =>
      centre + (z[j] - centre + h * (a[j] - b[j]) * Math.SQRT1_2) / Math.sqrt(1 + h * h));
  };
  const isAmidItsClass = (z) => {
    const near = points.nearest(z, AROUND);
    return near.filter((row) => points.label[row] === label).length > near.length / 2;
  };
  return Array.from({ length: draws }, () => {
    let z = draw();
    for (let trial = 1; trial < TRIALS && !isAmidItsClass(z); trial += 1) z = draw();
    return z;
  });
}

/** Return the point at t, 0 to 1, between a and b: on the line, or on the arc around 0. */
export function between(a, b, t, kind) {
  const line = Float32Array.from(a, (value, j) => (1 - t) * value + t * b[j]);
  const [lengthA, lengthB] = [Math.hypot(...a), Math.hypot(...b)];
  const product = a.reduce((sum, value, j) => sum + value * b[j], 0);
  const angle = Math.acos(Math.min(1, Math.max(-1, product / (lengthA * lengthB))));
  // The same, opposite or no directions have no one arc between them.
  if (kind === "line" || !(Math.sin(angle) > 1e-3)) return line;
  const length = (1 - t) * lengthA + t * lengthB;
  const [ofA, ofB] = [Math.sin((1 - t) * angle), Math.sin(t * angle)];
  return Float32Array.from(a, (value, j) =>
    (length * ((ofA * value) / lengthA + (ofB * b[j]) / lengthB)) / Math.sin(angle));
}
