"""The project's config loader: what a user says in `conf/local` holds in every environment."""

from __future__ import annotations

import copy
from itertools import chain
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig

LOCAL = "local"
DATA_FOLDER = "data_folder"
"""The parameter, given for one run, that takes the place of `data` in every `globals.yml`."""


class LayeredConfigLoader(OmegaConfigLoader):
    """`OmegaConfigLoader` of three layers: `base`, then `local`, then the environment.

    Kedro itself has two, so that `local` is left out where another environment is named, as every
    scheduler does. Here an environment overrides only what it says itself. Where there is no
    folder `local`, as in packaged configuration, there are two layers.

    `--params data_folder=PATH` has a run write all its data there: Kedro's resolver of such
    parameters is not for globals.

    Each kind is read once a run: many hooks ask for the same, and a file that is changed meanwhile
    is for the next run.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._read: dict[str, dict[str, Any]] = {}
        super().__init__(*arguments, **options)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the configuration of a kind, a copy for the caller to change.

        Args:
            key: Such as `parameters`, `catalog` or `globals`.

        Raises:
            KeyError: There is no such kind.
            MissingConfigException: No file holds any.
        """
        if key in self:  # set by code
            given: dict[str, Any] = super().__getitem__(key)
            return given
        if key not in self._read:
            self._read[key] = super().__getitem__(key)
        return copy.deepcopy(self._read[key])

    def _resolve_from_raw_config(
        self,
        key: str,
        base_configs: dict[Path, DictConfig],
        env_configs: dict[Path, DictConfig],
        base_path: str,
        env_path: str,
        processed_files: set[Path],
    ) -> dict[str, Any]:
        """Merge and resolve the files of `key`: the environment's over those of base and local."""
        resolve = super()._resolve_from_raw_config
        local_path = self._get_conf_env_path(LOCAL)
        local_configs: dict[Path, DictConfig] = {}
        if env_path not in (base_path, local_path):
            local_configs = self._read_local(key, local_path, processed_files)
        folder = (self.runtime_params or {}).get(DATA_FOLDER)
        if key == "globals" and folder is not None:
            for config in chain(*(c.values() for c in (base_configs, local_configs, env_configs))):
                if "data" in config:
                    config["data"] = folder
        if not local_configs:
            return resolve(key, base_configs, env_configs, base_path, env_path, processed_files)
        users = resolve(key, base_configs, local_configs, base_path, local_path, processed_files)
        own = resolve(key, {}, env_configs, base_path, env_path, processed_files)
        merged: dict[str, Any] = self._merge_configs(users, own, key, env_path)
        return merged

    def _read_local(
        self, key: str, local_path: str, processed_files: set[Path]
    ) -> dict[Path, DictConfig]:
        patterns, secret = self.config_patterns[key], key == "credentials"
        try:
            configs: dict[Path, DictConfig] = self._read_dir_configs(
                local_path, patterns, key, processed_files, secret
            )
        except MissingConfigException:  # there is no such folder
            return {}
        return configs
