"""Models on a hub in Hugging Face's manner: which of a repository's files serve it, and bringing them here, checked.

May import `cache`, `errors`, `quantities` and `session`; knows nothing of projects and images.
"""

from lightship.hub.fetch import Fetched, fetch
from lightship.hub.reference import HubReference

__all__ = ["Fetched", "HubReference", "fetch"]
