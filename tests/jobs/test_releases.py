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
from mnist_vae.jobs.declined import DeclinedDataset
from mnist_vae.jobs.records import Decline, Declined, Promote, RollBack
from mnist_vae.jobs.releases import ReleaseDataset, ReleaseError


@pytest.fixture
def dataset(tmp_path):
    return ReleaseDataset(path=str(tmp_path))


def decide(dataset, version, order=Promote, keep=5, **more):
    """Make a candidate and save an order about it."""
    candidate = dataset.folder / "candidate"
    candidate.mkdir(exist_ok=True)
    (candidate / "metrics.json").write_text(json.dumps({"of": version}))
    (candidate / "report.html").write_text(version)
    values = {"model_version": version, "fingerprint": f"print-{version}", "keep": keep, **more}
    if order is Promote:
        champion = dataset.load()
        values = {"beside": champion and champion.name, **values}
    dataset.save(order(reason="a test", facts={"gain": 1.5}, **values))


def roll_back(dataset):
    target = ReleaseDataset(path=str(dataset.folder), role="previous").load()
    dataset.save(RollBack(reason="a test", to=target.name))


def declined(dataset):
    return DeclinedDataset(path=str(dataset.folder)).load()


def in_service(dataset):
    release = dataset.load()
    return release and release.load("metrics.json")["of"]


def test_before_the_first_promotion_there_is_none(dataset):
    assert dataset.load() is None
    assert dataset.repair() is None


def test_a_promoted_candidate_is_in_service_with_all_of_its_files(dataset):
    decide(dataset, "a")
    release = dataset.load()
    assert release.name == "000001-a"
    assert not release.folder.is_symlink()
    assert release.manifest["previous"] is None
    assert release.manifest["gain"] == 1.5
    assert set(release.manifest["files"]) == {"metrics.json", "report.html"}
    release.check()
    assert not (dataset.folder / "candidate").exists()


def test_a_release_once_loaded_stays_itself_when_the_next_one_is_promoted(dataset):
    decide(dataset, "a")
    held = dataset.load()
    decide(dataset, "b")
    assert held.load("metrics.json") == {"of": "a"}
    assert in_service(dataset) == "b"
    assert dataset.load().manifest["previous"] == "000001-a"


def test_a_declined_candidate_is_kept_aside_and_not_tried_again(dataset):
    decide(dataset, "a")
    decide(dataset, "b", order=Decline)
    assert in_service(dataset) == "a"
    assert (dataset.folder / "declined/000002-b/report.html").read_text() == "b"
    assert declined(dataset) == [
        Declined(fingerprint="print-b", release="000002-b", champion="000001-a")
    ]


@pytest.mark.parametrize("step", ["write_json", "sync"])
def test_what_fails_before_the_link_moves_leaves_the_old_release(dataset, monkeypatch, step):
    decide(dataset, "a")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(releases, step, fail)
    with pytest.raises(Exception, match="No space left"):
        decide(dataset, "b")
    monkeypatch.undo()
    assert in_service(dataset) == "a"
    dataset.load().check()
    decide(dataset, "c")
    assert in_service(dataset) == "c"


def test_a_run_killed_between_the_two_renames_leaves_the_old_one_and_the_next_goes_on(
    dataset, monkeypatch
):
    decide(dataset, "a")
    monkeypatch.setattr(ReleaseDataset, "_put_in_service", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="division"):
        decide(dataset, "b")
    monkeypatch.undo()
    assert in_service(dataset) == "a"
    decide(dataset, "b")
    assert dataset.load().name == "000003-b"


def test_only_the_last_releases_stay_and_the_one_in_service_always_does(dataset):
    for version in "abcd":
        decide(dataset, version, keep=2)
    names = sorted(path.name for path in (dataset.folder / "releases").iterdir())
    assert names == ["000003-c", "000004-d"]
    roll_back(dataset)
    assert in_service(dataset) == "c"
    for version in "efg":
        decide(dataset, version, order=Decline, keep=1)
    assert in_service(dataset) == "c"
    assert [path.name for path in (dataset.folder / "declined").iterdir()] == ["000007-g"]


def test_a_rollback_puts_the_one_before_in_service_and_declines_the_other(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    assert in_service(dataset) == "a"
    assert declined(dataset) == [
        Declined(fingerprint="print-b", release="000002-b", champion="000001-a", rolled_back=True)
    ]
    assert previous_of(dataset) is None


@pytest.mark.parametrize("to", ["000009-x", "../candidate", "000001-a.damaged", "", "2"])
def test_a_rollback_to_what_cannot_serve_is_refused_and_changes_nothing(dataset, to):
    decide(dataset, "a")
    decide(dataset, "b")
    with pytest.raises(ReleaseError, match="cannot be gone back to: expected a whole release"):
        dataset.save(RollBack(reason="a test", to=to))
    assert in_service(dataset) == "b"
    assert declined(dataset) == []


def go_to(dataset, name):
    dataset.save(RollBack(reason="a test", to=name))


def out_of_service(dataset):
    return [entry.release for entry in declined(dataset) if entry.rolled_back]


def test_a_rollback_that_is_undone_leaves_no_release_declined(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    for _ in range(2):
        roll_back(dataset)
        assert (in_service(dataset), out_of_service(dataset)) == ("a", ["000002-b"])
        go_to(dataset, "000002-b")
        assert (in_service(dataset), declined(dataset)) == ("b", [])
        assert previous_of(dataset) == "000001-a"


def test_to_go_to_what_is_in_service_changes_nothing(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    go_to(dataset, "000001-a")
    assert (in_service(dataset), out_of_service(dataset)) == ("a", ["000002-b"])


def test_a_rollback_that_was_killed_before_the_link_moved_is_done_or_undone_by_the_next_one(
    dataset, monkeypatch
):
    decide(dataset, "a")
    decide(dataset, "b")
    with monkeypatch.context() as during:
        during.setattr(ReleaseDataset, "_put_in_service", lambda *_: 1 / 0)
        with pytest.raises(Exception, match="division"):
            roll_back(dataset)
    assert (in_service(dataset), out_of_service(dataset)) == ("b", ["000002-b"])
    go_to(dataset, "000002-b")
    assert (in_service(dataset), declined(dataset)) == ("b", [])
    roll_back(dataset)
    assert (in_service(dataset), out_of_service(dataset)) == ("a", ["000002-b"])


def test_an_undo_that_was_killed_before_the_link_moved_leaves_the_older_one_until_it_is_repeated(
    dataset, monkeypatch
):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    with monkeypatch.context() as during:
        during.setattr(ReleaseDataset, "_put_in_service", lambda *_: 1 / 0)
        with pytest.raises(Exception, match="division"):
            go_to(dataset, "000002-b")
    assert (in_service(dataset), declined(dataset)) == ("a", [])
    assert dataset.repair() is None
    go_to(dataset, "000002-b")
    assert (in_service(dataset), declined(dataset)) == ("b", [])


def test_of_a_release_that_leaves_for_an_older_one_it_is_noted_whoever_was_rolled_back_before(
    dataset,
):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    decide(dataset, "c")
    go_to(dataset, "000002-b")
    assert (in_service(dataset), out_of_service(dataset)) == ("b", ["000003-c"])
    assert previous_of(dataset) == "000001-a"
    go_to(dataset, "000003-c")
    assert (in_service(dataset), declined(dataset)) == ("c", [])
    assert previous_of(dataset) == "000001-a", "beside which it was promoted"


def test_a_rollback_may_pass_over_releases_which_are_not_declined_by_that(dataset):
    for version in "abc":
        decide(dataset, version)
    go_to(dataset, "000001-a")
    assert (in_service(dataset), out_of_service(dataset)) == ("a", ["000003-c"])
    go_to(dataset, "000003-c")
    assert previous_of(dataset) == "000002-b"
    roll_back(dataset)
    roll_back(dataset)
    go_to(dataset, "000003-c")
    assert (in_service(dataset), out_of_service(dataset)) == ("c", ["000002-b"])
    assert previous_of(dataset) == "000001-a"


def test_what_an_undone_rollback_goes_back_to_may_have_a_twin_that_was_rolled_back(dataset):
    decide(dataset, "a")
    decide(dataset, "b", fingerprint="same")
    roll_back(dataset)
    decide(dataset, "b", fingerprint="same")  # by force
    roll_back(dataset)
    go_to(dataset, "000002-b")
    assert out_of_service(dataset) == ["000003-b"]
    decide(dataset, "d", fingerprint="same", order=Decline)
    assert [entry.release for entry in declined(dataset)] == ["000003-b"]
    assert dataset.load().name == "000002-b"


def test_a_damaged_release_is_not_gone_to_and_nothing_changes(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    damage(dataset)
    roll_back(dataset)
    with pytest.raises(ReleaseError, match=r"000002-b cannot .* received one that is damaged"):
        go_to(dataset, "000002-b")
    assert (in_service(dataset), out_of_service(dataset)) == ("a", ["000002-b"])


def test_without_a_model_in_service_a_release_that_is_there_may_be_put_in_service(dataset):
    decide(dataset, "a")
    (dataset.folder / "champion").unlink()
    go_to(dataset, "000001-a")
    assert (in_service(dataset), declined(dataset)) == ("a", [])


@pytest.mark.parametrize("order", [Promote, Decline])
def test_what_a_person_took_out_of_service_last_stays_on_disk(dataset, order):
    for version in "abc":
        decide(dataset, version)
    roll_back(dataset)
    roll_back(dataset)
    for version in "def":
        decide(dataset, version, order=order, keep=1)
    assert "000002-b" in {path.name for path in (dataset.folder / "releases").iterdir()}
    go_to(dataset, "000002-b")
    assert in_service(dataset) == "b"
    decide(dataset, "g", keep=1)
    names = {path.name for path in (dataset.folder / "releases").iterdir()}
    left = "000006-f" if order is Promote else "000003-c"
    assert names == {"000002-b", left, "000007-g"}


def previous_of(dataset):
    release = ReleaseDataset(path=str(dataset.folder), role="previous").load()
    return release and release.name


def test_the_previous_release_is_the_one_that_the_champion_took_the_place_of(dataset):
    assert previous_of(dataset) is None
    decide(dataset, "a")
    assert previous_of(dataset) is None
    decide(dataset, "b")
    assert previous_of(dataset) == "000001-a"
    roll_back(dataset)
    decide(dataset, "c")
    assert previous_of(dataset) == "000001-a"  # b was rolled back


def test_a_release_that_never_was_in_service_is_not_the_previous_one(dataset, monkeypatch):
    decide(dataset, "a")
    monkeypatch.setattr(ReleaseDataset, "_put_in_service", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="division"):
        decide(dataset, "b")
    monkeypatch.undo()
    decide(dataset, "c")
    assert previous_of(dataset) == "000001-a"


@pytest.mark.parametrize("how", ["content", "manifest", "gone"])
def test_a_damaged_release_is_passed_over_on_the_way_to_the_previous_one(dataset, how):
    for version in "abcd":
        decide(dataset, version)
    folder = dataset.folder / "releases/000003-c"
    if how == "content":
        (folder / "metrics.json").write_text("{}")
    elif how == "manifest":
        (folder / "release.json").write_text("{")
    else:
        folder.rename(dataset.folder / "elsewhere")
    assert previous_of(dataset) == "000002-b"


def test_a_manifest_that_names_itself_as_the_previous_one_ends_the_search(dataset):
    decide(dataset, "a")
    manifest = dataset.load().folder / "release.json"
    manifest.write_text(manifest.read_text().replace("null", '"000001-a"'))
    assert previous_of(dataset) is None


def test_the_role_is_one_of_two():
    with pytest.raises(DatasetError, match="Argument `role`"):
        ReleaseDataset(path="x", role="next")


def test_the_previous_release_is_not_saved_to(dataset):
    decide(dataset, "a")
    with pytest.raises(DatasetError, match="read-only"):
        decide(ReleaseDataset(path=str(dataset.folder), role="previous"), "b")


def damage(dataset):
    path = dataset.load().folder / "metrics.json"
    path.write_text(path.read_text().replace("of", "xx"))


def test_a_damaged_release_is_replaced_by_the_last_whole_one(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    damage(dataset)
    with pytest.raises(ReleaseError, match=r"metrics.json is damaged: expected SHA-256"):
        dataset.load().check()
    assert "000001-a is in service instead" in dataset.repair().sentence
    assert in_service(dataset) == "a"
    assert (dataset.folder / "releases/000002-b.damaged").is_dir()
    assert dataset.repair() is None
    decide(dataset, "c")
    assert dataset.load().name == "000003-c"


def test_a_release_that_was_rolled_back_does_not_come_back_as_a_replacement(dataset):
    for version in "abc":
        decide(dataset, version)
    roll_back(dataset)
    damage(dataset)
    dataset.repair()
    assert in_service(dataset) == "a"


def test_without_a_whole_release_there_is_no_champion(dataset):
    decide(dataset, "a")
    (dataset.load().folder / "release.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"is damaged: expected its release\.json"):
        dataset.load()
    assert "judged as a first one" in dataset.repair().sentence
    assert dataset.load() is None
    decide(dataset, "b")
    assert in_service(dataset) == "b"


def test_a_champion_whose_folder_is_gone_is_repaired_too(dataset):
    decide(dataset, "a")
    dataset.load().folder.rename(dataset.folder / "elsewhere")
    assert "judged as a first one" in dataset.repair().sentence
    assert dataset.load() is None


def test_nothing_to_promote_is_said(dataset):
    with pytest.raises(ReleaseError, match="There is no candidate to decide about"):
        dataset.save(
            Promote(reason="a test", model_version="a", fingerprint="print-a", keep=5, beside=None)
        )


def test_an_order_tells_why_and_for_which_rules_a_candidate_was_declined(dataset):
    decide(dataset, "a", order=Decline, gate="rules-1", drifted=("monday",))
    (entry,) = declined(dataset)
    assert (entry.gate, entry.drifted, entry.champion) == ("rules-1", ("monday",), None)


def test_a_candidate_that_is_declined_again_is_there_once_as_the_last(dataset):
    decide(dataset, "a", order=Decline)
    decide(dataset, "b", order=Decline)
    decide(dataset, "a", order=Decline)
    assert [entry.release for entry in declined(dataset)] == ["000002-b", "000003-a"]


def test_a_promotion_ends_that_its_own_fingerprint_is_declined(dataset):
    decide(dataset, "a", order=Decline)
    decide(dataset, "b", order=Decline)
    decide(dataset, "a")
    assert [entry.fingerprint for entry in declined(dataset)] == ["print-b"]


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"fingerprint": "x"}]', "\udcff"])
def test_a_list_that_cannot_be_read_is_refused_and_stays(dataset, content):
    decide(dataset, "a")
    decide(dataset, "b")
    path = dataset.folder / "declined.json"
    path.write_text(content, errors="surrogateescape")
    before = path.read_bytes()
    for act in (
        lambda: declined(dataset),
        lambda: decide(dataset, "c"),
        lambda: decide(dataset, "c", order=Decline),
        lambda: dataset.save(RollBack(reason="a test", to="000001-a")),
    ):
        with pytest.raises(DatasetError, match=r"declined\.json cannot be read: expected the list"):
            act()
    assert path.read_bytes() == before
    assert in_service(dataset) == "b"


# Fault 7: a candidate of the champion's own recipe and data, declined.
def test_a_release_whose_fingerprint_is_declined_as_another_candidates_may_serve(dataset):
    decide(dataset, "a", fingerprint="same")
    decide(dataset, "b", fingerprint="same", order=Decline)
    assert declined(dataset) == []
    decide(dataset, "c")
    decide(dataset, "d", fingerprint="same", order=Decline)
    damage(dataset)
    assert dataset.repair().in_service == "000001-a"


# Fault 2: the one gone back to gets damaged too.
def test_as_a_last_resort_a_release_that_was_rolled_back_serves_again_and_it_is_said(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    damage(dataset)
    repair = dataset.repair()
    assert (repair.damaged, repair.in_service) == ("000001-a", "000002-b")
    assert "a person had taken out of service" in repair.sentence
    assert "no longer declined" in repair.sentence
    assert in_service(dataset) == "b"
    assert declined(dataset) == []
    dataset.load().check()


def test_the_newest_release_that_was_not_rolled_back_is_the_first_choice(dataset):
    for version in "abc":
        decide(dataset, version)
    roll_back(dataset)
    roll_back(dataset)
    decide(dataset, "d")
    damage(dataset)
    repair = dataset.repair()
    assert repair.in_service == "000001-a"
    assert "PERSON" not in repair.sentence


# Fault 3: what to do about damage is not a rollback.
def test_who_finds_damage_is_told_that_the_next_retraining_repairs_it(dataset):
    decide(dataset, "a")
    damage(dataset)
    with pytest.raises(ReleaseError) as raised:
        dataset.load().check()
    assert "rollback" not in str(raised.value)
    assert "run `kedro run --pipelines retraining`, which first puts" in str(raised.value)


# Fault 8: what a rollback goes to stays.
def test_what_a_rollback_goes_to_stays_on_disk_also_when_one_is_to_be_kept(dataset):
    for version in "abc":
        decide(dataset, version, keep=1)
    names = sorted(path.name for path in (dataset.folder / "releases").iterdir())
    assert names == ["000002-b", "000003-c"]
    roll_back(dataset)
    assert in_service(dataset) == "b"


def test_what_a_rollback_goes_to_stays_on_disk_however_many_damaged_ones_are_newer(dataset):
    decide(dataset, "a", keep=1)
    for version in "bcd":
        decide(dataset, version, keep=1)
        damage(dataset)
        assert dataset.repair().in_service == "000001-a"
    decide(dataset, "e", keep=1)
    names = sorted(path.name for path in (dataset.folder / "releases").iterdir())
    assert names == ["000001-a", "000004-d.damaged", "000005-e"]
    assert previous_of(dataset) == "000001-a"


def test_damaged_releases_do_not_take_the_place_of_whole_ones(dataset):
    decide(dataset, "a", keep=2)
    decide(dataset, "b", keep=2)
    for version in "cd":
        decide(dataset, version, keep=2)
        damage(dataset)
        dataset.repair()
    decide(dataset, "e", order=Decline, keep=2)
    names = sorted(path.name for path in (dataset.folder / "releases").iterdir())
    assert names == ["000002-b", "000003-c.damaged", "000004-d.damaged"]


# Fault 9: a restore that did not keep links.
@pytest.mark.parametrize("shelved", [True, False])
def test_a_champion_that_is_a_folder_is_said_with_the_commands_that_mend_it(dataset, shelved):
    decide(dataset, "a")
    folder = dataset.load().folder
    link = dataset.folder / "champion"
    link.unlink()
    shutil.copytree(folder, link)
    if not shelved:
        shutil.rmtree(folder.parent)
    for action in (dataset.load, dataset.repair):
        with pytest.raises(ReleaseError, match="expected a link to a release") as raised:
            action()
    commands = re.search("`(.*)`", str(raised.value)).group(1)
    subprocess.run(commands, shell=True, check=True)
    assert dataset.load().name == "000001-a"
    dataset.load().check()
    assert dataset.repair() is None
    decide(dataset, "b")
    assert in_service(dataset) == "b"


@pytest.mark.parametrize("manifest", [None, "{", '{"release": "$(rm -r x)"}', '{"release": 7}'])
def test_a_champion_that_is_a_folder_without_a_name_is_said_too(dataset, manifest):
    link = dataset.folder / "champion"
    link.mkdir()
    if manifest:
        (link / "release.json").write_text(manifest)
    with pytest.raises(ReleaseError, match="expected a link to a release") as raised:
        dataset.load()
    assert "rm -r" not in str(raised.value)
    assert "releases/<the release to serve>" in str(raised.value)


def test_a_champion_that_is_a_file_is_said(dataset):
    (dataset.folder / "champion").write_text("releases/000001-a")  # as some archives keep links
    with pytest.raises(ReleaseError, match="expected a link to a release"):
        dataset.repair()


# Fault 10: whatever is wrong with a release is damage.
@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {}},
        {"files": {"metrics.json": 7}},
        {"files": None},
        {"fingerprint": 7},
        {"previous": 7},
        {"model_version": None},
    ],
)
def test_a_manifest_of_other_types_is_damage_like_any_other(dataset, change):
    decide(dataset, "a")
    decide(dataset, "b")
    manifest = dataset.load().folder / "release.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ReleaseError, match="is damaged"):
        dataset.load()
    assert dataset.repair().in_service == "000001-a"


@pytest.mark.parametrize("content", ["[]", "7", '"release"', "null"])
def test_a_manifest_that_is_no_object_is_damage_like_any_other(dataset, content):
    decide(dataset, "a")
    decide(dataset, "b")
    (dataset.load().folder / "release.json").write_text(content)
    assert dataset.repair().in_service == "000001-a"


def lead(dataset, target):
    """Make a link of a file of the champion."""
    path = dataset.load().folder / "metrics.json"
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("target", [".", "nowhere", "report.html/inside"])
def test_a_file_that_is_not_there_is_damage_like_any_other(dataset, target):
    decide(dataset, "a")
    decide(dataset, "b")
    lead(dataset, target)
    with pytest.raises(ReleaseError, match=r"metrics\.json is damaged"):
        dataset.load().check()
    assert dataset.repair().in_service == "000001-a"


@pytest.mark.parametrize("target", ["metrics.json", "/proc/self/mem"])
def test_a_file_that_cannot_be_read_is_no_damage_and_nothing_changes(dataset, target):
    decide(dataset, "a")
    decide(dataset, "b")
    lead(dataset, target)  # to itself, or to what gives an error of input
    with pytest.raises(ReleaseError, match=r"metrics\.json cannot be read.*Nothing was changed"):
        dataset.repair()
    assert dataset.load().name == "000002-b"


def test_a_manifest_that_may_not_be_read_is_no_damage_and_nothing_changes(dataset, monkeypatch):
    decide(dataset, "a")
    decide(dataset, "b")
    read = Path.read_text

    def refuse(path, *arguments, **options):
        if path.name == "release.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ReleaseError, match=r"release\.json cannot be read"):
        dataset.repair()
    monkeypatch.undo()
    assert dataset.load().name == "000002-b"
    assert {path.name for path in (dataset.folder / "releases").iterdir()} == {
        "000001-a",
        "000002-b",
    }


def test_half_a_release_that_is_being_removed_does_not_look_like_one(dataset, monkeypatch):
    for version in "abc":
        decide(dataset, version)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    decide(dataset, "d", keep=1)
    monkeypatch.undo()
    names = {path.name for path in (dataset.folder / "releases").glob("[0-9]*")}
    assert names == {"000003-c", "000004-d"}
    decide(dataset, "e", keep=1)
    names = {path.name for path in (dataset.folder / "releases").iterdir()}
    assert names == {"000004-d", "000005-e"}


def test_a_candidate_is_promoted_only_beside_the_release_that_it_was_judged_with(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    roll_back(dataset)
    with pytest.raises(DatasetError, match=r"expected 000002-b in service.*received 000001-a"):
        decide(dataset, "c", beside="000002-b")
    assert in_service(dataset) == "a"
    assert (dataset.folder / "candidate/metrics.json").exists()


def test_what_could_not_be_judged_to_the_end_is_kept_aside_and_may_be_tried_again(dataset):
    decide(dataset, "a")
    decide(dataset, "b", order=Decline, judged=False)
    assert declined(dataset) == []
    assert (dataset.folder / "declined/000002-b/report.html").exists()


def kill_between_the_renames(dataset, monkeypatch, version):
    with monkeypatch.context() as patched:
        patched.setattr(ReleaseDataset, "_put_in_service", lambda *_: 1 / 0)
        with pytest.raises(DatasetError, match="division"):
            decide(dataset, version)


def test_a_promotion_that_was_killed_half_way_is_completed(dataset, monkeypatch):
    kill_between_the_renames(dataset, monkeypatch, "a")
    assert dataset.load() is None
    assert dataset.adopt() == "000001-a"
    decide(dataset, "b", order=Decline)
    kill_between_the_renames(dataset, monkeypatch, "b")
    assert dataset.adopt() == "000003-b"
    assert in_service(dataset) == "b"
    assert declined(dataset) == [], "what is in service is not declined"
    assert dataset.adopt() is None


@pytest.mark.parametrize("then", ["rolled back", "damaged", "declined another"])
def test_what_was_not_being_promoted_any_more_is_not_adopted(dataset, monkeypatch, then):
    for version in "abc":
        decide(dataset, version)
    if then == "rolled back":  # past the second one, which no person took out of service
        dataset.save(RollBack(reason="a test", to="000001-a"))
    else:
        kill_between_the_renames(dataset, monkeypatch, "d")
    if then == "damaged":
        (dataset.folder / "releases/000004-d/metrics.json").write_text("")
    if then == "declined another":
        decide(dataset, "e", order=Decline)
    before = dataset.load().name
    assert dataset.adopt() is None
    assert dataset.load().name == before


def test_a_release_leaves_also_when_the_disk_has_no_room_for_the_note(dataset, monkeypatch):
    decide(dataset, "a")
    decide(dataset, "b")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mnist_vae.jobs.declined.write_json", full)
        roll_back(dataset)
    assert in_service(dataset) == "a"
    noted = [Declined(fingerprint="print-b", release="000002-b", rolled_back=True)]
    assert declined(dataset) == noted
    decide(dataset, "c", order=Decline)
    assert [entry.release for entry in declined(dataset)] == ["000002-b", "000003-c"]
    assert not list(dataset.folder.glob("releases/.rolled-back-*"))


def test_orders_of_two_processes_wait_for_each_other(dataset, monkeypatch):
    decide(dataset, "a")
    monkeypatch.setattr(releases, "_LOCK_SECONDS", 0.01)
    with (
        FileLock(dataset.folder / ".releases.lock"),
        pytest.raises(DatasetError, match=r"The releases in .* are locked"),
    ):
        decide(dataset, "b")
    decide(dataset, "b")
    assert in_service(dataset) == "b"
