"""Text is UTF-8, whatever the locale of who runs it says."""

import ast
from pathlib import Path

import mnist_vae

PACKAGE = Path(mnist_vae.__file__).parent
TEXT_CALLS = {"open", "fdopen", "read_text", "write_text", "TextIOWrapper", "NamedTemporaryFile"}
OTHERS_OPEN = {"os", "Image", "tarfile", "webbrowser"}  # whose `open` opens something else


def is_locale_dependent(call):
    """Return whether a call opens text, and does not say in which encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    words = {word.arg: word.value for word in call.keywords}
    if "encoding" in words or None in words:
        return False
    if name in ("run", "Popen", "check_output"):
        return getattr(words.get("text"), "value", False)
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if name not in TEXT_CALLS or owner in OTHERS_OPEN:
        return False
    constants = [node.value for node in (*call.args, words.get("mode")) if hasattr(node, "value")]
    return not any(isinstance(value, str) and "b" in value for value in constants)


def test_every_call_that_opens_text_names_its_encoding():
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and is_locale_dependent(node)
    ]
    assert found == []
