"""Where a run's configuration is, what it says, and what is wrong with its parameters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import click
from kedro.config import OmegaConfigLoader
from kedro.framework.project import LOGGING, settings
from kedro.utils import find_kedro_project
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from mnist_vae.params import Group, Parameters

DATA_FOLDER = "data_folder"
"""The parameter, given for one run, that takes the place of `data` in every `globals.yml`."""

_OF_THE_CATALOG = ("source", "streaming")
_OPEN = (("folder", None), ("pictures", None))


class ParameterError(click.ClickException):
    """A parameter is unknown, missing or out of range."""


def project_folder(conf_source: str = ".") -> Path:
    """Return the folder in which relative paths of the data begin, as Kedro chooses it."""
    here = Path.cwd()
    # Of a session that was made for another folder, the configuration is there.
    found = find_kedro_project(Path(conf_source).absolute()) or find_kedro_project(here)
    return Path(found or here)


def check_environment(conf_source: str, env: str | None) -> str | None:
    """Return the environment to use: that of KEDRO_ENV where none was asked for, or the usual."""
    if env is None:
        env = os.environ.get("KEDRO_ENV") or None  # as Kedro does
    known = sorted(path.name for path in Path(conf_source).glob("*") if path.is_dir())
    if env is None:  # `kedro package` leaves `local` out of its archive
        return None if settings.CONFIG_LOADER_ARGS["default_run_env"] in known else "base"
    if known and env.split("/")[0] not in known:  # of an archive or of none Kedro says it
        raise click.BadParameter(
            f"there is no environment `{env}`: expected one of {', '.join(known)}, received "
            f"{env}; name a folder of {conf_source}.",
            click.get_current_context(silent=True),
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
    places = {
        name: entry.get("filepath") or entry.get("path") for name, entry in conf_catalog.items()
    }
    return {name: Path(place) for name, place in places.items() if place}


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
        ParameterError: A parameter is wrong, or where the catalog does not see it.
    """
    parameters, given = loader["parameters"], loader.runtime_params or {}
    found = {}
    for name in _OF_THE_CATALOG:
        named, asked = loader["globals"].get(name) or {}, given.get(name) or {}
        if isinstance(named, dict) and isinstance(asked, dict):  # another thing is refused
            # An environment's order of sources may be overridden, and an open folder be filled in.
            own = {k: v for k, v in named.items() if k != "order" and (k, v) not in _OPEN}
            found[name] = own | asked
        else:
            found[name] = named if isinstance(asked, dict) else asked
    typed = check_parameters({**parameters, **found})
    for name in (*_OF_THE_CATALOG, DATA_FOLDER):
        if name in parameters and name not in given:
            home = "conf/*/globals.yml or in --params"
            if name == DATA_FOLDER:
                home = "--params, or as `data` in conf/*/globals.yml"
            raise ParameterError(
                f"Parameter `{name}` is in a parameter file, where the catalog does not see it: "
                f"expected it in {home}, received {parameters[name]!r}; move it there."
            )
    return typed


def check_parameters(raw: dict[str, Any]) -> Parameters:
    """Return `raw` as typed parameters.

    Raises:
        ParameterError: Naming each wrong key, what is allowed there, and what was received.
    """
    try:
        return Parameters.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ParameterError(f"{problems}; correct conf/*/parameters_*.yml or --params.") from error


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        group: Any = Parameters
        for part in problem["loc"][:-1]:
            group = _type_of(group.model_fields[part])
        allowed = ", ".join(group.model_fields)
        return f"Parameter `{key}` is unknown: allowed are {allowed}{_meant(key)}"
    if problem["type"] == "missing":
        return f"Parameter `{key}` is missing: expected it in one of the parameter files"
    if problem["type"] == "value_error":
        return f"Parameters `{key}` do not go together: {problem['ctx']['error']}"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Parameter `{key}` is wrong: {expected}, received {problem['input']!r}"


def _meant(key: str) -> str:
    keys = list(_keys(Parameters))
    names = {known.rpartition(".")[2]: known for known in reversed(keys)}
    near = get_close_matches(key.rpartition(".")[2], names, 1, 0.8)
    found = get_close_matches(key, keys, 1, 0.8) or [names[name] for name in near]
    return f" (did you mean `{found[0]}`?)" if found else ""


def _keys(group: type[Group], before: str = "") -> Iterator[str]:
    for name, field in group.model_fields.items():
        yield before + name
        inner = _type_of(field)
        if isinstance(inner, type) and issubclass(inner, Group):
            yield from _keys(inner, f"{before}{name}.")


def _type_of(field: FieldInfo) -> Any:
    return next(
        (part for part in get_args(field.annotation) if part is not NoneType), field.annotation
    )
