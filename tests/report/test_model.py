"""What the report says of a model, whatever it has of it."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Findings, Section, Text
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render

PARAMS = ReportingParams()


def page_of(files):
    return render(model_page(files, PARAMS, 1))


def text_of(html, key):
    """The text of a section."""
    section = html.split(f'<section id="{key}"')[1].split("</section>")[0]
    section = re.sub(r"<script.*?</script>", "", section, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", section).split())


def test_a_model_of_the_sample_says_so_loudly_and_one_of_mnist_does_not(make_files):
    loud = page_of(make_files(sample=True))
    head = loud.split("</header>")[0]
    assert '<p class="warning" role="note"><strong>This model was trained on the embedded' in head
    assert "not the full MNIST" in head
    assert "Published figures are of the whole MNIST" in text_of(loud, "evaluation")
    assert "reference" not in text_of(loud, "evaluation").split("Published")[0]
    quiet = page_of(make_files())
    assert 'class="warning"' not in quiet
    text = text_of(quiet, "evaluation")
    assert "The reference of entropy floor, nats: entropy of the grey" in text


def test_the_figures_that_matter_are_at_the_head(make_files):
    head = page_of(make_files()).split("</header>")[0]
    for figure in ("140.00 ± 0.50", "2<small>2 in use", "3 epochs<small>1 min 1 s"):
        assert f"<dd>{figure}" in head, figure


@pytest.mark.parametrize(
    ("thorough", "command"),
    [
        (False, "evaluation,anomaly,denoising,model_report --params evaluation.thorough=true"),
        (True, "anomaly,denoising,model_report</code>"),
    ],
)
def test_what_was_not_made_is_one_sentence_with_the_command(make_files, thorough, command):
    found = (findings("v1", "It is here."),) if thorough else ()
    head, _, body = page_of(make_files(findings=found)).partition("</header>")
    assert head.count("Not made for this model: ") == 1
    assert f"<code>kedro run --pipelines {command}" in head
    assert not {"anomalies", "denoising"} & set(re.findall('<section id="([a-z]+)"', body))


def test_it_names_the_model_and_the_day(make_files):
    files = make_files()
    html = page_of(files)
    assert "<title>MNIST VAE: Report on model v1</title>" in html
    assert "Run of 5 March 2026. Trained on 200 images." in html
    earlier = {name: value for name, value in files.run_manifest.items() if name != "date"}
    assert ">Trained on 200 images." in page_of(replace(files, run_manifest=earlier))


def findings(version, said):
    section = Section(key="loss", title="Where the loss is", blocks=(Text(text=said),))
    return Findings(model_version=version, sections=(section,))


def test_what_a_pipeline_found_out_is_a_section(make_files):
    html = page_of(make_files(findings=(None, findings("v1", "It is here."))))
    assert text_of(html, "loss").endswith("It is here.")
    assert html.count('<section id="loss"') == 1


def test_what_it_found_out_about_another_model_is_left_out(make_files):
    html = page_of(make_files(findings=(findings("v0", "It was there."),)))
    assert "It was there" not in html
    assert '<section id="loss"' not in html


def test_a_squared_error_is_never_called_nats_of_elbo(make_files):
    html = page_of(make_files(term="mse"))
    head = html.split("</header>")[0]
    assert "squared error + KL, test" in head
    assert "−ELBO" not in head
    assert "compares with models of the same term alone" in text_of(html, "evaluation")
    assert "Reconstruction KL, nats Learning" in text_of(html, "learning")
    assert "KL, nats" in text_of(html, "learning")


def test_reconstructions_go_from_the_best_test_image_to_the_worst(make_files):
    html = page_of(make_files())
    section = html.split('<section id="reconstructions"')[1].split("</section>")[0]
    losses = [float(found) for found in re.findall(r"<figcaption>([\d.]+), image", section)]
    assert losses == sorted(losses)
    files = make_files()
    test = files.latent_embeddings[files.latent_embeddings["split"] == "test"]
    values = test["reconstruction"] + test["kl"]
    assert (losses[0], losses[-1]) == (values.min(), values.max())
    assert len(losses) == 20  # all of the few
    assert section.count("label ") == 20


def test_images_without_labels_are_reported_too(make_files):
    html = page_of(make_files(labelled=False))
    assert "label " not in text_of(html, "reconstructions")
    assert '"labels": ["images"]' in html


@pytest.mark.parametrize("max_points", [1000, 60])
def test_what_memory_does_not_hold_gives_the_same_report(make_files, tmp_path, max_points):
    files = make_files(300)
    on_disk = []
    for place, images in enumerate(files.images):
        dataset = ImagesDataset(filepath=str(tmp_path / f"{place}.parquet"), memory_images=10)
        dataset.save(images)
        on_disk.append(dataset.load())
    assert isinstance(on_disk[0].pixels, np.memmap)
    params = ReportingParams(report_points=max_points)
    mapped = make_files(300, images=on_disk)
    pages = [render(model_page(one, params, 1)) for one in (files, mapped)]
    assert pages[0] == pages[1]


def of_model(files, what, version):
    """The files, where those of one name are of the model of this version."""
    files = replace(files, **{what: copy.copy(getattr(files, what))})
    about = {"model_version": version}
    if what == "generated_images":
        return replace(files, generated_images=replace(files.generated_images, origin=about))
    if what == "latent_embeddings":
        return replace(files, latent_embeddings=files.latent_embeddings.assign(**about))
    found = getattr(files, what)
    (found if isinstance(found, dict) else found.info).update(about)
    return files


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("metrics", "metrics"),
        ("latent_embeddings", "embeddings"),
        ("run_manifest", "run manifest"),
        ("generated_images", "generated images"),
        ("latent_manifold", "pictures of the latent manifold"),
        ("interpolations", "interpolations"),
    ],
)
def test_files_of_two_models_are_refused(make_files, what, name):
    model_page(of_model(make_files(), what, "v1"), PARAMS, 1)
    message = f"The {name} are not of the model .*expected those of v1, received those of v0"
    with pytest.raises(ValueError, match=message):
        model_page(of_model(make_files(), what, "v0"), PARAMS, 1)
