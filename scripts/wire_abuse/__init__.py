"""Both sides of the wire under abuse, for scripts/abuse_wire.py.

callers     hostile callers: what an axon may meet on a connection
miners      hostile miners: what a dendrite may meet behind an address
validator   a dendrite in a process of its own, honest among the callers, the victim of the miners
"""
