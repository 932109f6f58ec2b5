"""Settings of the Kedro project."""

from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from mnist_vae.config import DATA_FOLDER, project_folder
from mnist_vae.hooks.preflight import Preflight
from mnist_vae.hooks.result import Result
from mnist_vae.hooks.tracking import tracking
from mnist_vae.jobs.release_files import path_in_service


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with the parameter `data_folder` and the resolver `${champion:FOLDER}`.

    That is the folder of the release in service among those in FOLDER. It is cached, so that all
    entries of a catalog name one release.
    """

    def __init__(self, conf_source: str, *arguments: Any, **options: Any) -> None:
        def champion(models: str) -> str:
            return str(path_in_service(project_folder(conf_source) / models))

        OmegaConf.register_new_resolver("champion", champion, use_cache=True, replace=True)
        super().__init__(conf_source, *arguments, **options)
        folder = (self.runtime_params or {}).get(DATA_FOLDER)
        if folder is not None:
            self["globals"] = {**self["globals"], "data": folder}


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
