// The plane: the images as dots, what is marked among them, and the place of z, which it moves.

import { colourOf } from "./classes.js";

const CLICK = 5; // pixels that a click may move
const REACH = { mouse: 14, touch: 28, pen: 20 }; // pixels from a dot that still mean it
const ROUNDS = 10; // of dots: each class is drawn in parts, so that none hides the others
const CLOSEST = 0.02; // share of the plane that zooming shows at least

export class Pad {
  /** `actions`: `move(x, y, since)` of the plane, `pick(row)` and `hover(row, x, y)` of an image. */
  constructor(element, { points, bound, flat, actions }) {
    Object.assign(this, { element, points, bound, flat, actions });
    this.hidden = new Set();
    this.marks = {};
    this.cursor = [0, 0];
    [this.scatter, this.overlay] = element.querySelectorAll("canvas");
    this.view = { x: 0, y: 0, half: bound };
    this.parts = inParts(points.label);
    this.listen();
  }

  listen() {
    const { element } = this;
    new ResizeObserver(() => this.resize()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawAll());
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      element.focus({ preventScroll: true });
      this.actions.hover(-1);
      this.pressed = { x: event.clientX, y: event.clientY, moved: false };
      this.moveTo(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (!this.pressed) {
        if (event.pointerType === "mouse") this.hoverOver(event);
        return;
      }
      const far = Math.hypot(event.clientX - this.pressed.x, event.clientY - this.pressed.y);
      this.pressed.moved ||= far > CLICK;
      this.moveTo(event);
    });
    element.addEventListener("pointerup", (event) => {
      if (this.pressed && !this.pressed.moved) this.pickAt(...this.placeOf(event), REACH[event.pointerType]);
      this.pressed = null;
    });
    element.addEventListener("pointerleave", () => this.actions.hover(-1));
    element.addEventListener("pointercancel", () => { this.pressed = null; });
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.0015), ...this.placeOf(event));
    }, { passive: false });
    element.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const step = this.view.half * (event.shiftKey ? 0.005 : 0.04);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) {
      const [x, y] = [this.cursor[0] + moves[event.key][0], this.cursor[1] + moves[event.key][1]];
      this.actions.move(x, y, event.timeStamp);
      this.follow();
    } else if (event.key === "Enter") this.pickAt(...this.cursor, Infinity);
    else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.4, ...this.cursor);
    else if (event.key === "-") this.zoom(1.4, ...this.cursor);
    else return;
    event.preventDefault();
  }

  moveTo(event) {
    this.actions.move(...this.placeOf(event), event.timeStamp);
  }

  /** Return the row of the dot nearest to (x, y), within so many pixels, or -1. */
  rowAt(x, y, reach) {
    const distance = reach === Infinity ? Infinity : (reach / this.width) * 2 * this.view.half;
    return this.points.at(x, y, distance, (label) => !this.hidden.has(label));
  }

  pickAt(x, y, reach) {
    const row = this.rowAt(x, y, reach);
    if (row >= 0) this.actions.pick(row);
  }

  hoverOver(event) {
    const row = this.rowAt(...this.placeOf(event), REACH.mouse / 2);
    const { u } = this.points;
    this.actions.hover(row, ...(row < 0 ? [] : this.toPixels(u[2 * row], u[2 * row + 1])));
  }

  placeOf(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return this.toPlane(event.clientX - left - this.element.clientLeft, event.clientY - top - this.element.clientTop);
  }

  toPlane(px, py) {
    const { x, y, half } = this.view;
    return [x + (2 * px / this.width - 1) * half, y - (2 * py / this.width - 1) * half];
  }

  toPixels(x, y) {
    const { view, width } = this;
    return [((x - view.x) / view.half + 1) * width / 2, (1 - (y - view.y) / view.half) * width / 2];
  }

  zoom(factor, x, y) {
    const half = Math.min(this.bound, Math.max(this.bound * CLOSEST, this.view.half * factor));
    const kept = half / this.view.half;
    this.look(x + (this.view.x - x) * kept, y + (this.view.y - y) * kept, half);
  }

  look(x, y, half) {
    const most = this.bound - half;
    const within = (value) => Math.min(most, Math.max(-most, value));
    this.view = { x: within(x), y: within(y), half };
    this.drawAll();
  }

  /** Keep the cursor in sight. */
  follow() {
    const { x, y, half } = this.view;
    const [cx, cy] = this.cursor;
    if (Math.max(Math.abs(cx - x), Math.abs(cy - y)) > half * 0.95) this.look(cx, cy, half);
  }

  resize() {
    const width = this.element.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.scatter, this.overlay]) {
      canvas.width = canvas.height = Math.round(width * this.ratio);
    }
    this.drawAll();
  }

  show(label, shown) {
    if (shown) this.hidden.delete(label);
    else this.hidden.add(label);
    this.drawAll();
  }

  setCursor(x, y) {
    this.cursor = [x, y];
    this.drawOverlay();
  }

  /** Mark `selected` and `neighbours` (rows), a `path`, an `ellipse` and `heat` in the plane. */
  mark(marks) {
    Object.assign(this.marks, marks);
    this.drawOverlay();
  }

  drawAll() {
    if (!this.width || this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      this.drawScatter();
      this.drawOverlay();
    });
  }

  drawScatter() {
    const context = this.scatter.getContext("2d");
    const { width, ratio, points, view } = this;
    const style = getComputedStyle(this.element);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, width);
    this.drawGrid(context, style);
    const crowd = points.count * (view.half / this.bound) ** 2;
    const size = Math.max(2, (crowd > 20000 ? 1.5 : crowd > 3000 ? 2.2 : 3.6) * Math.max(0.8, width / 640));
    context.globalAlpha = crowd > 20000 ? 0.5 : 0.75;
    const [scale, half] = [width / (2 * view.half), size / 2];
    for (const [label, rows] of this.parts) {
      if (this.hidden.has(label)) continue;
      context.fillStyle = colourOf(label);
      for (const row of rows) {
        const px = (points.u[2 * row] - view.x + view.half) * scale;
        const py = (view.half - points.u[2 * row + 1] + view.y) * scale;
        if (px > 0 && py > 0 && px < width && py < width) context.fillRect(px - half, py - half, size, size);
      }
    }
    context.globalAlpha = 1;
  }

  drawGrid(context, style) {
    const { width, view } = this;
    context.strokeStyle = style.getPropertyValue("--grid");
    context.fillStyle = style.getPropertyValue("--faint");
    context.font = `11px ${style.fontFamily}`;
    context.lineWidth = 1;
    const step = view.half > 2 ? 1 : view.half > 0.4 ? 0.25 : 0.05;
    const digits = step < 1 ? 2 : 0;
    const first = Math.ceil((view.x - view.half) / step);
    for (let n = first; n * step < view.x + view.half; n += 1) {
      const [px] = this.toPixels(n * step, 0);
      line(context, px, 0, px, width);
      if (px > 24 && px < width - 24) context.fillText(fixed(n * step, digits), px + 3, width - 5);
    }
    if (this.flat) return;
    for (let n = Math.ceil((view.y - view.half) / step); n * step < view.y + view.half; n += 1) {
      const [, py] = this.toPixels(0, n * step);
      line(context, 0, py, width, py);
      if (py > 16 && py < width - 24) context.fillText(fixed(n * step, digits), 4, py - 3);
    }
  }

  drawOverlay() {
    if (!this.width) return;
    const context = this.overlay.getContext("2d");
    const style = getComputedStyle(this.element);
    const ink = style.getPropertyValue("--ink");
    const { selected, neighbours, path, ellipse, heat } = this.marks;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.width);
    for (const { canvas, box } of heat ?? []) {
      const [left, bottom] = this.toPixels(box.x0, box.y0);
      const [right, top] = this.toPixels(box.x1, box.y1);
      context.drawImage(canvas, left, top, right - left, bottom - top);
    }
    context.lineWidth = 2;
    context.strokeStyle = ink;
    if (path) this.drawPath(context, path);
    if (ellipse) this.drawEllipse(context, ellipse);
    for (const row of neighbours ?? []) this.ring(context, row, 5, 1.5, ink);
    if (selected >= 0) this.ring(context, selected, 9, 2.5, style.getPropertyValue("--accent"));
    this.drawCursor(context, ink, style.getPropertyValue("--surface"));
  }

  drawPath(context, path) {
    context.setLineDash([5, 4]);
    context.beginPath();
    for (const [x, y] of path) context.lineTo(...this.toPixels(x, y));
    context.stroke();
    context.setLineDash([]);
  }

  drawEllipse(context, { x, y, a, b }) {
    const scale = this.width / (2 * this.view.half);
    context.beginPath();
    context.ellipse(...this.toPixels(x, y), Math.max(2, a * scale), Math.max(2, b * scale), 0, 0, 2 * Math.PI);
    context.stroke();
  }

  ring(context, row, radius, lineWidth, colour) {
    const { u } = this.points;
    context.lineWidth = lineWidth;
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(...this.toPixels(u[2 * row], u[2 * row + 1]), radius, 0, 2 * Math.PI);
    context.stroke();
  }

  drawCursor(context, ink, around) {
    const [px, py] = this.toPixels(...this.cursor);
    for (const [colour, lineWidth] of [[around, 5], [ink, 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = lineWidth;
      context.beginPath();
      if (this.flat) {
        context.moveTo(px, 0);
        context.lineTo(px, this.width);
      } else {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(px + 4 * dx, py + 4 * dy);
          context.lineTo(px + 13 * dx, py + 13 * dy);
        }
      }
      context.stroke();
    }
  }
}

/** Return [class, rows] for a tenth of each class, ten times. */
function inParts(labels) {
  const parts = new Map();
  const seen = new Map();
  labels.forEach((label, row) => {
    const place = seen.get(label) ?? 0;
    seen.set(label, place + 1);
    const key = 256 * (place % ROUNDS) + label;
    if (!parts.has(key)) parts.set(key, [label, []]);
    parts.get(key)[1].push(row);
  });
  return [...parts].sort(([a], [b]) => a - b).map(([, part]) => part);
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** Return a number with a proper minus sign. */
export function fixed(value, digits) {
  return value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
}
