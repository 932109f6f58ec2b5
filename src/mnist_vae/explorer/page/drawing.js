// Drawing by hand, and what the model is given of it.

import { size } from "./pictures.js";

const LONGER = 280; // units of the canvas along the longer side of an image
const PEN = 20; // units, the width of a stroke
const MARGIN = PEN / 2; // the middle of the pen stays so far from the border
const MNIST = { side: 28, box: 20, centre: 14, pen: 2.2, dot: 10 };

/** Return units of the canvas a pixel of the image. */
const unit = () => LONGER / Math.max(size.height, size.width);

/** Return what the model is given of strokes, lists of points [x, y] of the canvas.
 *
 * 28 x 28 is made as MNIST has its digits: 20 x 20 at most, their mass at the centre. Images of
 * other sizes are as drawn. Returns Float32Array [height * width] in [0, 1], or null of no strokes.
 */
export function normalise(strokes) {
  if (!strokes.length) return null;
  if (size.height === MNIST.side && size.width === MNIST.side) return asInMnist(strokes);
  const fine = Math.max(2, Math.round(unit())); // a pixel's side in the drawing that is averaged
  const place = (point) => point.map((value) => (value * fine) / unit());
  return averaged(strokes.map((stroke) => stroke.map(place)), size, (PEN * fine) / unit(), fine);
}

function asInMnist(strokes) {
  const { box, pen, dot } = MNIST;
  const fine = 10;
  const [x, y] = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const [left, top] = [Math.min(...x), Math.min(...y)];
  const extent = Math.max(Math.max(...x) - left, Math.max(...y) - top);
  const scale = extent < dot ? 0 : ((box - pen) * fine) / extent; // a dot is not blown up
  const margin = (pen / 2) * fine;
  const place = (point) => [margin + (point[0] - left) * scale, margin + (point[1] - top) * scale];
  const small = averaged(strokes.map((stroke) => stroke.map(place)), { height: box, width: box }, pen * fine, fine);
  return centred(small);
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

/** Draw strokes, and return the mean of each block of `fine` x `fine`, [height * width] in [0, 1]. */
function averaged(strokes, { height, width }, pen, fine) {
  const canvas = new OffscreenCanvas(width * fine, height * fine);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  drawStrokes(context, strokes, pen, "#fff");
  const { data } = context.getImageData(0, 0, width * fine, height * fine);
  const small = new Float32Array(height * width);
  for (let y = 0, i = 3; y < height * fine; y += 1) {
    for (let x = 0; x < width * fine; x += 1, i += 4) {
      small[Math.floor(y / fine) * width + Math.floor(x / fine)] += data[i];
    }
  }
  return small.map((sum) => sum / (255 * fine * fine));
}

/** Move ink that begins at the first row and column to the centre, as far as none of it is lost. */
function centred(small) {
  const { side, box, centre } = MNIST;
  const inked = [...small.keys()].filter((i) => small[i] > 0);
  const mass = inked.reduce((sum, i) => sum + small[i], 0);
  const shift = (placeOf) => {
    const middle = inked.reduce((sum, i) => sum + small[i] * placeOf(i), 0) / mass;
    const most = side - 1 - Math.max(...inked.map(placeOf));
    return Math.min(most, Math.max(0, Math.round(centre - middle)));
  };
  const [column, row] = [(i) => i % box, (i) => Math.floor(i / box)];
  const [dx, dy] = [shift(column), shift(row)];
  const image = new Float32Array(side * side);
  for (const i of inked) image[(row(i) + dy) * side + column(i) + dx] = small[i];
  return image;
}

/** A canvas to draw on with mouse, finger or keys; `changed(strokes)` after every move. */
export class Drawing {
  constructor(canvas, changed) {
    Object.assign(canvas, { height: size.height * unit(), width: size.width * unit() });
    const pen = [canvas.width / 2, canvas.height / 2];
    Object.assign(this, { canvas, changed, strokes: [], pen, penDown: false });
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
      this.pen = this.within(this.pen.map((value, i) => value + step * moves[event.key][i]));
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
    return this.within([(event.clientX - left) * scale, (event.clientY - top) * scale]);
  }

  /** Return the place for the middle of the pen that is nearest to a point. */
  within(point) {
    const sides = [this.canvas.width, this.canvas.height];
    return point.map((value, i) => Math.min(sides[i] - MARGIN, Math.max(MARGIN, value)));
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
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.strokes.length) {
      context.setLineDash([4, 6]);
      Object.assign(context, { strokeStyle: "#5a5f6a", lineWidth: 1 });
      context.strokeRect(2 * PEN, 2 * PEN, this.canvas.width - 4 * PEN, this.canvas.height - 4 * PEN);
      context.setLineDash([]);
    }
    drawStrokes(context, this.strokes, PEN, "#fff");
    if (this.hasKeys && document.activeElement === this.canvas) {
      context.beginPath();
      context.arc(...this.pen, this.penDown ? 6 : 10, 0, 2 * Math.PI);
      Object.assign(context, { strokeStyle: "#f28e2b", lineWidth: 3 });
      context.stroke();
    }
  }
}
