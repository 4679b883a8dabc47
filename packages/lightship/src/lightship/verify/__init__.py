"""The proof that an image works: it is run, waited for, and asked the golden request.

`smoke` runs and asks, `observe` watches meanwhile which files are opened, and `causes` knows what the last words of a
server that did not start mean. May import `run`, `oci`, `layers`, `session`, `progress`, `errors` and the runtime's
`golden`; knows nothing of projects or plans.
"""

from lightship.verify.causes import Cause, cause_of
from lightship.verify.observe import observe
from lightship.verify.smoke import BRIEF, Answer, Proof, ask, prove, wait_until_ready

__all__ = ["BRIEF", "Answer", "Cause", "Proof", "ask", "cause_of", "observe", "prove", "wait_until_ready"]
