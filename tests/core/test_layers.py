"""Layers and images: keyed by content, made once, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lightship.cache import Cache
from lightship.errors import IntegrityError, ProjectError
from lightship.layers import Compression, TarWriter, materialise, plain_tar, recipe_key
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.oci.archive import without_zstd
from lightship.oci.image import Healthcheck, Image, Settings

# An eStargz layer's table of contents is one more file in its tar.
WITHOUT_TABLE = [compression for compression in Compression if compression is not Compression.ESTARGZ]


@dataclass
class Counted:
    """A recipe that counts how often it is really written."""

    key: str = "counted-1"
    kind: str = "app"
    title: str = "a test"
    content: bytes = b"hello" * 1000
    times: list[int] = field(default_factory=list)

    def write(self, tar: TarWriter) -> None:
        self.times.append(1)
        tar.content("app/hello", self.content)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("compression", list(Compression))
def test_a_layer_knows_its_digests(cache: Cache, compression: Compression) -> None:
    layer = materialise(Counted(), cache, compression)
    stored = cache.blob_path(layer.digest).read_bytes()
    with plain_tar(layer, cache) as chunks:
        plain = b"".join(chunks)
    assert layer.digest == "sha256:" + hashlib.sha256(stored).hexdigest()
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert (layer.size, layer.unpacked_size) == (len(stored), len(plain))
    assert layer.compression is compression
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        names = tar.getnames()
    own = [".no.prefetch.landmark", "stargz.index.json"] if compression is Compression.ESTARGZ else []
    assert names == ["app", "app/hello", *own]


def test_a_layer_is_written_once(cache: Cache) -> None:
    recipe = Counted()
    first = materialise(recipe, cache, Compression.ZSTD)
    second = materialise(recipe, cache, Compression.ZSTD)
    assert len(recipe.times) == 1
    assert second == replace(first, from_cache=True)


def test_a_layer_whose_blob_has_gone_is_written_again(cache: Cache) -> None:
    recipe = Counted()
    first = materialise(recipe, cache, Compression.ZSTD)
    cache.blob_path(first.digest).unlink()
    assert materialise(recipe, cache, Compression.ZSTD) == first


def test_the_plain_tar_does_not_depend_on_the_compression(cache: Cache) -> None:
    assert len({materialise(Counted(), cache, compression).diff_id for compression in WITHOUT_TABLE}) == 1


def test_a_damaged_layer_is_named(cache: Cache) -> None:
    layer = materialise(Counted(), cache, Compression.ZSTD)
    cache.blob_path(layer.digest).write_bytes(b"not zstd at all")
    with pytest.raises(IntegrityError, match="damaged"), plain_tar(layer, cache) as chunks:
        b"".join(chunks)


def test_keys_do_not_run_together() -> None:
    assert recipe_key("r", 1, "ab", "c") != recipe_key("r", 1, "a", "bc")
    assert recipe_key("r", 1, "a") != recipe_key("r", 2, "a")


def test_a_layer_of_files_depends_on_content_only(cache: Cache, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    two.chmod(0o600)
    recipes = [
        FilesRecipe("app", "app", (FileEntry.of_file("app/x", path, cache), FileEntry.of_bytes("app/a", b"1")))
        for path in (one, two)
    ]
    assert recipes[0].key == recipes[1].key


def test_a_file_that_changes_during_the_build_is_noticed(cache: Cache, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"1234")
    recipe = FilesRecipe("weights", "weights", (FileEntry.of_file("app/model.bin", source, cache),))
    source.write_bytes(b"4321")
    with pytest.raises(ProjectError, match="changed while"):
        materialise(recipe, cache, Compression.NONE)


@pytest.mark.parametrize("compression", list(Compression))
def test_a_layer_that_is_not_what_its_diff_id_names_is_refused_at_its_end(
    cache: Cache, compression: Compression
) -> None:
    layer = materialise(Counted(), cache, compression)
    with plain_tar(layer, cache) as chunks:
        assert sum(map(len, chunks)) == layer.unpacked_size
    with plain_tar(replace(layer, diff_id="sha256:" + "0" * 64), cache) as chunks:
        with pytest.raises(IntegrityError, match="does not unpack to its diff ID"):
            list(chunks)
    with plain_tar(replace(layer, unpacked_size=layer.unpacked_size - 1), cache) as chunks:
        with pytest.raises(IntegrityError, match="unpacks to more than its"):
            list(chunks)


def image(cache: Cache) -> Image:
    layer = materialise(Counted(), cache, Compression.NONE)
    check = Healthcheck(("/bin/check",), interval=1.5)
    return Image((layer,), Settings(entrypoint=("/bin/server",), healthcheck=check, environment=(("A", "b"),)))


def test_config_and_manifest_follow_the_specification(cache: Cache) -> None:
    made = image(cache)
    config, manifest = json.loads(made.config), json.loads(made.manifest)
    assert config["config"]["Entrypoint"] == ["/bin/server"]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["ExposedPorts"] == {"8080/tcp": {}}
    assert config["config"]["Healthcheck"]["Interval"] == 1_500_000_000
    assert config["rootfs"] == {"type": "layers", "diff_ids": [made.layers[0].diff_id]}
    assert len(config["history"]) == 1
    assert manifest["config"]["digest"] == "sha256:" + hashlib.sha256(made.config).hexdigest()
    assert manifest["layers"][0]["digest"] == made.layers[0].digest


def test_the_image_id_does_not_depend_on_the_compression(cache: Cache) -> None:
    layers = [(materialise(Counted(), cache, compression),) for compression in WITHOUT_TABLE]
    made = [replace(image(cache), layers=each) for each in layers]
    assert len({each.config_digest for each in made}) == 1
    assert len({each.digest for each in made}) == 3
    by_compression = dict(zip(WITHOUT_TABLE, made, strict=True))
    assert without_zstd(by_compression[Compression.ZSTD], cache).digest == by_compression[Compression.NONE].digest
