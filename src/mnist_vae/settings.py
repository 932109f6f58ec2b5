"""Settings of the Kedro project."""

from mnist_vae.config import ProjectConfigLoader
from mnist_vae.hooks.model_in_use import ModelInUse
from mnist_vae.hooks.preflight import Preflight
from mnist_vae.hooks.result import Result
from mnist_vae.hooks.run_lock import RunLock
from mnist_vae.hooks.tracking import Tracking
from mnist_vae.hooks.training_backup import TrainingBackups

tracking = Tracking()
"""The commands of jobs end it when their locks are free."""

HOOKS = (
    Result(),
    TrainingBackups(),
    tracking,
    Preflight(),
    ModelInUse(),
    RunLock(),
)

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
