"""How the layers of `conf/` become one configuration."""

from __future__ import annotations

from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader

LOCAL = "local"
"""The layer that is a user's own."""


class LayeredConfigLoader(OmegaConfigLoader):
    """`OmegaConfigLoader` with `conf/local` between the base and every environment.

    Kedro reads the base and one environment, so that what a user says in `conf/local` would not
    hold in the environment that a scheduler names. Here it holds in every one, but for what that
    environment says itself. A `conf/local` that is not there, as in the archive that
    `kedro package` makes, is an empty one.
    """

    def _merge_configs(
        self, config: dict[str, Any], env_config: dict[str, Any], key: str, env_path: str
    ) -> Any:
        """Merge base and environment, and before that the base and what is a user's own."""
        own_path = self._get_conf_env_path(LOCAL)
        if own_path not in (env_path, self._get_conf_env_path(self.base_env)):
            try:
                own: dict[str, Any] = self.load_and_merge_dir_config(
                    own_path, self.config_patterns[key], key, set(), key == "credentials"
                )
            except MissingConfigException:  # no such folder
                own = {}
            config = super()._merge_configs(config, own, key, own_path)
        return super()._merge_configs(config, env_config, key, env_path)
