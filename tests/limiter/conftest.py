"""Fixtures of the limiter's tests."""

from tests.redis_server import empty_redis, redis_server

__all__ = ["empty_redis", "redis_server"]
