"""Where a run's configuration is, what it says, and what is wrong with its parameters."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.project import LOGGING, settings
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from pydantic import ValidationError

from mnist_vae.params import Parameters

DATA_FOLDER = "data_folder"
"""The parameter, given for one run, that takes the place of `data` in every `globals.yml`."""

_IN_GLOBALS = {"source": "source", "streaming": "streaming", DATA_FOLDER: "data"}


def project_folder(conf_source: str = ".") -> Path:
    """Return the folder in which relative paths of the data begin, as Kedro chooses it."""
    # Of a session that was made for another folder, the configuration is there.
    found = find_kedro_project(Path(conf_source).absolute()) or find_kedro_project(Path.cwd())
    return Path(found or Path.cwd())


def check_environment(conf_source: str, env: str | None) -> str | None:
    """Return the environment to use: that of KEDRO_ENV where none was asked for, or the usual."""
    if env is None:
        env = os.environ.get("KEDRO_ENV") or None
    known = sorted(path.name for path in Path(conf_source).glob("*") if path.is_dir())
    if env is None:  # `kedro package` leaves `local` out of its archive
        return None if settings.CONFIG_LOADER_ARGS["default_run_env"] in known else "base"
    if known and env not in known:  # of an archive or of none Kedro says it
        raise click.BadParameter(
            f"there is no environment `{env}`: expected one of {', '.join(known)}, received "
            f"{env}; name a folder of {conf_source}.",
            param_hint="'--env'",
        )
    return env


def enter(conf_source: str | None, env: str | None) -> str | None:
    """Return the environment of a command, and log as `logging.yml` of its configuration says.

    Raises:
        click.BadParameter: There is no such environment.
    """
    conf = _located(conf_source)
    env = check_environment(conf, env)
    elsewhere = conf_source or project_folder() != Path.cwd()
    if elsewhere and not os.environ.get("KEDRO_LOGGING_CONFIG"):
        loader = OmegaConfigLoader(conf, config_patterns={"logging": ["logging.yml"]})
        if config := loader["logging"]:
            LOGGING.configure(config)
    return env


def entry_paths(conf_catalog: dict[str, Any]) -> dict[str, Path]:
    """Return where the entries of a catalog are that have a place on disk, by their names."""
    return {
        name: Path(place)
        for name, entry in conf_catalog.items()
        if (place := entry.get("filepath") or entry.get("path"))
    }


def loader_of(conf_source: str, env: str | None, params: dict[str, Any] | None = None) -> Any:
    """Return the config loader that a run with these options has."""
    loader: Any = settings.CONFIG_LOADER_CLASS
    return loader(conf_source, env, params, **settings.CONFIG_LOADER_ARGS)


def data_folder(conf_source: str | None, env: str | None, params: Any = None) -> Path:
    """Return the folder of a run's data; `data` where its name cannot be read."""
    try:
        data = loader_of(_located(conf_source), env, params)["globals"]["data"]
    except Exception:
        data = "data"
    return project_folder() / str(data)


def _located(conf_source: str | None) -> str:
    return conf_source or str(project_folder() / settings.CONF_SOURCE)


def check_configuration(loader: Any) -> Parameters:
    """Return the parameters of a run, as they are after environment and `--params`.

    Raises:
        click.ClickException: A parameter is wrong, or where the catalog does not see it.
    """
    parameters, given = loader["parameters"], loader.runtime_params or {}
    for name, home in _IN_GLOBALS.items():
        if name in parameters and name not in given:
            raise click.ClickException(
                f"Parameter `{name}` is in a parameter file, where the catalog does not see it: "
                f"expected it as `{home}` in conf/*/globals.yml, or in --params, received "
                f"{parameters[name]!r}; move it there."
            )
    own = {name: loader["globals"].get(name) or {} for name in ("source", "streaming")}
    both = OmegaConf.merge(own, {name: given[name] for name in own.keys() & given.keys()})
    return check_parameters({**parameters, **OmegaConf.to_container(both)})  # type: ignore[dict-item]


def check_parameters(raw: dict[str, Any]) -> Parameters:
    """Return `raw` as typed parameters.

    Raises:
        click.ClickException: Naming each wrong key, what is allowed there, and what was received.
    """
    try:
        return Parameters.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise click.ClickException(
            f"{problems}; correct conf/*/parameters_*.yml or --params."
        ) from error


def _describe(problem: Any) -> str:
    *groups, name = map(str, problem["loc"])
    key = ".".join([*groups, name])
    if problem["type"] == "extra_forbidden":
        fields = {
            group: list(getattr(field.annotation, "model_fields", ()))
            for group, field in Parameters.model_fields.items()
        }
        allowed = fields[groups[0]] if groups else fields
        known = [*fields, *(f"{group}.{one}" for group in fields for one in fields[group])]
        found = get_close_matches(key, known, 1, 0.8)
        found += [one for one in known if one.endswith(f".{name}")]
        meant = f" (did you mean `{found[0]}`?)" if found else ""
        return f"Parameter `{key}` is unknown: allowed are {', '.join(allowed)}{meant}"
    if problem["type"] == "missing":
        return f"Parameter `{key}` is missing: expected it in one of the parameter files"
    if problem["type"] == "value_error":
        return f"Parameters `{key}` do not go together: {problem['ctx']['error']}"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Parameter `{key}` is wrong: {expected}, received {problem['input']!r}"
