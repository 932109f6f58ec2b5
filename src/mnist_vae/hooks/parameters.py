"""Hooks: what must hold before any node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl

from mnist_vae.params import ParameterError, check_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


_OF_THE_CATALOG = ("source", "streaming")
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
        loader = context.config_loader
        parameters = loader["parameters"]
        given = loader.runtime_params or {}
        try:
            check_parameters(parameters)
            for name in _OF_THE_CATALOG:
                _check_place(name, parameters, given)
            check_parameters({**parameters, **_of_the_catalog(loader["globals"], given)})
        except ParameterError as error:
            raise click.ClickException(str(error)) from error


def _check_place(name: str, parameters: dict[str, Any], given: dict[str, Any]) -> None:
    if name in parameters and name not in given:
        raise ParameterError(
            f"Parameter `{name}` is in a parameter file, where the catalog does not see it: "
            "expected it in conf/*/globals.yml or in --params, received "
            f"{parameters[name]!r}; move it there."
        )


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
