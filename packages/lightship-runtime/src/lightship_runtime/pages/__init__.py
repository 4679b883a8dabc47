"""What the server says about itself: /openapi.json, /docs and the page at / where the model is tried in a browser.

Pure functions from a `Signature` and `PageSettings` to bytes, made once per model: no model, no network, no clock.
May import `engines.engine` for the signature and, of `payload`, what reads one (`tables`, `metadata`). The HTML, CSS
and JavaScript lie in `assets/`, written by hand and served as they are: no build, no framework, and nothing from any
other server.
"""

from lightship_runtime.pages.openapi import openapi_document
from lightship_runtime.pages.settings import PageSettings
from lightship_runtime.pages.table import Page, pages, shell

__all__ = ["Page", "PageSettings", "openapi_document", "pages", "shell"]
