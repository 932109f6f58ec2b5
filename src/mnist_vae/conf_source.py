"""What `--conf-source` names: a folder of configuration, or an archive by `kedro package`."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path, PurePosixPath
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.project import LOGGING, settings
from kedro.utils import find_kedro_project

_ARCHIVES = {"application/x-tar": "tar", "application/zip": "zip"}


def project_folder() -> Path:
    """Return the folder in which relative paths of the data begin, as Kedro chooses it."""
    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


def located(conf_source: str | None) -> str:
    """Return where the configuration is: what was given, or the project's own folder."""
    return conf_source or str(project_folder() / settings.CONF_SOURCE)


def environments(conf_source: str) -> list[str] | None:
    """Return the names of the environments there are, or None where they are not on this machine.

    Raises:
        OSError: There is neither a folder nor a file.
        Exception: The archive cannot be read; of the type that its library chose.
    """
    import fsspec

    if "://" in conf_source:
        return None
    kind, _ = mimetypes.guess_type(conf_source)
    if kind not in _ARCHIVES:
        return sorted(path.name for path in Path(conf_source).iterdir() if path.is_dir())
    archive = fsspec.filesystem(_ARCHIVES[kind], fo=conf_source)
    root = archive.ls("", detail=False)[-1]  # as Kedro chooses it
    return sorted(
        PurePosixPath(entry["name"]).name
        for entry in archive.ls(root, detail=True)
        if entry["type"] == "directory"
    )


def check_environment(conf_source: str, env: str | None) -> str | None:
    """Return the environment to use; where none was asked for, `local` need not be there.

    Raises:
        UsageError: The environment is not there, or no configuration is.
    """
    try:
        known = environments(conf_source)
    except Exception as error:  # an archive may be broken in many ways
        raise click.UsageError(
            f"There is no configuration at {conf_source}: expected a folder, or an archive that "
            f"`kedro package` made, received neither ({type(error).__name__}); name it with "
            "--conf-source.",
            click.get_current_context(silent=True),
        ) from error
    if known is None:
        return env
    if env is None:
        if settings.CONFIG_LOADER_ARGS["default_run_env"] not in known:
            return str(settings.CONFIG_LOADER_ARGS["base_env"])
    elif env.split("/")[0] not in known:
        raise click.BadParameter(
            f"there is no environment `{env}`: expected one of {', '.join(known)}, received "
            f"{env}; name a folder of {conf_source}.",
            click.get_current_context(silent=True),
            param_hint="'--env'",
        )
    return env


def use_logging(conf_source: str) -> None:
    """Log as `logging.yml` in there says, if there is one and the shell names no other.

    Kedro reads `conf/logging.yml` of the current folder alone, where a packaged project has none.
    """
    if os.environ.get("KEDRO_LOGGING_CONFIG"):
        return
    loader = OmegaConfigLoader(conf_source, config_patterns={"logging": ["logging.yml"]})
    if config := loader["logging"]:
        LOGGING.configure(config)


def data_folder(conf_source: str, env: str | None, params: dict[str, Any] | None = None) -> Path:
    """Return the folder of a run's data; `data` where nobody can read its name.

    Args:
        conf_source: Where the configuration is.
        env: Its environment.
        params: What was given for this run alone.
    """
    arguments: dict[str, Any] = {**settings.CONFIG_LOADER_ARGS, "runtime_params": params}
    try:
        loader = settings.CONFIG_LOADER_CLASS(conf_source=conf_source, env=env, **arguments)
        return project_folder() / str(loader["globals"]["data"])
    except Exception:
        return project_folder() / "data"
