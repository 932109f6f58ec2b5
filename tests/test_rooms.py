"""Which room may import which, as CONTRIBUTING.md has it."""

import ast
from pathlib import Path

import pytest

import mnist_vae

PACKAGE = Path(mnist_vae.__file__).parent

# From the ground up. What is on no floor is around a run: it may import all, and no floor it.
FLOORS = [
    {"params", "parameter_check", "vae", "data"},
    {"jobs"},
    {"encoding", "recipe"},
    {"report"},
    {"pipelines"},
    {"pipeline_registry"},
]


def rooms_imported(path):
    """Return the rooms of the package that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnist_vae"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("mnist_vae.")
            ]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor_of(room):
    return next((n for n, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_room_imports_one_on_a_floor_above_it(path):
    floor = floor_of(room_of(path))
    rooms = {room for room in rooms_imported(path) if not room.startswith("__")}
    assert not {room for room in rooms if floor_of(room) > floor}


def test_only_the_registry_imports_the_pipelines():
    importers = {
        room_of(path) for path in PACKAGE.rglob("*.py") if "pipelines" in rooms_imported(path)
    }
    assert importers <= {"pipelines", "pipeline_registry"}


def test_the_model_is_keras_alone():
    imported = {room for path in (PACKAGE / "vae").glob("*.py") for room in rooms_imported(path)}
    assert imported == {"vae", "params"}, "of the parameters the types alone"
    text = "".join(path.read_text() for path in (PACKAGE / "vae").glob("*.py"))
    assert "kedro" not in text
    assert text.count("if TYPE_CHECKING:\n    from mnist_vae.params") == text.count("_vae.params")
