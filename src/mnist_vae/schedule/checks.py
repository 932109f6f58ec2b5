"""What schedulers refuse at night is refused here: calendars, and paths that no line can hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import click

_NO_LINE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NO_PROGRAM = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\"'\\]")

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# The fields of cron but the weekday, in their order: least and greatest value, and names.
_FIELDS: tuple[tuple[int, int, list[str]], ...] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, ["", *_MONTHS]),
)
_SHORT = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")  # that all of them know
_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/[1-9]\d?)?", re.ASCII)


def cron_calendar(context: click.Context, __: click.Parameter, calendar: str | None) -> str | None:
    """Return the calendar, if it is one that cron, Airflow and Kubernetes know.

    Raises:
        click.BadParameter: It is not.
    """
    if calendar is None or calendar in _SHORT:
        return calendar
    fields = [] if _NO_LINE.search(calendar) else calendar.split()
    # Sunday is 7 too, but not to Kubernetes.
    last = 6 if context.info_name == "kubernetes" else 7
    known = (*_FIELDS, (0, last, _DAYS))
    if len(fields) == len(known) and all(map(_is_field, fields, known)):
        return calendar
    raise click.BadParameter(
        "it is no calendar: expected minute, hour, day, month and weekday as cron has them, such "
        f"as `0 3 * * 0`, or one of {', '.join(_SHORT)}, received {calendar!r}; correct it."
    )


def _is_field(text: str, field: tuple[int, int, list[str]]) -> bool:
    least, greatest, names = field
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            return False
        ends = [_value(end, names) for end in match.groups() if end]
        if ends != sorted(ends) or not all(least <= end <= greatest for end in ends):
            return False
    return True


def _value(text: str, names: list[str]) -> int:
    """Return the number, or that of the name; one that no field has where it is neither."""
    if text.isdecimal():
        return int(text)
    return names.index(text.lower()) if text.lower() in names else -1


def systemd_calendar(_: click.Context, __: click.Parameter, calendar: str | None) -> str | None:
    """Return the calendar, if systemd knows it, or is not here to say so.

    Raises:
        click.BadParameter: It does not.
    """
    if calendar is None:
        return None
    analyze = shutil.which("systemd-analyze")
    wrong = bool(_NO_LINE.search(calendar)) or not calendar.strip()
    if wrong or (analyze and _run(analyze, "calendar", "--", calendar).returncode):
        raise click.BadParameter(
            "it is no calendar: expected one as systemd.time(7) has it, such as `Sun 03:00`, "
            f"received {calendar!r}; try yours with `systemd-analyze calendar`."
        )
    return calendar


def check_line(path: str) -> None:
    """Refuse a path that would end a line, or that is no text.

    Raises:
        click.ClickException: It is one.
    """
    _refuse(path, _NO_LINE, "no control character, such as a line break, and UTF-8")


def check_folder_of_unit(path: str) -> None:
    """Refuse a folder that systemd would take for another one.

    Raises:
        click.ClickException: It would.
    """
    check_line(path)
    ends = re.compile(r"[\\\s]\Z")
    _refuse(path, ends, "no white space and no backslash at its end, which systemd takes away")


def check_program_of_unit(path: str) -> None:
    """Refuse a program that systemd would not start.

    Raises:
        click.ClickException: It would not.
    """
    _refuse(
        path,
        _NO_PROGRAM,
        "no quote, backslash or control character, which systemd refuses in a program, and UTF-8",
    )


def _refuse(path: str, wrong: re.Pattern[str], expected: str) -> None:
    if wrong.search(path):
        raise click.ClickException(
            f"A path cannot be scheduled: expected {expected}, received {path!r}; move the "
            "project or its environment."
        )


def check_units(units: dict[str, str]) -> None:
    """Have systemd look at the units, where it is installed.

    Args:
        units: Their texts, by the names of their files.

    Raises:
        click.ClickException: It would not start them.
    """
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in units]
        for path, text in zip(paths, units.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        finished = _run(analyze, "--user", "verify", *map(str, paths), XDG_RUNTIME_DIR=folder)
    lines = (finished.stdout + finished.stderr).replace(f"{folder}/", "").splitlines()
    problems = [line for line in lines if line.startswith(tuple(units))]  # not of other units
    if finished.returncode and problems:
        raise click.ClickException(
            "systemd would not start the units: expected `systemd-analyze verify` to find nothing "
            f"wrong, received {'; '.join(problems)}; nothing was written."
        )


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the system's own program
        command,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
