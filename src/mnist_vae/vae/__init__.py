"""The variational autoencoder: networks, losses, training. Keras only, no Kedro, no files.

`pixels` are float32 `[n, pixels]` in [0, 1]. A `posterior` is μ and log σ², `[n, latent_dim]` each.
A `decoder` maps z to pixels, `logits` map z to their log-odds (`networks.logits_model`), and
`reconstruction` is `binary_crossentropy` or `mse`. Figures are nats an image.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras is imported, which has a file of its own
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors alone
