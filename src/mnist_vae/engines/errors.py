"""What an engine says when it cannot do its work."""

from kedro.io.core import DatasetError


class EngineError(DatasetError):
    """An engine is missing, cannot be reached, or ended before all images were encoded.

    It is raised while the embeddings are saved, as they are encoded only then; Kedro passes on
    errors of datasets as they are.
    """
