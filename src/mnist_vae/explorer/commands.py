"""`kedro explore`: the latent explorer of the model in use, on this machine or as a static site."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.project import settings

from mnist_vae import config, failures

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

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
    from mnist_vae.explorer.runtime import runtime_folder
    from mnist_vae.explorer.site import HOST, build_site, check_target, make_server

    def build(target: Path) -> None:
        runtime = runtime_folder(archive)
        model, seed = _model_in_use(project.project_path, env)
        build_site(model, target, runtime, most_images, seed)

    if folder is not None:
        check_target(folder)
        build(folder)
        click.echo(f"Wrote {folder}")
        return
    with tempfile.TemporaryDirectory() as page, make_server(Path(page), port) as server:
        build(Path(page))
        address = f"http://{HOST}:{server.server_port}/"
        click.echo(f"The explorer is at {address} until you press Ctrl-C.")
        if not no_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    click.echo("The explorer has ended.")


def _model_in_use(project: Path, env: str | None) -> tuple[ExploredModel, int]:
    """Return what the catalog has of the model in use, and the seed."""
    from kedro.framework.session import KedroSession

    from mnist_vae.explorer.data import explored

    # Kedro would name every file that it reads.
    logging.getLogger("kedro.io.data_catalog").setLevel(logging.WARNING)
    session: Any = KedroSession.create(project, env=env)
    with session:
        context = session.load_context()
        return explored(context.catalog), int(context.params["seed"])
