"""Commands of this project, which Kedro finds here: `run` is its own, with an end of ours."""

from __future__ import annotations

import copy
import itertools
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.utils import get_close_matches

from mnist_vae import conf_source, failures
from mnist_vae.explorer.commands import explore
from mnist_vae.jobs.job import JOB_PIPELINES
from mnist_vae.jobs.names import with_environment
from mnist_vae.schedule.alerts import alerts
from mnist_vae.schedule.commands import schedule
from mnist_vae.sweep.commands import sweep

_SEQUENTIAL = "SequentialRunner"
_INTERRUPTED = 130  # what a shell has for a process that Ctrl-C ended


class RunCommand(click.Command):
    """A run that ends in one sentence on stderr, whatever it ends with.

    A wrong option, pipeline or environment has the exit code 2 of click's usage errors, Ctrl-C and
    SIGTERM have 130, anything else 1; `SystemExit` goes by. The traceback is in
    `08_reporting/errors.log` of the data, and with `--traceback` on the terminal.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the options; a file of options may be anything."""
        show = "--traceback" in args
        try:
            joined = _with_lists_joined(self.params, args)
            return super().make_context(info_name, joined, parent, **extra)
        except (click.UsageError, click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            raise click.ClickException(failures.one_line(error.message)) from error
        except Exception as error:
            _fail(error, conf=None, env=None, params=None, show=show)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the pipeline."""
        show = ctx.params.pop("traceback")
        conf, env = ctx.params["conf_source"], ctx.params["env"]
        if env is None:
            env = os.environ.get("KEDRO_ENV") or None  # as Kedro has it
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        try:
            with failures.said_once():
                ctx.params["env"] = conf_source.check_environment(conf_source.located(conf), env)
                if conf or conf_source.project_folder() != Path.cwd():
                    conf_source.use_logging(conf_source.located(conf))
                _check_pipelines(ctx)
                _check_runner(ctx)
                return super().invoke(ctx)
        except (click.UsageError, click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:  # Kedro's own would be shown on stdout
            words = with_environment(failures.one_line(error.message), env)
            raise click.ClickException(words) from error
        except KeyboardInterrupt:
            click.echo("Error: The run was interrupted; run the same command to go on.", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except Exception as error:
            _fail(error, conf=conf, env=env, params=ctx.params["params"], show=show)
        finally:
            signal.signal(signal.SIGTERM, before)


def _fail(
    error: Exception,
    *,
    conf: str | None,
    env: str | None,
    params: dict[str, Any] | None,
    show: bool,
) -> NoReturn:
    """End the run in the sentence of the error, with the traceback in the log or before it."""
    folder = conf_source.data_folder(conf_source.located(conf), env, params)
    path = folder / "08_reporting/errors.log"
    try:
        failures.write_traceback(error, path)
        where = f"The traceback is in {path}."
    except OSError as problem:
        where = f"The traceback is not in {path} ({problem}), and so above."
        show = True
    if show:
        click.echo(failures.as_text(error), err=True)
    click.echo(where, err=True)
    raise click.ClickException(with_environment(failures.sentence(error), env)) from error


def _check_pipelines(ctx: click.Context) -> None:
    """Refuse a pipeline that is not there, before anything is done for another one."""
    option = "--pipeline" if ctx.params["pipeline"] else "--pipelines"
    names = [ctx.params["pipeline"]] if ctx.params["pipeline"] else ctx.params["pipelines"]
    pipelines.set_requested(names or None)  # as the session does, which then has them at once
    unknown = [name for name in names if name not in pipelines]
    if not unknown:
        return
    pipelines.set_requested(None)
    known = sorted(pipelines)
    close = get_close_matches(unknown[0], known, max_suggestions=1)
    what_to_do = f"did you mean {close[0]}?" if close else "name one of these."
    raise click.BadParameter(
        f"there is no pipeline `{unknown[0]}`: expected some of {', '.join(known)}, received "
        f"{unknown[0]}; {what_to_do}",
        ctx,
        param_hint=f"'{option}'",
    )


def _check_runner(ctx: click.Context) -> None:
    """Refuse to run the nodes of a job at the same time: it ends between two of them."""
    names = {ctx.params["pipeline"], *ctx.params["pipelines"]}
    runner = ctx.params["runner"]
    concurrent = ctx.params["is_async"] or ctx.params["runner_params"].get("is_async")
    if not names & JOB_PIPELINES:
        return
    if concurrent or (runner or _SEQUENTIAL).rpartition(".")[2] != _SEQUENTIAL:
        raise click.UsageError(
            "A job runs its nodes one after the other: expected the sequential runner, received "
            f"{'--async' if concurrent else f'--runner {runner}'}; leave it out.",
            ctx,
        )


def _with_lists_joined(options: Sequence[click.Parameter], args: Sequence[str]) -> list[str]:
    """Return the arguments with each list given once: of several click keeps the last alone."""
    lists = {name: option for option in options if option.default == "" for name in option.opts}
    given: dict[str, list[str]] = {}
    others = []
    words = list(args)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name not in lists or (equals and not name.startswith("--")):
            others.append(word)
        elif equals or words:
            given.setdefault(lists[name].opts[0], []).append(value if equals else words.pop(0))
        else:
            others.append(word)  # for click to complain of
    joined = [(name, ",".join(filter(None, values))) for name, values in given.items()]
    return [*itertools.chain.from_iterable(joined), *others]


def _with_section_run(option: click.Parameter) -> click.Parameter:
    """Return the option, which finds the section `run` of a file whatever the program is called."""
    read = option.callback
    if option.name != "config" or read is None:
        return option

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        called, ctx.info_name = ctx.info_name, "run"
        try:
            return read(ctx, param, value)
        finally:
            ctx.info_name = called

    option = copy.copy(option)
    option.callback = callback
    return option


run = RunCommand(
    "run",
    callback=kedro_run.callback,
    params=[
        *map(_with_section_run, kedro_run.params),
        click.Option(
            ["--traceback"],
            is_flag=True,
            help="Where the run fails, print the traceback on the terminal too.",
        ),
    ],
    help=kedro_run.help,
)


@click.group(name="kedro")  # Kedro lists the commands of one name together, each once
def cli() -> None:
    """Commands of this project."""


cli.add_command(run)
schedule.add_command(alerts)
cli.add_command(schedule)
cli.add_command(explore)
cli.add_command(sweep)
