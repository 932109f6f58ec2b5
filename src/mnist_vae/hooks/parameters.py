"""Hooks: what must hold before any node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl

from mnist_vae.params import ParameterError, check_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


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
            if "source" in parameters and "source" not in given:
                raise ParameterError(
                    "Parameter `source` is in a parameter file, where the catalog does not see it: "
                    "expected it in conf/*/globals.yml or in --params, received "
                    f"{parameters['source']!r}; move it there."
                )
            check_parameters({**parameters, "source": _source(loader["globals"], given)})
        except ParameterError as error:
            raise click.ClickException(str(error)) from error


def _source(globals_: dict[str, Any], given: dict[str, Any]) -> Any:
    """Return the sources that somebody named, without the order that an environment has."""
    named = globals_.get("source") or {}
    if not isinstance(named, dict):
        return named  # which is refused
    # A key without a value waits for whoever wants to fill it in.
    named = {k: v for k, v in named.items() if k != "order" and (k, v) != ("folder", None)}
    return {**named, **given.get("source", {})}
