// Drawing by hand, and what MNIST would have made of it.

import { N_PIXELS, SIDE } from "./networks.js";

const BOX = 20; // pixels that the longer side of a digit has in MNIST
const PEN = 2.2; // pixels, the width of a stroke there
const FINE = 10; // a pixel's side in the drawing that is averaged
const CENTRE = 14; // where the centre of mass of every image is in MNIST
const [FIRST, LAST] = [10, 270]; // where the middle of the pen may be on the canvas
const DOT = 10; // half a pen: less than this is a dot, which is not blown up

/** Return strokes as MNIST has its digits: 20 x 20 at most, their mass at the centre of 28 x 28.
 *
 * `strokes` are lists of points [x, y] of the canvas. Returns Float32Array [784] in [0, 1], or null
 * where nothing was drawn.
 */
export function normalise(strokes) {
  const points = strokes.flat();
  if (!points.length) return null;
  const [left, right] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
  const [top, bottom] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
  const extent = Math.max(right - left, bottom - top);
  const scale = extent < DOT ? 0 : ((BOX - PEN) * FINE) / extent;
  const margin = (PEN / 2) * FINE;
  const canvas = new OffscreenCanvas(BOX * FINE, BOX * FINE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const place = ([x, y]) => [margin + (x - left) * scale, margin + (y - top) * scale];
  drawStrokes(context, strokes.map((stroke) => stroke.map(place)), PEN * FINE, "#fff");
  return centred(averaged(context.getImageData(0, 0, BOX * FINE, BOX * FINE).data));
}

/** Draw strokes with round ends. */
export function drawStrokes(context, strokes, lineWidth, colour) {
  Object.assign(context, { lineWidth, strokeStyle: colour, lineCap: "round", lineJoin: "round" });
  for (const [[x, y], ...others] of strokes) {
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 0.01, y); // a line without a length would not be drawn
    for (const point of others) context.lineTo(...point);
    context.stroke();
  }
}

/** Return the mean of each 10 x 10 block of the alpha channel, [20 * 20] in [0, 1]. */
function averaged(rgba) {
  const small = new Float32Array(BOX * BOX);
  const width = BOX * FINE;
  for (let y = 0; y < width; y += 1) {
    for (let x = 0; x < width; x += 1) {
      small[Math.floor(y / FINE) * BOX + Math.floor(x / FINE)] += rgba[4 * (y * width + x) + 3];
    }
  }
  return small.map((sum) => sum / (255 * FINE * FINE));
}

/** Move ink that begins at the first row and column to the centre, as far as none of it is lost. */
function centred(small) {
  const inked = [...small.keys()].filter((i) => small[i] > 0);
  const shift = (placeOf) => {
    const mass = inked.reduce((sum, i) => sum + small[i], 0);
    const centre = inked.reduce((sum, i) => sum + small[i] * placeOf(i), 0) / mass;
    const most = SIDE - 1 - Math.max(...inked.map(placeOf));
    return Math.min(most, Math.max(0, Math.round(CENTRE - centre)));
  };
  const [column, row] = [(i) => i % BOX, (i) => Math.floor(i / BOX)];
  const [dx, dy] = [shift(column), shift(row)];
  const image = new Float32Array(N_PIXELS);
  for (const i of inked) image[(row(i) + dy) * SIDE + column(i) + dx] = small[i];
  return image;
}

const onCanvas = (value) => Math.min(LAST, Math.max(FIRST, value));

/** A canvas to draw on with mouse, finger or keys; `changed(strokes)` after every move. */
export class Drawing {
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, strokes: [], pen: [140, 140], penDown: false });
    const listen = (type, act) => {
      canvas.addEventListener(type, (event) => { if (event.isPrimary) act(event); });
    };
    listen("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.drawing = true;
      this.strokes.push([this.placeOf(event)]);
      this.update();
    });
    listen("pointermove", (event) => {
      if (!this.drawing) return;
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.strokes.at(-1).push(this.placeOf(each));
      this.update();
    });
    for (const end of ["pointerup", "pointercancel"]) listen(end, () => { this.drawing = false; });
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const change of ["focus", "blur"]) canvas.addEventListener(change, () => this.draw());
    this.draw();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    this.hasKeys = true;
    if (moves[event.key]) {
      const step = event.shiftKey ? 2 : 8;
      this.pen = this.pen.map((value, i) => onCanvas(value + step * moves[event.key][i]));
      if (this.penDown) this.strokes.at(-1).push([...this.pen]);
      this.update();
    } else if (event.key === " ") {
      this.penDown = !this.penDown;
      if (this.penDown) this.strokes.push([[...this.pen]]);
      this.update();
    } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else return;
    event.preventDefault();
  }

  placeOf(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / width;
    return [event.clientX - left, event.clientY - top].map((value) => onCanvas(value * scale));
  }

  clear() {
    this.strokes = [];
    this.penDown = false;
    this.update();
  }

  update() {
    this.draw();
    this.changed(this.strokes);
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, 280, 280);
    if (!this.strokes.length) {
      context.setLineDash([4, 6]);
      Object.assign(context, { strokeStyle: "#5a5f6a", lineWidth: 1 });
      context.strokeRect(40, 40, 200, 200);
      context.setLineDash([]);
    }
    drawStrokes(context, this.strokes, 20, "#fff");
    if (this.hasKeys && document.activeElement === this.canvas) {
      context.beginPath();
      context.arc(...this.pen, this.penDown ? 6 : 10, 0, 2 * Math.PI);
      Object.assign(context, { strokeStyle: "#f28e2b", lineWidth: 3 });
      context.stroke();
    }
  }
}
