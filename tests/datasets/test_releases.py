"""The model in service: old or new, never both, and a damaged one does not stay there."""

import json

import pytest

from mnist_vae.datasets import releases
from mnist_vae.datasets.releases import DeclinedDataset, ReleaseDataset, ReleaseError


@pytest.fixture
def dataset(tmp_path):
    return ReleaseDataset(path=str(tmp_path))


def decide(dataset, version, action="promote", keep=5):
    """Make a candidate and save a decision about it."""
    candidate = dataset.folder / "candidate"
    candidate.mkdir(exist_ok=True)
    (candidate / "metrics.json").write_text(json.dumps({"of": version}))
    (candidate / "report.html").write_text(version)
    decision = {
        "action": action,
        "model_version": version,
        "fingerprint": f"print-{version}",
        "record": {"gain": 1.5},
        "keep": keep,
    }
    dataset.save(decision)


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
    decide(dataset, "b", action="decline")
    assert in_service(dataset) == "a"
    assert (dataset.folder / "declined/000002-b/report.html").read_text() == "b"
    assert DeclinedDataset(path=str(dataset.folder)).load() == ["print-b"]


@pytest.mark.parametrize("step", ["_write_json", "_sync"])
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
    dataset.save({"action": "roll_back"})
    assert in_service(dataset) == "c"
    for version in "efg":
        decide(dataset, version, action="decline", keep=1)
    assert in_service(dataset) == "c"
    assert [path.name for path in (dataset.folder / "declined").iterdir()] == ["000007-g"]


def test_a_rollback_puts_the_one_before_in_service_and_declines_the_other(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    dataset.save({"action": "roll_back"})
    assert in_service(dataset) == "a"
    assert DeclinedDataset(path=str(dataset.folder)).load() == ["print-b"]
    with pytest.raises(ReleaseError, match="There is no release to go back to"):
        dataset.save({"action": "roll_back"})


def damage(dataset):
    path = dataset.load().folder / "metrics.json"
    path.write_text(path.read_text().replace("of", "xx"))


def test_a_damaged_release_is_replaced_by_the_last_whole_one(dataset):
    decide(dataset, "a")
    decide(dataset, "b")
    damage(dataset)
    with pytest.raises(ReleaseError, match=r"metrics.json is damaged: expected SHA-256"):
        dataset.load().check()
    assert "000001-a is in service instead" in dataset.repair()
    assert in_service(dataset) == "a"
    assert (dataset.folder / "releases/000002-b.damaged").is_dir()
    assert dataset.repair() is None
    decide(dataset, "c")
    assert dataset.load().name == "000003-c"


def test_a_release_that_was_rolled_back_does_not_come_back_as_a_replacement(dataset):
    for version in "abc":
        decide(dataset, version)
    dataset.save({"action": "roll_back"})
    damage(dataset)
    dataset.repair()
    assert in_service(dataset) == "a"


def test_without_a_whole_release_there_is_no_champion(dataset):
    decide(dataset, "a")
    (dataset.load().folder / "release.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"is damaged: expected its release\.json"):
        dataset.load()
    assert "judged as a first one" in dataset.repair()
    assert dataset.load() is None
    decide(dataset, "b")
    assert in_service(dataset) == "b"


def test_a_champion_whose_folder_is_gone_is_repaired_too(dataset):
    decide(dataset, "a")
    dataset.load().folder.rename(dataset.folder / "elsewhere")
    assert "judged as a first one" in dataset.repair()
    assert dataset.load() is None


def test_nothing_to_promote_is_said(dataset):
    with pytest.raises(ReleaseError, match="There is no candidate to decide about"):
        dataset.save({"action": "promote"})
