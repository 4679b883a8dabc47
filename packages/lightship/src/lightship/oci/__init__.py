"""OCI images: values and their documents, and the places where they are written to and read from.

`image` makes images; `layout` and `archive` write them; `stored` reads back those that were built here; `published`
reads what others published, from a layout or from a `registry` by its `name` and with the user's `credentials`;
`push` brings images into one, by `upload` into a `repository`; an `artifact` is what is said about an image, and
`referrers` attaches it there, over a registry's `referrer_list`. May import `layers`, `cache`, `session`, `progress`,
`download`, `transfer`, `transport` and `errors`; knows nothing of projects, plans, bases or engines. The registry
client is imported where it is used, because HTTP takes long to load.
"""

from lightship.oci.archive import write_archive
from lightship.oci.image import Built, Healthcheck, Image, ImageIndex, Platform, Settings, image_for
from lightship.oci.layout import open_layout, write_layout
from lightship.oci.name import Reference
from lightship.oci.stored import read_layout

__all__ = [
    "Built",
    "Healthcheck",
    "Image",
    "ImageIndex",
    "Platform",
    "Reference",
    "Settings",
    "image_for",
    "open_layout",
    "read_layout",
    "write_archive",
    "write_layout",
]
