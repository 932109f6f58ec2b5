"""What the tests of the report share."""

import json

import pytest

from tests import model_files


@pytest.fixture
def make_files():
    """The maker of the files of a model."""
    return model_files.make_files


@pytest.fixture
def read_chart():
    """A reader of what the page hands to its script: the charts of an HTML page."""

    def read(html):
        pieces = html.split('<script type="application/json" class="chart-data"')[1:]
        return [json.loads(piece.split(">", 1)[1].split("</script>")[0]) for piece in pieces]

    return read
