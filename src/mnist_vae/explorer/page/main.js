// The explorer: one z, which everything on the page shows or moves.

import { nameOf, useClasses } from "./classes.js";
import { Drawn } from "./drawn.js";
import { amount, chip, element, facts } from "./elements.js";
import { Axes, Points, UNLABELLED, normal } from "./latent.js";
import { Made } from "./made.js";
import { Decoder, Encoder } from "./networks.js";
import { Pad, fixed } from "./pad.js";
import { Thumbnails, paint, size, useShape } from "./pictures.js";
import { Posterior, drawCloseUp } from "./posterior.js";
import { Real } from "./real.js";
import { Sliders } from "./sliders.js";
import { Walk } from "./walk.js";

const NEIGHBOURS = 15;
const KEPT_LATENCIES = 5000;
const MOST_PIXELS = 8192; // of an image whose posterior is computed: 215 MB for the grid
const TELL = 120; // milliseconds between two sentences about z, and two addresses of it

class Explorer {
  constructor(model, points, axes) {
    Object.assign(this, { model, points, axes, latencies: [], listeners: [] });
    this.thumbnails = new Thumbnails(model.sheets);
    this.u = new Float32Array(axes.count);
    this.z = axes.toZ(this.u);
    this.pad = new Pad(element("pad"), {
      points,
      bound: axes.bound,
      flat: axes.count === 1,
      actions: {
        move: (x, y, since) => this.moveInPlane(x, y, since),
        pick: (row) => this.real.show(row),
        hover: (row, x, y) => this.hover(row, x, y),
      },
    });
  }

  moveInPlane(x, y, since) {
    const within = (value) => Math.min(this.axes.bound, Math.max(-this.axes.bound, value));
    const u = Float32Array.from(this.u);
    u[0] = within(x);
    if (u.length > 1) u[1] = within(y);
    this.moveTo(this.axes.toZ(u), since);
  }

  /** Show the image of a dot next to it, at (x, y) of the pad in pixels; -1 shows none. */
  async hover(row, x, y) {
    if (row === this.hovered) return;
    this.hovered = row;
    const tip = element("hovered");
    tip.hidden = true;
    if (row < 0) return;
    const pixels = await this.thumbnails.pixels(row);
    if (row !== this.hovered) return;
    paint(tip.querySelector("canvas"), pixels);
    tip.querySelector("figcaption").textContent = nameOf(this.points.label[row]);
    tip.style.left = `${x < this.pad.width / 2 ? x + 12 : x - 108}px`;
    tip.style.top = `${Math.max(4, Math.min(this.pad.width - 124, y - 42))}px`;
    tip.hidden = false;
  }

  /** Go to z; `since` is when the user asked for it. */
  moveTo(z, since = performance.now()) {
    this.z = Float32Array.from(z);
    this.u = this.axes.toU(this.z);
    this.show(since);
    this.pad.setCursor(this.u[0], this.u[1] ?? 0);
    for (const listener of this.listeners) listener();
    this.tell();
  }

  /** Decode the newest z; what it overtakes is never decoded. */
  async show(since) {
    this.wanted = since;
    if (this.showing) return;
    this.showing = true;
    while (this.wanted !== null) {
      const [z, asked] = [this.z, this.wanted];
      this.wanted = null;
      this.picture = await this.decoder.decode(z);
      this.pictureOf = z;
      paint(element("decoded"), this.picture);
      this.latencies.push(performance.now() - asked);
      if (this.latencies.length > KEPT_LATENCIES) this.latencies.shift();
    }
    this.showing = false;
  }

  tell() {
    const digits = 2;
    const shown = [...this.u].slice(0, 3).map((value) => fixed(value, digits)).join(", ");
    const more = this.u.length > 3 ? ", …" : "";
    element("readout").textContent = `${this.axes.principal ? "Axes" : "z"} = (${shown}${more})`;
    this.telling ??= setTimeout(() => {
      this.telling = null;
      element("around").textContent = this.classAround(this.z);
      history.replaceState(null, "", `#z=${[...this.z].map((value) => value.toFixed(4)).join(",")}`);
    }, TELL);
  }

  /** Say of which class most of the images near z are. */
  classAround(z) {
    const counts = new Map();
    for (const row of this.points.nearest(z, NEIGHBOURS)) {
      const label = this.points.label[row];
      counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    const [label, count] = [...counts].sort(([, a], [, b]) => b - a)[0];
    if (label === UNLABELLED) return "";
    return `Of the ${NEIGHBOURS} nearest images, ${count} are of class ${nameOf(label)}.`;
  }

  /** Show the posterior of an image whose place by the encoder is known, in two dimensions. */
  explain(pixels, code, elbo) {
    const plane = this.axes.toU(code.mean, Math.min(2, this.axes.count));
    const deviation = (j) => 2 * Math.exp(0.5 * code.logVar[j]);
    const inPlane = !this.axes.principal && this.axes.count === 2;
    this.pad.mark({
      ellipse: inPlane ? { x: plane[0], y: plane[1], a: deviation(0), b: deviation(1) } : null,
      heat: null,
    });
    if (!this.posterior) return;
    this.posterior.subject = { pixels, elbo };
    if (!element("show-posterior").checked) return;
    element("posterior-state").textContent = "Summing over the plane …";
    this.posterior.ask(pixels);
  }

  forget() {
    this.posterior?.cancel();
    this.pad.mark({ ellipse: null, heat: null, path: null });
    if (!this.posterior) return;
    this.posterior.subject = null;
    drawCloseUp(element("close-up"), null);
    element("posterior-facts").replaceChildren();
    element("posterior-state").textContent = "";
  }
}

/** Return the z that the address of the page names, or null. */
function placeInAddress(latentDim) {
  const numbers = /^#z=(.+)$/.exec(location.hash)?.[1].split(",").map(Number) ?? [];
  return numbers.length === latentDim && numbers.every(Number.isFinite) ? numbers : null;
}

function makePosterior(explorer) {
  const { model, pad, axes } = explorer;
  const posterior = new Posterior({
    kind: model.reconstruction,
    bound: axes.bound,
    answered: ({ heat, logEvidence }) => {
      pad.mark({ heat });
      drawCloseUp(element("close-up"), heat, pad.marks.ellipse);
      explorer.logEvidence = logEvidence;
      element("posterior-state").textContent = "";
      const { elbo } = posterior.subject ?? {};
      element("posterior-facts").replaceChildren(...facts([
        ["−log p(x), summed over the plane", amount(model, -logEvidence, 2)],
        ["−ELBO, by the encoder", amount(model, elbo, 2)],
        ["What the encoder loses", amount(model, elbo + logEvidence, 2)],
      ]));
    },
    failed: (message) => { element("posterior-state").textContent = message; },
  });
  element("show-posterior").addEventListener("change", ({ target }) => {
    const subject = posterior.subject;
    if (!target.checked) {
      posterior.cancel();
      pad.mark({ heat: null });
    } else if (subject) posterior.ask(subject.pixels);
  });
  return posterior;
}

function fillLegend(explorer) {
  const labels = [...new Set(explorer.points.label)].sort((a, b) => a - b);
  element("legend").replaceChildren(...labels.map((label) => {
    const button = chip(label);
    button.setAttribute("aria-pressed", "true");
    button.setAttribute("aria-label", label === UNLABELLED ? "Without a label" : `Class ${nameOf(label)}`);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", `${shown}`);
      explorer.pad.show(label, shown);
    });
    return button;
  }));
}

function fillHeader(model) {
  const { statement, is_sample: isSample, model_version: version, release } = model;
  const { latent_dim: d, test_negative_elbo: elbo, points } = model;
  element("statement").textContent = statement;
  element("statement").classList.toggle("notice", isSample);
  const shown = points.count < points.total
    ? `${points.count.toLocaleString("en")} of ${points.total.toLocaleString("en")} images shown`
    : `${points.count.toLocaleString("en")} images`;
  element("facts").textContent = [
    `${d} latent dimension${d === 1 ? "" : "s"}`,
    ...(elbo === null ? [] : [`−ELBO ${amount(model, elbo, 2)} on test images`]),
    shown,
    release ? `release ${release}` : `model ${version}`,
  ].join(" · ");
}

function connect(explorer) {
  const { pad, axes } = explorer;
  const gauss = normal(2 ** 32 * Math.random());
  element("prior").addEventListener("click", () => explorer.moveTo(Float32Array.from({ length: explorer.z.length }, gauss)));
  element("home").addEventListener("click", () => explorer.moveTo(axes.toZ(new Float32Array(axes.count))));
  element("zoom-in").addEventListener("click", () => pad.zoom(1 / 1.6, ...pad.cursor));
  element("zoom-out").addEventListener("click", () => pad.zoom(1.6, ...pad.cursor));
  element("zoom-reset").addEventListener("click", () => pad.look(0, 0, axes.bound));
  element("plane-title").textContent = axes.principal
    ? `The two widest of ${axes.count} axes: ${(100 * (axes.shares[0] + axes.shares[1])).toFixed(0)} % of the variance`
    : axes.count === 1 ? "The latent line" : "The latent plane";
  fillLegend(explorer);
}

async function start() {
  element("loading").textContent = "Loading the model …";
  const answer = await fetch(new URL("./data/model.json", import.meta.url));
  if (!answer.ok) throw new Error(`model.json could not be read (${answer.status}).`);
  const model = await answer.json();
  useClasses(model);
  useShape(model.shape);
  fillHeader(model);
  const decoding = Decoder.open(model.latent_dim);
  const axes = new Axes(model.axes);
  const points = await Points.open(model.points, model.latent_dim, axes);
  const explorer = new Explorer(model, points, axes);
  explorer.decoder = await decoding;
  explorer.sliders = new Sliders(explorer);
  connect(explorer);
  explorer.moveTo(placeInAddress(model.latent_dim) ?? explorer.z);
  addEventListener("hashchange", () => explorer.moveTo(placeInAddress(model.latent_dim) ?? explorer.z));
  explorer.readyAfter = performance.now();
  explorer.encoder = await Encoder.open();
  const isPlane = model.latent_dim === 2 && size.pixels <= MOST_PIXELS;
  element("posterior").hidden = !isPlane;
  if (isPlane) explorer.posterior = makePosterior(explorer);
  explorer.real = new Real(explorer);
  explorer.drawn = new Drawn(explorer);
  explorer.made = new Made(explorer);
  explorer.walk = new Walk(explorer);
  await Promise.all([explorer.made.start(), explorer.walk.start()]);
  document.querySelector("main").setAttribute("aria-busy", "false");
  element("loading").hidden = true;
  return explorer;
}

/** For scripts: a promise of the explorer, with `z`, `picture`, `latencies`. */
window.latentExplorer = start();
window.latentExplorer.catch((error) => {
  element("loading").hidden = true;
  const failure = element("failure");
  failure.textContent = `The explorer did not start: ${error.message}`;
  failure.hidden = false;
});
