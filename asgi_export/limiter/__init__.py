"""Exact sliding windows: who may hit how often, decided once, with the figures for the heads.

`sliding_window` is the arithmetic, `rules` reads `60/60s`, `store` is the contract of every store. `memory_store`
keeps the hits of one process, `redis_store` those of many; `leases` count what runs at once.
"""
