"""The members of a sweep: each a `kedro run` in a process, a folder and on a core of its own."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import settings
from omegaconf import OmegaConf

from mnist_vae import failures
from mnist_vae.config import DATA_FOLDER, check_configuration, check_environment, loader_of
from mnist_vae.data.atomic import write_json
from mnist_vae.data.fingerprints import json_fingerprint, result_fingerprints
from mnist_vae.sweep.table import BASE, FIGURES, LOSS


class Sweep:
    """Runs members, `jobs` at a time and each once; a project of Kedro must be configured.

    Args:
        project: Its folder.
        name: Of the folder of the sweep, in `sweeps` of the data.
        env: Kedro's environment; None for the usual one.
        params: Parameters of all members, nested.
        jobs: How many members run at a time.
    """

    def __init__(self, project: Path, name: str, env: str | None, params: Any, jobs: int) -> None:
        self._project, self._params = project, params
        self._conf = str(project / settings.CONF_SOURCE)
        self._env = check_environment(self._conf, env)
        self._data = project / str(self._loader({})["globals"]["data"])
        self.folder = self._data / "sweeps" / name
        self.base = self.parameters({})
        self.identity = json_fingerprint([self.base, result_fingerprints()])
        self.futures: dict[Path, Future[dict[str, Any]]] = {}
        self._pool = ThreadPoolExecutor(jobs, initializer=_pin, initargs=(itertools.count(),))
        self._stop = threading.Event()

    def parameters(self, setting: dict[str, Any]) -> dict[str, Any]:
        """Return all parameters of a setting (texts as in `--params`), after they are checked.

        Raises:
            ParameterError: A parameter is unknown, or out of range.
        """
        return check_configuration(self._loader(self._given(setting))).model_dump(mode="json")

    def start(self, setting: dict[str, Any], seed: int) -> Future[dict[str, Any]]:
        """Return the result to come of a member: its setting, seed, folder, failure and figures.

        The name of its folder has a digest of all that affects the result, so that one of an
        earlier command is taken only where it would be the same.
        """
        base, own = OmegaConf.create(self.base), OmegaConf.create(self._given(setting))
        same = [key for key in setting if OmegaConf.select(own, key) == OmegaConf.select(base, key)]
        changed = {key: text for key, text in setting.items() if key not in same}
        name = ",".join(f"{key}={text}" for key, text in changed.items()) or BASE
        slug = re.sub(r"[^\w.-]+", "_", name)[:60]  # Arrow takes a folder with `=` for a partition
        digest = json_fingerprint([self.identity, changed])[:8]
        folder = self.folder / "members" / f"{slug}-{digest}-seed_{seed}"
        if folder not in self.futures:
            result = {"setting": name, "seed": seed, "folder": str(folder)}
            own = {**self._given(changed), "seed": seed, DATA_FOLDER: str(folder / "data")}
            self.futures[folder] = self._pool.submit(self._finish, folder, own, result)
        return self.futures[folder]

    def close(self) -> None:
        """Interrupt the members that are under way, as Ctrl-C does, and wait for their ends."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _finish(self, folder: Path, given: Any, result: dict[str, Any]) -> dict[str, Any]:
        path = folder / "result.json"
        if earlier := path.exists():
            result = json.loads(path.read_bytes())
        elif failure := self._run(folder, given):
            result["failure"] = failure
        else:
            splits = json.loads((folder / "data/08_reporting/metrics.json").read_bytes())["splits"]
            result |= {f"{split}_{term}": splits[split][term] for split, term in FIGURES}
            write_json(path, result)
        if not self._stop.is_set():
            words = result.get("failure") or f"validation −ELBO {result[LOSS]:.2f}"
            words += " (an earlier run)" if earlier else ""
            click.echo(f"{result['setting']}, seed {result['seed']}: {words}", err=True)
        return result

    def _run(self, folder: Path, given: Any) -> str | None:
        """Run a member to its end, and return what happened, if it failed."""
        data, log, config = folder / "data", folder / "run.log", folder / "run.yml"
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "01_raw").is_symlink():
            (data / "01_raw").symlink_to(self._data / "01_raw")
        options = {"env": self._env, "pipelines": "training", "params": given}
        OmegaConf.save(OmegaConf.create({"run": options}), config)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "kedro", "run", "--config", str(config)],
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the sweep passes Ctrl-C on
            )
        while process.poll() is None:
            if self._stop.wait(0.25):
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(15)  # until it has closed what it has open
                process.kill()
        if process.returncode < 0:
            return f"killed by signal {-process.returncode}"
        lines = ["it said nothing", *log.read_text(encoding="utf-8", errors="replace").splitlines()]
        said = next(line for line in reversed(lines) if line.strip()).removeprefix("Error: ")
        return failures.one_line(said) if process.returncode else None

    def _given(self, setting: dict[str, Any]) -> Any:
        changes = OmegaConf.from_dotlist([f"{name}={text}" for name, text in setting.items()])
        return OmegaConf.to_container(OmegaConf.merge(self._params, changes))

    def _loader(self, given: Any) -> Any:
        return loader_of(self._conf, self._env, given)


def _pin(threads: itertools.count[int]) -> None:
    """Keep this thread, and so the processes that it starts, on one core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[next(threads) % len(cores)]})
