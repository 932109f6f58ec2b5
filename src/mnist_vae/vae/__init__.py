"""The variational autoencoder: networks, losses, training model. Keras only, no Kedro, no files.

Its modules import Keras and TensorFlow, which takes many seconds: import them inside node bodies.
This one has set before what Keras computes on, and what TensorFlow logs.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever Keras' own file says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors alone
