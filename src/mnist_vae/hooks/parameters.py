"""Hooks: what must hold before any node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl

from mnist_vae.params import ParameterError, Parameters, check_parameters

if TYPE_CHECKING:
    from kedro.config import AbstractConfigLoader
    from kedro.framework.context import KedroContext


_OF_THE_CATALOG = ("source", "streaming")
_HOMES = {
    **dict.fromkeys(_OF_THE_CATALOG, "conf/*/globals.yml or in --params"),
    "data_folder": "--params, or as `data` in conf/*/globals.yml",
}
_OPEN = [("folder", None)]


class ParameterCheck:
    """Refuse a run whose parameters hold an unknown key or a value out of range.

    Kedro checks the groups that the nodes of the requested pipeline ask for; this checks all of
    them, and the names of the groups.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check the parameters as they are after environment and `--params`.

        Raises:
            click.ClickException: A parameter is wrong; the command line prints the sentence
                alone, without a traceback.
        """
        try:
            check_configuration(context.config_loader)
        except ParameterError as error:
            raise click.ClickException(str(error)) from error


def check_configuration(loader: AbstractConfigLoader) -> Parameters:
    """Return the parameters of a run, as they are after environment and `--params`.

    Raises:
        ParameterError: A parameter is wrong, or where the catalog does not see it.
    """
    parameters = loader["parameters"]
    given = loader.runtime_params or {}
    typed = check_parameters(parameters)
    for name, home in _HOMES.items():
        if name in parameters and name not in given:
            raise ParameterError(
                f"Parameter `{name}` is in a parameter file, where the catalog does not see it: "
                f"expected it in {home}, received {parameters[name]!r}; move it there."
            )
    check_parameters({**parameters, **_of_the_catalog(loader["globals"], given)})
    return typed


def _of_the_catalog(globals_: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return what the catalog reads, without the order of sources that an environment has."""
    found = {}
    for name in _OF_THE_CATALOG:
        named = globals_.get(name) or {}
        if isinstance(named, dict):  # another thing is refused
            # A key without a value waits for whoever wants to fill it in.
            named = {k: v for k, v in named.items() if (k, v) not in _OPEN and k != "order"}
            named |= given.get(name, {})
        found[name] = named
    return found
