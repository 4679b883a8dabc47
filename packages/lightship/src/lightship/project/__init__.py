"""Projects: read and validate lightship.toml, find what is served, and list the files that go into the image.

May import `errors`, `models` and the names of the runtime's engines; decides nothing that a plan should explain.
"""

from lightship.project.project import LOCK_FILE, SETTINGS_FILE, Project, load_project, read_settings
from lightship.project.settings import Settings

__all__ = ["LOCK_FILE", "SETTINGS_FILE", "Project", "Settings", "load_project", "read_settings"]
