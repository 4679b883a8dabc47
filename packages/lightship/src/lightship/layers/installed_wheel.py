"""One wheel laid out for an environment: what of it is installed, where, and which of its sources get bytecode.

What an installer does to a disk: schemes, scripts with the right shebang line, INSTALLER, RECORD (packaging
specifications, "Recording installed projects" and "Binary distribution format").
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lightship.layers.bytecode import bytecode_path
from lightship.layers.bytecode_choice import worth_compiling
from lightship.layers.environment import PREFIX, PYTHON, Environment
from lightship.layers.gzip_members import gzip_member
from lightship.layers.prune import BYTECODE, NEVER_OPENED, SYMBOLS, Level, always_kept, kept_paths, pruned
from lightship.layers.symbols import WORTH, Stripped, stripped
from lightship.layers.tar import Deflated, TarWriter
from lightship.layers.wheel_archive import Member, WheelArchive
from lightship.progress import Task

_INSTALLER = b"lightship\n"
_SOURCE_LIMIT = 16 << 20  # bytes; a larger Python source is data, and is not worth compiling

LeftOut = dict[str, tuple[int, int]]  # by rule: how many files of a wheel are not installed, and their bytes


@dataclass(frozen=True)
class WheelSource:
    """A locked wheel: normalised name, version, file name, sha256 in hex, size in bytes, and how to get at the file.

    `path` is called only when the layer must be written, so a cached layer never needs the wheel.

    Attributes:
        only: The files to install, as RECORD names them; .dist-info and licences come along. None installs all.
            Bytecode that is named brings its source along, and no other bytecode is made.
        compiled: All sources get bytecode, whether or not a start is likely to import them.
        keep: Patterns of files that no rule leaves out (`layers/prune.py`).
    """

    name: str
    version: str
    file_name: str
    sha256: str
    size: int
    path: Callable[[], Path] = field(compare=False)
    only: frozenset[str] | None = None
    keep: tuple[str, ...] = ()
    compiled: bool = False

    @property
    def identity(self) -> str:
        """Everything that decides what is installed of it."""
        parts = [f"{self.file_name}:{self.sha256}"]
        if self.only is not None:
            parts.append(f"only:{hashlib.sha256(json.dumps(sorted(self.only)).encode()).hexdigest()}")
        if self.keep:
            parts.append(f"keep:{json.dumps(self.keep)}")
        if self.compiled:
            parts.append("compiled")
        return " ".join(parts)


class Entry:
    """A file to be installed: a member of a wheel, or content that the installation makes."""

    def __init__(self, owner: InstalledWheel, content: Member | bytes, *, executable: bool) -> None:
        self.owner = owner
        self._content = content
        self._mode = 0o755 if executable else 0o644

    @property
    def size(self) -> int:
        return len(self._content) if isinstance(self._content, bytes) else self._content.size

    @property
    def is_source(self) -> bool:
        member = self._content
        return isinstance(member, Member) and member.path.endswith(".py") and member.size <= _SOURCE_LIMIT

    def fingerprint(self) -> object:
        """Equal for equal content, without reading it."""
        if isinstance(self._content, bytes):
            return self._content
        recorded = self.owner.archive.record.get(self._content.path)
        return recorded or (self._content.size, self._content.entry.CRC)

    def chunks(self) -> Iterable[bytes]:
        return (self._content,) if isinstance(self._content, bytes) else self.owner.archive.pieces(self._content)

    def write(self, path: str, tar: TarWriter, task: Task) -> None:
        content = self._content
        if isinstance(content, bytes):
            tar.content(path, content, mode=self._mode)
            self.owner.hashes[path] = (hashlib.sha256(content).digest(), len(content))
            task.advance(len(content))
            return
        archive, hashed = self.owner.archive, hashlib.sha256()
        # What goes in as the wheel compressed it cannot be cut.
        as_it_is = content.deflated and tar.splices(content.size, content.entry.compress_size)
        if not as_it_is and (less := self.owner.stripped(content)) is not None:
            plain = less.apply(archive.pieces(content))  # all of it is read and checked, what is left out as well
            tar.file(path, less.size, _hashed(plain, hashed), mode=self._mode)
            self.owner.hashes[path] = (hashed.digest(), less.size)
            task.advance(content.entry.compress_size)
            return
        recorded = archive.record.get(content.path, ("", b""))
        # What the wheel's RECORD says is checked while the content is read, so it need not be hashed twice.
        known = recorded[1] if recorded[0] == "sha256" else None
        pieces = archive.deflated(content) if known else _hashing(archive.deflated(content), hashed)
        if content.deflated:
            stored = content.entry.compress_size
            pieces = gzip_member(pieces, content.entry.CRC, content.size)
            tar.deflated(path, content.size, pieces, stored_size=stored, mode=self._mode)
        else:
            tar.file(path, content.size, (piece.plain for piece in pieces), mode=self._mode)
        self.owner.hashes[path] = (known or hashed.digest(), content.size)
        task.advance(content.entry.compress_size)


class InstalledWheel:
    """One wheel laid out for an environment: every path in the image with its entry.

    `left_out` says by which rule how many files and bytes are not installed.
    """

    def __init__(self, wheel: WheelSource, archive: WheelArchive, environment: Environment, prune: Level) -> None:
        archive.check_version()
        self.archive = archive
        self.title = archive.title
        self.wheel = wheel
        self.left_out: LeftOut = {}
        self._only = wheel.only
        self._keep = kept_paths(wheel.keep)
        self._strips = prune != "none"
        self.hashes: dict[str, tuple[bytes, int]] = {}
        self.bytecode: list[str] = []
        self._environment = environment
        self.record_path = f"{archive.dist_info}/RECORD"
        self.entries = dict(self._entries(prune))
        self.compiled = self._compiled(everything=prune == "none" or wheel.compiled)

    def record(self) -> bytes:
        """RECORD of what was really installed; bytecode and RECORD itself have no hash there."""
        rows = [
            (self._recorded(path), f"sha256={_urlsafe(digest)}", str(size))
            for path, (digest, size) in self.hashes.items()
        ]
        rows += [(self._recorded(path), "", "") for path in self.bytecode]
        rows.append((self.record_path, "", ""))
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(sorted(rows))
        return out.getvalue().encode()

    def stripped(self, member: Member) -> Stripped | None:
        """How to leave out the symbols of a program or library; None where they stay. Told of in `left_out`."""
        name = member.path.rpartition("/")[2]
        if not self._strips or member.size < WORTH or not (member.executable or ".so" in name):
            return None
        less = None if self._keep(member.path) else stripped(self.archive.unchecked(member), member.size)
        if less is not None:
            self._leave_out(SYMBOLS, member.size - less.size)
        return less

    def _entries(self, prune: Level) -> Iterator[tuple[str, Entry]]:
        archive, info = self.archive, self.archive.dist_info
        data = info.removesuffix(".dist-info") + ".data/"
        for path, member in archive.members.items():
            if path.startswith(f"{info}/RECORD") or path == f"{info}/INSTALLER":
                continue
            scheme, rest = "purelib", path
            if path.startswith(data):
                scheme, _, rest = path.removeprefix(data).partition("/")
            rule = None
            if scheme in ("purelib", "platlib"):
                rule = pruned(rest, prune, compiles=self._environment.compiles)
            if rule and (rule is BYTECODE or not self._keep(rest)):
                self._leave_out(rule.name, member.size)
                continue
            placed = self._placed(scheme, rest, member)
            if self._wanted(placed[0]):
                yield placed
            else:
                self._leave_out(NEVER_OPENED, member.size)
        site = self._environment.site_packages
        yield f"{site}/{info}/INSTALLER", Entry(self, _INSTALLER, executable=False)
        if f"{info}/entry_points.txt" in archive.members:
            scripts = self._entry_points(archive.read(f"{info}/entry_points.txt"))
            yield from (script for script in scripts if self._wanted(script[0]))

    def _wanted(self, path: str) -> bool:
        """Whether a path of the image is installed, as far as `only` decides it."""
        if self._only is None:
            return True
        recorded = self._recorded(path)
        if recorded in self._only or always_kept(recorded) or self._keep(recorded):
            return True
        return path.endswith(".py") and bytecode_path(recorded, self._environment.minor) in self._only

    def _compiled(self, *, everything: bool) -> list[str]:
        """The sources that get bytecode, by their paths in the image."""
        site = self._environment.site_packages + "/"
        sources = {
            path.removeprefix(site): path
            for path in sorted(self.entries)
            if path.startswith(site) and self.entries[path].is_source
        }
        only, minor = self._only, self._environment.minor
        if only is not None:
            chosen = {source for source in sources if bytecode_path(source, minor) in only or self._keep(source)}
        elif everything:
            chosen = set(sources)
        else:
            choose = worth_compiling(sources, compiles=self._environment.compiles)
            chosen = {source for source in sources if choose(source) or self._keep(source)}
        return [path for source, path in sources.items() if source in chosen]

    def _leave_out(self, rule: str, size: int) -> None:
        files, before = self.left_out.get(rule, (0, 0))
        self.left_out[rule] = (files + 1, before + size)

    def _placed(self, scheme: str, path: str, member: Member) -> tuple[str, Entry]:
        environment = self._environment
        roots = {
            "purelib": environment.site_packages,
            "platlib": environment.site_packages,
            "scripts": environment.scripts,
            "headers": f"{environment.headers}/{self.title.partition('-')[0]}",
            "data": PREFIX,
        }
        if scheme not in roots or not path:
            raise self.archive.wrong(f"holds {member.path}, which belongs to no known scheme")
        if scheme != "scripts":
            return f"{roots[scheme]}/{path}", Entry(self, member, executable=member.executable)
        content: Member | bytes = member
        if member.size <= 1 << 20:  # a script; programs are larger or have no such first line
            script = self.archive.read(member.path)
            for mark in (b"#!pythonw", b"#!python"):
                if script.startswith(mark):
                    content = b"#!" + PYTHON.encode() + script[len(mark) :]
                    break
        return f"{roots[scheme]}/{path}", Entry(self, content, executable=True)

    def _entry_points(self, content: bytes) -> Iterator[tuple[str, Entry]]:
        from installer.scripts import Script
        from installer.utils import parse_entrypoints

        try:
            for name, module, attribute, section in parse_entrypoints(content.decode("utf-8")):
                if "/" in name or name in ("", ".", "..") or "\0" in name:
                    raise self.archive.wrong(f"declares a script with the name {name!r}")
                # installer writes the line in the kernel's form, or by way of /bin/sh where it would be too long.
                script_name, script = Script(name, module, attribute, section).generate(PYTHON, "posix")
                yield f"{self._environment.scripts}/{script_name}", Entry(self, script, executable=True)
        except (AssertionError, ValueError, KeyError) as error:
            raise self.archive.wrong(f"has unreadable entry points: {error}") from error
        except Exception as error:
            if type(error).__module__ == "configparser":
                raise self.archive.wrong(f"has unreadable entry points: {error}") from error
            raise

    def _recorded(self, path: str) -> str:
        return self._environment.recorded(path)


def _hashing(pieces: Iterable[Deflated], hashed: hashlib._Hash) -> Iterator[Deflated]:
    for piece in pieces:
        hashed.update(piece.plain)
        yield piece


def _hashed(pieces: Iterable[bytes], hashed: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        hashed.update(piece)
        yield piece


def _urlsafe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
