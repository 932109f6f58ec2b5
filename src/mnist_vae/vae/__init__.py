"""The variational autoencoder: networks, losses, training model. Keras only, no Kedro, no files.

Importing this package imports Keras and TensorFlow, which takes many seconds: do so inside node
bodies.
"""

import os
import re
import tempfile

# Lines of TensorFlow's own log, of level info, warning or error, and what it says before it logs.
_CHATTER = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl|To enable the following")


def _import_keras_quietly() -> None:
    """Import Keras without TensorFlow's start-up chatter.

    The first lines come from C++ before any log level is read, so the file descriptor itself
    is turned away while the library loads. What others wrote there meanwhile is passed on, and
    all of it when the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        failed = True
        try:
            import keras  # noqa: F401

            failed = False
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            chatter.seek(0)
            for line in chatter:
                if failed or not _CHATTER.match(line):
                    os.write(2, line)


_import_keras_quietly()
