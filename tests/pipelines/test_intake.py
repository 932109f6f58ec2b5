"""The intake: what is taken in, under which ids, and what is not."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, new_image_set
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.records import BatchRecord
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.pipelines.retraining.intake import check_batches, measure_drift
from tests.incoming import images_of
from tests.pipelines.conftest import Serving, embeddings_of


def batch_of(images, *labels, files=None):
    return Batch(new_image_set(images, *labels, files=files))


def stream(incoming, splits, in_use=None, champion=None, withdrawn=None, **params):
    """Return what the node yields."""
    folders = {
        name: BatchFolder("", lambda _, batch=batch: batch) for name, batch in incoming.items()
    }
    in_use, withdrawn = (
        {name: (lambda images=images: images) for name, images in (sets or {}).items()}
        for sets in (in_use, withdrawn)
    )
    how = SplitParams(validation_fraction=0.3), RetrainingParams(**params), 1
    return check_batches(folders, in_use, withdrawn, *splits, {}, champion, *how)


def check(*arguments, **params):
    """Run the node to its end; return the batches that it saved in all, and the last records."""
    accepted = {}
    for new, intake in stream(*arguments, **params):
        accepted |= new
        records = intake.batches
    return accepted, records


def names_of(accepted):
    return [key.rpartition(".")[0] for key in accepted]


def test_a_good_batch_is_accepted_and_its_images_are_parted(splits):
    labels = np.arange(40, dtype=np.uint8) % 10
    labels[7] = UNLABELLED
    accepted, records = check({"monday": batch_of(images_of(40), labels)}, splits)
    assert names_of(accepted) == ["monday"]
    (images,) = accepted.values()
    assert set(images.split) == {"train", "validation"}
    assert np.array_equal(images.label, labels)
    assert records == {"monday": BatchRecord(outcome="accepted", images=40)}


def test_an_image_has_the_same_id_and_split_in_whatever_batch_it_comes(splits):
    images = images_of(40)
    (first,) = check({"a": batch_of(images)}, splits)[0].values()
    (second,) = check({"b": batch_of(images[::-1].copy())}, splits)[0].values()
    assert np.array_equal(first.split, second.split[::-1])
    assert np.array_equal(first.image_id, second.image_id[::-1])
    assert len(set(first.image_id)) == 40
    assert np.array_equal(first.image_id.astype(float).astype(int), first.image_id)


def test_a_batch_is_read_when_those_before_it_were_passed_on(splits):
    not_read = None  # as a batch it would be an error
    accepted, _ = next(stream({"a": batch_of(images_of(4)), "b": not_read}, splits))
    assert names_of(accepted) == ["a"]


def test_a_batch_is_bad_for_all_that_is_wrong_with_it_and_the_others_are_used(splits):
    withdrawn = check({"old": batch_of(images_of(2, 9))}, splits)[0]
    _, validation, test = splits
    images, labels = images_of(20, 5), np.full(20, 3, np.uint8)
    images[2] = 9
    images[3] = images[4]
    images[5:7] = test.pictures[:2]
    images[7] = validation.pictures[0]
    images[8:10] = images_of(2, 9)
    labels[10:18] = 10
    bad = batch_of(images, labels, files=tuple(f"{number:02d}.png" for number in range(20)))
    incoming = {"bad": bad, "good": batch_of(images_of(4, 2), np.full(4, 9, np.uint8))}
    accepted, records = check(incoming, splits, withdrawn=withdrawn)
    assert names_of(accepted) == ["good"]
    assert records["bad"].outcome == "bad"
    none = "expected none, received"
    assert records["bad"].reasons == (
        f"1 of 20 images are constant: {none} 02.png",
        f"2 of 20 images are in the test split: {none} 05.png, 06.png",
        f"1 of 20 images are in use already: {none} 07.png",
        f"2 of 20 images are withdrawn from use: {none} 08.png, 09.png",
        f"8 of 20 images are labelled out of the range of the data in use, 0 to 9: {none} 10.png, "
        "11.png, 12.png, 13.png, 14.png and 3 more",
        "some images are there twice: expected 20 different ones, received 19",
    )


def test_where_no_image_has_a_label_any_is_accepted(splits):
    unlabelled = [replace(images, label=None) for images in splits]
    batch = batch_of(images_of(4), np.full(4, 200, np.uint8))
    assert check({"monday": batch}, unlabelled)[1]["monday"].outcome == "accepted"


def test_two_new_batches_with_the_same_image_are_not_both_accepted(splits):
    images = images_of(6)
    accepted, records = check({"a": batch_of(images), "b": batch_of(images[3:].copy())}, splits)
    assert names_of(accepted) == ["a"]
    assert "3 of 3 images are in use already" in records["b"].reasons[0]


@pytest.mark.parametrize(("where", "outcome"), [("in_use", "in use"), ("withdrawn", "withdrawn")])
def test_a_batch_that_a_killed_run_had_accepted_is_neither_bad_nor_new(splits, where, outcome):
    batch = {"one\ntwo\udcff": batch_of(images_of(6))}
    accepted, _ = check(batch, splits)
    again, records = check(batch, splits, **{where: accepted})
    assert (again, [*records.values()]) == ({}, [BatchRecord(outcome=outcome, images=6)])
    assert "".join((*accepted, *records)).isprintable()


def test_a_batch_without_images_is_recorded_as_what_it_is(splits):
    incoming = {"bad": Batch(problems=("a.png",)), "growing": Batch(unfinished=True)}
    bad = BatchRecord(outcome="bad", reasons=("a.png",))
    records = {"bad": bad, "growing": BatchRecord(outcome="unfinished")}
    assert check(incoming, splits) == ({}, records)


def test_a_batch_that_drifted_is_used_with_a_warning_unless_drift_blocks(splits, champion, caplog):
    incoming = {"my dark": batch_of(images_of(60, 5) // 8), "like": batch_of(images_of(60, 6))}
    caplog.set_level("WARNING")
    accepted, records = check(incoming, splits, champion=champion)
    assert {record.outcome for record in records.values()} == {"accepted"}
    (message,) = caplog.messages
    assert message.startswith("Batch my dark has drifted, and is used all the same: expected a dis")
    assert f"received {records['my dark'].drift}" in message
    assert f"`kedro withdraw '{next(key for key in accepted if 'dark' in key)}'`" in message
    caplog.clear()
    accepted, records = check(incoming, splits, champion=champion, drift_blocks=True)
    assert names_of(accepted) == ["like"]
    (reason,) = records["my dark"].reasons
    assert reason.startswith("it has drifted from the training data")
    assert f"received {records['my dark'].drift}" in reason
    assert caplog.records == [], "the quarantine says it"


def drift_of(images, champion, **params):
    return measure_drift(new_image_set(images), champion, RetrainingParams(**params), 1)


def test_darker_images_have_drifted_by_an_effect_that_is_sure(champion):
    drift = drift_of(images_of(60, 5) // 8, champion)
    assert drift.drifted
    assert set(drift.distances) == {"negative_elbo", "z_mean_00", "z_mean_01"}
    assert drift.effect == pytest.approx(max(drift.distances.values()), abs=1e-4)
    assert drift.p_value < 1e-6


def test_a_large_batch_that_is_off_by_little_or_a_few_images_by_chance_have_not(champion):
    images = images_of(4000, 5)
    images[::5] //= 8
    little = drift_of(images, champion, drift_effect=0.4)
    assert (little.p_value < 0.001, little.effect < 0.4, little.drifted) == (True, True, False)
    few = drift_of(images_of(3, 5), champion)
    effect = RetrainingParams().drift_effect
    assert (few.effect > effect, few.p_value > 0.001, few.drifted) == (True, True, False)


@pytest.mark.parametrize("refine_steps", [0, 15])
def test_images_of_the_same_kind_have_not_drifted(served, networks, make_images, refine_steps):
    known = embeddings_of(networks, make_images(300, "validation", 400), refine_steps)
    run = {"parameters": {"embedding": {"refine_steps": refine_steps}}}
    release = Serving({**served, "latent_embeddings": known, "run_manifest": run})
    assert not drift_of(images_of(60, 5), release).drifted
