// Terms of -ELBO and scores of anomalies, in nats, as `vae/losses.py` and `vae/anomalies.py` have them.

import { normal } from "./latent.js";

const DRAWS = 32;
const SOFTENING = 5; // nats, as in `vae/anomalies.py`

/** Return -log p(x | z) by the logits from `offset` on. */
export function reconstructionTerm(kind, pixels, logits, offset = 0) {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 1) {
    const logit = logits[offset + i];
    sum += kind === "mse"
      ? (pixels[i] - 1 / (1 + Math.exp(-logit))) ** 2
      : Math.max(logit, 0) + Math.log1p(Math.exp(-Math.abs(logit))) - pixels[i] * logit;
  }
  return sum;
}

/** Return KL(N(mean, exp(logVar)) || N(0, I)). */
export function divergence(mean, logVar) {
  return mean.reduce((sum, m, j) => sum - 0.5 * (1 + logVar[j] - m * m - Math.exp(logVar[j])), 0);
}

/** Return the entropy of grey pixels: the least cross-entropy that any decoder can reach. */
export function entropy(pixels) {
  const term = (p) => (p > 0 ? -p * Math.log(p) : 0);
  return pixels.reduce((sum, x) => sum + term(x) + term(1 - x), 0);
}

/** Return -ELBO of an image under q = N(mean, exp(logVar)), the mean of 32 draws of z. */
export async function negativeElbo(decoder, kind, pixels, { mean, logVar }) {
  const gauss = normal(42); // the same draws each time, so that a score does not flicker
  const d = mean.length;
  const z = Float32Array.from({ length: DRAWS * d }, (_, i) =>
    mean[i % d] + Math.exp(0.5 * logVar[i % d]) * gauss());
  const logits = await decoder.decode(z, "logits");
  let sum = 0;
  for (let k = 0; k < DRAWS; k += 1) sum += reconstructionTerm(kind, pixels, logits, k * pixels.length);
  return sum / DRAWS + divergence(mean, logVar);
}

/** Return the score that the calibration decides by. */
export function anomalyScore(calibration, pixels, mean, elbo) {
  const h = entropy(pixels);
  const excess = elbo - (calibration.reconstruction === "binary_crossentropy" ? h : 0);
  switch (calibration.score) {
    case "negative_elbo": return elbo;
    case "excess": return excess;
    case "relative_excess": return excess / (Math.min(h, calibration.entropy_cap) + SOFTENING);
    default: return mahalanobis(calibration, mean);
  }
}

function mahalanobis({ latent_means: means, latent_precision: precision }, z) {
  const squares = means.map((mean) => {
    const around = mean.map((value, j) => z[j] - value);
    return around.reduce((sum, value, i) =>
      sum + value * precision[i].reduce((inner, p, j) => inner + p * around[j], 0), 0);
  });
  return Math.sqrt(Math.max(0, Math.min(...squares)));
}

/** What each score is, for people. */
export const SCORE_NAMES = {
  negative_elbo: "−ELBO",
  excess: "excess: −ELBO above the least that any decoder could reach",
  relative_excess: "relative excess: −ELBO above the least that any decoder could reach, as a share of that least (plus 5 nats)",
  mahalanobis: "Mahalanobis distance of z to the nearest class",
};
