"""Stream a table of any size as CSV from any ASGI server, in constant memory.

from asgi_export import ExportApp, RateLimit, MemoryStore, dataset
"""

from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import AccessPlan, KeyRing, Owner, digest_of, new_key
from asgi_export.access.tokens import Tokens
from asgi_export.app import ExportApp
from asgi_export.asgi.coding import CompressionLevels
from asgi_export.asgi.pump import Bounds
from asgi_export.caller import Caller
from asgi_export.limiter.leases import MemoryLeases
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.redis_byte_quota import RedisByteQuotas
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import Rule
from asgi_export.middleware.callers import ApiKeys, Callers
from asgi_export.middleware.cors import Cors
from asgi_export.middleware.metrics import Metrics
from asgi_export.middleware.observe import Observe
from asgi_export.middleware.outermost import Outermost
from asgi_export.middleware.rate_limit import RateLimit
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.functions import dataset
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Column, Dialect, Filter, Query, QueryParameter, Selection, Sort

__version__ = "0.1.0"

__all__ = [
    "AccessPlan",
    "ApiKeys",
    "Bounds",
    "Caller",
    "Callers",
    "Column",
    "CompressionLevels",
    "Cors",
    "Dialect",
    "ExportApp",
    "FileSource",
    "Filter",
    "KeyFile",
    "KeyRing",
    "MemoryLeases",
    "MemoryStore",
    "Metrics",
    "Observe",
    "Outermost",
    "Owner",
    "PostgresSource",
    "Query",
    "QueryParameter",
    "RateLimit",
    "RedisByteQuotas",
    "RedisLeases",
    "RedisStore",
    "Rule",
    "Selection",
    "SimulatedDataset",
    "Sort",
    "SqliteSource",
    "Tokens",
    "dataset",
    "digest_of",
    "new_key",
]
