"""What a disk may hold after the power failed: every moment of a recorded run, tried in turn.

`record` runs a function in a process of its own under `strace` and returns its calls to the file
system. `states` rebuilds the folder as a power failure may leave it after each of these calls. A
disk may keep only what was synced: the content of a file after `fsync` of the file; a name (of a
new file, a rename, a removal) after `fsync` of the folder, or of both folders. Of what was not
synced yet the disk may have kept all, nothing, or a part.

What calls of this kind cannot tell stops the recording: writing through `mmap`, and files that a
child process writes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_CALLS = (
    *("open", "openat", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "writev", "pwrite64", "pwritev", "ftruncate", "truncate", "fallocate"),
    *("sendfile", "copy_file_range", "fsync", "fdatasync", "sync", "syncfs"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
)

_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)\b.*")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')

# Every choice of what was not synced yet is tried while there are so few of them.
_ALL_CHOICES_UP_TO = 5


@dataclass(frozen=True)
class Call:
    """A call to the file system that succeeded: its name, arguments as text, and result."""

    name: str
    arguments: tuple[str, ...]
    texts: tuple[bytes, ...]
    result: int


@dataclass(frozen=True)
class State:
    """A folder as a power failure may leave it, how it came to be, and if the run had ended."""

    folder: Path
    how: str
    ended: bool


def reason_not_to_trace() -> str | None:
    """Return why `strace` cannot be used here, or None."""
    if shutil.which("strace") is None:
        return "strace is needed: it comes with Debian's package of that name"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True)
    if tried.returncode:
        return f"strace is needed, and may not trace here: {tried.stderr.decode()}"
    return None


def record(function: Callable[..., None], *arguments: str, trace: Path) -> list[Call]:
    """Run a function of a module, in another process, and return its calls to the file system.

    Args:
        function: What to run.
        *arguments: What it is called with.
        trace: The file for the output of `strace`, outside of the folder that is looked at.
    """
    code = (
        "import importlib, sys; module, name, *rest = sys.argv[1:]; "
        "getattr(importlib.import_module(module), name)(*rest)"
    )
    traced = "trace=" + ",".join(f"?{name}" for name in _CALLS)
    strace = ["strace", "-f", "--seccomp-bpf", "-xx", "-s", "16777216", "-e", "signal=none"]
    python = [sys.executable, "-c", code, function.__module__, function.__qualname__]
    subprocess.run(
        [*strace, "-e", traced, "-o", str(trace), *python, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd="/",
        check=True,
    )
    return list(_calls(trace))


def _calls(trace: Path) -> Iterator[Call]:
    begun: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            whole = line.rstrip("\n")
            if unfinished := _UNFINISHED.fullmatch(whole):
                begun[unfinished[1]] = unfinished[2]
                continue
            if resumed := _RESUMED.fullmatch(whole):
                whole = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}"
            call = _LINE.fullmatch(whole)
            if call and int(call[4]) >= 0:
                texts = _TEXT.findall(call[3])
                assert not any(cut for _, cut in texts), f"{call[2]} wrote more than is recorded"
                yield Call(
                    call[2],
                    tuple(_TEXT.sub("text", call[3]).split(", ")),
                    tuple(bytes.fromhex(text.replace("\\x", "")) for text, _ in texts),
                    int(call[4]),
                )


@dataclass(frozen=True)
class _Link:
    target: str


# A folder is the names in it, each with the number of what it is; a file is its bytes.
_Node = dict[str, int] | bytearray | _Link
_Tree = dict[str, "_Tree"] | bytes | _Link


@dataclass(frozen=True)
class _Change:
    """Names that come, go or lead elsewhere (None: nowhere), or bytes of a file."""

    what: str
    names: tuple[tuple[int, str, int | None], ...] = ()
    file: int | None = None
    offset: int = 0
    data: bytes | None = None  # None: the file is cut, or filled with zeros, to `offset`

    def waits_for(self) -> set[int]:
        return {self.file} if self.file is not None else {folder for folder, _, _ in self.names}


@dataclass(frozen=True)
class _Sync:
    node: int


@dataclass
class _Disk:
    """Files and folders by number, so that a name can be lost without what it names."""

    nodes: dict[int, _Node] = field(default_factory=dict)

    def new(self, node: _Node) -> int:
        self.nodes[len(self.nodes)] = node
        return len(self.nodes) - 1

    def copy(self) -> _Disk:
        return _Disk({n: x if isinstance(x, _Link) else x.copy() for n, x in self.nodes.items()})

    def apply(self, change: _Change) -> None:
        for folder, name, node in change.names:
            names = self.folder(folder)
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        if change.file is not None:
            content = self.file(change.file)
            end = change.offset
            content.extend(bytes(max(0, end - len(content))))
            if change.data is None:
                del content[end:]
            else:
                content[end : end + len(change.data)] = change.data

    def folder(self, number: int) -> dict[str, int]:
        node = self.nodes[number]
        assert isinstance(node, dict)
        return node

    def file(self, number: int) -> bytearray:
        node = self.nodes[number]
        assert isinstance(node, bytearray)
        return node

    def tree(self, number: int = 0) -> _Tree:
        node = self.nodes[number]
        if isinstance(node, dict):
            return {name: self.tree(inner) for name, inner in sorted(node.items())}
        return bytes(node) if isinstance(node, bytearray) else node


def _read(path: Path, disk: _Disk) -> int:
    if path.is_symlink():
        return disk.new(_Link(str(path.readlink())))
    if path.is_file():
        return disk.new(bytearray(path.read_bytes()))
    names: dict[str, int] = {}
    number = disk.new(names)
    names.update({inner.name: _read(inner, disk) for inner in path.iterdir()})
    return number


def _write(tree: _Tree, path: Path) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            _write(inner, path / name)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)
    else:
        path.symlink_to(tree.target)


@dataclass
class _Open:
    """An open file or folder; its offset moves with every call that writes."""

    node: int
    offset: int = 0
    append: bool = False


class _Replay:
    """Follows the calls of one process, and notes what they change under `root`."""

    def __init__(self, root: Path, initial: Path) -> None:
        self.root = PurePosixPath(root)
        self.disk = _Disk()
        _read(initial, self.disk)
        self.before = self.disk.copy()
        self.open: dict[int, _Open] = {}
        self.events: list[_Change | _Sync] = []

    def follow(self, calls: Iterable[Call]) -> None:
        for call in calls:
            getattr(self, f"_{call.name}", self._unknown)(call)

    def _unknown(self, call: Call) -> None:
        descriptors = [int(value) for value in call.arguments if value.isdigit()]
        paths = [self._path(text) for text in call.texts if text.startswith(b"/")]
        if call.name in ("sync", "syncfs") or any(paths) or self.open.keys() & set(descriptors):
            raise NotImplementedError(f"The replay does not know {call}; teach it this call.")

    def _change(self, change: _Change) -> None:
        # What has a name now exists in `before` too, without a name.
        for number in self.disk.nodes.keys() - self.before.nodes.keys():
            node = self.disk.nodes[number]
            self.before.nodes[number] = node if isinstance(node, _Link) else type(node)()
        self.disk.apply(change)
        self.events.append(change)

    # Paths

    def _path(self, text: bytes, folder: str = "AT_FDCWD") -> tuple[int, list[str]] | None:
        """Return the folder to start from and the parts of the path, or None if outside."""
        path = PurePosixPath(os.fsdecode(text))
        if not path.is_absolute() and folder != "AT_FDCWD":
            opened = self.open.get(int(folder))
            return (opened.node, list(path.parts)) if opened else None
        if path.is_relative_to(self.root) and path != self.root:
            return (0, list(path.relative_to(self.root).parts))
        return (0, ["."]) if path == self.root else None

    def _parent(self, start: int, parts: list[str]) -> tuple[int, str]:
        """Return the folder, and the name in it, that a path leads to."""
        number = start
        for part in parts[:-1]:
            number = self._step(number, part)
        return number, parts[-1]

    def _step(self, folder: int, part: str) -> int:
        number = self.disk.folder(folder)[part] if part != "." else folder
        node = self.disk.nodes[number]
        if not isinstance(node, _Link):
            return number
        target = PurePosixPath(node.target)
        parts = list(target.parts)
        if target.is_absolute():
            folder, parts = 0, list(target.relative_to(self.root).parts)
        for inner in parts:
            folder = self._step(folder, inner)
        return folder

    def _entry(self, text: bytes, folder: str = "AT_FDCWD") -> tuple[int, str] | None:
        found = self._path(text, folder)
        return self._parent(*found) if found else None

    # Open files

    def _openat(self, call: Call) -> None:
        folder, _, flags = call.arguments[:3]
        self._opened(call, self._entry(call.texts[0], folder), flags)

    def _open(self, call: Call) -> None:
        self._opened(call, self._entry(call.texts[0]), call.arguments[1])

    def _creat(self, call: Call) -> None:
        self._opened(call, self._entry(call.texts[0]), "O_WRONLY|O_CREAT|O_TRUNC")

    def _opened(self, call: Call, entry: tuple[int, str] | None, flags: str) -> None:
        self.open.pop(call.result, None)
        if entry is None:
            return
        folder, name = entry
        if name != "." and name not in self.disk.folder(folder):
            assert "O_CREAT" in flags, call
            number = self.disk.new(bytearray())
            self._change(_Change(f"create {name}", names=((folder, name, number),)))
        number = self._step(folder, name)
        if "O_TRUNC" in flags and self.disk.file(number):
            self._change(_Change(f"empty {name}", file=number))
        self.open[call.result] = _Open(number, append="O_APPEND" in flags)

    def _close(self, call: Call) -> None:
        self.open.pop(int(call.arguments[0]), None)

    def _dup(self, call: Call) -> None:
        self.open.pop(call.result, None)
        if opened := self.open.get(int(call.arguments[0])):
            self.open[call.result] = opened

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call) -> None:
        if "F_DUPFD" in call.arguments[1]:
            self._dup(call)

    def _lseek(self, call: Call) -> None:
        if opened := self.open.get(int(call.arguments[0])):
            opened.offset = call.result

    # Content

    def _write(self, call: Call) -> None:
        if opened := self.open.get(int(call.arguments[0])):
            if opened.append:
                opened.offset = len(self.disk.file(opened.node))
            self._put(opened.node, opened.offset, call)
            opened.offset += call.result

    _writev = _write

    def _pwrite64(self, call: Call) -> None:
        if opened := self.open.get(int(call.arguments[0])):
            self._put(opened.node, int(call.arguments[-1]), call)

    _pwritev = _pwrite64

    def _put(self, file: int, offset: int, call: Call) -> None:
        data = b"".join(call.texts)[: call.result]
        self._change(_Change(f"write {len(data)} bytes", file=file, offset=offset, data=data))

    def _ftruncate(self, call: Call) -> None:
        if opened := self.open.get(int(call.arguments[0])):
            self._change(_Change("truncate", file=opened.node, offset=int(call.arguments[1])))

    def _fsync(self, call: Call) -> None:
        if opened := self.open.get(int(call.arguments[0])):
            self.events.append(_Sync(opened.node))

    _fdatasync = _fsync

    # Names

    def _mkdirat(self, call: Call) -> None:
        self._named(self._entry(call.texts[0], call.arguments[0]), {})

    def _mkdir(self, call: Call) -> None:
        self._named(self._entry(call.texts[0]), {})

    def _symlink(self, call: Call) -> None:
        self._named(self._entry(call.texts[1]), _Link(os.fsdecode(call.texts[0])))

    def _symlinkat(self, call: Call) -> None:
        entry = self._entry(call.texts[1], call.arguments[1])
        self._named(entry, _Link(os.fsdecode(call.texts[0])))

    def _named(self, entry: tuple[int, str] | None, node: _Node) -> None:
        if entry:
            folder, name = entry
            kind = "link" if isinstance(node, _Link) else "make"
            change = ((folder, name, self.disk.new(node)),)
            self._change(_Change(f"{kind} {name}", names=change))

    def _unlinkat(self, call: Call) -> None:
        self._gone(self._entry(call.texts[0], call.arguments[0]))

    def _unlink(self, call: Call) -> None:
        self._gone(self._entry(call.texts[0]))

    _rmdir = _unlink

    def _gone(self, entry: tuple[int, str] | None) -> None:
        if entry:
            self._change(_Change(f"remove {entry[1]}", names=((*entry, None),)))

    def _rename(self, call: Call) -> None:
        self._renamed(self._entry(call.texts[0]), self._entry(call.texts[1]), call)

    def _renameat(self, call: Call) -> None:
        assert "RENAME_EXCHANGE" not in call.arguments[-1], call
        source = self._entry(call.texts[0], call.arguments[0])
        self._renamed(source, self._entry(call.texts[1], call.arguments[2]), call)

    _renameat2 = _renameat

    def _renamed(
        self, source: tuple[int, str] | None, target: tuple[int, str] | None, call: Call
    ) -> None:
        assert (source is None) == (target is None), f"{call} crosses the border of the folder"
        if source and target:
            number = self.disk.folder(source[0])[source[1]]
            names = ((*source, None), (*target, number))
            self._change(_Change(f"rename {source[1]} to {target[1]}", names=names))


def states(calls: Iterable[Call], root: Path, initial: Path, where: Path) -> Iterator[State]:
    """Yield every state, but equal ones once, that a power failure may leave.

    After each change or `fsync`, and before the first, the disk holds: all that was changed; what
    was synced alone; all names, but the content that was not synced is missing, or torn in the
    middle; and all but one of the changes that were not synced, or any choice of them where they
    are few.

    Args:
        calls: What was recorded.
        root: The folder as the recorded process knew it, which now is as it left it.
        initial: A copy of the folder as it was before.
        where: A folder for the states; each is there until the next one is asked for.
    """
    replay = _Replay(root, initial)
    replay.follow(calls)
    end = _Disk()
    _read(root, end)
    assert replay.disk.tree() == end.tree(), "the recording does not lead to what the run left"
    seen: set[bytes] = set()
    for ended, how, disk in _disks(replay.before, replay.events):
        tree = disk.tree()
        digest = hashlib.sha256(repr((ended, tree)).encode()).digest()
        if digest not in seen:
            seen.add(digest)
            folder = where / f"{len(seen):06d}"
            _write(tree, folder)
            yield State(folder, how, ended)
            shutil.rmtree(folder)


def _disks(before: _Disk, events: list[_Change | _Sync]) -> Iterator[tuple[bool, str, _Disk]]:
    changes = [event for event in events if isinstance(event, _Change)]
    positions = [n for n, event in enumerate(events) if isinstance(event, _Change)]
    synced_at = [_synced_at(events, position) for position in positions]
    for moment in range(len(events) + 1):
        done = [n for n, position in enumerate(positions) if position < moment]
        kept = [n for n in done if synced_at[n] < moment]
        waiting = [n for n in done if synced_at[n] >= moment]
        last = changes[done[-1]].what if done else "nothing"
        for how, choice, torn in _choices(changes, done, kept, waiting):
            disk = before.copy()
            for n in choice:
                disk.apply(changes[n])
            for file in torn:
                content = disk.file(file)
                del content[len(content) // 2 :]
            yield moment == len(events), f"after event {moment} ({last}): {how}", disk


def _choices(
    changes: list[_Change], done: list[int], kept: list[int], waiting: list[int]
) -> Iterator[tuple[str, list[int], set[int]]]:
    """Yield which of the changes are on the disk, and which files are torn."""
    files = {file for n in waiting if (file := changes[n].file) is not None}
    yield "all is there", done, set()
    yield "what was not synced is lost", kept, set()
    names = [n for n in done if n in kept or changes[n].file is None]
    yield "content that was not synced is lost", names, set()
    yield "content that was not synced is torn", done, files
    if len(waiting) <= _ALL_CHOICES_UP_TO:
        lost = [c for size in range(len(waiting)) for c in itertools.combinations(waiting, size)]
    else:
        lost = [(n,) for n in waiting]
    for some in lost:
        what = ", ".join(changes[n].what for n in some)
        yield f"lost: {what}", [n for n in done if n not in some], set()


def _synced_at(events: list[_Change | _Sync], index: int) -> int:
    """Return the position of the event by which a change is on the disk for good."""
    change = events[index]
    assert isinstance(change, _Change)
    missing = change.waits_for()
    for position in range(index + 1, len(events)):
        event = events[position]
        if isinstance(event, _Sync):
            missing = missing - {event.node}
            if not missing:
                return position
    return len(events) + 1
