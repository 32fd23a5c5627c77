"""What a validator asks and what it does with the answers: plans and commitments, rounds, averages, weights, memory.

The pure functions (`sampling`, `commitments`, `moving_average`, `weighting`, `schedule`) know neither chain nor wire
nor disk; `plans` decides what is asked, `round` carries one round out through injected collaborators, and `store`
remembers it. Import from the modules: importing this package loads nothing.
"""
