"""What is asked for on the command line: values, ranges, and the settings that they make."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from mnist_vae.config import DATA_FOLDER
from mnist_vae.sweep.records import DEFAULT, Setting, SweepError

_NUMBER = r"[-+]?[\d.]+(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>:log)?", re.IGNORECASE)
_TAKEN = {
    "seed": "--seeds has the seeds of every setting",
    DATA_FOLDER: "each run of a sweep has its own",
}


@dataclass(frozen=True)
class Choices:
    """Values of one parameter.

    Attributes:
        key: Its whole name.
        values: At least one; none twice.
    """

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A range of one parameter, for a search.

    Attributes:
        key: Its whole name.
        low: The lowest value.
        high: The highest one; integers, if both are.
        log: Whether it is searched evenly on the scale of the logarithm.
    """

    key: str
    low: float
    high: float
    log: bool


Axis = Choices | Range


def axis_of(text: str) -> Axis:
    """Return what `KEY=VALUE,VALUE`, `KEY=LOW..HIGH` or `KEY=LOW..HIGH:log` says.

    Values are as YAML has them: `[512, 256]` is one value, and `null` is none.

    Raises:
        SweepError: It is none of these.
    """
    key, values = _key_and_rest(text)
    if found := _RANGE.fullmatch(values):
        return _range(text, key, found)
    parsed = _parsed(text, values)
    if len({json.dumps(value) for value in parsed}) < len(parsed):
        raise SweepError(
            f"A value is given twice: expected other ones in each setting, received {text}; "
            "leave one out."
        )
    return Choices(key, parsed)


def variant_of(text: str) -> dict[str, Any]:
    """Return the parameters of `KEY=VALUE,KEY=VALUE`.

    Raises:
        SweepError: It is something else.
    """
    values: dict[str, Any] = {}
    for part in re.split(r",(?=[A-Za-z_][\w.]*=)", text):
        key, value = _key_and_rest(part)
        parsed = _parsed(part, value)
        if len(parsed) != 1 or key in values:
            raise SweepError(
                "A variant has one value for each of its parameters: expected KEY=VALUE,KEY=VALUE, "
                f"received {text}; use --over for several values."
            )
        values[key] = parsed[0]
    return values


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds of `42,43,44`.

    Raises:
        SweepError: They are no whole numbers, or one is there twice.
    """
    seeds = [part.strip() for part in text.split(",")]
    if not all(seed.isdecimal() for seed in seeds) or len(set(map(int, seeds))) < len(seeds):
        raise SweepError(
            "The seeds are wrong: expected whole numbers, each once, such as 42,43,44, received "
            f"{text}; correct --seeds."
        )
    return tuple(int(seed) for seed in seeds)


def settings_of(axes: list[Axis], variants: list[dict[str, Any]]) -> list[Setting]:
    """Return all combinations of the values of `axes`; then the default and the variants, if any.

    Raises:
        SweepError: A range is no list of values, or an axis is there twice.
    """
    _each_once(axes)
    choices = []
    for axis in axes:
        if isinstance(axis, Range):
            raise SweepError(
                f"A range is for a search: expected values for {axis.key}, such as 1,2,3, received "
                f"{axis.low:g}..{axis.high:g}; list the values, or add --search N."
            )
        choices.append(axis)
    keys = [axis.key for axis in choices]
    grid: list[dict[str, Any]] = [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(axis.values for axis in choices))
    ]
    of_settings = (grid if axes else []) + ([{}, *variants] if variants or not axes else [])
    settings = named(of_settings)
    if len({setting.name for setting in settings}) < len(settings):
        raise SweepError(
            "A setting is there twice: expected other values in each, received "
            f"{'; '.join(setting.name for setting in settings)}; leave one out."
        )
    return settings


def search_space(axes: list[Axis]) -> list[Axis]:
    """Return the axes of a search.

    Raises:
        SweepError: There is none, or one is there twice.
    """
    if not axes:
        raise SweepError(
            "A search has nothing to search in: expected --over with ranges or values, received "
            "none; add for instance --over training.learning_rate=1e-4..1e-2:log."
        )
    _each_once(axes)
    return axes


def named(of_settings: list[dict[str, Any]]) -> list[Setting]:
    """Return the settings with names: keys without their group, where that is clear."""
    keys = {key for values in of_settings for key in values}
    short = {key: key.rpartition(".")[2] for key in keys}
    names = list(short.values())
    words = {key: key if names.count(last) > 1 else last for key, last in short.items()}
    return [
        Setting(
            ", ".join(f"{words[key]}={_as_text(value)}" for key, value in values.items())
            or DEFAULT,
            values,
        )
        for values in of_settings
    ]


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Return parameters by their whole names as Kedro has them, a group a dict."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *groups, last = key.split(".")
        group = result
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = value
    return result


def flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters by their whole names."""
    result: dict[str, Any] = {}
    for key, value in params.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        result |= inner
    return result


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key_and_rest(text: str) -> tuple[str, str]:
    key, equals, rest = text.partition("=")
    key = key.strip()
    if not equals or not rest.strip() or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise SweepError(
            "A parameter of the sweep is not readable: expected KEY=VALUE, such as "
            f"model.latent_dim=2,10, received {text}; correct --over or --variant."
        )
    if key in _TAKEN:
        raise SweepError(
            f"The parameter {key} is not one to sweep over: expected another one, received {text}; "
            f"{_TAKEN[key]}."
        )
    return key, rest.strip()


def _parsed(text: str, values: str) -> tuple[Any, ...]:
    try:
        parsed: Any = OmegaConf.to_container(OmegaConf.create(f"values: [{values}]"))
    except Exception as error:  # of the YAML parser's or OmegaConf's own types
        raise SweepError(
            f"The values of {text} are not readable: expected them as YAML has them, separated by "
            f"commas, received {values}; write for instance [512,256] for a list."
        ) from error
    return tuple(parsed["values"])


def _range(text: str, key: str, found: re.Match[str]) -> Range:
    ends = _parsed(text, f"{found['low']}, {found['high']}")
    numbers = [end for end in ends if type(end) in (int, float)]
    log = found["log"] is not None
    if len(numbers) != len(ends) or not numbers[0] < numbers[1] or (log and numbers[0] <= 0):
        raise SweepError(
            "A range is wrong: expected two numbers, the lower one first and above 0 with :log, "
            f"such as 1e-4..1e-2:log, received {text}; correct it."
        )
    return Range(key, numbers[0], numbers[1], log)


def _each_once(axes: list[Axis]) -> None:
    keys = [axis.key for axis in axes]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise SweepError(
            f"The parameter {twice} is there twice: expected one --over for each, received "
            f"{keys.count(twice)}; give all values in one."
        )
