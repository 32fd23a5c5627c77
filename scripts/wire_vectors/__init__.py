"""Signed examples and hostile bytes of the wire, for implementations in any language; see make_wire_vectors.py."""
