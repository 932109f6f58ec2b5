// What the user draws: where it lands, its reconstruction, and how unusual it is.

import { Drawing, normalise } from "./drawing.js";
import { amount, element } from "./elements.js";
import { fixed } from "./pad.js";
import { paint, size } from "./pictures.js";
import { SCORE_NAMES, anomalyScore, negativeElbo } from "./scores.js";

const QUIET = 150; // milliseconds without a move before the posterior is asked for

export class Drawn {
  constructor(explorer) {
    this.explorer = explorer;
    const { calibration } = explorer.model;
    element("score-note").textContent = calibration
      ? `Score: ${SCORE_NAMES[calibration.score]}. Above the threshold are ${fixed(100 * calibration.false_positive_rate, 0)} % of the ${calibration.n_validation.toLocaleString("en")} validation images. −ELBO is the mean of 32 draws of z.`
      : "Score: −ELBO, the mean of 32 draws of z. This model has no threshold of anomalies: the pipeline “anomaly” makes one.";
    this.drawing = new Drawing(element("drawing"), (strokes) => this.changed(strokes));
    element("clear").addEventListener("click", () => this.drawing.clear());
    this.clear();
  }

  clear() {
    for (const id of ["seen", "redrawn"]) paint(element(id), new Float32Array(size.pixels));
    element("verdict").textContent = "Nothing is drawn yet.";
    element("verdict").className = "verdict";
    this.pixels = null;
  }

  /** Show the newest strokes; what they overtake is passed over. */
  async changed(strokes) {
    this.wanted = strokes;
    if (this.busy) return;
    this.busy = true;
    while (this.wanted) {
      const next = this.wanted;
      this.wanted = null;
      await this.show(normalise(next));
    }
    this.busy = false;
  }

  async show(pixels) {
    const { explorer } = this;
    clearTimeout(this.waiting);
    this.waiting = null;
    if (!pixels) {
      this.clear();
      explorer.forget();
      return;
    }
    const code = await explorer.encoder.encode(pixels);
    const decoded = await explorer.decoder.decode(code.mean);
    const elbo = await negativeElbo(explorer.decoder, explorer.model.reconstruction, pixels, code);
    paint(element("seen"), pixels);
    paint(element("redrawn"), decoded);
    Object.assign(this, { pixels, code, elbo });
    explorer.forget();
    explorer.pad.mark({ selected: -1, neighbours: [] });
    explorer.moveTo(code.mean);
    this.waiting = setTimeout(() => {
      this.waiting = null;
      this.judge();
      explorer.explain(pixels, code, elbo);
    }, QUIET);
  }

  judge() {
    const { pixels, code, elbo } = this;
    const { calibration } = this.explorer.model;
    const verdict = element("verdict");
    const lands = this.explorer.classAround(code.mean);
    if (!calibration) {
      verdict.textContent = `−ELBO ${amount(this.explorer.model, elbo, 1)}. ${lands}`;
      return;
    }
    this.score = anomalyScore(calibration, pixels, code.mean, elbo);
    const unusual = this.score > calibration.threshold;
    verdict.classList.toggle("unusual", unusual);
    verdict.textContent = `${unusual ? "Unusual" : "Not unusual"}: score ${fixed(this.score, 2)}, threshold ${fixed(calibration.threshold, 2)}. ${lands}`;
  }
}
