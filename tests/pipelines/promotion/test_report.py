"""The page about a candidate."""

import re

import pytest
from PIL import Image

from mnist_vae.jobs.records import BatchRecord, Check, Decision, Drift, Figures, Intake, Plan
from mnist_vae.params import ReportingParams
from mnist_vae.pipelines.promotion.report import write_report
from tests.model_files import make_files
from tests.pipelines.conftest import PICTURES, Serving

DRIFT = Drift(
    drifted=True, effect=0.3, p_value=1e-9, distances={"z_mean_00": 0.3}, negative_elbo=150.0
)
COMPARED = {
    "champion": Figures(negative_elbo=140.0, active_units=2, accuracy=0.8),
    "gains": (0.1, -0.2),
    "gain": -0.05,
    "gain_interval": (-0.1, 0.0),
    "previous": "000001-old",
}


@pytest.fixture(scope="module")
def write(served):
    def run(champion=True, outcome="kept", term="binary_crossentropy", **of_files):
        files = make_files(term=term, **of_files)
        splits = zip(("train", "validation", "test"), files.images, strict=True)
        candidate = Serving(
            {
                "training_summary.json": files.training_summary,
                "metrics.json": files.metrics,
                "latent_embeddings.parquet": files.latent_embeddings,
                "decoder.keras": files.decoder,
                "training_history.parquet": files.training_history,
                "run_manifest.json": files.run_manifest,
                "generated_images.parquet": files.generated_images,
                **{f"{split}_images.parquet": images for split, images in splits},
                **{f"{name}.png": Image.new("L", (4, 4)) for name in PICTURES},
            }
        )
        decision = Decision(
            outcome=outcome,
            reason="it failed: <gain>",
            checks=(Check(what="gain", received="-0.05", expected="> 0.5", passed=False),),
            candidate=Figures(negative_elbo=140.05, active_units=2, accuracy=0.79),
            judge_images=2850,
            judge_digest="d",
            model_version="new",
            fingerprint="f",
            gate="g",
            reconstruction=term,
            **(COMPARED if champion else {}),
        )
        batches = {
            "monday": BatchRecord(outcome="bad", reasons=("1 < 2",)),
            "<b>": BatchRecord(outcome="accepted", images=40, drift=DRIFT),
        }
        return write_report(
            decision,
            Plan(fingerprint="f", parts={}, gate="g", outcome=None, reason="the <data> are new"),
            Intake(batches=batches),
            candidate,
            Serving(served) if champion else None,
            files.images[2].take(slice(0)),
            ReportingParams(),
            1,
        )

    return run


@pytest.fixture(scope="module")
def page(write):
    return write()


def row_of(text, name):
    """The cells of the row of this name."""
    row = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', text)[1]
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_it_says_what_was_decided_and_why_and_shows_old_and_new_side_by_side(page):
    assert "Candidate new was not put in service" in page
    assert page.count('of the champion"') == page.count('of the candidate"') == len(PICTURES)
    assert "the candidate gains −0.050 nats an image over" in page
    assert "95 % interval −0.100 to 0.000; by seed 0.100, −0.200" in page
    assert "On the same 2,850 images, which neither model was trained on" in page
    name = "−ELBO, nats an image, test images (reported only)"
    assert row_of(page, name) == ["140.00", "140.00"]
    assert row_of(page, "−ELBO, nats an image, judge&#39;s images") == ["140.05", "140.00"]
    assert "drifted, distance 0.300 of z_mean_00, p = 1e-09" in page


def test_it_is_a_page_of_the_same_report(page):
    keys = ("decision", "comparison", "batches", "evaluation", "learning", "latent")
    order = [page.index(f'<section id="{key}"') for key in keys]
    assert order == sorted(order)


@pytest.mark.parametrize("wild", ["<gain>", "<data>", "1 < 2", "<b>"])
def test_what_others_named_is_text_and_never_markup(wild, page):
    assert wild not in page
    assert wild.replace("<", "&lt;").replace(">", "&gt;") in page


def test_a_first_candidate_of_the_sample_is_compared_with_none_and_says_what_it_is_of(write):
    text = write(champion=False, outcome="promoted", sample=True)
    assert "Candidate new is in service" in text
    assert '<section id="comparison"' not in text
    assert "of the champion" not in text
    assert "95 % interval" not in text
    assert "The release before: none" in text
    assert 'class="warning"' in text.split("</header>")[0]


def test_with_a_squared_error_nothing_is_called_nats_of_elbo(write):
    section = write(term="mse").split('<section id="decision"')[1].split("</section>")[0]
    assert "gains −0.050 an image" in section
    assert "−ELBO, nats" not in section
    assert "compares with models of the same term alone" in section
