"""The page about a model: what it shows by what there is, in one file that needs no other."""

import base64
import colorsys
import gzip
import io
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mnist_vae.params import ReportingParams
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.model import model_page
from mnist_vae.report.page import Chart, Charts, Findings, Page, Raw, Section, Table, Text, render
from mnist_vae.report.pictures import pack
from tests.model_files import make_files

PARAMS = ReportingParams()


def page_of(files):
    return render(model_page(files, PARAMS, 1))


def section_of(page, key):
    return page.split(f'<section id="{key}"')[1].split("</section>")[0]


def test_a_model_of_the_sample_says_so_loudly_and_a_squared_error_is_never_nats_of_elbo():
    page = page_of(make_files(sample=True, term="mse"))
    head = page.split("</header>")[0]
    assert '<p class="warning" role="note"><strong>This model was trained on the embedded' in head
    assert "squared error + KL, test" in head
    assert "−ELBO" not in head
    assert "compares with models of the same term alone" in section_of(page, "evaluation")


def test_the_head_names_the_model_the_day_the_figures_and_what_was_not_made():
    page = page_of(make_files())
    assert "The reference of entropy floor, nats: entropy of" in section_of(page, "evaluation")
    assert 'class="warning"' not in page
    head = page.split("</header>")[0]
    assert "<title>MNIST VAE: Report on model v1</title>" in head
    assert "Run of 5 March 2026. Trained on 200 images." in head
    for figure in ("140.00 ± 0.50", "2<small>2 in use", "3 epochs<small>1 min 1 s"):
        assert f"<dd>{figure}" in head, figure
    command = "evaluation,anomaly,denoising,model_report --params evaluation.thorough=true"
    assert f"<code>kedro run --pipelines {command}</code> adds them" in head


def test_what_a_pipeline_found_out_about_this_model_and_no_other_is_a_section():
    section = Section(key="anomalies", title="Anomalies", blocks=(Text(text="It is here."),))
    own, other = (Findings(model_version=name, sections=(section,)) for name in ("v1", "v0"))
    page = page_of(make_files(findings=(None, own)))
    assert "<p>It is here.</p>" in section_of(page, "anomalies")
    assert "kedro run --pipelines evaluation,denoising,model_report" in page
    assert '<section id="anomalies"' not in page_of(make_files(findings=(other,)))


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


def test_images_without_labels_are_reported_too():
    page = page_of(make_files(labelled=False))
    assert "label " not in section_of(page, "reconstructions")
    assert '"labels": ["images"]' in page


@pytest.mark.parametrize("name", ["metrics", "embeddings", "interpolations"])
def test_files_of_two_models_are_refused(name):
    files, picture = make_files(), Image.new("L", (40, 40))
    picture.info["model_version"] = "v0"
    others = {
        "metrics": {"metrics": files.metrics | {"model_version": "v0"}},
        "embeddings": {"latent_embeddings": files.latent_embeddings.assign(model_version="v0")},
        "interpolations": {"interpolations": picture},
    }
    message = f"The {name} are not of the model .*expected those of v1, received those of v0"
    with pytest.raises(ValueError, match=message):
        model_page(replace(files, **others[name]), PARAMS, 1)


def test_it_asks_for_nothing_but_itself():
    page = page_of(make_files())
    asked = re.findall(r'\b(?:src|href|action)="([^"]*)"', page)
    assert len(asked) > 30
    assert all(url.startswith(("#", "data:")) for url in asked)
    assert "url(" not in page.split("<style>")[1].split("</style>")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_what_others_named_is_text_and_never_markup():
    wild = '<img src=x onerror="alert(1)">\'</script>&'
    blocks = (
        Text(text=f"{wild} `{wild}`"),
        Table(caption=wild, columns=("a", wild), rows=((wild, wild),)),
        Charts(charts=(Chart(caption=wild, data=({"name": wild},)),)),
        Raw(caption=wild, text=wild),
    )
    section = Section(key="wild", title=wild, blocks=blocks)
    page = render(Page(heading=wild, statement=wild, warning=wild, sections=(section,)))
    assert "<img src=x" not in page
    assert "<code>&lt;img src=x onerror=" in page
    data = re.search(r'<script type="application/json" class="chart-data"[^>]*>(.*?)</', page)[1]
    assert json.loads(data) == [{"name": wild}], "as it was, but for the page"
    assert page.count("</script>") == len(re.findall(r"<script[ >]", page))


# The points of the latent plane
def packed(files, max_points=1000):
    """What the page is given, and the columns as its script reads them."""
    of = files.latent_embeddings, files.images, files.training_summary
    found = pack(*of, max_points, seed=1)
    content, columns = gzip.decompress(base64.b64decode(found.points)), {}
    for name, kind in found.about["columns"]:
        columns[name] = np.frombuffer(content, f"<{kind}", found.about["n"])
        content = content[columns[name].nbytes :]
    assert content == b""
    return found, columns


@pytest.mark.parametrize(
    ("shape", "size"), [((28, 28), (14, 14)), ((32, 20), (16, 10)), ((3, 90), (1, 30))]
)
def test_every_point_is_where_its_mean_is_with_its_own_loss_and_image(shape, size):
    files = make_files(300, shape=shape)
    found, columns = packed(files)
    table = files.latent_embeddings.iloc[columns["id"].astype(int)]
    assert np.array_equal(columns["x"], table["z_mean_00"])
    assert columns["loss"] == pytest.approx((table["reconstruction"] + table["kl"]).to_numpy())
    assert [found.about["splits"][code] for code in columns["split"]] == table["split"].tolist()
    assert table["label"].tolist() == sorted(table["label"])  # the traces are slices
    assert found.about["counts"] == [100, 100, 100]
    height, width, across = (found.about[name] for name in ("height", "width", "across"))
    assert (height, width) == size
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.sprite))).convert("L"))
    assert sheet.shape == (17 * height, across * width)
    greys = 36 * np.rint(columns["id"] % 251 * 7 / 255)  # the nearest of eight levels
    for row, column in np.ndindex(size):
        assert np.array_equal(sheet[row::height, column::width].ravel()[:300], greys)


def test_images_that_were_not_kept_are_points_without_a_picture():
    files = make_files(100)
    found, columns = packed(make_files(100, images=files.images[:1]))
    splits = np.array(found.about["splits"])[columns["split"]]
    assert (columns["picture"] == (splits == "train")).all()


def test_of_too_many_images_some_are_drawn_of_each_class_and_it_is_said():
    found, _ = packed(make_files(300), 60)
    assert found.caption == "Latent means of 60 of 300 images"
    assert found.about["counts"] == [20, 20, 20]


def test_of_many_dimensions_the_two_that_vary_most_are_drawn_and_of_one_heights():
    found, _ = packed(make_files(100, latent_dim=4))
    assert found.about["axes"] == ["z_mean_02", "z_mean_03"]
    assert found.caption.endswith("the 2 of 4 dimensions that vary most")
    found, columns = packed(make_files(100, latent_dim=1))
    assert (found.about["equal"], len(columns["y"])) == (False, 100)


@pytest.mark.parametrize("names", [None, ["circle", "é", "a long name of a class"]])
def test_labels_have_their_names_and_some_missing_is_a_group_of_its_own(names):
    files = make_files(90, class_names=names)
    table = files.latent_embeddings
    table["label"] = table["label"].astype(float).where(table["image_id"] >= 9)
    found, _ = packed(files)
    shown = [*(names or "012"), "none"]
    assert found.about["labels"] == [row[0] for row in found.table.rows] == shown
    assert found.about["colours"] == [*map(colour_of, range(3)), NO_LABEL]
    assert found.about["counts"] == [27, 27, 27, 9]


def test_any_number_of_classes_have_colours_of_their_own():
    names = map(colour_of, [*range(100), None])
    colours = [[int(name[place : place + 2], 16) for place in (1, 3, 5)] for name in names]
    for count, least in ((12, 30), (101, 10)):
        pairs = itertools.combinations([*colours[:count], colours[-1]][:count], 2)
        assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs) >= least
    lightness = [colorsys.rgb_to_hls(*(part / 255 for part in one))[1] for one in colours]
    assert all(0.3 < one < 0.7 for one in lightness), "seen on black and on white"
    assert colour_of(255) == colour_of(None) == NO_LABEL
