"""The model in service: old or new, never both, and a damaged one does not stay there."""

import errno
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from kedro.io.core import DatasetError

from mnist_vae.jobs import releases
from mnist_vae.jobs.declined import read_declined
from mnist_vae.jobs.linked_folders import LinkedFolders
from mnist_vae.jobs.records import Declined
from mnist_vae.jobs.release_datasets import DeclinedDataset, ReleaseDataset
from mnist_vae.jobs.release_files import ReleaseError
from mnist_vae.jobs.releases import Candidate, adopt, champion, previous, repair, roll_back


def make(models, version, fingerprint=None):
    """Leave the files of a candidate, and return what is known of it."""
    folder = models / "candidate"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"of": version}))
    (folder / "report.html").write_text(version)
    return Candidate(version, fingerprint or f"print-{version}", {"gain": 1.5})


def promote(models, *versions, keep=5, fingerprint=None):
    for version in versions:
        candidate = make(models, version, fingerprint)
        releases.promote(models, candidate, name_of(champion(models)), keep)


def decline(models, *versions, keep=5, fingerprint=None, **more):
    for version in versions:
        releases.decline(models, make(models, version, fingerprint), keep, **more)


def name_of(release):
    return release and release.name


def in_service(models):
    release = champion(models)
    return release and release.load("metrics.json")["of"]


def out_of_service(models):
    return [entry.release for entry in read_declined(models) if entry.rolled_back]


def on_disk(models, folder="releases"):
    return sorted(path.name for path in (models / folder).iterdir())


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
    with pytest.raises(ReleaseError, match="There is no candidate to decide about"):
        releases.promote(models, Candidate("a", "print-a"), None, 5)


def test_a_promoted_candidate_is_in_service_with_all_of_its_files(models):
    promote(models, "a")
    release = champion(models)
    assert release.name == "000001-a"
    assert not release.folder.is_symlink()
    assert (release.manifest["previous"], release.manifest["gain"]) == (None, 1.5)
    assert set(release.manifest["files"]) == {"metrics.json", "report.html"}
    release.check()
    assert not (models / "candidate").exists()


def test_a_release_once_loaded_stays_itself_when_the_next_one_is_promoted(models):
    promote(models, "a")
    held = champion(models)
    promote(models, "b")
    assert held.load("metrics.json") == {"of": "a"}
    assert in_service(models) == "b"
    assert champion(models).manifest["previous"] == "000001-a"


def test_a_candidate_is_promoted_only_beside_the_release_that_it_was_judged_with(models):
    promote(models, "a", "b")
    roll_back(models)
    with pytest.raises(ReleaseError, match=r"expected 000002-b in service.*received 000001-a"):
        releases.promote(models, make(models, "c"), "000002-b", 5)
    assert in_service(models) == "a"
    assert (models / "candidate/metrics.json").exists()


def test_a_declined_candidate_is_kept_aside_and_noted_with_its_rules(models):
    promote(models, "a")
    decline(models, "b", gate="rules-1", drifted=("monday",))
    assert in_service(models) == "a"
    assert (models / "declined/000002-b/report.html").read_text() == "b"
    noted = {"gate": "rules-1", "drifted": ("monday",)}
    expected = Declined(fingerprint="print-b", release="000002-b", champion="000001-a", **noted)
    assert read_declined(models) == [expected]
    decline(models, "c", judged=False)
    assert (models / "declined/000003-c/report.html").exists()
    assert read_declined(models) == [expected], "what was not judged to the end may be tried again"


def test_of_a_fingerprint_the_last_decline_is_noted_until_it_is_promoted(models):
    decline(models, "a", "b", "a")
    assert [entry.release for entry in read_declined(models)] == ["000002-b", "000003-a"]
    promote(models, "a")
    assert [entry.fingerprint for entry in read_declined(models)] == ["print-b"]


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


def test_a_promotion_that_was_killed_half_way_is_completed_or_passed_over(models, killed):
    killed(promote, models, "a")
    assert champion(models) is None
    assert adopt(models) == "000001-a"
    decline(models, "b")
    killed(promote, models, "b")
    assert in_service(models) == "a"
    assert adopt(models) == "000003-b"
    assert in_service(models) == "b"
    assert read_declined(models) == [], "what is in service is not declined"
    assert adopt(models) is None
    killed(promote, models, "c")
    promote(models, "d")
    assert champion(models).name == "000005-d"
    assert previous(models).name == "000003-b", "the other never was in service"


@pytest.mark.parametrize("then", ["rolled back", "damaged", "declined another"])
def test_what_was_not_being_promoted_any_more_is_not_adopted(models, killed, then):
    promote(models, "a", "b", "c")
    if then == "rolled back":  # past the second one, which no person took out of service
        roll_back(models, "000001-a")
    else:
        killed(promote, models, "d")
    if then == "damaged":
        (models / "releases/000004-d/metrics.json").write_text("")
    if then == "declined another":
        decline(models, "e")
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


def test_what_a_rollback_goes_to_stays_on_disk(models):
    promote(models, *"abc", keep=1)
    assert on_disk(models) == ["000002-b", "000003-c"]
    roll_back(models)
    assert in_service(models) == "b"


def test_what_a_rollback_goes_to_stays_however_many_damaged_ones_are_newer(models):
    promote(models, "a", keep=1)
    for version in "bcd":
        promote(models, version, keep=1)
        damage(models)
        assert repair(models).in_service == "000001-a"
    promote(models, "e", keep=1)
    assert on_disk(models) == ["000001-a", "000004-d.damaged", "000005-e"]
    assert previous(models).name == "000001-a"


def test_damaged_releases_do_not_take_the_place_of_whole_ones(models):
    promote(models, "a", "b", keep=2)
    for version in "cd":
        promote(models, version, keep=2)
        damage(models)
        repair(models)
    decline(models, "e", keep=2)
    assert on_disk(models) == ["000002-b", "000003-c.damaged", "000004-d.damaged"]


@pytest.mark.parametrize("act", [promote, decline])
def test_what_a_person_took_out_of_service_last_stays_on_disk(models, act):
    promote(models, *"abc")
    roll_back(models)
    roll_back(models)
    act(models, *"def", keep=1)
    assert "000002-b" in on_disk(models)
    roll_back(models, "000002-b")
    assert in_service(models) == "b"
    promote(models, "g", keep=1)
    left = "000006-f" if act is promote else "000003-c"
    assert on_disk(models) == ["000002-b", left, "000007-g"]


def test_half_a_release_that_is_being_removed_does_not_look_like_one(models, monkeypatch):
    promote(models, *"abc")
    with monkeypatch.context() as during:
        during.setattr(shutil, "rmtree", lambda *_, **__: None)
        promote(models, "d", keep=1)
    assert {name for name in on_disk(models) if name[0] == "0"} == {"000003-c", "000004-d"}
    promote(models, "e", keep=1)
    assert on_disk(models) == ["000004-d", "000005-e"]


def test_a_rollback_puts_the_one_before_in_service_and_declines_the_other(models):
    promote(models, "a", "b")
    assert roll_back(models) == "000001-a is in service again, instead of 000002-b"
    assert in_service(models) == "a"
    assert read_declined(models) == [
        Declined(fingerprint="print-b", release="000002-b", champion="000001-a", rolled_back=True)
    ]
    assert previous(models) is None
    with pytest.raises(ReleaseError, match=r"received 000001-a alone; name .* \(000002-b\), or"):
        roll_back(models)


@pytest.mark.parametrize("to", ["000009-x", "../candidate", "000001-a.damaged", "", "2"])
def test_a_rollback_to_what_is_not_there_names_what_is_and_changes_nothing(models, to):
    promote(models, "a", "b")
    with pytest.raises(ReleaseError, match=r"one of 000001-a, or of the one in service, 000002-b"):
        roll_back(models, to)
    assert (in_service(models), read_declined(models)) == ("b", [])


def test_a_damaged_release_is_not_gone_to_and_nothing_changes(models):
    promote(models, "a", "b")
    damage(models)
    roll_back(models)
    with pytest.raises(ReleaseError, match=r"000002-b cannot .* received one that is damaged"):
        roll_back(models, "000002-b")
    assert (in_service(models), out_of_service(models)) == ("a", ["000002-b"])


def test_a_rollback_that_is_undone_leaves_no_release_declined(models):
    promote(models, "a", "b")
    for _ in range(2):
        roll_back(models)
        assert (in_service(models), out_of_service(models)) == ("a", ["000002-b"])
        assert "already" in roll_back(models, "000001-a")
        assert (in_service(models), out_of_service(models)) == ("a", ["000002-b"])
        roll_back(models, "000002-b")
        assert (in_service(models), read_declined(models)) == ("b", [])
        assert previous(models).name == "000001-a"


def test_a_rollback_that_was_killed_before_the_link_moved_is_done_or_undone_by_the_next_one(
    models, killed
):
    promote(models, "a", "b")
    killed(roll_back, models)
    assert (in_service(models), out_of_service(models)) == ("b", ["000002-b"])
    roll_back(models)
    assert (in_service(models), out_of_service(models)) == ("a", ["000002-b"])
    killed(roll_back, models, "000002-b")
    assert (in_service(models), read_declined(models)) == ("a", [])
    assert repair(models) is None
    roll_back(models, "000002-b")
    assert (in_service(models), read_declined(models)) == ("b", [])


def test_of_a_release_that_leaves_for_an_older_one_it_is_noted_whoever_was_rolled_back_before(
    models,
):
    promote(models, "a", "b")
    roll_back(models)
    promote(models, "c")
    assert previous(models).name == "000001-a", "the other was rolled back"
    roll_back(models, "000002-b")
    assert (in_service(models), out_of_service(models)) == ("b", ["000003-c"])
    assert previous(models).name == "000001-a"
    roll_back(models, "000003-c")
    assert (in_service(models), read_declined(models)) == ("c", [])


def test_a_rollback_may_pass_over_releases_which_are_not_declined_by_that(models):
    promote(models, *"abc")
    roll_back(models, "000001-a")
    assert (in_service(models), out_of_service(models)) == ("a", ["000003-c"])
    roll_back(models, "000003-c")
    assert previous(models).name == "000002-b"
    roll_back(models)
    roll_back(models)
    roll_back(models, "000003-c")
    assert (in_service(models), out_of_service(models)) == ("c", ["000002-b"])
    assert previous(models).name == "000001-a"


def test_what_an_undone_rollback_goes_back_to_may_have_a_twin_that_was_rolled_back(models):
    promote(models, "a")
    promote(models, "b", fingerprint="same")
    roll_back(models)
    promote(models, "b", fingerprint="same")  # by force
    roll_back(models)
    roll_back(models, "000002-b")
    assert out_of_service(models) == ["000003-b"]
    decline(models, "d", fingerprint="same")
    assert [entry.release for entry in read_declined(models)] == ["000003-b"]
    assert champion(models).name == "000002-b"


def test_without_a_model_in_service_a_release_that_is_there_may_be_put_in_service(models):
    promote(models, "a")
    (models / "champion").unlink()
    with pytest.raises(ReleaseError, match="received no release; name another"):
        roll_back(models)
    assert "where there was none" in roll_back(models, "000001-a")
    assert (in_service(models), read_declined(models)) == ("a", [])


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


def test_a_manifest_that_names_itself_as_the_previous_one_ends_the_search(models):
    promote(models, "a")
    manifest = champion(models).folder / "release.json"
    manifest.write_text(manifest.read_text().replace("null", '"000001-a"'))
    assert previous(models) is None


def test_a_damaged_release_is_replaced_by_the_last_whole_one(models):
    promote(models, "a", "b")
    damage(models)
    with pytest.raises(ReleaseError, match=r"metrics.json is damaged: expected SHA-256.*retrain"):
        champion(models).check()
    assert "000001-a is in service instead" in repair(models).sentence
    assert in_service(models) == "a"
    assert (models / "releases/000002-b.damaged").is_dir()
    assert repair(models) is None
    promote(models, "c")
    assert champion(models).name == "000003-c"


def test_a_release_that_was_rolled_back_is_the_last_resort_and_then_it_is_said(models):
    promote(models, *"abc")
    roll_back(models)
    roll_back(models)
    promote(models, "d")
    damage(models)
    repaired = repair(models)
    assert repaired.in_service == "000001-a"
    assert "person" not in repaired.sentence
    damage(models)
    repaired = repair(models)
    assert (repaired.damaged, repaired.in_service) == ("000001-a", "000003-c")
    assert "a person had taken out of service" in repaired.sentence
    assert "no longer declined" in repaired.sentence
    assert out_of_service(models) == ["000002-b"]
    champion(models).check()


def test_a_release_whose_fingerprint_is_declined_as_another_candidates_may_serve(models):
    promote(models, "a", fingerprint="same")
    decline(models, "b", fingerprint="same")
    assert read_declined(models) == [], "it is that of the release in service"
    promote(models, "c")
    decline(models, "d", fingerprint="same")
    damage(models)
    assert repair(models).in_service == "000001-a"


@pytest.mark.parametrize("how", ["manifest", "gone"])
def test_without_a_whole_release_there_is_no_champion(models, how):
    promote(models, "a")
    if how == "manifest":
        (champion(models).folder / "release.json").write_text("{")
        with pytest.raises(ReleaseError, match=r"is damaged: expected its release\.json"):
            champion(models)
    else:
        champion(models).folder.rename(models / "elsewhere")
    assert "judged as a first one" in repair(models).sentence
    assert champion(models) is None
    promote(models, "b")
    assert in_service(models) == "b"


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "7", "null"),
        *({"files": value} for value in ([], {}, {"metrics.json": 7}, None)),
        *({"fingerprint": 7}, {"previous": 7}, {"model_version": None}),
    ],
)
def test_a_manifest_of_another_shape_is_damage_like_any_other(models, content):
    promote(models, "a", "b")
    manifest = champion(models).folder / "release.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(manifest.read_text()) | content)
    manifest.write_text(content)
    with pytest.raises(ReleaseError, match="is damaged"):
        champion(models)
    assert repair(models).in_service == "000001-a"


def lead(models, target):
    """Make a link of a file of the champion."""
    path = champion(models).folder / "metrics.json"
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("target", [".", "nowhere", "report.html/inside"])
def test_a_file_that_is_not_there_is_damage_like_any_other(models, target):
    promote(models, "a", "b")
    lead(models, target)
    assert repair(models).in_service == "000001-a"


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
    assert on_disk(models) == ["000001-a", "000002-b"]


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"fingerprint": "x"}]', "\udcff"])
def test_a_list_of_what_was_declined_that_cannot_be_read_is_refused_and_stays(models, content):
    promote(models, "a", "b")
    path = models / "declined.json"
    path.write_text(content, errors="surrogateescape")
    before = path.read_bytes()
    for act in (
        lambda: DeclinedDataset(path=str(models)).load(),
        lambda: promote(models, "c"),
        lambda: decline(models, "c"),
        lambda: roll_back(models, "000001-a"),
    ):
        with pytest.raises(DatasetError, match=r"declined\.json cannot be read: expected the list"):
            act()
    assert path.read_bytes() == before
    assert in_service(models) == "b"


@pytest.mark.parametrize("shelved", [True, False])
def test_a_champion_that_is_a_folder_is_said_with_the_commands_that_mend_it(models, shelved):
    promote(models, "a")
    folder = champion(models).folder
    link = models / "champion"
    link.unlink()
    shutil.copytree(folder, link)
    if not shelved:
        shutil.rmtree(folder.parent)
    for action in (champion, repair):
        with pytest.raises(ReleaseError, match="expected a link to a release") as raised:
            action(models)
    subprocess.run(re.search("`(.*)`", str(raised.value)).group(1), shell=True, check=True)
    assert champion(models).name == "000001-a"
    assert repair(models) is None
    promote(models, "b")
    assert in_service(models) == "b"


@pytest.mark.parametrize(
    "manifest", [None, "{", '{"release": "$(rm -r x)"}', '{"release": 7}', "a file"]
)
def test_a_champion_that_is_something_else_without_a_name_is_said_too(models, manifest):
    link = models / "champion"
    if manifest == "a file":
        link.write_text("releases/000001-a")  # as some archives keep links
    else:
        link.mkdir()
        (link / "release.json").write_text(manifest or "")
    with pytest.raises(ReleaseError, match="expected a link to a release") as raised:
        repair(models)
    assert "rm -r" not in str(raised.value)
    assert "releases/<the release to serve>" in str(raised.value)


def test_a_release_leaves_also_when_the_disk_has_no_room_for_the_note(models, monkeypatch):
    promote(models, "a", "b")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mnist_vae.jobs.declined.write_json", full)
        roll_back(models)
    assert in_service(models) == "a"
    noted = [Declined(fingerprint="print-b", release="000002-b", rolled_back=True)]
    assert read_declined(models) == noted
    decline(models, "c")
    assert [entry.release for entry in read_declined(models)] == ["000002-b", "000003-c"]
    assert not list(models.glob("releases/.rolled-back-*"))


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
