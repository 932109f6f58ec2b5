"""Datasets that kedro-datasets does not have: IDX files, image tables, Keras models, streams."""
