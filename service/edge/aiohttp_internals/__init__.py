"""All that relies on aiohttp's internals: names that it may change in any release.

Nothing else in the service uses such names. tests/edge/test_aiohttp_internals.py checks that, and says what an upgrade
of aiohttp has changed.
"""
