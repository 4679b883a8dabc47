"""What an image is made of and how it came about, as documents that others check and scan.

`materials` is what a build hands over; `inventory` makes of it the list of everything in the image, with the licences
that `wheel_licence` and `debian_licence` read from the image's own files (`image_files`) and `families` sorts.
`spdx` and `cyclonedx` write the list as bills of materials, `provenance` says what the image was built from, and
`attachments` wraps each as an artifact that a registry keeps beside the image. All of it follows from the image and
its lock alone: equal images have equal documents, byte for byte.

`cosign_keys` reads and makes key pairs in cosign's form; `signing` puts signatures into the image's repository and
checks them there. `finding` is a known vulnerability in one package; `scanners` asks the scanner that is installed,
and `osv` the OSV database where there is none. The libraries for both are extras, imported where they are used.

May import `cache`, `download`, `errors`, `releases`, `session`, `transfer`, `transport`, `project`, `lock`, `layers`,
`oci` and `bases`; knows nothing of plans, engines or the command line.
"""

from lightship.supply.attachments import KINDS, attachments
from lightship.supply.component import Component
from lightship.supply.cyclonedx import cyclonedx_document
from lightship.supply.families import Family
from lightship.supply.inventory import Inventory, take_inventory
from lightship.supply.licence import Licence
from lightship.supply.materials import Materials
from lightship.supply.provenance import provenance_statement
from lightship.supply.spdx import spdx_document

__all__ = [
    "KINDS",
    "Component",
    "Family",
    "Inventory",
    "Licence",
    "Materials",
    "attachments",
    "cyclonedx_document",
    "provenance_statement",
    "spdx_document",
    "take_inventory",
]
