"""Optimize: a model becomes one that needs fewer libraries, and is taken only where it answers the same.

`environment` locks what converts a model; `sandboxed` runs a program in the sandbox that packages are built in:
`conversion` runs `inside` and looks the result up the next time, `language` does the same with `writing`, for models
that write text. No model is loaded outside of it. May import `lock`, `layers`, `bases`, `run`, `building` (the
sandbox), `cache`, `file_digests`, `session` and `errors`; knows nothing of plans.
"""

from lightship.optimize.conversion import Converted, Task, convert
from lightship.optimize.environment import lock_converters, locked_conversion, pins_of
from lightship.optimize.language import LanguageTask, convert_language_model
from lightship.optimize.sandboxed import ConversionError

__all__ = [
    "ConversionError",
    "Converted",
    "LanguageTask",
    "Task",
    "convert",
    "convert_language_model",
    "lock_converters",
    "locked_conversion",
    "pins_of",
]
