"""Layers: deterministic tar, compression, and one file per producer (wheels, weights, app, runtime).

May import `cache`, `errors` and `progress`; knows nothing of images, projects or plans.
"""

from lightship.layers.compression import Compression
from lightship.layers.layer import Layer, Recipe, cached_layer, materialise, plain_tar, recipe_key
from lightship.layers.tar import EPOCH, TarWriter, safe_path

__all__ = [
    "EPOCH",
    "Compression",
    "Layer",
    "Recipe",
    "TarWriter",
    "cached_layer",
    "materialise",
    "plain_tar",
    "recipe_key",
    "safe_path",
]
