"""Settings of the Kedro project."""

from mnist_vae.config import ProjectConfigLoader
from mnist_vae.hooks.preflight import Preflight
from mnist_vae.hooks.result import Result
from mnist_vae.hooks.tracking import tracking

HOOKS = (Preflight(), tracking, Result())

# Its own file `.telemetry` says no, which a packaged project does not have.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry",)

CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*"]},
    # An environment, or --params, overrides single keys instead of a whole group.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
