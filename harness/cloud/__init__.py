"""The documented cloud objects: what a user creates in the console, with the console's names, defaults and limits.

Pure data and pure functions: :func:`harness.cloud.rules.validate` finds what the documents forbid or warn of, and
:func:`harness.cloud.build.compile_estate` turns what is left into a :class:`harness.plan.Plan`.
"""
