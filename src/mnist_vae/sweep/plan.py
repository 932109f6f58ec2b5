"""From settings and seeds to the runs of a sweep, all of them checked before any is started."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.project import pipelines, settings
from kedro.framework.session import KedroSession

from mnist_vae.config import DATA_FOLDER
from mnist_vae.fingerprints import json_fingerprint, result_fingerprints
from mnist_vae.hooks.parameters import check_configuration
from mnist_vae.params import ParameterError, Parameters
from mnist_vae.retraining.job import JOB_PIPELINES
from mnist_vae.sweep.grid import nested
from mnist_vae.sweep.records import DEFAULT, RunOrder, Setting, SweepError
from mnist_vae.tracking.run import CONTEXT

SWEEPS = "sweeps"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_NEEDED = {"metrics", "training_summary"}
# What a run does beside training and measuring a model.
_NO_SAY = {"source", DATA_FOLDER, "retraining", "scoring", "monitoring"}
_LONGEST_SLUG = 60


@dataclass
class Planner:
    """What the runs of a sweep have in common; a project of Kedro must be configured.

    Attributes:
        project: Its folder.
        env: Kedro's environment; None for the usual one.
        name: Of the sweep, and of its folder in `sweeps` of the data.
        pipelines: Those of each run.
        common: Parameters of all runs, by their whole names; those of a setting go before.
        variables: Of the process of each run.
    """

    project: Path
    env: str | None = None
    name: str = "sweep"
    pipelines: tuple[str, ...] = ("training",)
    common: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    _images: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what is wrong with all runs alike.

        Raises:
            SweepError: The name is none, a pipeline is unknown, a job or trains nothing, or the
                data are not on a disk.
        """
        if not _NAME.fullmatch(self.name):
            raise SweepError(
                "The name of the sweep cannot be that of a folder: expected letters, digits, `_`, "
                f"`-` and `.`, received {self.name!r}; correct --name."
            )
        known = [name for name in self.pipelines if name in pipelines and name not in JOB_PIPELINES]
        outputs = set().union(*(pipelines[name].all_outputs() for name in known))
        if len(known) < len(self.pipelines) or not outputs >= _NEEDED:
            raise SweepError(
                "The runs of a sweep train a model and measure it: expected `training` or "
                "`__default__` among the pipelines, and no job, received "
                f"{','.join(self.pipelines)}; correct --pipelines."
            )
        if "://" in str(self._loader({})["globals"]["data"]):
            raise SweepError(
                "A sweep keeps its runs on a disk that all workers share: expected a folder as "
                f"`data` in globals.yml, received {self._loader({})['globals']['data']}; name one."
            )

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return self._data() / SWEEPS / self.name

    def default_seed(self) -> int:
        """Return the seed of the environment.

        Raises:
            ParameterError: A parameter is wrong.
        """
        return check_configuration(self._loader(nested(self.common))).seed

    def orders(self, of_settings: Sequence[Setting], seeds: Sequence[int]) -> list[RunOrder]:
        """Return the runs of these settings, each with each seed, once all of them are checked.

        The raw images are read, and so fetched, if a mirror has to fill their folder.

        Raises:
            ParameterError: A parameter is unknown, or out of range.
            click.ClickException: The raw images are not there.
            DatasetError: They are not what they should be.
        """
        checked = [
            (setting, seed, values, self.checked(values))
            for setting in of_settings
            for seed in seeds
            for values in [{**self.common, **setting.values, "seed": seed}]
        ]
        return [
            self._order(setting, seed, values, parameters)
            for setting, seed, values, parameters in checked
        ]

    def checked(self, values: dict[str, Any]) -> Parameters:
        """Return all parameters of a run to which these are given.

        Raises:
            ParameterError: One is unknown, or out of range.
        """
        try:
            params = nested(values)
        except (TypeError, AttributeError) as error:
            raise ParameterError(
                "A parameter is both a group and a value: expected one of them, received "
                f"{', '.join(values)}; correct --over, --variant or --params."
            ) from error
        return check_configuration(self._loader(params))

    def _order(
        self, setting: Setting, seed: int, values: dict[str, Any], parameters: Parameters
    ) -> RunOrder:
        given = {"params": values, "env": self.env, "pipelines": self.pipelines}
        folder = self.folder / "runs" / _folder_name(setting, seed, given)
        measured = parameters.model_dump(mode="json", exclude=_NO_SAY)
        identity = {
            "parameters": measured,
            "pipelines": self.pipelines,
            "images": self._images_of(values),
            **result_fingerprints(),
        }
        tags = {"sweep": self.name, "setting": setting.name}
        return RunOrder(
            setting=setting.name,
            seed=seed,
            project=self.project,
            folder=folder,
            raw=self._data() / "01_raw",
            env=self.env,
            pipelines=self.pipelines,
            params=nested({**values, DATA_FOLDER: str(folder / "data")}),
            fingerprint=json_fingerprint(identity),
            variables={**self.variables, CONTEXT: json.dumps(tags)},
        )

    def _images_of(self, values: dict[str, Any]) -> str:
        """Return a name of the raw images that these parameters lead to."""
        source = nested({key: value for key, value in values.items() if key.startswith("source.")})
        key = json_fingerprint(source)
        if key not in self._images:
            session: Any = KedroSession.create(
                self.project, env=self.env, runtime_params=source or None
            )
            with session:
                archive = session.load_context().catalog.load("raw_images")
            files = archive.manifest["files"].items()
            self._images[key] = json_fingerprint({name: file["sha256"] for name, file in files})
        return self._images[key]

    def _data(self) -> Path:
        return self.project / str(self._loader({})["globals"]["data"])

    def _loader(self, params: dict[str, Any]) -> AbstractConfigLoader:
        arguments: dict[str, Any] = {**settings.CONFIG_LOADER_ARGS, "runtime_params": params}
        conf = str(self.project / settings.CONF_SOURCE)
        loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
            conf_source=conf, env=self.env, **arguments
        )
        return loader


def _folder_name(setting: Setting, seed: int, given: dict[str, Any]) -> str:
    """Return a name that what is `given` to the run decides, and that says its setting.

    It has no `=`: Arrow would take the folder for a partition.
    """
    words = "-".join(f"{key.rpartition('.')[2]}_{value}" for key, value in setting.values.items())
    slug = re.sub(r"[^\w.-]+", "_", words)[:_LONGEST_SLUG].strip("_.-") or DEFAULT
    return f"{slug}-{json_fingerprint(given)[:8]}-seed_{seed}"
