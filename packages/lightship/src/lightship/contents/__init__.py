"""What an image holds and who brought it, found by reading its layers once, without unpacking anything.

`opening` finds an image by the name that a user wrote and streams its layers into `layer_scan`; `file_tree` lays the
scanned layers over each other; `packages` says who brought each file; `inspection` and `difference` are the results.
May import `cache`, `errors`, `progress`, `session`, `layers`, `oci`, `bases` and `run`; knows nothing of projects and
plans.
"""

from lightship.contents.difference import Difference, compare
from lightship.contents.inspection import Inspection, inspect_image
from lightship.contents.opening import OpenedImage, open_image

__all__ = ["Difference", "Inspection", "OpenedImage", "compare", "inspect_image", "open_image"]
