"""`kedro explore`: the latent explorer of the model in use, on this machine or as a static site."""

from __future__ import annotations

import logging
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.project import settings

from mnist_vae import config, failures
from mnist_vae.explorer import server

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from kedro.framework.startup import ProjectMetadata
    from kedro.io import CatalogProtocol

    from mnist_vae.explorer.data import ExploredModel


@click.command(cls=failures.Command)
@click.option(
    "--env", envvar="KEDRO_ENV", help="Kedro's environment: `prod` for the release in service."
)
@click.option(
    "--build",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the page to this folder, for any static host, instead of opening it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Of this machine, 0 for any that is free.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option(
    "--images",
    "most_images",
    type=click.IntRange(min=1),
    default=70_000,
    show_default=True,
    help="Show as many images at most, drawn class by class.",
)
@click.option(
    "--onnxruntime-web",
    "archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="TGZ",
    help="The archive that `npm pack` has made, where there is no npm.",
)
@click.pass_obj
def explore(
    project: ProjectMetadata,
    env: str | None,
    folder: Path | None,
    port: int,
    no_browser: bool,
    most_images: int,
    archive: Path | None,
) -> None:
    """Explore the latent space of the model in use, in a browser."""
    env = config.check_environment(str(project.project_path / settings.CONF_SOURCE), env)
    # All commands of the project are imported to list one: what takes a moment waits.
    from mnist_vae.explorer.runtime import runtime_files, user_cache
    from mnist_vae.explorer.site import build_site, check_target

    def build(target: Path) -> None:
        runtime = runtime_files(user_cache(), archive)
        model, seed = _model_in_use(project.project_path, env)
        build_site(model, target, runtime, most_images, seed)

    if folder is not None:
        check_target(folder)
        build(folder)
        click.echo(f"Wrote {folder}")
        return
    try:
        with (
            tempfile.TemporaryDirectory() as page,
            _listening(Path(page), port) as listening,
        ):
            build(Path(page))
            address = f"http://{server.HOST}:{listening.server_port}/"
            click.echo(f"The explorer is at {address} until you press Ctrl-C.")
            if not no_browser:
                webbrowser.open(address)
            listening.serve_forever()
    except KeyboardInterrupt:
        click.echo("The explorer has ended.")


def _listening(page: Path, port: int) -> ThreadingHTTPServer:
    try:
        return server.make_server(page, port)
    except OSError as error:
        raise click.ClickException(
            f"The explorer cannot listen on port {port}: expected a free one, received "
            f"{error.strerror}; name another with --port, or 0 for any that is free."
        ) from error


def _model_in_use(project: Path, env: str | None) -> tuple[ExploredModel, int]:
    """Return what the catalog has of the model in use, and the seed."""
    from kedro.framework.session import KedroSession

    # Kedro would name every file that it reads.
    logging.getLogger("kedro.io.data_catalog").setLevel(logging.WARNING)
    session: Any = KedroSession.create(project, env=env)
    with session:
        context = session.load_context()
        return explored(context.catalog), int(context.params["seed"])


def explored(catalog: CatalogProtocol[Any, Any]) -> ExploredModel:
    """Return what the catalog has of the model in use.

    Raises:
        ValueError: Some of it is of another model.
        DatasetError: Some of it is missing.
    """
    import pandas as pd

    from mnist_vae.data.images import concatenate
    from mnist_vae.data.origin import check_images, check_models, check_versions, origin
    from mnist_vae.explorer.data import ExploredModel
    from mnist_vae.vae import export

    summary = catalog.load("training_summary")
    encoder, decoder = catalog.load("encoder"), catalog.load("decoder")
    check_models(summary, encoder, decoder)
    embeddings = catalog.load("latent_embeddings")
    check_versions(
        "The embeddings are of another model",
        embeddings["model_version"].unique(),
        summary,
        "run `kedro run --pipelines embedding` first",
    )
    train, validation, test = (
        catalog.load(f"{split}_images") for split in ("train", "validation", "test")
    )
    check_images(summary, train, validation)
    images = concatenate([train, validation, test])
    # A release has embeddings of the images that judged it too, and not these images.
    place = pd.Index(images.image_id).get_indexer(embeddings["image_id"])
    metrics, calibration = catalog.load("metrics"), catalog.load("scoring_calibration")
    version = summary["model_version"]
    has_metrics = metrics.get("model_version") == version
    has_threshold = calibration is not None and calibration.model_version == version
    return ExploredModel(
        encoder=export.to_onnx(export.inference_encoder(encoder), origin(summary)),
        decoder=export.to_onnx(decoder, origin(summary)),
        summary=summary,
        embeddings=embeddings[place >= 0],
        images=images.take(place[place >= 0]),
        test_negative_elbo=metrics["splits"]["test"]["negative_elbo"] if has_metrics else None,
        calibration=calibration if has_threshold else None,
    )
