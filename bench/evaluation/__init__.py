"""Evaluation of trained methods: episodes, pairs and triplets, new classes joining the base classes.

Imports `records` (names), `statistics`, `sampling`, `data`, `common` and `methods` (the contract);
`training`, `run` and all above them but `demo` and `cli` import it.
"""
