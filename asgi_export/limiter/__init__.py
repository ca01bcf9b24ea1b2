"""Exact sliding windows: who may hit how often, decided once, with the figures for the heads.

`sliding_window` is the arithmetic, `rules` reads `60/60s`, `store` is the contract of every store. `memory_store`
keeps the hits of one process, `redis_store` those of many; `leases` count what runs at once in a process,
`redis_leases` in many. `shared_redis` is the one link to the server that all of them use.
"""
