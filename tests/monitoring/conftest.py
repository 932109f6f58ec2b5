"""Data folders in the states that a job leaves them in."""

import json
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.incoming import images_of, put

STARTED = "2026-11-01T03:00:00+00:00"
ENDED = 1793502030.5


def record(outcome, **more):
    return {"outcome": outcome, "exit_code": 0, "run_id": "now", "started": STARTED,
            "reason": "so it is", "seconds": 30.5, "peak_memory_mb": 2, **more}  # fmt: skip


def read(path):
    """Return the figures in a file, by name and labels but for those that all have."""
    families = text_string_to_metric_families(path.read_text())
    return {
        (
            sample.name,
            *(
                value
                for label, value in sorted(sample.labels.items())
                if label not in ("project", "pipeline")
            ),
        ): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def data(tmp_path):
    """A data folder, with the means to fill it."""
    root = tmp_path / "data"

    def write(path, content):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def journal(job, *lines):
        write(f"08_reporting/{job}/journal.jsonl", "".join(json.dumps(x) + "\n" for x in lines))

    def champion(name="000007-abc", **manifest):
        release = f"06_models/releases/{name}"
        facts = {"model_version": "abc", "fingerprint": "f", "previous": None, "files": {"x": "y"}}
        candidate = {"negative_elbo": 139.5, "active_units": 2, "accuracy": 0.7}
        write(f"{release}/release.json", {**facts, "candidate": candidate, **manifest})
        write(f"{release}/metrics.json", {"splits": {"test": {"negative_elbo": 134.82}}})
        (root / "06_models/champion").symlink_to(f"releases/{name}")

    def batch(folder, name):
        return put(root / folder, name, images_of(2))

    return SimpleNamespace(root=root, write=write, journal=journal, champion=champion, batch=batch)
