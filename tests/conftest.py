"""What holds for all tests: properties are tried without a clock, and in `make test` with the same examples every time.

A deadline for an example is an assertion on time, and a busy machine breaks it. `make proofs` looks for new examples, and for
more of them.
"""

from hypothesis import HealthCheck, settings

_ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", _ALWAYS, max_examples=50, derandomize=True)
settings.register_profile("explore", _ALWAYS, max_examples=100, print_blob=True)
settings.load_profile("steady")
