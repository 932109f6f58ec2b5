"""Settings of the Kedro project."""

from mnist_vae.hooks.job import RetrainingJob
from mnist_vae.hooks.parameters import ParameterCheck
from mnist_vae.hooks.tracking import Tracking

HOOKS = (ParameterCheck(), Tracking(), RetrainingJob())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment, or --params, overrides single keys instead of a whole group.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
