"""One run at a time in a data folder."""

from types import SimpleNamespace

import click
import pytest

from mnist_vae.hooks.run_lock import RunLock


@pytest.fixture
def make_hook(tmp_path):
    """A maker of hooks, each that of a process of its own."""
    hooks = []

    def make(data="data"):
        hook = RunLock()
        loader = {"globals": {"data": data}}
        hook.after_context_created(SimpleNamespace(config_loader=loader, project_path=tmp_path))
        hooks.append(hook)
        return hook

    yield make
    for hook in hooks:
        hook.after_pipeline_run()


def begin(hook, *pipelines):
    hook.before_pipeline_run(run_params={"pipeline_names": list(pipelines)})


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_second_run_is_refused_until_the_first_has_ended(make_hook, end):
    first, second = make_hook(), make_hook()
    begin(first)
    with pytest.raises(click.ClickException, match="another run is under way: process") as error:
        begin(second, "training")
    assert str(error.value).endswith("with `--params data_folder=PATH`.")
    getattr(first, end)()
    begin(second, "training")


def test_a_run_that_another_hook_refused_does_not_stand_in_its_own_way(make_hook):
    hook = make_hook()
    begin(hook)
    begin(hook)


def test_runs_in_two_folders_and_jobs_go_by(make_hook, tmp_path):
    begin(make_hook())
    begin(make_hook("data/test"))
    begin(make_hook(), "candidate")
    assert sorted(path.parent.name for path in tmp_path.rglob(".run.lock")) == ["data", "test"]


def test_a_folder_that_cannot_be_written_to_is_said(make_hook, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(click.ClickException, match=r"cannot be written to.*make it writable"):
        begin(make_hook())
