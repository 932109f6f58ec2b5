"""The model in service: old or new, never both, and a damaged one does not stay there."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from kedro.io.core import DatasetError

from mnist_vae.jobs import releases
from mnist_vae.jobs.records import Declined, kept_in_a_row
from mnist_vae.jobs.release_files import ReleaseDataset, ReleaseError, declined
from mnist_vae.jobs.releases import adopt, champion, previous, repair, roll_back


def make(models, version, **facts):
    """Leave the files of a candidate, and return what is known of it."""
    folder = models / "candidate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"of": version}))
    (folder / "report.html").write_text(version)
    return {"model_version": version, "fingerprint": f"print-{version}", "gain": 1.5, **facts}


def promote(models, *versions, keep=5):
    for version in versions:
        releases.promote(models, make(models, version), keep)


def decline(models, *versions, keep=5, **facts):
    for version in versions:
        releases.decline(models, make(models, version, **facts), keep)


def in_service(models):
    release = champion(models)
    return release and release.load("metrics.json")["of"]


def state(models):
    """The version in service, and the releases that a person took out of service."""
    return in_service(models), [one.release for one in declined(models) if one.rolled_back]


def on_disk(models, folder="releases"):
    return sorted(path.name for path in (models / folder).glob("[!.]*"))


def damage(models):
    path = champion(models).folder / "metrics.json"
    path.write_text(path.read_text().replace("of", "xx"))


@pytest.fixture
def models(tmp_path):
    return tmp_path


def test_a_promoted_candidate_is_in_service_with_all_of_its_files(models):
    assert champion(models) is previous(models) is repair(models) is adopt(models) is None
    promote(models, "a")
    held = ReleaseDataset(path=str(models)).load()
    assert held.name == "000001-a"
    assert (held.manifest["previous"], held.manifest["gain"]) == (None, 1.5)
    assert set(held.files) == {"metrics.json", "report.html"}
    held.check()
    assert not (models / "candidate").exists()
    promote(models, "b")
    assert held.load("metrics.json") == {"of": "a"}, "once loaded it stays itself"
    assert in_service(models) == "b"
    assert champion(models).manifest["previous"] == "000001-a"
    with pytest.raises(DatasetError, match="read-only"):
        ReleaseDataset(path=str(models)).save(held)


def test_a_declined_candidate_is_kept_aside_and_known_with_its_rules(models):
    promote(models, "a")
    decline(models, "b", gate="rules-1", drifted=["monday"])
    decline(models, "c")
    assert in_service(models) == "a"
    assert on_disk(models, "declined") == ["000002-b", "000003-c"]
    expected = Declined(
        fingerprint="print-b",
        release="000002-b",
        champion="000001-a",
        gate="rules-1",
        drifted=("monday",),
    )
    assert declined(models) == [expected], "what was not judged to the end may be tried again"


def test_only_the_last_releases_stay_and_the_one_in_service_and_the_one_before(models):
    promote(models, *"xy", keep=1)
    assert on_disk(models) == ["000001-x", "000002-y"]
    promote(models, *"abcd", keep=2)
    assert on_disk(models) == ["000005-c", "000006-d"]
    roll_back(models)
    decline(models, *"efg", keep=1)
    assert in_service(models) == "c"
    assert on_disk(models, "declined") == ["000009-g"]


def test_a_rollback_takes_the_one_before_and_marks_the_other_also_on_a_full_disk(
    models, monkeypatch
):
    promote(models, "a", "b")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda *_: 1 / 0)
        full.setattr(Path, "write_text", lambda *_: 1 / 0)
        assert roll_back(models) == "000001-a is in service again, instead of 000002-b"
    assert [path.stat().st_size for path in models.glob("releases/.rolled-back-*")] == [0]
    assert in_service(models) == "a"
    marked = Declined(fingerprint="print-b", release="000002-b", rolled_back=True)
    assert declined(models) == [marked]
    assert "already" in roll_back(models, "000001-a")
    assert previous(models) is None
    message = r"before that in service, 000001-a, received none; name another.*\(000002-b\), or"
    with pytest.raises(ReleaseError, match=message):
        roll_back(models)


@pytest.mark.parametrize(
    ("steps", "expected", "before"),
    [
        (["P", "000002-b"], ("b", []), "000001-a"),
        (["P", "000002-b", "P"], ("a", ["000002-b"]), None),
        (["P", "+c", "000002-b"], ("b", ["000003-c"]), "000001-a"),
        (["P", "+c", "000002-b", "000003-c"], ("c", []), "000002-b"),
        (["+c", "000001-a"], ("a", ["000003-c"]), None),  # past one that is not marked by that
        (["+c", "000001-a", "000003-c"], ("c", []), "000002-b"),
        (["+c", "P", "P", "000003-c"], ("c", ["000002-b"]), "000001-a"),
    ],
)
def test_of_two_releases_the_newer_one_is_marked_when_it_leaves(models, steps, expected, before):
    promote(models, "a", "b")
    for step in steps:
        if step[0] == "+":
            promote(models, step[1])
        else:
            roll_back(models, "previous" if step == "P" else step)
    assert state(models) == expected
    assert (previous(models) and previous(models).name) == before


def test_changes_by_two_processes_wait_for_each_other(models, monkeypatch):
    promote(models, "a")
    monkeypatch.setattr(releases, "_LOCK_SECONDS", 0.01)
    with (
        FileLock(models / ".releases.lock"),
        pytest.raises(ReleaseError, match=r"The releases in .* are locked"),
    ):
        promote(models, "b")
    assert in_service(models) == "a"


@pytest.mark.parametrize("then", ["rolled back", "rolled back meanwhile", "damaged"])
def test_what_was_not_being_promoted_any_more_is_not_adopted(models, monkeypatch, then):
    promote(models, "a", "b", "c")
    if then != "rolled back":
        with monkeypatch.context() as killed:
            killed.setattr(releases, "replace_link", lambda *_: None)
            promote(models, "d")
    if then == "damaged":
        (models / "releases/000004-d/metrics.json").write_text("")
    else:  # past the second one, which no person took out of service
        roll_back(models, "000001-a")
    before = champion(models).name
    assert adopt(models) is None
    assert champion(models).name == before


@pytest.mark.parametrize("act", [promote, decline])
def test_what_a_person_took_out_of_service_is_known_for_ever(models, act):
    promote(models, *"abc")
    roll_back(models)
    roll_back(models)
    act(models, *"def", keep=1)
    assert {"print-b", "print-c"} == {one.fingerprint for one in declined(models)}


@pytest.mark.parametrize(
    "to", ["000009-x", "../candidate", ".removed-000001-a", "", "2", "000003-c"]
)
def test_a_rollback_to_what_is_no_whole_release_names_what_is_and_changes_nothing(models, to):
    promote(models, "a", "b", "c")
    damage(models)
    roll_back(models)
    with pytest.raises(ReleaseError, match=r"\(000003-c, 000001-a\), or run") as error:
        roll_back(models, to)
    assert ("000003-c, which is damaged" in str(error.value)) == (to == "000003-c")
    assert state(models) == ("b", ["000003-c"])


NO_FILES = '{"model_version": "", "fingerprint": "", "previous": null, "files": {}}'


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("metrics.json", "{}"),
        ("metrics.json", None),
        ("release.json", "{"),
        ("release.json", NO_FILES),
        ("", None),  # the folder itself
    ],
)
def test_a_damaged_release_is_passed_over_and_replaced_by_the_last_whole_one(
    models, filename, content
):
    def harm(folder):
        path = folder / filename
        path.rename(path.with_name(f".{path.name}"))
        if content is not None:
            path.write_text(content)

    promote(models, *"abcd")
    harm(models / "releases/000003-c")
    assert previous(models).name == "000002-b"
    harm(models / "releases/000004-d")
    with pytest.raises(ReleaseError, match="damaged"):
        champion(models).check()
    assert "000002-b is in service instead" in repair(models)
    assert in_service(models) == "b"
    assert repair(models) is adopt(models) is None


def test_a_release_that_was_rolled_back_is_the_last_resort_and_reported_as_such(models):
    promote(models, *"abc")
    roll_back(models)
    roll_back(models)
    promote(models, "d")
    damage(models)
    assert "person" not in repair(models)
    assert in_service(models) == "a"
    damage(models)
    assert "000003-c, which a person had taken out of service, is in service" in repair(models)
    assert state(models) == ("c", ["000002-b"])
    for _ in "cb":
        damage(models)
        done = repair(models)
    assert "judged as a first one" in done
    assert champion(models) is None


def test_what_cannot_be_read_is_no_damage_and_nothing_changes(models):
    promote(models, "a", "b")
    path = champion(models).folder / "metrics.json"
    path.unlink()
    path.symlink_to("metrics.json")  # to itself
    with pytest.raises(OSError, match=r"metrics\.json"):
        repair(models)
    assert champion(models).name == "000002-b"


def test_a_champion_that_a_restore_made_no_link_is_refused_with_the_remedy(models):
    promote(models, "a")
    folder, link = champion(models).folder, models / "champion"
    link.unlink()
    shutil.copytree(folder, link)
    for action in (champion, repair):
        with pytest.raises(DatasetError, match="expected a link to a folder") as raised:
            action(models)
    move, command = str(raised.value).split("`")[1::2]
    subprocess.run(move, shell=True, check=True)
    assert command == "kedro roll-back NAME"
    with pytest.raises(ReleaseError, match=r"in service, none, received none; name another"):
        roll_back(models)
    assert "where there was none" in roll_back(models, "000001-a")
    assert state(models) == ("a", [])


def judged(champion="1", drifted=(), rolled_back=False):
    return Declined(
        fingerprint="f", release="r", champion=champion, drifted=drifted, rolled_back=rolled_back
    )


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], (0, ["a", "b"])),
        ([judged(drifted=("a",))], (1, ["a"])),
        ([judged(drifted=("a", "b")), judged(drifted=("b", "c"))], (2, ["b"])),
        ([judged(drifted=("a",)), judged(drifted=("b",))], (1, ["b"])),
        ([judged(drifted=("a",)), judged()], (0, ["a", "b"])),
        ([judged(drifted=("a",)), judged("2", ("a",))], (0, ["a", "b"])),
        ([judged(drifted=("a",)), judged(drifted=("a",), rolled_back=True)], (0, ["a", "b"])),
    ],
)
def test_candidates_are_counted_back_to_the_first_that_has_no_batch_in_common(before, expected):
    assert kept_in_a_row(before, "1", ["a", "b"]) == expected
    assert kept_in_a_row(before, "1", []) == (0, []), "without drifted batches none counts"
