"""A power failure at any moment leaves the old state or the new one, and the next run goes on."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.files import JSONDataset, RecordDataset, TextDataset
from mnist_vae.data.tables import ImagesDataset, ImageSet
from mnist_vae.jobs import releases
from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset
from mnist_vae.jobs.batches import AcceptedBatchesDataset, withdraw
from mnist_vae.jobs.release_files import declined, read_release, rolled_back
from mnist_vae.vae.anomalies import Calibration
from tests.jobs.test_batch_embeddings import NEW, OLD, embed, found
from tests.power_failure import reason_not_to_trace, record, states

SPLITS = ("train", "validation", "test")

NOT_TRACED = reason_not_to_trace()

pytestmark = pytest.mark.skipif(NOT_TRACED is not None, reason=str(NOT_TRACED))


@pytest.fixture
def power_failures(tmp_path, monkeypatch, record_property):
    """Return a function that records a run, tries the next one in every state, and counts.

    It returns the number of states, and how those that end badly came to be.
    """

    def tried(run, prepared, next_run):
        initial, where = tmp_path / "initial", tmp_path / "states"
        shutil.copytree(prepared, initial, symlinks=True)
        where.mkdir()
        calls = record(run, str(prepared), trace=tmp_path / "trace")
        # The power fails once: what is done after it need not wait for the disk.
        monkeypatch.setattr(os, "fsync", lambda _: None)
        count, bad = 0, []
        for state in states(calls, prepared, initial, where):
            count += 1
            try:
                next_run(state.folder, state.ended)
            except Exception as error:
                bad.append(f"{state.how}: {type(error).__name__}: {error}")
        record_property("states", count)
        record_property("states that end badly", len(bad))
        return count, bad

    return tried


def save_candidate(folder, version):
    for name in ("metrics", "training_summary"):
        path = folder / "candidate" / f"{name}.json"
        JSONDataset(filepath=str(path)).save({"of": version})
    TextDataset(filepath=str(folder / "candidate/report.html")).save(version * 1000)
    (folder / "candidate/plain.txt").write_text(version)  # nobody waited for the disk


def images_of(version, split):
    """Images that are other ones for every model."""
    random = np.random.default_rng([*version.encode(), *split.encode()])
    pixels = random.integers(0, 256, (30, 784), dtype=np.uint8)
    return ImageSet(pixels, np.arange(30), np.full(30, split), np.arange(30, dtype=np.uint8) % 10)


def calibration_of(version):
    return Calibration(
        model_version=version,
        reconstruction="binary_crossentropy",
        score="relative_excess",
        false_positive_rate=0.05,
        threshold=float(len(version)),
        n_validation=30,
        entropy_cap=70.0,
        latent_means=((0.0, 1.0),),
        latent_precision=((1.0, 0.0), (0.0, 1.0)),
    )


def images_at(folder, split):
    path = f"{folder}/{split}_images.parquet"
    return ImagesDataset(filepath=path)


def calibration_at(folder):
    path = f"{folder}/anomaly_calibration.json"
    return RecordDataset(record="mnist_vae.vae.anomalies.Calibration", filepath=path)


def save_images_and_calibration(folder, version):
    for split in SPLITS:
        images_at(folder, split).save(images_of(version, split))
    calibration_at(folder).save(calibration_of(version))


def train_again(folder, version="new"):
    """Save what a candidate is made of, over what an earlier run has left."""
    save_images_and_calibration(Path(folder) / "candidate", version)


def promote_with_images(folder, version="new"):
    train_again(folder, version)
    promote(folder, version)


def belongs_together(folder, version):
    """Check that a release has the images and the calibration of its own model."""
    for split in SPLITS:
        assert images_at(folder, split).load().digest() == images_of(version, split).digest()
    assert calibration_at(folder).load() == calibration_of(version)


def promote(folder, version="new", keep=2):
    folder = Path(folder)
    save_candidate(folder, version)
    champion = releases.champion(folder)
    candidate = releases.Candidate(version, f"print-{version}")
    releases.promote(folder, candidate, champion and champion.name, keep)


def decline(folder, version="new"):
    folder = Path(folder)
    save_candidate(folder, version)
    facts = {"gate": "rules", "drifted": []}
    releases.decline(folder, releases.Candidate(version, f"print-{version}", facts), keep=2)


def roll_back(folder):
    releases.roll_back(Path(folder))


def go_to_the_third(folder):
    releases.roll_back(Path(folder), "000003-third")


def go_to_the_second(folder):
    releases.roll_back(Path(folder), "000002-second")


def out_of_service(folder):
    return set(rolled_back(folder))


def repair(folder):
    assert releases.repair(Path(folder)) is not None


def goes_on(folder, *expected, damaged=None):
    """Check who is in service, and that a next run repairs nothing and promotes another."""
    release = releases.champion(folder)
    name = release and release.load("metrics.json")["of"]
    assert name in expected
    if release is not None:
        release.check()
    assert releases.repair(folder) is None
    for where in ("releases", "declined"):
        for path in (folder / where).glob("[0-9]*"):
            if path.name != damaged:
                read_release(path).check()  # half of one must not look like one
    promote(folder, "next")
    release = releases.champion(folder)
    assert release.load("metrics.json") == {"of": "next"}
    release.check()
    return name


@pytest.fixture
def three(tmp_path):
    folder = tmp_path / "releases of a project"
    folder.mkdir()
    for version in ("first", "second", "third"):
        promote(folder, version, keep=3)
    return folder


def test_of_a_promotion_the_old_or_the_new_release_is_in_service(three, power_failures):
    seen = set()

    def next_run(folder, ended):
        seen.add(goes_on(folder, *(["new"] if ended else ["third", "new"])))

    count, bad = power_failures(promote, three, next_run)
    assert bad == []
    assert count > 60
    assert seen == {"third", "new"}


@pytest.mark.slow
def test_of_a_promotion_the_images_and_the_threshold_are_those_of_the_model_in_service(
    tmp_path, power_failures
):
    seen = set()

    def next_run(folder, ended):
        version = releases.champion(folder).manifest["model_version"]
        belongs_together(folder / "champion", version)
        seen.add(goes_on(folder, *(["new"] if ended else ["old", "new"])))

    folder = tmp_path / "releases of a project"
    folder.mkdir()
    promote_with_images(folder, "old")
    count, bad = power_failures(promote_with_images, folder, next_run)
    assert bad == []
    assert count > 50
    assert seen == {"old", "new"}


@pytest.mark.slow
def test_of_a_candidate_that_nobody_waited_for_nothing_is_left_after_the_next_run(
    tmp_path, power_failures
):
    """An earlier run was killed after its candidate was saved, before it was decided about."""

    def next_run(folder, ended):
        promote_with_images(folder, "next")
        belongs_together(folder / "champion", "next")
        assert not [path for path in (folder / "champion").iterdir() if path.name.startswith(".")]

    folder = tmp_path / "releases of a project"
    folder.mkdir()
    train_again(folder, "old")
    count, bad = power_failures(train_again, folder, next_run)
    assert bad == []
    assert count > 30


def test_of_a_first_promotion_none_or_the_new_release_is_in_service(tmp_path, power_failures):
    def next_run(folder, ended):
        goes_on(folder, *(["new"] if ended else [None, "new"]))

    (tmp_path / "models").mkdir()
    count, bad = power_failures(promote, tmp_path / "models", next_run)
    assert bad == []
    assert count > 20


def test_of_a_rollback_the_old_or_the_new_release_is_in_service(three, power_failures):
    def next_run(folder, ended):
        champion = releases.champion(folder).name
        # What was taken out of service is marked as such: no run promotes it again.
        assert champion == "000003-third" or out_of_service(folder) == {"000003-third"}
        goes_on(folder, *(["second"] if ended else ["third", "second"]))

    count, bad = power_failures(roll_back, three, next_run)
    assert bad == []
    assert count >= 5  # few, as little is written


def test_of_an_undone_rollback_the_old_or_the_new_release_is_in_service(three, power_failures):
    seen = set()

    def next_run(folder, ended):
        champion = releases.champion(folder).name
        # What is in service again is not held to be out of it, nor is what it came after.
        assert out_of_service(folder) <= ({"000003-third"} if champion != "000003-third" else set())
        seen.add(goes_on(folder, *(["third"] if ended else ["second", "third"])))

    roll_back(three)
    count, bad = power_failures(go_to_the_third, three, next_run)
    assert bad == []
    assert count >= 5  # few, as little is written
    assert seen == {"second", "third"}


def test_of_a_return_to_what_was_rolled_back_before_a_promotion_one_of_both_is_in_service(
    tmp_path, power_failures
):
    seen = []

    def next_run(folder, ended):
        champion = releases.champion(folder).name
        seen.append((champion, out_of_service(folder)))
        goes_on(folder, *(["second"] if ended else ["third", "second"]))

    folder = tmp_path / "releases of a project"
    folder.mkdir()
    promote(folder, "first", keep=3)
    promote(folder, "second", keep=3)
    roll_back(folder)
    promote(folder, "third", keep=3)
    count, bad = power_failures(go_to_the_second, folder, next_run)
    assert bad == []
    assert count >= 5  # few, as little is written
    third = {"000003-third"}
    assert {champion for champion, _ in seen} == {"000003-third", "000002-second"}
    assert all(noted == third for champion, noted in seen if champion == "000002-second")
    assert all(noted for _, noted in seen)


def test_of_a_decline_the_release_in_service_stays(three, power_failures):
    def next_run(folder, ended):
        fingerprints = {entry.fingerprint for entry in declined(folder)}
        assert "print-earlier" in fingerprints
        assert "print-new" in fingerprints or not ended
        goes_on(folder, "third")

    decline(three, "earlier")
    count, bad = power_failures(decline, three, next_run)
    assert bad == []
    assert count > 40


def test_of_a_repair_a_whole_release_is_in_service_in_the_end(three, power_failures):
    def next_run(folder, ended):
        assert releases.repair(folder) is None or not ended
        goes_on(folder, "second", damaged="000003-third")

    (three / "releases/000003-third/metrics.json").write_text("{}")
    count, bad = power_failures(repair, three, next_run)
    assert bad == []
    assert count > 3


def batches():
    labels = np.arange(20, dtype=np.uint8) % 10
    rows = np.random.default_rng(7).integers(0, 256, (2, 20, 784), dtype=np.uint8)
    return {
        name: ImageSet(pixels, np.arange(20), np.full(20, name), labels)
        for name, pixels in zip(("monday", "tuesday"), rows, strict=True)
    }


def accepted(folder):
    return AcceptedBatchesDataset(path=f"{folder}/02_intermediate/batches")


def take_in(folder):
    accepted(folder).save(batches())


def take_in_without_waiting_for_the_disk(folder):
    os.fsync = lambda _: None
    take_in(folder)


def takes_in_again(folder, ended):
    """Check that every batch that is there is whole, and take in both again."""
    loaded = {name: load() for name, load in accepted(folder).load().items()}
    assert len(loaded) == 2 or not ended
    for name, images in loaded.items():
        for column in ("pixels", "image_id", "split", "label"):
            expected = getattr(batches()[name], column)
            np.testing.assert_array_equal(getattr(images, column), expected)
    take_in(folder)
    digests = {name: load().digest() for name, load in accepted(folder).load().items()}
    assert digests == {name: images.digest() for name, images in batches().items()}


def test_of_an_intake_every_batch_that_is_there_is_whole(tmp_path, power_failures):
    (tmp_path / "data").mkdir()
    count, bad = power_failures(take_in, tmp_path / "data", takes_in_again)
    assert bad == []
    assert count > 20


def withdraw_monday(folder):
    withdraw(Path(folder) / "02_intermediate", ["monday"])


def test_of_a_withdrawal_a_batch_is_in_use_or_withdrawn(tmp_path, power_failures):
    def next_run(folder, ended):
        places = [path.parent.name for path in folder.glob("02_intermediate/*/monday.parquet")]
        assert places == ["withdrawn_batches"] or (places == ["batches"] and not ended)
        withdraw_monday(folder)
        assert list(accepted(folder).load()) == ["tuesday"]

    (tmp_path / "data").mkdir()
    take_in(tmp_path / "data")
    count, bad = power_failures(withdraw_monday, tmp_path / "data", next_run)
    assert bad == []
    assert count >= 3


def score_anew(folder):
    """Embed both batches by another model, and keep no other."""
    embeddings = BatchEmbeddingsDataset(path=f"{folder}/embeddings")
    done = embeddings.load().done(NEW)
    embed(embeddings, NEW, *({"monday", "tuesday"} - set(done)), keep=1)


def scores_again(folder, ended):
    """Check that a reader finds both batches of one model, and run again."""
    embeddings = folder / "embeddings"
    models = found(embeddings)
    old, new = ({batch: {name} for batch in ("monday", "tuesday")} for name in ("old", "new"))
    assert models == new or (models == old and not ended)
    for path in embeddings.glob("*/*.parquet"):
        pd.read_parquet(path)  # half of one must not look like one
    score_anew(folder)
    assert found(embeddings) == new
    assert {path.name for path in embeddings.glob("0*")} == {NEW}


def test_of_a_scoring_a_reader_finds_all_of_the_old_model_or_of_the_new(tmp_path, power_failures):
    embeddings = BatchEmbeddingsDataset(path=str(tmp_path / "data/embeddings"))
    embed(embeddings, OLD, "monday", "tuesday")
    seen = []

    def next_run(folder, ended):
        seen.append(found(folder / "embeddings")["monday"].pop())
        scores_again(folder, ended)

    count, bad = power_failures(score_anew, tmp_path / "data", next_run)
    assert bad == []
    assert count > 20
    assert set(seen) == {"old", "new"}


def test_this_trial_finds_what_did_not_wait_for_the_disk(tmp_path, power_failures):
    (tmp_path / "data").mkdir()
    run = take_in_without_waiting_for_the_disk
    _, bad = power_failures(run, tmp_path / "data", takes_in_again)
    assert any("Parquet file size is 0 bytes" in how for how in bad)
