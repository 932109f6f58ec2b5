"""What the documents of the repository name."""

import re

import pytest

from tests.projects import ROOT


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "CHANGELOG.md", "README.md"])
def test_what_a_document_names_is_there(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:src|tests|conf/base|benchmarks|notebooks|\.ci)/[\w./-]*\w)`", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    assert not [link for link in links if not (ROOT / link).exists()]
