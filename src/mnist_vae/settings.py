"""Settings of the Kedro project."""

from mnist_vae.hooks.inputs import InputCheck
from mnist_vae.hooks.job import RetrainingJob
from mnist_vae.hooks.model_in_use import ModelInUse
from mnist_vae.hooks.parameters import ParameterCheck
from mnist_vae.hooks.tracking import Tracking

HOOKS = (ParameterCheck(), Tracking(), InputCheck(), ModelInUse(), RetrainingJob())

# `Tracking` calls them, and only where there is something to track.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment, or --params, overrides single keys instead of a whole group.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
