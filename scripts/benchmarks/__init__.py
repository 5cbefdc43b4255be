"""One file for each figure that `scripts/benchmark.py` prints.

A figure's file has TITLE; `systems(settings)`, what is measured, each in a process of its own; and
`report(measured)`, the table. ROUNDS, where it is given, is how many turns the systems take;
NEEDS_CLASSIFIER says that it measures a run folder's classifier, or the random one in its place.
Nothing but the standard library is imported at the top of a file: the backend is not known yet, and
the process that serves a SavedModel must not have Keras in it.
"""
