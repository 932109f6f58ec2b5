"""Which room may import which, as CONTRIBUTING.md has it."""

import ast
from pathlib import Path

import mnist_vae

PACKAGE = Path(mnist_vae.__file__).parent

# From the ground up: a room imports what is on the floors below it.
FLOORS = [
    {"params"},
    {"vae", "config"},
    {"data"},
    {"jobs", "engines", "recipe", "report", "serving"},
    {"pipelines", "hooks", "failures", "monitoring"},
    {"pipeline_registry", "settings", "commands", "explorer", "schedule", "sweep"},
    {"cli", "__main__", "__init__"},
]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path):
    """Return the rooms of the package that the file imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("mnist_vae.")}
    return {room for room in rooms if not room.startswith("__")}


IMPORTS = {path: rooms_imported(path) for path in sorted(PACKAGE.rglob("*.py"))}


def test_a_room_imports_only_rooms_on_floors_below_it():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upwards = [
        (str(path.relative_to(PACKAGE)), room)
        for path, rooms in IMPORTS.items()
        for room in rooms - {room_of(path)}
        if floor[room] >= floor[room_of(path)]
    ]
    assert upwards == []


def test_only_the_registry_imports_the_pipelines():
    importers = {room_of(path) for path, rooms in IMPORTS.items() if "pipelines" in rooms}
    assert importers <= {"pipelines", "pipeline_registry"}


def test_the_model_is_keras_alone():
    files = [path for path in IMPORTS if room_of(path) == "vae"]
    assert set().union(*(IMPORTS[path] for path in files)) == {"vae", "params"}
    text = "".join(path.read_text() for path in files)
    assert "kedro" not in text
    # Of the parameters the types alone.
    assert text.count("if TYPE_CHECKING:\n    from mnist_vae.params") == text.count("_vae.params")
