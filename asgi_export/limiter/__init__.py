"""Exact sliding windows, leases of running exports, and byte quotas.

`sliding_window` is the arithmetic, `rules` parses `60/60s`, `store` is the contract of every store. `memory_store`
holds the hits of one process, `redis_store` those of many. `leases` and `redis_leases` count running exports,
`byte_quota` and `redis_byte_quota` bytes. Those of Redis share one connection, `redis_client.shared`.
"""
