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
from mnist_vae.jobs.linked_folders import LinkedFolders
from mnist_vae.jobs.records import Declined
from mnist_vae.jobs.release_files import ReleaseDataset, ReleaseError, declined
from mnist_vae.jobs.releases import Candidate, adopt, champion, previous, repair, roll_back

RULES = {"gate": "rules-1", "drifted": ["monday"]}


def make(models, version, fingerprint=None, **facts):
    """Leave the files of a candidate, and return what is known of it."""
    folder = models / "candidate"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"of": version}))
    (folder / "report.html").write_text(version)
    return Candidate(version, fingerprint or f"print-{version}", {"gain": 1.5, **facts})


def promote(models, *versions, keep=5, fingerprint=None):
    for version in versions:
        candidate = make(models, version, fingerprint)
        in_service = champion(models)
        releases.promote(models, candidate, in_service and in_service.name, keep)


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


@pytest.fixture
def killed(monkeypatch):
    """A function that does something, up to the moment when the link would move."""

    def run(function, *arguments, **options):
        with monkeypatch.context() as during:
            during.setattr(LinkedFolders, "show", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                function(*arguments, **options)

    return run


def test_before_the_first_promotion_there_is_none(models):
    assert champion(models) is None
    assert previous(models) is None
    assert repair(models) is None
    assert adopt(models) is None
    with pytest.raises(ReleaseError, match="There is no candidate to decide about"):
        releases.promote(models, Candidate("a", "print-a"), None, 5)


def test_a_promoted_candidate_is_in_service_with_all_of_its_files(models):
    promote(models, "a")
    held = champion(models)
    assert held.name == "000001-a"
    assert (held.manifest["previous"], held.manifest["gain"]) == (None, 1.5)
    assert set(held.manifest["files"]) == {"metrics.json", "report.html"}
    held.check()
    assert not (models / "candidate").exists()
    promote(models, "b")
    assert held.load("metrics.json") == {"of": "a"}, "once loaded it stays itself"
    assert in_service(models) == "b"
    assert champion(models).manifest["previous"] == "000001-a"


def test_a_candidate_is_promoted_only_if_the_release_that_it_was_judged_with_is_in_service(models):
    promote(models, "a", "b")
    roll_back(models)
    with pytest.raises(ReleaseError, match=r"expected 000002-b in service.*received 000001-a"):
        releases.promote(models, make(models, "c"), "000002-b", 5)
    assert in_service(models) == "a"
    assert (models / "candidate/metrics.json").exists()


def test_a_declined_candidate_is_kept_aside_and_known_with_its_rules(models):
    promote(models, "a")
    decline(models, "b", **RULES)
    assert in_service(models) == "a"
    assert (models / "declined/000002-b/report.html").read_text() == "b"
    expected = Declined(
        fingerprint="print-b",
        release="000002-b",
        champion="000001-a",
        gate="rules-1",
        drifted=("monday",),
    )
    assert declined(models) == [expected]
    decline(models, "c")
    assert (models / "declined/000003-c/report.html").exists()
    assert declined(models) == [expected], "what was not judged to the end may be tried again"


@pytest.mark.parametrize("step", ["write_json", "sync"])
def test_what_fails_before_the_link_moves_leaves_the_old_release(models, monkeypatch, step):
    promote(models, "a")

    def fail(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as during:
        during.setattr(releases, step, fail)
        with pytest.raises(OSError, match="No space left"):
            promote(models, "b")
    assert in_service(models) == "a"
    champion(models).check()
    promote(models, "c")
    assert in_service(models) == "c"


def test_a_promotion_that_was_killed_half_way_is_completed(models, killed):
    killed(promote, models, "a")
    assert champion(models) is None
    assert adopt(models) == "000001-a"
    killed(promote, models, "b")
    assert in_service(models) == "a"
    assert adopt(models) == "000002-b"
    assert in_service(models) == "b"
    assert adopt(models) is None


@pytest.mark.parametrize("then", ["rolled back", "rolled back meanwhile", "damaged"])
def test_what_was_not_being_promoted_any_more_is_not_adopted(models, killed, then):
    promote(models, "a", "b", "c")
    if then != "rolled back":
        killed(promote, models, "d")
    if then == "damaged":
        (models / "releases/000004-d/metrics.json").write_text("")
    else:  # past the second one, which no person took out of service
        roll_back(models, "000001-a")
    before = champion(models).name
    assert adopt(models) is None
    assert champion(models).name == before


def test_only_the_last_releases_stay_and_the_one_in_service_always_does(models):
    promote(models, *"abcd", keep=2)
    assert on_disk(models) == ["000003-c", "000004-d"]
    roll_back(models)
    decline(models, *"efg", keep=1)
    assert in_service(models) == "c"
    assert on_disk(models, "declined") == ["000007-g"]


def test_what_a_rollback_goes_to_stays_however_many_damaged_ones_are_newer(models):
    promote(models, *"ab", keep=1)
    assert on_disk(models) == ["000001-a", "000002-b"]
    for version in "cde":
        damage(models)
        assert "000001-a is in service instead" in repair(models)
        promote(models, version, keep=1)
    assert on_disk(models) == ["000001-a", "000005-e"]
    assert previous(models).name == "000001-a"


@pytest.mark.parametrize("act", [promote, decline])
def test_what_a_person_took_out_of_service_last_stays_on_disk_and_is_known_for_ever(models, act):
    promote(models, *"abc")
    roll_back(models)
    roll_back(models)
    act(models, *"def", keep=1)
    assert "000002-b" in on_disk(models)
    assert "000003-c" not in on_disk(models) or act is decline
    assert {"print-b", "print-c"} == {one.fingerprint for one in declined(models)}
    roll_back(models, "000002-b")
    assert state(models)[0] == "b"


def test_half_a_release_that_is_being_removed_does_not_look_like_one(models, monkeypatch):
    promote(models, *"abc")
    with monkeypatch.context() as during:
        during.setattr(shutil, "rmtree", lambda *_, **__: None)
        promote(models, "d", keep=1)
    assert on_disk(models) == ["000003-c", "000004-d"]
    promote(models, "e", keep=1)
    assert not list(models.glob("releases/.removed-*"))


def test_a_rollback_puts_the_one_before_in_service_and_marks_the_other(models):
    promote(models, "a", "b")
    assert roll_back(models) == "000001-a is in service again, instead of 000002-b"
    assert in_service(models) == "a"
    marked = Declined(fingerprint="print-b", release="000002-b", rolled_back=True)
    assert declined(models) == [marked]
    assert previous(models) is None
    with pytest.raises(ReleaseError, match=r"received 000001-a alone; name .* \(000002-b\), or"):
        roll_back(models)


@pytest.mark.parametrize("to", ["000009-x", "../candidate", ".removed-000001-a", "", "2"])
def test_a_rollback_to_what_is_not_there_names_what_is_and_changes_nothing(models, to):
    promote(models, "a", "b")
    with pytest.raises(ReleaseError, match=r"one of 000001-a, or of the one in service, 000002-b"):
        roll_back(models, to)
    assert state(models) == ("b", [])


def test_a_damaged_release_is_not_gone_to_and_nothing_changes(models):
    promote(models, "a", "b")
    damage(models)
    roll_back(models)
    with pytest.raises(ReleaseError, match=r"000002-b cannot .* received one that is damaged"):
        roll_back(models, "000002-b")
    assert state(models) == ("a", ["000002-b"])


def test_a_rollback_that_is_undone_leaves_no_release_marked(models):
    promote(models, "a", "b")
    for _ in range(2):
        roll_back(models)
        assert state(models) == ("a", ["000002-b"])
        assert "already" in roll_back(models, "000001-a")
        assert state(models) == ("a", ["000002-b"])
        roll_back(models, "000002-b")
        assert state(models) == ("b", [])
        assert previous(models).name == "000001-a"


def test_a_rollback_that_was_killed_before_the_link_moved_is_done_by_the_next_one(models, killed):
    promote(models, "a", "b")
    killed(roll_back, models)
    assert state(models) == ("b", ["000002-b"])
    roll_back(models)
    assert state(models) == ("a", ["000002-b"])
    killed(roll_back, models, "000002-b")
    assert state(models) == ("a", [])
    roll_back(models, "000002-b")
    assert state(models) == ("b", [])


@pytest.mark.parametrize(
    ("steps", "expected", "before"),
    [
        (["P", "+c"], ("c", ["000002-b"]), "000001-a"),
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


def test_without_a_model_in_service_a_release_that_is_there_may_be_put_in_service(models):
    promote(models, "a")
    (models / "champion").unlink()
    with pytest.raises(ReleaseError, match="received no release; name another"):
        roll_back(models)
    assert "where there was none" in roll_back(models, "000001-a")
    assert state(models) == ("a", [])


@pytest.mark.parametrize("how", ["content", "manifest", "gone"])
def test_a_damaged_release_is_passed_over_on_the_way_to_the_previous_one(models, how):
    promote(models, *"abcd")
    folder = models / "releases/000003-c"
    if how == "content":
        (folder / "metrics.json").write_text("{}")
    elif how == "manifest":
        (folder / "release.json").write_text("{")
    else:
        folder.rename(models / "elsewhere")
    assert previous(models).name == "000002-b"


def test_a_damaged_release_is_replaced_by_the_last_whole_one(models):
    promote(models, "a", "b")
    damage(models)
    with pytest.raises(ReleaseError, match=r"metrics.json is damaged: expected SHA-256.*retrain"):
        champion(models).check()
    assert "000001-a is in service instead" in repair(models)
    assert in_service(models) == "a"
    assert repair(models) is None
    assert adopt(models) is None
    promote(models, "c")
    assert champion(models).name == "000003-c"


def test_a_release_that_was_rolled_back_is_the_last_resort_and_then_it_is_said(models):
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
    champion(models).check()


@pytest.mark.parametrize("how", ["manifest", "gone"])
def test_without_a_whole_release_there_is_no_champion(models, how):
    promote(models, "a")
    if how == "manifest":
        (champion(models).folder / "release.json").write_text("{")
        with pytest.raises(ReleaseError, match=r"is damaged: expected its release\.json"):
            champion(models)
    else:
        champion(models).folder.rename(models / "elsewhere")
    assert "judged as a first one" in repair(models)
    assert champion(models) is None
    promote(models, "b")
    assert in_service(models) == "b"


@pytest.mark.parametrize(
    "content",
    ["[]", "null", {"files": []}, {"files": {"metrics.json": 7}}, {"previous": 7}],
)
def test_a_manifest_of_another_shape_is_damage_like_any_other(models, content):
    promote(models, "a", "b")
    manifest = champion(models).folder / "release.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(manifest.read_text()) | content)
    manifest.write_text(content)
    with pytest.raises(ReleaseError, match="is damaged"):
        champion(models)
    assert "000001-a is in service instead" in repair(models)


def lead(models, target):
    """Make a link of a file of the champion."""
    path = champion(models).folder / "metrics.json"
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("target", [".", "nowhere", "report.html/inside"])
def test_a_file_that_is_not_there_is_damage_like_any_other(models, target):
    promote(models, "a", "b")
    lead(models, target)
    assert "000001-a is in service instead" in repair(models)


@pytest.mark.parametrize("target", ["metrics.json", "/proc/self/mem"])
def test_a_file_that_cannot_be_read_is_no_damage_and_nothing_changes(models, target):
    promote(models, "a", "b")
    lead(models, target)  # to itself, or to what gives an error of input
    with pytest.raises(ReleaseError, match=r"metrics\.json cannot be read.*Nothing was changed"):
        repair(models)
    assert champion(models).name == "000002-b"


def test_a_manifest_that_may_not_be_read_is_no_damage_and_nothing_changes(models, monkeypatch):
    promote(models, "a", "b")
    read = Path.read_text

    def refuse(path, *arguments, **options):
        if path.name == "release.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    with monkeypatch.context() as during:
        during.setattr(Path, "read_text", refuse)
        with pytest.raises(ReleaseError, match=r"release\.json cannot be read"):
            repair(models)
    assert champion(models).name == "000002-b"


@pytest.mark.parametrize("as_what", ["folder", "file"])
def test_a_champion_that_a_restore_made_no_link_is_said_with_what_mends_it(models, as_what):
    promote(models, "a")
    folder = champion(models).folder
    link = models / "champion"
    link.unlink()
    if as_what == "folder":
        shutil.copytree(folder, link)
    else:
        link.write_text("releases/000001-a")  # as some archives keep links
    for action in (champion, repair):
        with pytest.raises(ReleaseError, match="expected a link to a folder") as raised:
            action(models)
    move, command = str(raised.value).split("`")[1::2]
    subprocess.run(move, shell=True, check=True)
    assert command == "kedro roll-back NAME"
    roll_back(models, "000001-a")
    assert in_service(models) == "a"
    assert repair(models) is None


def test_a_rollback_writes_no_byte_so_that_a_full_disk_does_not_stop_it(models, monkeypatch):
    promote(models, "a", "b")
    monkeypatch.setattr(os, "write", lambda *_: 1 / 0)
    monkeypatch.setattr(Path, "write_text", lambda *_: 1 / 0)
    roll_back(models)
    assert state(models) == ("a", ["000002-b"])
    assert [path.stat().st_size for path in models.glob("releases/.rolled-back-*")] == [0]


def test_changes_by_two_processes_wait_for_each_other(models, monkeypatch):
    promote(models, "a")
    monkeypatch.setattr(releases, "_LOCK_SECONDS", 0.01)
    with (
        FileLock(models / ".releases.lock"),
        pytest.raises(ReleaseError, match=r"The releases in .* are locked"),
    ):
        promote(models, "b")
    promote(models, "b")
    assert in_service(models) == "b"


def test_in_the_catalog_the_releases_are_read_only(models):
    promote(models, "a")
    dataset = ReleaseDataset(path=str(models))
    assert dataset.load().name == "000001-a"
    assert '"model_version": "a"' in dataset.preview()
    with pytest.raises(DatasetError, match="read-only"):
        dataset.save(dataset.load())
