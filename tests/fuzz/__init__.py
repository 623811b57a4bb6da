"""What any octets whatsoever may do to the speaker: be refused by a NOTIFICATION, or be read and written again as the same message.

- ``targets``: functions that take octets and raise :class:`~tests.fuzz.targets.Broken`, or whatever the speaker let out.
- ``corpus``: octets to begin with: every message, attribute and capability there is, and foreign messages where they are at hand.
- ``python -m tests.fuzz codec`` and ``... speaker`` run them under atheris (libFuzzer's arguments follow); the tests run a short,
  repeatable share of the same without it.
"""
