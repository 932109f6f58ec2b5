"""How far new images are from those that the model in service knows, as that model sees both."""

from __future__ import annotations

from functools import cache
from typing import Any

from numpy.typing import NDArray

from mnist_vae.data.images import ImageSet
from mnist_vae.jobs.records import Drift
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams
from mnist_vae.vae.encoding import score


class DriftMeter:
    """Measure drift with the model in service, whose files are read once, when the first is due.

    A batch has drifted when the distribution of a figure, −ELBO or a dimension of z's mean, is at
    least `drift_effect` away from that of the champion's validation images: the two-sample
    Kolmogorov-Smirnov distance, the largest difference of their distribution functions. That is
    an effect, which does not grow with the number of images. The p-value, the smallest of the
    tests times their number (Bonferroni), must be below `drift_p_value` too: a few images are far
    from anything by chance.

    The validation images are of the training data, but the model was not fitted to them:
    compared with its training images all new ones would look worse. The q of new images is refined
    as theirs was (`embedding.refine_steps` of the champion's run).
    """

    def __init__(self, champion: Release, params: RetrainingParams, seed: int) -> None:
        self._champion = champion
        self._params = params
        self._seed = seed
        self._load = cache(champion.load)

    def measure(self, images: ImageSet) -> Drift:
        """Return the drift of images."""
        from scipy.stats import ks_2samp

        new = self._figures(images)
        embeddings = self._load("latent_embeddings.parquet")
        known = embeddings[embeddings["split"] == "validation"]
        tests = {
            name: ks_2samp(
                values,
                known["reconstruction"] + known["kl"] if name == "negative_elbo" else known[name],
            )
            for name, values in new.items()
        }
        effect = max(float(test.statistic) for test in tests.values())
        p_value = min(1.0, len(tests) * min(float(test.pvalue) for test in tests.values()))
        return Drift(
            drifted=effect >= self._params.drift_effect and p_value < self._params.drift_p_value,
            effect=effect,
            p_value=p_value,
            distances={name: round(float(test.statistic), 4) for name, test in tests.items()},
            negative_elbo=float(new["negative_elbo"].mean()),
        )

    def _figures(self, images: ImageSet) -> dict[str, NDArray[Any]]:
        """Return −ELBO (nats) and every dimension of z's mean, `[n]` each."""
        scores = score(
            self._load("encoder.keras"),
            self._load("decoder.keras"),
            images.model_inputs(),
            reconstruction=self._load("training_summary.json")["reconstruction"],
            draws=1,
            seed=self._seed,
            refine_steps=self._champion.refine_steps,
        )
        columns = {f"z_mean_{dim:02d}": values for dim, values in enumerate(scores.z_mean.T)}
        return {"negative_elbo": scores.negative_elbo, **columns}
