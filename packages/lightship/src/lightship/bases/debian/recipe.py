"""The layer of an assembled base: from locked packages to one deterministic tar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightship.bases.debian.lock import DebianLock, LockedDeb
from lightship.layers import TarWriter, recipe_key
from lightship.releases import RELEASES
from lightship.session import Session

VERSION = 4  # of the bytes that this code writes for one lock; raised with every change of them
TREES = "debian"  # the kind of the cache's trees that hold unpacked bases


@dataclass(frozen=True)
class DebianRecipe:
    """How to make the base's layer, and besides it the unpacked tree, which the byte compiler runs from.

    `compiler_root` is where a Python of the same version that runs here is; None for the tree's own.
    """

    lock: DebianLock
    session: Session
    mirror: str | None
    compiler_root: Callable[[], Path] | None = None

    @property
    def key(self) -> str:
        lock = self.lock
        packages = (f"{each.name} {each.version} {each.architecture} {each.sha256}" for each in lock.packages)
        return recipe_key("debian", VERSION, lock.codename, lock.architecture, "bytecode", *packages)

    @property
    def kind(self) -> str:
        return "base"

    @property
    def title(self) -> str:
        return f"{RELEASES[self.lock.codename].pretty_name}, {len(self.lock.packages)} packages"

    def write(self, tar: TarWriter) -> None:
        # What a base that is in the cache does without.
        from lightship.bases.debian.configure import configure
        from lightship.bases.debian.filesystem import RootFileSystem
        from lightship.bases.debian.runtime import MODULES_OF_LIBRARIES
        from lightship.bases.debian.stdlib import compile_standard_library
        from lightship.bases.debian.unpack import unpack_all

        files = fetch_packages(self.lock, self.session, self.mirror)
        with self.session.cache.temporary_directory() as folder, self.session.progress.task(f"Base: {self.title}"):
            tree = RootFileSystem(folder)
            without = [
                module
                for module, libraries in MODULES_OF_LIBRARIES.items()
                if not any(self.lock.has(library) for library in libraries)
            ]
            unpacked = unpack_all(files, tree, without, self.session.jobs)
            configure(tree, self.lock, unpacked)
            compiler_root = self.compiler_root() if self.compiler_root else tree.directory
            compile_standard_library(tree, self.lock, compiler_root, self.session.jobs)
            tree.write_to(tar)
            self.session.cache.make_tree(TREES, self.key, lambda target: _move(folder, target))


def _move(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        path.rename(target / path.name)


def fetch_packages(lock: DebianLock, session: Session, mirror: str | None) -> list[tuple[LockedDeb, Path]]:
    """Every package file of a lock, from the cache or the mirror, verified.

    Raises: `GoneError` that names each package that the mirror no longer has.
    """
    from lightship.bases.debian.mirrors import find_mirrors
    from lightship.download import Download, GoneError, download_all

    cache = session.cache
    missing = [each for each in lock.packages if not cache.has_blob(f"sha256:{each.sha256}", each.size)]
    if missing:
        mirrors = find_mirrors(mirror, session.environ)
        downloads = [Download(mirrors.of_package(each.path), each.sha256, each.size, str(each)) for each in missing]
        try:
            download_all(downloads, session, title=f"{len(missing)} Debian packages")
        except GoneError as error:
            gone = {download.sha256 for download in error.downloads}
            names = ", ".join(str(each) for each in missing if each.sha256 in gone) or error.message
            raise GoneError(
                f"The mirror no longer has these packages of the locked base: {names}.",
                error.downloads,
                hint="Newer versions have replaced them. Run `lightship lock` to lock those; it shows what changes. "
                "To keep the old ones, name a dated copy of the archive as the mirror.",
            ) from error
    return [(each, cache.blob_path(f"sha256:{each.sha256}")) for each in lock.packages]
