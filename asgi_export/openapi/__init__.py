"""Describe the service in OpenAPI 3.1, by the tables that parse its requests."""
