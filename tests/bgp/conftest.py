"""Settings of the property tests: no deadline for one example, since a busy machine is no error of the speaker."""

from hypothesis import settings

settings.register_profile("vbrlab", deadline=None)
settings.load_profile("vbrlab")
