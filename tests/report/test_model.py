"""What the report shows of a model, by what there is of it."""

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.tables import ImagesDataset
from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Findings, Section, Text
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render
from tests.model_files import make_files

PARAMS = ReportingParams()
OTHER = {"model_version": "v0"}


def page_of(files):
    return render(model_page(files, PARAMS, 1))


def section_of(html, key):
    return html.split(f'<section id="{key}"')[1].split("</section>")[0]


def text_of(html, key):
    """The text of a section."""
    section = re.sub(r"<script.*?</script>", "", section_of(html, key), flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", section).split())


def findings(version, said):
    section = Section(key="anomalies", title="Anomalies", blocks=(Text(text=said),))
    return Findings(model_version=version, sections=(section,))


def test_a_model_of_the_sample_says_so_loudly_and_a_squared_error_is_never_nats_of_elbo():
    loud = page_of(make_files(sample=True, term="mse"))
    head = loud.split("</header>")[0]
    assert '<p class="warning" role="note"><strong>This model was trained on the embedded' in head
    assert "squared error + KL, test" in head
    assert "−ELBO" not in head
    assert "compares with models of the same term alone" in text_of(loud, "evaluation")
    assert "Reconstruction KL, nats Learning" in text_of(loud, "learning")


def test_the_head_names_the_model_the_day_the_figures_and_what_was_not_made():
    page = page_of(make_files())
    assert "The reference of entropy floor, nats: entropy of" in text_of(page, "evaluation")
    assert 'class="warning"' not in page
    head = page.split("</header>")[0]
    assert "<title>MNIST VAE: Report on model v1</title>" in head
    assert "Run of 5 March 2026. Trained on 200 images." in head
    for figure in ("140.00 ± 0.50", "2<small>2 in use", "3 epochs<small>1 min 1 s"):
        assert f"<dd>{figure}" in head, figure
    command = "evaluation,anomaly,denoising,model_report --params evaluation.thorough=true"
    assert f"<code>kedro run --pipelines {command}</code> adds them" in head


def test_what_a_pipeline_found_out_about_this_model_is_a_section():
    own = page_of(make_files(findings=(None, findings("v1", "It is here."))))
    assert text_of(own, "anomalies").endswith("It is here.")
    assert "kedro run --pipelines evaluation,denoising,model_report" in own
    other = page_of(make_files(findings=(findings("v0", "It was there."),)))
    assert '<section id="anomalies"' not in other


@pytest.mark.parametrize("names", [None, ["circle", "é", "<b>long name</b>"]])
def test_reconstructions_go_from_the_best_test_image_to_the_worst(names):
    files = make_files(class_names=names, shape=(32, 20))
    section = section_of(page_of(files), "reconstructions")
    losses = [float(found) for found in re.findall(r"<figcaption>([\d.]+), image", section)]
    test = files.latent_embeddings[files.latent_embeddings["split"] == "test"]
    assert losses == sorted(test["reconstruction"] + test["kl"])
    assert section.count(", label ") == 20
    assert (section.count(", é</figcaption>") > 0) == (names is not None)
    assert "<b>" not in section


def test_reconstructions_of_files_have_their_names_short_and_whole():
    files = make_files()
    names = [f"a/<b>/{'long ' * 9}{number}.png" for number in range(len(files.images[2]))]
    test = replace(files.images[2], file=np.array([*names[:-1], None], object))
    section = section_of(
        page_of(replace(files, images=[*files.images[:2], test])), "reconstructions"
    )
    assert re.search(r"<figcaption>[\d.]+, …[long ]{18}0\.png</figcaption>", section)
    assert section.count(", image 199</figcaption>") == 1, "it is no file"
    whole = html.escape(names[0])
    assert f'title="{whole}"' in section
    assert f"Image 9, {whole}, label 0, above its reconstruction" in section
    assert "with its −ELBO, nats, and its file name." in section


def test_images_without_labels_are_reported_too():
    html = page_of(make_files(labelled=False))
    assert "label " not in text_of(html, "reconstructions")
    assert '"labels": ["images"]' in html


def test_what_memory_does_not_hold_gives_the_same_report(tmp_path):
    files = make_files(300)
    on_disk = []
    for place, images in enumerate(files.images):
        dataset = ImagesDataset(filepath=str(tmp_path / f"{place}.parquet"), memory_images=10)
        dataset.save(images)
        on_disk.append(dataset.load())
    assert isinstance(on_disk[0].pixels, np.memmap)
    params = ReportingParams(report_points=60)
    mapped = replace(files, images=on_disk)
    assert model_page(files, params, 1) == model_page(mapped, params, 1)


FILES = make_files()
PICTURE = Image.new("L", (40, 40))
PICTURE.info["model_version"] = "v0"
OTHERS = {
    "metrics": {"metrics": FILES.metrics | OTHER},
    "embeddings": {"latent_embeddings": FILES.latent_embeddings.assign(**OTHER)},
    "generated images": {"generated_images": replace(FILES.generated_images, origin=OTHER)},
    "interpolations": {"interpolations": PICTURE},
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_two_models_are_refused(name):
    message = f"The {name} are not of the model .*expected those of v1, received those of v0"
    with pytest.raises(ValueError, match=message):
        model_page(replace(FILES, **OTHERS[name]), PARAMS, 1)
