"""The ground floor: errors, units, elements, numerics, records. It imports nothing else of eqpot."""
