"""What scripts/fuzz_wire.py throws bytes at.

transport   a connection without a network: bytes go in by hand, what is written is kept
requests    bytes that a caller sends to an axon
responses   bytes that a miner sends to a dendrite: whole responses, manifests, records
images      files in the decoder
targets     all of them by name
run         one of them under atheris, in a process of its own

Each target is a function of one input, whose first byte chooses how the rest is presented. It returns nothing, and
raises for what must not be: `Finding`, or whatever got past the code under test.
"""
