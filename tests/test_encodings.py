"""Text is UTF-8, whatever the locale of who runs it says."""

import ast
import re
from pathlib import Path

import mnist_vae

PACKAGE = Path(mnist_vae.__file__).parent
OPENS_TEXT = re.compile(
    r"\b(fdopen|read_text|write_text|TextIOWrapper|NamedTemporaryFile)\(|\btext=True"
    r"|(?<!\bos\.)(?<!\bImage\.)(?<!\btarfile\.)(?<!\bwebbrowser\.)\bopen\("
)
ENCODING_OR_BINARY = re.compile(r"\bencoding=|\*\*|'[rwxa][+]?b[+]?'")


def test_every_call_that_opens_text_names_its_encoding():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
        found += [
            f"{path.relative_to(PACKAGE)}: {call}"
            for call in calls
            if OPENS_TEXT.search(call) and not ENCODING_OR_BINARY.search(call)
        ]
    assert found == []
