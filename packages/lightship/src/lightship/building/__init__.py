"""Building: wheels of what nobody offers as one: sdists, folders, repositories, archives.

`obtain` brings a source and its digest (`snapshot` a folder's, `git` a repository's, `archive` unpacks); `pyproject`
reads what builds it; `sandbox` makes the root file system of that build and runs `backend`, a program of its own, in
it; `wheel` takes what comes out, and makes equal wheels of equal contents; `builder` puts these together and looks
the result up the next time. No code of a source runs outside the sandbox. May import `project` (which files of a
folder count), `lock`, `layers`, `oci`, `bases`, `run`, `cache`, `download`, `session`, `transfer`, `transport` and
`errors`; knows nothing of plans.
"""

from lightship.building.builder import SandboxBuilder
from lightship.building.snapshot import folder_digest

__all__ = ["SandboxBuilder", "folder_digest"]
