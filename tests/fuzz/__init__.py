"""Fuzzing: bytes that nobody thought of, for all that reads bytes of others. `make fuzz SECONDS=60`.

A target (`targets`) is a function of bytes: they are its only randomness, so an input is a failure that can
be repeated. It raises, or hangs, or the sanitizers of `make asan` end it: that is what is looked for.

There is no coverage instrumentation: half of the code is compiled, and the other half would run at a tenth of
its speed. What guides the search instead is what a target tells of its run (drops by name, sizes by order of
magnitude): an input that causes a combination not seen before is kept and changed further.

`corpus/TARGET/` has inputs to begin with. A failing one is saved there as `found-…`, and is from then on
replayed by `test_corpus.py`, as all of them are.
"""
