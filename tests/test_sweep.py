"""`kedro sweep`: what it refuses, runs, leaves out, stops and says; its search and its table.

In place of `kedro run` a few lines of Python are run.
"""

import json
import os
import re
import signal
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from mnist_vae.sweep import BASE, FIGURES, LOSS, compared, space_of, to_text
from tests.projects import kedro_here

pytest.importorskip("optuna", reason="the extra `sweep` is needed")

PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time, yaml
options = yaml.safe_load(open(sys.argv[-1]))["run"]
params = options["params"]
with open("ran", "a") as file:
    file.write(json.dumps([params, sorted(os.sched_getaffinity(0)), os.getpid()]) + "\\n")
rate, seed = params.get("training", {{}}).get("learning_rate", 0.003), params["seed"]
exec(os.environ["ACT"])
terms = {{"negative_elbo": 140 + 1000 * rate + seed, "reconstruction": 133.0, "kl": 7.0}}
path = pathlib.Path(params["data_folder"]) / "08_reporting/metrics.json"
path.parent.mkdir()
path.write_text(json.dumps({{"splits": {{"validation": terms, "test": terms}}}}))
"""


@pytest.fixture
def sweep(project, tmp_path, monkeypatch):
    """A runner of `kedro sweep` in a project, which returns exit code and output."""
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def run(*arguments, act="pass"):
        monkeypatch.setenv("ACT", act)
        finished = kedro_here(project, "sweep", "--env=test", *arguments)
        return finished.exit_code, finished.output

    return run


def members_in(project):
    """Return parameters, cores and process of each member that ran."""
    path = project / "ran"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table_of(project):
    return pd.read_csv(project / "data/test/sweeps/sweep/table.csv", index_col="setting")


def line_of(text, setting):
    (line,) = [line for line in text.splitlines() if line.startswith(setting)]
    return line


RATES = "--over=training.learning_rate=0.003,0.01"
UNREADABLE = r"what to sweep over is not readable: expected .* received .*; correct --over\."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over=model.latent_dims=2,3"], "Parameter `model.latent_dims` is unknown"),
        (["--over=model.latent_dim=2,0"], "`model.latent_dim` is wrong: .*received 0"),
        (["--over=model.latent_dim=2..9"], "with --search NAME=LOW"),
        (["--env=tset"], "no environment `tset`: expected one of .*test"),
        (["--search=3", "--over=training.learning_rate=0.0..0.1"], "greater than 0"),
        (["--over=model.latent_dim"], UNREADABLE),
        (["--over=seed=1,2"], UNREADABLE),
    ],
)
def test_what_is_wrong_ends_in_one_sentence_and_starts_nothing(sweep, project, arguments, message):
    code, output = sweep(*arguments)
    assert code in (1, 2), output
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert re.search(message, line)
    assert members_in(project) == []


def test_without_its_extra_it_says_how_to_install_it(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)  # to import it raises
    code, output = sweep()
    assert code == 1
    assert "pip install -c constraints.txt -e '.[sweep]'" in output


def test_each_setting_is_run_with_each_seed_and_the_base_once_on_a_core_of_its_own(sweep, project):
    given = ("--seeds=1,2", "--params=training.epochs=3", "--jobs=2")
    code, output = sweep(RATES, *given, act="time.sleep(0.3)")
    assert code == 0, output
    ran, cores, _ = zip(*members_in(project), strict=True)
    settings = [{"epochs": 3}, {"epochs": 3, "learning_rate": 0.01}]
    expected = [(setting, seed) for setting in settings for seed in (1, 2)]
    found = [(params["training"], params["seed"]) for params in ran]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert len({params["data_folder"] for params in ran}) == 4
    assert {len(each) for each in cores} == {1}
    assert len(set(map(tuple, cores))) == min(2, len(os.sched_getaffinity(0)))
    table = table_of(project)
    assert table.index.tolist() == ["base", "training.learning_rate=0.01"]
    assert table["difference"].tolist()[1] == pytest.approx(7.0)
    assert len(pd.read_csv(project / "data/test/sweeps/sweep/members.csv")) == 4
    page = (project / "data/test/sweeps/sweep/plots.html").read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 3
    assert "<script src=" not in page, "it needs no network"


def test_the_same_command_again_runs_nothing_and_more_values_only_what_is_new(sweep, project):
    _, first = sweep(RATES, "--seeds=1,2")
    code, again = sweep(RATES, "--seeds=1,2")
    assert code == 0
    assert again.count("(an earlier run)") == 4
    assert again.split("Setting")[1] == first.split("Setting")[1]
    code, more = sweep("--over=training.learning_rate=0.02,0.01", "--seeds=1,2,3")
    assert code == 0
    assert len(members_in(project)) == 4 + 5
    assert more.count("(an earlier run)") == 4
    parameters = project / "conf/base/parameters_training.yml"
    parameters.write_text(parameters.read_text().replace("beta_2: 0.99", "beta_2: 0.98"))
    assert "(an earlier run)" not in sweep()[1], "the configuration is another"


def test_a_member_that_fails_says_so_and_the_others_go_on(sweep, project):
    act = (
        "if rate == 0.01 and seed == 1: print('words'); sys.exit('Error: The disk is full.\\n')\n"
        "if rate == 0.01 and seed == 2: os.kill(os.getpid(), 9)"
    )
    code, output = sweep(RATES, "--seeds=1,2,3", act=act)
    assert code == 1
    assert "training.learning_rate=0.01, seed 1: The disk is full." in output
    assert "training.learning_rate=0.01, seed 2: killed by signal 9" in output
    assert line_of(output, "training.learning_rate=0.01  ").endswith("2: The disk is full.")
    row = table_of(project).loc["training.learning_rate=0.01"]
    assert row[["seeds", "failed"]].tolist() == [1, 2]
    assert row["difference"] == pytest.approx(7.0), "the other seed is still compared"
    code, output = sweep(RATES, "--seeds=1,2,3")  # and is tried again
    assert (code, len(members_in(project))) == (0, 8)


def test_an_interrupted_sweep_stops_its_members_starts_none_and_resumes(sweep, project):
    def interrupt():
        while not members_in(project):
            time.sleep(0.01)
        # Not to the main thread, which the signal would wake: the system may choose any.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    started = time.monotonic()
    waits = "time.sleep(600)"
    code, output = sweep(RATES, "--seeds=1,2", "--jobs=1", act=waits)
    assert code == 130
    assert time.monotonic() - started < 60
    assert "run the same command to resume" in output
    ((_, _, process),) = members_in(project)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    code, output = sweep(RATES, "--seeds=1,2")
    assert (code, len(members_in(project))) == (0, 5)


def test_a_search_has_its_trials_and_the_base_and_more_of_them_later(sweep, project):
    over = "--over=training.learning_rate=1e-4..1e-2:log"
    assert sweep(over, "--search=2", "--jobs=2")[0] == 0
    code, output = sweep(over, "--search=3", "--jobs=2")
    assert code == 0, output
    assert output.count("(an earlier run)") == 3, "the same settings are chosen again"
    rates = [params.get("training", {}).get("learning_rate") for params, *_ in members_in(project)]
    assert len(set(rates)) == 4
    assert all(1e-4 <= rate <= 1e-2 for rate in rates if rate)
    table = table_of(project)
    assert table.index[0] == "base"
    assert table[LOSS].iloc[1:].is_monotonic_increasing


def test_values_are_as_yaml_has_them_and_ranges_are_optunas():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    texts = ["a=[512,256],[64]", "b=2..20", "c=0.9..0.999", "d=1e-4..1e-2:log"]
    assert space_of(texts, search=True) == {
        "a": CategoricalDistribution(["[512, 256]", "[64]"]),
        "b": IntDistribution(2, 20),
        "c": FloatDistribution(0.9, 0.999),
        "d": FloatDistribution(1e-4, 1e-2, log=True),
    }


def table_from(**losses):
    """Compare settings by their losses, or failures, of seeds 1, 2 and so on."""
    rows = []
    for setting, values in losses.items():
        for seed, loss in enumerate(values, 1):
            figures = {"failure": loss} if isinstance(loss, str) else dict.fromkeys(FIGURES, loss)
            rows.append({"setting": setting, "seed": seed, **figures})
    results = pd.DataFrame(rows)
    results["test_negative_elbo"] = results.index.astype(float)  # which decides nothing
    return compared(results)


def test_settings_are_compared_seed_by_seed_by_students_t_corrected_by_holm():
    from scipy.stats import ttest_1samp

    base = [140.0, 150.0, 145.0]
    settings = {
        "better": [138.0, 148.1, 142.9],
        "no": [141.0, 149.0, 145.5],
        "worse": [142.0, 152.2, 146.7],
    }
    table = table_from(base=base, **settings)
    assert table.index.tolist() == [BASE, "better", "no", "worse"]
    assert table.loc["better", "difference"] == pytest.approx(-2.0)
    assert table.loc["better", "difference_standard_error"] == pytest.approx(0.0577, abs=1e-4)
    p, q, r = (ttest_1samp(np.subtract(each, base), 0).pvalue for each in settings.values())
    assert p < r < q
    assert table["p_value"].tolist()[1:] == pytest.approx([3 * p, q, 2 * r])
    text = to_text(table)
    assert line_of(text, "better").startswith("better   3      143.00 ± 2.92     −2.00 ± 0.06 *")
    assert "*" not in line_of(text, "no ") + line_of(text, BASE)


def test_what_is_equal_in_every_seed_or_has_one_seed_or_none_has_no_star():
    text = to_text(
        table_from(base=[141.0, 142.0], same=[141.0, 142.0], other=[100.0], none=["No disk."])
    )
    assert "+0.00 ± 0.00" in line_of(text, "same")
    assert "−41.00 " in line_of(text, "other")
    assert line_of(text, "none").endswith("1: No disk.")
    assert "*" not in "".join(line_of(text, name) for name in ("same", "other", "none"))
