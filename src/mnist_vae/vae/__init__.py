"""The variational autoencoder: networks, losses, training model. Keras only, no Kedro, no files.

Importing this package imports Keras and TensorFlow, which takes many seconds: do so inside node
bodies.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever Keras' own file says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors alone
