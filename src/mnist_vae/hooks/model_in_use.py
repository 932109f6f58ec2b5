"""The hook that has every consumer read one and the same model.

`model_in_use` in `globals.yml` says which: `last_trained`, the one of the last `kedro run`, which
the catalog has anyway; or `champion`, the release in service.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from mnist_vae.jobs.in_use import FILES, ReleaseFileDataset, ReleaseInUse
from mnist_vae.jobs.names import in_environment
from mnist_vae.jobs.release_files import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol

_CHOICES = ("last_trained", "champion")
# What a model was trained on: that of another training is not its own.
_OF_A_TRAINING = {"train_images", "validation_images"}


class ModelInUse:
    """Where `model_in_use` is `champion`, read what a release has from the release in service.

    In a run these are the free inputs of the pipelines that were named: what one of them makes is
    read as it was made, and nothing is written to a release. Outside a run, as in a notebook, these
    are all entries that a release has a file for.

    Nothing is read from the release where the run trains a model of its own. The retraining has
    entries of its own.
    """

    _champion = False
    _retraining = ""
    _entries: dict[str, Any]

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read the setting.

        Raises:
            click.ClickException: It is neither of the two.
        """
        choice = context.config_loader["globals"].get("model_in_use", "last_trained")
        if choice not in _CHOICES:
            raise click.ClickException(
                f"`model_in_use` must be {' or '.join(_CHOICES)}, received {choice!r}; correct "
                "conf/*/globals.yml."
            )
        self._champion = choice == "champion"
        self._retraining = "kedro retrain" + in_environment(context.env)

    @hook_impl
    def after_catalog_created(
        self,
        catalog: CatalogProtocol[Any, Any],
        conf_catalog: dict[str, Any],
        save_version: str | None,
    ) -> None:
        """Outside a run, put the entries of the release in the catalog; it is not read yet."""
        self._entries = {name: conf_catalog[name] for name in FILES if name in conf_catalog}
        if self._champion and save_version is None:  # Kedro gives a run's catalog one
            self._read_from_release(self._entries, catalog)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Put those entries in the run's catalog that its pipelines do not make.

        Raises:
            click.ClickException: There is no whole release in service, it is without a file that
                the run reads, or the run would make the images that it also reads.
        """
        if not self._champion:
            return
        names = run_params["pipeline_names"] or ["__default__"]
        named = sum((pipelines[name] for name in names), Pipeline([]))
        if "encoder" in named.all_outputs():
            return
        found = self._read_from_release(named.inputs() & set(self._entries), catalog)
        if not found:
            return
        try:
            for dataset in found:
                dataset.check()
        except ReleaseError as error:
            raise click.ClickException(str(error)) from error
        if strangers := sorted(_OF_A_TRAINING & named.all_inputs() & named.all_outputs()):
            raise click.ClickException(
                f"{', '.join(strangers)} would be those of another training: expected those that "
                f"the release in service has of its own, received the pipelines {', '.join(names)},"
                " which make others; name them without `data`."
            )

    def _read_from_release(
        self, names: Iterable[str], catalog: CatalogProtocol[Any, Any]
    ) -> list[ReleaseFileDataset]:
        """Have these entries read one release, and return them."""
        in_use = ReleaseInUse(catalog["champion"], self._retraining)
        found = {
            name: ReleaseFileDataset(name=name, config=self._entries[name], in_use=in_use)
            for name in sorted(names)
        }
        log = logging.getLogger("kedro.io.data_catalog")  # it warns of each entry replaced
        before, log.disabled = log.disabled, True
        try:
            for name, dataset in found.items():
                catalog[name] = dataset
        finally:
            log.disabled = before
        return list(found.values())
