"""Folders of wheels (find-links) as pages of links with hashes.

Of a folder uv knows no hashes, so it unpacks each wheel that it considers into its own cache: 6 s and 700 MB for
torch.
Of a page with `#sha256=` it takes them, and reads of the wheel its metadata only.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from lightship.cache import Cache
from lightship.file_digests import known_digest

_FILES = (".whl", ".tar.gz", ".zip")


def with_pages(links: str, cache: Cache, folder: Path) -> str:
    """The value of UV_FIND_LINKS with each local folder replaced by a page, which is written into `folder`."""
    places = []
    for number, place in enumerate(filter(None, links.split(","))):
        files = _files(Path(place)) if "://" not in place else []
        if not files:
            places.append(place)  # a URL, a page, or what uv will say is wrong with it
            continue
        page = folder / f"links-{number}.html"
        page.write_text("<!DOCTYPE html>\n" + "".join(_anchors(files, cache)), "utf-8")
        places.append(str(page))
    return ",".join(places)


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(each for each in folder.iterdir() if each.name.endswith(_FILES) and each.is_file())
        for each in found:
            each.open("rb").close()
    except OSError:
        return []
    return found


def _anchors(files: list[Path], cache: Cache) -> Iterator[str]:
    for file in files:
        sha256 = known_digest(file, cache).removeprefix("sha256:")
        url = f"file://{quote(str(file.absolute()))}#sha256={sha256}"
        yield f'<a href="{escape(url)}">{escape(file.name)}</a>\n'
