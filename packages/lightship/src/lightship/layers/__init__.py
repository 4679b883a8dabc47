"""Layers: deterministic tar, compression, and one file per producer (wheels, weights, app, runtime).

Also the way back: `tar_stream` reads a layer that anybody wrote, `layer_tree` unpacks it, and `rootfs` lays layers
over each other as the file system of a container. May import `assembled`, `cache`, `file_digests`, `errors` and
`progress`; knows nothing of images, projects or plans.
"""

from lightship.layers.compression import Compression
from lightship.layers.layer import (
    Layer,
    Recipe,
    cached_layer,
    materialise,
    missing_layer,
    plain_tar,
    recipe_key,
    uncompressed,
)
from lightship.layers.prioritised import prioritised
from lightship.layers.tar import EPOCH, TarWriter, safe_path

__all__ = [
    "EPOCH",
    "Compression",
    "Layer",
    "Recipe",
    "TarWriter",
    "cached_layer",
    "materialise",
    "missing_layer",
    "plain_tar",
    "prioritised",
    "recipe_key",
    "safe_path",
    "uncompressed",
]
