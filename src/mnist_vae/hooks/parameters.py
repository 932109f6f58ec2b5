"""Hooks: what must hold before any node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        try:
            check_parameters(parameters)
            if "source" in parameters and "source" not in (loader.runtime_params or {}):
                raise ParameterError(
                    "Parameter `source` is in a parameter file, where the catalog does not see it: "
                    "expected it in conf/*/globals.yml or in --params, received "
                    f"{parameters['source']!r}; move it there."
                )
        except ParameterError as error:
            raise click.ClickException(str(error)) from error
