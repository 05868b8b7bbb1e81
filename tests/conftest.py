"""What holds for all tests: properties are tried without a clock, and in `make test` with the same examples every time.

A deadline for an example is an assertion on time, and a busy machine breaks it. `make proofs` looks for new examples.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False, print_blob=True)
settings.load_profile("steady")
