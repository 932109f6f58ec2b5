"""The variational autoencoder: networks, losses, training. Keras only, no Kedro, no files.

In all modules `pixels` are grey values in [0, 1], float32 `[n, 784]`, and images of other sets are
likewise; a `posterior` is q(z | x) of each image: μ and log σ², `[n, latent_dim]`; a `decoder` maps
z to pixels, the sigmoid of its layer `logits`; `logits` or `decoder_logits` maps z to those
(`networks.logits_model`); `reconstruction` is `binary_crossentropy` or `mse`. Figures are nats an
image. The modules import TensorFlow, which takes many seconds: import them inside node bodies.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras is imported, which has a file of its own
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors alone
